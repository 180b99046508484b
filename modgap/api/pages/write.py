"""Pages of result folders: the record in a folder decides which page it gets."""

from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import TemplateError

from modgap.api.pages.answer_pages import read_log, render_discrepancy, render_distortion, render_run, render_transfer
from modgap.api.pages.leaderboard_page import render_leaderboard
from modgap.api.pages.ranking_page import render_ranking
from modgap.api.pages.result_folder import (
    DISCREPANCY,
    DISTORTION,
    MATRIX,
    RANKING,
    RUN,
    TRANSFER,
    RecordKind,
    read_result_folder,
)
from modgap.errors import InputError
from modgap.storage.atomic_files import write_text_atomically, writing
from modgap.storage.json_records import Record

PAGE = "report.html"


RENDERERS: Mapping[RecordKind, Callable[[Record], str]] = {
    RANKING: render_ranking,
    DISCREPANCY: render_discrepancy,
    DISTORTION: render_distortion,
    MATRIX: render_leaderboard,
    TRANSFER: render_transfer,
}
"""Renderer of each kind of record, but for that of a run, which needs the log too."""


def write_page(folder: Path) -> Path:
    """Write report.html beside the record of a result folder.

    The page is a function of the record and of the log of a trained model: the same
    files give the same bytes.

    Args:
        folder: Folder that `modgap rank`, `discrepancy`, `distortion` or `train` wrote with --out.

    Returns:
        Path of the page.

    Raises:
        InputError: If the folder has no record that a page can be made of, or if it cannot be written to.
    """
    kind, record = read_result_folder(folder)
    try:
        text = render_run(record, read_log(folder, record)) if kind is RUN else RENDERERS[kind](record)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, TemplateError) as error:
        raise InputError(
            f"The record of a {kind.name} in {folder / kind.file} is incomplete or damaged ({error!r}). Run the "
            "command that wrote it again."
        ) from error
    with writing(folder / PAGE):
        write_text_atomically(folder / PAGE, text)
    return folder / PAGE
