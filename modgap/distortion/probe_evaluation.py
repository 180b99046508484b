"""Test errors of probes: how well classes can be predicted from features, with an interval and the choices made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from modgap.errors import InputError, named
from modgap.probes.folds import held_out_mask
from modgap.probes.input_checks import validate_labels, validate_samples
from modgap.probes.logistic import STRENGTHS, logistic_path
from modgap.probes.ridge import ridge_path
from modgap.statistics.units import unit_numbers


@dataclass(frozen=True)
class EntityF1:
    """F1 of words over all classes except the outside class; each sample is one labeled word.

    Attributes:
        value: Micro F1, in [0, 1], higher is better; NaN if no word has such a class or is predicted to have one.
        precision: Share of the words predicted to have a class that do have it; NaN if there are none.
        recall: Share of the words with a class for which it is predicted; NaN if there are none.
    """

    value: float
    precision: float
    recall: float


def entity_f1(predicted: ArrayLike, truth: ArrayLike, outside: int) -> EntityF1:
    """Compute the micro F1 over all classes of words except the outside class.

    An error rate means little where most words are outside. This F1 counts words, not entities of several words.

    Args:
        predicted: Predicted labels, shape (n,).
        truth: True labels, shape (n,).
        outside: Label of words that belong to no class.

    Raises:
        InputError: When labels are not integers, or their numbers differ.

    Example:
        >>> entity_f1([0, 1, 2, 0], [0, 1, 1, 2], outside=0).value
        0.4
    """
    true_labels = validate_labels(truth, np.size(truth), "test")
    predictions = validate_labels(predicted, len(true_labels), "predicted")
    inside = true_labels != outside
    correct = int(((predictions == true_labels) & inside).sum())
    positives = int(inside.sum())
    predicted_positives = int((predictions != outside).sum())
    totals = (positives + predicted_positives, predicted_positives, positives)
    parts = zip((2 * correct, correct, correct), totals, strict=True)
    return EntityF1(*(part / total if total else float("nan") for part, total in parts))


HELD_OUT_SHARE = 0.2
"""Share of the training samples, or groups, of each class on which the hyperparameter is chosen."""
NEIGHBORS = (1, 3, 5, 10, 20)
VALIDATED = ("linear", "knn")
"""Probes that choose their hyperparameter on held-out training samples. With groups, `ridge` does so too."""


@dataclass(frozen=True)
class FittedProbe:
    """A fitted probe and the choice of its hyperparameter.

    Attributes:
        predict: Function from features (n, D) to class numbers (n,).
        hyperparameter: "L2 strength" or "neighbors"; empty if the probe has none.
        chosen_value: Chosen value of the hyperparameter; None if the probe has none.
        grid: Values from which it was chosen.
        validation_errors: Error rate of each value on held-out training samples; empty if none could be held out.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    hyperparameter: str = ""
    chosen_value: float | None = None
    grid: tuple[float, ...] = ()
    validation_errors: tuple[float, ...] = ()


