"""Comparisons of many pairs: Holm's correction, and groups of systems that do not differ significantly."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["holm", "similar_runs"]


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return p-values corrected for the number of tests, which control the family-wise error rate.

    Args:
        p_values: P-values of m tests, shape (m,). NaN for tests that could not be made; they are not counted.

    Returns:
        Corrected p-values, at most 1, shape (m,).

    References:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    corrected = np.full(values.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return corrected


def similar_runs(means: ArrayLike, differs: np.ndarray) -> list[list[int]]:
    """Return the groups of systems that do not differ significantly.

    A group is a maximal run, in the order of the means, in which no pair differs. Groups may overlap: a system can be
    similar to a better one and to a worse one that differ from each other.

    Args:
        means: Mean error of each system, shape (S,).
        differs: True where a pair differs significantly after correction, symmetric, shape (S, S).

    Returns:
        The groups, best first, each with the indices of its systems in the order of the means.

    Example:
        >>> differs = np.zeros((3, 3), bool)
        >>> differs[0, 2] = differs[2, 0] = True
        >>> similar_runs([0.1, 0.2, 0.3], differs)
        [[0, 1], [1, 2]]
    """
    order = np.argsort(np.asarray(means, np.float64), kind="stable")
    runs: list[list[int]] = []
    previous_stop = 0
    for start in range(len(order)):
        stop = _stop_of_run(order, start, differs)
        if stop > previous_stop:
            runs.append([int(system) for system in order[start:stop]])
            previous_stop = stop
    return runs


def _stop_of_run(order: Sequence[int] | np.ndarray, start: int, differs: np.ndarray) -> int:
    """Return the position after the longest run from `start` in which no pair differs."""
    stop = start + 1
    while stop < len(order) and not any(differs[order[stop], order[i]] for i in range(start, stop)):
        stop += 1
    return stop
