"""Maps: samples as points in two dimensions, by class, with the names of the classes on their clusters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modgap.answers.figures.style import COLORS, MARGIN, MARKERS, WIDTH, Ink, fit_names, size_in_inches, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL = 8
"""Size of small text in points."""
LINE = 0.14
"""Height of a line of small text in inches."""
LEGEND_NAME = 1.5
"""Space for the longest name in the legend, in inches."""
MOST_OF_CLUSTER = 0.9
"""Share of the samples of a cluster that lie below its name."""


def draw_map(ax: "Axes", frame: pd.DataFrame, limit: float) -> None:
    """Draw each sample as a point whose color and marker stand for its class.

    A combination of color and marker is repeated only after 110 classes.

    Args:
        ax: The axes.
        frame: One row for each sample, with the columns `x`, `y` and `class`, which is a number.
        limit: Largest absolute coordinate that is shown.
    """
    import seaborn

    classes = np.unique(frame["class"]).tolist()
    palette = {number: COLORS[number % len(COLORS)] for number in classes}
    markers = {number: MARKERS[number % len(MARKERS)] for number in classes}
    size = float(np.clip(12000 / len(frame), 2.5, 16))
    # Samples are drawn in random order, so that no class covers all others.
    look = {"data": frame.sample(frac=1, random_state=0), "s": size, "linewidth": 0, "alpha": 0.75, "rasterized": True}
    by_class = {"hue": "class", "style": "class", "hue_order": classes, "style_order": classes, "legend": False}
    seaborn.scatterplot(x="x", y="y", palette=palette, markers=markers, ax=ax, **look, **by_class)
    limits = (-limit, limit)
    ax.set(xlim=limits, ylim=limits, xticks=[], yticks=[], xlabel="", ylabel="", aspect="equal", anchor="NW")
    ax.grid(visible=False)
    ax.spines[:].set(color=Ink.AXIS, linewidth=0.6, visible=True)


def name_clusters(ax: "Axes", frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Write the name of each class above its cluster, moved apart where names would overlap.

    Args:
        ax: Axes with a map.
        frame: The samples of the map, as for `draw_map`.
        names: Name of each class number.
    """
    from matplotlib.patheffects import withStroke

    width, _ = size_in_inches(ax)
    limit = ax.get_xlim()[1]
    unit = 2 * limit / width
    clusters = frame.groupby("class")
    short = fit_names([names[number] for number in clusters.groups], "class", 0.45 * width, SMALL, bold=True)
    # A name on the center of a small cluster would hide it.
    heights = clusters["y"].quantile(MOST_OF_CLUSTER) + 0.6 * LINE * unit
    centers = np.column_stack([clusters["x"].median(), heights])
    sizes = unit * np.array([[text_width(name, SMALL, bold=True) + 0.06, LINE] for name in short])
    effects = [withStroke(linewidth=1.5, foreground="white")]
    style: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "size": SMALL,
        "weight": "bold",
        "color": Ink.TITLE,
        "zorder": 9,
    }
    for (x, y), name in zip(_spread_boxes(centers, sizes, limit), short, strict=True):
        ax.text(x, y, name, path_effects=effects, **style)


def _spread_boxes(centers: np.ndarray, sizes: np.ndarray, limit: float) -> np.ndarray:
    """Move boxes vertically until none overlaps another, and keep them within the limits.

    Args:
        centers: Center of each box, shape (n, 2).
        sizes: Width and height of each box, shape (n, 2).
        limit: Largest absolute coordinate.
    """
    reach = limit - sizes / 2
    moved = np.clip(centers, -reach, reach).astype(float)
    for _ in range(200):
        overlaps = False
        for one in range(len(moved)):
            for other in range(one):
                distance = moved[one] - moved[other]
                overlap = (sizes[one] + sizes[other]) / 2 - np.abs(distance)
                if (overlap > 1e-6 * limit).all():
                    overlaps = True
                    step = (0.5 * overlap[1] + 1e-6 * limit) * (1 if distance[1] >= 0 else -1)
                    moved[one, 1] += step
                    moved[other, 1] -= step
        moved = np.clip(moved, -reach, reach)
        if not overlaps:
            break
    return moved


def legend_size(names: Sequence[str]) -> tuple[int, float]:
    """Return the number of columns and the height in inches of a legend with these names."""
    widest = max(text_width(name, SMALL) for name in fit_names(names, "class", LEGEND_NAME, SMALL))
    columns = max(1, int((WIDTH - 2 * MARGIN) / (widest + 0.4)))
    return columns, 0.18 * -(-len(names) // columns) + 0.1


def draw_legend(figure: "Figure", classes: Sequence[int], names: Sequence[str]) -> None:
    """Draw a legend of classes below the panels of a figure.

    Args:
        figure: The figure.
        classes: Number of each class.
        names: Name of each class.
    """
    from matplotlib.lines import Line2D

    handles = []
    for number, name in zip(classes, fit_names(names, "class", LEGEND_NAME, SMALL), strict=True):
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        handles.append(Line2D([], [], linestyle="", color=color, marker=marker, markersize=4.5))
        # A label that starts with an underscore is hidden if it is passed as an argument.
        handles[-1].set_label(f" {name}" if name.startswith("_") else name)
    columns, _ = legend_size(names)
    style = {"frameon": False, "fontsize": SMALL, "handletextpad": 0.1, "columnspacing": 0.8, "ncols": columns}
    figure.legend(handles=handles, loc="outside lower left", **style)
