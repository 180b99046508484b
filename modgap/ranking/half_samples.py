"""Random halves of a target's samples, and a score on each of them."""

from collections.abc import Iterable

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.ranking.score import Score
from modgap.ranking.source_outputs import Evidence
from modgap.targets.splits import stratification_labels, stratified_keys

__all__ = ["LEAST_GROUPS", "half_sample", "on_halves"]

LEAST_GROUPS = 10
"""Groups below which halves of them say nothing."""


def half_sample(evidence: Evidence, seed: int, number: int) -> np.ndarray:
    """Rows of a random half of the samples, by class and with groups whole; a function of labels, groups, seed, number.

    Without replacement: copies of a sample would be each other's nearest neighbors. Where a class has one group only,
    half of all groups whatever their class.
    """
    own = int(np.random.SeedSequence([seed, 0x4A1F, number]).generate_state(1)[0])
    labels, units = stratification_labels(evidence.labels), np.arange(len(evidence))
    if evidence.groups is not None:
        units = np.unique(evidence.groups, return_inverse=True)[1]
        owners = labels[np.unique(units, return_index=True)[1]]
        if np.unique(owners, return_counts=True)[1].min() < 2:
            labels = np.zeros_like(labels)
    return np.flatnonzero(stratified_keys(labels, units, own) < 0.5)


def on_halves(score: Score, evidence: Evidence, seed: int, numbers: Iterable[int]) -> np.ndarray:
    """The score on the halves of these numbers, shape (R,); NaN where it is not defined, or groups are too few."""
    few = evidence.groups is not None and len(np.unique(evidence.groups)) < LEAST_GROUPS
    return np.array([np.nan if few else _on_half(score, evidence, seed, number) for number in numbers], np.float64)


def _on_half(score: Score, evidence: Evidence, seed: int, number: int) -> float:
    try:
        return score.of(evidence.only(half_sample(evidence, seed, number)), seed)
    except UsageError:
        raise
    except (InputError, ValueError, ZeroDivisionError, np.linalg.LinAlgError):
        return float("nan")
