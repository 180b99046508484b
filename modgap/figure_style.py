"""What all figures share: colors and markers told apart by all readers, bare axes, and how they are written."""

from pathlib import Path
from typing import TYPE_CHECKING

from modgap.storage.atomic_files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "COLORS", "GRAY", "GREEN", "MARKERS", "ORANGE", "save", "style", "tidy"]

COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#C4B000", "#999999", "#882255",
)  # fmt: skip
"""Okabe and Ito's, yellow darkened to be seen on white, gray and wine; markers tell apart what colors do not."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
BLUE, ORANGE, GREEN, GRAY = COLORS[0], COLORS[1], COLORS[2], "#7F7F7F"


def style(number: int) -> tuple[str, str]:
    """Color and marker of a series by its number; they recur together only after 110."""
    return COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]


def tidy(axes: "Axes", **labels: str) -> None:
    """Set labels, leave the frame open, and draw a faint grid behind all else."""
    axes.set(**labels)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG at 150 dots per inch, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, facecolor="white")
