"""Held-out value, its interval, and the null of permuted labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

__all__ = [
    "IN_BOTH_HALVES",
    "NullDistribution",
    "permute_samples",
    "split_halves",
    "summarize_null",
    "wilson_interval",
]

IN_BOTH_HALVES = 2
"""Part of the samples that are searched with either half and tested in neither."""


@dataclass(frozen=True)
class NullDistribution:
    """The same estimate with the labels permuted across samples.

    Attributes:
        mean: Mean over repeats.
        sd: Standard deviation over repeats (ddof 1; 0 for one repeat).
        p_value: (1 + repeats whose value is at most the real one) / (repeats + 1), one-sided. Since
            the value is discrete, p is conservative: P(p <= a) <= a.
        repeats: R.
    """

    mean: float
    sd: float
    p_value: float
    repeats: int


def summarize_null(value: float, permuted: Sequence[float]) -> NullDistribution:
    """Summarize the null.

    Example:
        >>> summarize_null(0.25, [0.5, 0.75])
        NullDistribution(mean=0.625, sd=0.1767766952966369, p_value=0.3333333333333333, repeats=2)
    """
    values = np.asarray(permuted, dtype=float)
    # Round-off must not turn a tie into a difference.
    at_most = int((values <= value + 1e-12).sum())
    sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    p_value = (1 + at_most) / (len(values) + 1)
    return NullDistribution(float(values.mean()), sd, p_value, len(values))


def _units(labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Number of the unit that is kept whole for each sample: its group, or itself."""
    return np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]


def split_halves(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Part of each sample: 0 or 1 for the halves, 2 where it cannot be tested.

    Halves are stratified by class and keep groups whole; a group counts for the class of its first
    sample. A class that is not in both halves, since it is in one sample or one group only, has nothing
    to be tested on: it is searched with both halves, and so is the rest of its groups.
    """
    rng = np.random.default_rng([seed, 0xA1])
    units = _units(labels, groups)
    firsts = np.unique(units, return_index=True)[1]
    unit_labels = labels[firsts]
    halves = np.zeros(len(firsts), np.int64)
    odd = 0
    for label in np.unique(unit_labels):
        members = rng.permutation(np.flatnonzero(unit_labels == label))
        # An odd class out goes to the halves in turn, so that they stay of one size.
        halves[members] = (np.arange(len(members)) + odd) % 2
        odd += len(members) % 2
    return _mark_untestable(halves[units], labels, units)


def _mark_untestable(parts: np.ndarray, labels: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Whole units with a class that is not in both halves go to part 2."""
    done = parts.copy()
    for label in np.unique(labels):
        if len(np.unique(parts[labels == label])) < 2:
            done[np.isin(units, units[labels == label])] = IN_BOTH_HALVES
    return done


def permute_samples(label_set_ids: np.ndarray, groups: np.ndarray | None, seed: int, repeat: int) -> np.ndarray:
    """For each sample, the sample whose labels it takes in one repeat of the null, shape (N,).

    Labels move between samples. With groups they move between the groups whose samples all have the
    same labels, and within each group whose samples do not.

    Args:
        label_sets: A number for each sample, equal where all labels are, shape (N,).
        groups: Group of each sample, shape (N,), or None.
        seed: Seed of the permutations.
        repeat: Which of them.
    """
    rng = np.random.default_rng([seed, 0xB2, repeat])
    if groups is None:
        return rng.permutation(len(label_set_ids))
    units = _units(label_set_ids, groups)
    firsts = np.unique(units, return_index=True)[1]
    mixed = np.zeros(len(firsts), bool)
    np.logical_or.at(mixed, units, label_set_ids != label_set_ids[firsts][units])
    sources = firsts.copy()
    sources[~mixed] = rng.permutation(firsts[~mixed])
    within = np.lexsort((rng.random(len(label_set_ids)), units))
    order = np.argsort(units, kind="stable")
    taken = np.empty(len(label_set_ids), np.int64)
    taken[order] = within
    return np.where(mixed[units], taken, sources[units])


def wilson_interval(share: float, size: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share of independent samples (JASA 22, 1927).

    Example:
        >>> low, high = wilson_interval(0.5, 100)
        >>> round(low, 4), round(high, 4)
        (0.4038, 0.5962)
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    center = (share + z * z / (2 * size)) / (1 + z * z / size)
    reach = z / (1 + z * z / size) * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    return max(0.0, center - reach), min(1.0, center + reach)
