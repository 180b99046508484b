"""Comparison of a source with random-weights controls of the same architecture, sample by sample."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from modgap.discrepancy.result import Control, TestedSamples
from modgap.discrepancy.verdict import ENOUGH_CONTROLS
from modgap.errors import InputError
from modgap.statistics.intervals import estimate_mean, student_quantile
from modgap.statistics.paired import paired_difference


def compare_with_controls(
    source: TestedSamples, controls: Sequence[TestedSamples], name: str, estimator: str
) -> Control:
    """Compare the held-out errors of a source with the mean of those of its controls.

    If pretraining does nothing, the source is one more draw from the networks with random weights. With n >= 3
    initializations, whose errors have the variance s^2, the squared standard error of the difference therefore has the
    term s^2 (1 + 1/n), and that of their mean s^2/n. Both have n - 1 degrees of freedom. The term is added to the
    variance over samples and splits. The sum has more degrees of freedom, although s^2 alone decides where networks
    differ much, so the interval and the p-value are at least those of the term alone. With fewer initializations the
    comparison holds for these alone.

    Args:
        source: Samples and errors of the source.
        controls: The same for each random initialization, with the same samples and splits.
        name: Name of the control.
        estimator: Estimator whose errors are compared.

    Raises:
        InputError: If the samples differ, or there is no error of this estimator.
    """
    if estimator not in source.errors or any(estimator not in control.errors for control in controls):
        raise InputError(f"There are no held-out errors of {estimator} to compare with the control.")
    errors = [control.errors[estimator] for control in controls]
    values = [estimate_mean(one).value for one in errors]
    between = float(np.std(values, ddof=1)) if len(values) >= ENOUGH_CONTROLS else None
    variance = between**2 if between is not None else 0.0
    blocks = [one.without for one in errors if one.without is not None]
    mean_errors = replace(
        errors[0],
        errors=np.mean([one.errors for one in errors], axis=0),
        averages=np.mean([one.averages for one in errors], axis=0),
        without=np.mean(blocks, axis=0) if len(blocks) == len(errors) else None,
    )
    n = len(values)
    degrees = float(n - 1) if variance else np.inf
    mean = estimate_mean(mean_errors, more_variance=variance / n, more_degrees=degrees)
    difference = paired_difference(source.errors[estimator], mean_errors, variance * (1 + 1 / n), degrees)
    smallest = None
    if difference.interval is not None:
        # One end of the interval may be clipped to -1 or 1.
        smallest = max(difference.interval[1] - difference.value, difference.value - difference.interval[0])
        if variance:
            standard_error = float(np.sqrt(variance * (1 + 1 / n)))
            smallest = max(smallest, student_quantile(n - 1) * standard_error)
            alone = float(2 * stats.t.sf(abs(difference.value) / standard_error, n - 1))
            interval = max(-1.0, difference.value - smallest), min(1.0, difference.value + smallest)
            difference = replace(difference, interval=interval, p_value=max(difference.p_value or 0.0, alone))
    return Control(name, estimator, n, mean.value, mean.interval, tuple(values), between, difference, smallest)
