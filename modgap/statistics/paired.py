"""Paired comparison of two errors on the same samples and splits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from modgap.errors import InputError
from modgap.statistics.intervals import (
    LEVEL,
    MIN_UNITS,
    ROUNDING,
    SampleErrors,
    degrees_of_freedom,
    exact_interval,
    mean_and_contributions,
    unit_degrees,
    variance_of_models,
)


@dataclass(frozen=True)
class PairedDifference:
    """Difference of the mean errors of two sources on the same samples, first minus second.

    Attributes:
        value: The difference, in [-1, 1] for errors in [0, 1]; negative if the first source has the lower error.
        interval: 95 % interval of the difference; None with fewer than 8 independent units.
        p_value: Two-sided p-value of no difference; None with fewer than 8 independent units.
        standard_error: Standard error of the difference; NaN with fewer than 2 independent units.
        n_units: Number of independent units: groups, or samples.
    """

    value: float
    interval: tuple[float, float] | None
    p_value: float | None
    standard_error: float
    n_units: int


@dataclass(frozen=True)
class PairedDifferences:
    """Differences of all pairs of S sources on the same samples; entry (i, j) is source i minus source j.

    With fewer than 8 independent units, all arrays but `values` are NaN.

    Attributes:
        values: The differences, shape (S, S).
        intervals: 95 % interval of each difference, shape (S, S, 2).
        p_values: Two-sided p-value of no difference, not corrected for the number of pairs, shape (S, S).
        standard_errors: Standard error of each difference, shape (S, S).
        degrees: Degrees of freedom of each standard error, shape (S, S).
    """

    values: np.ndarray
    intervals: np.ndarray
    p_values: np.ndarray
    standard_errors: np.ndarray
    degrees: np.ndarray


def paired_difference(
    first: SampleErrors,
    second: SampleErrors,
    more_variance: float = 0.0,
    more_degrees: float = np.inf,
    largest: float = 1.0,
) -> PairedDifference:
    """Compare two errors sample by sample.

    The standard error is that of `estimate_mean` for the differences of unit means. What both sources share, such as
    samples that are hard for both, cancels. Student's t distribution has the degrees of freedom of `unit_degrees`
    alone: differences are less skewed than errors, and keep their level without the wider margin.

    Args:
        first: Errors of the first source.
        second: Errors of the second source, with the same samples, weights and splits.
        more_variance: Variance of the difference from other causes, such as random initializations.
        more_degrees: Degrees of freedom of the estimate of `more_variance`. Those of the comparison combine both by
            Satterthwaite's formula.
        largest: Largest absolute difference that is possible, to which the interval is clipped; infinity for errors
            that are not bounded, such as squared errors.

    Raises:
        InputError: If samples, weights, groups, classes or splits differ.
    """
    _check_paired(first, second)
    without = None
    if first.without is not None and second.without is not None:
        without = first.without - second.without
    averages = first.averages - second.averages
    difference = replace(first, errors=first.errors - second.errors, averages=averages, without=without)
    value, contributions = mean_and_contributions(difference)
    n_units = len(contributions)
    if n_units < 2:
        return PairedDifference(value, None, None, float("nan"), n_units)
    variance = float(contributions @ contributions) + variance_of_models(difference)
    standard_error = float(np.sqrt(variance + more_variance))
    if n_units < MIN_UNITS:
        return PairedDifference(value, None, None, standard_error, n_units)
    degrees = degrees_of_freedom([(variance, unit_degrees(difference)), (more_variance, more_degrees)])
    rounding = _rounding([first, second], largest)
    if standard_error <= rounding:
        standard_error = 0.0
    values, standard_errors, all_degrees = (np.array([one]) for one in (value, standard_error, degrees))
    intervals, p_values = _intervals_and_p_values(values, standard_errors, all_degrees, n_units, rounding, largest)
    low, high = intervals[0].tolist()
    return PairedDifference(value, (low, high), float(p_values[0]), standard_error, n_units)


def paired_differences(
    errors: Sequence[SampleErrors], largest: float = 1.0, more: Sequence[tuple[float, float]] | None = None
) -> PairedDifferences:
    """Compare all pairs of sources as `paired_difference` does, in one pass.

    Args:
        errors: Errors of S sources, at least one, with the same samples, weights and splits.
        largest: Largest absolute difference that is possible, to which intervals are clipped; infinity for errors that
            are not bounded.
        more: For each of the S sources, the variance of its mean from further random draws that no two sources share,
            such as those of its training, and the degrees of freedom of this estimate. None for no such variance.

    Raises:
        InputError: If samples, weights, groups, classes or splits differ.
    """
    for other in errors[1:]:
        _check_paired(errors[0], other)
    means_and_contributions = [mean_and_contributions(one) for one in errors]
    means = np.array([mean for mean, _ in means_and_contributions])
    contributions = np.stack([of_source for _, of_source in means_and_contributions])
    parts = [one.without for one in errors if one.without is not None]
    # The variance of B values of a jackknife is B - 1 times their sum of squares over B, and not over B - 1.
    is_jackknife = len(parts) == len(errors)
    averages = np.stack(parts if is_jackknife else [one.averages for one in errors])
    factor = (averages.shape[1] - 1) ** 2 / averages.shape[1] if is_jackknife else 1.0
    values = means[:, None] - means
    n_units = contributions.shape[1]
    if n_units < MIN_UNITS:
        unknown = np.full(values.shape, np.nan)
        return PairedDifferences(values, np.stack([unknown, unknown], axis=2), unknown, unknown, unknown)
    unit_variances = np.stack([((row - contributions) ** 2).sum(axis=1) for row in contributions])
    variances = unit_variances
    if averages.shape[1] > 1:
        variances = variances + factor * np.stack([(row - averages).var(axis=1, ddof=1) for row in averages])
    more_variances, more_degrees = np.array(more or [(0.0, np.inf)] * len(errors)).T
    total = variances + more_variances[:, None] + more_variances
    # Satterthwaite's formula, as in `degrees_of_freedom`, for all pairs.
    n_degrees = unit_degrees(errors[0])
    of_sources = more_variances**2 / more_degrees
    terms = variances**2 / n_degrees + of_sources[:, None] + of_sources
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = np.where(terms > 0, total**2 / terms, n_degrees)
    standard_errors = np.sqrt(total)
    rounding = _rounding(errors, largest)
    intervals, p_values = _intervals_and_p_values(values, standard_errors, degrees, n_units, rounding, largest)
    return PairedDifferences(values, intervals, p_values, standard_errors, degrees)


def _intervals_and_p_values(
    values: np.ndarray, standard_errors: np.ndarray, degrees: np.ndarray, n_units: int, rounding: float, largest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % intervals (..., 2) and the two-sided p-values (...) of differences (...).

    A difference that is the same in all units, up to rounding, has an exact interval, and the p-value of the sign test,
    or 1 if it is 0.
    """
    margins = special.stdtrit(degrees, (1 + LEVEL) / 2) * standard_errors
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values = 2 * special.stdtr(degrees, -np.abs(values) / standard_errors)
    constant = standard_errors <= rounding
    p_values[constant] = np.where(np.abs(values[constant]) <= rounding, 1.0, 2.0 ** (1 - n_units))
    intervals = np.stack([values - margins, values + margins], axis=-1).clip(-largest, largest)
    intervals[constant] = _constant_intervals(values[constant], n_units, largest)
    return intervals, p_values


