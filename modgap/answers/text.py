"""Answers and their tables as text, for the terminal and for `print(result)`."""

import io
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from modgap.answers.answer import FAIL, INFO, PASS, WARN, Answer

if TYPE_CHECKING:
    from rich.table import Table as RichTable

UNLIMITED_WIDTH = 10_000
WIDTH = 80
"""Number of characters at which the sentences of an answer are wrapped."""
MARKS = {FAIL: "x", WARN: "!", INFO: "-"}


def answer_text(answer: Answer) -> str:
    """Return an answer as text: question, facts, headline, verdicts, tables, checks, notes and the next step."""
    head = [answer.question, *([", ".join(answer.facts)] if answer.facts else [])]
    parts = ["\n".join(map(wrap_text, head)), "\n".join(map(wrap_text, [answer.headline, *map(str, answer.verdicts)]))]
    for table in answer.tables:
        if table.rows and not table.is_detail:
            parts += [*([wrap_text(table.title)] if table.title else []), format_table(table.columns, table.rows)]
    parts += ["\n".join(map(wrap_text, lines)) for lines in (list(check_lines(answer)), answer.notes) if lines]
    step = list(next_step_lines(answer))
    return "\n\n".join([*parts, *(["\n".join(step)] if step else [])])


def check_lines(answer: Answer) -> Iterator[str]:
    """Yield a line for each check that did not pass."""
    for check in answer.checks:
        if check.status != PASS:
            yield f"{MARKS[check.status]} {check.question}. {check.sentence}"


def next_step_lines(answer: Answer) -> Iterator[str]:
    """Yield the lines of the next step, with its commands indented; nothing if there is none."""
    if answer.next_step:
        yield f"Next step: {answer.next_step}"
        yield from (f"  {line}" for line in answer.commands)


def wrap_text(text: str) -> str:
    """Return a paragraph wrapped between words; one of several lines keeps them, and an indentation continues."""
    if "\n" in text:
        return text
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent)


def build_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> "RichTable":
    """Return a rich table; columns after the first are right-aligned if most of their cells are numbers."""
    from rich import box
    from rich.table import Table as RichTable

    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for index, column in enumerate(columns):
        # Cells of a column of numbers can have states, such as "not finished".
        cells = [row[index].strip() for row in rows if row[index].strip() not in ("", "-", "–")]
        is_numeric = 2 * sum(cell[0] in "+-−<0123456789" for cell in cells) > len(cells) or not cells
        table.add_column(column, justify="right" if is_numeric and index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as lines of text without trailing spaces.

    Args:
        columns: Headings of the columns.
        rows: Cells of each row.
    """
    from rich.console import Console

    stream = io.StringIO()
    # In a notebook, rich would display the table, too.
    options: dict[str, Any] = {
        "highlight": False,
        "markup": False,
        "emoji": False,
        "color_system": None,
        "force_jupyter": False,
    }
    Console(file=stream, width=UNLIMITED_WIDTH, **options).print(build_table(columns, rows))
    return "\n".join(line.rstrip() for line in stream.getvalue().strip("\n").splitlines()).strip("\n")
