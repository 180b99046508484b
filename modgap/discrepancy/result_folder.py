"""Folder of results: the record of a discrepancy and its figures."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from modgap.discrepancy.answer_figure import discrepancy_caption, plot_discrepancy
from modgap.discrepancy.class_errors import classes_csv, confusion_csv
from modgap.discrepancy.class_figure import classes_caption, plot_classes
from modgap.discrepancy.report import DiscrepancyReport, to_json
from modgap.display.figure_layout import save_figure
from modgap.errors import InputError
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
    """Write result.json, classes.csv and confusion.csv, and then the figures of the held-out error and of the classes.

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
        written = _write_tables(report, folder)
        for name, plot, caption in _figures(report):
            written += save_figure(plot(report), folder / name, caption, formats)
    except OSError as error:
        raise InputError(
            f"Cannot write results to {folder}: {error.strerror}. Free some space or choose another folder."
        ) from error
    return written


def _write_tables(report: DiscrepancyReport, folder: Path) -> list[Path]:
    texts = {"result.json": to_json(report) + "\n"}
    if report.result.held_out_confusion is not None:
        texts |= {"classes.csv": classes_csv(report), "confusion.csv": confusion_csv(report)}
    for name, text in texts.items():
        write_text_atomically(folder / name, text)
    return [folder / name for name in texts]


def _figures(report: DiscrepancyReport) -> Iterator[tuple[str, Callable[[DiscrepancyReport], Figure], str]]:
    """Yield file name, plotting function and caption of each figure that the report has the numbers for."""
    if report.result.held_out_confusion is not None:
        yield "discrepancy", plot_discrepancy, discrepancy_caption(report)
        yield "classes", plot_classes, classes_caption(report)
