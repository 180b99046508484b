"""A short fine-tuning on one half of some labeled samples, judged on the other half."""

from dataclasses import dataclass, replace

import numpy as np

from modgap.errors import InputError
from modgap.forward.sample_request import SampleRequest
from modgap.label_space import label_space
from modgap.models import TargetModel
from modgap.probes.folds import stratified_folds
from modgap.sources import Source
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.weights import choose_weighting, entry_weights
from modgap.targets import Target
from modgap.transfer.evaluation import Evaluator
from modgap.transfer.loop import NotFiniteError
from modgap.transfer.memory_training import train_in_memory
from modgap.transfer.metrics import metric
from modgap.transfer.train_request import TrainRequest
from modgap.transfer.training_data import TargetData, read_target_data

__all__ = [
    "PILOT_EPOCHS",
    "PILOT_RATES",
    "PILOT_SAMPLES",
    "SETTINGS",
    "TEXT_SETTINGS",
    "PilotErrors",
    "labeled_halves",
    "labeled_weights",
    "pilot_halves",
    "sample_errors",
    "short_fine_tuning",
]

PILOT_SAMPLES = 256
"""Largest number of labeled samples, one half of which trains."""
PILOT_EPOCHS = 10
PILOT_RATES = (0.0005, 0.0001, 0.0025)
"""Learning rates, each of which trains once. Of equally good ones the first counts."""
SETTINGS = (
    f"stage2.epochs={PILOT_EPOCHS}",
    f"stage2.decay_epochs={PILOT_EPOCHS}",
    "stage2.warmup_epochs=1",
    "stage2.batch_size=16",
    "stage2.choose=last",
)
"""Settings of the pilot at three rates of docs/protocol.md."""
TEXT_SETTINGS = ("target_sequence_length=32",)
"""Settings of sources of text, in which other samples are short texts, because their time grows with their length."""


@dataclass(frozen=True)
class PilotErrors:
    """Errors of a source after a short fine-tuning.

    Attributes:
        errors: 0-1 error of each sample that judges, at the learning rate with the lowest mean error. It is 1 if the
            loss became NaN or infinite at every rate.
        trained: Number of samples that the source was fine-tuned on.
        rate: This learning rate. NaN for nearest neighbors of raw values, which have none.
    """

    errors: SampleErrors
    trained: int
    rate: float


def labeled_halves(data: TargetData, seed: int = 0) -> TargetData:
    """Return the target with one half of the labeled samples to train on, and the other to judge by; groups stay whole.

    The transform is fitted on all labeled samples, whose labels it does not use.

    Args:
        data: The target, with the labeled samples as its training samples.
        seed: Seed of the halves, which are stratified by class.
    """
    rows = data.train
    groups = None if data.groups is None else data.groups[rows]
    folds = stratified_folds(np.asarray(data.table.class_labels)[rows], groups, seed, 2)
    return replace(data, train=rows[folds == 0], validation=rows[folds == 1], test=rows[folds == 1])


def pilot_halves(target: Target, seed: int) -> TargetData:
    """Return the halves of at most 256 training samples of a target: those that train, and those that judge.

    Args:
        target: The target.
        seed: Seed of the samples and of the halves.

    Raises:
        InputError: If the target has no classes.
    """
    data = read_target_data(target, limit=PILOT_SAMPLES, seed=seed)
    if data.output.task != "classification":
        raise InputError(f"A short fine-tuning needs one class for each sample, and {target.name} has other labels.")
    return labeled_halves(data, seed)


def short_fine_tuning(
    name: str, source: Source, target: Target, seed: int, *, device: str = "auto", weight: str | None = None
) -> PilotErrors:
    """Fine-tune all weights of a source on one half of at most 256 training samples, and judge it on the other half.

    The last of ten epochs counts, at the best of three learning rates. Every source is flattered by this choice alike:
    two sources of equal errors differ significantly in fewer than 5 % of the cases (simulated in
    `tests/test_pilot.py`).

    Args:
        name: Name of the source.
        source: The source, loaded without its head.
        target: The target.
        seed: Seed of the samples, of the halves and of everything random in the training.
        device: Device to train on.
        weight: What counts equally in the error: `samples`, `groups` or `classes`. None for groups where there are
            groups, else samples.

    Returns:
        Errors of the samples of the other half. With the same seed they are the same samples for every source.

    Raises:
        InputError: If the target has no classes, or if it cannot be trained on from this source.
        UsageError: If the weight is unknown.
    """
    halves = pilot_halves(target, seed)
    # The validation samples choose nothing, since the last epoch counts.
    halves = replace(halves, validation=halves.validation[:1])
    settings = (*SETTINGS, *(TEXT_SETTINGS if source.input.kind == "text" else ()))
    by_rate = {}
    for rate in PILOT_RATES:
        overrides = (*settings, f"stage2.learning_rate={rate}")
        request = TrainRequest(
            "finetune", name, target.name, overrides, samples=SampleRequest(seed=seed, device=device)
        )
        by_rate[rate] = sample_errors(_errors_after_training(request, source, halves), halves, seed, weight)
    best = min(by_rate, key=lambda rate: float(by_rate[rate].averages[0]))
    return PilotErrors(by_rate[best], len(halves.train), best)


def _errors_after_training(request: TrainRequest, source: Source, data: TargetData) -> np.ndarray:
    """Return the 0-1 error of each test sample after the last epoch; 1 if the loss became NaN or infinite."""
    found: list[np.ndarray] = []

    def watch(_epoch: int, model: TargetModel, evaluator: Evaluator) -> None:
        per_sample = evaluator.metric(model, data.test, metric("0-1 error %")).per_sample
        assert per_sample is not None
        found.append(per_sample / 100)

    try:
        train_in_memory(request, source, data, [PILOT_EPOCHS], watch)
    except NotFiniteError:
        found.append(np.ones(len(data.test)))
    return found[0]


def labeled_weights(data: TargetData, rows: np.ndarray, weight: str | None) -> np.ndarray:
    """Return the weight of each of some samples in their mean error, with sum 1.

    Args:
        data: The target.
        rows: Numbers of the samples, (n,).
        weight: What counts equally, as in `short_fine_tuning`.

    Raises:
        UsageError: If the weight is unknown.
    """
    return _weighted_samples(data, rows, weight)[0]


def _weighted_samples(
    data: TargetData, rows: np.ndarray, weight: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return weights, independent units, and the classes if these count equally, of some samples."""
    space = label_space(np.unique(np.asarray(data.table.class_labels)[rows], return_inverse=True)[1])
    groups = None if data.groups is None else np.unique(data.groups[rows], return_inverse=True)[1].ravel()
    weighting = choose_weighting(weight, groups)
    units = np.arange(len(rows)) if groups is None else groups
    return entry_weights(space, groups, weighting), units, space.labels if weighting == "classes" else None


def sample_errors(errors: np.ndarray, data: TargetData, seed: int, weight: str | None) -> SampleErrors:
    """Return errors of the samples that judge, with their weights.

    Args:
        errors: 0-1 error of each of these samples, (m,).
        data: The target with its halves.
        seed: Seed of the intervals.
        weight: What counts equally, as in `short_fine_tuning`.

    Raises:
        UsageError: If the weight is unknown.
    """
    weights, units, strata = _weighted_samples(data, data.test, weight)
    return SampleErrors(errors, weights, units, np.array([errors @ weights]), strata, seed)
