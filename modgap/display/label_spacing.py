"""Positions of labels that stand side by side in a figure."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from modgap.display.figure_layout import Ink

__all__ = ["label_lines", "spread_labels"]

LABEL_LINE = 0.15
"""Height of a line of labels in inches."""


def spread_labels(
    centers: Sequence[float], widths: Sequence[float], low: float, high: float, gap: float
) -> list[float]:
    """Move labels that stand side by side so that they do not overlap and stay between two limits.

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
    lefts = [center - width / 2 for center, width in zip(centers, widths, strict=True)]
    for _ in range(2 * len(lefts)):
        for i in range(1, len(lefts)):
            overlap = lefts[i - 1] + widths[i - 1] + gap - lefts[i]
            if overlap > 0:
                lefts[i - 1] -= overlap / 2
                lefts[i] += overlap / 2
        _clamp(lefts, widths, low, high, gap)
    return [round(left + width / 2, 9) for left, width in zip(lefts, widths, strict=True)]


def _clamp(lefts: list[float], widths: Sequence[float], low: float, high: float, gap: float) -> None:
    """Push labels in from both limits, the left limit last."""
    end = high
    for i in reversed(range(len(lefts))):
        lefts[i] = min(lefts[i], end - widths[i])
        if lefts[i] + widths[i] < end:
            break
        end = lefts[i] - gap
    start = low
    for i in range(len(lefts)):
        lefts[i] = max(lefts[i], start)
        start = lefts[i] + widths[i] + gap


def label_lines(axes: Axes, x: float, labels: Sequence[tuple[float, str, str]], height: float) -> None:
    """Write the names of lines beside their ends, moved apart where they would overlap.

    Args:
        axes: The axes, whose vertical limits are set.
        x: Position of the labels.
        labels: End, name and text color of each line.
        height: Height of the axes in inches.
    """
    low, high = axes.get_ylim()
    unit = (high - low) / height
    ordered = sorted(labels, key=lambda label: label[0])
    ends = [end for end, _, _ in ordered]
    centers = spread_labels(ends, [LABEL_LINE * unit] * len(ends), low, high, 0.01 * unit)
    for y, (_, name, color) in zip(centers, ordered, strict=True):
        weight = "normal" if color == Ink.SECONDARY else "bold"
        axes.text(x, y, name, ha="left", va="center", size=8.5, color=color, weight=weight)
