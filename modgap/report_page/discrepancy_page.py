"""Page of a discrepancy: how far a source's knowledge is from a target."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from modgap.discrepancy.repeated_rows import remarks_on_copies
from modgap.discrepancy.verdict import (
    Evidence,
    best_estimator,
    control_finding,
    error_sentence,
    evidence_of_record,
    labels_finding,
    majority_finding,
    verdict,
)
from modgap.formatting import count, format_error, visible_name
from modgap.report_page.class_tables import ClassRow, ClassTables
from modgap.report_page.confusion import confusion_table
from modgap.report_page.measurements import Measurement, measurement_table, value_with_interval
from modgap.report_page.rendering import Card, Row, command_line, render_template

__all__ = ["render_discrepancy"]

MAX_PAIRS = 300
"""Most pairs of the class map that are shown."""
MAX_CLASSES = 100
"""Most classes whose errors are shown."""
ROWS = {
    "yes": ("Yes", "pass"),
    "no": ("No", "fail"),
    "not shown": ("Not shown", "warn"),
    "unknown": ("Unknown", "info"),
    "few controls": ("Too few controls", "info"),
}
"""Label and status of the row of each finding."""
SD_REACH = 1.96
"""Standard deviations that hold 95 % of a normal distribution on each side of its mean."""


def render_discrepancy(
    record: Mapping[str, Any], record_name: str = "result.json", tables: ClassTables | None = None
) -> str:
    """Render the page of a discrepancy.

    Args:
        record: Record that `modgap discrepancy --json` prints.
        record_name: Name of the file that the record comes from.
        tables: Errors by class and confusion matrix. None if they are not known.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    name = best_estimator(record)
    estimate = record["estimates"][name] if name else None
    numbers = evidence_of_record(record).named(visible_name(record["source"] or ""), _target(record))
    tables = tables or ClassTables()
    class_table = _class_table(tables.classes) if tables.classes else None
    values = {
        "title": f"How far is the knowledge of {_source(record)} from {_target(record)}?",
        "facts": _facts(record),
        "card": _card(record, numbers),
        "version": record["provenance"].get("modgap", "(unknown version)"),
        "record_name": record_name,
        "measurement_tables": [_error_table(record, estimate), *([class_table] if class_table else [])]
        if estimate
        else [],
        "few_shot_tables": [],
        "confusion": confusion_table(tables.names, tables.confusion) if tables.confusion else None,
        "plain_tables": [_class_map(estimate)] if estimate and not class_table else [],
        "definitions": _definitions(record),
        "run_summary": f"{len(record['estimates'])} estimators, {sum(record['seconds'].values()):.1f} s",
        "settings": _settings(record),
    }
    return render_template("measurements.html.j2", values)


