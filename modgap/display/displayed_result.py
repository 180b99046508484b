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
        parts = [f"<p><strong>{escape(heading)}</strong></p>", *(f"<p>{escape(text)}</p>" for text in sentences)]
        if rows:
            head = "".join(f"<th>{escape(column)}</th>" for column in columns)
            body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        return "\n".join([*parts, *(f"<p>{escape(line)}</p>" for line in lines)])
