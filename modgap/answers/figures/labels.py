"""Direct labels: names beside rows, above marks and at the ends of lines, moved apart where they would overlap."""

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import isotonic_regression

from modgap.answers.figures.style import Ink, size_in_inches, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Label = tuple[float, str, str, bool]
"""Position, text and color of a label, and True for bold type."""
LINE = 0.14
"""Height of a line of labels in inches."""
LABEL_SIZE = 8.5
FARTHEST_LABEL = 0.15
"""Largest distance in inches by which labels on one line move each other."""


def beside(ax: "Axes", y: float, text: str, points: float, *, right: bool = False, **style: Any) -> None:
    """Write text at a distance from the left or right edge of axes, which is the same for axes of any width.

    Args:
        ax: The axes.
        y: Vertical position of the middle of the text, in the unit of the axis.
        text: The text.
        points: Distance from the edge in points. The text begins there if it is positive, and ends there otherwise.
        right: True for the right edge.
        style: Style of the text.
    """
    ax.annotate(
        text,
        (float(right), y),
        (points, 0),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        **{"ha": "left" if points > 0 else "right", "va": "center", "color": Ink.TITLE, "size": LABEL_SIZE, **style},
    )


def write_names(
    ax: "Axes",
    positions: Iterable[float],
    names: Iterable[str],
    points: float = -10.0,
    bold: Container[int] = (),
    **style: Any,
) -> None:
    """Write a name beside each row, as `beside` does.

    Args:
        ax: The axes.
        positions: Vertical position of each name.
        names: The names.
        points: Distance from the edge in points, negative for the left of it.
        bold: Numbers of the names that are in bold type.
        style: Style of all names, and `right` for the right edge.
    """
    for number, (y, name) in enumerate(zip(positions, names, strict=True)):
        beside(ax, y, name, points, **{"weight": "bold" if number in bold else "normal", **style})


def label_marks(ax: "Axes", y: float, labels: Sequence[Label], overhang: float = 0.2) -> None:
    """Write the names of marks above them, each on the lowest line where it and the others stay near their marks.

    Args:
        ax: Axes with rows.
        y: Vertical position of the lowest line, in the unit of the axis, which points downwards.
        labels: The labels with their horizontal positions.
        overhang: Largest distance that a label stands out of the axes, in inches.
    """
    width, height = size_in_inches(ax)
    low, high = ax.get_xlim()
    bottom, top = ax.get_ylim()
    unit = (high - low) / width
    limits = (low - overhang * unit, high + overhang * unit)
    waiting = sorted(labels, key=lambda label: label[0])
    while waiting:
        line = waiting[:1]
        for label in waiting[1:]:
            if _side_by_side([*line, label], limits, unit)[1] <= FARTHEST_LABEL * unit:
                line.append(label)
        centers, _ = _side_by_side(line, limits, unit)
        for center, (_, text, color, bold) in zip(centers, line, strict=True):
            style: dict[str, Any] = {"ha": "center", "va": "center", "size": LABEL_SIZE, "color": color}
            ax.text(center, y, text, weight="bold" if bold else "normal", **style)
        waiting = [label for label in waiting if label not in line]
        y -= LINE * (bottom - top) / height


def _side_by_side(labels: Sequence[Label], limits: tuple[float, float], unit: float) -> tuple[list[float], float]:
    """Return the centers of labels on one line, and the largest distance by which others move one of them.

    Args:
        labels: The labels, sorted by position.
        limits: Smallest left end and largest right end of a label.
        unit: Width of an inch in the unit of the axis.
    """
    widths = [text_width(text, LABEL_SIZE, bold) * unit for _, text, _, bold in labels]
    alone = [
        min(max(x, limits[0] + width / 2), limits[1] - width / 2)
        for (x, _, _, _), width in zip(labels, widths, strict=True)
    ]
    centers = spread_labels(alone, widths, *limits, 0.08 * unit)
    return centers, max(abs(center - x) for center, x in zip(centers, alone, strict=True))


def label_ends(ax: "Axes", labels: Sequence[Label]) -> None:
    """Write the names of lines right of the axes, moved apart where they would overlap.

    Args:
        ax: The axes, whose vertical limits are set.
        labels: The labels with the vertical positions of the ends.
    """
    low, high = ax.get_ylim()
    unit = (high - low) / size_in_inches(ax)[1]
    labels = sorted(labels, key=lambda label: label[0])
    lines = [LINE * unit * (1 + text.count("\n")) for _, text, _, _ in labels]
    positions = spread_labels([label[0] for label in labels], lines, low, high, 0.02 * unit)
    for y, (_, text, color, bold) in zip(positions, labels, strict=True):
        beside(ax, y, text, 6, right=True, color=color, weight="bold" if bold else "normal")


def spread_labels(
    centers: Sequence[float], widths: Sequence[float], low: float, high: float, gap: float
) -> list[float]:
    """Move labels as little as possible so that they do not overlap and stay between two limits.

    Args:
        centers: Position that each label belongs to, in ascending order.
        widths: Width of each label, in the unit of the positions.
        low: Smallest left end of a label.
        high: Largest right end of a label. It is exceeded if the labels do not fit.
        gap: Smallest distance between two labels.

    Returns:
        New centers of the labels.

    Example:
        >>> spread_labels([0.5, 0.5], [0.2, 0.2], 0.0, 1.0, 0.1)
        [0.35, 0.65]
    """
    reach = np.asarray(widths) / 2
    offsets = np.concatenate([[0.0], np.cumsum(reach[:-1] + reach[1:] + gap)])
    # With the distances taken off, labels that do not overlap are in ascending order.
    starts = isotonic_regression(np.asarray(centers) - offsets).x
    starts = np.maximum(np.minimum(starts, high - reach[-1] - offsets[-1]), low + reach[0])
    return [round(center, 9) for center in (starts + offsets).tolist()]
