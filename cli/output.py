"""Output of the commands: tables on stdout, progress and log lines on stderr."""

import logging
import os
import re
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from modgap.cli.commands import name_options
from modgap.errors import Progress, format_duration, printable

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from modgap.answers import Answer, Plotted
    from modgap.answers.figures.files import ResultFigure
    from modgap.targets.catalog import Listed


def print_line(text: str = "", *, err: bool = False) -> None:
    """Print text with its line breaks, on stdout or with `err` on stderr, with options in place of arguments."""
    import click

    click.echo(printable(name_options(text), lines=True), err=err)


INTERVAL_SECONDS = 25.0
"""Time between two lines that say how far a command is, where no terminal shows it."""


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """A handler that writes to the stderr of the moment, which may be another than when the handler was made.

    It writes each warning once, since a worker reads the same target for each of its jobs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written: set[str] = set()

    def format(self, record: logging.LogRecord) -> str:
        """Return a message as text that a terminal shows as it is, with options in place of arguments."""
        return printable(name_options(f"modgap: {super().format(record)}"), lines=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it is a warning that was written before."""
        if record.levelno == logging.WARNING:
            message = record.getMessage()
            if message in self.written:
                return
            self.written.add(message)
        self.stream = sys.stderr
        super().emit(record)


def log_to_stderr(quiet: bool) -> None:
    """Send the log messages of modgap to stderr; with `quiet`, only warnings."""
    log = logging.getLogger("modgap")
    log.handlers[:] = [_StderrHandler()]
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def print_written(paths: "Sequence[Path]") -> None:
    """Print the paths of written files on stderr."""
    print_line(f"modgap: wrote {', '.join(map(str, paths))}", err=True)


def draw_figures(figures: "Iterable[ResultFigure]", folder: "Path", formats: Sequence[str]) -> None:
    """Draw the figures of results that are already written and printed.

    Args:
        figures: The figures.
        folder: Folder of the results.
        formats: Formats of the figures.
    """
    from modgap.answers.figures.files import write_figures

    # What is printed appears now, also where the output is a pipe, so that nothing is lost with a figure.
    sys.stdout.flush()
    if paths := write_figures(figures, folder, formats):
        print_written(paths)


def print_result(
    result: "Plotted", folder: "Path | None", formats: Sequence[str], *, as_json: bool, note: str = ""
) -> None:
    """Write a result to its folder and print it, and then draw its figures.

    Args:
        result: The result.
        folder: Folder of the results; None to write no files.
        formats: Formats of the figures.
        as_json: Print the record in place of the answer.
        note: Sentence below the answer; empty for none.
    """
    import click

    from modgap.storage.json_records import format_json

    if folder:
        print_written(result.write(folder))
    if as_json:
        click.echo(format_json(result.to_dict()))
    else:
        print_answer(result.answer)
        if note:
            print_line()
            print_text(note)
    if folder:
        draw_figures(result.figures(), folder, formats)


COLUMN_GAP = 2
"""Characters between columns."""


def print_answer(answer: "Answer") -> None:
    """Print an answer on stdout: question, headline and verdicts, tables, checks, notes and the next step."""
    from modgap.answers.text import check_lines, next_step_lines

    print_title(answer.question)
    if answer.facts:
        print_text(", ".join(answer.facts))
    print_line()
    for sentence in (answer.headline, *map(str, answer.verdicts)):
        print_text(sentence)
    for table in answer.tables:
        if table.rows and not table.is_detail:
            if table.title:
                print_line()
            print_wide_table(table.columns, table.rows, table.title or None)
    checks = list(check_lines(answer))
    for lines in (checks, answer.notes):
        if lines:
            print_line()
        for line in lines:
            print_text(line)
    step = list(next_step_lines(answer))
    for line in ["", *step] if step else []:
        print_line(line)


