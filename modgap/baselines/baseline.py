"""A model that a field uses without a pretrained one: its features, its predictor, and how they are fitted.

A baseline turns samples into scores in three steps: `Features.compute` turns each sample into values, the part that
`Features.fit` fits turns the values of all samples into features, and the part that `Predictor.fit` fits turns features
into scores. A baseline may have several alternatives of features and several settings of its predictor.
`fit_baseline` chooses among them by cross-validation and returns the `FittedBaseline`.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_matrix

from modgap.baselines.parts import Part
from modgap.errors import InputError, UsageError
from modgap.probes.folds import stratified_folds
from modgap.probes.single_thread import single_thread
from modgap.targets import Samples
from modgap.targets.manifest import InputSpec
from modgap.targets.output import Output
from modgap.targets.splits import stratification_labels, stratified_subset

TASKS = ("classification", "multi-label", "regression")
TOLERANCE = 1e-4
"""Relative and absolute difference up to which values are taken as equal."""
N_SEEDS = 1 << 32
"""Number of seeds that scikit-learn takes; of larger ones the remainder counts."""
QUICK_SECONDS = 10.0
"""Seconds that quick baselines may always take together."""
MEASURED_SAMPLES = 2000
MEASURED_SIZES = {"series": 150, "audio": 16_000}
"""Number of samples, and of values in a sample by its kind, with which the seconds of baselines were measured."""
UNKNOWN_SECONDS = 10.0
"""Seconds that are assumed for a baseline whose time was not measured."""
TIME_EXPONENT = 1.5
"""Power of the number of samples with which the time of a baseline grows."""
CHUNK = 1000
"""Number of samples whose values are in memory at a time in a prediction."""
Values: TypeAlias = np.ndarray | csr_matrix | list[str]
"""The values of n samples that `Features.compute` returns: features (n, D), arrays (n, ...), or texts."""


@dataclass(frozen=True)
class SampleForm:
    """Form of the samples of a target, which a fitted baseline keeps.

    Attributes:
        spec: Description of a sample in the manifest.
        shape: Shape of one sample, channels first; the longest series of the training samples where they differ. Empty
            for texts.
        is_table: True if the samples are rows of a table, whose columns have names and no order.
    """

    spec: InputSpec
    shape: tuple[int, ...]
    is_table: bool = False


def all_samples(samples: Samples) -> Iterator[Any]:
    """Yield the samples in their order."""
    return (samples[number] for number in range(len(samples)))


def check_sample(values: np.ndarray, form: "SampleForm", *, fits: bool) -> None:
    """Raise an InputError if a sample has another shape than those of the training, or is not finite."""
    if not fits:
        raise InputError(f"A sample has shape {values.shape}, and those of the training have {form.shape}.")
    if not np.isfinite(values).all():
        raise InputError("A sample has NaN or infinite values. Remove the sample, or fill the values.")


def is_field(form: SampleForm, output: Output) -> bool:
    """Return True if the output has values for each point of a sample, such as the pixels of an image."""
    points = output.shape[1:]
    return output.task == "regression" and int(np.prod(points)) > 1 and points == form.shape[1:]


@dataclass(frozen=True)
class Truth:
    """True classes, labels or values of n samples.

    Attributes:
        output: Task, and shape of the output for a sample.
        y: Classes 0..K-1 (n,), 0/1 labels (n, K), or values (n, channels, ...), standardized if a training has
            standardized them.
        mask: 0/1 of the shape of the values, 1 where they count. None if all count.
        groups: Record, subject or other group of each sample, (n,). None if samples are independent.
    """

    output: Output
    y: np.ndarray
    mask: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.y)

    def rows(self, rows: np.ndarray) -> "Truth":
        """Return the truth of a selection of samples, by their numbers or a mask."""
        mask = None if self.mask is None else self.mask[rows]
        return Truth(self.output, self.y[rows], mask, None if self.groups is None else self.groups[rows])

    @property
    def matrix(self) -> np.ndarray:
        """0/1 of each of M classes or labels, or the M values of each sample as one row, float64, (n, M)."""
        if self.output.task == "classification":
            one_hot: np.ndarray = np.eye(self.output.shape[0])[self.y]
            return one_hot
        return self.y.reshape(len(self.y), -1).astype(np.float64)

    @property
    def strata(self) -> np.ndarray:
        """Classes by which samples are drawn, (n,); one for values."""
        return np.zeros(len(self), np.int64) if self.output.task == "regression" else stratification_labels(self.y)

    def folds(self, seed: int) -> np.ndarray:
        """Return the number of one of five folds for each sample, (n,), stratified by class, with groups kept whole."""
        return stratified_folds(self.strata, self.groups, seed)

    def subset(self, size: int, seed: int) -> np.ndarray:
        """Return numbers of at most so many samples, ascending, stratified by class, of which each keeps one."""
        if size >= len(self):
            return np.arange(len(self))
        return stratified_subset(self.strata, max(size, len(np.unique(self.strata))), seed)

    def error(self, scores: np.ndarray) -> float:
        """Return the error of scores (n, M) of all samples together, by which models are chosen; lower is better.

        It is the error rate of classes, 1 - mean average precision over the labels that some sample has, or the mean
        squared error of values.
        """
        if self.output.task == "classification":
            return float((scores.argmax(axis=1) != self.y).mean())
        if self.output.task == "multi-label":
            from sklearn.metrics import average_precision_score

            present = np.flatnonzero(self.y.any(axis=0))
            return float(1 - np.mean([average_precision_score(self.y[:, k], scores[:, k]) for k in present]))
        weights = None if self.mask is None else self.mask.reshape(len(self), -1)
        return float(np.average((scores - self.matrix) ** 2, weights=weights))

    def losses(self, scores: np.ndarray) -> np.ndarray:
        """Return the loss of each sample, (n,), for paired comparisons of models; lower is better.

        It is the 0-1 error of classes, 1 - the average precision of the labels of a sample, or the mean squared error
        of its values.

        Args:
            scores: Scores (n, M).
        """
        if self.output.task == "classification":
            wrong: np.ndarray = (scores.argmax(axis=1) != self.y).astype(float)
            return wrong
        if self.output.task == "multi-label":
            from sklearn.metrics import label_ranking_average_precision_score

            pairs = zip(self.y.astype(int), scores, strict=True)
            return np.array([1 - label_ranking_average_precision_score(y[None], one[None]) for y, one in pairs])
        weights = np.ones_like(self.matrix) if self.mask is None else self.mask.reshape(len(self), -1)
        squares: np.ndarray = ((scores - self.matrix) ** 2 * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
        return squares


@dataclass(frozen=True)
class Features:
    """Features of samples, which are computed from each sample alone and then, optionally, by a fitted part.

    Attributes:
        name: Name in records and messages, such as `hog`.
        compute: Function of samples and their form that returns the values of all of them. The values of a sample do
            not depend on other samples.
        fit: Function of the values of the training samples, their form and a seed. It returns the part that turns
            values into features. None if the values are the features.
    """

    name: str
    compute: Callable[[Samples, SampleForm], Values]
    fit: Callable[[Any, SampleForm, int], Part] | None = None


@dataclass(frozen=True)
class Predictor:
    """A model of features.

    Attributes:
        settings: Names of the settings, the simplest first. Cross-validation chooses one of them.
        fit: Function of features, truth and a seed. It returns the fitted model with each of the settings, in order.
        n_compared: Number of the five folds on which the settings are compared.
    """

    settings: tuple[str, ...]
    fit: Callable[[Any, Truth, int], Sequence[Part]]
    n_compared: int = 5


@dataclass(frozen=True)
class Baseline:
    """A model of the field of a target, without any pretrained model.

    Attributes:
        name: Name for `--method baseline:NAME`.
        title: What it is, in a few words.
        reference: Publication or library.
        kinds: Kinds of samples that it reads, as in manifests.
        tasks: Tasks that it can be fitted for.
        features: Alternatives, of which cross-validation chooses one; the simplest first.
        predictor: Model of the features.
        parts: Classes of the fitted parts that a stored model of this baseline can have.
        is_quick: True if a ranking fits it by default, as far as the time allows.
        applies: Function with the arguments of `suits`. It returns False where the baseline makes no sense or would
            take too long.
        library: Name of an optional package that it needs. None if it needs none.
        seconds: Seconds to fit it to five folds and to all of 2,000 samples on one core, as benchmarks/baselines.py
            measures them. None if not measured.
    """

    name: str
    title: str
    reference: str
    kinds: tuple[str, ...]
    tasks: tuple[str, ...]
    features: tuple[Features, ...]
    predictor: Predictor
    parts: tuple[type[Part], ...]
    is_quick: bool = True
    applies: Callable[[SampleForm, bool, Output], bool] = lambda _form, _is_table, _output: True
    library: str | None = None
    seconds: float | None = None

    def suits(self, form: SampleForm, output: Output) -> bool:
        """Return True if the baseline can be fitted to samples of this form for an output."""
        is_possible = form.spec.kind in self.kinds and output.task in self.tasks
        return is_possible and self.applies(form, form.is_table, output)


def quick_baselines(
    baselines: Sequence[Baseline], form: SampleForm, n_samples: int, seconds: float, repeats: int = 1
) -> list[Baseline]:
    """Return the quickest baselines whose cross-validations together take at most so many seconds on one core.

    The time of a baseline follows from its measured seconds and not from this machine, so that every machine chooses
    the same baselines.

    Args:
        baselines: Baselines that suit the samples.
        form: Form of the samples.
        n_samples: Number of samples.
        seconds: Seconds that they may take together.
        repeats: Number of cross-validations of each.

    Returns:
        The chosen baselines, in the order of `baselines`. All of them are marked as quick.
    """
    expected = {one.name: expected_seconds(one, form, n_samples, repeats) for one in baselines if one.is_quick}
    chosen: set[str] = set()
    for name in sorted(expected, key=lambda name: expected[name]):
        seconds -= expected[name]
        if seconds >= 0:
            chosen.add(name)
    return [one for one in baselines if one.name in chosen]


def expected_seconds(baseline: Baseline, form: SampleForm, n_samples: int, repeats: int = 1) -> float:
    """Return the expected time of `repeats` cross-validations of a baseline on one core, in seconds."""
    measured = UNKNOWN_SECONDS if baseline.seconds is None else baseline.seconds
    size = MEASURED_SIZES.get(form.spec.kind)
    larger = max(1.0, float(np.prod(form.shape)) / size) if size else 1.0
    # The measured time is that of six fits: to five folds and to all samples. A cross-validation has five of them.
    return float(measured * larger * repeats * 5 / 6 * (n_samples / MEASURED_SAMPLES) ** TIME_EXPONENT)


@dataclass(frozen=True)
class FittedBaseline:
    """A fitted baseline, whose scores are the outputs of a model.

    Attributes:
        name: Name of the baseline.
        features: Name of the features.
        setting: Name of the setting of the predictor.
        error: Error of the cross-validation in which these were chosen, as `Truth.error` defines it; NaN if there was
            none.
        form: Form of the samples.
        output: Task and shape of the output.
        compute: Function that returns the values of samples, as in `Features`.
        parts: Parts that are applied one after the other. The last returns scores.
    """

    name: str
    features: str
    setting: str
    error: float
    form: SampleForm
    output: Output
    compute: Callable[[Samples, SampleForm], Values]
    parts: tuple[Part, ...]

    def scores(self, samples: Samples, first: int = 0) -> np.ndarray:
        """Return logits of classes or labels (n, K), or values (n, channels, ...), of samples; higher is more probable.

        Args:
            samples: The samples, after the steps of their target.
            first: Number that messages give the first sample.

        Raises:
            InputError: When a sample has another form than those of the training, or the result is not finite.
        """
        chunks = []
        for start in range(0, len(samples), CHUNK):
            chunk = [samples[row] for row in range(start, min(start + CHUNK, len(samples)))]
            chunks.append(self._scores_of_chunk(chunk, first + start))
        scores: np.ndarray = np.concatenate(chunks)
        return scores.reshape(len(scores), *self.output.shape)

    def _scores_of_chunk(self, samples: list[Any], first: int) -> np.ndarray:
        """Return the scores (n, M) of some samples, of which the first has this number in messages."""
        values = compute_values(self.compute, samples, self.form, first)
        # Scores that are not finite are refused below, with the number of their sample.
        with single_thread(), np.errstate(all="ignore"):
            for part in self.parts:
                values = part(values)
        scores = np.asarray(values, np.float64)
        if not np.isfinite(scores).all():
            bad = first + int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            raise InputError(
                f"Sample {bad} has no finite prediction. Remove NaN and infinite values from it, or fill them."
            )
        return scores

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return everything that `restore_baseline` needs: a record of JSON values, and arrays by name."""
        parts = [part.state() for part in self.parts]
        record = {
            "name": self.name,
            "features": self.features,
            "setting": self.setting,
            "error": self.error,
            "shape": list(self.form.shape),
            "is_table": self.form.is_table,
            "parts": [{"kind": part.kind, **plain} for part, (plain, _) in zip(self.parts, parts, strict=True)],
        }
        arrays = {f"{number}.{name}": array for number, (_, named) in enumerate(parts) for name, array in named.items()}
        return record, arrays


