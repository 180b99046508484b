"""Errors of systems on the samples of one target, as read from a result folder, a CSV file or arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modgap.statistics.intervals import SampleErrors
from modgap.statistics.sample_file import SampleFile

__all__ = ["CSV", "DISCREPANCY", "DISTORTION", "RANKING", "TRAINING", "ErrorTable"]

DISCREPANCY = "discrepancy"
DISTORTION = "distortion"
RANKING = "ranking"
TRAINING = "training run"
CSV = "table of errors"


@dataclass(frozen=True)
class ErrorTable:
    """Errors of one or several systems on the samples of one target.

    Attributes:
        origin: Path of the folder or file, or a description of the arrays, for messages.
        kind: Kind of results: one of the constants of this module.
        target: Name of the target; None if it is not known, as for a file of logits.
        samples: Identifiers, labels and groups of the samples, and their errors by column.
        metric: Name of the error, such as `held-out error`.
        bounded: True if errors lie in [0, 1].
        system: Name of the one system whose errors by different estimators are the columns; None if each column is a
            system.
        conditions: Further conditions under which errors are comparable, by the name of the condition.
        data: Checksums of the target's files, by role; None if they are not known.
        command: Command that computes the errors again, for messages.
    """

    origin: str
    kind: str
    target: str | None
    samples: SampleFile
    metric: str
    bounded: bool
    system: str | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] | None = None
    command: str = ""

    @property
    def columns(self) -> Mapping[str, SampleErrors]:
        """Errors by the name of the column."""
        return self.samples.errors

    def with_columns(self, columns: Mapping[str, SampleErrors], metric: str | None = None) -> "ErrorTable":
        """Return the table with these columns, each the errors of a system."""
        samples = replace(self.samples, errors=dict(columns))
        return replace(self, samples=samples, metric=metric or self.metric, system=None)
