"""Folder of results: the record of a discrepancy, the errors of its samples, and its figures."""

from collections.abc import Iterator
from pathlib import Path

from modgap.discrepancy.answer_figure import discrepancy_caption, plot_discrepancy
from modgap.discrepancy.class_errors import classes_csv, confusion_csv
from modgap.discrepancy.class_figure import classes_caption, plot_classes
from modgap.discrepancy.curve_figure import learning_curve_caption, plot_learning_curve
from modgap.discrepancy.report import DiscrepancyReport, to_json
from modgap.display.figure_files import PlannedFigure
from modgap.statistics.sample_file import SAMPLES_FILE, SampleFile, write_sample_file
from modgap.storage.json_records import with_digest
from modgap.storage.written_files import write_texts, writing

__all__ = ["planned_figures", "tested_sample_file", "write_results"]


def write_results(report: DiscrepancyReport, folder: Path) -> list[Path]:
    """Write result.json, samples.npz and the tables of the classes.

    Args:
        report: Report to write.
        folder: Folder that `modgap.storage.output_folder` created.

    Returns:
        Paths of the files.

    Raises:
        InputError: If a file cannot be written.
    """
    texts = {"result.json": with_digest(to_json(report))}
    if report.result.held_out_confusion is not None:
        tables = (report.result, report.best_map())
        texts |= {"classes.csv": classes_csv(*tables), "confusion.csv": confusion_csv(*tables)}
    samples = tested_sample_file(report)
    with writing(folder):
        written = write_texts(folder, texts)
        if samples:
            write_sample_file(folder / SAMPLES_FILE, samples)
            written.append(folder / SAMPLES_FILE)
    return written


def tested_sample_file(report: DiscrepancyReport) -> SampleFile | None:
    """Return the errors of the tested samples as they are written to a folder; None if there are none."""
    tested = report.result.tested_samples
    if tested is None:
        return None
    ids = tested.rows if report.sample_ids is None else report.sample_ids[tested.rows]
    result = report.result
    return SampleFile(ids, tested.labels, tested.groups, tested.errors, result.n_tested_classes, result.per_class)


def planned_figures(report: DiscrepancyReport) -> Iterator[PlannedFigure]:
    """Yield each figure that the report has the numbers for."""
    if report.best_estimate and report.best_estimate.held_out is not None:
        yield PlannedFigure("discrepancy", lambda: (plot_discrepancy(report), discrepancy_caption(report)))
    if report.result.learning_curve:
        yield PlannedFigure("learning_curve", lambda: (plot_learning_curve(report), learning_curve_caption(report)))
    if report.result.held_out_confusion is not None:
        yield PlannedFigure("classes", lambda: (plot_classes(report), classes_caption(report)))
