"""Cross-validated error of a k-NN classifier in feature space."""

from collections.abc import Sequence

import numpy as np

from modgap.discrepancy.kernels.compilation import kernel
from modgap.errors import InputError
from modgap.ranking.cross_validation import assign_folds, prediction_error, repeated_errors
from modgap.ranking.score import ALL_TASKS, NON_NEGATIVE, ErrorOptions, Score
from modgap.ranking.source_outputs import CLASSIFICATION, SourceOutputs
from modgap.statistics.intervals import SampleErrors
from modgap.targets.splits import stratification_labels, stratified_keys

NEIGHBORS = 5
MAX_QUERIES = 5000
"""Largest number of samples that are predicted. Their neighbors are searched among all samples."""
BLOCK = 256
"""Number of queries whose similarities to all samples are in memory at once."""


def neighbor_means(
    features: np.ndarray, targets: np.ndarray, queries: np.ndarray, groupings: Sequence[np.ndarray]
) -> np.ndarray:
    """Predict the mean of the targets of the five nearest samples by cosine similarity.

    Samples of the same group as the query are not counted as neighbors, and of equally near ones the first count.

    Args:
        features: Features of all samples, shape (n, D).
        targets: Targets of all samples, shape (n, M).
        queries: Indices of the samples to predict, shape (q,).
        groupings: Group of each sample, shape (n,), in each of g predictions.

    Returns:
        Predictions, shape (g, q, M), in the order of `queries`.

    Raises:
        InputError: If a sample has no neighbor outside its group.
    """
    unit = _unit_rows(features)
    predicted = np.empty((len(groupings), len(queries), targets.shape[1]))
    for start in range(0, len(queries), BLOCK):
        rows = queries[start : start + BLOCK]
        similarity = unit[rows] @ unit.T
        for number, groups in enumerate(groupings):
            nearest, n_found = _nearest(similarity, groups[rows], groups)
            weights = (np.arange(nearest.shape[1]) < n_found[:, None]) / n_found[:, None]
            predicted[number, start : start + BLOCK] = np.einsum("qk,qkm->qm", weights, targets[nearest])
    return predicted


def _unit_rows(features: np.ndarray) -> np.ndarray:
    """Return the rows divided by their norms, single precision, shape (n, D). Rows of zeros stay zero.

    Each row is first scaled by a power of two, which changes no bit of the result, so that its squares neither overflow
    nor vanish in single precision.
    """
    floats = features if features.dtype in (np.float32, np.float64) else np.asarray(features, np.float64)
    exponents = np.frexp(np.maximum(floats.max(axis=1, initial=0), -floats.min(axis=1, initial=0)))[1]
    unit: np.ndarray = np.asarray(np.ldexp(floats, -exponents[:, None]), np.float32)
    norms = np.linalg.norm(unit, axis=1, keepdims=True)
    unit /= np.where(norms > 0, norms, 1)
    return unit


def _nearest(similarity: np.ndarray, query_groups: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the nearest samples, shape (q, k), and how many each query has, at most k, shape (q,)."""
    nearest = np.zeros((len(similarity), max(1, min(NEIGHBORS, len(groups) - 1))), np.int64)
    best = np.empty(nearest.shape, np.float32)
    n_found = np.empty(len(similarity), np.int64)
    _find_nearest(similarity, query_groups.astype(np.int64), groups.astype(np.int64), best, nearest, n_found)
    if not n_found.all():
        raise InputError("A sample has no neighbor outside its own group. k-NN needs at least two groups.")
    return nearest, n_found


@kernel
def _find_nearest(
    similarity: np.ndarray,
    query_groups: np.ndarray,
    groups: np.ndarray,
    best: np.ndarray,
    nearest: np.ndarray,
    n_found: np.ndarray,
) -> None:
    """Find the most similar samples of other groups for each query; of equally similar ones the first counts.

    Args:
        similarity: Similarity of each query and sample, shape (q, n).
        query_groups: Group of each query, shape (q,).
        groups: Group of each sample, shape (n,).
        best: Receives the largest similarities, shape (q, k), in descending order.
        nearest: Receives the indices of their samples, shape (q, k).
        n_found: Receives the number of neighbors of each query, at most k, shape (q,).
    """
    n_best = nearest.shape[1]
    for query in range(similarity.shape[0]):
        count = 0
        for sample in range(similarity.shape[1]):
            value = similarity[query, sample]
            if count == n_best and not value > best[query, n_best - 1]:
                continue
            if groups[sample] == query_groups[query]:
                continue
            rank = min(count, n_best - 1)
            while rank > 0 and value > best[query, rank - 1]:
                best[query, rank] = best[query, rank - 1]
                nearest[query, rank] = nearest[query, rank - 1]
                rank -= 1
            best[query, rank] = value
            nearest[query, rank] = sample
            count = min(count + 1, n_best)
        n_found[query] = count


def _queries(outputs: SourceOutputs, seed: int) -> np.ndarray:
    """Return the indices of the samples that are predicted, ascending."""
    # The keys are spread evenly over each class, and those of a group lie together.
    keys = stratified_keys(stratification_labels(outputs.labels), outputs.groups, seed)
    return np.sort(np.argsort(keys, kind="stable")[:MAX_QUERIES])


def _compute(outputs: SourceOutputs, seed: int) -> float:
    queries = _queries(outputs, seed)
    # Neighbors are in other folds, which keep groups together.
    folds = assign_folds(outputs, seed)
    predicted = neighbor_means(outputs.features, outputs.target_matrix, queries, [folds])[0]
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
    is_query = np.zeros(len(outputs), bool)
    is_query[_queries(outputs, seed)] = True

    def predict(mask: np.ndarray, assignments: Sequence[np.ndarray]) -> list[np.ndarray]:
        features, targets, queries = outputs.features[mask], outputs.target_matrix[mask], np.flatnonzero(is_query[mask])
        predicted = np.full((len(assignments), *targets.shape), np.nan)
        predicted[:, queries] = neighbor_means(features, targets, queries, assignments)
        return list(predicted)

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
    version=5,
    errors=_errors,
    error_tasks=(CLASSIFICATION,),
)
