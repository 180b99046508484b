"""Errors of a line of a history: short and whole fine-tunings of a source on few labeled samples of a target.

Every line that ships with modgap was measured in this way, and so is every line that `modgap history build` adds, which
is why they can be pooled. Only what is said of settings here decides the errors: the labeled samples, their halves, the
rates, the epochs and the seeds. What pilots of a ranking do may change, and this may not.
"""

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import fmean

import numpy as np

from modgap.errors import InputError
from modgap.forward.sample_request import SampleRequest
from modgap.models import TargetModel
from modgap.process.log_messages import only_messages_from
from modgap.ranking.history.lines import (
    CONTROL,
    OBSERVED,
    PILOT_OF_RATES,
    TRAINED,
    VARIABLES,
    HistoryLine,
    Setup,
    pilot_variable,
)
from modgap.ranking.source_patterns import split_input_size, with_input_size
from modgap.sources import Source, control_name, open_source
from modgap.storage.cache import cache_key
from modgap.targets import Target, TargetRequest, open_target
from modgap.targets.splits import stratified_subset
from modgap.training.evaluation import Evaluator
from modgap.training.loop import NotFiniteError
from modgap.training.pilot import labeled_halves
from modgap.training.train import Watch, train_in_memory
from modgap.training.train_request import TrainRequest
from modgap.training.training_data import TargetData, read_target_data

LABELED = 128
"""Largest number of labeled samples, drawn from the training split."""
MOST_TESTED = 5000
"""Largest number of test samples, which are taken at equal distances from the test split."""
RATES = (5e-4, 1e-4, 2.5e-3)
"""Learning rates; of equal errors the first counts."""
MIDDLE_RATE = RATES[0]
EPOCHS = (1, 3, 10)
"""Epochs of one run whose errors are read."""
ONE_SEED = ("ppocr",)
"""Sources that train on all labeled samples with one seed in place of two; this one takes half of the whole time."""
SETTINGS = ("stage2.warmup_epochs=1", "stage2.batch_size=16", "stage2.choose=last")
TEXT_SETTINGS = ("target_sequence_length=32",)
"""Series and images enter sources of text as few tokens, because a run at full length takes ten times as long."""
FAILED = 100.0
"""Error in percent of a training whose loss became infinite."""
HALF, ALL, CONTROLS = "half", "all", "control"
FEW = 16
"""Samples of a target on which the speed of a source is measured."""


@dataclass(frozen=True)
class Training:
    """One fine-tuning of a source on a target.

    Attributes:
        part: `half` trains on one half of the labeled samples and judges on the other; `all` trains on all of them and
            tests; `control` does so with random weights.
        source: Name of the source, of a control with its prefix.
        target: Name of the target.
        seed: Seed of everything random.
        rate: Learning rate.
    """

    part: str
    source: str
    target: str
    seed: int = 0
    rate: float = 0.0

    @property
    def name(self) -> str:
        """Name of the training in messages."""
        parts = (self.part, self.source, self.target, str(self.seed), f"{self.rate:g}" if self.rate else "")
        return " ".join(filter(None, parts))


@dataclass(frozen=True)
class TrainingErrors:
    """Errors of a training.

    Attributes:
        errors: Error in percent after each of `EPOCHS`.
        trained: Number of samples that it was trained on.
        judged: Number of samples on which the errors were measured.
        seconds: Seconds that it took on one core, with loading.
    """

    errors: Mapping[int, float]
    trained: int
    judged: int
    seconds: float = field(compare=False)

    @property
    def last(self) -> float:
        """Error in percent after the last epoch."""
        return self.errors[EPOCHS[-1]]


# Trainings


def n_seeds(source: str) -> int:
    """Return with how many seeds a source trains on all labeled samples."""
    return 1 if source in ONE_SEED else 2


def trainings(source: str, target: str, rate: float | None) -> list[Training]:
    """Return the trainings of a line; those on all labeled samples are missing as long as their rate is not known.

    Args:
        source: Name of the source.
        target: Name of the target.
        rate: The rate that `best_rate` returns.
    """
    halves = [Training(HALF, source, target, 0, one) for one in RATES]
    whole = [] if rate is None else [Training(ALL, source, target, seed, rate) for seed in range(n_seeds(source))]
    return [*halves, *whole, Training(CONTROLS, control_name(source), target, 0, MIDDLE_RATE)]


def best_rate(errors: Mapping[float, float]) -> float | None:
    """Return the rate with the lowest error on the other half of the samples; None before all rates have one."""
    is_complete = all(rate in errors for rate in RATES)
    return min(RATES, key=lambda rate: errors[rate]) if is_complete else None


