"""The linear probe: multinomial logistic regression on standardized features, with a chosen L2 strength."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from modgap.probes.input_checks import validate_samples
from modgap.probes.logistic import LogisticPath, logistic_path

DEFAULT_STRENGTH = 1.0
"""L2 strength of probes that do not choose one: the default of scikit-learn's LogisticRegression."""
LOWEST_SD = 1e-3
"""Standard deviation of a feature, relative to the median of those that vary, below which training leaves it out."""


def fit_linear_probe(
    features: ArrayLike, labels: ArrayLike, strengths: Sequence[float], held_out: np.ndarray
) -> tuple[LogisticPath, tuple[float, ...]]:
    """Fit a linear probe, after choosing its L2 strength on held-out training samples.

    The chosen strength is the most regularized of those with the lowest error rate. The probe is then fitted on all
    training samples, including the held-out ones.

    Args:
        features: Features of the training samples, shape (n, D), finite.
        labels: Integer labels of at least two classes, shape (n,).
        strengths: L2 strengths from which to choose, 1 / C of scikit-learn, the most regularized first.
        held_out: Boolean mask of the training samples on which strengths are compared, shape (n,). If it has no
            sample, the middle strength is used.

    Returns:
        The regression with the chosen strength alone, and the error rate of each strength on the held-out samples, in
        [0, 1]; no error rates if no sample was held out.

    Raises:
        InputError: When features or labels cannot be used, or there is only one class.
        UsageError: When a strength is out of range.

    Example:
        >>> probe, _ = fit_linear_probe([[0.0], [1.0], [2.0], [4.0]], [3, 3, 5, 5], [1.0], np.zeros(4, bool))
        >>> probe.predict([[0.5], [3.0]]), len(probe.strengths)
        (array([3, 5]), 1)
    """
    array, codes = validate_samples(features, labels, "training")
    errors: tuple[float, ...] = ()
    if held_out.any():
        path = logistic_path(array[~held_out], codes[~held_out], strengths)
        predictions = [path.predict(array[held_out], index) for index in range(len(strengths))]
        errors = tuple(float((predicted != codes[held_out]).mean()) for predicted in predictions)
    best = int(np.argmin(errors)) if errors else len(strengths) // 2
    return logistic_path(array, codes, strengths[best : best + 1]), errors


def with_constants(features: np.ndarray) -> np.ndarray:
    """Return features (n, D) in which those that hardly vary are constant, so that a probe ignores them.

    A probe whose features are then trained needs this: an update of the encoder moves such a feature by many times its
    standard deviation, and the logits with it.
    """
    sd = features.std(axis=0)
    lowest = LOWEST_SD * np.median(sd[sd > 0]) if sd.any() else 0
    return np.where(sd >= lowest, features, features[0])
