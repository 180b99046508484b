"""Intervals of scores and ranks from half-samples of the target, and significance of pairwise differences."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = [
    "LEVEL",
    "MIN_HALF_SAMPLES",
    "SURELY_BETTER",
    "SURELY_WORSE",
    "Standings",
    "compute_standings",
    "round_significant",
]

LEVEL = 0.95
"""Level of intervals and of pairwise comparisons."""
SURELY_WORSE = (1 - LEVEL) / 2
"""A source is significantly worse than another if its win probability is at most this."""
SURELY_BETTER = (1 + LEVEL) / 2
"""A source is significantly better than another if its win probability is at least this."""
MIN_HALF_SAMPLES = 10
"""Fewest half-samples with a score from which a spread is estimated."""
SIGNIFICANT_DIGITS = 8
"""Values that agree in so many digits are equal: they may differ by the rounding of sums."""


@dataclass(frozen=True)
class Standings:
    """Values of one score for S sources, and how the sources compare by it.

    All arrays are in the order in which the sources were passed.

    Attributes:
        values: The score of each source, shape (S,). NaN for a source without a value.
        intervals: 95 % interval of each value, shape (S, 2). NaN where it is unknown.
        ranks: Rank of each source from 1 (best), shape (S,). Sources of equal value share the smallest rank. A source
            without a value has rank 0.
        rank_intervals: 95 % interval of each rank, shape (S, 2). 0 where it is unknown.
        win_probabilities: Probability that source i is better than source j, shape (S, S). NaN where it is unknown.
    """

    values: np.ndarray
    intervals: np.ndarray
    ranks: np.ndarray
    rank_intervals: np.ndarray
    win_probabilities: np.ndarray

    def order(self) -> np.ndarray:
        """Return the indices of the sources, best first. Sources without a value come last."""
        return np.argsort(np.where(self.ranks > 0, self.ranks, len(self.ranks) + 1), kind="stable")

    def tied_with(self, index: int) -> np.ndarray:
        """Return the indices of the other sources that do not differ significantly from this one (95 % level)."""
        probabilities = self.win_probabilities[index]
        tied = (probabilities > SURELY_WORSE) & (probabilities < SURELY_BETTER)
        tied[index] = False
        return np.flatnonzero(tied & (self.ranks > 0))


def compute_standings(
    values: ArrayLike, resampled: np.ndarray, *, higher_is_better: bool, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Standings:
    """Compute intervals, ranks and win probabilities from a score on all samples and on random halves of them.

    A statistic on half of n samples differs from the statistic on all of them by about as much as the latter differs
    from the truth (delete-half jackknife; Shao and Wu 1989). The spread over half-samples therefore estimates the
    spread of the value. The part that depends on the number of samples cancels with the mean over half-samples. All
    sources are scored on the same half-samples, so what they share cancels in differences. Intervals and probabilities
    use Student's t distribution, with one degree of freedom less than there are half-samples.

    Args:
        values: Score of each source on all samples, shape (S,). NaN for a source without a value.
        resampled: Score of each source on each half-sample, shape (S, R), NaN where it is not defined. R may be 0. If
            fewer than ten half-samples have a score, for a source or for both of a pair, there is no interval or no
            probability.
        higher_is_better: True if a higher score is better.
        bounds: Lowest and highest value that the score can have. Intervals are clipped to them.

    Returns:
        The standings of the S sources.

    References:
        Shao and Wu, "A general theory for jackknife variance estimation", Annals of Statistics, 1989.
    """
    scores = np.asarray(values, np.float64)
    win_probabilities = _win_probabilities(
        round_significant(scores), round_significant(resampled), higher_is_better=higher_is_better
    )
    ranks = _ranks(round_significant(scores), higher_is_better=higher_is_better)
    spreads, counts = _spread(resampled)
    has_interval = (ranks > 0) & (counts >= MIN_HALF_SAMPLES)
    margins = stats.t.ppf(SURELY_BETTER, np.maximum(counts - 1, 1)) * spreads
    intervals = np.full((len(scores), 2), np.nan)
    intervals[has_interval] = np.stack([scores - margins, scores + margins], axis=1).clip(*bounds)[has_interval]
    return Standings(scores, intervals, ranks, _rank_intervals(win_probabilities, ranks), win_probabilities)


def round_significant(values: np.ndarray) -> np.ndarray:
    """Round to eight significant digits, so that sources are not ranked by the rounding errors of sums.

    Args:
        values: Numbers, of any shape. NaN and infinity stay as they are.

    Returns:
        The rounded numbers, of the same shape.

    Example:
        >>> round_significant(np.array([1.23456789012, 0.0])).tolist()
        [1.2345679, 0.0]
    """
    with np.errstate(divide="ignore"):
        unit = 10.0 ** (np.floor(np.log10(np.abs(values))) - SIGNIFICANT_DIGITS + 1)
    rounded = np.round(values / np.where(unit > 0, unit, 1)) * unit
    return np.where(np.isfinite(unit) & (unit > 0), rounded, values)


def _spread(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard deviation over the half-samples that have a value, and their number, both of shape (...,)."""
    finite = np.isfinite(resampled)
    counts = finite.sum(axis=-1)
    means = np.where(finite, resampled, 0).sum(axis=-1) / np.maximum(counts, 1)
    squares = np.where(finite, resampled - means[..., None], 0) ** 2
    return np.sqrt(squares.sum(axis=-1) / np.maximum(counts - 1, 1)), counts


def _rank_intervals(win_probabilities: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return the 95 % interval of each rank, shape (S, 2). 0 where it is unknown.

    The best rank is 1 plus the number of significantly better sources. The worst rank is the number of sources minus
    the number of significantly worse ones (Mogstad, Romano, Shaikh and Wilhelm 2024). Each pair is tested at the 95 %
    level by itself, so that the interval of a rank agrees with the ties.
    """
    intervals = np.zeros((len(ranks), 2), np.int64)
    ranked = np.flatnonzero(ranks > 0)
    pairs = win_probabilities[np.ix_(ranked, ranked)]
    if np.isfinite(pairs).all():
        better = pairs >= SURELY_BETTER
        intervals[ranked] = np.stack([1 + better.sum(axis=0), len(ranked) - better.sum(axis=1)], axis=1)
    return intervals


def _ranks(values: np.ndarray, *, higher_is_better: bool) -> np.ndarray:
    """Return ranks from 1, shape (S,). Equal values share the smallest rank. NaN has rank 0."""
    signed = -values if higher_is_better else values
    return np.where(np.isfinite(values), (signed[None] < signed[:, None]).sum(axis=1) + 1, 0)


def _win_probabilities(values: np.ndarray, resampled: np.ndarray, *, higher_is_better: bool) -> np.ndarray:
    """Return the probability (S, S) that the true difference of a pair has the sign that makes the first better."""
    differences = (values[:, None] - values[None]) * (1 if higher_is_better else -1)
    spreads, counts = _spread(resampled[:, None] - resampled[None])
    with np.errstate(divide="ignore", invalid="ignore"):
        probabilities = stats.t.cdf(differences / spreads, np.maximum(counts - 1, 1))
    # Without any spread the sign alone decides.
    probabilities = np.where(spreads > 0, probabilities, 0.5 * (1 + np.sign(differences)))
    probabilities[~np.isfinite(differences) | (counts < MIN_HALF_SAMPLES)] = np.nan
    return probabilities
