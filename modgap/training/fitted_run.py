"""Runs of models that are fitted and not trained: baselines of the target's own field, and linear probes of sources."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modgap.baselines import baseline_names, get_baseline
from modgap.baselines.baseline import (
    QUICK_SECONDS,
    Baseline,
    FittedBaseline,
    SampleForm,
    Truth,
    fit_baseline,
    quick_baselines,
    restore_baseline,
)
from modgap.errors import InputError, Progress, UsageError
from modgap.sources import Source, source_infos
from modgap.storage.json_records import plain_values
from modgap.targets.samples import SelectedSamples
from modgap.training.checkpoint import write_tensors
from modgap.training.constant import compare_with_constant
from modgap.training.evaluation import evaluate_metric, write_sample_errors
from modgap.training.linear_probe import ALL, LINEAR_PROBE, SideBySide, probe_to_train, probes_of, restore_probe
from modgap.training.metrics import Metric, task_metric
from modgap.training.native_inputs import NativeTransform, text_input
from modgap.training.placement import current_processes
from modgap.training.run_folder import (
    RECORD,
    WEIGHTS,
    Run,
    exclusive_run,
    finish_run,
    open_run,
    prepare_run,
    reading_record,
    write_record,
)
from modgap.training.train_request import TrainRequest, settings_record
from modgap.training.trained_inputs import TrainedInputs, write_inputs
from modgap.training.training_data import TargetData, classes_without_samples, is_table, read_target_data

BASELINE = "baseline"
"""Name of the method, alone for the best baseline, or followed by a colon and the name of one."""
FEW = 500
"""Training samples on which the probes of all sources are compared, if there are more."""
FINALISTS = 3
"""Number of those probes that are then compared on all training samples."""

log = logging.getLogger("modgap")


def is_baseline(method: str) -> bool:
    """Return True if a method is a baseline, such as `baseline` and `baseline:extra-trees`."""
    return method.partition(":")[0] == BASELINE


def is_fitted(method: str) -> bool:
    """Return True if a method fits a model without epochs: a baseline, or a linear probe."""
    return is_baseline(method) or method == LINEAR_PROBE


def train_fitted(request: TrainRequest, folder: Path, *, resume: bool = False, progress: Progress | None = None) -> Run:
    """Fit a baseline or a linear probe to a target, test it once, and write the results to a folder.

    The method `baseline` fits all that suit the target and takes the one with the lowest cross-validated error, of
    equally good ones the simplest; `baseline:NAME` fits one. The method `linear-probe` fits a linear model to the
    features of a source, or of several side by side; of all sources and their controls it takes the one with the lowest
    cross-validated error. With more than 500 training samples, all are compared on 500 of them, and the best three on
    all. The validation samples choose nothing.

    Args:
        request: What to fit. It has no settings, and a baseline no source, weights and input size.
        folder: Folder of the run, as for `modgap.training.train.train`.
        resume: Go on with an interrupted run, which begins again.
        progress: Callback that is called with a name and the share of the work done since the last call.

    Raises:
        UsageError: When the request is invalid.
        InputError: When data is missing, nothing suits it, or a library is missing.
    """
    _refuse_settings(request)
    with exclusive_run(folder, resume=resume):
        began = time.perf_counter()
        data = _read(request)
        if is_baseline(request.method):
            candidates = _baselines(request, data)
        else:
            candidates = probes_of(request.source, data, request.samples, request.weights)
            # A source that cannot be used is named before anything is written. Others are opened one by one.
            candidates = candidates if request.source == ALL else list(candidates)
        settings = settings_record(request, data)
        settings["provenance"]["source"] = _provenance(candidates, folder)
        run = prepare_run(folder, settings, resume=resume)
        if run.finished:
            return run
        write_record(run.folder, run.record)
        fitted, compared = _fit_best(candidates, data, request, progress)
        return _write_result(run, request, data, fitted, compared, time.perf_counter() - began)


def _read(request: TrainRequest) -> TargetData:
    """Read the target of a request without standardization."""
    target, samples = request.target.open(), request.samples
    return read_target_data(
        target, protocol=request.protocol, limit=samples.limit, seed=samples.seed, standardized=False
    )


def _refuse_settings(request: TrainRequest) -> None:
    """Raise if a field of a request is set that makes no sense, or is missing, or there are several processes."""
    if current_processes(request.samples.device).size > 1:
        raise UsageError("Baselines and linear probes are fitted in one process. Start it without torchrun.")
    if request.overrides:
        raise UsageError("Baselines and linear probes have no `settings`. Leave them out, or choose another `method`.")
    arguments = {"source": request.source, "weights": request.weights, "input_size": request.samples.input_size}
    names = [name for name, value in arguments.items() if value]
    if is_baseline(request.method) and names:
        raise UsageError(
            f"A baseline is fitted without a source, and has no `{names[0]}`. Leave it out, or choose another `method`."
        )
    if not is_baseline(request.method) and not request.source:
        raise UsageError("A linear probe needs a source. Pass `source`, such as efficientnet-lite0, or all.")


def fit_source_probe(name: str, source: Source, data: TargetData, seed: int, device: str) -> FittedBaseline:
    """Fit the linear probe of a source to the training samples of a target that enter it as its own input.

    Args:
        name: Name of the source.
        source: The source, without its head.
        data: The target, see `modgap.training.native_inputs.native_data`.
        seed: Seed of the folds.
        device: Device on which the source runs.
    """
    assert isinstance(data.transform, NativeTransform)
    source = replace(source, input=text_input(data.transform) or source.input)
    probe = probe_to_train(name, source, data.transform.embedding, device)
    samples = SelectedSamples(data.table.samples, data.train)
    return fit_baseline(probe, samples, sample_form(data), true_values(data, data.train), seed)


Candidates = Iterable[tuple[str, Baseline]]
"""Name of each model that is compared, and the model."""


def _provenance(candidates: Candidates, folder: Path) -> Mapping[str, object]:
    """Return what decides the outputs of the sources of a probe; empty for a baseline, and for several probes.

    A run that a folder has keeps what it says where it does not say it before its end, as runs of earlier versions and
    the choice among several probes.
    """
    recorded = open_run(folder).record["provenance"]["source"] if (folder / RECORD).exists() else None
    probes = [one for _, one in candidates] if isinstance(candidates, list) else []
    compute = probes[0].features[0].compute if len(probes) == 1 else None
    if recorded == {} or not isinstance(compute, SideBySide):
        return dict(recorded or {})
    return compute.fingerprints()


def _baselines(request: TrainRequest, data: TargetData) -> Candidates:
    _, _, name = request.method.partition(":")
    candidates = [get_baseline(one) for one in ([name] if name else baseline_names())]
    if suitable := suitable_baselines(candidates, data, sample_form(data)):
        return [(one.name, one) for one in suitable]
    target = f"the target {data.target.name} ({data.target.manifest.input.kind} samples, {data.output.task})"
    if not name:
        raise UsageError(f"No baseline suits {target}.")
    raise UsageError(
        f"Baseline {name} does not suit {target}. Run modgap baselines for those of each kind, or pass "
        '`method="baseline"` for the best of them.'
    )


def sample_form(data: TargetData) -> SampleForm:
    """Return the form of the samples of a target that was read without standardization."""
    manifest = data.target.manifest
    return SampleForm(manifest.input, data.transform.shape, is_table(manifest))


def suitable_baselines(candidates: list[Baseline], data: TargetData, form: SampleForm) -> list[Baseline]:
    """Return those of some baselines that can be fitted to a target."""
    return [one for one in candidates if one.suits(form, data.output)]


def true_values(data: TargetData, rows: np.ndarray) -> Truth:
    """Return the truth of some samples of a target, as a baseline is fitted to it.

    Values that do not count are the mean of those that do at the same place, because few models can leave them out.
    """
    y, mask = data.ground_truth(rows)
    if mask is not None:
        counts = mask != 0
        means = np.where(counts, y, 0).sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
        y = np.where(counts, y, means).astype(y.dtype)
    return Truth(data.output, y, mask, None if data.groups is None else data.groups[rows])


def _fit_best(
    candidates: Candidates, data: TargetData, request: TrainRequest, progress: Progress | None
) -> tuple[FittedBaseline, list[dict[str, object]]]:
    """Return the fitted model with the lowest error, and name, error and seconds of all that were fitted.

    Raises:
        InputError: When a library is missing for the only one, or for all.
    """
    if missing := classes_without_samples(data):
        have = (
            "1 class has no training samples, so it is"
            if len(missing) == 1
            else (f"{len(missing):,} classes have no training samples, so they are")
        )
        log.warning("%s never predicted: %s.", have, missing[0])
    rows, seed = data.train, request.samples.seed
    in_part = request.source == ALL and len(rows) > FEW
    number = len(candidates) if isinstance(candidates, list) else 2 * len(source_infos()) + in_part * FINALISTS
    compared: list[dict[str, object]] = []

    def fit_each(candidates: Candidates, rows: np.ndarray) -> Iterator[tuple[str, Baseline, FittedBaseline]]:
        samples, truth = SelectedSamples(data.table.samples, rows), true_values(data, rows)
        for name, candidate in candidates:
            began = time.perf_counter()
            try:
                fitted = fit_baseline(candidate, samples, sample_form(data), truth, seed)
            except InputError as error:
                if isinstance(candidates, list) and number == 1:
                    raise
                log.warning("%s is left out: %s", name, error)
                continue
            finally:
                if progress:
                    progress(request.method, 1 / number)
            seconds = round(time.perf_counter() - began, 1)
            compared.append({"name": name, "error": fitted.error, "seconds": seconds, "samples": len(rows)})
            yield name, candidate, fitted

    if in_part:
        finalists: list[tuple[float, str, Baseline]] = []
        for name, candidate, fitted in fit_each(candidates, rows[true_values(data, rows).subset(FEW, seed)]):
            finalists.append((fitted.error if np.isfinite(fitted.error) else np.inf, name, candidate))
            finalists = sorted(finalists, key=itemgetter(0))[:FINALISTS]
        candidates = [(name, candidate) for _, name, candidate in finalists]
    best: FittedBaseline | None = None
    for _, _, fitted in fit_each(candidates, rows):
        # An error that is not defined is never the lowest.
        if best is None or fitted.error < best.error or np.isnan(best.error):
            best = fitted
    if best is None:
        raise InputError(f"Nothing could be fitted to {data.target.name}, for the reasons above.")
    return best, compared


def _write_result(
    run: Run,
    request: TrainRequest,
    data: TargetData,
    fitted: FittedBaseline,
    compared: list[dict[str, object]],
    seconds: float,
) -> Run:
    """Measure validation and test errors, and write the model and the result."""
    test = _metric(fitted, data, data.test)
    described, arrays = fitted.state()
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    write_inputs(run.folder, data)
    write_tensors(run.folder / WEIGHTS, tensors)
    name = f"{BASELINE}:{fitted.name}"
    sources: list[dict[str, object]] = []
    provenance = run.record["provenance"]
    if isinstance(fitted.compute, SideBySide):
        name = f"{LINEAR_PROBE} {fitted.features}"
        sources = fitted.compute.to_records()
        provenance = {**provenance, "source": plain_values(fitted.compute.fingerprints())}
    write_sample_errors(run.folder, test, data, name)
    result = plain_values(
        {
            **evaluate_metric(test, data, request.samples.seed),
            **compare_with_constant(test, data, request.samples.seed),
            "validation": _metric(fitted, data, data.validation).compute() if len(data.validation) else None,
            "epoch": None,
            "chosen_by": "lowest cross-validated error",
            "updates": 0,
        }
    )
    record = {**run.record, "provenance": provenance}
    record["fitted"] = plain_values({**described, "sources": sources, "compared": compared})
    return finish_run(run.folder, record, result, seconds)


def _metric(fitted: FittedBaseline, data: TargetData, rows: np.ndarray) -> Metric:
    metric = task_metric(data.target.manifest, data.output, data.scale, data.protocol)
    metric.update(fitted.scores(SelectedSamples(data.table.samples, rows)), *data.ground_truth(rows))
    return metric


def best_quick_baseline(request: TrainRequest) -> tuple[str, float] | None:
    """Return name and validation error of the best quick baseline of a training's target; None if none suits it.

    It is the one with the lowest cross-validated error on the training samples, and its error has the metric of the
    training. The validation samples choose nothing.

    Args:
        request: The training.

    Raises:
        InputError: When data is missing.
    """
    data = _read(request)
    form = sample_form(data)
    suitable = suitable_baselines([get_baseline(name) for name in baseline_names()], data, form)
    candidates = [(one.name, one) for one in quick_baselines(suitable, form, len(data.train), QUICK_SECONDS)]
    if not candidates:
        return None
    fitted, _ = _fit_best(candidates, data, request, None)
    error = _metric(fitted, data, data.validation).compute()
    return (fitted.name, error) if np.isfinite(error) else None


def read_fitted(
    run: Run, tensors: Mapping[str, Tensor], inputs: TrainedInputs, device: str = "auto", weights: str | None = None
) -> FittedBaseline:
    """Return the fitted model of a run, after checks of everything that was stored.

    Args:
        run: The run.
        tensors: Arrays of the model, by name.
        inputs: Preparation of the samples.
        device: Device on which the source of a probe runs.
        weights: File or folder with the weights of the source of a probe.

    Raises:
        InputError: When the run was changed, its baseline is not installed, or the source of a probe is not on this
            machine or has other weights.
    """
    described = run.record.get("fitted")
    if not isinstance(described, Mapping):
        raise InputError(f"The run in {run.folder} has no model. Repeat its command with `resume=True` first.")
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    spec = inputs.inputs.spec
    with reading_record(f"The model of the run in {run.folder} is not one that modgap fitted"):
        if tuple(described["shape"]) != inputs.inputs.shape:
            raise ValueError(f"its samples have the shape {described['shape']}, and the run's {inputs.inputs.shape}")
        if is_baseline(run.record["method"]):
            baseline = get_baseline(str(described.get("name")))
        else:
            baseline = restore_probe(described["sources"], spec, device, weights)
        return restore_baseline(baseline, described, arrays, spec, inputs.output)
