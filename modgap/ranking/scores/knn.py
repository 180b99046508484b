"""Error of nearest neighbors in feature space, each sample judged without its own group."""

import numpy as np

from modgap.errors import InputError
from modgap.ranking.cross_validation import error_of, halves_order
from modgap.ranking.score import ALL_TASKS, AT_LEAST_ZERO, Score
from modgap.ranking.source_outputs import Evidence

__all__ = ["SCORE", "neighbors_mean"]

NEIGHBORS = 5
MOST_ASKED = 5000
"""So many samples are judged, by all others."""
BLOCK = 1024


def neighbors_mean(features: np.ndarray, targets: np.ndarray, asked: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mean of the targets of the five nearest samples by cosine, those of the same group left out.

    Args:
        features: Shape (n, D).
        targets: Shape (n, M).
        asked: Numbers of the samples to predict, shape (a,).
        groups: Group of each sample, shape (n,).

    Returns:
        Predictions, shape (a, M), in the order of `asked`.

    Raises:
        InputError: When a sample has no neighbor outside its group.
    """
    unit = np.asarray(features, np.float32)
    norms = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = unit / np.where(norms > 0, norms, 1)
    predicted = np.empty((len(asked), targets.shape[1]))
    for start in range(0, len(asked), BLOCK):
        rows = asked[start : start + BLOCK]
        alike = unit[rows] @ unit.T
        alike[groups[rows][:, None] == groups] = -np.inf
        most = min(NEIGHBORS, alike.shape[1] - 1)
        # Of equally near ones the first: a stable order gives the same on every machine.
        near = np.argsort(-alike, axis=1, kind="stable")[:, :most] if alike.shape[1] <= BLOCK else _nearest(alike, most)
        if not np.isfinite(alike).any(axis=1).all():
            raise InputError("a sample has no neighbor outside its own group")
        valid = np.isfinite(np.take_along_axis(alike, near, axis=1))
        weights = valid / np.maximum(valid.sum(axis=1, keepdims=True), 1)
        predicted[start : start + BLOCK] = np.einsum("ak,akm->am", weights, targets[near])
    return predicted


def _nearest(alike: np.ndarray, most: int) -> np.ndarray:
    return np.argpartition(-alike, most - 1, axis=1)[:, :most]


def _of(evidence: Evidence, seed: int) -> float:
    groups = np.arange(len(evidence)) if evidence.groups is None else np.asarray(evidence.groups)
    asked = np.sort(np.argsort(halves_order(evidence, seed), kind="stable")[:MOST_ASKED])
    predicted = neighbors_mean(evidence.features, evidence.one_hot, asked, groups)
    # Judged as they are: a class that none of them has must not be renumbered away.
    if len(asked) == len(evidence):
        return error_of(evidence, predicted)
    part = Evidence(
        evidence.features[asked], evidence.labels[asked],
        values=None if evidence.values is None else evidence.values[asked],
    )  # fmt: skip
    return error_of(part, predicted)


SCORE = Score(
    "knn", "error of the vote of five nearest neighbors by cosine, each sample without its own group",
    "Cover and Hart, 1967", _of, higher_is_better=False, bounds=AT_LEAST_ZERO, tasks=ALL_TASKS,
)  # fmt: skip
