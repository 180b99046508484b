"""Sections of the pages of the evidence that are written from results."""

from collections.abc import Sequence
from pathlib import Path


def replace_section(page: Path, marks: tuple[str, str], lines: Sequence[str]) -> None:
    """Replace what is between two marks in a page by these lines, with an empty line before and after them."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(marks[0])
    _, end, after = rest.partition(marks[1])
    text = "\n".join(lines)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
