"""Style that all figures share: colors and markers that every reader can distinguish, open axes, and PNG files."""

from pathlib import Path
from typing import TYPE_CHECKING

from modgap.storage.atomic_files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "COLORS", "GRAY", "GREEN", "MARKERS", "ORANGE", "save_figure", "series_style", "style_axes"]

COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#C4B000", "#999999", "#882255",
)  # fmt: skip
"""The colors of Okabe and Ito, with a darker yellow that is visible on white, and with gray and wine added."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
BLUE = COLORS[0]
ORANGE = COLORS[1]
GREEN = COLORS[2]
GRAY = "#7F7F7F"


def series_style(number: int) -> tuple[str, str]:
    """Return the color and the marker of a series; a combination is repeated only after 110 series.

    Args:
        number: Number of the series, from 0.
    """
    return COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]


def style_axes(axes: "Axes", **properties: str) -> None:
    """Set labels, remove the top and right frame, and draw a faint grid behind the data.

    Args:
        axes: The axes.
        **properties: Properties to set, such as `xlabel`, `ylabel` and `title`.
    """
    axes.set(**properties)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG at 150 dots per inch; an interrupted write leaves no partial file at the path.

    Args:
        figure: The figure.
        path: File to write.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, facecolor="white")
