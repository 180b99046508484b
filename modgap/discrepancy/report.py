"""Results as a record (strict JSON) and as lines of a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from modgap.discrepancy.result import Discrepancy, Estimate
from modgap.storage.json_records import format_json

__all__ = ["DiscrepancyReport", "class_name", "summary_row", "to_json"]

SCHEMA = 1


@dataclass(frozen=True)
class DiscrepancyReport:
    """A discrepancy with the names of what it is between.

    Attributes:
        source: Name of the source, or None for a user's own logits.
        target: Name of the target, or the file of logits.
        result: The estimates.
        source_classes: Names of the source classes; empty for numbers.
        target_classes: Names of the target classes; empty for numbers.
        provenance: What was run on what.
        logits_seconds: Wall time to compute or read the logits.
    """

    source: str | None
    target: str
    result: Discrepancy
    source_classes: Sequence[str]
    target_classes: Sequence[str]
    provenance: dict
    logits_seconds: float

    def to_dict(self) -> dict:
        """The documented record, of plain values."""
        own = self.result.to_dict()
        for name, found in own["estimates"].items():
            map_names = [class_name(self.source_classes, c) for c in self.result.estimates[name].solution.map]
            own["estimates"][name] = {**found, "map_names": map_names}
        own["seconds"] = {"logits": self.logits_seconds, **own["seconds"]}
        head = {"schema": SCHEMA, "kind": "discrepancy", "source": self.source, "target": self.target}
        return {**head, **own, "provenance": self.provenance}

    def best_map(self) -> list[tuple[str, str]]:
        """(target class, source class) of the map that gets fewest wrong, by name."""
        best = self.result.estimates[self.result.best_estimator].solution.map if self.result.best_estimator else ()
        return [(class_name(self.target_classes, k), class_name(self.source_classes, c)) for k, c in enumerate(best)]

    def remarks(self) -> list[str]:
        """What the numbers prove or leave out, in words."""
        result = self.result
        said = []
        bounds = result.bounds
        best = result.estimates[result.best_estimator].solution if result.best_estimator else None
        if result.n_unlabeled:
            said.append(f"{result.n_unlabeled} samples without a label were left out")
        if result.n_untested and best:
            said.append(
                f"{result.n_untested} samples were not tested by the held-out value: "
                "their class has one sample or group"
            )
        if bounds.lower is not None:
            said.append(f"certified: no map at all gets less than {bounds.lower:.3f} wrong")
        if best and bounds.permuted_lower is not None and bounds.permuted_lower > best.value:
            said.append(
                f"certified: with permuted labels every map gets at least {bounds.permuted_lower:.3f} wrong, more than "
                f"{best.value:.3f} with the real ones; no map can make those permuted labels fit as well"
            )
        if best and getattr(best, "exact", False):
            said.append(f"{result.best_estimator} is exact: all injective maps were tried")
        return said


def class_name(names: Sequence[str], number: int) -> str:
    """A class's name, or its number where there are no names."""
    return names[number] if number < len(names) else str(number)


def to_json(report: DiscrepancyReport) -> str:
    """One strict JSON document: no NaN, no Infinity."""
    return format_json(report.to_dict())


def summary_row(name: str, estimate: Estimate) -> list[str]:
    """One estimator's line of the table: value, null, p, calibrated, held-out, interval, its null, p."""
    null = estimate.null
    held_null = estimate.held_out_null
    interval = estimate.held_out_interval
    return [
        name,
        f"{estimate.solution.value:.3f}",
        f"{null.mean:.3f} ± {null.sd:.3f}" if null else "-",
        f"{null.p_value:.3f}" if null else "-",
        f"{estimate.ratio_to_null:.3f}" if estimate.ratio_to_null is not None else "-",
        f"{estimate.held_out:.3f}" if estimate.held_out is not None else "-",
        f"{interval[0]:.3f} - {interval[1]:.3f}" if interval else "-",
        f"{held_null.mean:.3f} ± {held_null.sd:.3f}" if held_null else "-",
        f"{held_null.p_value:.3f}" if held_null else "-",
    ]