def compute_values(
    compute: Callable[[Samples, SampleForm], Values], samples: Samples, form: SampleForm, first: int = 0
) -> Values:
    """Return the values of samples, or raise an error that names the first sample that does not fit.

    Args:
        compute: Function of samples and their form, as in `Features`.
        samples: The samples.
        form: Their form.
        first: Number that messages give the first sample.

    Raises:
        InputError: When a sample has another form than those of the training.
        UsageError: When a library is missing.
    """
    try:
        return compute(samples, form)
    except UsageError:
        raise
    except InputError:
        # The error does not say which sample it is of, so each is tried alone.
        for number in range(len(samples)):
            try:
                compute([samples[number]], form)
            except InputError as error:
                raise InputError(f"Sample {first + number} does not fit the baseline: {error}") from error
        raise


def restore_baseline(
    baseline: Baseline, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray], spec: InputSpec, output: Output
) -> FittedBaseline:
    """Return a stored baseline, after checks of everything that was stored.

    Args:
        baseline: The baseline that the record names.
        record: JSON values of `FittedBaseline.state`.
        arrays: Arrays of `FittedBaseline.state`, by name.
        spec: Description of a sample in the manifest.
        output: Task and shape of the output.

    Raises:
        ValueError: When something was stored that such a baseline does not have.
    """
    features = {one.name: one for one in baseline.features}[record["features"]]
    classes = {part.kind: part for part in baseline.parts}
    parts = []
    for number, described in enumerate(record["parts"]):
        settings = {name: value for name, value in described.items() if name != "kind"}
        prefix = f"{number}."
        part_arrays = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        parts.append(classes[described["kind"]].restore(settings, part_arrays))
    n_scores = int(np.prod(output.shape))
    if not parts or parts[-1].n_outputs != n_scores or any(part.n_outputs for part in parts[:-1]):
        raise ValueError(f"the parts do not end with {n_scores} scores")
    form = SampleForm(spec, tuple(int(size) for size in record["shape"]), bool(record["is_table"]))
    chosen = features.name, str(record["setting"]), float(record["error"])
    return FittedBaseline(baseline.name, *chosen, form, output, features.compute, tuple(parts))


