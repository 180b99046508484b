"""Page of a ranking: which source should be transferred to a target."""

import math
from collections.abc import Callable, Iterator, Sequence

from modgap.answers import Answer, Table
from modgap.answers.formatting import format_value
from modgap.api.pages.rendering import axis_of, capitalize, drawn_table, render_template
from modgap.api.pages.result_folder import RANKING
from modgap.errors import visible_name
from modgap.ranking.answer import difference_texts
from modgap.ranking.types import BASELINE, CONTROL, SOURCE
from modgap.storage.json_records import Record

OLD_FORECAST = "forecast"
"""Score that decided in records of earlier versions."""
MAX_PAIRS = 40
"""Most pairs of the class map of a source that are shown."""


def render_ranking(record: Record) -> str:
    """Render the page of a ranking.

    Args:
        record: Record of the ranking, as `modgap.ranking.report.to_dict` makes it.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    rows = [row for row in record["sources"] if row["control_of"] is None]
    controls = {row["control_of"]: row for row in record["sources"] if row["control_of"] is not None}
    names = list(record["score_descriptions"])
    tables = {
        name: _score_table(record["score_descriptions"][name], name, rows, controls)
        | {"note": interval_note(record, name), "has_intervals": has_intervals(record, name)}
        for name in names
    }
    answer = Answer.from_dict(record["answer"])
    values = {
        "version": record["provenance"]["modgap"],
        "record_name": RANKING.file,
        "record": record,
        "by": tables.get(record["decided_by"])
        or {"label": record["by"], "ends": ["", ""], "better": "", "reference": None, "rows": []},
        "decided_by": record["decided_by"],
        "tables": tables,
        "rows": [_page_row(row, controls.get(row["source"]), names, record) for row in rows],
        "definitions": list(definitions(record)),
        "interval_note": interval_note(record, record["decided_by"]),
        "has_intervals": has_intervals(record, record["decided_by"]),
        "has_baselines": any(row["kind"] not in (SOURCE, CONTROL) for row in rows),
        **map_figures(record["sources"]),
        # The other tables of the answer are those above, where the score can be chosen.
        "forecasts": [drawn_table(table) for table in answer.tables if _has_bands(table)],
        "answer_tables": [
            drawn_table(table) for table in answer.tables if (table.curves or table.marks) and not _has_bands(table)
        ],
        "failed_count": sum(bool(row["reason"]) and row["kind"] in (SOURCE, CONTROL) for row in rows),
        "run_summary": _run_summary(record),
    }
    data = {"by": record["decided_by"], "names": [visible_name(row["source"], None) for row in rows], "tables": tables}
    data["parameters"] = [row["properties"].get("parameters") for row in rows]
    return render_template("ranking.html.j2", answer, values, ("common.js", "ranking.js"), data)


def _has_bands(table: Table) -> bool:
    return any(mark and mark.before for mark in table.marks)


def _score_table(description: Record, name: str, rows: Sequence[Record], controls: Record) -> dict[str, object]:
    """Return the texts and positions of one score for all rows, for the template and for the script."""
    cells = [(row["scores"][name], _control_score(controls.get(row["source"]), name)) for row in rows]
    reference = description["reference"]
    shown = [value for score, control in cells for value in (score["value"], *score["interval"], control)]
    low, high, percent = axis_of([*shown, reference["value"]] if reference else shown)
    return {
        "label": description["label"],
        "ends": [format_value(low), format_value(high)],
        "better": "better →" if description["higher_is_better"] else "← better",
        "reference": {
            "text": f"{reference['label']}: {format_value(reference['value'])}",
            "position": percent(reference["value"]),
        }
        if reference
        else None,
        "rows": [_score_cell(score, control, percent) for score, control in cells],
    }


def _control_score(control: Record | None, name: str) -> float | None:
    value: float | None = None if control is None else control["scores"][name]["value"]
    return value


def _score_cell(score: Record, control: float | None, percent: Callable[[float], float]) -> dict[str, object]:
    value = score["value"]
    low, high = score["interval"]
    return {
        "rank": str(score["rank"]) if score["rank"] else "–",
        "letters": score["letters"] or "",
        "value": format_value(value),
        "control": format_value(control),
        "numbers": [value, low, high, control],
        "x": None if value is None else percent(value),
        "low": None if low is None else percent(low),
        "high": None if high is None else percent(high),
        "c": None if control is None else percent(control),
        "reason": (visible_name(score["reason"], 200) if score["reason"] else "") if value is None else "",
    }


def _page_row(row: Record, control: Record | None, names: Sequence[str], record: Record) -> dict[str, object]:
    details = row["report_details"] or {}
    discrepancy = details.get("discrepancy") or None
    css_class = "failed" if row["kind"] == SOURCE and row["reason"] else "source"
    return {
        "name": visible_name(row["source"]),
        "css_class": css_class if row["kind"] in (SOURCE, CONTROL) else "baseline",
        "reason": visible_name(row["reason"], 300) if row["reason"] else "",
        "parameters": row["properties"].get("parameters"),
        "scores": [_detail(record["score_descriptions"][name], row, control, name) for name in names],
        "discrepancy": discrepancy,
        "pairs": discrepancy["map"][:MAX_PAIRS] if discrepancy else [],
        "more_pairs": max(len(discrepancy["map"]) - MAX_PAIRS, 0) if discrepancy else 0,
    }


def _detail(description: Record, row: Record, control: Record | None, name: str) -> dict[str, object]:
    score = row["scores"][name]
    difference, p_value = difference_texts(score["difference_to_first"])
    return {
        "label": description["label"],
        "arrow": "↑" if description["higher_is_better"] else "↓",
        "value": format_value(score["value"]),
        "interval": [format_value(end) for end in score["interval"] if end is not None],
        "rank": score["rank"],
        "difference": difference,
        "p_value": p_value,
        "control": format_value(_control_score(control, name)),
    }


def _run_summary(record: Record) -> str:
    computed = sum(count["computed"] for count in record["jobs"].values())
    cached = sum(count["cached"] for count in record["jobs"].values())
    failed = sum(count.get("failed", 0) for count in record["jobs"].values())
    seconds = sum(record["seconds"].values())
    duration = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} minutes"
    failures = f", {failed:,} failed" if failed else ""
    return f"{computed:,} jobs computed, {cached:,} from the cache{failures}; {duration}"


LIKELIHOOD_SCORES = {
    "leep": "the mean log probability that the source's own class predictions give to the correct target label",
    "leep-held-out": "the mean log probability that the source's class predictions give to the correct target label, "
    "with class probabilities that were fitted on other samples",
    "nce": "the mean log probability of the target label given the source's predicted class",
    "n-leep": "the mean log probability that clusters of the source's features give to the correct target label",
}


def definitions(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the title and the text of each definition that the page needs.

    Args:
        record: Record of a ranking.
    """
    descriptions = record["score_descriptions"]
    by = record["decided_by"]
    if by in descriptions:
        yield f"{capitalize(descriptions[by]['label'])}, which decides the ranking", _deciding_score(record)
    if has_intervals(record, record["decided_by"]):
        yield "Interval and letters", interval_note(record, record["decided_by"])
    if any(row["control_of"] for row in record["sources"]):
        yield (
            "Random-weights control",
            "This is the same architecture without pretraining. If it does as well as the source, pretraining does not "
            "help on this target by this score.",
        )
    if any(row["kind"] == BASELINE for row in record["sources"]):
        yield (
            "Baseline of the field",
            "This is a model without pretraining that the field of the target would use. It is fitted on the same "
            "folds as the linear probes of the sources. If it does as well as they do, a transfer may not be worth it.",
        )
    for name in ("discrepancy", "knn"):
        if name in descriptions and name != by:
            yield capitalize(descriptions[name]["label"]), _describe(name, descriptions[name])


