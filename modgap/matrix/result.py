"""The matrix of sources and targets: scores, ranks, and which sources are not significantly different."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.stats import rankdata

from modgap.ranking.letters import group_letters
from modgap.statistics.multiple_comparisons import holm

__all__ = ["MIN_TARGETS", "MOST_LETTERED", "Matrix", "Standing", "compare_over_targets"]

MIN_TARGETS = 6
"""Fewest targets from which sources are compared: with fewer, no signed-rank test can reject."""
MOST_LETTERED = 60
"""Most sources whose pairs are all compared; of more, each is compared with the first alone."""
MOST_EXACT = 13
"""Most targets with an exact test, which tries 2**T signs."""
PAIRS_AT_ONCE = 500
ROUNDING = 1e-9
ALPHA = 0.05


@dataclass(frozen=True)
class Standing:
    """A source over all targets.

    Attributes:
        source: Name of the source.
        mean_rank: Mean of its ranks over the targets, from 1; a source without a value on a target has the mean of the
            ranks that are left there.
        n_targets: Number of targets on which it has a value.
        p_value: Corrected p-value of the difference of its ranks to those of the first source; None for the first, with
            fewer than 6 targets, or if either lacks a value somewhere.
        letters: Letters of its groups: sources that share one are not significantly different. Empty if unknown.
    """

    source: str
    mean_rank: float
    n_targets: int
    p_value: float | None
    letters: str


@dataclass(frozen=True)
class Matrix:
    """Scores of sources on targets.

    Attributes:
        sources: Names of the sources S, by mean rank.
        targets: Names of the targets T.
        scores: Name of the score of each target.
        values: Scores, shape (S, T). NaN where there is none.
        ranks: Ranks from 1, ties share their mean, shape (S, T). NaN where there is no score.
        best: True where a source is not significantly different from the first of the target, shape (S, T).
        standings: Each source over all targets, in the same order.
        reasons: Why there is no score, by source and target.
        missing: Number of jobs that are not finished.
        request: Record of the samples and scores.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    scores: tuple[str, ...]
    values: np.ndarray
    ranks: np.ndarray
    best: np.ndarray
    standings: tuple[Standing, ...]
    reasons: Mapping[tuple[str, str], str]
    missing: int
    request: Mapping[str, Any]


def compare_over_targets(sources: Sequence[str], ranks: np.ndarray) -> tuple[list[int], tuple[Standing, ...]]:
    """Order sources by their mean ranks, and compare them by Wilcoxon's signed-rank test over targets.

    The p-values are corrected by Holm for all pairs that are tested: all pairs of up to 60 sources, else the pairs with
    the first source. Only sources with a value on every target are tested.

    Args:
        sources: Names of the sources.
        ranks: Ranks of the sources on the targets, shape (S, T); NaN where there is none.

    Returns:
        The order of the sources, and their standings in this order.

    References:
        Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006; Benavoli et al.,
        "Should we really use post-hoc tests based on mean-ranks?", JMLR 17, 2016.
    """
    filled = np.where(np.isnan(ranks), _ranks_left(ranks), ranks)
    mean_ranks = filled.mean(axis=1) if ranks.size else np.full(len(sources), np.nan)
    order = [int(index) for index in np.argsort(mean_ranks, kind="stable")]
    complete = [position for position, index in enumerate(order) if not np.isnan(ranks[index]).any()]
    differs, with_first = _test_pairs(ranks[order], complete)
    letters = dict(zip(complete, group_letters(differs), strict=True)) if differs is not None else {}
    standings = tuple(
        Standing(
            sources[index],
            float(mean_ranks[index]),
            int(np.isfinite(ranks[index]).sum()),
            with_first.get(position),
            letters.get(position, ""),
        )
        for position, index in enumerate(order)
    )
    return order, standings


def _ranks_left(ranks: np.ndarray) -> np.ndarray:
    """Return the mean of the ranks that sources without a value share on each target, shape (T,)."""
    known = np.isfinite(ranks).sum(axis=0)
    mean: np.ndarray = (known + 1 + len(ranks)) / 2
    return mean


def _test_pairs(ranks: np.ndarray, complete: Sequence[int]) -> tuple[np.ndarray | None, dict[int, float]]:
    """Return which pairs of the complete sources differ, and the corrected p-values of those with the first source.

    Without a test of all pairs, the first is None.
    """
    if ranks.shape[1] < MIN_TARGETS or len(complete) < 2 or complete[0] != 0:
        return None, {}
    size = len(complete)
    firsts, seconds = (
        np.triu_indices(size, 1) if size <= MOST_LETTERED else (np.zeros(size - 1, int), np.arange(1, size))
    )
    rows = np.asarray(complete)
    p_values = holm(_signed_rank_p_values(ranks[rows[firsts]] - ranks[rows[seconds]]))
    with_first = {complete[int(j)]: float(p) for i, j, p in zip(firsts, seconds, p_values, strict=True) if i == 0}
    if size > MOST_LETTERED:
        return None, with_first
    differs = np.zeros((size, size), bool)
    differs[firsts, seconds] = differs[seconds, firsts] = p_values < ALPHA
    return differs, with_first


def _signed_rank_p_values(differences: np.ndarray) -> np.ndarray:
    """Return the p-value of Wilcoxon's signed-rank test of each row (pairs, T); 1 where all differences are zero.

    Up to 13 targets all signs of the differences are tried, also with ties, which take scipy much longer. With
    more targets it is the normal approximation.
    """
    p_values = np.ones(len(differences))
    tested = differences.any(axis=1)
    if differences.shape[1] > MOST_EXACT:
        p_values[tested] = stats.wilcoxon(differences[tested], axis=1, method="approx").pvalue
        return p_values
    # Differences of zero are left out, so they have no rank.
    sizes = np.abs(differences[tested])
    ranks = np.where(sizes > 0, rankdata(np.where(sizes > 0, sizes, np.inf), axis=1), 0.0)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=differences.shape[1])))
    observed = np.abs((np.sign(differences[tested]) * ranks).sum(axis=1))
    as_large = [
        (np.abs(signs @ some.T) >= limit - ROUNDING).mean(axis=0)
        for some, limit in zip(_parts(ranks), _parts(observed), strict=True)
    ]
    p_values[tested] = np.concatenate(as_large) if as_large else []
    return p_values


def _parts(values: np.ndarray) -> list[np.ndarray]:
    """Divide pairs into parts whose signs fit into the memory."""
    return [values[start : start + PAIRS_AT_ONCE] for start in range(0, len(values), PAIRS_AT_ONCE)]
