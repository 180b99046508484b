"""PARC: rank correlation between the similarity of samples in the features and in the targets."""

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from modgap.ranking.score import ALL_TASKS, Score
from modgap.ranking.source_outputs import SourceOutputs, center_columns, principal_components
from modgap.targets.splits import stratified_subset

MAX_COMPONENTS = 32
DECIMALS = 12
"""Decimals that distances are rounded to, so that equal labels tie."""
MAX_SAMPLES = 2000
"""Most samples whose pairs are compared. More samples change only the precision of the score."""


def parc(features: np.ndarray, targets: np.ndarray, *, real_valued: bool = False) -> float:
    """Compute 100 times the rank correlation between the distances of all pairs in features and in targets.

    The distance of two samples is 1 - Pearson's correlation (algorithm 1 of the paper). The paper defines the score for
    classes alone. A correlation over one or two values would keep no more than a sign, so the distance of real values
    is the Euclidean distance, after each column is divided by its standard deviation.

    Args:
        features: Features, shape (n, D).
        targets: 0/1 for each class, or real values, shape (n, M).
        real_valued: True if the targets are values of a regression target, of any number of columns.

    Returns:
        The score in percent, in [-100, 100]. It is 0 for constant features or targets. Higher is better.

    References:
        Bolya et al., "Scalable Diverse Model Selection for Accessible Transfer Learning", NeurIPS 2021.
    """
    upper = np.triu_indices(len(features), 1)
    feature_distances = _correlation_distances(features)[upper]
    target_distances = (_euclidean_distances if real_valued else _correlation_distances)(targets)[upper]
    if np.ptp(feature_distances) == 0 or np.ptp(target_distances) == 0:
        return 0.0
    return 100 * float(spearmanr(feature_distances, target_distances).statistic)


def _correlation_distances(rows: np.ndarray) -> np.ndarray:
    """Return 1 - Pearson's correlation of all pairs of rows. It is 1 for a constant row."""
    centered = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centered, axis=1, keepdims=True)
    unit = centered / np.where(norms > 0, norms, 1)
    # Pairs of equal labels must tie, so rounding errors in the last bits are removed.
    return np.asarray(np.round(1 - unit @ unit.T, DECIMALS))


def _euclidean_distances(values: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances of all pairs of rows of standardized columns. Constant columns do not count."""
    standardized = _standardize(values)
    return np.asarray(np.round(cdist(standardized, standardized), DECIMALS))


def _standardize(rows: np.ndarray) -> np.ndarray:
    """Return the columns that are not constant, centered and divided by their standard deviation, shape (n, r)."""
    centered = center_columns(rows)
    spread = centered.std(axis=0)
    return np.asarray(centered[:, spread > 0] / spread[spread > 0])


def _compute(outputs: SourceOutputs, seed: int) -> float:
    if len(outputs) > MAX_SAMPLES:
        rows = np.sort(np.random.default_rng(seed).permutation(len(outputs))[:MAX_SAMPLES])
        if outputs.labels.ndim == 1:
            rows = stratified_subset(outputs.labels, MAX_SAMPLES, seed)
        return _compute(outputs.subset(rows), seed)
    standardized = _standardize(outputs.features)
    if not standardized.shape[1]:
        return 0.0
    if standardized.shape[1] > MAX_COMPONENTS:
        standardized = standardized @ principal_components(standardized)[1][:, ::-1][:, :MAX_COMPONENTS]
    targets = outputs.target_matrix
    real_valued = outputs.values is not None
    if targets.shape[1] == 1 and not real_valued:
        # A correlation over a single column is not defined; with the negated column beside it, it is.
        targets = np.hstack([targets, -targets])
    return parc(standardized, targets, real_valued=real_valued)


SCORE = Score(
    name="parc",
    title="rank correlation of the samples' similarity in the features and in the labels",
    unit="%",
    reference="Bolya et al., NeurIPS 2021",
    compute=_compute,
    higher_is_better=True,
    tasks=ALL_TASKS,
    version=2,
)
