"""The same prediction for all samples, beside which the model of a run is tested."""

import math

import torch

from modgap.baselines.baseline import Truth
from modgap.baselines.predictors import constant_scores
from modgap.training.batches import chunks
from modgap.training.evaluation import difference_of, test_errors
from modgap.training.metrics import Metric, task_metric
from modgap.training.training_data import TargetData

MOST_VALUES = 2**22
"""Number of values of y that are read at once."""


def constant_metric(data: TargetData) -> Metric:
    """Return the metric of one prediction for all test samples.

    It is the largest training class, the share of each label, or the mean of each value, over the training samples.
    """
    size = max(1, MOST_VALUES // math.prod(data.output.shape))
    truths = (Truth(data.output, *data.ground_truth(rows)) for rows in chunks(data.train, size))
    prediction = torch.from_numpy(constant_scores(truths)).reshape(data.output.shape)
    metric = task_metric(data.target.manifest, data.output, data.scale, data.protocol)
    for rows in chunks(data.test, size):
        metric.update(prediction.expand(len(rows), *data.output.shape), *data.ground_truth(rows))
    return metric


def compare_with_constant(metric: Metric, data: TargetData) -> dict[str, float | None]:
    """Compare a test error with that of one prediction for all samples.

    Args:
        metric: Metric of the model on the test samples.
        data: Target data.

    Returns:
        `constant_error`, in the unit of the metric, and `constant_p`, the two-sided p-value of the paired difference,
        by sample or by group (`paired_difference`). It is None for fewer than 8 of them, and for metrics without errors
        by sample.
    """
    constant = constant_metric(data)
    first, second = (test_errors(one, data, "") for one in (metric, constant))
    difference = None
    if first is not None and second is not None:
        difference = difference_of(first.errors[""], second.errors[""], metric.unit)
    error = constant.compute()
    return {
        "constant_error": error if math.isfinite(error) else None,
        "constant_p": None if difference is None else difference.p_value,
    }
