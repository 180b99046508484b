"""Confusion matrix on the page of a discrepancy, or its most frequent errors if it has many classes."""

from collections.abc import Sequence
from typing import Any

from modgap.formatting import visible_name

__all__ = ["confusion_table"]

MAX_MATRIX = 20
"""Most classes of a matrix that is shown in full."""
MAX_NUMBERS = 10
"""Most classes of a matrix whose numbers fit on a phone."""
MAX_HEAD = 90
"""Most characters of all names of classes that fit beside each other."""
MAX_ERRORS = 20
"""Most errors that are listed if the matrix is not shown."""


def confusion_table(
    names: Sequence[str], confusion: Sequence[Sequence[float]], *, of_splits: bool = True
) -> dict[str, Any]:
    """Return the texts of a confusion matrix for the template `confusion.html.j2`.

    Args:
        names: Names of the classes.
        confusion: Number of tested samples by label (rows) and prediction (columns).
        of_splits: True for means over the splits of a discrepancy, False for the test samples of a trained model.
    """
    kind = "held-out" if of_splits else "test"
    n_correct = sum(counts[number] for number, counts in enumerate(confusion))
    total = sum(map(sum, confusion))
    correct = f"{_format_count(n_correct)} of {_format_count(total)} {kind} samples are classified correctly."
    if len(names) > MAX_MATRIX:
        return {
            "title": "Most frequent errors",
            "rows": [],
            "pairs": _most_frequent_errors(names, confusion),
            "note": f"{correct} The complete matrix is in {'confusion.csv' if of_splits else 'run.json'}.",
        }
    shown = [visible_name(name, 24) for name in names]
    decimals = 0 if all(count == round(count) for counts in confusion for count in counts) else 1
    return {
        "title": f"Confusion matrix of the {kind} samples",
        "names": shown,
        "many": len(shown) > MAX_NUMBERS,
        "tall": sum(map(len, shown)) > MAX_HEAD,
        "rows": [(name, _cells(number, confusion[number], decimals)) for number, name in enumerate(shown)],
        "note": f"{correct} {'Numbers are means over the splits. ' if of_splits else ''}Blue cells are correct, orange "
        "cells are errors. A stronger color is a larger share of the row.",
    }


def _cells(number: int, counts: Sequence[float], decimals: int) -> list[tuple[str, str, int]]:
    """Return the text, the CSS class and the strength of the color in percent of each cell of a row."""
    total = sum(counts) or 1.0
    return [
        (_format_cell(count, decimals), "right" if column == number else "wrong", round(100 * count / total))
        for column, count in enumerate(counts)
    ]


def _format_cell(count: float, decimals: int) -> str:
    """Format a mean number of samples with the decimals of the whole matrix, and a dot for none."""
    return f"{count:,.{decimals}f}" if round(count, 1) else "·"


def _format_count(count: float) -> str:
    """Format a mean number of samples: whole numbers as such, and others with one decimal."""
    return f"{count:,.0f}" if count == round(count) else f"{count:,.1f}"


def _most_frequent_errors(names: Sequence[str], confusion: Sequence[Sequence[float]]) -> list[tuple[str, str, str]]:
    """Return label, prediction and share of the errors that are most frequent within their class."""
    errors = [
        (count / sum(counts), label, prediction)
        for label, counts in enumerate(confusion)
        for prediction, count in enumerate(counts)
        if count and label != prediction
    ]
    errors.sort(key=lambda error: (-error[0], error[1], error[2]))
    return [
        (visible_name(names[label]), visible_name(names[prediction]), f"{100 * share:.0f} %")
        for share, label, prediction in errors[:MAX_ERRORS]
    ]
