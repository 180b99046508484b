"""Percentile bootstrap intervals (95 %), over samples or over groups of samples that are drawn as a whole."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError

__all__ = ["bootstrap_interval", "group_numbers", "mean_interval"]

CHUNK_SIZE = 1 << 22
"""Largest number of counts that are drawn at once, so that memory stays below about 32 MB."""


def group_numbers(groups: ArrayLike | None, n_samples: int) -> np.ndarray:
    """Return the number of each sample's group, counted from 0 in the order of the group values, shape (n,).

    Args:
        groups: Record, subject or other group of each sample, shape (n,). None if samples are independent: each sample
            is then a group.
        n_samples: Number of samples n.

    Raises:
        InputError: When the number of groups is not the number of samples.
    """
    if groups is None:
        return np.arange(n_samples)
    array = np.asarray(groups)
    if array.shape != (n_samples,):
        raise InputError(
            f"The groups have shape {array.shape}, but there are {n_samples} samples. "
            f"Pass one group for each sample, shape ({n_samples},)."
        )
    return np.unique(array, return_inverse=True)[1].ravel()


def mean_interval(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Estimate the 95 % percentile bootstrap interval of a weighted mean.

    Args:
        values: Value of each sample, shape (n,).
        weights: Weight of each sample, 0 or more, shape (n,). None if all weights are 1.
        groups: Group of each sample, shape (n,); groups are drawn as a whole. None if samples are independent.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.

    Returns:
        Lower and upper end of the interval, in the unit of the values; NaN with fewer than two groups.

    Raises:
        InputError: When the number of groups is not the number of samples.

    Example:
        >>> mean_interval([1] * 20 + [0] * 80)
        (0.12, 0.28)
    """
    array = np.asarray(values, np.float64)
    sizes = np.ones(len(array)) if weights is None else np.asarray(weights, np.float64)
    numbers = group_numbers(groups, len(array))
    sums = np.stack([np.bincount(numbers, sizes * array), np.bincount(numbers, sizes)], axis=1)
    if len(sums) < 2:
        return float("nan"), float("nan")
    return _percentiles(_resampled_means(sums, resamples, seed))


def _resampled_means(sums: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return the weighted mean of each resample, shape (resamples,).

    Args:
        sums: Weighted sum of the values and sum of the weights of each group, shape (groups, 2).
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
    """
    # Groups with equal sums are drawn together: the number of draws of each distinct pair is multinomial.
    pairs, counts = np.unique(sums, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK_SIZE // len(pairs))
    totals = np.concatenate(
        [
            rng.multinomial(len(sums), counts / len(sums), size=min(rows, resamples - start)) @ pairs
            for start in range(0, resamples, rows)
        ]
    )
    # A resample of groups whose weights are all 0 has no mean.
    totals = totals[totals[:, 1] > 0]
    return np.asarray(totals[:, 0] / totals[:, 1])


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float],
    n_samples: int,
    groups: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Estimate the 95 % percentile bootstrap interval of any statistic of weighted samples.

    For a mean, `mean_interval` is much faster.

    Args:
        statistic: Function that takes the weight of each sample, shape (n,), which is how often the resample contains
            the sample, and returns the statistic. Resamples for which it returns NaN are left out.
        n_samples: Number of samples n.
        groups: Group of each sample, shape (n,); groups are drawn as a whole. None if samples are independent.
        resamples: Number of bootstrap resamples.
        seed: Seed; together with the number of a resample it determines which groups are drawn.

    Returns:
        Lower and upper end of the interval, in the unit of the statistic; NaN with fewer than two groups.

    Raises:
        InputError: When the number of groups is not the number of samples.

    Example:
        >>> values = np.arange(100.0)
        >>> low, high = bootstrap_interval(lambda weights: np.average(values, weights=weights), 100)
        >>> bool(low < values.mean() < high)
        True
    """
    numbers = group_numbers(groups, n_samples)
    n_groups = int(numbers.max()) + 1 if len(numbers) else 0
    if n_groups < 2:
        return float("nan"), float("nan")
    statistics = np.array([statistic(_draw_counts(n_groups, seed, number)[numbers]) for number in range(resamples)])
    return _percentiles(statistics[~np.isnan(statistics)])


def _draw_counts(n_groups: int, seed: int, resample: int) -> np.ndarray:
    """Return how often a resample contains each group, shape (n_groups,)."""
    groups = np.random.default_rng([seed, resample]).integers(n_groups, size=n_groups)
    return np.bincount(groups, minlength=n_groups).astype(np.float64)


def _percentiles(statistics: np.ndarray) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles of the resampled statistics."""
    if not len(statistics):
        return float("nan"), float("nan")
    low, high = np.quantile(statistics, [0.025, 0.975])
    return float(low), float(high)
