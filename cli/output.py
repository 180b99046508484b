"""Tables on stdout, progress and log lines on stderr."""

import logging
import os
import shutil
import sys
import textwrap
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from modgap.progress import Progress

__all__ = ["log_to_stderr", "print_sections", "print_table", "print_text", "print_wide_table", "progress_bars"]


def log_to_stderr(quiet: bool) -> None:
    """Send the library's messages to stderr; warnings only with --quiet."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("modgap: %(message)s"))
    log = logging.getLogger("modgap")
    log.handlers[:] = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)


WIDEST = 10_000
GAP = 3
"""Characters between columns."""


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table on stdout; columns after the first are right-aligned where their cells are numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        cells = [row[number] for row in rows]
        numeric = all(cell.strip()[:1] in "-0123456789" for cell in cells)
        table.add_column(column, justify="right" if numeric and number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # Without a terminal nothing is folded, so that the table can be read by other programs.
    console = Console(width=None if sys.stdout.isatty() else WIDEST, highlight=False, markup=False)
    if title:
        # As a title of the table's it would be folded at the table's width.
        console.print(title, style="bold", soft_wrap=True)
    console.print(table)


def print_wide_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table on stdout, on a terminal in as many parts as its width needs; the first column stands in each."""
    widths = [max(len(cell) for cell in (column, *(row[n] for row in rows))) for n, column in enumerate(columns)]
    for part in _parts(widths, _width()):
        print_table([columns[n] for n in part], [[row[n] for n in part] for row in rows], title)
        title = None


def _parts(widths: Sequence[int], width: int) -> list[list[int]]:
    """Numbers of the columns of each part, the first in all, one more at least."""
    parts, taken = [[0]], widths[0] + GAP
    for number in range(1, len(widths)):
        own = widths[number] + GAP
        if len(parts[-1]) > 1 and taken + own > width:
            parts.append([0])
            taken = widths[0] + GAP
        parts[-1].append(number)
        taken += own
    return parts


def print_text(text: str) -> None:
    """A line on stdout, wrapped between words on a terminal."""
    import click

    for line in _wrapped(text, _width()):
        click.echo(line)


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def print_sections(title: str, sections: Iterable[tuple[str, Sequence[Sequence[str]]]]) -> None:
    """A title and named lists of rows on stdout; empty ones are left out.

    The cells of a list are aligned but for the last of each row, which is wrapped on a terminal only.
    """
    import click

    width = _width()
    color = False if os.environ.get("NO_COLOR") else None
    click.secho(title, bold=True, color=color)
    for name, rows in sections:
        if not rows:
            continue
        click.secho(f"\n{name}", bold=True, color=color)
        widths = [max(len(row[i]) if len(row) > i + 1 else 0 for row in rows) for i in range(max(map(len, rows)) - 1)]
        for row in rows:
            lead = "  ".join(["", *(cell.ljust(size) for cell, size in zip(row[:-1], widths, strict=False)), ""])
            lines = _wrapped(row[-1], max(width - len(lead), 40))
            click.echo(f"\n{' ' * len(lead)}".join([f"{lead}{lines[0]}", *lines[1:]]).rstrip())


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Progress | None]:
    """One bar a stage on stderr, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}
    lock = threading.Lock()

    def advance(stage: str, share: float) -> None:
        with lock:
            if stage not in bars:
                layout = "{desc}: {percentage:3.0f}% |{bar:30}| {elapsed}<{remaining}"
                bars[stage] = tqdm(total=1.0, desc=stage, file=sys.stderr, bar_format=layout)
            bars[stage].update(min(share, 1.0 - bars[stage].n))

    try:
        yield advance
    finally:
        for bar in bars.values():
            bar.close()
