"""Comparison of a source with random-weights controls of the same architecture, sample by sample."""

from collections.abc import Sequence

import numpy as np

from modgap.discrepancy.result import Control, TestedSamples
from modgap.errors import InputError
from modgap.statistics.intervals import SampleErrors, estimate_mean
from modgap.statistics.paired import paired_difference

__all__ = ["compare_with_controls"]

ENOUGH_TO_VARY = 3
"""Fewest initializations from which the variance between them is estimated."""


def compare_with_controls(
    source: TestedSamples, controls: Sequence[TestedSamples], name: str, estimator: str
) -> Control:
    """Compare the held-out errors of a source with the mean of those of its controls.

    With three or more initializations, the variance between them divided by their number is part of the squared
    standard errors, so that the mean and the comparison hold for random weights in general. Its degrees of freedom are
    one less than the number of initializations.

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
    between = float(np.std(values, ddof=1)) if len(values) >= ENOUGH_TO_VARY else None
    more_variance = between**2 / len(values) if between is not None else 0.0
    mean_errors = _mean_errors(errors)
    more_degrees = float(len(values) - 1) if more_variance else np.inf
    mean = estimate_mean(mean_errors, more_variance=more_variance, more_degrees=more_degrees)
    difference = paired_difference(source.errors[estimator], mean_errors, more_variance, more_degrees)
    return Control(name, estimator, len(values), mean.value, mean.interval, tuple(values), between, difference)


def _mean_errors(errors: Sequence[SampleErrors]) -> SampleErrors:
    """Return the mean errors of several sources on the same samples and splits."""
    first = errors[0]
    return SampleErrors(
        np.mean([one.errors for one in errors], axis=0),
        first.weights,
        first.units,
        np.mean([one.averages for one in errors], axis=0),
        first.strata,
        first.split_seed,
    )