def _null(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the distribution with permuted labels of the permutation test. None without permutations."""
    name = record["permutations_for"]
    null: Mapping[str, Any] | None = record["estimates"][name]["held_out_null"] if name else None
    return null


def _source(record: Mapping[str, Any]) -> str:
    return visible_name(record["source"]) if record["source"] else "the source"


def _target(record: Mapping[str, Any]) -> str:
    return visible_name(PurePath(record["target"]).name or record["target"])


def _facts(record: Mapping[str, Any]) -> list[str]:
    groups = [count(record["n_groups"], "group")] if record["n_groups"] else []
    split = (record["provenance"].get("samples") or {}).get("split")
    return [
        count(record["n_samples"], "sample"),
        *([f"{split} split"] if split not in (None, "all") else []),
        f"{record['n_target_classes']:,} target classes",
        f"{record['n_source_classes']:,} source classes",
        *groups,
        {"samples": "error rate", "groups": "groups count equally", "classes": "error averaged over classes"}[
            record["weighting"]
        ],
        "lower is better",
    ]


def _card(record: Mapping[str, Any], numbers: Evidence) -> Card:
    command = _control_command(record, numbers)
    step = "Compare with the same architecture with random weights, on the same samples and splits." if command else ""
    return Card(
        f"{verdict(numbers).title}.",
        [_labels_row(numbers), _control_row(numbers)],
        list(_checks(record, numbers)),
        step,
        [command] if command else [],
    )


def _labels_row(numbers: Evidence) -> Row:
    finding = labels_finding(numbers)
    label, status = ROWS[finding.status]
    error = error_sentence(numbers)
    return Row("Is it better than with permuted labels?", label, status, f"{error} {finding.sentence}".strip())


def _control_row(numbers: Evidence) -> Row:
    question = "Is it below its control?"
    if numbers.control is None:
        return Row(question, "Not tested", "info", _control_text(numbers))
    finding = control_finding(numbers)
    label, status = ROWS[finding.status]
    return Row(question, label, status, finding.sentence)


def _control_text(numbers: Evidence) -> str:
    if numbers.is_control:
        return "This source is itself a random-weights control."
    return "This run has no random-weights control, so it does not show that the pretraining is what helps."


def _control_command(record: Mapping[str, Any], numbers: Evidence) -> str:
    source = record["source"]
    if record["control"] is not None or numbers.is_control or not numbers.is_measured:
        return ""
    options = ("--source", source, "--target", record["target"], *_sample_options(record["provenance"]), "--control")
    return command_line("modgap", "discrepancy", *options)


def _sample_options(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options that choose the same samples at the same size, as far as the record has them."""
    samples = provenance.get("samples") or {}
    if samples.get("split") not in (None, "all"):
        yield from ("--split", str(samples["split"]))
    if samples.get("limit"):
        yield from ("--limit", str(samples["limit"][0]))
    size = (provenance.get("embedding") or {}).get("size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        yield from ("--input-size", str(size[0]))


def _checks(record: Mapping[str, Any], numbers: Evidence) -> Iterator[Row]:
    checks = [*_majority_check(numbers), *_data_checks(record, numbers)]
    order = ("fail", "warn", "info", "pass")
    yield from sorted(checks, key=lambda row: order.index(row.status))


def _majority_check(numbers: Evidence) -> Iterator[Row]:
    finding = majority_finding(numbers)
    if finding.sentence:
        status = {"yes": "pass", "no": "fail"}.get(finding.status, "warn")
        error = f"The held-out error is {value_with_interval(numbers.held_out or 0.0, numbers.interval)}."
        yield Row("Majority-class baseline", "", status, f"{error} {finding.sentence}")


def _data_checks(record: Mapping[str, Any], numbers: Evidence) -> Iterator[Row]:
    for text in remarks_on_copies(record.get("n_repeated", 0), record.get("n_copies", 0), record["n_samples"]):
        yield Row("Equal samples", "", "warn", text)
    if record["unlabeled"]:
        yield Row("Labels", "", "info", f"{count(record['unlabeled'], 'sample')} without a label are left out.")
    if record["untested"] and numbers.held_out is not None:
        are = "is" if record["untested"] == 1 else "are"
        text = f"{count(record['untested'], 'sample')} {are} not tested, because their class has one sample or group."
        yield Row("Small classes", "", "warn", text)
    lower = record["bounds"]["lower"]
    if lower is not None:
        yield Row("Lower bound", "", "info", f"Every map has an error of at least {format_error(lower)} (certified).")


def _error_table(record: Mapping[str, Any], estimate: Mapping[str, Any]) -> dict[str, Any]:
    note = (
        "The dashed line is the chance level. Squares are levels to compare with. The line of the permuted labels "
        "holds 95 % of the permutations under a normal distribution."
    )
    rows = list(_measurements(record, estimate))
    return measurement_table("Errors on one axis", ("Error of", "Value (95 % CI)"), rows, note, record["chance"])


def _measurements(record: Mapping[str, Any], estimate: Mapping[str, Any]) -> Iterator[Measurement]:
    if estimate["held_out"] is not None:
        yield Measurement("best map, held-out samples", estimate["held_out"], estimate["held_out_interval"])
    soft = record["estimates"].get("soft")
    if soft and soft is not estimate and soft["held_out"] is not None:
        yield Measurement("soft error, held-out samples", soft["held_out"], soft["held_out_interval"])
    null = _null(record)
    if null:
        reach = SD_REACH * null["sd"]
        name = "permuted labels, soft error" if record["permutations_for"] == "soft" else "permuted labels"
        yield Measurement(name, null["mean"], (null["mean"] - reach, null["mean"] + reach), True)
    if record["control"]:
        yield _control_measurement(record["control"])
    if record["permuted_error"] is not None:
        yield Measurement("permuted labels", record["permuted_error"], is_reference=True)
    yield Measurement("majority-class baseline", record["prior"], is_reference=True)
    yield Measurement("chance level", record["chance"], is_reference=True)
    if record["upper_bound"] is not None:
        yield Measurement("certified upper bound of the best map", record["upper_bound"], is_reference=True)


def _control_measurement(control: Mapping[str, Any]) -> Measurement:
    # Records of the first version of this schema have no interval of the control.
    return Measurement("random-weights control", control["held_out"], control.get("interval"), is_reference=True)


def _class_table(classes: Sequence[ClassRow]) -> dict[str, Any]:
    """Return the error of each class, lowest first, with its source class, its baseline and its most frequent error."""
    rows = [_class_measurement(one) for one in classes[:MAX_CLASSES]]
    more = f" {len(classes) - MAX_CLASSES:,} more classes are in classes.csv." if len(classes) > MAX_CLASSES else ""
    note = (
        "The classes are sorted by their held-out error. The gray mark is the baseline of the class: its error if the "
        "predictions did not depend on the label. An open orange circle is not significantly better than the baseline "
        f"(95 % intervals, not corrected for the number of classes).{more}"
    )
    heads = ("Target class → source class", "Error (95 % CI)", "Samples", "Most frequent error")
    return measurement_table("Best class map, and the error of each class", heads, rows, note)


def _class_measurement(one: ClassRow) -> Measurement:
    confused = f"{visible_name(one.confused_with, 40)} ({100 * one.confused_share:.0f} %)" if one.confused_with else "–"
    return Measurement(
        label=f"{visible_name(one.name, 60)} → {visible_name(one.source_class, 60)}",
        value=one.error,
        interval=one.interval,
        is_open=one.interval is None or one.interval[1] >= one.baseline,
        level=one.baseline,
        cells=(f"{one.n_samples:g}", confused),
    )


def _class_map(estimate: Mapping[str, Any]) -> dict[str, Any]:
    sources = estimate["map_names"]
    targets = estimate.get("target_names") or [str(number) for number in range(len(sources))]
    rows = [
        [visible_name(target), visible_name(source.split(",")[0])]
        for target, source in zip(targets, sources, strict=True)
    ]
    note = f"{len(rows) - MAX_PAIRS} more classes are left out." if len(rows) > MAX_PAIRS else ""
    return {
        "title": "Best class map",
        "heads": ("Target class", "Source class"),
        "rows": rows[:MAX_PAIRS],
        "note": note,
    }


def _definitions(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            "Discrepancy",
            "This is the error rate of the best one-to-one map from target classes to source classes. 0 means that the "
            "source's classes separate the target's classes perfectly.",
        ),
        (
            "Held-out error",
            "The map is fitted on a part of the samples and tested on the others, over repeated splits. This is the "
            "value to compare by. Values are comparable only if the maps are fitted on as many samples a class.",
        ),
        (
            "Permuted labels",
            "The same estimate with permuted labels shows what a source without knowledge gets. The soft error is the "
            "probability that the source does not give to the class of the map.",
        ),
        (
            "Chance level and majority class",
            f"A random map has an expected error of {format_error(record['chance'])}. Always predicting the largest "
            f"class has an error of {format_error(record['prior'])}.",
        ),
    ]


def _settings(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("Source", record["source"] or "a file of logits"),
        ("Target", record["target"]),
        ("Estimators", list(record["estimates"])),
        ("Seed", record["seed"]),
        ("Seconds", {name: round(value, 1) for name, value in record["seconds"].items()}),
    ]