def _constant_intervals(values: np.ndarray, n_units: int, largest: float) -> np.ndarray:
    """Return the intervals (..., 2) of differences (...) that are the same in all units.

    By the exact interval of a proportion of 0, at most a certain share of all units differs from those that were seen,
    and their differences may be any from -largest to largest. Without a largest difference there is no bound, and the
    interval is the value alone.
    """
    if not np.isfinite(largest):
        return np.stack([values, values], axis=-1)
    unseen = exact_interval(0.0, n_units)[1]
    seen = values * (1 - unseen)
    return np.stack([seen - unseen * largest, seen + unseen * largest], axis=-1).clip(-largest, largest)


def _rounding(errors: Sequence[SampleErrors], largest: float) -> float:
    """Return the value up to which a standard error or a difference may be due to rounding."""
    if np.isfinite(largest):
        return ROUNDING * largest
    return ROUNDING * max(float(np.abs(one.errors[one.tested]).max(initial=0.0)) for one in errors)


def _tested_strata(errors: SampleErrors) -> np.ndarray:
    """Return the class of each tested sample; an array without values if the error is no mean over classes."""
    return np.empty(0) if errors.strata is None else errors.strata[errors.tested]


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
        and np.array_equal(_tested_strata(first), _tested_strata(second))
    )
    if not same:
        raise InputError(
            "The errors have different groups, classes, weights or tested samples, so they cannot be paired."
        )
    if first.split_seed != second.split_seed or len(first.averages) != len(second.averages):
        raise InputError("The errors come from different splits, so they cannot be paired. Use the same seed.")
