"""Pages that show an answer with its tables: of a discrepancy, of a distortion and of a trained model."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from modgap.answers import Answer, Curve, Table
from modgap.answers.formatting import format_error
from modgap.api.pages.rendering import render_answer
from modgap.api.pages.result_folder import DISCREPANCY, DISTORTION, RUN, TRANSFER
from modgap.errors import count, visible_name
from modgap.storage.digests import check_named_file
from modgap.storage.json_records import Record
from modgap.training.answer import run_answer
from modgap.training.run_folder import LOG


def render_discrepancy(record: Record) -> str:
    """Render the page of a discrepancy.

    Args:
        record: Record that `modgap discrepancy --json` prints.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    summary = f"{count(len(record['estimates']), 'estimator')}, {sum(record['seconds'].values()):.1f} s"
    definitions = [
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
    settings = [
        ("Source", record["source"] or "a file of logits"),
        ("Target", record["target"]),
        ("Estimators", list(record["estimates"])),
        ("Seed", record["seed"]),
        ("Seconds", {name: round(value, 1) for name, value in record["seconds"].items()}),
    ]
    return render_answer(_answer(record), record, DISCREPANCY.file, definitions, summary, settings)


def _answer(record: Record) -> Answer:
    return Answer.from_dict(record["answer"])


DISTORTION_DEFINITIONS = (
    (
        "Distortion",
        "Labeled data of the source's own modality goes through an encoder before and after training on the "
        "target. A probe on the features shows how much of the source's knowledge is left.",
    ),
    ("Probe error", "This is the error rate of the probe on test samples. A lower error means more knowledge."),
    (
        "Difference to the untouched encoder",
        "Both probes are tested on the same samples. A positive difference means that knowledge is lost.",
    ),
)


def render_distortion(record: Record) -> str:
    """Render the page of a distortion.

    Args:
        record: Record that `modgap distortion --json` prints.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    n_encoders = sum(len(surrogate["encoders"]) for surrogate in record["surrogates"])
    summary = f"{count(n_encoders, 'encoder')}, {record['seconds']:.1f} s"
    settings = [("Source", record["source"]), *record["request"].items()]
    return render_answer(_answer(record), record, DISTORTION.file, DISTORTION_DEFINITIONS, summary, settings)


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
TEST = (
    "Test",
    "The test samples were used once, after the model was chosen. The interval is for other test samples, or "
    "other groups of them. It does not contain the spread of other seeds.",
)
RUN_DEFINITIONS = {
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

Log = Sequence[Record]


def read_log(folder: Path, record: Record) -> list[Record]:
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


def render_run(record: Record, log: Log) -> str:
    """Render the page of a trained model.

    Args:
        record: Content of run.json.
        log: Lines of metrics.jsonl, one for each epoch.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    stages = dict.fromkeys(line["stage"] for line in log)
    curves = [_stage_curves(stage, log, record["result"]) for stage in stages]
    # A training that has not finished has stored no answer.
    answer = _answer(record) if "answer" in record else run_answer(record)
    present = {name for line in log for name in line}
    definitions = [TEST, *((LABELS[name], text) for name, text in RUN_DEFINITIONS.items() if name in present)]
    result = record["result"]
    summary = "not finished"
    if result is not None:
        summary = f"{count(result['updates'], 'update')}, {result['seconds']:,.0f} s"
    names = ("method", "source", "target", "protocol", "seed", "limit", "input_size")
    settings = [(name.replace("_", " ").capitalize(), record[name]) for name in names]
    for name, value in record["recipe"].items():
        is_section = isinstance(value, Mapping)
        settings += [(f"{name}.{key}", entry) for key, entry in value.items()] if is_section else [(name, value)]
    return render_answer(answer, record, RUN.file, definitions, summary, settings, curves)


def render_transfer(record: Record) -> str:
    """Render the page of a transfer.

    Args:
        record: Content of transfer.json.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    race, fits = record["seconds"]["race"], record["seconds"]["final fits"]
    summary = f"{count(len(record['steps']), 'step')}, {race:,.0f} s, and final fits {fits:,.0f} s"
    names = ("target", "minutes", "seed", "limit", "labeled", "judged", "lowest", "chosen")
    settings = [(name.capitalize(), record[name]) for name in names]
    return render_answer(_answer(record), record, TRANSFER.file, TRANSFER_DEFINITIONS, summary, settings)


TRANSFER_DEFINITIONS = [
    (
        "Validation error",
        "The error on folds of the labeled samples that the model was not fitted to, by the measure of the test where "
        "the losses of the samples decide it. Otherwise it is called a loss: 1 - the average precision of the labels "
        "of a sample, or the mean squared error of standardized values. The lowest of several is optimistic.",
    ),
    (
        "How the model was chosen",
        "The simplest model within one standard error of the lowest validation loss, by the paired difference: a "
        "baseline before a linear probe, and a linear probe before a training.",
    ),
    (
        "Test",
        "The test samples were used once, by the final models. Intervals are over the test samples or their groups. "
        "The difference to the chosen model, its interval and p compare both models on the same samples.",
    ),
]


def _stage_curves(stage: str, log: Log, result: Record | None) -> Table:
    """Return the learning curves of a stage, each on an axis of its own."""
    lines = [line for line in log if line["stage"] == stage]
    names = [name for name in dict.fromkeys(name for line in lines for name in line) if name not in NOT_DRAWN]
    chosen = result["epoch"] if result and stage == "stage2" else None
    note = f"Curves go from epoch 1 to {len(lines)}. Each has an axis of its own, from its lowest to its highest value."
    if chosen:
        note += f" The dashed line is epoch {chosen}, whose weights were tested."
    titles = {"stage1": "Learning curves of stage 1", "stage2": "Learning curves of stage 2"}
    rows, curves, last = [], [], max(len(lines) - 1, 1)
    for name in names:
        numbered = [(number, line.get(name)) for number, line in enumerate(lines)]
        points = {x: float(y) for x, y in numbered if isinstance(y, int | float) and math.isfinite(y)}
        if not points:
            continue
        values = list(points.values())
        low = min(values)
        span = (max(values) - low) or 1.0
        label = LABELS.get(name, visible_name(name.replace("_", " ")))
        rows.append((label, *(f"{value:.4g}" for value in (values[0], low, values[-1]))))
        dashed = (chosen - 1) / last if chosen else None
        curves.append(Curve([x / last for x in points], [(value - low) / span for value in values], chosen=dashed))
    title = titles.get(stage, "Learning curves of the predictor")
    return Table(("quantity", "first", "lowest", "last"), rows, title, note, curves=curves)
