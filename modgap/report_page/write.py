"""Pages of result folders: the record in a folder decides which page it gets."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from modgap.discrepancy import report as discrepancy_report
from modgap.distortion import report as distortion_report
from modgap.errors import InputError
from modgap.ranking import report as ranking_report
from modgap.report_page.class_tables import read_class_tables
from modgap.report_page.discrepancy_page import render_discrepancy
from modgap.report_page.distortion_page import render_distortion
from modgap.report_page.ranking_page import render_ranking
from modgap.storage.atomic_files import write_text_atomically
from modgap.storage.json_records import read_json

__all__ = ["PAGE", "write_page"]

PAGE = "report.html"
SCHEMAS = {
    "ranking": ranking_report.SCHEMA,
    "discrepancy": discrepancy_report.SCHEMA,
    "distortion": distortion_report.SCHEMA,
}
"""Newest schema of each kind of record that this version can read."""
RUN_RECORD = "run.json"


def _render_discrepancy_folder(record: Mapping[str, Any], path: Path) -> str:
    return render_discrepancy(record, path.name, read_class_tables(path.parent, record))


RENDERERS: Mapping[str, tuple[str, Callable[[Mapping[str, Any], Path], str]]] = {
    "ranking.json": ("ranking", lambda record, path: render_ranking(record, path.name)),
    "result.json": ("discrepancy", _render_discrepancy_folder),
    "distortion.json": ("distortion", lambda record, path: render_distortion(record, path.name)),
}
"""Kind of record and renderer of each file of results. The renderer gets the record and its path."""


def write_page(folder: Path) -> Path:
    """Write report.html beside the record of a result folder.

    The page is a function of the record, and of the tables of a discrepancy: the same files give the same bytes.

    Args:
        folder: Folder that `modgap rank`, `discrepancy` or `distortion` wrote with --out.

    Returns:
        Path of the page.

    Raises:
        InputError: If the folder has no record that a page can be made of, or if it cannot be written to.
    """
    text = _render_folder(folder)
    try:
        write_text_atomically(folder / PAGE, text)
    except OSError as error:
        raise InputError(f"Cannot write to {folder}: {error.strerror}.") from error
    return folder / PAGE


def _render_folder(folder: Path) -> str:
    for name, (kind, render) in RENDERERS.items():
        record = read_json(folder / name)
        if record:
            return _render_record(folder / name, record, kind, render)
    if (folder / RUN_RECORD).exists():
        raise InputError(
            f"{folder} is the folder of a trained model, and there is no page for one. Pass a folder that modgap rank, "
            "discrepancy or distortion wrote."
        )
    raise InputError(
        f"There are no results in {folder}. Pass a folder that `modgap rank --out {folder} ...`, or discrepancy or "
        "distortion with --out, wrote."
    )


def _render_record(path: Path, record: Any, kind: str, render: Callable[[Mapping[str, Any], Path], str]) -> str:
    if not isinstance(record, Mapping) or record.get("kind") != kind:
        raise InputError(f"{path} is not the record of a {kind}. Pass a folder that modgap wrote with --out.")
    schema = record.get("schema")
    if isinstance(schema, int) and schema > SCHEMAS[kind]:
        raise InputError(
            f"{path} was written by a newer version of modgap (schema {schema}). This version reads schema "
            f"{SCHEMAS[kind]}. "
            "Upgrade with `pip install --upgrade modgap`."
        )
    if schema != SCHEMAS[kind]:
        raise InputError(
            f"{path} was written by an older version of modgap (schema {schema}; this version reads schema "
            f"{SCHEMAS[kind]}). Run the command that wrote it again."
        )
    try:
        return render(record, path)
    except (AttributeError, LookupError, TypeError, ValueError, TemplateError) as error:
        raise InputError(
            f"The record of a {kind} in {path} is incomplete or damaged ({error!r}). Run the command that wrote it "
            "again."
        ) from error
