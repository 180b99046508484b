"""Steps of a race: models that are fitted to one part of the labeled samples and judged on the other."""

import functools
import hashlib
import logging
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from modgap.baselines import get_baseline
from modgap.baselines.baseline import Baseline, Features, SampleForm, Truth, held_out_scores
from modgap.baselines.predictors import constant_scores
from modgap.errors import InputError, first_line, format_duration
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import fix_threads, hold_device
from modgap.models import TargetModel
from modgap.process.log_messages import only_messages_from
from modgap.sources import ImageInput, Input, open_source
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, cache_key, cached
from modgap.storage.json_records import Record, parse_json, plain_values
from modgap.targets import Samples, TargetRequest
from modgap.targets.manifest import InputSpec
from modgap.targets.samples import ArraySamples, SelectedSamples
from modgap.training.evaluation import Evaluator
from modgap.training.fitted_run import sample_form, true_values
from modgap.training.linear_probe import LINEAR_PROBE, ProbedSource, linear_probe, open_probed_sources
from modgap.training.loop import NotFiniteError
from modgap.training.methods import get_method
from modgap.training.native_inputs import reads_native_input
from modgap.training.pilot import text_settings
from modgap.training.train import train_in_memory
from modgap.training.train_request import TrainRequest, request_recipe
from modgap.training.training_data import TargetData, check_finite, read_target_data

BASELINE, TRAINING = "baseline", "training"
"""Kinds of models besides linear probes."""
N_FOLDS = 5
"""Number of parts of the labeled samples. A step is judged on the first of them, or on the first few."""
SMALL_BATCH, LARGE_BATCH = 16, 64
SMALL = 1000
"""Number of labeled samples up to which batches are small."""
LARGEST_FILE = 1 << 26
"""Largest number of bytes of a file from which steps are read."""
OUT_OF_TIME = "It would not have ended within the time"
"""First words of the reason of a step that was given up. A repetition leaves such steps out."""
MEASURED = 8
"""Number of samples whose pass is timed, to estimate whether the pass of all samples ends within the time."""
PIECE = 512
"""Number of samples of a pass after which the clock is checked."""

log = logging.getLogger("modgap")

Name = Annotated[str, Field(min_length=1, max_length=300)]


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Step:
    """A model to fit and to judge.

    Attributes:
        method: `baseline`, `linear-probe`, or the name of a method that trains.
        name: Name of the baseline, or of the source.
        rate: Learning rate of a training; None for other models.
        epochs: Number of epochs of a training, and of its first stage too with the method `emb`; None for other models.
        labeled: Largest number of labeled samples that the step uses, both to fit and to judge; None for all.
        folds: Number of the five folds on which the model is judged, each after a fit to the four others.
    """

    method: Name
    name: Name
    rate: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = None
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    labeled: Annotated[int, Field(ge=10, le=10**9)] | None = None
    folds: Annotated[int, Field(ge=1, le=N_FOLDS)] = 1

    def __post_init__(self) -> None:
        """Raise if a training has no rate or no epochs, or another model has some."""
        is_training = self.method not in (BASELINE, LINEAR_PROBE)
        if (self.rate is None) == is_training or (self.epochs is None) == is_training:
            raise ValueError("a training has a rate and epochs, and other models have none")

    @property
    def kind(self) -> Literal["baseline", "linear-probe", "training"]:
        """Kind of the model."""
        return "baseline" if self.method == BASELINE else "linear-probe" if self.method == LINEAR_PROBE else "training"

    @property
    def title(self) -> str:
        """Name of the model in tables."""
        if self.kind != TRAINING:
            return f"{self.method} {self.name}"
        return f"{self.method} {self.name}, rate {self.rate:g}, {self.epochs} epochs"

    @property
    def model(self) -> tuple[object, ...]:
        """Method, name, rate and epochs, whatever part of the samples the model is judged on."""
        return self.method, self.name, self.rate, self.epochs


