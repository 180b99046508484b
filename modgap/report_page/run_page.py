"""Page of a trained model: how good it is, how it learned, and which errors it makes."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modgap.formatting import count, visible_name
from modgap.report_page.confusion import confusion_table
from modgap.report_page.rendering import Card, Row, command_line, render_template
from modgap.report_page.sweep_table import sweep_table
from modgap.storage.digests import check_named_file
from modgap.transfer.run_folder import LOG

__all__ = ["read_log", "render_run"]

WIDTH = 200
HEIGHT = 44
PADDING = 4
"""Size of a curve in its own units; the page stretches it to the width of its cell."""
LARGEST_LOG = 64 << 20
"""Size in bytes from which a log is not read."""
NOT_DRAWN = ("stage", "epoch", "updates", "seconds", "learning_rate")
LABELS = {
    "loss": "Training loss",
    "validation_error": "Validation error",
    "outer": "Outer loss",
    "mixed_share": "Share of the mixed product",
    "distance": "Distance of the encoder to the source",
    "replay": "Probe's loss on the surrogate",
}
DEFINITIONS = {
    "loss": "The mean of the loss over the updates of an epoch.",
    "validation_error": "The metric on the validation samples. The epoch with the lowest value is tested, unless "
    "stage2.choose is last. It was chosen by this value, which is therefore optimistic.",
    "outer": "How well the encoder separates the classes of the surrogate after the virtual step, equation (4). Lower "
    "is better.",
    "mixed_share": "The norm of the mixed product, times lambda, divided by the norm of the gradient of the task loss. "
    "Near 0, mona is practically emb.",
    "distance": "The root of the sum of the squared differences of the encoder's parameters to those of the source.",
    "replay": "The cross-entropy on surrogate samples of a linear probe that was fitted on the source's features.",
}

Log = Sequence[Mapping[str, Any]]


def read_log(folder: Path, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of a run's log that can be read; none if it is missing, damaged, or too large for a page.

    Args:
        folder: Folder of the run.
        record: Record of the run, which has the checksum of the log of a complete training.
    """
    path = folder / LOG
    try:
        check_named_file(folder, record, path)
        if path.stat().st_size > LARGEST_LOG:
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
    except (OSError, ValueError, RecursionError):
        return []
    return [record for record in records if isinstance(record, dict) and isinstance(record.get("stage"), str)]


