"""Paired comparison of two errors on the same samples and splits."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from modgap.errors import InputError
from modgap.statistics.intervals import (
    LEVEL,
    MIN_UNITS,
    SampleErrors,
    exact_interval,
    mean_and_residuals,
    variance_of_repeats,
)

__all__ = ["PairedDifference", "paired_difference"]


@dataclass(frozen=True)
class PairedDifference:
    """Difference of the mean errors of two sources on the same samples, first minus second.

    Attributes:
        value: The difference, in [-1, 1]; negative if the first source has the lower error.
        interval: 95 % interval of the difference; None with fewer than 8 independent units.
        p_value: Two-sided p-value of no difference; None with fewer than 8 independent units.
        standard_error: Standard error of the difference.
        n_units: Number of independent units: groups, or samples.
    """

    value: float
    interval: tuple[float, float] | None
    p_value: float | None
    standard_error: float
    n_units: int


def paired_difference(first: SampleErrors, second: SampleErrors, more_variance: float = 0.0) -> PairedDifference:
    """Compare two errors sample by sample.

    The standard error, and Student's t distribution with G - 1 degrees of freedom, are those of `estimate_mean` for the
    differences of unit means. What both sources share, such as samples that are hard for both, cancels.

    Args:
        first: Errors of the first source.
        second: Errors of the second source, with the same samples, weights and splits.
        more_variance: Variance of the difference from further sources, such as that between random initializations.

    Raises:
        InputError: If samples, weights, groups or splits differ.
    """
    _check_paired(first, second)
    difference = SampleErrors(
        first.errors - second.errors,
        first.weights,
        first.units,
        first.averages - second.averages,
        first.strata,
        first.split_seed,
    )
    value, residuals = mean_and_residuals(difference)
    n_units = len(residuals)
    if n_units < 2:
        return PairedDifference(value, None, None, float("nan"), n_units)
    variance = float(residuals.var(ddof=1)) / n_units + variance_of_repeats(difference.averages) + more_variance
    standard_error = float(np.sqrt(variance))
    if n_units < MIN_UNITS:
        return PairedDifference(value, None, None, standard_error, n_units)
    if standard_error == 0:
        # No unit differs, or all differ by the same: the exact interval of a proportion of 0 bounds what was not seen.
        margin = exact_interval(0.0, n_units)[1]
        p_value = 1.0 if value == 0 else 2.0 ** (1 - n_units)
        return PairedDifference(value, (max(-1.0, value - margin), min(1.0, value + margin)), p_value, 0.0, n_units)
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, n_units - 1))
    p_value = float(2 * stats.t.sf(abs(value) / standard_error, n_units - 1))
    interval = (max(-1.0, value - quantile * standard_error), min(1.0, value + quantile * standard_error))
    return PairedDifference(value, interval, p_value, standard_error, n_units)


def _check_paired(first: SampleErrors, second: SampleErrors) -> None:
    if first.errors.shape != second.errors.shape:
        raise InputError(
            f"The errors are of {len(first.errors)} and {len(second.errors)} samples. A paired comparison needs the "
            "same samples."
        )
    same = (
        np.array_equal(first.units, second.units)
        and np.allclose(first.weights, second.weights, rtol=1e-6)
        and np.array_equal(np.isfinite(first.errors), np.isfinite(second.errors))
    )
    if not same:
        raise InputError("The errors have different groups, weights or tested samples, so they cannot be paired.")
    if first.split_seed != second.split_seed or len(first.averages) != len(second.averages):
        raise InputError("The errors come from different splits, so they cannot be paired. Use the same seed.")
