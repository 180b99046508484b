"""Discrepancy report: the result with its names, as a strict JSON record."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modgap.discrepancy.repeated_rows import remarks_on_copies
from modgap.discrepancy.result import Discrepancy, Estimate
from modgap.discrepancy.verdict import evidence_of_record, verdict
from modgap.formatting import count
from modgap.statistics.intervals import MIN_UNITS
from modgap.storage.json_records import format_json

__all__ = ["DiscrepancyReport", "class_name", "to_json"]

SCHEMA = 2
FEW_GROUPS = 20
"""Number of groups below which the coverage of intervals depends on how unlike the groups are."""


@dataclass(frozen=True)
class DiscrepancyReport:
    """A discrepancy with the names of its source, its target and their classes.

    Attributes:
        source: Name of the source, or None if the logits come from a file of the user.
        target: Name of the target, or path of the file of logits.
        result: The estimates.
        source_classes: Names of the source classes; empty if the classes have only numbers.
        target_classes: Names of the target classes; empty if the classes have only numbers.
        provenance: Record of the weights, data, preprocessing and software that gave the logits.
        logits_seconds: Wall time to compute or read the logits, in seconds.
        sample_ids: Number of each row of the logits in the target, or its identifier, shape (N',); None for the number
            of the row. They are not part of the record.
    """

    source: str | None
    target: str
    result: Discrepancy
    source_classes: Sequence[str]
    target_classes: Sequence[str]
    provenance: dict[str, Any]
    logits_seconds: float
    sample_ids: np.ndarray | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values."""
        record = self.result.to_dict()
        for name, estimate in self.result.estimates.items():
            map_names = [class_name(self.source_classes, c) for c in estimate.solution.map]
            record["estimates"][name]["map_names"] = map_names
            targets = [class_name(self.target_classes, k) for k in range(len(map_names))]
            record["estimates"][name]["target_names"] = targets
        record["seconds"] = {"logits": self.logits_seconds, **record["seconds"]}
        head = {"schema": SCHEMA, "kind": "discrepancy", "source": self.source, "target": self.target}
        shown = verdict(evidence_of_record({**head, **record, "provenance": self.provenance}))
        return {
            **head,
            **record,
            "verdict": {"status": shown.status, "sentence": shown.sentence},
            "provenance": self.provenance,
        }

    @property
    def best_estimate(self) -> Estimate | None:
        """Estimate of the estimator to report; None if there is none."""
        name = self.result.best_estimator
        return self.result.estimates[name] if name else None

    def best_map(self) -> list[tuple[str, str]]:
        """Return the (target class, source class) pairs of the best estimator's map, by name."""
        source_classes = self.best_estimate.solution.map if self.best_estimate else ()
        return [
            (class_name(self.target_classes, k), class_name(self.source_classes, c))
            for k, c in enumerate(source_classes)
        ]

    def remarks(self) -> list[str]:
        """Return sentences that say what the numbers prove and which samples they leave out."""
        result = self.result
        copies = remarks_on_copies(result.n_repeated, result.n_copies, result.n_samples)
        return [*copies, *self._remarks_on_samples(), *self._remarks_on_bounds()]

    def _remarks_on_samples(self) -> list[str]:
        result = self.result
        remarks = []
        if result.n_unlabeled:
            left_out = "is left out" if result.n_unlabeled == 1 else "are left out"
            remarks.append(f"{count(result.n_unlabeled, 'sample')} without a label {left_out}.")
        if 0 < result.n_untested < result.n_samples:
            remarks.append(
                f"Held-out errors, chance level and baseline are over {result.n_tested_classes} of "
                f"{result.n_target_classes} classes. Samples of the other classes are left out, because these have "
                f"only one sample or group ({count(result.n_untested, 'sample')}, "
                f"{100 * result.n_untested / result.n_samples:.1f} %)."
            )
        if result.n_groups is not None and MIN_UNITS <= result.n_groups < FEW_GROUPS and result.splits:
            remarks.append(
                f"There are {result.n_groups} groups. With fewer than {FEW_GROUPS}, 95 % intervals of the soft error "
                "covered 82 to 99 % in simulations."
            )
        return remarks

    def _remarks_on_bounds(self) -> list[str]:
        bounds = self.result.bounds
        solution = self.best_estimate.solution if self.best_estimate else None
        remarks = []
        if bounds.lower is not None:
            remarks.append(f"Certified: every map has an error of at least {bounds.lower:.3f}.")
        if solution and bounds.permuted_lower is not None and bounds.permuted_lower > solution.value:
            remarks.append(
                f"Certified: with permuted labels, every map has an error of at least {bounds.permuted_lower:.3f}. "
                f"The error with the real labels is {solution.value:.3f}, so no map can fit these permuted labels as "
                "well."
            )
        if solution and getattr(solution, "exact", False):
            remarks.append(f"The value of {self.result.best_estimator} is exact: all injective maps were tried.")
        return remarks


def class_name(names: Sequence[str], number: int) -> str:
    """Return the name of a class, or its number if it has no name."""
    return names[number] if number < len(names) else str(number)


def to_json(report: DiscrepancyReport) -> str:
    """Return the report as one strict JSON document, without NaN and Infinity."""
    return format_json(report.to_dict())