def render_run(record: Mapping[str, Any], log: Log, record_name: str = LOG) -> str:
    """Render the page of a trained model.

    Args:
        record: Content of run.json.
        log: Lines of metrics.jsonl, one for each epoch.
        record_name: Name of the file that the record comes from.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    result = record["result"]
    samples = record["samples"]
    names = record.get("data", {}).get("classes") or []
    matrix = result.get("confusion") if result else None
    values = {
        "title": f"How good is {record['method']} from {visible_name(record['source'])} on "
        f"{visible_name(record['target'])}?",
        "facts": [
            count(samples["train"], "training sample"),
            count(samples["test"], "test sample"),
            f"seed {record['seed']}",
            f"modgap {record['provenance']['modgap']}",
        ],
        "card": _card(record),
        "version": record["provenance"]["modgap"],
        "record_name": record_name,
        "sweep": sweep_table(record.get("sweep")),
        "curves": [_stage_curves(stage, log, result) for stage in dict.fromkeys(line["stage"] for line in log)],
        "confusion": confusion_table(names, matrix, of_splits=False) if matrix and len(names) == len(matrix) else None,
        "definitions": _definitions(log),
        "run_summary": _run_summary(record),
        "settings": _settings(record),
    }
    return render_template("run.html.j2", values)


def _card(record: Mapping[str, Any]) -> Card:
    result = record["result"]
    if result is None:
        question = Row("How good is it?", "Not tested", "info", "The training was interrupted before the test.")
        return Card("This run is not finished.", [question], (), "Continue it with the same command and --resume.")
    checks = [_optimism(record), _data_check(record)]
    return Card(
        _headline(result),
        [_against_scratch(record), _against_majority(result)],
        [check for check in checks if check is not None],
        "Measure what the training did to the source's knowledge:",
        [command_line("modgap", "distortion", "--source", record["source"], "--run", "DIR")],
    )


def _headline(result: Mapping[str, Any]) -> str:
    if result["test"] is None:
        return f"The metric {result['metric']} is not defined on the test samples."
    low, high = result["interval"]
    interval = "" if low is None or high is None else f" (95 % CI {low:.4g} to {high:.4g})"
    name, unit = result["metric"], result["unit"]
    if unit and name.endswith(f" {unit}"):
        name = name.removesuffix(f" {unit}")
    unit = f" {unit}" if unit else ""
    return f"The test {name} is {result['test']:.4g}{unit}{interval}. Lower is better."


def _against_scratch(record: Mapping[str, Any]) -> Row:
    question = "Is it better than scratch?"
    if record["method"] == "scratch":
        return Row(question, "It is scratch", "info", "This model was trained from random weights, without the source.")
    text = "One run cannot tell. Train a second one with --method scratch, and compare both with modgap compare."
    return Row(question, "Not tested", "info", text)


def _against_majority(result: Mapping[str, Any]) -> Row:
    question = "Is it better than the majority class?"
    majority = result.get("majority_error")
    if majority is None or result["test"] is None:
        return Row(question, "Not applicable", "info", f"The metric {result['metric']} has no majority-class baseline.")
    high = result["interval"][1]
    text = f"Always predicting the largest training class has an error of {majority:.4g} %."
    if high is not None and high < majority:
        return Row(question, "Yes", "pass", f"{text} The interval of the model lies below it.")
    if result["test"] < majority:
        return Row(question, "Not shown", "warn", f"{text} The interval of the model reaches it, or is missing.")
    return Row(question, "No", "fail", text)


def _optimism(record: Mapping[str, Any]) -> Row | None:
    if record["protocol"] != "orca":
        return None
    text = "With --protocol orca the test samples chose the epoch, so the test error is lower than on new samples."
    return Row("The test error is optimistic", "", "warn", text)


def _data_check(record: Mapping[str, Any]) -> Row | None:
    reason = record["result"].get("no_interval")
    return Row("There is no interval", "", "warn", f"{reason[:1].upper()}{reason[1:]}.") if reason else None


def _stage_curves(stage: str, log: Log, result: Mapping[str, Any] | None) -> dict[str, Any]:
    lines = [line for line in log if line["stage"] == stage]
    names = [name for name in dict.fromkeys(name for line in lines for name in line) if name not in NOT_DRAWN]
    chosen = result["epoch"] if result and stage == "stage2" else None
    note = "Each curve has an axis of its own, from its lowest to its highest value."
    if chosen:
        note += f" The dashed line is epoch {chosen}, whose weights were tested."
    rows = [row for name in names if (row := _curve(name, lines, chosen)) is not None]
    titles = {"stage1": "Learning curves of stage 1", "stage2": "Learning curves of stage 2"}
    return {
        "title": titles.get(stage, "Learning curves of the predictor"),
        "rows": rows,
        "last": len(lines),
        "note": note,
    }


def _curve(name: str, lines: Log, chosen: int | None) -> dict[str, Any] | None:
    """Return the texts and the points of a curve; None if no epoch has a number."""
    points = [(number, line.get(name)) for number, line in enumerate(lines)]
    known = [(x, float(y)) for x, y in points if isinstance(y, int | float) and math.isfinite(y)]
    if not known:
        return None
    values = [y for _, y in known]
    low, span = min(values), (max(values) - min(values)) or 1.0
    last = max(len(lines) - 1, 1)

    def across(number: float) -> float:
        return round(PADDING + (WIDTH - 2 * PADDING) * number / last, 1)

    line = " ".join(f"{across(x)},{HEIGHT - PADDING - (HEIGHT - 2 * PADDING) * (y - low) / span:.1f}" for x, y in known)
    return {
        "label": LABELS.get(name, visible_name(name.replace("_", " "))),
        "line": line,
        "first": f"{values[0]:.4g}",
        "lowest": f"{low:.4g}",
        "latest": f"{values[-1]:.4g}",
        "chosen": across(chosen - 1) if chosen else None,
    }


def _definitions(log: Log) -> list[tuple[str, str]]:
    present = {name for line in log for name in line}
    curves = [(LABELS[name], text) for name, text in DEFINITIONS.items() if name in present]
    test = (
        "Test",
        "The test samples were used once, after the epoch was chosen. The interval is a bootstrap over the test "
        "samples, or over their groups. It does not contain the spread of other seeds.",
    )
    return [test, *curves]


def _run_summary(record: Mapping[str, Any]) -> str:
    result = record["result"]
    if result is None:
        return "not finished"
    return f"{count(result['updates'], 'update')}, {result['seconds']:,.0f} s"


def _settings(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    names = ("method", "source", "target", "protocol", "seed", "limit", "input_size")
    chosen = [(name.replace("_", " ").capitalize(), record[name]) for name in names]
    flat = []
    for name, value in record["recipe"].items():
        if isinstance(value, Mapping):
            flat += [(f"{name}.{key}", entry) for key, entry in value.items()]
        else:
            flat.append((name, value))
    return [*chosen, *flat]
