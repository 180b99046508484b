"""Error of a k-NN classifier in feature space, in which no sample votes for its own group."""

import numpy as np

from modgap.errors import InputError
from modgap.ranking.cross_validation import prediction_error, sample_keys
from modgap.ranking.score import ALL_TASKS, NON_NEGATIVE, Score
from modgap.ranking.source_outputs import SourceOutputs

__all__ = ["SCORE", "neighbors_mean"]

NEIGHBORS = 5
MAX_QUERIES = 5000
"""Most samples that are predicted. Their neighbors are searched among all samples."""
BLOCK = 1024
"""Queries in each block of similarities."""


def neighbors_mean(features: np.ndarray, targets: np.ndarray, queries: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Predict the mean of the targets of the five nearest samples by cosine similarity.

    Samples of the same group as the query are not counted as neighbors.

    Args:
        features: Features of all samples, shape (n, D).
        targets: Targets of all samples, shape (n, M).
        queries: Indices of the samples to predict, shape (q,).
        groups: Group of each sample, shape (n,).

    Returns:
        Predictions, shape (q, M), in the order of `queries`.

    Raises:
        InputError: If a sample has no neighbor outside its group.
    """
    unit = np.asarray(features, np.float32)
    norms = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = unit / np.where(norms > 0, norms, 1)
    predicted = np.empty((len(queries), targets.shape[1]))
    for start in range(0, len(queries), BLOCK):
        rows = queries[start : start + BLOCK]
        similarity = unit[rows] @ unit.T
        similarity[groups[rows][:, None] == groups] = -np.inf
        if not np.isfinite(similarity).any(axis=1).all():
            raise InputError("A sample has no neighbor outside its own group. k-NN needs at least two groups.")
        nearest = _nearest(similarity)
        valid = np.isfinite(np.take_along_axis(similarity, nearest, axis=1))
        weights = valid / np.maximum(valid.sum(axis=1, keepdims=True), 1)
        predicted[start : start + BLOCK] = np.einsum("qk,qkm->qm", weights, targets[nearest])
    return predicted


def _nearest(similarity: np.ndarray) -> np.ndarray:
    """Return the indices of the most similar samples of each row, shape (q, k)."""
    count = min(NEIGHBORS, similarity.shape[1] - 1)
    if similarity.shape[1] <= BLOCK:
        # A stable sort takes the first of equally near samples, so that every machine gives the same result.
        return np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    return np.argpartition(-similarity, count - 1, axis=1)[:, :count]


def _compute(outputs: SourceOutputs, seed: int) -> float:
    groups = np.arange(len(outputs)) if outputs.groups is None else np.asarray(outputs.groups)
    queries = np.sort(np.argsort(sample_keys(outputs, seed), kind="stable")[:MAX_QUERIES])
    predicted = neighbors_mean(outputs.features, outputs.target_matrix, queries, groups)
    if len(queries) == len(outputs):
        return prediction_error(outputs, predicted)
    # Not outputs.subset, which would renumber the classes if the queries lack one.
    queried = SourceOutputs(
        outputs.features[queries],
        outputs.labels[queries],
        values=None if outputs.values is None else outputs.values[queries],
    )
    return prediction_error(queried, predicted)


SCORE = Score(
    name="knn",
    title="error of 5 nearest neighbors by cosine similarity, without neighbors of the sample's own group",
    unit="error rate (1 - average precision for multi-label, 1 - R2 for regression)",
    reference="Cover and Hart, 1967",
    compute=_compute,
    higher_is_better=False,
    bounds=NON_NEGATIVE,
    tasks=ALL_TASKS,
)
