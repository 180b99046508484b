"""A folder of results: the record and its figures."""

import os
import tempfile
from pathlib import Path

from modgap import plots
from modgap.errors import InputError
from modgap.report import DiscrepancyReport, to_json

__all__ = ["checked_folder", "write_folder"]


def checked_folder(path: str) -> Path:
    """Make a folder for results and prove that it can be written, before anything is computed.

    Raises:
        InputError: When it cannot.
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise InputError(f"cannot write to the output folder {folder}: {error.strerror}") from error


def write_folder(report: DiscrepancyReport, folder: Path) -> list[Path]:
    """Write result.json, a figure of the trials and one of the map; returns their paths.

    Raises:
        InputError: When the disk refuses.
    """
    written = []
    try:
        for name, draw in (("discrepancy.png", plots.trials), ("map.png", plots.winning_map)):
            plots.save(draw(report), folder / name)
            written.append(folder / name)
        temporary = folder / f".result-{os.getpid()}.part"
        temporary.write_text(to_json(report) + "\n", encoding="utf-8")
        os.replace(temporary, folder / "result.json")
    except OSError as error:
        raise InputError(f"cannot write results to {folder}: {error.strerror}") from error
    return [folder / "result.json", *written]
