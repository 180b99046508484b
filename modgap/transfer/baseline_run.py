"""Runs of baselines: models that the field of a target would use, fitted without a pretrained one and tested once."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modgap.baselines import baseline_names, get_baseline
from modgap.baselines.baseline import Baseline, FittedBaseline, SampleForm, Truth, fit_baseline, restore_baseline
from modgap.errors import InputError, Progress, UsageError, first_line
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS
from modgap.storage.json_records import plain_values
from modgap.targets.samples import SelectedSamples
from modgap.transfer.answer import run_answer
from modgap.transfer.checkpoint import write_tensors
from modgap.transfer.evaluation import evaluate_metric, write_sample_errors
from modgap.transfer.metrics import Metric, task_metric
from modgap.transfer.run_folder import WEIGHTS, Run, exclusive_run, prepare_run, write_record
from modgap.transfer.train_request import TrainRequest, settings_record
from modgap.transfer.trained_inputs import TrainedInputs, write_inputs
from modgap.transfer.training_data import TargetData, classes_without_samples, read_target_data

__all__ = [
    "is_baseline",
    "is_table",
    "read_baseline",
    "sample_form",
    "suitable_baselines",
    "train_baseline",
    "true_values",
]

BASELINE = "baseline"
"""Name of the method, alone for the best baseline, or followed by a colon and the name of one."""
TABLE_STEP = "standardize"
"""The step that standardizes the columns of a table one by one."""

log = logging.getLogger("modgap")


def is_baseline(method: str) -> bool:
    """Return True if a method is a baseline, such as `baseline` and `baseline:extra-trees`."""
    return method.partition(":")[0] == BASELINE


def train_baseline(
    request: TrainRequest, folder: Path, *, resume: bool = False, progress: Progress | None = None
) -> Run:
    """Fit a baseline to the training samples of a target, test it once, and write the results to a folder.

    The method `baseline` fits all that suit the target and takes the one with the lowest cross-validated error, of
    equally good ones the simplest; `baseline:NAME` fits one. The validation samples choose nothing.

    Args:
        request: What to fit. It has no source, no weights, no settings and no input size.
        folder: Folder of the run, as for `modgap.transfer.train.train`.
        resume: Go on with an interrupted run, which begins again.
        progress: Callback that is called with a name and the share of the work done since the last call.

    Raises:
        UsageError: When the request is invalid.
        InputError: When data is missing, no baseline suits it, or a library is missing.
    """
    _refuse_settings(request)
    _, _, name = request.method.partition(":")
    candidates = [get_baseline(name)] if name else [get_baseline(one) for one in baseline_names()]
    with exclusive_run(folder, resume=resume):
        began = time.perf_counter()
        target = request.target.open()
        samples = request.samples
        data = read_target_data(
            target, protocol=request.protocol, limit=samples.limit, seed=samples.seed, standardized=False
        )
        form = sample_form(data)
        suitable = suitable_baselines(candidates, data, form)
        if not suitable:
            raise _unsuitable(name, data)
        run = prepare_run(folder, settings_record(request, data), resume=resume)
        if run.finished:
            return run
        write_record(run.folder, run.record)
        fitted, compared = _fit_best(suitable, data, form, request, progress)
        return _test(run, request, data, fitted, compared, time.perf_counter() - began)


def _refuse_settings(request: TrainRequest) -> None:
    """Raise if a field of a request is set that makes no sense for a baseline."""
    given = {
        "source": request.source,
        "weights": request.weights,
        "settings": request.overrides,
        "input_size": request.samples.input_size,
    }
    if names := [name for name, value in given.items() if value]:
        raise UsageError(
            f"A baseline is fitted without a source, and has no `{names[0]}`. Leave it out, or choose another `method`."
        )


def sample_form(data: TargetData) -> SampleForm:
    """Return the form of the samples of a target that was read without standardization."""
    return SampleForm(data.target.manifest.input, data.transform.shape)


def is_table(data: TargetData) -> bool:
    """Return True if samples are rows of a table: its columns have names, or are standardized one by one."""
    return data.table.columns is not None or any(step.name == TABLE_STEP for step in data.target.manifest.steps)


def suitable_baselines(candidates: list[Baseline], data: TargetData, form: SampleForm) -> list[Baseline]:
    """Return those of some baselines that can be fitted to a target."""
    return [one for one in candidates if one.suits(form, is_table=is_table(data), output=data.output)]


def _unsuitable(name: str, data: TargetData) -> UsageError:
    kind, task = data.target.manifest.input.kind, data.output.task
    if not name:
        return UsageError(f"No baseline suits the target {data.target.name} ({kind} samples, {task}).")
    return UsageError(
        f"Baseline {name} does not suit the target {data.target.name} ({kind} samples, {task}). Run modgap baselines "
        'for those of each kind, or pass `method="baseline"` for the best of them.'
    )


def true_values(data: TargetData, rows: np.ndarray) -> Truth:
    """Return the truth of some samples of a target, as a baseline is fitted to it."""
    y, mask = data.ground_truth(rows)
    return Truth(data.output, y, mask, None if data.groups is None else data.groups[rows])


def _fit_best(
    suitable: list[Baseline],
    data: TargetData,
    form: SampleForm,
    request: TrainRequest,
    progress: Progress | None,
) -> tuple[FittedBaseline, list[dict[str, Any]]]:
    """Return the fitted baseline with the lowest error, and name, error and seconds of all that were fitted.

    Raises:
        InputError: When a library is missing for the only baseline, or for all.
    """
    if missing := classes_without_samples(data):
        log.warning("%d classes have no training samples, so no baseline predicts them: %s.", len(missing), missing[0])
    samples, truth = SelectedSamples(data.table.samples, data.train), true_values(data, data.train)
    best: FittedBaseline | None = None
    compared: list[dict[str, Any]] = []
    for baseline in suitable:
        began = time.perf_counter()
        try:
            fitted = fit_baseline(baseline, samples, form, truth, request.samples.seed)
        except InputError as error:
            if len(suitable) == 1:
                raise
            log.warning("Baseline %s is left out: %s", baseline.name, error)
            continue
        finally:
            if progress:
                progress("baselines", 1 / len(suitable))
        seconds = round(time.perf_counter() - began, 1)
        compared.append({"name": baseline.name, "error": fitted.error, "seconds": seconds})
        if best is None or fitted.error < best.error:
            best = fitted
    if best is None:
        raise InputError(f"No baseline could be fitted to {data.target.name}, for the reasons above.")
    return best, compared


def _test(
    run: Run,
    request: TrainRequest,
    data: TargetData,
    fitted: FittedBaseline,
    compared: list[dict[str, Any]],
    seconds: float,
) -> Run:
    """Measure validation and test errors, and write the model and the result."""
    validation, test = (_metric(fitted, data, rows) for rows in (data.validation, data.test))
    described, arrays = fitted.state()
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    write_inputs(run.folder, data)
    write_tensors(run.folder / WEIGHTS, tensors)
    write_sample_errors(run.folder, test, data, f"{BASELINE}:{fitted.name}")
    result = plain_values(
        {
            **evaluate_metric(test, data, request.samples.seed),
            "validation": validation.compute(),
            "epoch": None,
            "chosen_by": "lowest cross-validated error",
            "updates": 0,
        }
    )
    record = {**run.record, "baseline": plain_values({**described, "compared": compared})}
    answer = run_answer({**record, "result": result}, str(run.folder)).to_dict()
    write_record(run.folder, {**record, "result": {**result, "seconds": round(seconds, 1)}, "answer": answer})
    return Run(run.folder, {**record, "result": result, "answer": answer})


def _metric(fitted: FittedBaseline, data: TargetData, rows: np.ndarray) -> Metric:
    metric = task_metric(data.target.manifest, data.scale, data.protocol)
    y, mask = data.ground_truth(rows)
    metric.update(fitted.scores(SelectedSamples(data.table.samples, rows)), y, mask)
    return metric


def read_baseline(run: Run, tensors: Mapping[str, Tensor], inputs: TrainedInputs) -> FittedBaseline:
    """Return the fitted baseline of a run, after checks of everything that was stored.

    Args:
        run: The run.
        tensors: Arrays of the baseline, by name.
        inputs: Preparation of the samples.

    Raises:
        InputError: When the run was changed, or its baseline is not installed.
    """
    described = run.record.get("baseline")
    if not isinstance(described, Mapping):
        raise InputError(f"The run in {run.folder} has no baseline. Repeat its command with `resume=True` first.")
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    try:
        baseline = get_baseline(str(described.get("name")))
        return restore_baseline(baseline, described, arrays, inputs.inputs.spec, inputs.output)
    except UsageError:
        raise
    except DAMAGED_FILE_ERRORS as error:
        raise InputError(
            f"The baseline of the run in {run.folder} is not one that modgap fitted ({first_line(error)}). It was "
            "changed after modgap train wrote it. Restore it, or train the model again."
        ) from error
