"""Blocks of samples or groups that are left out, one after the other, to see how much an error depends on them."""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import expit, logit

from modgap.statistics.intervals import MIN_UNITS, student_quantile
from modgap.statistics.units import unit_numbers

BLOCKS = 10
"""Largest number of blocks."""
BLOCKS_SALT = 0xA3
INTERVAL_BLOCKS = 20
"""Largest number of blocks of an interval."""


def group_blocks(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> list[np.ndarray]:
    """Divide the groups into at most ten blocks, over which the groups of each class are spread evenly.

    Models that are fitted to few groups of a class depend on each of them. Neither the errors of the groups nor the
    spread between repeated splits of the same groups shows that, but leaving out one block after the other does.

    Args:
        labels: Class of each sample, shape (N,).
        groups: Number of each sample's group, from 0, shape (N,); None if no blocks are needed.
        seed: Seed of the blocks.

    Returns:
        For each block, a mask that is True for its samples, shape (N,). Nothing without groups, or with fewer than
        eight, which have no interval.
    """
    if groups is None or groups.max() + 1 < MIN_UNITS:
        return []
    labels_of_groups = labels[np.unique(groups, return_index=True)[1]]
    n_groups = len(labels_of_groups)
    rng = np.random.default_rng([seed, BLOCKS_SALT])
    blocks = np.empty(n_groups, np.int64)
    blocks[np.lexsort((rng.random(n_groups), labels_of_groups))] = np.arange(n_groups) % BLOCKS
    return [blocks[groups] == block for block in range(min(BLOCKS, n_groups))]


def jackknife_interval(
    statistic: Callable[[np.ndarray], float],
    n_samples: int,
    groups: np.ndarray | None = None,
    *,
    largest: float = math.inf,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of a statistic of weighted samples that is above 0, by the delete-a-group jackknife.

    The samples, or the groups, are divided at random into at most 20 blocks; each is left out once.
    The standard error and the bias of these values (Quenouille, Biometrika 1956; Kott, Journal of Official Statistics
    2001) are carried over to the logarithm of the statistic, or to the logit of its share of the largest value, where
    Student's t gives the interval, around the value and the one without bias. An average precision of few samples is
    too high on average, so that a percentile bootstrap, which adds to this bias, lies below the truth.

    Args:
        statistic: Function that takes the weight of each sample, shape (n,), 0 or 1, and returns the statistic.
        n_samples: Number of samples n.
        groups: Group of each sample, shape (n,), which is in one block. None if samples are independent.
        largest: Largest value that is possible; infinity if there is none.
        seed: Seed of the blocks.

    Returns:
        Lower and upper end. NaN with fewer than 8 units, and where the statistic is NaN without a block. The value
        itself if it is the lowest or the largest, where no block tells how uncertain it is.

    Example:
        >>> values = np.arange(1.0, 101.0)
        >>> low, high = jackknife_interval(lambda weights: np.average(values, weights=weights), 100)
        >>> bool(low < values.mean() < high)
        True
    """
    numbers = unit_numbers(groups, n_samples)
    n_units = int(numbers.max()) + 1
    if n_units < MIN_UNITS:
        return math.nan, math.nan
    value = statistic(np.ones(n_samples))
    if not 0 < value < largest:
        return value, value
    n_blocks = min(INTERVAL_BLOCKS, n_units)
    blocks = np.random.default_rng([seed, BLOCKS_SALT]).permutation(n_units)[numbers] % n_blocks
    without = np.array([statistic((blocks != block).astype(np.float64)) for block in range(n_blocks)])
    if not np.isfinite(without).all():
        return math.nan, math.nan
    factor = n_blocks - 1
    error = math.sqrt(factor / n_blocks * float(((without - without.mean()) ** 2).sum()))
    is_bounded = math.isfinite(largest)
    center = logit(value / largest) if is_bounded else math.log(value)
    slope = largest / (value * (largest - value)) if is_bounded else 1 / value
    unbiased = center + factor * (value - without.mean()) * slope
    margin = student_quantile(factor) * error * slope
    ends = np.array([min(center, unbiased) - margin, max(center, unbiased) + margin])
    low, high = (largest * expit(ends) if is_bounded else np.exp(ends)).tolist()
    return low, high
