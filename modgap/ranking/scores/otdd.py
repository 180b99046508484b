"""OTDD: optimal transport distance between the target and the source's own data, on the source's features."""

import numpy as np
from scipy.spatial.distance import cdist

from modgap.ranking.score import ALL_TASKS, NON_NEGATIVE, Score
from modgap.ranking.source_outputs import SourceOutputs
from modgap.targets.splits import stratification_labels, stratified_subset

MAX_SAMPLES = 500
"""Most samples of each of the two sets, unless there are more classes."""
MAX_ITERATIONS = 1_000_000
"""Most iterations of the transport solver."""


def dataset_distance(
    target_features: np.ndarray, target_labels: np.ndarray, source_features: np.ndarray, source_labels: np.ndarray
) -> float:
    """Compute the exact optimal transport distance between two labeled sets.

    The cost of a pair of samples is half the squared distance of their features plus half the exact squared
    2-Wasserstein distance between the features of their classes.

    Args:
        target_features: Features of the first set, shape (n, D).
        target_labels: Labels of the first set, shape (n,).
        source_features: Features of the second set, shape (m, D).
        source_labels: Labels of the second set, shape (m,).

    Returns:
        The distance, at least 0, in the features' squared unit. Equal sets have distance 0. Lower is nearer.

    Raises:
        UsageError: If POT is not installed.

    References:
        Alvarez-Melis and Fusi, "Geometric Dataset Distances via Optimal Transport", NeurIPS 2020.
    """
    rows = np.unique(target_labels, return_inverse=True)[1]
    columns = np.unique(source_labels, return_inverse=True)[1]
    squares = cdist(target_features, source_features, "sqeuclidean")
    class_distances = np.empty((rows.max() + 1, columns.max() + 1))
    for i, j in np.ndindex(class_distances.shape):
        class_distances[i, j] = _transport_cost(squares[np.ix_(rows == i, columns == j)])
    return _transport_cost((squares + class_distances[rows][:, columns]) / 2)


def _transport_cost(cost: np.ndarray) -> float:
    from modgap.training.methods.orca import import_pot

    n, m = cost.shape
    return float(import_pot().emd2(np.full(n, 1 / n), np.full(m, 1 / m), cost, numItermax=MAX_ITERATIONS))


def _compute(outputs: SourceOutputs, seed: int) -> float:
    """Divide the distance by the spread of the source's features, so that sources can be compared.

    The spread is the mean squared distance of the features of the source's own data to their mean.
    """
    assert outputs.surrogate is not None
    source_features = np.array(outputs.surrogate[0]).astype(np.float64)
    source_features, source_labels = _subsample(source_features, np.array(outputs.surrogate[1]), seed)
    target_features = np.asarray(outputs.features, np.float64)
    target_features, target_labels = _subsample(target_features, stratification_labels(outputs.labels), seed)
    spread = float(((source_features - source_features.mean(axis=0)) ** 2).sum(axis=1).mean())
    return dataset_distance(target_features, target_labels, source_features, source_labels) / (spread or 1.0)


def _subsample(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    count = max(MAX_SAMPLES, len(np.unique(labels)))
    if len(labels) <= count:
        return features, labels
    rows = stratified_subset(labels, count, seed)
    return features[rows], labels[rows]


SCORE = Score(
    name="otdd",
    title="optimal transport distance of the target from labeled data of the source's own modality",
    unit="relative to the variance of the source's features",
    reference="Alvarez-Melis and Fusi, NeurIPS 2020",
    compute=_compute,
    higher_is_better=False,
    bounds=NON_NEGATIVE,
    tasks=ALL_TASKS,
    needs_surrogate=True,
    default=False,
)
