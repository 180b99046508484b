"""Cross-validated error of a linear probe on the features."""

import numpy as np

from modgap.probes.ridge import cross_validated_ridge
from modgap.ranking.cross_validation import assign_folds, prediction_error
from modgap.ranking.score import ALL_TASKS, NON_NEGATIVE, Score
from modgap.ranking.source_outputs import SourceOutputs

__all__ = ["SCORE"]


def _compute(outputs: SourceOutputs, seed: int) -> float:
    features = np.asarray(outputs.features, np.float64)
    predicted = cross_validated_ridge(features, outputs.target_matrix, assign_folds(outputs, seed))
    return prediction_error(outputs, predicted)


SCORE = Score(
    name="linear-probe",
    title="error of a linear probe (ridge regression) on the features in 5-fold cross-validation",
    unit="error rate (1 - average precision for multi-label, 1 - R2 for regression)",
    reference="Alain and Bengio, 2016",
    compute=_compute,
    higher_is_better=False,
    bounds=NON_NEGATIVE,
    tasks=ALL_TASKS,
)
