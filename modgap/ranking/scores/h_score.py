"""H-score: how much of the features' covariance lies between the classes; plain and shrunk."""

import numpy as np
from sklearn.covariance import ledoit_wolf

from modgap.ranking.evidence import Evidence
from modgap.ranking.score import Score

__all__ = ["SCORES", "h_score", "shrunk_h_score"]


def h_score(evidence: Evidence) -> float:
    """tr(pinv(cov f) cov(E[f | y])), in [0, min(D, K - 1)] (Bao et al. 2019); higher is better.

    With fewer samples than features it comes near K - 1 whatever the labels: the shrunk one is for that case.
    """
    moments = evidence.moments
    rank = moments.variances > moments.variances[-1] * len(moments.variances) * np.finfo(np.float64).eps
    # Between the classes, on the components whose variances are not 0.
    between = _scaled_means(moments.centred, evidence.labels) @ moments.components[:, rank]
    return float((between**2).sum(axis=0) @ (1 / moments.variances[rank]) / (len(evidence) - 1))


def shrunk_h_score(evidence: Evidence) -> float:
    """The same with Ledoit and Wolf's shrunk covariance, and 1 - shrinkage of that between (Ibrahim et al. 2022)."""
    covariance, shrinkage = ledoit_wolf(np.asarray(evidence.features, np.float64))
    between = _scaled_means(evidence.moments.centred, evidence.labels)
    inner = np.linalg.pinv(covariance, hermitian=True)
    return float((1 - shrinkage) * ((between @ inner) * between).sum() / (len(evidence) - 1))


def _scaled_means(centred: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean of each class times the root of its size, shape (K, D)."""
    counts = np.bincount(labels)
    return np.stack([centred[labels == label].sum(axis=0) / np.sqrt(count) for label, count in enumerate(counts)])


SCORES = (
    Score(
        "h-score", "share of the features' covariance that lies between classes", "Bao et al., ICIP 2019",
        lambda evidence, seed: h_score(evidence), higher_is_better=True, usual=False,
    ),
    Score(
        "h-score-shrunk", "H-score with a shrunk covariance, for few samples", "Ibrahim et al., ECML 2022",
        lambda evidence, seed: shrunk_h_score(evidence), higher_is_better=True,
    ),
)  # fmt: skip