def _fit_linear(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> FittedProbe:
    errors: tuple[float, ...] = ()
    if held_out.any():
        path = logistic_path(features[~held_out], labels[~held_out], STRENGTHS)
        predictions = (path.predict(features[held_out], index) for index in range(len(STRENGTHS)))
        errors = tuple(float((predicted != labels[held_out]).mean()) for predicted in predictions)
    strength = STRENGTHS[int(np.argmin(errors)) if errors else len(STRENGTHS) // 2]
    return FittedProbe(logistic_path(features, labels, [strength]).predict, "L2 strength", strength, STRENGTHS, errors)


def _fit_ridge(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> FittedProbe:
    """Fit the ridge probe, whose strength is chosen by exact leave-one-out if no sample is held out."""
    scaler = StandardScaler().fit(features)
    weights, intercepts, errors = ridge_path(scaler.transform(features), labels, STRENGTHS)
    if held_out.any():
        errors = _held_out_ridge_errors(features, labels, held_out)
    best = int(errors.argmin())

    def predict(features: np.ndarray) -> np.ndarray:
        outputs = scaler.transform(features) @ weights[best].T + intercepts[best]
        return np.asarray(outputs.argmax(1))

    return FittedProbe(predict, "L2 strength", STRENGTHS[best], STRENGTHS, tuple(errors.tolist()))


def _held_out_ridge_errors(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Return the error rate of each strength on the held-out samples, fitted on the others."""
    scaler = StandardScaler().fit(features[~held_out])
    weights, intercepts, _ = ridge_path(scaler.transform(features[~held_out]), labels[~held_out], STRENGTHS)
    test = scaler.transform(features[held_out])
    outputs = np.einsum("nd,skd->snk", test, weights, optimize=True) + intercepts[:, None]
    return np.asarray((outputs.argmax(axis=2) != labels[held_out]).mean(axis=1))


def _fit_knn(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> FittedProbe:
    remaining = ~held_out
    grid = tuple(sorted({min(k, int(remaining.sum())) for k in NEIGHBORS}))
    errors: tuple[float, ...] = ()
    chosen = grid[0]
    if held_out.any():
        votes = _majority_votes(features[remaining], labels[remaining], features[held_out], grid)
        errors = tuple((votes != labels[held_out]).mean(axis=1).tolist())
        chosen = grid[int(np.argmin(errors))]

    def predict(queries: np.ndarray) -> np.ndarray:
        return np.asarray(_majority_votes(features, labels, queries, (chosen,))[0])

    return FittedProbe(predict, "neighbors", chosen, grid, errors)


def _majority_votes(features: np.ndarray, labels: np.ndarray, queries: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Return the most frequent class of the k nearest neighbors by cosine for every k of the grid, (len(grid), n).

    Of equally frequent classes the lowest is taken.
    """
    search = NearestNeighbors(n_neighbors=max(grid), metric="cosine", algorithm="brute").fit(features)
    neighbor_labels = labels[search.kneighbors(queries, return_distance=False)]
    n_classes = int(labels.max()) + 1
    rows = np.arange(len(queries))[:, None]
    votes = []
    for k in grid:
        cells = (rows * n_classes + neighbor_labels[:, :k]).ravel()
        counts = np.bincount(cells, minlength=len(queries) * n_classes)
        votes.append(counts.reshape(len(queries), n_classes).argmax(1))
    return np.stack(votes)


def _fit_nearest_mean(features: np.ndarray, labels: np.ndarray, _held_out: np.ndarray) -> FittedProbe:
    scaler = StandardScaler().fit(features)
    counts = np.bincount(labels)
    means = (np.eye(len(counts))[labels].T @ scaler.transform(features)) / counts[:, None]

    def predict(features: np.ndarray) -> np.ndarray:
        # Squared distances, without the term that is the same for all classes.
        distances = (means**2).sum(1) - 2 * scaler.transform(features) @ means.T
        return np.asarray(distances.argmin(1))

    return FittedProbe(predict)


PROBES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], FittedProbe]] = {
    "linear": _fit_linear,
    "ridge": _fit_ridge,
    "knn": _fit_knn,
    "nearest-mean": _fit_nearest_mean,
}
"""Functions that fit a probe, by the name of the probe.

They take features, float64, shape (n, D); class numbers 0..K-1, shape (n,); and a mask of the samples on which the
hyperparameter is chosen, shape (n,). If no sample is held out, `ridge` chooses by its exact leave-one-out errors, and
the others take a default.
"""


@dataclass(frozen=True)
class ProbeResult:
    """Errors of a fitted probe on test samples.

    Attributes:
        value: Error rate on the test samples, in [0, 1]; lower is better.
        misclassified: True for each misclassified test sample, shape (n_test,).
        predicted: Label predicted for each test sample, shape (n_test,).
        fit: The fitted probe with the choice of its hyperparameter.
        notes_by_kind: Remarks that a reader of the error rate should know, by their kind.
    """

    value: float
    misclassified: np.ndarray
    predicted: np.ndarray
    fit: FittedProbe
    notes_by_kind: Mapping[str, str]


def evaluate_probe(
    name: str,
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    seed: int = 0,
    train_groups: ArrayLike | None = None,
) -> ProbeResult:
    """Fit a probe on training samples and compute its error rate on test samples.

    - `linear`: multinomial logistic regression on standardized features. The L2 strength is chosen on a stratified
      fifth of the training samples, then the probe is fitted on all of them. Its error rate is the distortion
      of source knowledge of MoNA (ICML 2024), section 2.2.
    - `ridge`: one-vs-rest least squares on standardized features. The L2 strength is chosen by exact leave-one-out, or,
      with groups, as for `linear`.
    - `knn`: majority vote of the nearest neighbors. Their number is chosen as for `linear`.
    - `nearest-mean`: the class with the nearest mean, on standardized features.

    Of values with equal error rates the most regularized strength, or the fewest neighbors, is chosen.

    Args:
        name: Name of the probe.
        train_features: Features of the training samples, shape (n, D), finite.
        train_labels: Integer labels of the training samples, shape (n,).
        test_features: Features of the test samples, shape (n_test, D), finite.
        test_labels: Integer labels of the test samples, shape (n_test,). Samples of classes without training samples
            count as misclassified.
        seed: Seed of the held-out share.
        train_groups: Record or subject of each training sample, shape (n,); the samples of a group are held out
            together where the hyperparameter is chosen. None if samples are independent.

    Raises:
        InputError: When features, labels or groups cannot be used, or the training samples have one class.
        UsageError: When the name is unknown.

    Example:
        >>> labels = np.arange(40) % 4
        >>> features = np.eye(4)[labels] + 0.1 * np.random.default_rng(0).standard_normal((40, 4))
        >>> result = evaluate_probe("nearest-mean", features[:20], labels[:20], features[20:], labels[20:])
        >>> result.value, len(result.predicted)
        (0.0, 20)
    """
    fit = named("probe", name, PROBES)
    train, train_integers = validate_samples(train_features, train_labels, "training")
    test, truth = validate_samples(test_features, test_labels, "test")
    if train.shape[1] != test.shape[1]:
        raise InputError(
            f"The test samples have {test.shape[1]} features, but the training samples have {train.shape[1]}."
        )
    classes, codes = np.unique(train_integers, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"The training labels have one class ({int(classes[0])}). At least two are needed.")
    held_out = np.zeros(len(codes), bool)
    if name in VALIDATED or (name == "ridge" and train_groups is not None):
        units = None if train_groups is None else unit_numbers(train_groups, len(codes))
        held_out = held_out_mask(codes, HELD_OUT_SHARE, seed, units)
    fitted = fit(train.astype(np.float64), codes, held_out)
    predicted = classes[fitted.predict(test.astype(np.float64))]
    misclassified = predicted != truth
    notes = _notes(name, codes, truth[~np.isin(truth, classes)], fitted)
    return ProbeResult(float(misclassified.mean()), misclassified, predicted, fitted, notes)


def _notes(name: str, codes: np.ndarray, unseen: np.ndarray, fitted: FittedProbe) -> dict[str, str]:
    """Return remarks on a fit by their kind.

    Args:
        name: Name of the probe.
        codes: Class number of each training sample, shape (n,).
        unseen: Labels of the test samples whose class has no training samples.
        fitted: The fitted probe.
    """
    notes = {}
    single = int((np.bincount(codes) == 1).sum())
    if name in VALIDATED and single:
        text = f"{single} classes have one training sample. These samples are not used to choose the hyperparameter."
        notes["single sample"] = text
    if len(unseen):
        text = f"{len(unseen)} test samples belong to {len(np.unique(unseen))} classes without training samples."
        notes["unseen class"] = f"{text} They count as misclassified."
    if fitted.chosen_value is None:
        return notes
    chosen = f"{fitted.hyperparameter} {fitted.chosen_value:g}"
    at_end = fitted.chosen_value in (fitted.grid[0], fitted.grid[-1]) and fitted.hyperparameter == "L2 strength"
    if not fitted.validation_errors:
        notes["default"] = f"{chosen} is a default: no class has a sample that can be held out to choose it."
    elif at_end and len(set(fitted.validation_errors)) > 1:
        notes["end of grid"] = f"The chosen {chosen} is at an end of its grid. A wider grid may give a lower error."
    return notes
