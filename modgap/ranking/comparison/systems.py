"""Comparison of all pairs of systems, on one target and over targets."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from modgap.ranking.comparison.error_table import ErrorTable
from modgap.statistics.intervals import MeanError, estimate_mean, student_quantile
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL, holm, similar_groups
from modgap.statistics.paired import PairedDifference, paired_difference


@dataclass(frozen=True)
class SystemMean:
    """Mean error of a system.

    Attributes:
        name: Name of the system.
        mean: Mean error with its interval, over samples; over targets there is no interval.
        groups: Numbers, from 0, of the groups of systems that are not significantly different, to which it belongs.
    """

    name: str
    mean: MeanError
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """Comparison of two systems.

    Attributes:
        first: Name of the system of the lower mean.
        second: Name of the other system.
        difference: Error of the first minus that of the second, over samples or over targets.
        corrected_p_value: P-value after Holm's correction for the number of pairs; None without a p-value.
    """

    first: str
    second: str
    difference: PairedDifference
    corrected_p_value: float | None

    @property
    def differs(self) -> bool:
        """True if the systems are significantly different after the correction."""
        return self.corrected_p_value is not None and self.corrected_p_value <= SIGNIFICANCE_LEVEL


@dataclass(frozen=True)
class SystemsComparison:
    """Comparison of all systems, on one target or over targets.

    Attributes:
        target: Name of the target; None for the comparison over targets.
        n_samples: Number of samples; over targets, of all targets together.
        n_units: Number of independent units: groups, samples, or targets.
        unit: Name of a unit: `group`, `sample` or `target`.
        systems: Systems in the order of their mean errors, lowest first.
        pairs: All pairs of systems, in the order of the means.
        groups: Groups of systems that are not significantly different: the largest sets in which no pair differs, each
            in the order of the means. Two systems are together in a group exactly if they do not differ. Empty if
            there are too many for letters (more than 60 systems or 52 groups). None if no pair has a p-value.
        n_tests: Number of p-values that are corrected together.
    """

    target: str | None
    n_samples: int
    n_units: int
    unit: str
    systems: tuple[SystemMean, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[tuple[str, ...], ...] | None
    n_tests: int

    @property
    def pairs_with_first(self) -> list[Pair]:
        """Pairs of the system of the lowest mean and each other one."""
        return [pair for pair in self.pairs if pair.first == self.systems[0].name]

    @property
    def similar(self) -> list[str]:
        """Names of the systems that are not significantly different from that of the lowest mean."""
        return [pair.second for pair in self.pairs_with_first if not pair.differs]

    def mean_of(self, name: str) -> float:
        """Return the mean error of a system."""
        return next(system.mean.value for system in self.systems if system.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        record = asdict(self)
        record["systems"] = [{"name": one.name, **asdict(one.mean), "groups": list(one.groups)} for one in self.systems]
        record["pairs"] = [
            {
                "first": pair.first,
                "second": pair.second,
                **asdict(pair.difference),
                "corrected_p_value": pair.corrected_p_value,
                "significant": pair.differs,
            }
            for pair in self.pairs
        ]
        return record


@dataclass(frozen=True)
class Comparison:
    """Comparison of systems on the same samples of one or several targets.

    Attributes:
        kind: Kind of results that are compared.
        metric: Name of the error.
        targets: Comparison on each target.
        over_targets: Comparison over the targets, each of which counts equally; None for one target.
    """

    kind: str
    metric: str
    targets: tuple[SystemsComparison, ...]
    over_targets: SystemsComparison | None

    @property
    def main(self) -> SystemsComparison:
        """The comparison over targets, or that on the only target."""
        return self.over_targets or self.targets[0]


MIN_TARGETS = 6
"""Fewest targets from which an interval over targets is computed."""


def compare_systems(targets: Sequence[ErrorTable]) -> Comparison:
    """Compare all pairs of systems by the errors on the same samples.

    On each target, the difference of two systems has the interval of `modgap.statistics.paired.paired_difference`. The
    p-values of all pairs and targets are corrected together. Over targets, the difference has a Student's t interval
    over the differences by target, from 6 targets on; these p-values are corrected together too.

    Args:
        targets: Errors of the same systems on each target.
    """
    means = [_means(one) for one in targets]
    differences = []
    for one, of_target in zip(targets, means, strict=True):
        largest = 1.0 if one.bounded else float("inf")
        differences.append(
            {
                (first, second): paired_difference(one.columns[first], one.columns[second], largest=largest)
                for first, second in combinations(of_target, 2)
            }
        )
    p_values = [pair.p_value for of_target in differences for pair in of_target.values()]
    corrected = iter(_holm(p_values))
    n_tests = sum(p is not None for p in p_values)
    compared = []
    for one, of_systems, of_pairs in zip(targets, means, differences, strict=True):
        errors = next(iter(one.columns.values()))
        unit = "sample" if one.samples.groups is None else "group"
        about = str(one.target), len(errors.tested), errors.n_units, unit
        compared.append(_comparison(*about, of_systems, of_pairs, [next(corrected) for _ in of_pairs], n_tests))
    over_targets = _over_targets(compared) if len(targets) > 1 else None
    return Comparison(targets[0].kind, targets[0].metric, tuple(compared), over_targets)


def _means(one: ErrorTable) -> dict[str, MeanError]:
    """Return the mean error of each system, lowest first."""
    means = {name: estimate_mean(replace(errors, is_bounded=one.bounded)) for name, errors in one.columns.items()}
    return dict(sorted(means.items(), key=lambda item: item[1].value))


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values that are known, corrected for their number."""
    corrected = holm([np.nan if p is None else p for p in p_values])
    return [None if np.isnan(p) else float(p) for p in corrected]


