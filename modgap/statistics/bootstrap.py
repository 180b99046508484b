"""Percentile bootstrap intervals (95 %), over samples or over groups of samples that are drawn as a whole."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError


def unit_numbers(groups: ArrayLike | None, n_samples: int) -> np.ndarray:
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


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float],
    n_samples: int,
    groups: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Estimate the 95 % percentile bootstrap interval of any statistic of weighted samples.

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
    numbers = unit_numbers(groups, n_samples)
    n_groups = int(numbers.max()) + 1 if len(numbers) else 0
    if n_groups < 2:
        return float("nan"), float("nan")
    statistics = []
    for number in range(resamples):
        drawn = np.random.default_rng([seed, number]).integers(n_groups, size=n_groups)
        counts = np.bincount(drawn, minlength=n_groups).astype(np.float64)
        statistics.append(statistic(counts[numbers]))
    defined = np.array(statistics)[~np.isnan(statistics)]
    low, high = np.quantile(defined, [0.025, 0.975]) if len(defined) else (np.nan, np.nan)
    return float(low), float(high)
