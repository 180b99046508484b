"""Page of a matrix: which sources suit many targets."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from modgap.answers import Answer
from modgap.answers.formatting import format_value
from modgap.api.pages.rendering import capitalize, format_parameter_count, render_template
from modgap.api.pages.result_folder import MATRIX
from modgap.errors import can_be_typed, count, visible_name
from modgap.ranking.check_sentences import score_label
from modgap.ranking.recommendation import CHOICE_LABELS, HELP_LABELS
from modgap.ranking.types import CONTROL
from modgap.storage.json_records import Record

MOST_CELLS = 3000
"""Most cells of the table; of more rows, the first ones are shown."""
MOST_NUMBERS = 5000
"""Most values of all measures together."""
MOST_NARROW = 6
"""Most targets that fit into the width of a phone."""
MOST_REASONS = 100
STYLES = ("page.css", "leaderboard.css")
LONGEST_NAME = 40
SIZES = (
    (0, 1_000_000, "below 1 M"),
    (1_000_000, 10_000_000, "1 to 10 M"),
    (10_000_000, 100_000_000, "10 to 100 M"),
    (100_000_000, 10**15, "100 M and more"),
)


def render_leaderboard(record: Record) -> str:
    """Render the page of a matrix.

    Args:
        record: Record of the matrix, as `modgap.ranking.matrix.formats.to_dict` makes it.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    n_rows = max(1, min(len(record["sources"]), MOST_CELLS // max(1, len(record["targets"]))))
    sources = record["sources"][:n_rows]
    measures = _shown_measures(record, n_rows)
    targets = [_target(record, number) for number in range(len(record["targets"]))]
    parameters = [row["parameters"] for row in sources if row["parameters"]]
    filters = [
        ("input", "Input of the source", sorted({row["input"] for row in sources})),
        ("samples", "Samples of the target", sorted({target["samples_kind"] for target in targets})),
    ]
    comparable = [one for one in record["agreement"] if one["tau"] is not None]
    agreement_summary = "there is none to compare"
    if comparable:
        best = max(comparable, key=lambda one: one["tau"])
        label, tau = score_label(best["score"]), format_value(best["tau"])
        agreement_summary = f"{label} most of all (Kendall's tau {tau})"
    values = {
        "version": record["provenance"]["modgap"],
        "record_name": MATRIX.file,
        "record": record,
        "measure": measures[0],
        "measures": measures,
        "rows": [_page_row(record, number, cells) for number, cells in enumerate(measures[0]["cells"])],
        "rows_left_out": len(record["sources"]) - n_rows,
        "targets": targets,
        "is_wide": len(targets) > MOST_NARROW,
        "sizes": [size for size in SIZES if any(size[0] <= one < size[1] for one in parameters)],
        # A filter by kind is shown where there are several kinds.
        "kind_filters": [one for one in filters if len(one[2]) > 1],
        "has_controls": any(row["kind"] == CONTROL for row in sources),
        "caption": _caption(record),
        "definitions": list(_definitions(record)),
        "agreement": [
            {**one, "label": score_label(one["score"]), "tau": format_value(one["tau"])} for one in record["agreement"]
        ],
        "agreement_summary": agreement_summary,
        "reasons": [
            {
                "source": one["source"],
                "target": visible_name(PurePath(one["target"]).name or one["target"]),
                "reason": visible_name(one["reason"], 300),
            }
            for one in record["reasons"][:MOST_REASONS]
        ],
        "reasons_total": len(record["reasons"]),
    }
    data = _script_data(record, sources, targets, measures)
    scripts = ("common.js", "leaderboard.js")
    return render_template("leaderboard.html.j2", Answer.from_dict(record["answer"]), values, scripts, data, STYLES)


def _target(record: Record, number: int) -> Record:
    target = record["targets"][number]
    firsts = [row["name"] for row in record["sources"] if row["ranks"] and row["ranks"][number] is not None]
    ranks = {row["name"]: row["ranks"][number] for row in record["sources"] if row["ranks"]}
    first = min(firsts, key=lambda name: ranks[name], default="")
    return {
        **target,
        "short": visible_name(PurePath(target["name"]).name or target["name"], LONGEST_NAME),
        "score_label": score_label(target["score"]),
        "first": visible_name(first),
        "choice_label": CHOICE_LABELS[target["choice"]][0],
        # The rankings of a matrix have no short fine-tuning.
        "help_label": HELP_LABELS[target["help"]][0],
    }


def _shown_measures(record: Record, n_rows: int) -> list[Record]:
    """Return the measures that fit into the page, of the first rows; the one that decides is always among them."""
    shown: list[Record] = []
    for measure in record["measures"]:
        size = n_rows * len(record["targets"])
        if shown and (len(shown) + 1) * size > MOST_NUMBERS:
            break
        title = capitalize(measure["label"])
        if len(set(measure["higher_is_better"])) == 1:
            title += " (higher is better)" if measure["higher_is_better"][0] else " (lower is better)"
        shown.append({**measure, "title": title, "cells": _cells(measure, n_rows)})
    return shown


def _page_row(record: Record, number: int, cells: Sequence[Record]) -> dict[str, object]:
    row = record["sources"][number]
    facts = [row["input"], format_parameter_count(row["parameters"]) if row["parameters"] else ""]
    mean_rank = row["mean_rank"]
    return {
        "name": visible_name(row["name"]),
        "is_control": row["kind"] == CONTROL,
        "facts": " · ".join(filter(None, facts)),
        "mean_rank": "–" if mean_rank is None else f"{mean_rank:.1f}",
        "letters": row["letters"],
        "cells": cells,
    }


def _cells(measure: Record, n_rows: int) -> list[list[Record]]:
    """Return text, frame and color of each cell of the first rows, for the template and for the script."""
    values, columns = measure["values"], []
    for target, higher_is_better in enumerate(measure["higher_is_better"]):
        column_values = [row[target] for row in values if row[target] is not None]
        low, high = min(column_values, default=0.0), max(column_values, default=0.0)
        column = [
            {
                "text": format_value(row[target]),
                "css": "empty" if row[target] is None else "best" if best[target] else "",
                "share": _share(row[target], low, high, higher_is_better),
            }
            for row, best in zip(values[:n_rows], measure["best_group"], strict=False)
        ]
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


def _share(value: float | None, low: float, high: float, higher_is_better: bool) -> int:
    """Return the strength of the color of a cell in percent, which is that of the best value of its column at most."""
    if value is None or high == low:
        return 0 if value is None else 100
    share = (value - low) / (high - low)
    return round(100 * (share if higher_is_better else 1 - share))


def _caption(record: Record) -> str:
    n_sources = sum(row["kind"] != CONTROL for row in record["sources"])
    n_targets = len(record["targets"])
    start = f"Ranks and letters are for {count(n_sources, 'source')} and {count(n_targets, 'target')}."
    if any(row["letters"] for row in record["sources"]):
        return (
            f"{start} Sources that share a letter are not significantly different (sign test over the targets, "
            "corrected by Holm, 95 % level)."
        )
    needed = record["verdict"]["needed"]
    if n_targets < needed:
        return f"{start} It is unknown which sources differ: {needed} targets are needed for so many sources."
    return (
        f"{start} There are no letters, because the first source lacks a value, or because there are too many sources."
    )


def _definitions(record: Record) -> Iterator[tuple[str, str]]:
    yield (
        "Cell",
        "The value of a score of the source on the target, estimated without fine-tuning. A stronger color is better "
        "within a column. Colors and values are not comparable between columns.",
    )
    yield (
        "Frame with a dot",
        "The first source of the column, and those that are not significantly different from it in the target's own "
        "ranking (95 % level, corrected for the number of sources). It does not change with the filters.",
    )
    yield (
        "Mean rank and letters",
        "The rank in each column, averaged over the columns. Sources that share a letter are not significantly "
        "different over these targets. While a filter leaves out sources or targets, there are no ranks and no "
        "letters: where the page can, it then gives the command for what is left.",
    )
    if any(row["kind"] == CONTROL for row in record["sources"]):
        yield (
            "Random weights",
            "Names that start with random: are the same architectures without pretraining. They show how much of a "
            "result is due to pretraining. A frame means that the control is not significantly worse than the best "
            "source.",
        )


def _script_data(
    record: Record,
    sources: Sequence[Record],
    targets: Sequence[Record],
    measures: Sequence[Record],
) -> dict[str, object]:
    rows = {row["name"]: number for number, row in enumerate(sources)}
    columns = {target["name"]: number for number, target in enumerate(targets)}
    reasons = [one for one in record["reasons"] if one["source"] in rows][:MOST_REASONS]
    return {
        "rows": [
            {
                "name": visible_name(row["name"], None),
                # The option takes several names with commas between them.
                "argument": _argument(row["name"]) if "," not in row["name"] else "",
                "kind": "control" if row["kind"] == CONTROL else "source",
                "input": row["input"],
                "parameters": row["parameters"],
            }
            for row in sources
        ],
        "targets": [
            {
                "name": visible_name(target["name"], None),
                "argument": _argument(target["name"]),
                "short": target["short"],
                "kind": target["samples_kind"],
            }
            for target in targets
        ],
        "options": _options(record, len(sources)),
        "measures": [_measure_data(measure, len(sources)) for measure in measures],
        "reasons": {
            f"{rows[one['source']]} {columns[one['target']]}": visible_name(one["reason"], 300)
            for one in reasons
            if one["target"] in columns
        },
    }


def _options(record: Record, n_rows: int) -> str | None:
    """Return the options of a ranking of other sources and targets; None if they are not known or cannot be typed.

    Where the page lacks rows, there are none, because what is left of them is not what is left of all.
    """
    options = record.get("options")
    if options is None or not can_be_typed(*options) or n_rows < len(record["sources"]):
        return None
    return shlex.join(options)


def _argument(name: str) -> str:
    """Return a name as it is pasted into a shell; empty if it cannot be shown unchanged."""
    return shlex.quote(name) if can_be_typed(name) else ""


def _measure_data(measure: Record, n_rows: int) -> dict[str, object]:
    values = measure["values"][:n_rows]
    data = {
        "title": measure["title"],
        "higher": measure["higher_is_better"],
        # Eight digits, so that values which differ by the rounding of sums share a rank.
        "values": [[None if value is None else float(f"{value:.8g}") for value in row] for row in values],
        "texts": [[one["text"] for one in row] for row in measure["cells"]],
        "best": [[int(one["css"] == "best") for one in row] for row in measure["cells"]],
        "shares": [[one["share"] for one in row] for row in measure["cells"]],
        # Controls have no ranks.
        "means": measure["mean_ranks"][:n_rows],
        "letters": measure["letters"][:n_rows],
    }
    intervals = measure["intervals"][:n_rows]
    if any(end is not None for row in intervals for interval in row for end in interval):
        data["intervals"] = [
            ["" if None in ends else " to ".join(map(format_value, ends)) for ends in row] for row in intervals
        ]
    return data
