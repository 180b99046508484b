"""The same prediction for all samples, beside which the model of a run is tested."""

import math

import numpy as np
import torch

from modgap.baselines.baseline import Truth
from modgap.baselines.predictors import constant_scores
from modgap.training.batches import chunks
from modgap.training.evaluation import difference_of, test_errors
from modgap.training.metrics import Metric, task_metric
from modgap.training.training_data import TargetData

MOST_VALUES = 2**22
"""Number of values of y that are read at once."""
PERMUTATIONS = 199
FEW_PERMUTATIONS = 39
"""Number of permutations of many scores. The lowest p-value is then 0.025."""
MANY_SCORES = 2**18


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


def compare_with_constant(metric: Metric, data: TargetData, seed: int) -> dict[str, float | None]:
    """Compare a test error with that of one prediction for all samples.

    Args:
        metric: Metric of the model on the test samples.
        data: Target data.
        seed: Seed of permutations.

    Returns:
        `constant_error`, in the unit of the metric, and `chance_p`, the p-value of what a model without knowledge has.
        Of the 0-1 error, and of the RMSE of numbers, it is that of the paired difference to the constant, by sample or
        by group (two-sided). Of F1 and of metrics that rank, whose constant a random prediction can beat, it is that of
        a permutation of y over the test samples (one-sided). It is None for other metrics of values, of which another
        constant has a lower value, for fewer than 8 samples or groups, and for permutations of groups or of masks.
    """
    constant = constant_metric(data)
    is_lowest = metric.name == "0-1 error %" or (metric.name == "RMSE" and math.prod(data.output.shape[1:]) == 1)
    p_value = _paired_p(metric, constant, data) if is_lowest else _permutation_p(metric, data, seed)
    error = constant.compute()
    return {"constant_error": error if math.isfinite(error) else None, "chance_p": p_value}


def _paired_p(metric: Metric, constant: Metric, data: TargetData) -> float | None:
    first, second = (test_errors(one, data, "") for one in (metric, constant))
    if first is None or second is None:
        return None
    difference = difference_of(first.errors[""], second.errors[""], metric.unit)
    return None if difference is None else difference.p_value


def _permutation_p(metric: Metric, data: TargetData, seed: int) -> float | None:
    value, n_samples = metric.compute(), len(metric)
    if data.groups is not None or not math.isfinite(value):
        return None
    is_large = n_samples * data.output.shape[0] > MANY_SCORES
    n_as_low, n_drawn = 0, FEW_PERMUTATIONS if is_large else PERMUTATIONS
    for number in range(n_drawn):
        permuted = metric.permuted(np.random.default_rng([seed, number]).permutation(n_samples))
        if permuted is None:
            return None
        n_as_low += permuted.compute() <= value
    return (1 + n_as_low) / (1 + n_drawn)
