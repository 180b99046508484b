"""Comparison of a source with random-weights controls of the same architecture, sample by sample."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from modgap.discrepancy.result import Control, TestedSamples
from modgap.discrepancy.verdict import ENOUGH_CONTROLS
from modgap.errors import InputError
from modgap.statistics.intervals import estimate_mean, student_quantile
from modgap.statistics.paired import PairedDifference, paired_difference


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
    mean_errors = replace(
        errors[0],
        errors=np.mean([one.errors for one in errors], axis=0),
        averages=np.mean([one.averages for one in errors], axis=0),
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
            difference, smallest = _at_least_as_wide(difference, smallest, np.sqrt(variance * (1 + 1 / n)), n - 1)
    return Control(name, estimator, n, mean.value, mean.interval, tuple(values), between, difference, smallest)


def _at_least_as_wide(
    difference: PairedDifference, margin: float, standard_error: float, degrees: int
) -> tuple[PairedDifference, float]:
    """Return a difference whose interval and p-value are at least those of a standard error, and half its width."""
    assert difference.p_value is not None
    value = difference.value
    margin = max(margin, student_quantile(degrees) * standard_error)
    p_value = max(difference.p_value, float(2 * stats.t.sf(abs(value) / standard_error, degrees)))
    interval = max(-1.0, value - margin), min(1.0, value + margin)
    return replace(difference, interval=interval, p_value=p_value), margin
