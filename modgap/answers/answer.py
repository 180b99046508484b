"""The answer to a question: a headline, verdicts with their reasons, checks, tables and the next step."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modgap.storage.json_records import Record, plain_values

PASS = "pass"
WARN = "warn"
FAIL = "fail"
INFO = "info"
"""Statuses of verdicts."""
ORDER = (FAIL, WARN, INFO, PASS)
"""Statuses in the order in which checks are shown."""


@dataclass(frozen=True)
class Verdict:
    """The answer to one question, or the result of a check.

    Attributes:
        question: Question, or name of the check.
        label: Answer in one or two words, such as "Not shown". Empty for a check.
        status: `pass`, `warn`, `fail` or `info`.
        sentence: One or a few sentences with numbers.
    """

    question: str
    label: str
    status: str
    sentence: str

    def __str__(self) -> str:
        """Return the verdict as one line."""
        return f"{self.question} {self.label}. {self.sentence}" if self.label else f"{self.question}: {self.sentence}"


@dataclass(frozen=True)
class Mark:
    """A value on the axis of a table, as pages draw it in the row.

    Attributes:
        value: The value.
        interval: Lower and upper end of its interval; None if it is unknown.
        level: Another value of this row, such as its baseline, which is drawn as a short line; None for none.
        is_reference: True for a control or a baseline to compare the others with, which is drawn as a square.
        is_open: True for a value that counts less than the others, such as one that is not significantly better than
            its level. It is drawn as an outline of another color.
        before: Lower and upper end of an earlier interval, from less data, which is drawn as a faint band; None for
            none.
        is_chosen: True for the value that was chosen among the others, which is drawn larger.
    """

    value: float
    interval: tuple[float, float] | None = None
    level: float | None = None
    is_reference: bool = False
    is_open: bool = False
    before: tuple[float, float] | None = None
    is_chosen: bool = False


@dataclass(frozen=True)
class Curve:
    """A curve that pages draw in the row of a table.

    Attributes:
        x: Positions of the points, from 0 at the left edge to 1.
        y: Their heights, from 0 at the lower edge to 1.
        band: Lower and upper end of a band at each point; empty for none.
        chosen: Position at which a dashed line is drawn; None for none.
    """

    x: Sequence[float]
    y: Sequence[float]
    band: Sequence[tuple[float, float]] = ()
    chosen: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of texts. Pages also draw a mark, a curve or a color in its rows.

    Attributes:
        columns: Heads of the columns.
        rows: Cells of each row, one for each column.
        title: Sentence above the table; empty for none.
        note: Sentences below the table.
        marks: Mark of each row, None for none; empty for a table without an axis. Lower is better.
        reference: Value at which a dashed line crosses the axis; None for none.
        curves: Curve of each row, None for none; empty for a table without curves.
        shares: Percentage from 0 to 100 that colors each cell after the first column, by row, for a confusion matrix,
            whose diagonal has the correct predictions. Empty for a table without colors.
        is_detail: True for a table that only pages show, not the terminal or a notebook.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    note: str = ""
    marks: Sequence[Mark | None] = ()
    reference: float | None = None
    curves: Sequence[Curve | None] = ()
    shares: Sequence[Sequence[int]] = ()
    is_detail: bool = False

    @classmethod
    def from_dict(cls, record: Record) -> "Table":
        """Return the table that a record of plain values describes."""
        marks, curves = (
            tuple(None if one is None else kind(**one) for one in record[name])
            for name, kind in (("marks", Mark), ("curves", Curve))
        )
        return cls(**{**record, "marks": marks, "curves": curves})


@dataclass(frozen=True)
class Answer:
    """The answer of a result, from which its text, its page, its figure and its record take all their sentences.

    Attributes:
        question: The question, which is the title.
        facts: Sizes and settings that the answer holds for, a few words each.
        headline: The answer in one sentence.
        verdicts: Answers to the questions that the headline rests on.
        checks: Checks of what the answer assumes, in the order of `in_order`.
        tables: Tables, the most important first.
        notes: Sentences below the tables: how to read them, and what they assume.
        next_step: Sentence that says what to do; empty if there is nothing to do.
        commands: Lines of the next step that can be pasted into a shell.
    """

    question: str
    facts: Sequence[str]
    headline: str
    verdicts: Sequence[Verdict] = ()
    checks: Sequence[Verdict] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    next_step: str = ""
    commands: Sequence[str] = ()

    @property
    def sentences(self) -> list[str]:
        """The headline, the verdicts and the checks that did not pass, as sentences."""
        return [self.headline, *map(str, self.verdicts), *(str(one) for one in self.checks if one.status != PASS)]

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain values, for the record of its result."""
        return dict(plain_values(asdict(self)))

    @classmethod
    def from_dict(cls, record: Record) -> "Answer":
        """Return the answer that `to_dict` made a record of."""
        verdicts, checks = ([Verdict(**one) for one in record[name]] for name in ("verdicts", "checks"))
        tables = [Table.from_dict(one) for one in record["tables"]]
        return cls(**{**record, "verdicts": verdicts, "checks": checks, "tables": tables})


def in_order(checks: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Return checks sorted by status as in `ORDER`: the failed ones first, those that passed last."""
    return tuple(sorted(checks, key=lambda one: ORDER.index(one.status)))
