"""Judgment of a ranking: how clear the first place is, whether transfer helps, and the checks behind both."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from modgap.answers import FAIL, INFO, PASS, WARN
from modgap.storage.json_records import plain_values

__all__ = ["FAIL", "INFO", "PASS", "WARN", "Check", "Judgment"]

CLEAR = "clear"
TIE = "tie"
UNKNOWN = "unknown"
SINGLE = "single"
NONE = "none"
"""Choices. `UNKNOWN` is also a value of `help`."""

LIKELY = "likely"
DOUBTFUL = "doubtful"
NOT_TESTED = "not-tested"
NO = "no"
"""Values of `help`."""

PILOT_NAME = "pilot"
"""Name of the score that is the error after a short fine-tuning."""


@dataclass(frozen=True)
class Check:
    """Check of a ranking.

    Attributes:
        id: Name of the check, such as `control`. `modgap.ranking.checks` describes all checks.
        status: `pass`, `warn`, `fail` or `info`.
        values: Numbers and names that the sentence of the check is made from.
    """

    id: str
    status: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgment:
    """Judgment of a ranking, from which all sentences of its answer are made.

    Attributes:
        choice: `clear` (the first source is significantly the best), `tie` (others may be as good), `unknown` (the
            significance is not known), `single` (only one source has a value) or `none` (no source has one). It depends
            only on the errors after a short fine-tuning, or without one on the score that the sources are ranked by.
        help: Answer to the question of whether transfer helps at all: `likely`, `doubtful`, `unknown` (there are no
            intervals), `not-tested` (there is no random-weights control) or `no`. It depends only on random-weights
            controls and baselines, and the worst of them decides; after a short fine-tuning of the control, only this
            and nearest neighbors of the raw values.
        by: Name of the score that the sources are ranked by.
        first: Name of the first source. None if no source has a value.
        tied: Names of the other sources that are not significantly different from the first, best first.
        checks: The checks, failed ones first.
        commands: Commands that are the next step, as lists of arguments.
    """

    choice: str
    help: str
    by: str
    first: str | None = None
    tied: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()

    @property
    def is_fine_tuned(self) -> bool:
        """True if errors after a short fine-tuning decide both answers: those of the sources, and that of a control."""
        checks = (self.check("other-sources"), self.check("control"))
        return all(check is not None and check.values["score"] == PILOT_NAME for check in checks)

    def check(self, check_id: str) -> Check | None:
        """Return the check of a name. None if it does not apply to this ranking."""
        return next((check for check in self.checks if check.id == check_id), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values for the record of the ranking."""
        record: dict[str, Any] = plain_values(asdict(self))
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Judgment":
        """Return the verdict that `to_dict` made a record of. Unknown fields are ignored."""
        return cls(
            choice=record["choice"],
            help=record["help"],
            by=record["by"],
            first=record["first"],
            tied=tuple(record["tied"]),
            checks=tuple(Check(check["id"], check["status"], check["values"]) for check in record["checks"]),
            commands=tuple(tuple(command) for command in record["commands"]),
        )
