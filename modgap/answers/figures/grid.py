"""Grids of values: similarity by layer, differences of sources and targets, ranks by other scores."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap

from modgap.answers.figures.style import Ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIFFERENCES = LinearSegmentedColormap.from_list("modgap_differences", ["#7FB3D6", "#FFFFFF", "#F2B48C"])
"""Colors from blue, where the source is better, to orange, where it is worse; dark text can be read on all of them."""
RANKS = ListedColormap(("white", *Ink.RANKS), "modgap_ranks")
"""Colors of no rank, the ranks 1 to 3, and all others."""


def draw_grid(
    ax: "Axes",
    values: pd.DataFrame,
    colors: Colormap | str,
    limits: tuple[float, float],
    texts: pd.DataFrame | None = None,
    bold: pd.DataFrame | None = None,
    *,
    names_above: int | None = None,
    **options: Any,
) -> None:
    """Draw a colored cell for each value, with the names of the rows at the left and of the columns below or above.

    Args:
        ax: The axes.
        values: The values; the names of rows and columns are those that are drawn.
        colors: Color map.
        limits: Values of the first and the last color.
        texts: Text of each cell; None for none.
        bold: True for each text in bold type.
        names_above: Angle of the names of the columns above the grid. None for vertical names below it.
        options: Further options of `seaborn.heatmap`.
    """
    import seaborn

    low, high = limits
    style: dict[str, Any] = {
        "cbar": False,
        "linewidths": 0.8,
        "linecolor": "white",
        "annot_kws": {"size": 8},
        **options,
    }
    annotations = False if texts is None else texts.to_numpy()
    seaborn.heatmap(values, cmap=colors, vmin=low, vmax=high, annot=annotations, fmt="", ax=ax, **style)
    shown = values.notna().to_numpy()
    if bold is not None:
        # Cells without a value have no text.
        for text, is_bold in zip(ax.texts, bold.to_numpy()[shown], strict=True):
            text.set(weight="bold" if is_bold else "normal")
    if texts is not None:
        for row, column in zip(*np.nonzero(~shown), strict=True):
            middle = (column + 0.5, row + 0.5)
            ax.text(*middle, texts.iat[row, column], ha="center", va="center", **style["annot_kws"])
    ax.set(xlabel="", ylabel="")
    ax.tick_params(labelsize=8, length=0, labelrotation=0, axis="y")
    ax.tick_params(labelsize=8, length=0, labelrotation=90 if names_above is None else names_above, axis="x")
    if names_above is not None:
        ax.xaxis.tick_top()
        for label in ax.get_xticklabels() if names_above else ():
            label.set(ha="left", rotation_mode="anchor")
    for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        label.set_parse_math(False)
