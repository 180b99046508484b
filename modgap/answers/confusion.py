"""A confusion matrix as a table of an answer, or its most frequent errors if it has many classes."""

from collections.abc import Sequence

from modgap.answers.answer import Table
from modgap.errors import visible_name

MAX_MATRIX = 20
"""Most classes of a matrix that is shown in full."""
MAX_ERRORS = 20
"""Most errors that are listed if the matrix is not shown."""
CORNER = "label ↓ prediction →"


def confusion_table(names: Sequence[str], confusion: Sequence[Sequence[float]], kind: str) -> Table:
    """Return a confusion matrix with the shares of each row as colors.

    Args:
        names: Names of the classes.
        confusion: Number of tested samples by label (rows) and prediction (columns).
        kind: `held-out` for means over the splits of a discrepancy, `test` for the test samples of a trained model.
    """
    n_correct = sum(counts[number] for number, counts in enumerate(confusion))
    total = sum(map(sum, confusion))
    correct = f"{_format_count(n_correct)} of {_format_count(total)} {kind} samples are classified correctly."
    if len(names) > MAX_MATRIX:
        errors = [
            (count / sum(counts), label, prediction)
            for label, counts in enumerate(confusion)
            for prediction, count in enumerate(counts)
            if count and label != prediction
        ]
        errors.sort(key=lambda error: (-error[0], error[1], error[2]))
        return Table(
            ("label", "prediction", "share of the class"),
            [
                (visible_name(names[label]), visible_name(names[prediction]), f"{100 * share:.0f} %")
                for share, label, prediction in errors[:MAX_ERRORS]
            ],
            "Most frequent errors",
            f"{correct} The complete matrix is in {'confusion.csv' if kind == 'held-out' else 'run.json'}.",
            is_detail=True,
        )
    shown = [visible_name(name, 24) for name in names]
    decimals = 0 if all(count == round(count) for counts in confusion for count in counts) else 1
    means = "Numbers are means over the splits. " if kind == "held-out" else ""
    return Table(
        (CORNER, *shown),
        [(name, *(_cell(count, decimals) for count in row)) for name, row in zip(shown, confusion, strict=True)],
        f"Confusion matrix of the {kind} samples",
        f"{correct} {means}Blue cells are correct, orange cells are errors. A stronger color is a larger share of the "
        "row.",
        shares=[[round(100 * count / (sum(row) or 1.0)) for count in row] for row in confusion],
        is_detail=True,
    )


def _cell(count: float, decimals: int) -> str:
    """Return a mean number of samples with the decimals of the whole matrix, and a dot for none."""
    return f"{count:,.{decimals}f}" if round(count, 1) else "·"


def _format_count(count: float) -> str:
    """Return a mean number of samples: whole numbers as such, and others with one decimal."""
    return f"{count:,.0f}" if count == round(count) else f"{count:,.1f}"