def has_intervals(record: Record, by: str) -> bool:
    """Return True if any source has an interval by a score."""
    intervals = [row["scores"][by]["interval"] for row in record["sources"] if by in row["scores"]]
    return any(end is not None for interval in intervals for end in interval)


def interval_note(record: Record, by: str) -> str:
    """Return how intervals and letters were computed for a score.

    Args:
        record: Record of a ranking.
        by: Name of the score.
    """
    if not has_intervals(record, by):
        return "No intervals were computed."
    request = record["request"]
    if by == OLD_FORECAST:
        return "The lines are 95 % intervals of the error after fine-tuning, given earlier targets and pilots."
    if record["score_descriptions"][by]["by_sample"]:
        origin = "from the errors of the samples, which are paired between sources"
    else:
        origin = f"from {request['resamples']} random subsamples of nine tenths of the samples"
    return (
        f"The lines are 95 % intervals {origin}. Two sources share a letter if they are not significantly different at "
        "the 95 % level, corrected for the number of all pairs (Holm)."
    )


def _deciding_score(record: Record) -> str:
    name = record["decided_by"]
    description = record["score_descriptions"][name]
    if name not in LIKELIHOOD_SCORES:
        return _describe(name, description)
    text = f"{capitalize(description['label'])} is {LIKELIHOOD_SCORES[name]}. 0 is perfect."
    reference = description["reference"]
    first = next((row["scores"][name]["value"] for row in record["sources"] if row["rank"] == 1), None)
    if reference is None or first is None:
        return text
    return (
        f"{text} {format_value(reference['value'])} means that the predictions say nothing about the labels. Here "
        f"{format_value(first)} is a probability of {format_value(math.exp(first))} for the correct class (geometric "
        f"mean), and no information is {format_value(math.exp(reference['value']))}."
    )