@dataclass(frozen=True)
class Outcome:
    """Result of a step.

    Attributes:
        step: The step.
        losses: Loss of each labeled sample, (n,); NaN for samples on which the model was not judged.
        seconds: Seconds that the step took.
        reason: Sentence that says why it has no losses; empty if it has.
        pass_seconds: Seconds of a pass of a sample through the source, for a linear probe; 0 if it is not known.
    """

    step: Step
    losses: np.ndarray
    seconds: float
    reason: str = ""
    pass_seconds: float = 0.0

    @property
    def is_given_up(self) -> bool:
        """True if the step was given up because of the time, and did not fail."""
        return self.reason.startswith(OUT_OF_TIME)

    @property
    def error(self) -> float:
        """Mean loss; infinity for a step that failed."""
        return float("inf") if self.reason else float(np.nanmean(self.losses))

    def to_record(self) -> dict[str, object]:
        """Return plain values."""
        rows = np.flatnonzero(np.isfinite(self.losses))
        losses = {"rows": rows.tolist(), "losses": self.losses[rows].tolist()}
        times = {"seconds": self.seconds, "pass_seconds": self.pass_seconds}
        return {"step": plain_values(asdict(self.step)), **times, "reason": self.reason, **losses}

    @classmethod
    def from_record(cls, record: Record, n_labeled: int) -> "Outcome":
        """Return the outcome that `to_record` made a record of.

        Raises:
            ValueError: When the record is not one.
        """
        rows, values = np.array(record["rows"], np.int64), np.array(record["losses"], np.float64)
        if rows.shape != values.shape or (len(rows) and not 0 <= rows.min() <= rows.max() < n_labeled):
            raise ValueError("the losses are not those of these samples")
        losses = np.full(n_labeled, np.nan)
        losses[rows] = values
        seconds, of_pass = float(record["seconds"]), float(record["pass_seconds"])
        return cls(_Step.validate_python(record["step"]), losses, seconds, str(record["reason"]), of_pass)


_Step = TypeAdapter(Step)
_Steps = TypeAdapter(list[Step])


