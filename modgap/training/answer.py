"""The answer of a training run: how good the model is, what it was compared with, and what to measure next."""

import shlex
from collections.abc import Iterator, Sequence

from modgap.answers import FAIL, INFO, PASS, WARN, Answer, Mark, Table, Verdict
from modgap.answers.confusion import confusion_table
from modgap.answers.formatting import confidence_interval, format_p_value, known_interval
from modgap.errors import can_be_typed, count, visible_name
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL
from modgap.storage.json_records import Record

FOLDER = "DIR"
"""Stands for the folder of the run, which its record does not name."""
OTHER = "OTHER"
"""Stands for the folder of another run."""
NEXT_STEP_OF_BASELINE = "Train a pretrained source on the same target, and compare both runs."
NEXT_STEP_OF_PROBE = "Fit what the field would use, by modgap train --method baseline, and compare both runs."
CONSTANTS = {
    "classification": "Always predicting the largest training class",
    "multi-label": "Predicting the training share of each label for all samples",
    "regression": "Predicting the training mean of each value for all samples",
}
"""The same prediction for all samples, by task."""
CROSS_VALIDATED = {
    "classification": "the error rate of classes",
    "multi-label": "1 - mean average precision of labels",
    "regression": "the mean squared error of values",
}
"""The error that chooses a baseline or a linear probe, by task."""
NEXT_STEP = "Measure what the training did to the source's knowledge."


def run_answer(record: Record, folder: str = FOLDER, options: Sequence[str] = ()) -> Answer:
    """Return the answer of the record of a run, finished or not.

    Args:
        record: Content of run.json.
        folder: Folder of the run in the command of the next step.
        options: Further options of this command.
    """
    samples = record["samples"]
    origin = f" from {visible_name(record['source'])}" if record["source"] else ""
    fitted = record.get("fitted")
    method = record["method"] if record["source"] or not fitted else f"the baseline {fitted['name']}"
    question = f"How good is {method}{origin} on {visible_name(record['target'])}?"
    data_facts = (
        count(samples["train"], "training sample"),
        count(samples["test"], "test sample"),
        f"seed {record['seed']}",
    )
    result = record["result"]
    if result is None:
        verdict = Verdict("How good is it?", "Not tested", INFO, "The training was interrupted before the test.")
        step = "Continue it with the same command and --resume."
        return Answer(question, data_facts, "This run is not finished.", (verdict,), next_step=step)
    command: tuple[str, ...] = ("modgap", "distortion", "--source", record["source"], "--run", folder, *options)
    step = NEXT_STEP
    if fitted:
        command = ("modgap", "compare", folder, OTHER)
        step = NEXT_STEP_OF_PROBE if fitted["sources"] else NEXT_STEP_OF_BASELINE
    return Answer(
        question=question,
        facts=data_facts,
        headline=_headline(result),
        verdicts=(*([] if fitted else [_against_scratch(record)]), _against_chance(record)),
        checks=tuple(_checks(record)),
        tables=(*_trials(record.get("sweep")), *_compared_models(record), *_confusion(record)),
        notes=tuple(_notes(record)),
        next_step=step,
        commands=(shlex.join(command),) if can_be_typed(*command) else (),
    )


def _notes(record: Record) -> Iterator[str]:
    result, fitted = record["result"], record.get("fitted")
    if result["epoch"]:
        yield f"The weights are those of epoch {result['epoch']} ({result['chosen_by']})."
    if fitted and fitted["sources"]:
        names = ", ".join(visible_name(str(source["name"])) for source in fitted["sources"])
        yield f"The model is a linear probe of {names} with {fitted['setting']}. The source is as it was."
    elif fitted:
        yield f"The model is the baseline {fitted['name']} with {fitted['features']} and {fitted['setting']}."
    if result.get("validation") is not None:
        unit = f" {result['unit']}" if result["unit"] else ""
        yield f"The validation {metric_without_unit(result)} is {result['validation']:.4g}{unit}."


def _compared_models(record: Record) -> Iterator[Table]:
    """Yield the table of the baselines or probes that were fitted."""
    fitted = record.get("fitted")
    if not fitted or len(fitted["compared"]) < 2:
        return
    task = str(record["output"]["task"])
    chosen = fitted["features"] if fitted["sources"] else fitted["name"]
    # Those of all training samples come first.
    most = max(one["samples"] for one in fitted["compared"])
    rows = sorted(fitted["compared"], key=lambda one: (most - one["samples"], one["error"] is None, one["error"]))
    yield Table(
        ("source" if fitted["sources"] else "baseline", "cross-validated error", "samples", "seconds", ""),
        [
            [
                visible_name(one["name"]),
                _cross_validated(one["error"], task),
                f"{one['samples']:,}",
                f"{one['seconds']:.1f}",
                "chosen" if one["name"] == chosen and one["samples"] == most else "",
            ]
            for one in rows
        ],
        "Linear probes that were compared" if fitted["sources"] else "Baselines that were compared",
        f"Five-fold cross-validation on the training samples: {CROSS_VALIDATED[task]}. Lower is better. The lowest of "
        "several errors is optimistic, the test error is not.",
    )