def select(values: Values, rows: np.ndarray) -> Values:
    """Return the values of the samples that a mask selects.

    Args:
        values: Values of n samples.
        rows: Mask of the samples, bool, (n,).
    """
    if isinstance(values, list):
        return [values[row] for row in np.flatnonzero(rows)]
    return values[rows]


def cross_validate(
    baseline: Baseline,
    values: Sequence[Values],
    form: SampleForm,
    truth: Truth,
    folds: np.ndarray,
    seed: int,
    predicted: np.ndarray | None = None,
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Predict each fold by fits on the other folds, with all features and settings of a baseline.

    Args:
        baseline: The baseline.
        values: Values of the samples, for each of the baseline's features.
        form: Form of the samples.
        truth: Truth of the samples.
        folds: Fold of each sample, 0..F-1, (n,).
        seed: Seed of the fits.
        predicted: Numbers of the folds to predict; None for all. The scores of other folds are 0.

    Returns:
        Scores of each alternative, (alternatives, n, M); and for each alternative the index of its features and that of
        its setting.
    """
    alternatives = [
        (index, setting) for index in range(len(values)) for setting in range(len(baseline.predictor.settings))
    ]
    scores = np.zeros((len(alternatives), len(truth), int(np.prod(truth.output.shape))))
    for fold in np.unique(folds) if predicted is None else predicted:
        test = folds == fold
        for index, feature_values in enumerate(values):
            first_alternative = index * len(baseline.predictor.settings)
            feature_part, fitted = _fit(baseline, index, select(feature_values, ~test), form, truth.rows(~test), seed)
            test_values = select(feature_values, test)
            features = test_values if feature_part is None else feature_part(test_values)
            for setting, part in enumerate(fitted):
                scores[first_alternative + setting, test] = part(features).reshape(int(test.sum()), -1)
    return scores, alternatives


def _fit(
    baseline: Baseline, index: int, values: Values, form: SampleForm, truth: Truth, seed: int
) -> tuple[Part | None, Sequence[Part]]:
    """Fit one alternative of the features and the predictor, without a choice.

    Args:
        baseline: The baseline.
        index: Index of the features among those of the baseline.
        values: Values of the training samples for these features.
        form: Form of the samples.
        truth: Truth of the training samples.
        seed: Seed of the fits.

    Returns:
        The fitted part of the features, None if the values are the features; and the fitted predictor with each of its
        settings.
    """
    features = baseline.features[index]
    with warnings.catch_warnings():
        # Rare classes are named where the samples are read; scikit-learn would warn of them in each fit.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        part = None if features.fit is None else features.fit(values, form, seed)
        return part, baseline.predictor.fit(values if part is None else part(values), truth, seed)


def distinct_values(baseline: Baseline, samples: Samples, form: SampleForm) -> list[Values]:
    """Return the values for each of the baseline's features, up to the first whose values equal earlier ones.

    Series that are standardized already, as those of archives often are, need no second comparison. The features after
    the repeated one are left out too, so that the values keep the indices of their features.
    """
    values: list[Values] = []
    for features in baseline.features:
        computed = compute_values(features.compute, samples, form)
        if any(_are_equal(computed, earlier) for earlier in values):
            break
        values.append(computed)
    return values


def _are_equal(one: Values, other: Values) -> bool:
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return False
    return one.shape == other.shape and np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


def fit_baseline(baseline: Baseline, samples: Samples, form: SampleForm, truth: Truth, seed: int = 0) -> FittedBaseline:
    """Fit a baseline to samples, after choosing its features and its setting by five-fold cross-validation.

    Of equally good alternatives the first is taken, which is the simplest. If all training samples are in one fold,
    because they are of one group, nothing is compared, and the first alternative is taken.

    Args:
        baseline: The baseline.
        samples: Training samples.
        form: Their form.
        truth: Their truth.
        seed: Seed of the folds and of the fits.

    Raises:
        InputError: When a library is missing, or a sample has another form.
    """
    values = distinct_values(baseline, samples, form)
    with single_thread():
        return _fit_best(baseline, values, form, truth, seed)


def held_out_scores(
    baseline: Baseline,
    samples: Samples,
    form: SampleForm,
    truth: Truth,
    folds: np.ndarray,
    predicted: Sequence[int],
    seed: int = 0,
) -> np.ndarray:
    """Predict some folds, each by the baseline fitted to the samples of all other folds.

    The features and the setting are chosen for each fold anew, by a cross-validation among those other samples.

    Args:
        baseline: The baseline.
        samples: All samples.
        form: Their form.
        truth: Their truth.
        folds: Fold of each sample, (n,).
        predicted: Numbers of the folds to predict.
        seed: Seed of the fits.

    Returns:
        Scores (n, M), NaN for samples of other folds.

    Raises:
        InputError: When a library is missing, or a sample has another form.
    """
    values = distinct_values(baseline, samples, form)
    names = [features.name for features in baseline.features]
    scores = np.full((len(truth), int(np.prod(truth.output.shape))), np.nan)
    with single_thread():
        for fold in predicted:
            train = folds != fold
            train_values = [select(one, train) for one in values]
            fitted = _fit_best(baseline, train_values, form, truth.rows(train), seed, needs_error=False)
            outputs: Any = select(values[names.index(fitted.features)], ~train)
            for part in fitted.parts:
                outputs = part(outputs)
            scores[~train] = np.asarray(outputs, np.float64).reshape(int((~train).sum()), -1)
    return scores


def _fit_best(
    baseline: Baseline, values: Sequence[Values], form: SampleForm, truth: Truth, seed: int, *, needs_error: bool = True
) -> FittedBaseline:
    """Choose features and setting by cross-validation, and fit the baseline with them to all samples.

    Args:
        baseline: The baseline.
        values: Values of the samples, for each of the baseline's features.
        form: Form of the samples.
        truth: Truth of the samples.
        seed: Seed of the folds and of the fits.
        needs_error: False to skip the cross-validation, and so the error, if there is nothing to choose.
    """
    folds = truth.folds(seed)
    best, error = (0, 0), float("nan")
    has_choices = len(values) * len(baseline.predictor.settings) > 1
    if len(np.unique(folds)) > 1 and (needs_error or has_choices):
        compared = np.unique(folds)[: baseline.predictor.n_compared]
        scores, alternatives = cross_validate(baseline, values, form, truth, folds, seed, compared)
        is_predicted = np.isin(folds, compared)
        errors = [truth.rows(is_predicted).error(of_alternative[is_predicted]) for of_alternative in scores]
        # An error that is not defined is never the lowest.
        lowest = int(np.argmin(np.nan_to_num(errors, nan=np.inf)))
        best, error = alternatives[lowest], errors[lowest]
    index, setting = best
    feature_part, fitted = _fit(baseline, index, values[index], form, truth, seed)
    features = baseline.features[index]
    parts = (fitted[setting],) if feature_part is None else (feature_part, fitted[setting])
    chosen = features.name, baseline.predictor.settings[setting], error
    return FittedBaseline(baseline.name, *chosen, form, truth.output, features.compute, parts)
