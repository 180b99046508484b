"""Result of a comparison: mean errors, paired differences, and groups that are not significantly different."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modgap.statistics.intervals import MeanError
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL
from modgap.statistics.paired import PairedDifference

__all__ = ["SCHEMA", "Comparison", "Pair", "SystemMean", "SystemsComparison", "pair_names"]

SCHEMA = 1


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

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values."""
        return {
            "schema": SCHEMA,
            "kind": "comparison",
            "results": self.kind,
            "metric": self.metric,
            "level": SIGNIFICANCE_LEVEL,
            "targets": [one.to_dict() for one in self.targets],
            "over_targets": self.over_targets.to_dict() if self.over_targets else None,
        }


def pair_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return all pairs of names in their order."""
    return [(first, second) for i, first in enumerate(names) for second in names[i + 1 :]]
