"""Folder of results: the record of a discrepancy and its figures."""

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
    """Create a folder for results and check that it is writable, before anything is computed.

    Args:
        path: Path of the folder; `~` is expanded.

    Raises:
        InputError: If the folder cannot be created or written to.
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise InputError(
            f"Cannot write to the output folder {folder}: {error.strerror}. Choose a writable folder."
        ) from error


def _figures(report: DiscrepancyReport) -> list[tuple[str, Callable[[DiscrepancyReport], Figure]]]:
    """Return the file name and the plotting function of each figure that the report has the numbers for."""
    figures: list[tuple[str, Callable[[DiscrepancyReport], Figure]]] = []
    if "montecarlo" in report.result.estimates:
        figures.append(("discrepancy.png", plot_trials))
    if report.result.best_estimator:
        figures += [("map.png", plot_best_map), ("confusion.png", plot_confusion)]
    return figures


def write_folder(report: DiscrepancyReport, folder: Path) -> list[Path]:
    """Write result.json and the figures of the trials, the best map and its confusion matrix.

    Args:
        report: Report to write.
        folder: Folder that `create_output_folder` returned.

    Returns:
        Paths of the files.

    Raises:
        InputError: If a file cannot be written.
    """
    written = []
    try:
        for name, plot in _figures(report):
            save_figure(plot(report), folder / name)
            written.append(folder / name)
        write_text_atomically(folder / "result.json", to_json(report) + "\n")
    except OSError as error:
        raise InputError(
            f"Cannot write results to {folder}: {error.strerror}. Free some space or choose another folder."
        ) from error
    return [folder / "result.json", *written]
