"""Held-out error of each target class, with its interval, its baseline and its most frequent error."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from modgap.discrepancy.report import DiscrepancyReport, class_name
from modgap.formatting import csv_text
from modgap.statistics.intervals import SampleErrors, estimate_mean, wilson_interval

__all__ = ["ClassError", "class_errors", "classes_csv", "confusion_csv"]

CSV_COLUMNS = (
    "target_class", "source_class", "samples", "error", "low", "high", "baseline", "most_frequent_error", "share",
)  # fmt: skip


@dataclass(frozen=True)
class ClassError:
    """Held-out error of one target class.

    Attributes:
        name: Name of the target class.
        source_class: Name of the source class that stands for it in the map of all samples.
        n_samples: Number of tested samples; a multi-label sample is shared among its labels.
        error: Share of these samples that are misclassified.
        interval: 95 % interval of the error over samples or groups; it leaves out the choice of the maps. None with
            fewer than 8 samples or groups of the class, and for multi-label targets, whose samples have one error for
            all their labels.
        baseline: Error of the class if the predictions kept their frequencies but did not depend on the label.
        confused_with: Class that is most often predicted in error; None if there is no error.
        confused_share: Share of the samples for which this class is predicted.
    """

    name: str
    source_class: str
    n_samples: float
    error: float
    interval: tuple[float, float] | None
    baseline: float
    confused_with: int | None
    confused_share: float

    @property
    def beats_baseline(self) -> bool:
        """True if the whole interval of the error lies below the baseline."""
        return self.interval is not None and self.interval[1] < self.baseline


def class_errors(report: DiscrepancyReport) -> list[ClassError]:
    """Return the error of each target class that has tested samples, lowest error first.

    Args:
        report: Report with a held-out confusion matrix.
    """
    matrix = report.result.held_out_confusion
    assert matrix is not None
    predicted_shares = matrix.sum(axis=0) / matrix.sum()
    pairs = report.best_map()
    errors = [
        _class_error(matrix[k], k, pairs[k], 1 - float(predicted_shares[k]), _interval(report, matrix[k], k))
        for k in range(len(matrix))
        if matrix[k].sum() > 0
    ]
    return sorted(errors, key=lambda one: (one.error, one.interval[1] if one.interval else 1.0))


def _interval(report: DiscrepancyReport, row: np.ndarray, k: int) -> tuple[float, float] | None:
    """Return the interval of the error of class k over the samples or groups that have this class."""
    tested = report.result.tested_samples
    name = report.result.best_estimator
    errors = tested.errors.get(name) if tested and name else None
    if tested is None or errors is None:
        total = max(1, round(float(row.sum())))
        return wilson_interval(min(total, round(float(row.sum() - row[k]))), total)
    if tested.multi_label:
        return None
    of_class = tested.labels == k
    part = SampleErrors(
        errors.errors[of_class], np.ones(of_class.sum()), errors.units[of_class], np.zeros(0), None, errors.split_seed
    )
    return estimate_mean(part).interval if len(part.tested) else None


def _class_error(
    row: np.ndarray, k: int, pair: tuple[str, str], baseline: float, interval: tuple[float, float] | None
) -> ClassError:
    total = float(row.sum())
    wrong = row.copy()
    wrong[k] = 0
    most_frequent = int(wrong.argmax())
    return ClassError(
        name=pair[0],
        source_class=pair[1].split(",")[0],
        n_samples=total,
        error=float(wrong.sum()) / total,
        interval=interval,
        baseline=baseline,
        confused_with=most_frequent if wrong[most_frequent] > 0 else None,
        confused_share=float(wrong[most_frequent]) / total,
    )


def classes_csv(report: DiscrepancyReport) -> str:
    """Return the errors of all classes as CSV, lowest error first."""
    return csv_text([CSV_COLUMNS, *(_csv_cells(report, one) for one in class_errors(report))])


def _csv_cells(report: DiscrepancyReport, one: ClassError) -> Iterator[str]:
    yield from (one.name, one.source_class, f"{one.n_samples:g}")
    yield f"{one.error:.4f}"
    yield from (f"{end:.4f}" for end in one.interval) if one.interval else ("", "")
    yield f"{one.baseline:.4f}"
    if one.confused_with is None:
        yield from ("", "")
    else:
        yield from (class_name(report.target_classes, one.confused_with), f"{one.confused_share:.4f}")


def confusion_csv(report: DiscrepancyReport) -> str:
    """Return the held-out confusion matrix as CSV: one row for each label, one column for each prediction.

    Args:
        report: Report with a held-out confusion matrix.
    """
    matrix = report.result.held_out_confusion
    assert matrix is not None
    names = [class_name(report.target_classes, number) for number in range(len(matrix))]
    rows = [[name, *(f"{count:g}" for count in counts)] for name, counts in zip(names, matrix, strict=True)]
    return csv_text([["label", *names], *rows])