def line_of_trainings(line: HistoryLine, results: Mapping[Training, TrainingErrors], size: int | None) -> HistoryLine:
    """Return a line with the errors of the trainings that are finished; the others are missing.

    Args:
        line: Source, target and checksums.
        results: Errors by training; those of other sources and targets do not count.
        size: Height and width of the source's input in pixels; None for its default.
    """
    name = with_input_size(line.source, size)
    halves = {rate: results.get(Training(HALF, name, line.target, 0, rate)) for rate in RATES}
    finished = {rate: half for rate, half in halves.items() if half}
    rate = best_rate({rate: half.last for rate, half in finished.items()})
    planned = trainings(name, line.target, rate)
    whole = [results.get(one) for one in planned if one.part == ALL]
    tested = [one for one in whole if one] if whole and all(whole) else []
    control, middle = results.get(planned[-1]), halves[MIDDLE_RATE]
    # Percents, samples and seconds. A pilot of fewer epochs takes its share of the whole training.
    values: dict[str, tuple[float, int, float]] = {}
    if tested:
        values[TRAINED] = fmean(one.last for one in tested), tested[0].judged, fmean(one.seconds for one in tested)
    if control:
        values[CONTROL] = control.last, control.judged, control.seconds
    if middle:
        for epochs, error in middle.errors.items():
            values[pilot_variable(epochs)] = error, middle.judged, middle.seconds * epochs / EPOCHS[-1]
    if rate is not None:
        best, seconds = finished[rate], sum(half.seconds for half in finished.values())
        values[PILOT_OF_RATES] = best.last, best.judged, seconds
    measured = [name for name in VARIABLES if name in values]
    return replace(
        line,
        setup=Setup(LABELED, EPOCHS[-1], RATES, size),
        errors={name: round(values[name][0] / 100, 6) for name in measured},
        held_out={name: values[name][1] for name in measured},
        seconds={name: round(values[name][2], 2) for name in (*OBSERVED, CONTROL, TRAINED) if name in values},
    )


# The training


def read_labeled(target: str) -> TargetData:
    """Return a target with at most 128 training samples and at most 5,000 test samples.

    Raises:
        InputError: If it cannot be read, or has no classes.
    """
    return _read_labeled(target, cache_key(open_target(target).fingerprint))


@lru_cache(maxsize=1)
def _read_labeled(target: str, _fingerprint: str) -> TargetData:
    opened = open_target(target)
    test = read_target_data(opened).test
    if len(test) > MOST_TESTED:
        test = test[np.linspace(0, len(test) - 1, MOST_TESTED).astype(np.int64)]
    data = _few_labeled(opened)
    data = replace(data, test=test)
    if data.output.task != "classification":
        raise InputError(f"A history needs one class for each sample, and {opened.name} has other labels.")
    return data


def _few_labeled(opened: Target) -> TargetData:
    """Return a target with at most 128 labeled samples, of as many classes as fit if there are more classes."""
    data = read_target_data(opened)
    if data.output.task != "classification" or data.output.shape[0] <= LABELED:
        return read_target_data(opened, limit=LABELED)
    labels = np.asarray(data.table.class_labels)

    def few(rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows[stratified_subset(labels[rows], LABELED, 0, every_class=False)])

    return replace(data, train=few(data.train), validation=few(data.validation))


def measure_errors(training: Training, device: str = "auto") -> TrainingErrors:
    """Do a training.

    Args:
        training: The training.
        device: Device to train on.

    Raises:
        InputError: If the target has no classes, or if it cannot be trained on from this source.
    """
    began = time.perf_counter()
    data = read_labeled(training.target)
    if training.part == HALF:
        data = labeled_halves(data)
    errors: dict[int, float] = {}

    def watch(epoch: int, model: TargetModel, evaluator: Evaluator) -> None:
        errors[epoch] = evaluator.error(model, data.test)

    try:
        _train(training, _load(training.source), data, EPOCHS, watch, device)
    except NotFiniteError:
        errors = {epoch: errors.get(epoch, FAILED) for epoch in EPOCHS}
    return TrainingErrors(errors, len(data.train), len(data.test), round(time.perf_counter() - began, 1))


def measure_speed(source: str, target: str, device: str = "auto") -> float:
    """Return about how many seconds a training on all labeled samples takes here, from two epochs of 16 of them.

    Args:
        source: Name of the source.
        target: Name of the target.
        device: Device to train on.

    Raises:
        InputError: As for `measure_errors`.
    """
    began = time.perf_counter()
    data, loaded = read_labeled(target), _load(source)
    loading = time.perf_counter() - began
    few = replace(data, train=data.train[:FEW], test=data.test[:FEW])
    times: list[float] = []

    def watch(_epoch: int, model: TargetModel, evaluator: Evaluator) -> None:
        times.append(time.perf_counter())
        evaluator.error(model, few.test)
        times.append(time.perf_counter())

    _train(Training(ALL, source, target, 0, MIDDLE_RATE), loaded, few, (1, 2), watch, device)
    # The first epoch also prepares what later ones use.
    _, evaluated, trained, tested = times
    update, test = (trained - evaluated) / len(few.train), (tested - trained) / len(few.test)
    return loading + EPOCHS[-1] * len(data.train) * update + len(EPOCHS) * len(data.test) * test


def _load(source: str) -> Source:
    name, size = split_input_size(source)
    return open_source(name).load(size, head=False)


def _train(
    training: Training, source: Source, data: TargetData, epochs: Collection[int], watch: Watch, device: str
) -> None:
    name, size = split_input_size(training.source)
    last = max(epochs)
    settings = [
        f"stage2.epochs={last}",
        f"stage2.decay_epochs={last}",
        *SETTINGS,
        f"stage2.learning_rate={training.rate}",
    ]
    if source.input.kind == "text" and data.target.manifest.input.kind != "text":
        settings += TEXT_SETTINGS
    # The validation samples choose nothing, since the last epoch counts, and a few save time.
    data = replace(data, validation=data.validation[:1])
    samples = SampleRequest(seed=training.seed, input_size=size, device=device)
    request = TrainRequest("finetune", name, TargetRequest(training.target), tuple(settings), samples=samples)
    with only_messages_from(logging.WARNING):
        train_in_memory(request, source, data, epochs, watch)
