"""Tables as text, for the terminal and for `print(result)`."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["build_table", "format_table"]

UNLIMITED_WIDTH = 10_000


def build_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    """Return a rich table; columns after the first are right-aligned if all of their cells are numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for index, column in enumerate(columns):
        is_numeric = all(row[index].strip()[:1] in "-−<0123456789" for row in rows)
        table.add_column(column, justify="right" if is_numeric and index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = UNLIMITED_WIDTH) -> str:
    """Return a table as lines of text without trailing spaces.

    Args:
        columns: Headings of the columns.
        rows: Cells of each row.
        width: Number of characters at which cells are folded.
    """
    from rich.console import Console

    stream = io.StringIO()
    # In a notebook, rich would display the table, too.
    options: dict[str, Any] = {"highlight": False, "markup": False, "color_system": None, "force_jupyter": False}
    Console(file=stream, width=width, **options).print(build_table(columns, rows))
    return "\n".join(line.rstrip() for line in stream.getvalue().strip("\n").splitlines()).strip("\n")
