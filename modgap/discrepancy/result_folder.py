"""A folder of results: the record and its figures."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from modgap.discrepancy.figures import plot_best_map, plot_confusion, plot_trials
from modgap.discrepancy.report import DiscrepancyReport, to_json
from modgap.errors import InputError
from modgap.figure_style import save_figure
from modgap.storage.atomic_files import write_text_atomically

__all__ = ["create_output_folder", "write_folder"]


def create_output_folder(path: str) -> Path:
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


def _figures(report: DiscrepancyReport) -> list[tuple[str, Callable[[DiscrepancyReport], Figure]]]:
    """The figures that this report has the numbers for."""
    figures: list[tuple[str, Callable[[DiscrepancyReport], Figure]]] = []
    if "montecarlo" in report.result.estimates:
        figures.append(("discrepancy.png", plot_trials))
    if report.result.best_estimator:
        figures += [("map.png", plot_best_map), ("confusion.png", plot_confusion)]
    return figures


def write_folder(report: DiscrepancyReport, folder: Path) -> list[Path]:
    """Write result.json and figures of the trials, the map and its confusions; returns their paths.

    Raises:
        InputError: When the disk refuses.
    """
    written = []
    try:
        for name, draw in _figures(report):
            save_figure(draw(report), folder / name)
            written.append(folder / name)
        write_text_atomically(folder / "result.json", to_json(report) + "\n")
    except OSError as error:
        raise InputError(f"cannot write results to {folder}: {error.strerror}") from error
    return [folder / "result.json", *written]
