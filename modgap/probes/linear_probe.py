"""The linear probe: multinomial logistic regression on standardized features, with a fixed or a chosen L2 strength."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from modgap.probes.input_checks import validate_samples
from modgap.probes.logistic import STRENGTHS, LogisticPath, logistic_path

DEFAULT_STRENGTH = 1.0
"""L2 strength of probes that do not choose one: the default of scikit-learn's LogisticRegression."""
LOWEST_SD = 1e-3
"""Standard deviation of a feature, relative to the median of those that vary, below which training leaves it out."""


@dataclass(frozen=True)
class LinearProbe:
    """A fitted linear probe.

    Attributes:
        path: Logistic regression with the chosen L2 strength alone.
        strengths: L2 strengths from which this one was chosen, the most regularized first.
        validation_errors: Error rate of each strength on the held-out samples, in [0, 1]; empty if no sample was held
            out.
    """

    path: LogisticPath
    strengths: tuple[float, ...]
    validation_errors: tuple[float, ...] = ()

    @property
    def strength(self) -> float:
        """L2 strength of the probe, 1 / C of scikit-learn."""
        return float(self.path.strengths[0])

    def predict(self, features: ArrayLike) -> np.ndarray:
        """Return the label of the most probable class for features (n, D), shape (n,)."""
        return self.path.predict(features, 0)

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (K, D) and biases (K,) that give the logits from features that are not standardized."""
        weights = self.path.weights[0] / self.path.scale
        return weights, self.path.intercepts[0] - weights @ self.path.mean


def fit_linear_probe(
    features: ArrayLike,
    labels: ArrayLike,
    strengths: Sequence[float] = STRENGTHS,
    *,
    held_out: np.ndarray | None = None,
) -> LinearProbe:
    """Fit a linear probe, after choosing its L2 strength on held-out training samples.

    The chosen strength is the most regularized of those with the lowest error rate. The probe is then fitted on all
    training samples, including the held-out ones.

    Args:
        features: Features of the training samples, shape (n, D), finite.
        labels: Integer labels of at least two classes, shape (n,).
        strengths: L2 strengths from which to choose, 1 / C of scikit-learn.
        held_out: Boolean mask of the training samples on which strengths are compared, shape (n,). If it is None or
            has no sample, the middle one of the sorted strengths is used.

    Raises:
        InputError: When features or labels cannot be used, or there is only one class.
        UsageError: When a strength is out of range.

    Example:
        >>> probe = fit_linear_probe([[0.0], [1.0], [2.0], [4.0]], [3, 3, 5, 5], [1.0])
        >>> probe.predict([[0.5], [3.0]]), probe.strength
        (array([3, 5]), 1.0)
    """
    array, codes = validate_samples(features, labels, "training")
    ordered = tuple(sorted(map(float, strengths), reverse=True))
    errors: tuple[float, ...] = ()
    if held_out is not None and held_out.any():
        errors = _held_out_errors(array, codes, held_out, ordered)
    best = int(np.argmin(errors)) if errors else len(ordered) // 2
    path = logistic_path(array, codes, ordered[best : best + 1])
    return LinearProbe(path, ordered, errors)


def _held_out_errors(
    features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, strengths: Sequence[float]
) -> tuple[float, ...]:
    path = logistic_path(features[~held_out], labels[~held_out], strengths)
    truth = labels[held_out]
    predictions = [path.predict(features[held_out], index) for index in range(len(strengths))]
    return tuple(float((predicted != truth).mean()) for predicted in predictions)


def with_constants(features: np.ndarray) -> np.ndarray:
    """Return features (n, D) in which those that hardly vary are constant, so that a probe ignores them.

    A probe whose features are then trained needs this: an update of the encoder moves such a feature by many times its
    standard deviation, and the logits with it.
    """
    sd = features.std(axis=0)
    lowest = LOWEST_SD * np.median(sd[sd > 0]) if sd.any() else 0
    return np.where(sd >= lowest, features, features[0])
