"""Folder of results: the record of a discrepancy and its figures."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from modgap.discrepancy.answer_figure import discrepancy_caption, plot_discrepancy
from modgap.discrepancy.figures import plot_best_map, plot_confusion
from modgap.discrepancy.report import DiscrepancyReport, to_json
from modgap.errors import InputError
from modgap.figure_layout import save_figure
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


def write_folder(report: DiscrepancyReport, folder: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write result.json, and then the figures of the held-out error, the best map and its confusion matrix.

    Args:
        report: Report to write.
        folder: Folder that `create_output_folder` returned.
        formats: Formats of the figures: some of `png`, `svg` and `pdf`.

    Returns:
        Paths of the files.

    Raises:
        InputError: If a file cannot be written.
    """
    try:
        write_text_atomically(folder / "result.json", to_json(report) + "\n")
        written = [
            path
            for name, plot, caption in _figures(report)
            for path in save_figure(plot(report), folder / name, caption, formats)
        ]
    except OSError as error:
        raise InputError(
            f"Cannot write results to {folder}: {error.strerror}. Free some space or choose another folder."
        ) from error
    return [folder / "result.json", *written]


def _figures(report: DiscrepancyReport) -> Iterator[tuple[str, Callable[[DiscrepancyReport], Figure], str]]:
    """Yield file name, plotting function and caption of each figure that the report has the numbers for."""
    estimate = report.best_estimate
    if estimate is None:
        return
    if estimate.held_out is not None:
        yield "discrepancy", plot_discrepancy, discrepancy_caption(report)
    yield "map", plot_best_map, ""
    yield "confusion", plot_confusion, ""
