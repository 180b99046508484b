"""The jobs of the table of models: baselines and linear probes, fitted to the same labeled samples of a target."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from result_log import ResultLog

from evidence.ranking_jobs import DEVELOPMENT, LABELED, TEST
from modgap.baselines import baseline_names, get_baseline
from modgap.baselines.baseline import Baseline, Features, FittedBaseline, SampleForm, fit_baseline
from modgap.errors import InputError
from modgap.forward.features import sample_features
from modgap.forward.sample_request import SampleRequest
from modgap.sources import control_name
from modgap.targets import open_target
from modgap.targets.samples import SelectedSamples
from modgap.targets.splits import stratification_labels, stratified_subset
from modgap.training.fitted_run import sample_form, suitable_baselines, true_values
from modgap.training.linear_probe import linear_probe, open_probed_sources
from modgap.training.training_data import TargetData, is_table, read_target_data

TARGETS = [
    "acsf1",
    "arrowhead",
    "basic-motions",
    "breast-cancer",
    "burgers-16",
    "cardano-sentiment",
    "cells",
    "covid-3month",
    "covid-3month-levels",
    "darcy-16",
    "diabetes",
    "digits",
    "fonts",
    "freesolv",
    "gasoline",
    "glyphs",
    "gunpoint",
    "italy-power",
    "japanese-vowels",
    "leaf-flavia",
    "meats",
    "mnist5k",
    "musk",
    "ner-tweets",
    "notes",
    "olive-oils",
    "osu-leaf",
    "pd-speech",
    "pickup-gesture",
    "promoter-genes",
    "solubility",
    "spam",
    "spoken-digits",
    "spoken-languages",
    "tissue-genes",
    "wine",
]
"""Targets that ordinary packages bring. Fashion-MNIST is left out, since a source was trained on it."""
SOURCES = [
    "crepe",
    "crepe-tiny",
    "eeg-seizure",
    "efficientnet-lite0",
    "efficientnet-lite1",
    "efficientnet-lite2",
    "minilm",
    "musicnn",
    "musicnn-msd",
    "ppocr",
    "resemblyzer",
    "rxnfp",
    "silero-vad",
    "vit-fashion",
]
"""Sources whose weights packages brought when the jobs were planned."""
FINE_TUNED = frozenset((*DEVELOPMENT, *TEST))
"""Targets with errors after fine-tuning of 128 labeled samples; controls are fitted to these alone."""
ALL_CONTROLS = "all"
"""Model of a job that fits the probes of all controls, and tests the one with the lowest cross-validated error."""
SIZES = (LABELED, 512)
MOST_TESTED = 1100
"""Largest number of test samples."""
PARTS = ("baseline", "probe", "control")
N_FOLDS = 5


@dataclass(frozen=True)
class Design:
    """Targets, sources and numbers of samples that one edition compares.

    Attributes:
        targets: Names of the targets.
        sources: Names of the sources whose features are probed.
        sizes: Numbers of labeled samples; the controls have 128.
        most_tested: Largest number of test samples.
        controlled: Names of the targets on which controls are fitted.
        all_folds: True to compare the settings of all models on five folds, also of those that modgap compares on
            fewer for their time.
    """

    targets: Sequence[str]
    sources: Sequence[str]
    sizes: tuple[int, ...] = SIZES
    most_tested: int = MOST_TESTED
    controlled: Collection[str] = FINE_TUNED
    all_folds: bool = False


SECOND_EDITION = Design(tuple(TARGETS), tuple(SOURCES))


@dataclass(frozen=True)
class Job:
    """One baseline, the linear probe of one source, or the best of the random-weights controls, on one target.

    Attributes:
        part: `baseline`, `probe` or `control`.
        model: Name of the baseline or of the source; `all` for the controls.
        target: Name of the target.
    """

    part: str
    model: str
    target: str

    @property
    def name(self) -> str:
        """Name of the job in messages."""
        return f"{self.part} {self.model} {self.target}"


def jobs(design: Design = SECOND_EDITION) -> Iterator[Job]:
    """Yield all jobs: the baselines, then the sources, then their controls, each target by target."""
    models = {"baseline": baseline_names(), "probe": design.sources, "control": [ALL_CONTROLS]}
    for part in PARTS:
        for target in design.targets:
            if part != "control" or target in design.controlled:
                yield from (Job(part, model, target) for model in models[part])


@lru_cache(maxsize=1)
def read_data(
    target: str, sizes: tuple[int, ...] = SIZES, most_tested: int = MOST_TESTED
) -> tuple[TargetData, dict[int, np.ndarray]]:
    """Return a target, and its labeled samples for each size: those of one split, drawn stratified by class."""
    data = read_target_data(open_target(target), standardized=False)
    labels = data.table.labels
    labeled = {}
    for size in sizes:
        strata = np.zeros(len(data.train), np.int64) if labels is None else stratification_labels(labels[data.train])
        few = size < len(data.train)
        labeled[size] = data.train[stratified_subset(strata, size, 0, every_class=False)] if few else data.train
    test = data.test[np.linspace(0, len(data.test) - 1, min(most_tested, len(data.test))).astype(np.int64)]
    return replace(data, test=test), labeled


def work(job: Job, log: ResultLog, design: Design = SECOND_EDITION) -> dict:
    """Fit a model to each number of labeled samples, append its errors and its CPU time, and return the record.

    One thread computes the features, so that jobs that run at the same time do not change the time of this one.
    """
    torch.set_num_threads(1)
    began = time.process_time()
    data, labeled = read_data(job.target, design.sizes, design.most_tested)
    form = sample_form(data)
    record: dict[str, Any] = {"kind": "table" if is_table(data.target.manifest) else data.target.manifest.input.kind}
    record |= {"task": data.output.task, "tested": len(data.test)}
    try:
        if job.part == "control":
            record |= _best_control(job, design.sources, data, labeled[LABELED], form)
        else:
            model, samples = (_baseline if job.part == "baseline" else _probe)(job, data, labeled, form)
            if design.all_folds:
                model = replace(model, predictor=replace(model.predictor, n_compared=N_FOLDS))
            record |= _errors(model, samples, data, labeled, form)
    except InputError as error:
        record |= {"errors": {}, "reason": str(error)}
    return log.add(job, {**record, "seconds": round(time.process_time() - began, 1)})


Rows = Any
"""Samples by their numbers in the target."""


def _baseline(job: Job, data: TargetData, _labeled: Any, form: SampleForm) -> tuple[Baseline, Rows]:
    if not suitable_baselines([get_baseline(job.model)], data, form):
        raise InputError(f"The baseline does not suit {job.target}.")
    return get_baseline(job.model), lambda rows: SelectedSamples(data.table.samples, rows)


def _probe(job: Job, data: TargetData, labeled: Mapping[int, np.ndarray], _form: SampleForm) -> tuple[Baseline, Rows]:
    """Return the probe of features that are computed once for all samples that it needs."""
    (source,) = open_probed_sources(job.model, data, SampleRequest())
    rows = np.unique(np.concatenate([*labeled.values(), data.test]))
    samples = SelectedSamples(data.table.samples, rows)
    features = sample_features(source.source, samples, source.embedding, device="cpu").astype(np.float64)
    looked_up = Features(job.model, lambda numbers, _form: features[np.searchsorted(rows, np.asarray(numbers))])
    return linear_probe(looked_up), list


def _best_control(
    job: Job, sources: Sequence[str], data: TargetData, labeled: np.ndarray, form: SampleForm
) -> dict[str, Any]:
    """Return the errors of the control with the lowest cross-validated error, which alone is tested."""
    validated = {}
    untested = replace(data, test=labeled[:1])
    for name in map(control_name, sources):
        try:
            model, samples = _probe(replace(job, model=name), untested, {LABELED: labeled}, form)
        except InputError:
            continue
        validated[name] = fit_baseline(model, samples(labeled), form, true_values(data, labeled)).error
    if not validated:
        raise InputError(f"No control reads {job.target}.")
    best = replace(job, model=min(validated, key=lambda name: validated[name]))
    errors = _errors(*_probe(best, data, {LABELED: labeled}, form), data, {LABELED: labeled}, form)
    return {**errors, "compared": validated}


def _errors(
    model: Baseline, samples: Rows, data: TargetData, labeled: Mapping[int, np.ndarray], form: SampleForm
) -> dict[str, Any]:
    """Return the cross-validated and the test errors of a model by the number of labeled samples.

    Raises:
        InputError: When the model cannot be fitted to any of them, such as too few of each class.
    """
    errors: dict[str, Any] = {name: {} for name in ("samples", "validated", "errors", "settings", "by_sample")}
    for size, rows in labeled.items():
        try:
            fitted = fit_baseline(model, samples(rows), form, true_values(data, rows))
        except InputError:
            if size == max(labeled):
                raise
            continue
        error, by_sample = _test_error(fitted, samples(data.test), data)
        described = (len(rows), fitted.error, error, f"{fitted.features}, {fitted.setting}", by_sample)
        for of_model, value in zip(errors.values(), described, strict=True):
            of_model[str(size)] = value
    return errors


def _test_error(fitted: FittedBaseline, samples: Any, data: TargetData) -> tuple[float, Any]:
    """Return the test error in percent, and the errors of the samples.

    Of classes it is the rate of wrong ones, whose samples are bits in hexadecimal digits; of several labels 1 - mean
    average precision; of values the mean squared error as a share of their variance.
    """
    truth = true_values(data, data.test)
    scores = fitted.scores(samples).reshape(len(truth), -1)
    if data.output.task == "classification":
        wrong = scores.argmax(axis=1) != truth.y
        return float(100 * wrong.mean()), np.packbits(wrong).tobytes().hex()
    if data.output.task == "multi-label":
        return 100 * truth.error(scores), [float(f"{100 * loss:.4g}") for loss in truth.losses(scores)]
    squares = ((scores - truth.matrix) ** 2).sum(axis=1)
    variance = ((truth.matrix - truth.matrix.mean(axis=0)) ** 2).sum(axis=1).mean()
    return float(100 * squares.mean() / variance), [float(f"{100 * square / variance:.4g}") for square in squares]
