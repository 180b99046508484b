"""Held-out evaluation: halves of the samples, permuted labels, and confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = [
    "IN_BOTH_HALVES",
    "NullDistribution",
    "permute_samples",
    "split_halves",
    "summarize_null",
    "wilson_interval",
]

IN_BOTH_HALVES = 2
"""Part of the samples that belong to both halves during the search and are tested in neither."""


@dataclass(frozen=True)
class NullDistribution:
    """Distribution of an estimate with labels permuted across samples.

    Attributes:
        mean: Mean over the permutations.
        sd: Standard deviation over the permutations (ddof 1; 0 for a single permutation).
        p_value: One-sided p-value, (1 + number of permutations with a value at most the real one) / (repeats + 1).
            Since the value is discrete, p is conservative: P(p <= a) <= a.
        repeats: Number R of permutations.
    """

    mean: float
    sd: float
    p_value: float
    repeats: int


def summarize_null(value: float, permuted: Sequence[float]) -> NullDistribution:
    """Summarize the null distribution of a value.

    Args:
        value: Value with the real labels.
        permuted: Value of each permutation, at least one.

    Example:
        >>> summarize_null(0.25, [0.5, 0.75])
        NullDistribution(mean=0.625, sd=0.1767766952966369, p_value=0.3333333333333333, repeats=2)
    """
    values = np.asarray(permuted, dtype=float)
    # The tolerance keeps round-off from turning a tie into a difference.
    n_at_most = int((values <= value + 1e-12).sum())
    sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    p_value = (1 + n_at_most) / (len(values) + 1)
    return NullDistribution(float(values.mean()), sd, p_value, len(values))


def _group_numbers(labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Return the group of each sample as a number from 0; without groups, each sample is its own group."""
    return np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]


def split_halves(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Split the samples into two halves, stratified by class, that keep groups together.

    A group counts for the class of its first sample. A class that occurs in one half only, because it has only one
    sample or one group, cannot be tested. Its groups, with all their samples, belong to both halves.

    Args:
        labels: One label of each sample, shape (N,).
        groups: Group of each sample, shape (N,), or None if the samples are independent.
        seed: Seed of the split.

    Returns:
        Part of each sample, shape (N,): 0 or 1 for the halves, IN_BOTH_HALVES for samples that cannot be tested.
    """
    rng = np.random.default_rng([seed, 0xA1])
    numbers = _group_numbers(labels, groups)
    firsts = np.unique(numbers, return_index=True)[1]
    group_labels = labels[firsts]
    halves = np.zeros(len(firsts), np.int64)
    n_odd = 0
    for label in np.unique(group_labels):
        members = rng.permutation(np.flatnonzero(group_labels == label))
        # Classes of odd size give their extra group to the two halves in turn, so that the halves stay equal.
        halves[members] = (np.arange(len(members)) + n_odd) % 2
        n_odd += len(members) % 2
    return _mark_untestable(halves[numbers], labels, numbers)


def _mark_untestable(parts: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the parts with IN_BOTH_HALVES for all groups that have a class that occurs in one half only."""
    marked = parts.copy()
    for label in np.unique(labels):
        if len(np.unique(parts[labels == label])) < 2:
            marked[np.isin(groups, groups[labels == label])] = IN_BOTH_HALVES
    return marked


def permute_samples(label_set_ids: np.ndarray, groups: np.ndarray | None, seed: int, repeat: int) -> np.ndarray:
    """Return the sample whose labels each sample takes in one permutation, shape (N,).

    Without groups, labels move between samples. With groups, they move between the groups whose samples all have the
    same labels, and within each group whose samples do not.

    Args:
        label_set_ids: Number of each sample's set of labels, shape (N,).
        groups: Group of each sample, shape (N,), or None if the samples are independent.
        seed: Seed of the permutations.
        repeat: Number of the permutation.
    """
    rng = np.random.default_rng([seed, 0xB2, repeat])
    if groups is None:
        return rng.permutation(len(label_set_ids))
    numbers = _group_numbers(label_set_ids, groups)
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


def wilson_interval(n_errors: int, n_samples: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of an error rate over independent samples (JASA 22, 1927).

    Args:
        n_errors: Number of misclassified samples.
        n_samples: Number of samples.
        level: Confidence level.

    Example:
        >>> low, high = wilson_interval(50, 100)
        >>> round(low, 4), round(high, 4)
        (0.4038, 0.5962)
    """
    interval = stats.binomtest(n_errors, n_samples).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
