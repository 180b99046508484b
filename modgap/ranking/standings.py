"""Intervals of scores and of ranks from half-samples of the target, and which sources are told apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = ["LEAST_HALVES", "Standings", "settled", "standings"]

LEVEL = 0.95
LEAST_HALVES = 10
"""Halves on which a score must be defined for a spread to be told."""
DIGITS = 8


@dataclass(frozen=True)
class Standings:
    """How sources stand by one score. All arrays are in the order of the sources given.

    Attributes:
        values: The score of each source, shape (S,); NaN where it has none.
        intervals: 95 % interval, shape (S, 2); NaN where there are no resamples.
        ranks: From 1, the best; sources of equal value share the smallest. 0 where there is no value. Shape (S,).
        rank_intervals: 95 % interval of the rank, shape (S, 2); 0 where there is none.
        beats: Probability that the first of a pair is better than the second, shape (S, S); NaN where unknown.
    """

    values: np.ndarray
    intervals: np.ndarray
    ranks: np.ndarray
    rank_intervals: np.ndarray
    beats: np.ndarray

    def order(self) -> np.ndarray:
        """Numbers of the sources, best first, those without a value last."""
        return np.argsort(np.where(self.ranks > 0, self.ranks, len(self.ranks) + 1), kind="stable")

    def tied_with(self, number: int) -> np.ndarray:
        """Numbers of the other sources that are not told apart from this one at 95 %."""
        chance = self.beats[number]
        unsure = (chance > (1 - LEVEL) / 2) & (chance < 1 - (1 - LEVEL) / 2)
        unsure[number] = False
        return np.flatnonzero(unsure & (self.ranks > 0))


def standings(
    values: ArrayLike, resampled: np.ndarray, *, higher_is_better: bool, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Standings:
    """Intervals, ranks and pairs from the score on all samples and on random halves of them.

    A statistic on half of n samples differs from that on all of them by about as much as that on all differs from the
    truth (delete-half jackknife; Shao and Wu 1989), so the spread over halves is the value's own; what depends on the
    number of samples drops out with the mean over halves. All sources are judged on the same halves, so what their
    scores share cancels in pairs. Intervals and probabilities are by Student's t with as many degrees of freedom as
    there are halves less one.

    Args:
        values: Score of each source on all samples, shape (S,); NaN for none.
        resampled: The same on each half, shape (S, R), NaN where it is not defined; R may be 0. With fewer than ten
            halves on which a source, or both of a pair, have a score there is no interval and no probability.
        higher_is_better: The score's direction.
        bounds: Lowest and highest value that the score can have.
    """
    own = np.asarray(values, np.float64)
    count = len(own)
    beats = _beats(settled(own), settled(resampled), higher_is_better)
    ranks = _ranks(settled(own), higher_is_better)
    spreads, halves = _spread(resampled)
    sure = (ranks > 0) & (halves >= LEAST_HALVES)
    intervals = np.full((count, 2), np.nan)
    reach = stats.t.ppf((1 + LEVEL) / 2, np.maximum(halves - 1, 1)) * spreads
    intervals[sure] = np.stack([own - reach, own + reach], axis=1).clip(*bounds)[sure]
    return Standings(own, intervals, ranks, _rank_intervals(beats, ranks), beats)


def settled(values: np.ndarray) -> np.ndarray:
    """The same, of any shape, rounded to eight digits: what differs by rounding of sums alone must not be ranked."""
    with np.errstate(divide="ignore"):
        unit = 10.0 ** (np.floor(np.log10(np.abs(values))) - DIGITS + 1)
    return np.where(np.isfinite(unit) & (unit > 0), np.round(values / np.where(unit > 0, unit, 1)) * unit, values)


def _spread(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviation over the halves where there is a value, and how many these are; each (...,)."""
    known = np.isfinite(resampled)
    halves = known.sum(axis=-1)
    means = np.where(known, resampled, 0).sum(axis=-1) / np.maximum(halves, 1)
    squares = np.where(known, resampled - means[..., None], 0) ** 2
    return np.sqrt(squares.sum(axis=-1) / np.maximum(halves - 1, 1)), halves


def _rank_intervals(beats: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """From 1 and those that are surely better to the last but those that are surely worse, (S, 2); 0 where unknown.

    As Mogstad, Romano, Shaikh and Wilhelm (2024) make them of pairs, each pair here at 95 % by itself, so that a rank's
    interval says the same as the ties do.
    """
    known, found = np.flatnonzero(ranks > 0), np.zeros((len(ranks), 2), np.int64)
    pairs = beats[np.ix_(known, known)]
    if np.isfinite(pairs).all():
        surely = pairs >= (1 + LEVEL) / 2
        found[known] = np.stack([1 + surely.sum(axis=0), len(known) - surely.sum(axis=1)], axis=1)
    return found


def _ranks(values: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """From 1, shape (S,); equal values share the smallest; 0 for NaN."""
    signed = -values if higher_is_better else values
    return np.where(np.isfinite(values), (signed[None] < signed[:, None]).sum(axis=1) + 1, 0)


def _beats(values: np.ndarray, resampled: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """Probability (S, S) that the true difference of a pair has the sign that makes the first the better one."""
    gaps = (values[:, None] - values[None]) * (1 if higher_is_better else -1)
    spreads, halves = _spread(resampled[:, None] - resampled[None])
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = stats.t.cdf(gaps / spreads, np.maximum(halves - 1, 1))
    # Without any spread the sign alone decides.
    chance = np.where(spreads > 0, chance, 0.5 * (1 + np.sign(gaps)))
    chance[~np.isfinite(gaps) | (halves < LEAST_HALVES)] = np.nan
    return chance