def _describe(name: str, description: Record) -> str:
    reference = description["reference"]
    level = format_value(reference["value"]) if reference else ""
    if name == "discrepancy":
        chance = f" The chance level is {level}." if reference else ""
        return (
            "This is the error rate of the best one-to-one map from target classes to source classes, on samples that "
            f"were not used to choose the map.{chance} With permuted labels the same search shows how low the error "
            "gets by luck."
        )
    if name in ("soft", "soft-matched"):
        temperature = " The temperature is chosen so that all sources are equally confident." if name != "soft" else ""
        return (
            "This is the probability that the source does not give to the class of the best one-to-one map, on samples "
            f"that were not used to choose the map.{temperature} Most of it is the confidence of the source, so it is "
            "not an error rate and the chance level is not its baseline."
        )
    if name == "knn":
        majority = f" Always predicting the largest class has an error of {level}." if reference else ""
        return (
            f"This is the cross-validated error rate of the five nearest neighbors in the source's features.{majority}"
        )
    direction = "Higher" if description["higher_is_better"] else "Lower"
    unit = f" ({description['unit']})" if description["unit"] else ""
    title = str(description["title"]).rstrip(".")
    return f"{title}{unit}. {direction} is better."


SIDE = 400
PADDING = 12
MAX_MAPS = 24
"""Most maps, each of which adds about 6 kB to the page."""
N_COLORS = 10
"""Number of class colors in the style sheet."""
MAX_KEYS = 20
"""Most classes in the key of the maps, which is the number of combinations of color and shape."""


def map_figures(rows: Sequence[Record]) -> dict[str, object]:
    """Return the maps, their side in pixels, and their key of classes.

    Args:
        rows: Rows of the record of a ranking.
    """
    with_map = [row for row in rows if row["report_details"] and row["report_details"]["map"]["coordinates"]]
    maps = [
        {
            "name": visible_name(row["source"]),
            "is_control": row["kind"] == CONTROL,
            "paths": _paths(row["report_details"]["map"]),
        }
        for row in with_map[:MAX_MAPS]
    ]
    return {
        "maps": maps,
        "maps_left_out": len(with_map) - len(maps),
        "side": SIDE,
        "class_key": _class_key(rows) if maps else [],
    }


def _paths(tsne_map: Record) -> list[tuple[int, str, str]]:
    """Return, for each class, its number, its CSS classes and a path that draws a dot for each sample."""
    points: dict[int, list[str]] = {}
    coordinates = [(x, y) for x, y in tsne_map["coordinates"]]
    finite = [abs(value) for pair in coordinates for value in pair if math.isfinite(value)]
    scale = (SIDE / 2 - PADDING) / (max(finite, default=1.0) or 1.0)
    for (x, y), label in zip(coordinates, tsne_map["labels"], strict=True):
        if math.isfinite(x) and math.isfinite(y):
            dot = f"M{round(SIDE / 2 + x * scale)} {round(SIDE / 2 - y * scale)}h0"
            points.setdefault(int(label), []).append(dot)
    return [(label, _css_class(label), "".join(points[label])) for label in sorted(points)]


def _css_class(label: int) -> str:
    shape = " square" if (label // N_COLORS) % 2 else ""
    return f"c{label % N_COLORS}{shape}"


def _class_key(rows: Sequence[Record]) -> list[tuple[str, str]]:
    """Return the CSS classes and the name of each class. Empty if the names are not known."""
    for row in rows:
        discrepancy = (row["report_details"] or {}).get("discrepancy")
        if discrepancy:
            names = [target for target, _ in discrepancy["map"]]
            return [(_css_class(label), visible_name(name, 30)) for label, name in enumerate(names[:MAX_KEYS])]
    return []
