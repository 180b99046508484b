"""The mean error over samples under repeated splits, and its 95 % interval."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from modgap.statistics.splits import Splits

LEVEL = 0.95
ROUNDING = 1e-12
"""Standard errors, and distances from 0 and 1, up to which a difference may be due to rounding."""
MIN_UNITS = 8
"""Fewest groups, or independent samples, from which an interval is computed."""
REPEAT_DEGREES = 4.0
"""Degrees of freedom of the variance of the averages of the repeats.

All repeats split the same samples, so more of them do not make this variance more certain. In simulations, it varied
over data sets as an estimate of a variance with 1 to 8 degrees of freedom does.
"""


@dataclass(frozen=True)
class SampleErrors:
    """Errors of a source on the samples of a target, averaged over repeated splits.

    Two sources whose errors have the same samples, weights and splits can be compared sample by sample.

    Attributes:
        errors: Mean error of each sample over the folds that test it, shape (N,); NaN if no fold tests it.
        weights: Weight of each sample in the mean, 0 or more, shape (N,).
        units: Number of the group that each sample belongs to, or of the sample itself if samples are independent,
            shape (N,). Units are independent of each other.
        averages: Weighted mean error of each repeat of the splits, shape (S,).
        strata: Class of each sample, if the error is a mean over classes, shape (N,); else None.
        split_seed: Seed of the splits.
        is_bounded: True if errors lie in [0, 1], as error rates do. False for errors in any unit, such as squared ones.
        without: Mean error of models that are fitted without each of B blocks of groups, or its change, shape (B,); see
            `modgap.statistics.jackknife.group_blocks`. None if the repeats show how much the error depends on models.
    """

    errors: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    units: np.ndarray = field(repr=False)
    averages: np.ndarray = field(repr=False)
    strata: np.ndarray | None = field(repr=False)
    split_seed: int
    is_bounded: bool = True
    without: np.ndarray | None = field(default=None, repr=False)

    @property
    def tested(self) -> np.ndarray:
        """Numbers of the samples that some fold tests, shape (M,)."""
        return np.flatnonzero(np.isfinite(self.errors) & (self.weights > 0))

    @property
    def n_units(self) -> int:
        """Number of groups or independent samples that are tested."""
        return len(np.unique(self.units[self.tested]))


@dataclass(frozen=True)
class MeanError:
    """Mean error, or difference of two mean errors, with its 95 % interval.

    Attributes:
        value: The mean. It estimates the error, on new samples or groups, of models that are fitted to as many samples
            as those of the folds.
        interval: 95 % interval of the mean; None if there are too few independent units.
        standard_error: Standard error of the mean, which covers the samples and the splits; NaN for a single unit.
        n_units: Number of independent units: groups, or samples.
    """

    value: float
    interval: tuple[float, float] | None
    standard_error: float
    n_units: int


def independent_errors(errors: np.ndarray, units: np.ndarray) -> SampleErrors:
    """Return errors that no repeated splits have averaged, with the same weight for every sample.

    Args:
        errors: Error of each sample, shape (N,).
        units: Number of each sample's group, or of the sample itself, shape (N,).
    """
    weights = np.full(len(errors), 1 / len(errors))
    return SampleErrors(errors, weights, units, np.array([errors.mean()]), None, 0)


def average_errors(
    fold_errors: np.ndarray, splits: Splits, weights: np.ndarray, units: np.ndarray, strata: np.ndarray | None = None
) -> SampleErrors:
    """Average the errors of folds by sample and by repeat.

    Args:
        fold_errors: Error of each sample in each fold, shape (J, N); values of samples that a fold does not test are
            ignored.
        splits: The folds.
        weights: Weight of each sample in the mean, shape (N,).
        units: Number of each sample's group, or of the sample itself, shape (N,).
        strata: Class of each sample, if the error is a mean over classes; else None.
    """
    average = ErrorAverage(weights, splits.n_repeats)
    average.add(fold_errors, splits)
    return average.result(units, strata, splits.seed)


class ErrorAverage:
    """Average of the errors of folds by sample and by repeat, to which some folds after others can be added."""

    def __init__(self, weights: np.ndarray, n_repeats: int) -> None:
        """Begin without a fold.

        Args:
            weights: Weight of each sample in the mean, shape (N,).
            n_repeats: Number S of repeats.
        """
        self.weights = weights
        self._sums = np.zeros(len(weights))
        self._times_tested = np.zeros(len(weights), np.int64)
        self._repeat_sums = np.zeros(n_repeats)
        self._repeat_totals = np.zeros(n_repeats)

    def add(self, fold_errors: np.ndarray, splits: Splits) -> None:
        """Add the errors of some folds, one fold at a time, so that no array of all folds is copied.

        Args:
            fold_errors: Error of each sample in each fold, shape (J, N); values of samples that a fold does not test
                are ignored.
            splits: These folds.
        """
        for errors, test, repeat in zip(fold_errors, splits.test, splits.repeats, strict=True):
            tested = np.where(test, errors, 0.0)
            self._sums += tested
            self._times_tested += test
            self._repeat_sums[repeat] += tested @ self.weights
            self._repeat_totals[repeat] += test @ self.weights

    def result(self, units: np.ndarray, strata: np.ndarray | None, split_seed: int) -> SampleErrors:
        """Return the averages.

        Args:
            units: Number of each sample's group, or of the sample itself, shape (N,).
            strata: Class of each sample, if the error is a mean over classes; else None.
            split_seed: Seed of the splits.
        """
        is_tested = self._times_tested > 0
        errors = np.full(len(self.weights), np.nan)
        errors[is_tested] = self._sums[is_tested] / self._times_tested[is_tested]
        has_tests = self._repeat_totals > 0
        averages = self._repeat_sums[has_tests] / self._repeat_totals[has_tests]
        return SampleErrors(errors, self.weights, units, averages, strata, split_seed)


def estimate_mean(
    errors: SampleErrors, repeat_variance: float | None = None, more_variance: float = 0.0, more_degrees: float = np.inf
) -> MeanError:
    """Estimate the mean error with a 95 % interval over new units and new splits.

    The squared standard error is the sum of the squared contributions of G units, each averaged over the splits, and
    `variance_of_models`. The first term is s^2(unit means) / G if units count equally, and the second is the
    spread of models that are fitted to different parts of the samples. The interval is Student's t, with the degrees of
    freedom of `unit_degrees` and `REPEAT_DEGREES`. Errors that are not bounded have this interval as it is. For others
    it is computed on the scale of Wilson's interval, so that it stays within [0, 1] and does not collapse when nearly
    all errors are 0. If no error, or nothing but errors, was seen, it is the exact interval of Clopper and Pearson for
    G units.

    Args:
        errors: Errors of the samples.
        repeat_variance: Variance of the mean from models that are fitted to different parts of the samples; None for
            that of `variance_of_models`.
        more_variance: Variance of the mean from other causes, such as random initializations.
        more_degrees: Degrees of freedom of the estimate of `more_variance`. Those of the interval combine both by
            Satterthwaite's formula.
    """
    value, contributions = mean_and_contributions(errors)
    n_units = len(contributions)
    if n_units < 2:
        return MeanError(value, None, float("nan"), n_units)
    if repeat_variance is None:
        repeat_variance = variance_of_models(errors)
    unit_variance = float(contributions @ contributions)
    variance = unit_variance + repeat_variance
    degrees = unit_degrees(errors)
    if variance:
        # The two terms come from the same samples, and tend to be low in the same data sets. So their standard
        # deviations are added, where Satterthwaite's formula for independent terms would add their squares. The
        # standard deviation of an estimate of a variance with d degrees of freedom is the variance times sqrt(2 / d).
        # The factor sqrt(2) is in all of them, and is left out.
        deviation = unit_variance / np.sqrt(degrees) + repeat_variance / np.sqrt(REPEAT_DEGREES)
        degrees = float((deviation / variance) ** -2)
    standard_error = float(np.sqrt(variance + more_variance))
    if n_units < MIN_UNITS:
        return MeanError(value, None, standard_error, n_units)
    degrees = degrees_of_freedom([(variance, degrees), (more_variance, more_degrees)])
    if errors.is_bounded:
        return MeanError(value, proportion_interval(value, standard_error, n_units, degrees), standard_error, n_units)
    margin = student_quantile(degrees) * standard_error
    return MeanError(value, (value - margin, value + margin), standard_error, n_units)


def degrees_of_freedom(parts: Sequence[tuple[float, float]]) -> float:
    """Return the degrees of freedom of a sum of independent estimates of variances.

    Args:
        parts: Each estimate with its own degrees of freedom, infinite for a variance that is known. The first counts if
            all estimates are 0.

    References:
        Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2, 1946.
    """
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return parts[0][1]
    spread = sum(variance**2 / degrees for variance, degrees in parts)
    return float(total**2 / spread) if spread else float("inf")


def estimate_log_mean(errors: SampleErrors) -> MeanError:
    """Estimate minus the mean of values that are not bounded, such as the mean log-probability, with its 95 % interval.

    The standard error and the degrees of freedom are those of `estimate_mean`, and the interval is at most 0.

    Args:
        errors: Minus the log-probability of each sample.
    """
    mean = estimate_mean(replace(errors, is_bounded=False))
    interval = None if mean.interval is None else (-mean.interval[1], min(0.0, -mean.interval[0]))
    return MeanError(-mean.value, interval, mean.standard_error, mean.n_units)


def student_quantile(degrees: float) -> float:
    """Return the multiple of the standard error that a 95 % interval reaches to either side, of Student's t.

    Args:
        degrees: Degrees of freedom of the standard error.

    Example:
        >>> round(student_quantile(9), 3)
        2.262
    """
    return float(stats.t.ppf((1 + LEVEL) / 2, degrees))


def student_margin(values: np.ndarray) -> float:
    """Return half the width of the 95 % interval of the mean of two or more independent values, by Student's t."""
    return float(student_quantile(len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def proportion_interval(
    value: float, standard_error: float, n_units: int, degrees: float | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of a mean of values in [0, 1] over a number of independent units.

    Args:
        value: Mean, in [0, 1].
        standard_error: Standard error of the mean. One that may be due to rounding counts as 0.
        n_units: Number G of independent units, at least 2.
        degrees: Degrees of freedom of the standard error; None for G - 1.
    """
    if min(value, 1 - value) <= ROUNDING or standard_error <= ROUNDING:
        return exact_interval(value, n_units)
    quantile = student_quantile(n_units - 1 if degrees is None else degrees)
    # Wilson's interval of a proportion that has this standard error.
    effective_size = value * (1 - value) / standard_error**2
    shrinkage = 1 + quantile**2 / effective_size
    center = (value + quantile**2 / (2 * effective_size)) / shrinkage
    half_width = quantile / shrinkage * np.sqrt(standard_error**2 + quantile**2 / (4 * effective_size**2))
    low, high = np.clip([center - half_width, center + half_width], 0.0, 1.0).tolist()
    return low, high


def exact_interval(value: float, n_units: int) -> tuple[float, float]:
    """Return the 95 % interval of a mean of values in [0, 1] over units that all have the same value.

    By Clopper and Pearson, a share of at most 1 - .025^(1 / G) of all units differs from the G that were seen, and
    these may have any value in [0, 1]. For a value of 0 or 1 this is their interval of a proportion.

    Args:
        value: The value that all units have; rounding may have moved it out of [0, 1].
        n_units: Number G of independent units.
    """
    inside = min(1.0, max(0.0, value))
    unseen = 1 - ((1 - LEVEL) / 2) ** (1 / n_units)
    return min(value, inside * (1 - unseen)), max(value, inside + (1 - inside) * unseen)


def mean_and_contributions(errors: SampleErrors) -> tuple[float, np.ndarray]:
    """Return the weighted mean of the errors, and the contribution of each unit to its standard error, shape (G,).

    The sum of their squares is the variance of the mean. A unit's contribution in a stratum is the weight of its
    samples times their mean distance from the mean of the stratum, divided by sqrt(1 - h), where h is the share of the
    stratum's weight that the unit has: a unit that is much of the stratum draws its mean towards itself. If G units
    count equally, this gives s^2(unit means) / G.

    References:
        MacKinnon and White, "Some heteroskedasticity-consistent covariance matrix estimators", J. Econometrics 29,
        1985.
    """
    tested = errors.tested
    values = errors.errors[tested]
    if not values.size:
        return float("nan"), np.zeros(0)
    weights = errors.weights[tested] / errors.weights[tested].sum()
    units, strata, shares, cells_of_samples = _cells(errors)
    sums = np.bincount(cells_of_samples, weights * values)
    totals = np.bincount(strata, shares)[strata]
    stratum_sums = np.bincount(strata, sums)[strata]
    share_of_others = 1 - shares / totals
    # The spread within a stratum of one unit is not known, so this unit contributes nothing.
    share_of_others[share_of_others <= ROUNDING] = np.inf
    contributions = (sums - shares * stratum_sums / totals) / np.sqrt(share_of_others)
    return float(values @ weights), np.bincount(units, contributions)


def _cells(errors: SampleErrors) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the cells, which are the pairs of a unit and a stratum that have tested samples.

    Returns:
        Number of each cell's unit and of its stratum, from 0, shape (Q,); the weight of its samples, shape (Q,), with
        sum 1; and the cell of each tested sample, shape (M,).
    """
    tested = errors.tested
    weights = errors.weights[tested] / errors.weights[tested].sum()
    units = np.unique(errors.units[tested], return_inverse=True)[1]
    strata = np.zeros_like(units)
    if errors.strata is not None:
        strata = np.unique(errors.strata[tested], return_inverse=True)[1]
    n_strata = int(strata.max(initial=0)) + 1
    pairs, of_samples = np.unique(units * n_strata + strata, return_inverse=True)
    return pairs // n_strata, pairs % n_strata, np.bincount(of_samples, weights), of_samples


def unit_degrees(errors: SampleErrors) -> float:
    """Return the degrees of freedom of the sum of the squared contributions of G units, from 1 to G - 1.

    A stratum has one less than its effective number of units (Kish), and the strata are combined by Satterthwaite's
    formula, as if all units had errors of the same variance. If G units count equally, without strata, this is G - 1.

    Args:
        errors: Errors of the samples, of at least two units.

    References:
        Kish, Survey Sampling, 1965.
        Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2, 1946.
    """
    units, strata, shares, _ = _cells(errors)
    # Units are numbered from 0, so this is G - 1.
    most = float(units.max())
    totals = np.bincount(strata, shares)
    # Kish's effective number of units of each stratum is 1 / this sum of squares.
    squares = np.bincount(strata, (shares / totals[strata]) ** 2)
    has_several_units = squares < 1 - ROUNDING
    if not has_several_units.any():
        return most
    variances = np.bincount(strata, shares**2)[has_several_units]
    parts = zip(variances.tolist(), (1 / squares[has_several_units] - 1).tolist(), strict=True)
    return min(most, max(1.0, degrees_of_freedom(list(parts))))


def variance_of_repeats(averages: np.ndarray) -> float:
    """Return the variance of the averages of the repeats (ddof 1; 0 for a single repeat).

    It is not divided by the number of repeats, which all split the same samples.
    """
    return float(averages.var(ddof=1)) if len(averages) > 1 else 0.0


def variance_of_models(errors: SampleErrors) -> float:
    """Return the variance of the mean error from models that are fitted to different parts of the samples.

    With blocks of groups it is the jackknife estimate, (B - 1) / B times the sum of the squared deviations of B values.

    References:
        Efron and Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981.
    """
    if errors.without is None:
        return variance_of_repeats(errors.averages)
    return float((len(errors.without) - 1) * errors.without.var())


def wilson_interval(n_errors: int, n_samples: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of an error rate over independent samples (JASA 22, 1927).

    Args:
        n_errors: Number of misclassified samples.
        n_samples: Number of samples.

    Example:
        >>> low, high = wilson_interval(50, 100)
        >>> round(low, 4), round(high, 4)
        (0.4038, 0.5962)
    """
    interval = stats.binomtest(n_errors, n_samples).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)
