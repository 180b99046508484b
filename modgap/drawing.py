"""What all figures share: colours and markers told apart by all readers, bare axes, and how they are written."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "COLOURS", "GREEN", "GREY", "MARKERS", "ORANGE", "save", "style", "tidy"]

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#C4B000", "#999999", "#882255",
)  # fmt: skip
"""Okabe and Ito's, yellow darkened to be seen on white, grey and wine; markers tell apart what colours do not."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
BLUE, ORANGE, GREEN, GREY = COLOURS[0], COLOURS[1], COLOURS[2], "#7F7F7F"


def style(number: int) -> tuple[str, str]:
    """Colour and marker of a series by its number; they recur together only after 110."""
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]


def tidy(axes: "Axes", **labels: str) -> None:
    """Set labels, leave the frame open, and draw a faint grid behind all else."""
    axes.set(**labels)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG at 150 dots per inch, whole or not at all."""
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    figure.savefig(temporary, dpi=150, facecolor="white")
    temporary.replace(path)
