"""PARC: whether samples that are alike in the features are alike in what is to be predicted."""

import numpy as np
from scipy.stats import spearmanr

from modgap.ranking.score import ALL_TASKS, Score
from modgap.ranking.source_outputs import Evidence, principal
from modgap.targets.splits import stratified_subset

__all__ = ["SCORE", "parc"]

MOST_COMPONENTS = 32
DECIMALS = 12
MOST_SAMPLES = 2000
"""All pairs of so many; the score does not grow with them, only its precision does."""


def parc(features: np.ndarray, targets: np.ndarray) -> float:
    """100 times the rank correlation over pairs of samples of 1 - correlation of features and of targets.

    Bolya, Mittapalli and Hoffman (2021), algorithm 1.

    Args:
        features: Shape (n, D).
        targets: 0/1 of each class, or values, shape (n, M).

    Returns:
        In [-100, 100]; higher is better. Of constant features or targets 0.
    """
    upper = np.triu_indices(len(features), 1)
    one, other = _apart(features)[upper], _apart(targets)[upper]
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return 100 * float(spearmanr(one, other).statistic)


def _apart(rows: np.ndarray) -> np.ndarray:
    """1 - Pearson's correlation of all pairs of rows; of a constant row with any other 1."""
    centered = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centered, axis=1, keepdims=True)
    unit = centered / np.where(norms > 0, norms, 1)
    # Labels tie; a last bit of rounding must not part them.
    return np.round(1 - unit @ unit.T, DECIMALS)


def _of(evidence: Evidence, seed: int) -> float:
    if len(evidence) > MOST_SAMPLES and evidence.labels.ndim == 1:
        return _of(evidence.only(stratified_subset(evidence.labels, MOST_SAMPLES, seed)), seed)
    if len(evidence) > MOST_SAMPLES:
        return _of(evidence.only(np.sort(np.random.default_rng(seed).permutation(len(evidence))[:MOST_SAMPLES])), seed)
    features = np.asarray(evidence.features, np.float64)
    centered = features - features.mean(axis=0)
    spread = centered.std(axis=0)
    standard = centered[:, spread > 0] / spread[spread > 0]
    if not standard.shape[1]:
        return 0.0
    if standard.shape[1] > MOST_COMPONENTS:
        standard = standard @ principal(standard)[1][:, ::-1][:, :MOST_COMPONENTS]
    targets = evidence.one_hot
    # A single value has no correlation with itself over its one column; its sign beside it has.
    return parc(standard, targets if targets.shape[1] > 1 else np.hstack([targets, -targets]))


SCORE = Score(
    "parc", "rank correlation of likeness in features and in labels", "Bolya et al., NeurIPS 2021", _of,
    higher_is_better=True, tasks=ALL_TASKS,
)  # fmt: skip
