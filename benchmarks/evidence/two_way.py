"""Intervals of means over targets that also cover the choice of the sources, and what they can detect."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 2000
DRAWN_AT_A_TIME = 10_000
FEWEST_SOURCES = 3
"""Fewest distinct sources of a resample, below which there is nothing to choose."""

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A function of the numbers of sources (s,) and of targets (t,) to one value for each of these targets."""


@dataclass(frozen=True)
class MeanInterval:
    """A mean over targets with its 95 % interval.

    Attributes:
        mean: The mean.
        low: Lower bound of the 95 % interval.
        high: Upper bound.
        p_value: Two-sided p-value of a mean of 0.
    """

    mean: float
    low: float
    high: float
    p_value: float


def regrets(scores: np.ndarray, errors: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the error of a score's first choice minus the lowest error, for each target; the mean over tied choices.

    Args:
        scores: Score by source and target, (S, T), higher is better; NaN where it is not defined.
        errors: Error by source and target, (S, T).
        sources: Numbers of the sources to choose from, (s,).
        targets: Numbers of the targets, (t,).

    Returns:
        Regrets (t,); where no source has a score, that of a random choice.
    """
    resampled = errors[np.ix_(sources, targets)]
    values = scores[np.ix_(sources, targets)]
    values = np.where(np.isnan(values), -np.inf, values)
    chosen = values == values.max(axis=0)
    result: np.ndarray = (resampled * chosen).sum(axis=0) / chosen.sum(axis=0) - resampled.min(axis=0)
    return result


def resampled_means(
    statistic: Statistic,
    n_sources: int,
    n_targets: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    pooled: bool = False,
) -> np.ndarray:
    """Return the mean of a statistic over targets in resamples of sources and of targets, both with replacement.

    A source that is drawn twice is one choice, so a resample has about two thirds of the sources. Ten sources have
    about a thousand subsets, so a statistic of single targets is computed once for each subset that was drawn.

    Args:
        statistic: The statistic.
        n_sources: Number of sources S.
        n_targets: Number of targets T.
        resamples: Number of resamples.
        seed: Seed of the draws.
        pooled: True if the value of a target depends on the other targets that were drawn with it.
    """
    drawn, targets = _draws(n_sources, n_targets, resamples, seed)
    if pooled:
        rows = zip(drawn, targets, strict=True)
        return np.array([statistic(np.flatnonzero(row), numbers).mean() for row, numbers in rows])
    subsets, numbers = np.unique(drawn, axis=0, return_inverse=True)
    values = np.array([statistic(np.flatnonzero(subset), np.arange(n_targets)) for subset in subsets])
    means: np.ndarray = values[numbers.ravel()[:, None], targets].mean(axis=1)
    return means


def _draws(n_sources: int, n_targets: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which sources are drawn (R, S), at least three different ones, and the numbers of the targets (R, T)."""
    rng = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < resamples:
        drawn = np.zeros((DRAWN_AT_A_TIME, n_sources), bool)
        drawn[np.arange(DRAWN_AT_A_TIME)[:, None], rng.integers(n_sources, size=drawn.shape)] = True
        parts.append(drawn[drawn.sum(axis=1) >= min(FEWEST_SOURCES, n_sources)])
    return np.concatenate(parts)[:resamples], rng.integers(n_targets, size=(resamples, n_targets))


def two_way_interval(
    statistic: Statistic,
    n_sources: int,
    n_targets: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    centered: bool = False,
    pooled: bool = False,
) -> MeanInterval:
    """Return the mean of a statistic over all targets, with its interval over other targets and other sources.

    The interval is that of the percentiles of the resampled means, and the p-value is twice the smaller share of them
    beyond 0. Since a resample has fewer sources, both are conservative for differences (`evidence_power.py`).

    Regrets need a centered interval, of 1.96 standard deviations of the resampled means around the mean. The best of
    fewer sources is less far from the others, so that the resampled means of a poor order are too low.

    Args:
        statistic: The statistic.
        n_sources: Number of sources S.
        n_targets: Number of targets T.
        resamples: Number of resamples.
        seed: Seed of the draws.
        centered: True for the centered interval, with the p-value of the normal distribution.
        pooled: True if the value of a target depends on the other targets that were drawn with it.
    """
    mean = float(statistic(np.arange(n_sources), np.arange(n_targets)).mean())
    means = resampled_means(statistic, n_sources, n_targets, resamples=resamples, seed=seed, pooled=pooled)
    if centered:
        error = float(means.std(ddof=1))
        half = float(stats.norm.ppf(0.975)) * error
        p_value = 2 * float(stats.norm.sf(abs(mean) / error)) if error else float(mean == 0)
        return MeanInterval(mean, mean - half, mean + half, p_value)
    low, high = np.percentile(means, [2.5, 97.5])
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    return MeanInterval(mean, float(low), float(high), min(1.0, 2 * (1 + float(beyond)) / (1 + resamples)))


def exact_zeros(differences: Any) -> Any:
    """Return differences of errors in percent in which equal errors, of other rounding, differ by exactly 0."""
    return np.round(differences, 9)


def target_interval(values: np.ndarray) -> MeanInterval:
    """Return the mean of values (T,) with its interval over other targets, for these sources, by Student's t."""
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / np.sqrt(len(values))
    if error == 0:
        return MeanInterval(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, len(values) - 1))
    return MeanInterval(mean, mean - half, mean + half, p_value)


@dataclass(frozen=True)
class VarianceComponents:
    """Variances of errors by source and target, and of seeds.

    Attributes:
        target: Variance of the targets' means.
        source: Variance of the sources' means: what a constant answer can use.
        interaction: Variance that is left: what a score can add to a constant answer.
        seed: Variance of one training about the mean over seeds.
    """

    target: float
    source: float
    interaction: float
    seed: float


def seed_variance(values: np.ndarray) -> float:
    """Return the variance of one training about the mean over seeds, pooled over the cells that have two seeds or more.

    Args:
        values: Errors or transformed errors by source, target and seed, (S, T, R); NaN where a seed was not run.
    """
    repeated = (~np.isnan(values)).sum(axis=2) > 1
    return float(np.nanvar(values[repeated], axis=1, ddof=1).mean())


def variance_components(errors: np.ndarray) -> VarianceComponents:
    """Estimate the variance components of a crossed design by the method of moments; a negative estimate is 0.

    Args:
        errors: Errors by source, target and seed, (S, T, R); NaN where a seed was not run. Each cell has a seed, and
            some have at least 2.
    """
    n_sources, n_targets, _ = errors.shape
    n_seeds = (~np.isnan(errors)).sum(axis=2)
    means = np.nanmean(errors, axis=2)
    seed = seed_variance(errors)
    by_source, by_target, whole = means.mean(axis=1), means.mean(axis=0), means.mean()
    rest = means - by_source[:, None] - by_target[None, :] + whole
    left = float((rest**2).sum() / ((n_sources - 1) * (n_targets - 1)))
    return VarianceComponents(
        target=max(0.0, float(by_target.var(ddof=1)) - left / n_sources),
        source=max(0.0, float(by_source.var(ddof=1)) - left / n_targets),
        interaction=max(0.0, left - seed * float((1 / n_seeds).mean())),
        seed=seed,
    )
