"""Folder of results: the record of a discrepancy, and the errors of its samples and classes."""

from pathlib import Path

from modgap.discrepancy.class_errors import classes_csv, confusion_csv
from modgap.discrepancy.report import DiscrepancyReport, to_json
from modgap.statistics.sample_file import SAMPLES_FILE, SampleFile, write_sample_file
from modgap.storage.atomic_files import write_texts, writing
from modgap.storage.json_records import with_digest

__all__ = ["tested_sample_file", "write_results"]


def write_results(report: DiscrepancyReport, folder: Path) -> list[Path]:
    """Write result.json, samples.npz and the tables of the classes.

    Args:
        report: Report to write.
        folder: Folder that `modgap.storage.locks` created.

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
