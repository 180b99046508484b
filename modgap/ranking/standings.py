"""Intervals of scores and of ranks from half-samples of the target, and which sources are told apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from modgap.ranking.evidence import Evidence
from modgap.ranking.folds import halves_order

__all__ = ["Standings", "half_sample", "standings"]

LEVEL = 0.95


def half_sample(evidence: Evidence, seed: int, number: int) -> np.ndarray:
    """Rows of a random half of the samples, by class and with groups whole; a function of labels, groups, seed, number.

    Without replacement: copies of a sample would be each other's nearest neighbours.
    """
    own = int(np.random.SeedSequence([seed, 0x4A1F, number]).generate_state(1)[0])
    return np.flatnonzero(halves_order(evidence, own) < 0.5)


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


def standings(values: ArrayLike, resampled: np.ndarray, *, higher_is_better: bool) -> Standings:
    """Intervals, ranks and pairs from the score on all samples and on random halves of them.

    A statistic on half of n samples differs from that on all of them by about as much as that on all differs from the
    truth (delete-half jackknife; Shao and Wu 1989), so each half's deviation from the mean over halves is laid at the
    value: what depends on the number of samples drops out. All sources are judged on the same halves, so what their
    scores share cancels in pairs.

    Args:
        values: Score of each source on all samples, shape (S,); NaN for none.
        resampled: The same on each half, shape (S, R); R may be 0.
        higher_is_better: The score's direction.
    """
    own = np.asarray(values, np.float64)
    count = len(own)
    ranks = _ranks(own[:, None], higher_is_better)[:, 0]
    known, usable = np.flatnonzero(ranks), resampled.shape[1] > 1
    intervals, rank_intervals = np.full((count, 2), np.nan), np.zeros((count, 2), np.int64)
    beats = np.full((count, count), np.nan)
    if usable and len(known):
        laid = _laid(own[known], resampled[known])
        tails = [(1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2]
        intervals[known] = np.quantile(laid, tails, axis=1).T
        places = _ranks(laid, higher_is_better)
        rank_intervals[known] = np.quantile(places, tails, axis=1, method="inverted_cdf").T
        beats[np.ix_(known, known)] = _beats(laid if higher_is_better else -laid)
    return Standings(own, intervals, ranks, rank_intervals, beats)


def _laid(values: np.ndarray, resampled: np.ndarray) -> np.ndarray:
    """Halves' deviations from their mean, laid at the values; a half without a score deviates by nothing."""
    known = np.isfinite(resampled)
    middle = np.where(known, resampled, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return values[:, None] + np.where(known, resampled - middle[:, None], 0)


def _ranks(values: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """Rank in each column (S, R), from 1; equal values share the smallest; 0 for NaN."""
    signed = -values if higher_is_better else values
    better = (signed[None] < signed[:, None]).sum(axis=1)
    return np.where(np.isfinite(values), better + 1, 0)


def _beats(signed: np.ndarray) -> np.ndarray:
    """Share of columns in which a row is larger than another; equal counts half."""
    more = (signed[:, None] > signed[None]).mean(axis=2)
    equal = (signed[:, None] == signed[None]).mean(axis=2)
    return more + equal / 2
