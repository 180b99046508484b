"""Held-out error of each target class, with its interval, its baseline and its most frequent error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modgap.answers import Mark, Table
from modgap.answers.formatting import csv_text
from modgap.discrepancy.result import Discrepancy
from modgap.errors import InputError, visible_name
from modgap.statistics.intervals import SampleErrors, estimate_mean, wilson_interval

Pairs = Sequence[tuple[str, str]]
"""Pairs (target class, source class) of the best map, by name."""
MOST_CLASSES = 100
"""Most classes whose errors are in the table of an answer."""

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


def class_errors(result: Discrepancy, pairs: Pairs) -> list[ClassError]:
    """Return the error of each target class that has tested samples, lowest error first.

    Args:
        result: Estimates with a held-out confusion matrix.
        pairs: Pairs (target class, source class) of the best map, by name.

    Raises:
        InputError: If the search was not tested.
    """
    matrix = result.held_out_confusion
    if matrix is None:
        raise InputError(
            "Only tested maps of the search have errors of classes. Include search in `estimators`, with `splits`."
        )
    predicted_shares = matrix.sum(axis=0) / matrix.sum()
    errors = []
    for k in np.flatnonzero(matrix.sum(axis=1) > 0).tolist():
        total = float(matrix[k].sum())
        wrong = matrix[k].copy()
        wrong[k] = 0
        most_frequent = int(wrong.argmax())
        error = ClassError(
            name=pairs[k][0],
            source_class=pairs[k][1].split(",")[0],
            n_samples=total,
            error=float(wrong.sum()) / total,
            interval=_interval(result, matrix[k], k),
            baseline=1 - float(predicted_shares[k]),
            confused_with=most_frequent if wrong[most_frequent] > 0 else None,
            confused_share=float(wrong[most_frequent]) / total,
        )
        errors.append(error)
    return sorted(errors, key=lambda one: (one.error, one.interval[1] if one.interval else 1.0))


def _interval(result: Discrepancy, row: np.ndarray, k: int) -> tuple[float, float] | None:
    """Return the interval of the error of class k over the samples or groups that have this class."""
    tested = result.tested_samples
    name = result.best_estimator
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


def classes_csv(result: Discrepancy, pairs: Pairs) -> str:
    """Return the errors of all classes as CSV, lowest error first."""
    rows: list[Sequence[str]] = [CSV_COLUMNS]
    for one in class_errors(result, pairs):
        ends = [f"{end:.4f}" for end in one.interval] if one.interval else ["", ""]
        confused = ["", ""]
        if one.confused_with is not None:
            confused = [pairs[one.confused_with][0], f"{one.confused_share:.4f}"]
        values = [f"{one.n_samples:g}", f"{one.error:.4f}", *ends, f"{one.baseline:.4f}"]
        rows.append([one.name, one.source_class, *values, *confused])
    return csv_text(rows)


def confusion_csv(result: Discrepancy, pairs: Pairs) -> str:
    """Return the held-out confusion matrix as CSV: one row for each label, one column for each prediction."""
    assert result.held_out_confusion is not None
    names = [target for target, _ in pairs]
    counts = zip(names, result.held_out_confusion, strict=True)
    return csv_text([["label", *names], *([name, *(f"{one:g}" for one in row)] for name, row in counts)])


def class_table(result: Discrepancy, pairs: Pairs) -> Table:
    """Return the error of each class, lowest first, with its source class, its baseline and its most frequent error."""
    errors = class_errors(result, pairs)
    shown = errors[:MOST_CLASSES]
    more = f" {len(errors) - MOST_CLASSES:,} more classes are in classes.csv." if len(errors) > MOST_CLASSES else ""
    return Table(
        ("target class → source class", "error", "95 % CI", "samples", "most frequent error"),
        [_table_row(one, pairs) for one in shown],
        "Best class map, and the error of each class",
        "The classes are sorted by their held-out error. The gray mark is the baseline of the class: its error if the "
        "predictions did not depend on the label. An open orange circle is not significantly better than the baseline "
        f"(95 % intervals, not corrected for the number of classes).{more}",
        [Mark(one.error, one.interval, one.baseline, is_open=not one.beats_baseline) for one in shown],
        is_detail=True,
    )


def _table_row(one: ClassError, pairs: Pairs) -> list[str]:
    confused = "–"
    if one.confused_with is not None:
        confused = f"{visible_name(pairs[one.confused_with][0], 40)} ({100 * one.confused_share:.0f} %)"
    return [
        f"{visible_name(one.name, 60)} → {visible_name(one.source_class, 60)}",
        f"{one.error:.3f}",
        f"{one.interval[0]:.3f}-{one.interval[1]:.3f}" if one.interval else "-",
        f"{one.n_samples:g}",
        confused,
    ]
