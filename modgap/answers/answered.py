"""Results with an answer: as text when they are printed, as a card with tables in a notebook, and as figures."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modgap.answers.answer import FAIL, INFO, PASS, WARN, Answer, Table, Verdict
from modgap.answers.text import answer_text
from modgap.errors import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from modgap.answers.figures.files import ResultFigure

COLORS = {PASS: "#1a7f4b", WARN: "#9a6700", FAIL: "#b3261e", INFO: "#57606a"}
"""Colors of the labels, which have a contrast of at least 4.5 with white letters."""
CARD = "border: 1px solid rgba(128, 128, 128, 0.4); border-radius: 8px; padding: 0.9em 1.1em; margin: 0.3em 0 1em"
"""CSS style of the card of an answer."""
SOFT = "opacity: 0.75; font-size: 0.92em; margin: 0.2em 0 0.6em"
"""CSS style of the line above the headline, which is fainter than the rest."""


class Answered(ABC):
    """A result that shows its answer when it is printed, or when it is the value of a notebook cell."""

    @property
    @abstractmethod
    def answer(self) -> Answer:
        """The answer, with its verdicts, checks, tables and next step."""

    def summary(self) -> str:
        """Return the answer as text, like the command prints it."""
        return answer_text(self.answer)

    def __str__(self) -> str:
        """Return the answer as text, with control characters of names as numbers."""
        return printable(self.summary(), lines=True)

    def __repr__(self) -> str:
        """Return the type and the headline, with control characters of names as numbers."""
        return printable(f"<{type(self).__name__}: {self.answer.headline}>")

    def _repr_html_(self) -> str:
        return answer_html(self.answer)


class Plotted(Answered):
    """A result with an answer, a record and figures, which a command writes to a folder."""

    @abstractmethod
    def figures(self) -> "Iterable[ResultFigure]":
        """Return the figures that the result has, the most important first."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values."""

    @abstractmethod
    def write(self, folder: Path) -> list[Path]:
        """Write the record and its tables to an existing folder, and return the paths of the files.

        Raises:
            InputError: If a file cannot be written.
        """

    def plot(self, figure: str | None = None, ax: "Axes | None" = None) -> "Figure":
        """Return a figure of the result.

        Args:
            figure: Name of the figure, as in the names of the files. None for the most important.
            ax: Axes to draw on. None for a new figure.

        Raises:
            UsageError: If the result has no figure with this name, or no figure at all. The message names those that
                there are.
        """
        return self._figure(figure).draw(ax=ax)

    def _figure(self, name: str | None) -> "ResultFigure":
        from modgap.answers.figures.files import figure_named

        figures = list(self.figures())
        return figures[0] if figures and name is None else figure_named(figures, name or "")


def answer_html(answer: Answer) -> str:
    """Return an answer as HTML for a notebook: a card, then the tables that are no detail, and the notes.

    Checks that passed are left out. The styles are those of the elements themselves, because sites that show notebooks
    remove style sheets.
    """
    return "\n".join(
        [
            f'<div style="{CARD}">',
            f'<div style="{SOFT}">{escape(" · ".join([answer.question, *answer.facts]))}</div>',
            f'<p style="font-size: 1.15em; margin: 0 0 0.6em"><strong>{escape(answer.headline)}</strong></p>',
            *map(_verdict_html, answer.verdicts),
            *(_verdict_html(one) for one in answer.checks if one.status != PASS),
            *_next_step_html(answer),
            "</div>",
            *(_table_html(table) for table in answer.tables if table.rows and not table.is_detail),
            *(_paragraph(text) for text in answer.notes),
        ]
    )


def _verdict_html(verdict: Verdict) -> str:
    label = verdict.label or {WARN: "Warning", FAIL: "Failed", INFO: "Note"}.get(verdict.status, "Passed")
    badge = (
        f'<span style="background: {COLORS[verdict.status]}; color: #fff; border-radius: 999px; padding: 0.05em 0.6em; '
        f'font-size: 0.85em; white-space: nowrap">{escape(label)}</span>'
    )
    return (
        f'<p style="margin: 0.5em 0"><strong>{escape(verdict.question)}</strong> {badge}<br>'
        f"{escape(verdict.sentence)}</p>"
    )


def _next_step_html(answer: Answer) -> Iterator[str]:
    if answer.next_step:
        yield f'<p style="margin: 0.8em 0 0.3em"><strong>Next step.</strong> {escape(answer.next_step)}</p>'
    if answer.commands:
        yield f'<pre style="overflow-x: auto; margin: 0">{escape(chr(10).join(answer.commands))}</pre>'


def _table_html(table: Table) -> str:
    """Return a table that scrolls by itself where the page is narrow."""
    title = _paragraph(table.title) if table.title else ""
    head = _row_html("th", table.columns)
    body = "".join(_row_html("td", row) for row in table.rows)
    return f'{title}<div style="overflow-x: auto"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _row_html(tag: str, cells: Sequence[str]) -> str:
    """Return a row of a table whose cells have a space between them on every site that shows notebooks."""
    sides = ["left", *("right" for _ in cells[1:])]
    style = "padding: 0.2em 0.7em; text-align: "
    shown = (f'<{tag} style="{style}{side}">{escape(cell)}</{tag}>' for cell, side in zip(cells, sides, strict=True))
    return f"<tr>{''.join(shown)}</tr>"


def _paragraph(text: str) -> str:
    return f'<p style="margin: 0.4em 0">{escape(text)}</p>'
