"""Figures of maps and similarity, with the finding as their title."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from modgap.display.figure_layout import (
    MARGIN,
    WIDTH,
    Ink,
    draw_title,
    drawable_names,
    figure_below_title,
    fit_names,
    series_style,
    styled,
    text_width,
    wrap_text,
)
from modgap.distortion.arrays import validate_count
from modgap.distortion.display_names import display_name
from modgap.distortion.map_quality import MapQuality
from modgap.distortion.similarity import SimilarityGrid
from modgap.distortion.tsne_maps import TsneMap
from modgap.errors import InputError, UsageError

__all__ = ["heat_map_caption", "map_caption", "map_grid", "similarity_heat_map"]

SMALL = 8
PANEL_TITLE = 8.5
LINE = 0.14
"""Height of a line of small text in inches."""
GAP = 0.12
WIDEST_PANEL = 3.4
MAX_PANELS = 12
"""Most maps that are drawn."""
MOST_OF_CLUSTER = 0.9
"""Share of the samples of a cluster that lie below its name."""
NAMED_CLUSTERS = 12
"""Most classes whose names stand on their clusters; more classes have a legend."""
LEGEND_CLASSES = 24
SLICES = 6
CELL = 0.34
"""Width of a value with two decimals, in inches."""
CELL_HEIGHT = 0.24
LONGEST_ROW_NAME = 2.6
LONGEST_COLUMN_NAME = 1.3
BAR = 0.85
"""Space for the color scale, in inches."""
INITIALIZATION_CAPTIONS = {
    "shared": "shared initialization",
    "pca": "own PCA initialization, rotated onto the first map",
}


@styled
def map_grid(
    maps: Mapping[str, TsneMap], labels: ArrayLike, class_names: Sequence[str], columns: int | None = None
) -> Figure:
    """Draw one panel for each encoder on the same scale, with classes by color and marker (MoNA, Fig. 2).

    Under each panel are k-NN agreement and silhouette in the map and in the features. With more than 12 maps, the first
    one and the 11 with the lowest agreement in the features are drawn.

    Args:
        maps: The maps by panel title, that of the source first.
        labels: Class of each sample, an index of `class_names`, shape (n,).
        class_names: Name of each class.
        columns: Number of panels side by side, 1 to 4; None for three, or fewer if there are fewer maps.

    Raises:
        InputError: When maps and labels have different numbers of samples, or a label has no name.
        UsageError: When there are no maps, or not 1 to 4 columns.
    """
    if not maps:
        raise UsageError("There is no map to draw. At least one is needed.")
    classes = _validate_classes(maps, np.asarray(labels), len(class_names))
    drawn = _drawn_maps(maps)
    columns = min(len(drawn), validate_count("columns", 3 if columns is None else columns, 1, 4))
    width = min(WIDEST_PANEL, (WIDTH - 2 * MARGIN - GAP * (columns - 1)) / columns)
    names = drawable_names(class_names)
    handles = _legend_handles(np.unique(classes), names)
    titles = {name: wrap_text(name, width, PANEL_TITLE) for name in drawn}
    above = LINE * max(map(len, titles.values())) + 0.08
    row = above + width + 2 * LINE + 0.2
    legend_columns, legend_height = _legend_size(handles)
    title, subtitle = _maps_title(maps), _maps_subtitle(maps, drawn, len(classes), len(np.unique(classes)))
    figure, top = figure_below_title(title, subtitle, legend_height + row * -(-len(drawn) // columns))
    draw_title(figure, title, subtitle)
    height = figure.get_figheight()
    limit = 1.05 * max(np.abs(one.coordinates).max() for one in drawn.values())
    for number, (name, one) in enumerate(drawn.items()):
        x = MARGIN + (number % columns) * (width + GAP)
        y = height - top - legend_height - (number // columns) * row - above - width
        axes = figure.add_axes((x / WIDTH, y / height, width / WIDTH, width / height), label=str(number))
        _draw_panel(axes, "\n".join(titles[name]), one, classes, limit, width)
    if handles:
        _draw_legend(figure, handles, legend_columns, 1 - (top - 0.12) / height)
    else:
        _name_clusters(figure.axes[0], next(iter(drawn.values())), classes, names, width)
    return figure


def _drawn_maps(maps: Mapping[str, TsneMap]) -> dict[str, TsneMap]:
    """Return the first map and those with the lowest agreement in the features, in their order."""
    first, *others = maps
    lowest = sorted(others, key=lambda name: maps[name].quality.agreement_features)[: MAX_PANELS - 1]
    return {name: maps[name] for name in maps if name in {first, *lowest}}


def _maps_title(maps: Mapping[str, TsneMap]) -> str:
    qualities = [one.quality for one in maps.values()]
    shares = [round(100 * quality.agreement_features) for quality in qualities]
    span = f"{min(shares)} %" if min(shares) == max(shares) else f"{min(shares)} to {max(shares)} %"
    chance = round(100 * qualities[0].agreement_chance)
    return f"{span} of the nearest neighbors share the class; chance level {chance} %"


def _maps_subtitle(maps: Mapping[str, TsneMap], drawn: Mapping[str, TsneMap], n_samples: int, n_classes: int) -> str:
    parts = [f"t-SNE maps of the features of {n_samples:,} samples in {n_classes:,} classes."]
    if n_classes > LEGEND_CLASSES:
        parts.append(f"The legend has {LEGEND_CLASSES} of them.")
    if len(drawn) < len(maps):
        parts.append(
            f"Of {len(maps):,} encoders, the first and the {len(drawn) - 1} with the lowest agreement are drawn."
        )
    return " ".join(parts)


def _validate_classes(maps: Mapping[str, TsneMap], labels: np.ndarray, n_classes: int) -> np.ndarray:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise InputError(
            f"The labels have type {labels.dtype} and shape {labels.shape}. Expected integers of shape (n,)."
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise InputError(
            f"The labels go from {labels.min()} to {labels.max()}, but there are {n_classes} class names. "
            f"Expected labels from 0 to {n_classes - 1}."
        )
    for name, one in maps.items():
        if len(one.coordinates) != len(labels):
            raise InputError(f"Map {name} has {len(one.coordinates)} samples, but there are {len(labels)} labels.")
    return labels


def _legend_handles(present: np.ndarray, names: Sequence[str]) -> list[Line2D]:
    """Return the entries of the legend. Empty if the names of the classes stand on their clusters."""
    if len(present) <= NAMED_CLUSTERS:
        return []
    shown = present[:LEGEND_CLASSES].tolist()
    short = fit_names([names[number] for number in shown], 1.5, SMALL)
    handles = []
    for number, name in zip(shown, short, strict=True):
        color, marker = series_style(number)
        handle = Line2D([], [], linestyle="", color=color, marker=marker, markersize=4.5)
        # A label that starts with an underscore is hidden if it is passed as an argument.
        handle.set_label(f" {name}" if name.startswith("_") else name)
        handles.append(handle)
    return handles


def _legend_size(handles: Sequence[Line2D]) -> tuple[int, float]:
    """Return the number of columns and the height in inches of the legend."""
    if not handles:
        return 1, 0.0
    widest = max(text_width(str(handle.get_label()), SMALL) for handle in handles)
    columns = max(1, int((WIDTH - 2 * MARGIN) / (widest + 0.4)))
    return columns, 0.18 * -(-len(handles) // columns) + 0.1


def _draw_legend(figure: Figure, handles: Sequence[Line2D], columns: int, top: float) -> None:
    figure.legend(
        handles=list(handles), loc="upper left", bbox_to_anchor=(0.2 * MARGIN / WIDTH, top), ncols=columns,
        frameon=False, fontsize=SMALL, handletextpad=0.1, columnspacing=0.8, borderaxespad=0,
    )  # fmt: skip


def _draw_panel(axes: Axes, title: str, one: TsneMap, classes: np.ndarray, limit: float, width: float) -> None:
    size = float(np.clip(12000 / len(classes), 2.5, 16))
    # Samples are drawn in random slices, so that no class covers all others.
    order = np.random.default_rng(0).permutation(len(classes))
    for rows in np.array_split(order, SLICES):
        for number in np.unique(classes[rows]):
            color, marker = series_style(number)
            points = one.coordinates[rows[classes[rows] == number]]
            axes.scatter(
                points[:, 0], points[:, 1], s=size, c=color, marker=marker, linewidths=0, alpha=0.75, rasterized=True
            )
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set(color=Ink.AXIS, linewidth=0.6)
    axes.set_title(title, loc="left", fontsize=PANEL_TITLE, color=Ink.TITLE, pad=3)
    quality = _describe_quality(one.quality, width < 2)
    axes.set_xlabel(quality, fontsize=SMALL, color=Ink.SECONDARY, loc="left", labelpad=3)


def _name_clusters(axes: Axes, one: TsneMap, classes: np.ndarray, names: Sequence[str], width: float) -> None:
    """Write the name of each class above its cluster, moved apart where names would overlap."""
    numbers = np.unique(classes).tolist()
    limit = axes.get_xlim()[1]
    unit = 2 * limit / width
    short = fit_names([names[number] for number in numbers], 0.45 * width, SMALL, bold=True)
    clusters = [one.coordinates[classes == number] for number in numbers]
    # A name on the center of a small cluster would hide it.
    centers = np.array([(np.median(points[:, 0]), np.quantile(points[:, 1], MOST_OF_CLUSTER)) for points in clusters])
    centers[:, 1] += 0.6 * LINE * unit
    sizes = unit * np.array([[text_width(name, SMALL, bold=True) + 0.06, LINE] for name in short])
    for (x, y), name in zip(_spread_boxes(centers, sizes, limit), short, strict=True):
        axes.text(
            x, y, name, ha="center", va="center", size=SMALL, weight="bold", color=Ink.TITLE, zorder=9,
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
        )  # fmt: skip


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


def _describe_quality(quality: MapQuality, narrow: bool) -> str:
    agreement = f"{quality.neighbors}-NN" if narrow else f"{quality.neighbors}-NN agreement"
    lines = [f"{agreement} {quality.agreement_map:.2f} (features {quality.agreement_features:.2f})"]
    if quality.silhouette_map is not None and quality.silhouette_features is not None:
        name = "silh." if narrow else "silhouette"
        lines.append(f"{name} {quality.silhouette_map:.2f} (features {quality.silhouette_features:.2f})")
    return "\n".join(lines)


@styled
def similarity_heat_map(grid: SimilarityGrid, title: str) -> Figure:
    """Draw the similarity of all pairs of layers, the first row at the bottom, with values in the cells if they fit.

    Args:
        grid: The similarities.
        title: The finding, in one sentence.
    """
    rows, columns = grid.values.shape
    row_names = fit_names(drawable_names(grid.rows, "row"), LONGEST_ROW_NAME, SMALL)
    column_names = fit_names(drawable_names(grid.columns, "layer"), LONGEST_COLUMN_NAME, SMALL)
    left = MARGIN + max(text_width(name, SMALL) for name in row_names) + 0.12
    bottom = max(text_width(name, SMALL) for name in column_names) + 0.28
    cell = min(1.5 * CELL, (WIDTH - left - BAR) / columns)
    body = max(0.5, rows * CELL_HEIGHT)
    measure = display_name(grid.name)
    subtitle = (
        f"{measure[0].upper()}{measure[1:]} on {grid.samples:,} samples. "
        f"The expected similarity of unrelated features is {grid.nulls.mean():.2f}."
    )
    figure, _ = figure_below_title(title, subtitle, body + bottom)
    draw_title(figure, title, subtitle)
    height = figure.get_figheight()
    axes = figure.add_axes((left / WIDTH, bottom / height, columns * cell / WIDTH, body / height))
    low = min(0.0, float(grid.values.min()))
    image = axes.imshow(grid.values, cmap="cividis", vmin=low, vmax=1, origin="lower", aspect="auto")
    step = max(1, int(np.ceil(0.14 / cell)))
    axes.set_xticks(range(0, columns, step), column_names[::step], rotation=90)
    axes.set_yticks(range(rows), row_names)
    axes.tick_params(labelsize=SMALL, length=0)
    axes.spines[:].set_visible(False)
    if cell >= CELL:
        for (row, column), value in np.ndenumerate(grid.values):
            color = "white" if (value - low) / (1 - low) < 0.55 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=SMALL, color=color)
    scale = figure.add_axes(((left + columns * cell + 0.15) / WIDTH, bottom / height, 0.1 / WIDTH, body / height))
    bar = figure.colorbar(image, cax=scale, ticks=[0, 0.5, 1])
    bar.ax.tick_params(labelsize=SMALL, length=0)
    bar.outline.set_visible(False)
    return figure


def map_caption(maps: Mapping[str, TsneMap], labels: ArrayLike, surrogate: str) -> str:
    """Return the caption of the maps, in whole sentences with the exact values.

    Args:
        maps: The maps by panel title.
        labels: Class of each sample, shape (n,).
        surrogate: Name of the surrogate that the samples are from.
    """
    first = next(iter(maps.values()))
    n_samples = len(np.asarray(labels))
    n_classes = len(np.unique(np.asarray(labels)))
    values = [
        f"{name} {one.quality.agreement_features:.3f} in the features and {one.quality.agreement_map:.3f} in the map"
        for name, one in maps.items()
    ]
    return (
        f"t-SNE maps of {n_samples:,} samples of {surrogate} ({n_classes:,} classes), one panel for each encoder, on "
        "the same scale. A color and a marker stand for a class. Distances between clusters have no meaning. "
        f"{_parameters(first.parameters)} "
        f"{first.quality.neighbors}-NN agreement, the share of the nearest neighbors with the class of the sample: "
        f"{'; '.join(values)} (chance level {first.quality.agreement_chance:.3f}). No test compares the panels."
    )


def _parameters(parameters: Mapping[str, Any]) -> str:
    """Return the parameters that all maps share, in a sentence."""
    components = parameters["principal_components"]
    parts = [
        f"Parameters: {parameters['library']}",
        *([f"{components} principal components"] if components else []),
        f"perplexity {parameters['perplexity']:g}" + (" (lowered)" if "requested_perplexity" in parameters else ""),
        INITIALIZATION_CAPTIONS[parameters["initialization"]],
        "+".join(str(number) for number in parameters["iterations"]) + " iterations",
        f"seed {parameters['seed']}",
    ]
    return f"{', '.join(parts)}."


def heat_map_caption(grid: SimilarityGrid, surrogate: str) -> str:
    """Return the caption of a heat map, in whole sentences with the exact values.

    Args:
        grid: The similarities.
        surrogate: Name of the surrogate that the samples are from.
    """
    return (
        f"{display_name(grid.name)} of the features of {len(grid.rows):,} encoders with those of the source before "
        f"fine-tuning, layer by layer, on {grid.samples:,} samples of {surrogate}. Rows are encoders and columns are "
        f"layers. The values are {grid.values.min():.3f} to {grid.values.max():.3f}; unrelated features have an "
        f"expected similarity of {grid.nulls.mean():.3f}. 1 means the same features up to what the measure ignores."
    )