def read_steps(path: Path, *, may_be_none: bool = False) -> list[Step]:
    """Read the steps of an earlier race from its record, or from a JSON list of steps.

    Those that were given up because of the time are left out.

    Args:
        path: The file.
        may_be_none: True for the request of a race, which need not name steps.

    Raises:
        InputError: When the file has none.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path} is larger than {LARGEST_FILE >> 20} MiB, so it has no steps.")
        record = parse_json(path.read_bytes())
        listed = record["steps"] if isinstance(record, dict) else record
        ended = [one for one in listed if not str(one.get("reason", "")).startswith(OUT_OF_TIME)]
        steps = _Steps.validate_python([one.get("step", one) for one in ended])
        if not steps and not may_be_none:
            raise InputError(f"{path} has no step that ended. Expected transfer.json of an earlier transfer.")
        return steps
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} has no steps of a transfer ({first_line(error)}). Expected transfer.json of an earlier one."
        ) from error


SUBSET_SEED = 1 << 32
"""Added to the seed of a race for the samples of steps that use a part of them."""


@dataclass(frozen=True)
class Labeled:
    """The labeled samples of a target: those of its training and validation splits.

    Attributes:
        data: The target, read without standardization.
        rows: Numbers of the labeled samples in the target, (n,), ascending.
        folds: Fold of each labeled sample, 0..4, (n,), the largest fold first. A group is never divided.
    """

    data: TargetData
    rows: np.ndarray
    folds: np.ndarray

    @property
    def form(self) -> SampleForm:
        """Form of the samples."""
        return sample_form(self.data)

    @property
    def truth(self) -> Truth:
        """Truth of the samples."""
        return true_values(self.data, self.rows)

    def subset(self, size: int | None, seed: int) -> np.ndarray:
        """Return positions of some labeled samples, ascending; stratified by class, except for regression.

        Args:
            size: Largest number of samples, except that every class keeps one; None for all.
            seed: Seed of the selection.
        """
        # With the seed of the folds, the subset would be the samples of the first folds alone.
        return np.arange(len(self.rows)) if size is None else self.truth.subset(size, seed + SUBSET_SEED)


@functools.lru_cache(maxsize=1)
def read_labeled(target: TargetRequest, limit: int | None, seed: int, fingerprint: str = "") -> Labeled:  # noqa: ARG001
    """Read the labeled samples of a target, with their folds, which are the same for every step.

    Args:
        target: The target.
        limit: Largest number of samples of each split.
        seed: Seed of the limit and of the folds.
        fingerprint: Checksum of the target's files. It is a part of the key of the last result, which is kept, so that
            changed files are read again.

    Raises:
        InputError: If all labeled samples are of one group.
    """
    data = read_target_data(target.open(), limit=limit, seed=seed, standardized=False)
    rows = np.sort(np.concatenate([data.train, data.validation]))
    # Few groups leave some of the five folds empty. The others are numbered by size, the largest first, because steps
    # are judged on the first ones.
    folds = true_values(data, rows).folds(seed)
    if data.groups is None and folds.min() == folds.max():
        # Few samples of several classes can fall into one fold.
        folds = np.arange(len(rows)) % N_FOLDS
    numbers, counts = np.unique(folds, return_counts=True)
    if len(numbers) < 2:
        raise InputError(
            f"The labeled samples of {target.name} are all of one group, so no model can be judged on others. Expected "
            "at least two groups."
        )
    _check_test_samples(data)
    order = numbers[np.argsort(-counts, kind="stable")]
    return Labeled(data, rows, np.argsort(order)[np.searchsorted(numbers, folds)])


def _check_test_samples(data: TargetData) -> None:
    """Raise if a test sample has NaN or infinite values, which would be noticed after all of the time."""
    for rows in np.array_split(data.test, -(-len(data.test) // PIECE)):
        if isinstance(data.table.samples, ArraySamples):
            for row in rows:
                check_finite(data.table.samples[int(row)], int(row))
        if data.table.targets is not None:
            data.real_values(rows)


def chance_losses(labeled: Labeled) -> np.ndarray:
    """Return the losses of the same prediction for all samples, fitted as the models of a race are, (n,).

    It is the largest class, the shares of labels, or the mean of values.
    """
    losses, truth = np.empty(len(labeled.rows)), labeled.truth
    for fold in np.unique(labeled.folds):
        test = labeled.folds == fold
        scores = np.tile(constant_scores([truth.rows(~test)]), (int(test.sum()), 1))
        losses[test] = truth.rows(test).losses(scores)
    return losses


class OutOfTimeError(Exception):
    """A step would not end within the time."""


@dataclass(frozen=True)
class _Clock:
    """The time by which a step should end.

    Attributes:
        deadline: The time, on the clock `time.time`; None for no limit.
        began: Start of the work, on the same clock.
    """

    deadline: float | None
    began: float = field(default_factory=time.time)

    def check(self, share: float) -> None:
        """Raise if the work is not expected to end within the time.

        Args:
            share: Share of the work that is done, above 0 and at most 1.
        """
        now = time.time()
        left = (now - self.began) * (1 / share - 1)
        if share < 1 and self.deadline is not None and now + left > self.deadline:
            raise OutOfTimeError(f"{OUT_OF_TIME}: it needed about {format_duration(left)} more.")


@dataclass(frozen=True)
class StepJob:
    """A step to run, perhaps in another process.

    Attributes:
        step: The step.
        target: The target, with absolute paths.
        limit: Largest number of samples of each split.
        seed: Seed of everything random.
        device: Names of the devices of which a step holds one, as for `modgap.jobs.list_devices`.
        fingerprint: Checksum of the target's files.
        deadline: Time by which the step should end, on the clock `time.time`; None for no limit. A step that is not
            expected to end by then is given up.
    """

    step: Step
    target: TargetRequest = field(compare=False)
    limit: int | None
    seed: int
    device: str = field(compare=False)
    fingerprint: str = ""
    deadline: float | None = field(default=None, compare=False)

    def __call__(self) -> Outcome:
        """Return the result of the step, or the reason why it has none."""
        fix_threads()
        began = time.perf_counter()
        with only_messages_from(logging.ERROR):  # The process that began the race has written the others.
            labeled = read_labeled(self.target, self.limit, self.seed, self.fingerprint)
        losses, reason, of_pass = np.full(len(labeled.rows), np.nan), "", 0.0
        try:
            chosen = labeled.subset(self.step.labeled, self.seed)
            with hold_device(self.device) as device:
                scores, of_pass = self._scores(labeled, chosen, device)
            judged = labeled.folds[chosen] < self.step.folds
            if not judged.any():
                reason = "None of its samples is in a fold that judges."
            elif not np.isfinite(scores[judged]).all():
                reason = "Its outputs are not finite."
            else:
                values = labeled.truth.rows(chosen[judged]).losses(scores[judged])
                losses[chosen[judged]] = [float(f"{value:.7g}") for value in values]
        except NotFiniteError:
            reason = "The loss became infinite."
        except OutOfTimeError as error:
            reason = str(error)
        except Exception as error:  # Third-party models may fail in any way, and others take part.
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {first_line(error)}"
        return Outcome(self.step, losses, round(time.perf_counter() - began, 3), reason, of_pass)

    def _scores(self, labeled: Labeled, chosen: np.ndarray, device: str) -> tuple[np.ndarray, float]:
        """Return scores (n, M) of the chosen samples, NaN for those of folds that are not judged.

        With them come the seconds of a pass of a sample, 0 if they are not known.

        Args:
            labeled: The labeled samples.
            chosen: Positions of the samples of the step among them, (n,).
            device: Name of a device.
        """
        if self.step.kind == TRAINING:
            return self._trained_scores(labeled, chosen, device), 0.0
        rows = labeled.rows[chosen]
        baseline, samples, of_pass = self._model(labeled, rows, device)
        folds = labeled.folds[chosen]
        truth = labeled.truth.rows(chosen)
        judged = [fold for fold in range(self.step.folds) if (folds == fold).any()]
        return held_out_scores(baseline, samples, labeled.form, truth, folds, judged, self.seed), of_pass

    def _model(self, labeled: Labeled, rows: np.ndarray, device: str) -> tuple[Baseline, Samples, float]:
        """Return the baseline or the linear probe, the samples in the form that it takes, and the seconds of a pass.

        A linear probe takes positions of samples, which it looks up among features that are computed here.
        """
        samples = SelectedSamples(labeled.data.table.samples, rows)
        if self.step.method == BASELINE:
            return get_baseline(self.step.name), samples, 0.0
        (source,) = open_probed_sources(self.step.name, labeled.data, SampleRequest(device=device))
        assert isinstance(source, ProbedSource)
        features, of_pass = self._features(source, samples, rows, device)
        looked_up = Features(self.step.name, lambda numbers, _form: features[np.asarray(numbers)])
        return linear_probe(looked_up), list(range(len(rows))), of_pass

    def _features(
        self, source: ProbedSource, samples: SelectedSamples, rows: np.ndarray, device: str
    ) -> tuple[np.ndarray, float]:
        """Return the features of samples, (n, D), and the seconds of a pass of one; from the cache if it has them."""

        def compute() -> tuple[np.ndarray, float]:
            few = SelectedSamples(samples, np.arange(min(MEASURED, len(samples))))
            # The first pass also loads what later ones need.
            source.values(few, device)
            measured = _Clock(self.deadline)
            source.values(few, device)
            # The pass of the few is repeated as a part of that of all.
            measured.check(len(few) / (len(few) + len(samples)))
            clock, parts = _Clock(self.deadline), []
            for first in range(0, len(samples), PIECE):
                part = np.arange(first, min(first + PIECE, len(samples)))
                parts.append(source.values(SelectedSamples(samples, part), device).astype(np.float32))
                clock.check((part[-1] + 1) / len(samples))
            return np.concatenate(parts), (time.time() - clock.began) / len(samples)

        key = {
            "source": source.to_record(),
            "target": self.fingerprint,
            "rows": hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest(),
            "timed": True,
            "algorithms": algorithm_versions("reading", "inference"),
        }
        features, of_pass = cached(
            "race_features",
            cache_key(plain_values(key)),
            compute,
            lambda found: CacheEntry({"features": found[0]}, {"pass_seconds": found[1]}),
            lambda entry: (_checked_features(entry, len(rows)), float(entry.metadata["pass_seconds"])),
        )
        return features.astype(np.float64), round(of_pass, 9)

    def _trained_scores(self, labeled: Labeled, chosen: np.ndarray, device: str) -> np.ndarray:
        """Return scores (n, M) of the chosen samples by a model that is trained once for each judged fold."""
        source = open_source(self.step.name).load(None, head=False)
        method = get_method(self.step.method)
        is_native = reads_native_input(method, labeled.data.target.manifest.input)
        size = source.input.size if isinstance(source.input, ImageInput) else None
        with only_messages_from(logging.ERROR):  # The process that began the race has written the others.
            data = _trained_data(self.target, self.limit, self.seed, size, is_native, self.fingerprint)
        rows, folds = labeled.rows[chosen], labeled.folds[chosen]
        settings = training_settings(self.step, len(rows), source.input, labeled.form.spec)
        request = TrainRequest(
            self.step.method,
            self.step.name,
            self.target,
            settings,
            samples=SampleRequest(seed=self.seed, device=device),
        )
        scores = np.full((len(rows), int(np.prod(data.output.shape))), np.nan)
        judged = np.unique(folds[folds < self.step.folds]).tolist()
        assert self.step.epochs is not None
        stages = method.stages_with_epochs(request_recipe(request, data.target))
        n_epochs, clock = len(judged) * self.step.epochs * len(stages), _Clock(self.deadline)
        epoch_numbers = iter(range(1, n_epochs + 1))
        for fold in judged:
            test = folds == fold
            # The settings choose the last epoch, so validation samples decide nothing, and one is enough.
            part = replace(data, train=rows[~test], validation=rows[test][:1], test=rows[test])
            watch = functools.partial(_keep_outputs, scores, test, part.test)
            with only_messages_from(logging.WARNING):  # The errors of epochs would be those of the one sample.
                train_in_memory(
                    request,
                    source,
                    part,
                    [self.step.epochs],
                    watch,
                    lambda _: clock.check(next(epoch_numbers, n_epochs) / n_epochs),
                )
        return scores


def _checked_features(entry: CacheEntry, n: int) -> np.ndarray:
    features: np.ndarray = entry.arrays["features"]
    if features.ndim != 2 or len(features) != n:
        raise ValueError("the features are those of other samples")
    return features


@functools.lru_cache(maxsize=1)
def _trained_data(
    target: TargetRequest,
    limit: int | None,
    seed: int,
    size: tuple[int, int] | None,
    is_native: bool,
    fingerprint: str,  # noqa: ARG001
) -> TargetData:
    return read_target_data(target.open(), limit=limit, seed=seed, size=size, standardized=not is_native)


def _keep_outputs(
    scores: np.ndarray, test: np.ndarray, rows: np.ndarray, _epoch: int, model: TargetModel, evaluator: Evaluator
) -> None:
    """Write a model's outputs for some samples of a target into the array of scores.

    Args:
        scores: Scores of the samples of the step, (n, M), which are changed.
        test: Boolean mask of the samples of the judged fold, (n,).
        rows: Numbers of these samples in the target.
        model: The model.
        evaluator: Evaluator of the training.
    """
    outputs = [batch.reshape(len(batch), -1).numpy() for _, batch in evaluator.outputs(model, rows)]
    scores[test] = np.concatenate(outputs)


def training_settings(step: Step, n_labeled: int, source_input: Input, spec: InputSpec) -> tuple[str, ...]:
    """Return the settings of the training of a step, as texts of the form KEY=VALUE.

    Args:
        step: The step.
        n_labeled: Number of labeled samples.
        source_input: Input of the source.
        spec: Description of a sample of the target.
    """
    return (
        f"stage2.epochs={step.epochs}",
        f"stage2.decay_epochs={step.epochs}",
        "stage2.warmup_epochs=1",
        f"stage2.batch_size={SMALL_BATCH if n_labeled <= SMALL else LARGE_BATCH}",
        f"stage2.learning_rate={step.rate}",
        *((f"stage1.epochs={step.epochs}", f"stage1.learning_rate={step.rate}") if step.method == "emb" else ()),
        "stage2.choose=last",
        *text_settings(source_input, spec),
    )
