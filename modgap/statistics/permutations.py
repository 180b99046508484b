"""Permutation tests: labels that move between samples or groups, and a sequential rule for the number of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "STOP_AFTER",
    "NullDistribution",
    "draw_null",
    "permute_samples",
    "smallest_p_value",
    "summarize_null",
]

STOP_AFTER = 10
"""Number of permuted values at or below the real value at which a test stops."""
PERMUTATION_SALT = 0xB2
TOLERANCE = 1e-9
"""Values that differ by less are equal, so that round-off does not turn a tie into a difference."""


@dataclass(frozen=True)
class NullDistribution:
    """Distribution of a statistic with labels permuted across samples or groups.

    Attributes:
        mean: Mean over the permutations that were drawn.
        sd: Standard deviation over these permutations (ddof 1; 0 for a single permutation).
        p_value: One-sided p-value. With b of R permuted values at or below the real one it is (1 + b) / (R + 1). A test
            that stopped at the tenth such value after R permutations has p = 10 / R (Besag and Clifford, 1991). If the
            labels are exchangeable under the null hypothesis, P(p <= a) <= a for every level a.
        repeats: Number R of permutations that were drawn.
        requested: Number of permutations that would have been drawn without the sequential rule.
    """

    mean: float
    sd: float
    p_value: float
    repeats: int
    requested: int


def summarize_null(
    value: float, permuted: Sequence[float], requested: int | None = None, *, sequential: bool = True
) -> NullDistribution:
    """Summarize permuted values, of which the sequential rule uses those up to the tenth at or below the real value.

    Args:
        value: Value with the real labels.
        permuted: Value of each permutation, in the order of the permutations, at least one.
        requested: Number of permutations that would be drawn without the rule; None for all that are passed.
        sequential: False to use all permutations.

    A permuted value that is not a number counts as one at or below the real value, so that it never lowers the
    p-value, and not in the mean.

    Example:
        >>> summarize_null(0.25, [0.5, 0.75])
        NullDistribution(mean=0.625, sd=0.1767766952966369, p_value=0.3333333333333333, repeats=2, requested=2)
    """
    values = np.asarray(permuted, dtype=float)
    at_most = np.flatnonzero(~(values > value + TOLERANCE))
    stopped = sequential and len(at_most) >= STOP_AFTER
    if stopped:
        values = values[: at_most[STOP_AFTER - 1] + 1]
    p_value = STOP_AFTER / len(values) if stopped else (1 + len(at_most)) / (len(values) + 1)
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if len(known) else np.nan
    sd = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    return NullDistribution(mean, sd, min(1.0, p_value), len(values), requested or len(permuted))


def smallest_p_value(permutations: int) -> float:
    """Return the smallest p-value that a number of permutations can give."""
    return 1 / (permutations + 1)


def draw_null(
    statistics: Callable[[range], Sequence[float]],
    value: float,
    permutations: int,
    progress: Callable[[int], None] | None = None,
) -> NullDistribution:
    """Draw permuted values until ten are at or below the real value, or the number of permutations is reached.

    The rule goes by the number of the permutation, and never by the order in which threads finish.

    Args:
        statistics: Function of a range of numbers of permutations, from 0, that returns the permuted values.
        value: Value with the real labels.
        permutations: Largest number of permutations, at least 1.
        progress: Called with the number of permutations that were drawn since the last call.

    References:
        Besag and Clifford, "Sequential Monte Carlo p-values", Biometrika 78, 1991.
    """
    values: list[float] = []
    while len(values) < permutations and sum(not v > value + TOLERANCE for v in values) < STOP_AFTER:
        # Values beyond the stopping point are computed in vain, so the first batches are small.
        size = min(permutations - len(values), max(STOP_AFTER, len(values)))
        values += statistics(range(len(values), len(values) + size))
        if progress:
            progress(size)
    return summarize_null(value, values, permutations)


def permute_samples(label_set_ids: np.ndarray, groups: np.ndarray | None, seed: int, repeat: int) -> np.ndarray:
    """Return the sample whose labels each sample takes in one permutation, shape (N,).

    Without groups, labels move between samples. With groups, they move between the groups whose samples all have the
    same labels, and within each group whose samples do not. The latter assumes that the samples of such a group are
    exchangeable under the null hypothesis.

    Args:
        label_set_ids: Number of each sample's set of labels, shape (N,).
        groups: Group of each sample, shape (N,), or None if the samples are independent.
        seed: Seed of the permutations.
        repeat: Number of the permutation.
    """
    rng = np.random.default_rng([seed, PERMUTATION_SALT, repeat])
    if groups is None:
        return rng.permutation(len(label_set_ids))
    numbers = np.unique(groups, return_inverse=True)[1]
    firsts = np.unique(numbers, return_index=True)[1]
    is_mixed = np.zeros(len(firsts), bool)
    np.logical_or.at(is_mixed, numbers, label_set_ids != label_set_ids[firsts][numbers])
    group_donors = firsts.copy()
    group_donors[~is_mixed] = rng.permutation(firsts[~is_mixed])
    shuffled = np.lexsort((rng.random(len(label_set_ids)), numbers))
    order = np.argsort(numbers, kind="stable")
    donors_within = np.empty(len(label_set_ids), np.int64)
    donors_within[order] = shuffled
    return np.where(is_mixed[numbers], donors_within, group_donors[numbers])