def print_title(title: str) -> None:
    """Print a title on stdout, in bold on a terminal."""
    # Without a terminal nothing is folded, so that other programs can read the output.
    _console().print(printable(title), style="bold", soft_wrap=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table on stdout; columns of numbers after the first column are right-aligned."""
    from modgap.answers.text import UNLIMITED_WIDTH, build_table

    if title:
        # As a title of the table it would be folded at the width of the table.
        print_title(title)
    width = None if sys.stdout.isatty() else UNLIMITED_WIDTH
    console = _console(width)
    console.print()
    shown_rows = [[printable(name_options(cell)) for cell in row] for row in rows]
    console.print(build_table([printable(column) for column in columns], shown_rows))


def titled(title: str, origin: str) -> str:
    """Return the title of an entry of a list, and the package that it comes from if that is a plug-in."""
    from modgap.process.installed_packages import BUILT_IN

    return title if origin == BUILT_IN else f"{title} [{origin}]"


MIN_TITLE_WIDTH = 24
"""Smallest width of the titles in a list."""
MAX_LICENSE_WIDTH = 17
"""Largest width of licenses in a list."""


def print_list(columns: Sequence[str], rows: Sequence[Sequence[str]], entries: "Sequence[Listed]") -> None:
    """Print a list of sources or targets, and the near copies among them.

    Long licenses are shortened. On a narrow terminal the titles are left out, so that each entry has one line.

    Args:
        columns: Headings of the columns, of which the last one has titles.
        rows: Cells of each row.
        entries: The source or target of each row.
    """
    n_license = columns.index("license")
    short = [[*row[:n_license], _short_license(row[n_license]), *row[n_license + 1 :]] for row in rows]
    cells = [columns, *short]
    width = sum(max(len(row[number]) for row in cells) + COLUMN_GAP for number in range(len(columns) - 1))
    is_narrow = width + MIN_TITLE_WIDTH > _width()
    last = len(columns) - 1 if is_narrow else len(columns)
    print_table(columns[:last], [row[:last] for row in short])
    if is_narrow:
        print_text(f"On a wider terminal, the list has the column {columns[-1]}.")
    if copies := [f"{entry.name} ({', '.join(entry.near_copies)})" for entry in entries if entry.near_copies]:
        print_text(f"Near copies, of which @diverse takes one: {'; '.join(copies)}.")


def _short_license(text: str) -> str:
    """Return the start of a license, with three dots if it is longer."""
    start = re.split(r" \(|[,;:]|\. ", text, maxsplit=1)[0]
    room = MAX_LICENSE_WIDTH - (3 if len(text) > MAX_LICENSE_WIDTH else 0)
    start = textwrap.shorten(start, room, placeholder="") or start[:room]
    return start if start == text else f"{start}..."


def _console(width: int | None = None) -> "Console":
    """Return the console for stdout, with this width or that of the terminal."""
    from rich.console import Console

    # With NO_COLOR alone, rich would still print bold text.
    color_system: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Console(width=width, color_system=color_system, highlight=False, markup=False, emoji=False)


def print_wide_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table on stdout; on a terminal, a wide table is split into parts that all have the first column."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in (column, *(row[n] for row in rows))) for n, column in enumerate(columns)]
    for part in _parts(widths, _width()):
        print_table([columns[n] for n in part], [[row[n] for n in part] for row in rows], title)
        title = None


def _parts(widths: Sequence[int], width: int) -> list[list[int]]:
    """Return the column numbers of each part: the first column and at least one more."""
    parts = [[0]]
    part_width = widths[0] + COLUMN_GAP
    for number in range(1, len(widths)):
        column_width = widths[number] + COLUMN_GAP
        if len(parts[-1]) > 1 and part_width + column_width > width:
            parts.append([0])
            part_width = widths[0] + COLUMN_GAP
        parts[-1].append(number)
        part_width += column_width
    return parts


def print_text(text: str) -> None:
    """Print a paragraph on stdout, wrapped between words on a terminal, with options in place of arguments."""
    for line in _wrapped(name_options(text), _width()):
        print_line(line)


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def print_sections(title: str, sections: Iterable[tuple[str, Sequence[Sequence[str]]]]) -> None:
    """Print a title and named lists of rows on stdout; empty lists are left out.

    The cells of a list are aligned, except for the last cell of each row, which is wrapped on a terminal.

    Args:
        title: The title.
        sections: The name and the rows of each list.
    """
    import click

    width = _width()
    color = False if os.environ.get("NO_COLOR") else None
    click.secho(printable(title), bold=True, color=color)
    for name, rows in sections:
        if not rows:
            continue
        click.secho(f"\n{printable(name)}", bold=True, color=color)
        rows = [[printable(cell, lines=True) for cell in row] for row in rows]
        widths = [max(len(row[i]) if len(row) > i + 1 else 0 for row in rows) for i in range(max(map(len, rows)) - 1)]
        for row in rows:
            lead = "  ".join(["", *(cell.ljust(size) for cell, size in zip(row[:-1], widths, strict=False)), ""])
            lines = _wrapped(row[-1], max(width - len(lead), 40))
            click.echo(f"\n{' ' * len(lead)}".join([f"{lead}{lines[0]}", *lines[1:]]).rstrip())


@contextmanager
def _heartbeat() -> Iterator[Progress]:
    """Yield a function that records progress, while a thread logs, every 25 seconds, how far the command is."""
    began = time.monotonic()
    ended = threading.Event()
    lock = threading.Lock()
    shares: dict[str, float] = {}

    def advance(stage: str, share: float) -> None:
        with lock:
            # The newest stage is the last one.
            shares[stage] = min(1.0, shares.pop(stage, 0.0) + share)

    def beat() -> None:
        while not ended.wait(INTERVAL_SECONDS):
            elapsed = format_duration(time.monotonic() - began)
            with lock:
                stage = next(reversed(shares), None)
                state = "still at work" if stage is None else f"{stage}: {shares[stage]:.0%} done"
            logging.getLogger("modgap").info("%s after %s", state, elapsed)

    threading.Thread(target=beat, daemon=True, name="modgap heartbeat").start()
    try:
        yield advance
    finally:
        ended.set()


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Progress | None]:
    """Yield a function that shows progress on stderr; None with `quiet`.

    On a terminal these are bars, which vanish at the end. Elsewhere they are lines.
    """
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        with _heartbeat() as report:
            yield report
        return
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}
    lock = threading.Lock()

    def advance(stage: str, share: float) -> None:
        with lock:
            if stage not in bars:
                layout = "{desc}: {percentage:3.0f}% |{bar:30}| {elapsed}<{remaining}"
                bars[stage] = tqdm(total=1.0, desc=printable(stage), file=sys.stderr, bar_format=layout, leave=False)
            bars[stage].update(min(share, 1.0 - bars[stage].n))

    try:
        yield advance
    finally:
        # The first one, which is uppermost, is the last to move the cursor.
        for bar in reversed(bars.values()):
            bar.close()
