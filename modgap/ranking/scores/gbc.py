"""GBC: overlap of the classes in feature space, each modeled as a Gaussian."""

import numpy as np

from modgap.ranking.score import NON_POSITIVE, Score
from modgap.ranking.source_outputs import SourceOutputs, bound_magnitudes

MAX_COMPONENTS = 64
VARIANCE_FLOOR = 1e-4


def gbc(features: np.ndarray, labels: np.ndarray) -> float:
    """Compute minus the sum of the Bhattacharyya coefficients of all ordered pairs of classes.

    The classes are Gaussians with diagonal covariances, whose variances are at least 1e-4.

    Args:
        features: Features, shape (n, D).
        labels: Target classes 0..K-1, shape (n,).

    Returns:
        The score in [-K (K - 1), 0]. It is 0 if no two classes overlap. Higher is better.

    References:
        Pándy et al., "Transferability Estimation using Bhattacharyya Class Separability", CVPR 2022.
    """
    class_features = [features[labels == label] for label in range(int(labels.max()) + 1)]
    means = np.stack([rows.mean(axis=0) for rows in class_features])
    variances = np.maximum([rows.var(axis=0) for rows in class_features], VARIANCE_FLOOR)
    overlap = 0.0
    for label in range(len(class_features) - 1):
        mean_variances = (variances[label] + variances[label + 1 :]) / 2
        distances = ((means[label] - means[label + 1 :]) ** 2 / mean_variances).sum(axis=1) / 8
        log_geometric_means = (np.log(variances[label]) + np.log(variances[label + 1 :])) / 2
        overlap += np.exp(-distances - (np.log(mean_variances) - log_geometric_means).sum(axis=1) / 2).sum()
    return -2 * float(overlap)


def _compute(outputs: SourceOutputs, _seed: int) -> float:
    if outputs.features.shape[1] > MAX_COMPONENTS:
        return gbc(outputs.moments.project(MAX_COMPONENTS), outputs.labels)
    return gbc(bound_magnitudes(outputs.features), outputs.labels)


SCORE = Score(
    name="gbc",
    title="minus the overlap of the classes as Gaussians, on at most 64 principal components",
    unit="Bhattacharyya coefficients",
    reference="Pándy et al., CVPR 2022",
    compute=_compute,
    higher_is_better=True,
    bounds=NON_POSITIVE,
    default=False,
    version=2,
)
