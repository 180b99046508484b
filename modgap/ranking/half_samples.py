"""Random halves of a target's samples, and a score on each of them."""

from collections.abc import Iterable

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.ranking.score import Score
from modgap.ranking.source_outputs import SourceOutputs
from modgap.targets.splits import stratification_labels, stratified_keys

__all__ = ["MIN_GROUPS", "VERSION", "count_units", "half_sample", "score_half_samples"]

MIN_GROUPS = 10
"""Fewest groups, or independent samples, whose halves are used to estimate a spread."""
MOST_ALONE = 0.1
"""Largest share of samples that are alone in their class and in each half."""
VERSION = 2
"""Version of the choice of the halves, which stored scores of halves depend on."""
SEED_SALT = 0x4A1F


def half_sample(outputs: SourceOutputs, seed: int, number: int) -> np.ndarray:
    """Choose a random half of the samples, stratified by class, with groups kept together.

    The choice depends on labels, groups, seed and number only. Samples are drawn without replacement, because copies of
    a sample would be each other's nearest neighbors. Samples that are alone in their class are in each half, so that
    all halves have the same classes, if they are at most a tenth of all. If a class has a single group, half of all
    groups are chosen whatever their classes.

    Args:
        outputs: Outputs of a source on n samples.
        seed: Seed of all half-samples.
        number: Number of the half-sample, from 0.

    Returns:
        Indices of the chosen samples in ascending order, shape (h,).
    """
    half_seed = int(np.random.SeedSequence([seed, SEED_SALT, number]).generate_state(1)[0])
    labels = stratification_labels(outputs.labels)
    groups = np.arange(len(outputs))
    if outputs.groups is not None:
        groups = np.unique(outputs.groups, return_inverse=True)[1]
        group_labels = labels[np.unique(groups, return_index=True)[1]]
        if np.unique(group_labels, return_counts=True)[1].min() < 2:
            labels = np.zeros_like(labels)
    chosen = stratified_keys(labels, groups, half_seed) < 0.5
    if outputs.groups is None:
        alone = (np.bincount(labels) == 1)[labels]
        # More of them would make the halves too large, and their spread too small.
        if alone.mean() <= MOST_ALONE:
            chosen |= alone
    return np.flatnonzero(chosen)


def count_units(outputs: SourceOutputs) -> int:
    """Return the number of groups, or of samples if they are independent."""
    return len(outputs) if outputs.groups is None else len(np.unique(outputs.groups))


def score_half_samples(score: Score, outputs: SourceOutputs, seed: int, numbers: Iterable[int]) -> np.ndarray:
    """Compute a score on half-samples.

    Args:
        score: The score.
        outputs: Outputs of a source on all samples.
        seed: Seed of the half-samples and of the score's own random numbers.
        numbers: Numbers of R half-samples.

    Returns:
        Scores, shape (R,). NaN for half-samples on which the score is not defined, and everywhere if there are fewer
        than ten groups or independent samples.
    """
    if count_units(outputs) < MIN_GROUPS:
        return np.array([np.nan for _ in numbers], np.float64)
    return np.array([_score_half_sample(score, outputs, seed, number) for number in numbers], np.float64)


def _score_half_sample(score: Score, outputs: SourceOutputs, seed: int, number: int) -> float:
    try:
        return score.evaluate(outputs.subset(half_sample(outputs, seed, number)), seed)
    except UsageError:
        raise
    except (InputError, ValueError, ZeroDivisionError, np.linalg.LinAlgError):
        return float("nan")
