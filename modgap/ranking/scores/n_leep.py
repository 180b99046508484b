"""N-LEEP: LEEP on the clusters of a Gaussian mixture in feature space, for sources without a head too."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from modgap.ranking.score import AT_MOST_ZERO, Score
from modgap.ranking.scores.leep import leep
from modgap.ranking.source_outputs import Evidence

__all__ = ["SCORE", "n_leep"]

VARIANCE_KEPT = 0.8
COMPONENTS_A_CLASS = 5
LEAST_SAMPLES = 4
"""A cluster needs so many on average; a small target gets fewer clusters than five a class."""


def n_leep(evidence: Evidence, seed: int = 0) -> float:
    """LEEP of the responsibilities of a Gaussian mixture (Li et al. 2021).

    The features are projected on the principal components that hold 80 % of their variance; the mixture has five
    components a class, as many as a quarter of the samples at most, with diagonal covariances: full ones of hundreds of
    components have more parameters than most targets have samples.

    Args:
        evidence: A source on the target's samples.
        seed: Of the mixture's start.

    Returns:
        At most 0; higher is better.
    """
    moments = evidence.moments
    shares = np.cumsum(moments.variances[::-1]) / max(moments.variances.sum(), np.finfo(float).tiny)
    points = moments.projected(int(np.searchsorted(shares, VARIANCE_KEPT)) + 1)
    clusters = max(1, min(COMPONENTS_A_CLASS * evidence.n_classes, len(points) // LEAST_SAMPLES))
    mixture = GaussianMixture(clusters, covariance_type="diag", random_state=seed, reg_covar=_floor(points))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(points)
    return leep(mixture.predict_proba(points), evidence.labels)


def _floor(points: np.ndarray) -> float:
    """Variance added to each, small against the points' own whatever their unit."""
    return 1e-6 * max(float(points.var(axis=0).max()), float(np.finfo(np.float32).tiny))


SCORE = Score(
    "n-leep", "LEEP on clusters of the features", "Li et al., CVPR 2021", n_leep, higher_is_better=True,
    bounds=AT_MOST_ZERO, usual=False,
)  # fmt: skip
