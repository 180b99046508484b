"""Cross-validated error of a linear probe on the features."""

from collections.abc import Sequence

import numpy as np

from modgap.probes.ridge import cross_validated_ridge
from modgap.ranking.cross_validation import assign_folds, prediction_error, repeated_errors
from modgap.ranking.score import ALL_TASKS, NON_NEGATIVE, ErrorOptions, Score
from modgap.ranking.source_outputs import SourceOutputs, bound_magnitudes
from modgap.statistics.intervals import SampleErrors


def probe_error(outputs: SourceOutputs, seed: int = 0) -> float:
    """Compute the error of a linear probe in one five-fold cross-validation, in which every sample counts equally.

    Args:
        outputs: Outputs of a source on the samples.
        seed: Seed of the folds.
    """
    features = bound_magnitudes(outputs.features)
    predicted = cross_validated_ridge(features, outputs.target_matrix, assign_folds(outputs, seed))
    return prediction_error(outputs, predicted)


def _errors(outputs: SourceOutputs, options: ErrorOptions, seed: int) -> SampleErrors:
    features = bound_magnitudes(outputs.features)

    def predict(mask: np.ndarray, assignments: Sequence[np.ndarray]) -> list[np.ndarray]:
        points, targets = features[mask], outputs.target_matrix[mask]
        return [cross_validated_ridge(points, targets, folds) for folds in assignments]

    return repeated_errors(outputs, options.weight, seed, predict)


SCORE = Score(
    name="linear-probe",
    title="error of a linear probe (ridge regression) on the features in 5-fold cross-validation",
    unit="error rate (1 - average precision for multi-label, 1 - R2 for regression)",
    reference="Alain and Bengio, 2016",
    compute=probe_error,
    higher_is_better=False,
    bounds=NON_NEGATIVE,
    tasks=ALL_TASKS,
    version=4,
    errors=_errors,
    error_tasks=ALL_TASKS,
)