def _comparison(
    target: str | None,
    n_samples: int,
    n_units: int,
    unit: str,
    means: Mapping[str, MeanError],
    differences: Mapping[tuple[str, str], PairedDifference],
    corrected: Sequence[float | None],
    n_tests: int,
) -> SystemsComparison:
    """Return the comparison with its groups of systems that are not significantly different."""
    pairs = tuple(Pair(*names, one, p) for (names, one), p in zip(differences.items(), corrected, strict=True))
    names = list(means)
    groups: tuple[tuple[str, ...], ...] | None = None
    if all(pair.corrected_p_value is not None for pair in pairs):
        differs = np.zeros((len(names), len(names)), bool)
        for pair in pairs:
            i, j = names.index(pair.first), names.index(pair.second)
            differs[i, j] = differs[j, i] = pair.differs
        # The groups are empty if there are too many systems or groups for letters.
        groups = tuple(tuple(names[i] for i in group) for group in similar_groups(differs) or ())
    systems = tuple(
        SystemMean(name, mean, tuple(i for i, members in enumerate(groups or ()) if name in members))
        for name, mean in means.items()
    )
    return SystemsComparison(target, n_samples, n_units, unit, systems, pairs, groups, n_tests)


def _over_targets(targets: Sequence[SystemsComparison]) -> SystemsComparison:
    errors = {one.name: np.array([target.mean_of(one.name) for target in targets]) for one in targets[0].systems}
    errors = dict(sorted(errors.items(), key=lambda item: float(item[1].mean())))
    differences = {(a, b): difference_over_targets(errors[a] - errors[b]) for a, b in combinations(errors, 2)}
    corrected = _holm([one.p_value for one in differences.values()])
    n_targets = len(targets)
    means = {
        name: MeanError(float(one.mean()), None, float(one.std(ddof=1) / np.sqrt(n_targets)), n_targets)
        for name, one in errors.items()
    }
    about = None, sum(one.n_samples for one in targets), n_targets, "target"
    return _comparison(*about, means, differences, corrected, sum(p is not None for p in corrected))


def difference_over_targets(differences: np.ndarray) -> PairedDifference:
    """Estimate the mean difference over targets, with its 95 % Student's t interval.

    Args:
        differences: Difference of two systems on each of T targets, shape (T,).

    Returns:
        The mean difference. With fewer than 6 targets it has neither an interval nor a p-value.

    Example:
        >>> result = difference_over_targets(np.array([-0.1, -0.2, -0.1, 0.0, -0.1, -0.2]))
        >>> round(result.value, 3), round(result.p_value, 3)
        (-0.117, 0.013)
    """
    n_targets = len(differences)
    value = float(differences.mean())
    standard_error = float(differences.std(ddof=1) / np.sqrt(n_targets)) if n_targets > 1 else float("nan")
    if n_targets < MIN_TARGETS:
        return PairedDifference(value, None, None, standard_error, n_targets)
    if standard_error < np.finfo(float).eps * abs(value) or standard_error == 0:
        p_value = 1.0 if value == 0 else 2.0 ** (1 - n_targets)
        return PairedDifference(value, (value, value), p_value, 0.0, n_targets)
    margin = student_quantile(n_targets - 1) * standard_error
    p_value = float(2 * stats.t.sf(abs(value) / standard_error, n_targets - 1))
    return PairedDifference(value, (value - margin, value + margin), p_value, standard_error, n_targets)