def _cross_validated(error: float | None, task: str) -> str:
    if error is None:
        return "not defined"
    return f"{100 * error:.4g} %" if task == "classification" else f"{error:.4g}"


def _headline(result: Record) -> str:
    if result["test"] is None:
        return f"The metric {result['metric']} is not defined on the test samples."
    interval = confidence_interval(known_interval(result["interval"]), "{:.3g}".format)
    unit = f" {result['unit']}" if result["unit"] else ""
    return f"The test {metric_without_unit(result)} is {result['test']:.4g}{unit}{interval}. Lower is better."


def metric_without_unit(result: Record) -> str:
    """Return the name of the metric of a result, without the unit at its end."""
    return str(result["metric"]).removesuffix(f" {result['unit']}")


def why_untested(result: Record) -> str:
    """Return why the test error is not tested against that of a constant prediction."""
    unknown = f"the lowest {metric_without_unit(result)} without knowledge is not known"
    return result.get("no_interval") or ("the test samples are too few" if result["unit"] == "%" else unknown)


def _against_scratch(record: Record) -> Verdict:
    label, text = "It is scratch", "This model was trained from random weights, without the source."
    if record["method"] != "scratch":
        label = "Not tested"
        text = "One run cannot tell. Train a second one with --method scratch, and compare both with modgap compare."
    return Verdict("Is it better than scratch?", label, INFO, text)


def _against_chance(record: Record) -> Verdict:
    question, result = "Is it better than chance?", record["result"]
    constant, p_value = result.get("constant_error"), result.get("chance_p")
    metric, unit = metric_without_unit(result), f" {result['unit']}" if result["unit"] else ""
    if result["test"] is None:
        return Verdict(question, "Not applicable", INFO, f"The {metric} is not defined on the test samples.")
    if constant is None:
        text = f"The {metric} of a constant prediction is not defined on the test samples."
        return Verdict(question, "Not applicable", INFO, text)
    constant_model = CONSTANTS.get(str(record.get("output", {}).get("task")), "The same prediction for all samples")
    text = f"{constant_model} has a test {metric} of {constant:.4g}{unit}"
    if p_value is None:
        label = f"{'Lower' if result['test'] < constant else 'Not lower'}, not tested"
        return Verdict(question, label, INFO, f"{text}. The difference is not tested, because {why_untested(result)}.")
    text = f"{text} (p {format_p_value(p_value)})."
    if p_value > SIGNIFICANCE_LEVEL:
        return Verdict(question, "Not shown", WARN, text)
    return Verdict(question, *(("Yes", PASS) if result["test"] < constant else ("No", FAIL)), text)


def _checks(record: Record) -> Iterator[Verdict]:
    result = record["result"]
    # Nothing of a baseline or a linear probe is chosen on the test samples.
    is_last = result.get("chosen_by") == "last epoch" and not record["recipe"]["stage2"].get("patience")
    if record["protocol"] == "orca" and not record.get("fitted") and not is_last:
        text = "With --protocol orca the test samples chose the epoch, so the test error is lower than on new samples."
        yield Verdict("The test error is optimistic", "", WARN, text)
    if reason := result.get("no_interval"):
        yield Verdict("There is no interval", "", WARN, f"{reason[:1].upper()}{reason[1:]}.")
    if result["left_out"]:
        text = f"The metric is not defined for {result['left_out']} samples or classes, which are left out."
        yield Verdict("Samples or classes without a value", "", WARN, text)


def _confusion(record: Record) -> Iterator[Table]:
    """Yield the confusion matrix of the test samples, if the classes have names."""
    names = record.get("data", {}).get("classes") or []
    matrix = record["result"].get("confusion")
    if matrix and len(names) == len(matrix):
        yield confusion_table(names, matrix, "test")


def _trials(sweep: Record | None) -> Iterator[Table]:
    """Yield the table of the trials of a sweep."""
    if sweep:
        n_trials = count(len(sweep["trials"]), "trial")
        yield Table(
            ("trial", "validation error", *map(str, sweep["values"]), "epoch", ""),
            [_trial_row(number, trial, sweep) for number, trial in enumerate(sweep["trials"], start=1)],
            "Settings that were tried",
            f"The settings with the lowest validation error of {n_trials} were chosen, and only their model was "
            "tested. The lowest of several errors is optimistic, the test error is not.",
            [
                None if (error := trial.get("validation")) is None else Mark(error, is_open=number != sweep["chosen"])
                for number, trial in enumerate(sweep["trials"], start=1)
            ],
        )


def _trial_row(number: int, trial: Record, sweep: Record) -> list[str]:
    """Return number, validation error, settings, epoch and remark of a trial as texts."""
    settings = (visible_name(str(trial["settings"].get(key, ""))) for key in sweep["values"])
    failed = trial["state"] == "failed"
    value = trial.get("validation")
    error = "failed" if failed else "not defined" if value is None else f"{value:.4g}"
    epoch = "" if failed else str(trial.get("epoch") or "")
    return [str(number), error, *settings, epoch, "chosen" if number == sweep["chosen"] else ""]
