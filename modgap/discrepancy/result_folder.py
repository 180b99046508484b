"""Folder of results: the record of a discrepancy, the errors of its samples, and its figures."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from modgap.discrepancy.answer_figure import discrepancy_caption, plot_discrepancy
from modgap.discrepancy.class_errors import classes_csv, confusion_csv
from modgap.discrepancy.class_figure import classes_caption, plot_classes
from modgap.discrepancy.curve_figure import learning_curve_caption, plot_learning_curve
from modgap.discrepancy.report import DiscrepancyReport, to_json
from modgap.display.figure_layout import save_figure
from modgap.errors import InputError
from modgap.statistics.sample_file import SAMPLES_FILE, SampleFile, write_sample_file
from modgap.storage.atomic_files import write_text_atomically

__all__ = ["create_output_folder", "tested_sample_file", "write_folder"]


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
    """Write result.json, samples.npz and the tables of the classes, and then the figures.

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
    names = list(texts)
    samples = tested_sample_file(report)
    if samples:
        write_sample_file(folder / SAMPLES_FILE, samples)
        names.append(SAMPLES_FILE)
    return [folder / name for name in names]


def tested_sample_file(report: DiscrepancyReport) -> SampleFile | None:
    """Return the errors of the tested samples as they are written to a folder; None if there are none."""
    tested = report.result.tested_samples
    if tested is None:
        return None
    ids = tested.rows if report.sample_ids is None else report.sample_ids[tested.rows]
    result = report.result
    return SampleFile(ids, tested.labels, tested.groups, tested.errors, result.n_tested_classes, result.per_class)


def _figures(report: DiscrepancyReport) -> Iterator[tuple[str, Callable[[DiscrepancyReport], Figure], str]]:
    """Yield file name, plotting function and caption of each figure that the report has the numbers for."""
    if report.best_estimate and report.best_estimate.held_out is not None:
        yield "discrepancy", plot_discrepancy, discrepancy_caption(report)
    if report.result.learning_curve:
        yield "learning_curve", plot_learning_curve, learning_curve_caption(report)
    if report.result.held_out_confusion is not None:
        yield "classes", plot_classes, classes_caption(report)
