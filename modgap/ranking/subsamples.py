"""Random subsamples of nine tenths of a target's samples, and a score on each of them."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.ranking.score import Score
from modgap.ranking.source_outputs import SourceOutputs
from modgap.ranking.standings import Standings, compute_standings
from modgap.targets.splits import stratification_labels, stratified_keys

MIN_GROUPS = 10
"""Fewest groups, or independent samples, whose subsamples are used to estimate a spread."""
MOST_ALONE = 0.1
"""Largest share of samples that are alone in their class and in each subsample."""
DELETED = 0.1
"""Share of the samples that a subsample lacks.

Some scores grow with the number of samples, such as TransRate where there are more features than samples. A subsample
of one half would then vary too little, and equal sources would differ significantly in up to 31 % of the cases
(`tests/test_subsamples.py`)."""
SPREAD_FACTOR = math.sqrt((1 - DELETED) / DELETED)
"""Standard error of a score, divided by the standard deviation over subsamples (delete-d jackknife)."""
VERSION = 3
"""Version of the choice of the subsamples, which their stored scores depend on."""
SEED_SALT = 0x4A1F


def subsample(outputs: SourceOutputs, seed: int, number: int) -> np.ndarray:
    """Choose nine tenths of the samples at random, stratified by class, with groups kept together.

    The choice depends on labels, groups, seed and number only. Samples are drawn without replacement, because copies of
    a sample would be each other's nearest neighbors. Samples that are alone in their class are in each subsample, so
    that all have the same classes, if they are at most a tenth of all. If a class has a single group, nine tenths of
    all groups are chosen whatever their classes.

    Args:
        outputs: Outputs of a source on n samples.
        seed: Seed of all subsamples.
        number: Number of the subsample, from 0.

    Returns:
        Indices of the chosen samples in ascending order, shape (m,).
    """
    own_seed = int(np.random.SeedSequence([seed, SEED_SALT, number]).generate_state(1)[0])
    labels = stratification_labels(outputs.labels)
    groups = np.arange(len(outputs))
    if outputs.groups is not None:
        groups = np.unique(outputs.groups, return_inverse=True)[1]
        group_labels = labels[np.unique(groups, return_index=True)[1]]
        if np.unique(group_labels, return_counts=True)[1].min() < 2:
            labels = np.zeros_like(labels)
    chosen = stratified_keys(labels, groups, own_seed) < 1 - DELETED
    if outputs.groups is None:
        alone = (np.bincount(labels) == 1)[labels]
        # More of them would make the subsamples too large, and their spread too small.
        if alone.mean() <= MOST_ALONE:
            chosen |= alone
    return np.flatnonzero(chosen)


def count_units(outputs: SourceOutputs) -> int:
    """Return the number of groups, or of samples if they are independent."""
    return len(outputs) if outputs.groups is None else len(np.unique(outputs.groups))


def score_subsamples(score: Score, outputs: SourceOutputs, seed: int, numbers: Iterable[int]) -> np.ndarray:
    """Compute a score on subsamples.

    Args:
        score: The score.
        outputs: Outputs of a source on all samples.
        seed: Seed of the subsamples and of the score's own random numbers.
        numbers: Numbers of R subsamples.

    Returns:
        Scores, shape (R,). NaN for subsamples on which the score is not defined, and everywhere if there are fewer
        than ten groups or independent samples.
    """
    if count_units(outputs) < MIN_GROUPS:
        return np.array([np.nan for _ in numbers], np.float64)
    return np.array([_score_subsample(score, outputs, seed, number) for number in numbers], np.float64)


def _score_subsample(score: Score, outputs: SourceOutputs, seed: int, number: int) -> float:
    try:
        return score.evaluate(outputs.subset(subsample(outputs, seed, number)), seed)
    except UsageError:
        raise
    except (InputError, ValueError, ZeroDivisionError, np.linalg.LinAlgError):
        return float("nan")


def subsample_standings(
    score: Score, values: Sequence[float] | np.ndarray, subsamples: np.ndarray, n_units: int | None
) -> Standings:
    """Return the standings by a score of sources on all samples, with intervals from subsamples.

    Args:
        score: The score.
        values: Score of each source, shape (S,).
        subsamples: Score of each source on each subsample, as from `score_subsamples`, shape (S, R).
        n_units: Number of groups, or of independent samples. None if it is not known.
    """
    return compute_standings(
        values,
        subsamples,
        higher_is_better=score.higher_is_better,
        bounds=score.bounds,
        n_units=n_units,
        spread_factor=SPREAD_FACTOR,
    )
