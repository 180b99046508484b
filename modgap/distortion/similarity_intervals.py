"""95 % intervals of similarities, of the kinds that covered the true value in simulation.

The simulation is `benchmarks/distortion_validity.py`.

- CKA: the delete-one jackknife with Student's t, whose degrees of freedom follow from the kurtosis of the replicates.
- Procrustes: the estimate lies above the true value on average, because its rotation is fitted to the same samples. A
  rotation that is fitted to other samples gives a value below the true one on average. The interval extends from the
  lower limit of the second value to the upper limit of the first.
- Neighbor overlap: a jackknife that leaves out blocks of samples and finds the neighbors among the others.
"""

import numpy as np
from scipy import stats

__all__ = ["MIN_GROUPS", "MIN_SAMPLES", "block_numbers", "has_interval", "jackknife_interval", "procrustes_interval"]

MIN_SAMPLES = 50
"""Fewest samples for which intervals were checked by simulation."""
MIN_GROUPS = 10
"""Fewest groups of samples for which intervals were checked by simulation."""
LEVEL = 0.975
FOLDS = 5
"""Number of parts of the samples, each of which is rotated by what was fitted on the others."""
FOLD_DEPENDENCE = 2.0
"""Factor of the variance of the cross-fitted Procrustes similarity, because its folds depend on each other."""
BLOCKS = 20
"""Largest number of blocks of the jackknife of the neighbor overlap."""
BLOCK_SALT = 0xB1


def has_interval(n_samples: int, units: np.ndarray, *, grouped: bool) -> bool:
    """Return True if there are as many samples and groups as intervals were checked with.

    Args:
        n_samples: Number of samples n.
        units: Number of each sample's group, or of the sample itself, shape (n,).
        grouped: Whether the units are groups.
    """
    return n_samples >= MIN_SAMPLES and (not grouped or len(np.unique(units)) >= MIN_GROUPS)


def block_numbers(units: np.ndarray, n_blocks: int, seed: int) -> np.ndarray:
    """Return the block of each sample, 0 to n_blocks - 1, at random, with every unit in one block, shape (n,).

    Args:
        units: Number of each sample's group, or of the sample itself, from 0, shape (n,).
        n_blocks: Largest number of blocks; there are no more blocks than units.
        seed: Seed of the random assignment.
    """
    n_units = int(units.max()) + 1
    order = np.random.default_rng([seed, BLOCK_SALT]).permutation(n_units)
    blocks: np.ndarray = (order % min(n_blocks, n_units))[units]
    return blocks


def jackknife_interval(value: float, replicates: np.ndarray, low: float) -> tuple[float, float]:
    """Return the interval of a statistic from its values without each one of J parts of the samples.

    The degrees of freedom of Student's t are 2 J / (kurtosis - 1), at most J - 1: the variance of a few large
    replicates is known less well than that of normal ones.

    Args:
        value: Value of the statistic on all samples, at most 1.
        replicates: Value without each part, shape (J,).
        low: Lowest possible value.
    """
    n_parts = len(replicates)
    deviations = replicates - replicates.mean()
    squares = float((deviations**2).mean())
    if squares == 0:
        return value, value
    standard_error = float(np.sqrt((n_parts - 1) * squares))
    kurtosis = max(float((deviations**4).mean()) / squares**2, 1 + 1e-9)
    freedom = min(n_parts - 1.0, max(2.0, 2 * n_parts / (kurtosis - 1)))
    margin = float(stats.t.ppf(LEVEL, freedom)) * standard_error
    return max(low, value - margin), min(1.0, value + margin)


def procrustes_interval(first: np.ndarray, second: np.ndarray, units: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the interval of the orthogonal Procrustes similarity.

    Args:
        first: Centered features of the first encoder, shape (n, D).
        second: Centered features of the second encoder, shape (n, D').
        units: Number of each sample's group, or of the sample itself, from 0, shape (n,).
        seed: Seed of the division into folds.
    """
    product = first.T @ second
    left, _, right = np.linalg.svd(product, full_matrices=False)
    value, standard_error = _ratio(((first @ left) * (second @ right.T)).sum(axis=1), first, second, units)
    parts = np.zeros((len(first), 3))
    folds = block_numbers(units, FOLDS, seed)
    for fold in np.unique(folds):
        test = folds == fold
        parts[test] = _rotate_by_others(first, second, product, test)
    lower_value, lower_error = _ratio_of_terms(parts, units)
    quantile = float(stats.t.ppf(LEVEL, len(np.unique(units)) - 1))
    low = lower_value - quantile * float(np.sqrt(FOLD_DEPENDENCE)) * lower_error
    return max(0.0, min(low, value)), min(1.0, value + quantile * standard_error)


def _rotate_by_others(first: np.ndarray, second: np.ndarray, product: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return inner product and squared norms of each test sample, rotated and centered by the other samples, (m, 3)."""
    n_train = int((~test).sum())
    # The mean over all samples is 0.
    first_mean = -first[test].sum(axis=0) / n_train
    second_mean = -second[test].sum(axis=0) / n_train
    train_product = product - first[test].T @ second[test] - n_train * np.outer(first_mean, second_mean)
    left, _, right = np.linalg.svd(train_product, full_matrices=False)
    x = first[test] - first_mean
    y = second[test] - second_mean
    inner = ((x @ left) * (y @ right.T)).sum(axis=1)
    return np.stack([inner, (x**2).sum(axis=1), (y**2).sum(axis=1)], axis=1)


def _ratio(inner: np.ndarray, first: np.ndarray, second: np.ndarray, units: np.ndarray) -> tuple[float, float]:
    return _ratio_of_terms(np.stack([inner, (first**2).sum(axis=1), (second**2).sum(axis=1)], axis=1), units)


def _ratio_of_terms(terms: np.ndarray, units: np.ndarray) -> tuple[float, float]:
    """Return sum(inner) / sqrt(sum(norms) * sum(other norms)) and its linearized standard error over units.

    Args:
        terms: Inner product and the two squared norms of each sample, shape (n, 3).
        units: Number of each sample's group, or of the sample itself, shape (n,).
    """
    inner, first_norm, second_norm = terms.sum(axis=0)
    scale = np.sqrt(first_norm * second_norm)
    value = inner / scale
    influence = terms[:, 0] / scale - value * (terms[:, 1] / first_norm + terms[:, 2] / second_norm) / 2
    sums = np.bincount(np.unique(units, return_inverse=True)[1].ravel(), influence)
    return float(value), float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)))
