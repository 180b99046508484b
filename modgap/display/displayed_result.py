"""Display of results: as text when they are printed, as HTML in a notebook."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape

from modgap.formatting import printable

__all__ = ["DisplayedResult"]


class DisplayedResult(ABC):
    """A result that shows its answer and its table when it is printed, or when it is the value of a notebook cell."""

    @abstractmethod
    def summary(self) -> str:
        """Return heading, answer and table as text, like the command prints them."""

    @abstractmethod
    def summary_table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Return the headings and the rows of the table as text."""

    @abstractmethod
    def summary_sentences(self) -> tuple[str, Sequence[str], Sequence[str]]:
        """Return the heading, the sentences of the answer, and the lines below the table."""

    def __str__(self) -> str:
        """Return the summary, with control characters of names as numbers."""
        return printable(self.summary(), lines=True)

    def __repr__(self) -> str:
        """Return the type and the heading, with control characters of names as numbers."""
        return printable(f"<{type(self).__name__}: {self.summary_sentences()[0]}>")

    def _repr_html_(self) -> str:
        heading, sentences, lines = self.summary_sentences()
        columns, rows = self.summary_table()
        parts = [f"<p><strong>{escape(heading)}</strong></p>", *map(_html_paragraph, sentences)]
        if rows:
            head = _html_row("th", columns)
            body = "".join(_html_row("td", row) for row in rows)
            table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
            parts.append(f'<div style="overflow-x: auto">{table}</div>')
        return "\n".join([*parts, *map(_html_paragraph, lines)])


def _html_row(tag: str, cells: Sequence[str]) -> str:
    """Return a row of a table whose cells have a space between them on every site that shows notebooks."""
    sides = ["left", *("right" for _ in cells[1:])]
    return "".join(
        [
            "<tr>",
            *(
                f'<{tag} style="padding: 0.2em 0.7em; text-align: {side}">{escape(cell)}</{tag}>'
                for side, cell in zip(sides, cells, strict=True)
            ),
            "</tr>",
        ]
    )


def _html_paragraph(text: str) -> str:
    """Return a paragraph. A text of several lines, such as a table or commands, keeps its lines."""
    tag = 'pre style="overflow-x: auto"' if "\n" in text else "p"
    return f"<{tag}>{escape(text)}</{tag.split()[0]}>"
