"""N-LEEP: LEEP on the clusters of a Gaussian mixture in feature space, which needs no classification head."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from modgap.baselines.baseline import N_SEEDS
from modgap.ranking.score import NON_POSITIVE, Score
from modgap.ranking.scores.leep import leep
from modgap.ranking.source_outputs import SourceOutputs

EXPLAINED_VARIANCE = 0.8
CLUSTERS_PER_CLASS = 5
MIN_SAMPLES_PER_CLUSTER = 4
"""Fewest samples per cluster on average. A small target gets fewer than five clusters per class."""

SMALLEST_VARIANCE = 1e-250
"""Variance that points without any are treated as having. The inverse of a millionth of it is finite."""


def n_leep(outputs: SourceOutputs, seed: int = 0) -> float:
    """Compute LEEP of the responsibilities of a Gaussian mixture.

    The features are projected on the principal components that explain 80 % of their variance. The mixture has five
    components per class, but at most a quarter as many as there are samples. The covariances are diagonal, because full
    ones of hundreds of components have more parameters than most targets have samples.

    Args:
        outputs: Outputs of a source on the target's samples.
        seed: Seed of the mixture's initialization.

    Returns:
        The score in nats, at most 0. Higher is better.

    References:
        Li et al., "Ranking Neural Checkpoints", CVPR 2021.
    """
    moments = outputs.moments
    explained = np.cumsum(moments.variances[::-1]) / max(moments.variances.sum(), np.finfo(float).tiny)
    points = moments.project(int(np.searchsorted(explained, EXPLAINED_VARIANCE)) + 1)
    clusters = max(1, min(CLUSTERS_PER_CLASS * outputs.n_classes, len(points) // MIN_SAMPLES_PER_CLUSTER))
    # A variance to add to each cluster that is small against the points' variance in any unit.
    floor = 1e-6 * max(float(points.var(axis=0).max()), SMALLEST_VARIANCE)
    mixture = GaussianMixture(clusters, covariance_type="diag", random_state=seed % N_SEEDS, reg_covar=floor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(points)
    return leep(mixture.predict_proba(points), outputs.labels)


SCORE = Score(
    name="n-leep",
    title="LEEP on clusters of the features in place of the source's classes",
    unit="nats",
    reference="Li et al., CVPR 2021",
    compute=n_leep,
    higher_is_better=True,
    bounds=NON_POSITIVE,
    default=False,
    version=2,
)
