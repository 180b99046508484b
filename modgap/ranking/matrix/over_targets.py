"""Comparison of sources over targets by their ranks, and of scores by the orders that they give."""

from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.stats import rankdata

from modgap.ranking.matrix.result import Agreement, Measure, Standing
from modgap.ranking.standings import round_significant
from modgap.statistics.multiple_comparisons import MOST_LETTERED, SIGNIFICANCE_LEVEL, group_letters, holm


def sign_test_p_values(differences: np.ndarray) -> np.ndarray:
    """Return the exact two-sided p-value of each row of differences; 1 where all are zero.

    Only the signs count, so the result does not depend on the scale of each difference. Differences of zero are left
    out.

    Args:
        differences: Paired differences, shape (R, T).

    Returns:
        P-values, shape (R,).

    References:
        Dixon and Mood, "The statistical sign test", Journal of the American Statistical Association 41, 1946.
    """
    positive, negative = (differences > 0).sum(axis=1), (differences < 0).sum(axis=1)
    tails = stats.binom.cdf(np.minimum(positive, negative), positive + negative, 0.5)
    return np.asarray(np.minimum(1.0, 2 * tails))


def targets_needed(n_sources: int) -> int:
    """Return the fewest targets on which the sign test of two of several sources can reject, corrected for all pairs.

    It is the smallest n for which 2^(1 - n), the p-value of a source that is better on all n targets, times the number
    of pairs is at most .05. Targets on which two sources are equal do not count.

    Args:
        n_sources: Number of sources, of which all pairs are compared.

    Example:
        >>> [targets_needed(n_sources) for n_sources in (2, 3, 10)]
        [6, 7, 11]
    """
    n_pairs = n_sources * (n_sources - 1) // 2
    n_targets = 1
    while 2.0 ** (1 - n_targets) * n_pairs > SIGNIFICANCE_LEVEL:
        n_targets += 1
    return n_targets


def ranks_of(values: np.ndarray, higher_is_better: np.ndarray) -> np.ndarray:
    """Return the ranks of the values in each column, from 1 for the best; ties share their mean.

    Args:
        values: Scores, shape (S, T); NaN where there is none. Values that agree in eight digits are equal.
        higher_is_better: True where a higher score is better, shape (T,).

    Returns:
        Ranks, shape (S, T); NaN where there is no score.
    """
    signed = round_significant(np.where(higher_is_better, -values, values))
    has_value = np.isfinite(values)
    return np.where(has_value, rankdata(np.where(has_value, signed, np.inf), axis=0) if values.size else 0.0, np.nan)


def compare_over_targets(sources: Sequence[str], ranks: np.ndarray) -> tuple[list[int], tuple[Standing, ...]]:
    """Order sources by their mean ranks, and compare them by the sign test over targets.

    The sign test counts on how many targets one source is better than the other. So the comparison of two sources does
    not depend on which others there are, as one of mean ranks does, nor on the scale of the score on each target. The
    p-values are corrected by Holm for all pairs. More than 60 sources are compared with the first alone, and get no
    letters. Only sources with a value on every target are tested. With fewer targets than `targets_needed`, counted
    without those on which the two are equal, nothing could be significant: such a comparison is unknown.

    Args:
        sources: Names of the sources.
        ranks: Ranks of the sources on the targets, shape (S, T); NaN where there is none.

    Returns:
        The order of the sources, and their standings in this order.

    References:
        Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006; Benavoli et al.,
        "Should we really use post-hoc tests based on mean-ranks?", JMLR 17, 2016.
    """
    # Sources without a value on a target share the mean of the ranks that are left there.
    ranks_left = (np.isfinite(ranks).sum(axis=0) + 1 + len(ranks)) / 2
    filled = np.where(np.isnan(ranks), ranks_left, ranks)
    mean_ranks = filled.mean(axis=1) if ranks.size else np.full(len(sources), np.nan)
    order = [int(index) for index in np.argsort(mean_ranks, kind="stable")]
    complete = [position for position, index in enumerate(order) if not np.isnan(ranks[index]).any()]
    differs, with_first = _test_pairs(ranks[order], complete)
    letters = dict(zip(complete, group_letters(differs), strict=True)) if differs is not None else {}
    standings = []
    for position, index in enumerate(order):
        p_value, is_ahead = with_first.get(position, (None, False))
        about = sources[index], float(mean_ranks[index]), int(np.isfinite(ranks[index]).sum())
        standings.append(Standing(*about, p_value, letters.get(position, ""), is_ahead))
    return order, tuple(standings)


def _test_pairs(ranks: np.ndarray, complete: Sequence[int]) -> tuple[np.ndarray | None, dict[int, tuple[float, bool]]]:
    """Return which pairs of the complete sources differ, and the known comparisons of those with the first source.

    Without a test of all pairs, the first is None. A comparison is the corrected p-value of a source, and whether the
    first one is significantly better.
    """
    size = len(complete)
    needed = targets_needed(size)
    if size < 2 or ranks.shape[1] < needed or complete[0] != 0:
        return None, {}
    firsts, seconds = (
        np.triu_indices(size, 1) if size <= MOST_LETTERED else (np.zeros(size - 1, int), np.arange(1, size))
    )
    rows = np.asarray(complete)
    differences = ranks[rows[firsts]] - ranks[rows[seconds]]
    # The first source was chosen among all of them, so pairs that are not tested count in the correction too.
    untested = np.ones(size * (size - 1) // 2 - len(firsts))
    p_values = holm(np.concatenate([sign_test_p_values(differences), untested]))[: len(firsts)]
    is_ahead = (np.sign(differences).sum(axis=1) > 0) & (p_values <= SIGNIFICANCE_LEVEL)
    # With later steps of Holm's correction a pair can be significant on fewer targets.
    is_known = ((differences != 0).sum(axis=1) >= needed) | (p_values <= SIGNIFICANCE_LEVEL)
    with_first = {
        complete[int(j)]: (float(p), bool(ahead))
        for i, j, p, ahead, known in zip(firsts, seconds, p_values, is_ahead, is_known, strict=True)
        if i == 0 and known
    }
    if size > MOST_LETTERED:
        return None, with_first
    differs = np.zeros((size, size), bool)
    differs[firsts, seconds] = differs[seconds, firsts] = p_values <= SIGNIFICANCE_LEVEL
    return differs, with_first


def compare_scores(deciding: Measure, others: Sequence[Measure], n_sources: int) -> tuple[Agreement, ...]:
    """Return how far other scores order the sources as the one that decides.

    Args:
        deciding: The score that decides.
        others: Other scores.
        n_sources: Number of rows that are sources; the others do not count.
    """
    reference = ranks_of(deciding.values[:n_sources], deciding.higher_is_better)
    agreements = []
    for score in others:
        ranks = ranks_of(score.values[:n_sources], score.higher_is_better)
        taus, same_first = [], 0
        for one, other in zip(reference.T, ranks.T, strict=True):
            both = np.isfinite(one) & np.isfinite(other)
            if both.sum() >= 2:
                same_first += bool((one[both].min() == one[both])[other[both].argmin()])
                taus.append(stats.kendalltau(one[both], other[both]).statistic)
        defined = np.array(taus)[np.isfinite(taus)]
        tau = float(defined.mean()) if len(defined) else float("nan")
        agreements.append(Agreement(score.name, tau, same_first, len(taus)))
    return tuple(agreements)
