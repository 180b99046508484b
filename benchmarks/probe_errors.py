"""Cross-validated errors of a linear probe: the distortion of source knowledge as the studies measure it."""

import numpy as np
from numpy.typing import ArrayLike

from modgap.probes.folds import FOLDS, stratified_folds
from modgap.probes.input_checks import validate_samples
from modgap.probes.logistic import DEFAULT_STRENGTH, logistic_path
from modgap.statistics.units import unit_numbers


def cross_validated_errors(
    features: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    strength: float = DEFAULT_STRENGTH,
    seed: int = 0,
) -> np.ndarray:
    """Return a mask of the samples that a linear probe misclassifies in stratified five-fold cross-validation, (m,).

    The mean of the mask is the error rate, in [0, 1]. It is the distortion of source knowledge of MoNA (ICML 2024),
    section 2.2: the higher it is after fine-tuning, the more of the knowledge is lost.

    Args:
        features: Features, shape (n, D), finite.
        labels: Integer labels, shape (n,). Samples of classes with fewer than five samples are left out, so that m
            may be less than n.
        groups: Record, sentence or other group of each sample, shape (n,); every group is in one fold. None if samples
            are independent.
        strength: L2 strength, 1 / C of scikit-learn.
        seed: Seed of the folds.

    Raises:
        InputError: When features, labels or groups cannot be used, or the other folds of a fold have only one class.

    Example:
        >>> labels = np.arange(60) % 3
        >>> float(cross_validated_errors(np.eye(3)[labels], labels).mean())
        0.0
    """
    array, codes = validate_samples(features, labels)
    numbers = unit_numbers(groups, len(codes))
    _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    frequent = counts[inverse.ravel()] >= FOLDS
    array = array[frequent]
    codes = codes[frequent]
    folds = stratified_folds(codes, numbers[frequent], seed)
    wrong = np.zeros(len(codes), bool)
    for fold in np.unique(folds):
        test = folds == fold
        probe = logistic_path(array[~test], codes[~test], [strength])
        wrong[test] = probe.predict(array[test]) != codes[test]
    return wrong
