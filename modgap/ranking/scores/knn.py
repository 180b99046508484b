"""Cross-validated error of a k-NN classifier in feature space."""

import numpy as np

from modgap.errors import InputError
from modgap.ranking.cross_validation import assign_folds, prediction_error, repeated_errors, sample_keys
from modgap.ranking.score import ALL_TASKS, CLASSIFICATION, NON_NEGATIVE, ErrorOptions, Score
from modgap.ranking.source_outputs import SourceOutputs
from modgap.statistics.intervals import SampleErrors

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


def _queries(outputs: SourceOutputs, seed: int) -> np.ndarray:
    """Return the indices of the samples that are predicted, ascending."""
    return np.sort(np.argsort(sample_keys(outputs, seed), kind="stable")[:MAX_QUERIES])


def _compute(outputs: SourceOutputs, seed: int) -> float:
    queries = _queries(outputs, seed)
    # Neighbors are in other folds, which keep groups together.
    predicted = neighbors_mean(outputs.features, outputs.target_matrix, queries, assign_folds(outputs, seed))
    if len(queries) == len(outputs):
        return prediction_error(outputs, predicted)
    # Not outputs.subset, which would renumber the classes if the queries lack one.
    queried = SourceOutputs(
        outputs.features[queries],
        outputs.labels[queries],
        values=None if outputs.values is None else outputs.values[queries],
    )
    return prediction_error(queried, predicted)


def _errors(outputs: SourceOutputs, options: ErrorOptions, seed: int) -> SampleErrors:
    queries = _queries(outputs, seed)

    def predict(folds: np.ndarray) -> np.ndarray:
        predicted = np.full(outputs.target_matrix.shape, np.nan)
        predicted[queries] = neighbors_mean(outputs.features, outputs.target_matrix, queries, folds)
        return predicted

    return repeated_errors(outputs, options.weight, seed, predict)


SCORE = Score(
    name="knn",
    title="error of 5 nearest neighbors by cosine similarity in 5-fold cross-validation",
    unit="error rate (1 - average precision for multi-label, 1 - R2 for regression)",
    reference="Cover and Hart, 1967",
    compute=_compute,
    higher_is_better=False,
    bounds=NON_NEGATIVE,
    tasks=ALL_TASKS,
    version=2,
    errors=_errors,
    error_tasks=(CLASSIFICATION,),
)
