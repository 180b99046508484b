"""A short fine-tuning on one half of some labeled samples, judged on the other half."""

import contextlib
from dataclasses import dataclass, replace

import numpy as np

from modgap.errors import InputError
from modgap.forward.sample_request import SampleRequest
from modgap.labels.label_space import label_space
from modgap.models import TargetModel
from modgap.probes.folds import stratified_folds
from modgap.sources import Input, Source
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.weights import choose_weighting, entry_weights
from modgap.targets import Target, TargetRequest
from modgap.targets.manifest import InputSpec
from modgap.training.evaluation import Evaluator
from modgap.training.loop import NotFiniteError
from modgap.training.metrics import metric
from modgap.training.train import train_in_memory
from modgap.training.train_request import TrainRequest
from modgap.training.training_data import TargetData, read_target_data

PILOT_SAMPLES = 256
"""Largest number of labeled samples, one half of which trains."""
PILOT_EPOCHS = 10
PILOT_RATES = (0.0005, 0.0001, 0.0025)
"""Learning rates, each of which trains once. Of equally good ones the first counts."""
PILOT_SEEDS = 3
"""Trainings at the best rate, whose spread is a part of each interval and comparison."""
BATCHES = "stage2.batch_size=16"
SETTINGS = (f"stage2.decay_epochs={PILOT_EPOCHS}", "stage2.warmup_epochs=1", BATCHES, "stage2.choose=last")
"""Settings of pilots besides their epochs and rates; those of the recorded fine-tunings of `benchmarks/truth`."""
TEXT_SETTINGS = ("target_sequence_length=32",)
"""Settings of sources of text, in which other samples are short texts, because their time grows with their length."""


def text_settings(source_input: Input, spec: InputSpec) -> tuple[str, ...]:
    """Return the settings of a training with samples that are short texts for a source of text, and else none."""
    return TEXT_SETTINGS if source_input.kind == "text" and spec.kind != "text" else ()


@dataclass(frozen=True)
class PilotErrors:
    """Errors of a source after short fine-tunings.

    Attributes:
        errors: 0-1 error of each sample that judges, at the learning rate with the lowest mean error, as the mean over
            the trainings at this rate. It is 1 for a training whose loss became NaN or infinite.
        trained: Number of samples that the source was fine-tuned on.
        by_training: Mean error of each of these trainings, which differ in their seeds alone, (n,). One number for
            baselines, which are fitted once.
        settings: Settings that a longer training should share, as KEY=VALUE: learning rate, size of the batches, and
            length of the samples for a source of text. Empty for baselines.
        seconds: Seconds that all of this took where it was computed; 0 where it is not known.
        labeled: Number of labeled samples, of which one half trained; 0 for baselines.
    """

    errors: SampleErrors
    trained: int
    by_training: np.ndarray
    settings: tuple[str, ...] = ()
    seconds: float = 0.0
    labeled: int = 0

    @property
    def training_variance(self) -> tuple[float, float]:
        """Variance of the mean error from the randomness of the trainings, and the degrees of freedom of it."""
        n_trainings = len(self.by_training)
        if n_trainings == 1:
            return 0.0, np.inf
        return float(self.by_training.var(ddof=1)) / n_trainings, n_trainings - 1


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


def pilot_halves(target: Target, seed: int, *, standardized: bool = True) -> TargetData:
    """Return the samples of a short fine-tuning: one half of at most 256 training samples trains.

    The other half judges, and so do the validation samples, at most 256; no score sees them with the default split.

    Args:
        target: The target.
        seed: Seed of the samples and of the halves.
        standardized: False for models that read samples as they are.

    Raises:
        InputError: If the target has no classes.
    """
    data = read_target_data(target, limit=PILOT_SAMPLES, seed=seed, standardized=standardized)
    if data.output.task != "classification":
        raise InputError(f"A short fine-tuning needs one class for each sample, and {target.name} has other labels.")
    halves = labeled_halves(data, seed)
    return replace(halves, test=np.concatenate([halves.test, data.validation]))


def short_fine_tuning(
    name: str,
    source: Source,
    target: Target,
    seed: int,
    *,
    device: str = "auto",
    weight: str | None = None,
) -> PilotErrors:
    """Fine-tune all weights of a source on one half of at most 256 training samples, and judge it on other samples.

    The last of ten epochs counts, at the best of three learning rates, with which the source is trained with two more
    seeds. Every source is flattered by this choice alike: of sources that are no better than their controls,
    fewer than 5 % are significantly better, whatever the spread between trainings is (simulated in
    `tests/test_pilot.py`).

    Args:
        name: Name of the source.
        source: The source, loaded without its head.
        target: The target.
        seed: Seed of the samples, of the halves and of everything random in the first training. The others have the
            next seeds.
        device: Device to train on.
        weight: What counts equally in the error: `samples`, `groups` or `classes`. None for groups where there are
            groups, else samples.

    Returns:
        Errors of the samples that judge. With the same seed they are the same samples for every source.

    Raises:
        InputError: If the target has no classes, or if it cannot be trained on from this source.
        UsageError: If the weight is unknown.
    """
    halves = pilot_halves(target, seed)
    n_labeled = len(halves.train) + len(halves.validation)
    # The validation samples choose nothing, since the last epoch counts.
    halves = replace(halves, validation=halves.validation[:1])
    more = text_settings(source.input, target.manifest.input)

    def train(rate: float, training_seed: int) -> np.ndarray:
        overrides = (f"stage2.epochs={PILOT_EPOCHS}", *SETTINGS, *more, f"stage2.learning_rate={rate}")
        samples = SampleRequest(seed=training_seed, device=device)
        request = TrainRequest("finetune", name, TargetRequest(target.name), overrides, samples=samples)
        # A training whose loss became NaN or infinite has no last epoch.
        errors = np.ones(len(halves.test))

        def watch(_epoch: int, model: TargetModel, evaluator: Evaluator) -> None:
            nonlocal errors
            per_sample = evaluator.metric(model, halves.test, metric("0-1 error %")).per_sample
            assert per_sample is not None
            errors = per_sample / 100

        with contextlib.suppress(NotFiniteError):
            train_in_memory(request, source, halves, [PILOT_EPOCHS], watch)
        return errors

    weights, _, _ = _weighted_samples(halves, halves.test, weight)
    by_rate = {rate: train(rate, seed) for rate in PILOT_RATES}
    best = min(by_rate, key=lambda rate: float(by_rate[rate] @ weights))
    trainings = np.stack([by_rate[best], *(train(best, seed + number) for number in range(1, PILOT_SEEDS))])
    errors = sample_errors(trainings.mean(axis=0), halves, seed, weight)
    # Sums of weights can exceed 1 by a rounding error.
    by_training = np.clip(trainings @ weights, 0, 1)
    settings = (f"stage2.learning_rate={best}", BATCHES, *more)
    return PilotErrors(errors, len(halves.train), by_training, settings, labeled=n_labeled)


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
