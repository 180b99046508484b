"""Optimal transport dataset distance between the source's own data and the target's, on the source's features."""

import numpy as np
from scipy.spatial.distance import cdist

from modgap.ranking.score import ALL_TASKS, AT_LEAST_ZERO, Score
from modgap.ranking.source_outputs import Evidence
from modgap.targets.splits import stratification_labels, stratified_subset

__all__ = ["SCORE", "dataset_distance"]

MOST_SAMPLES = 500
ITERATIONS = 1_000_000


def dataset_distance(features: np.ndarray, labels: np.ndarray, own: np.ndarray, classes: np.ndarray) -> float:
    """Exact transport between two labeled sets (Alvarez-Melis and Fusi 2020).

    The cost of a pair of samples is half the squared distance of their features and half the exact squared
    2-Wasserstein distance of their classes' features.

    Args:
        features: Shape (n, D).
        labels: Shape (n,).
        own: Shape (m, D).
        classes: Shape (m,).

    Returns:
        At least 0, which equal sets have; lower is nearer.

    Raises:
        UsageError: When POT is not installed.
    """
    rows, columns = np.unique(labels, return_inverse=True)[1], np.unique(classes, return_inverse=True)[1]
    squares = cdist(features, own, "sqeuclidean")
    between = np.empty((rows.max() + 1, columns.max() + 1))
    for i, j in np.ndindex(between.shape):
        between[i, j] = _transport(squares[np.ix_(rows == i, columns == j)])
    return _transport((squares + between[rows][:, columns]) / 2)


def _transport(cost: np.ndarray) -> float:
    from modgap.transfer.otdd import import_pot

    n, m = cost.shape
    return float(import_pot().emd2(np.full(n, 1 / n), np.full(m, 1 / m), cost, numItermax=ITERATIONS))


def _of(evidence: Evidence, seed: int) -> float:
    """Over the mean squared distance of the source's features to their mean, so that sources can be compared."""
    assert evidence.surrogate is not None
    own, classes = (np.array(each) for each in evidence.surrogate)
    features, labels = np.asarray(evidence.features, np.float64), stratification_labels(evidence.labels)
    own, classes = _some(own.astype(np.float64), classes, seed)
    features, labels = _some(features, labels, seed)
    spread = float(((own - own.mean(axis=0)) ** 2).sum(axis=1).mean())
    return dataset_distance(features, labels, own, classes) / (spread or 1.0)


def _some(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    most = max(MOST_SAMPLES, len(np.unique(labels)))
    if len(labels) <= most:
        return features, labels
    rows = stratified_subset(labels, most, seed)
    return features[rows], labels[rows]


SCORE = Score(
    "otdd", "optimal transport distance of the target to labeled data of the source's own modality",
    "Alvarez-Melis and Fusi, NeurIPS 2020", _of, higher_is_better=False,
    bounds=AT_LEAST_ZERO, tasks=ALL_TASKS, needs_surrogate=True,
    usual=False,
)  # fmt: skip
