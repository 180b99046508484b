"""Figures of maps and similarity at their printed width, with text of at least 8 points."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from modgap.display.figure_layout import series_style
from modgap.distortion.arrays import validate_count
from modgap.distortion.display_names import display_name
from modgap.distortion.map_quality import MapQuality
from modgap.distortion.similarity import SimilarityGrid
from modgap.distortion.tsne_maps import TsneMap
from modgap.errors import InputError, UsageError

__all__ = ["heat_map_caption", "map_caption", "map_grid", "similarity_heat_map"]

ONE_COLUMN = 3.4
"""Printed width of one column, in inches."""
TWO_COLUMNS = 6.8
SMALL = 8
LARGE = 9
LEGEND_CLASSES = 24
SLICES = 6
CELL = 0.34
"""Width of a value with two decimals, in inches."""
INITIALIZATION_CAPTIONS = {
    "shared": "shared initialization",
    "pca": "own PCA initialization, rotated onto the first map",
}


def map_grid(
    maps: Mapping[str, TsneMap], labels: ArrayLike, class_names: Sequence[str], columns: int | None = None
) -> Figure:
    """Draw one panel for each encoder on the same scale, with classes by color and marker (MoNA, Fig. 2).

    Under each panel are k-NN agreement and silhouette in the map and in the features; below the figure are the
    parameters.

    Args:
        maps: The maps by panel title.
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
    columns = min(len(maps), validate_count("columns", 3 if columns is None else columns, 1, 4))
    rows = -(-len(maps) // columns)
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    present = np.unique(classes)
    handles = [_legend_handle(number, class_names[number]) for number in present[:LEGEND_CLASSES]]
    longest_label = max(len(str(handle.get_label())) for handle in handles)
    legend_columns = min(max(1, int(width / (0.35 + 0.065 * longest_label))), len(handles))
    caption = _caption(maps, len(classes), len(present), width)
    title_lines = max(_panel_title(name, width / columns).count("\n") + 1 for name in maps)
    extra = 0.18 * (-(-len(handles) // legend_columns) + caption.count("\n") + 1) + 0.2
    height = rows * (width / columns + 0.45 + 0.16 * title_lines) + extra
    figure = Figure(figsize=(width, height), layout="constrained")
    limit = 1.05 * max(np.abs(one.coordinates).max() for one in maps.values())
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, one) in zip(panels, maps.items(), strict=False):
        _draw_panel(axes, name, one, classes, limit, width / columns)
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=legend_columns,
        frameon=False,
        fontsize=SMALL,
        handletextpad=0.1,
        columnspacing=0.8,
    )
    figure.supxlabel(caption, fontsize=SMALL)
    return figure


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


def _escape(text: str) -> str:
    """Return text that matplotlib neither typesets as a formula nor hides because of a leading underscore."""
    return str(text).replace("$", r"\$").replace("_", " _", 1 if str(text).startswith("_") else 0)


def _legend_handle(number: int, name: str) -> Line2D:
    color, marker = series_style(number)
    short = textwrap.shorten(name, 28, placeholder=" …") if len(name) > 28 else name
    return Line2D([], [], linestyle="", color=color, marker=marker, markersize=4.5, label=_escape(short[:28]))


def _caption(maps: Mapping[str, TsneMap], samples: int, classes: int, width: float) -> str:
    """Return the parameters that all maps share, in lines that fit the width."""
    first = next(iter(maps.values())).parameters
    named = f" ({LEGEND_CLASSES} in the legend)" if classes > LEGEND_CLASSES else ""
    components = sorted({one.parameters["principal_components"] for one in maps.values()} - {None})
    parts = [
        f"{samples:,} samples of {classes} classes{named}",
        f"t-SNE ({first['library']})",
        *([f"on {components[-1]} principal components"] if components else []),
        f"perplexity {first['perplexity']:g}" + (" (lowered)" if "requested_perplexity" in first else ""),
        INITIALIZATION_CAPTIONS[first["initialization"]],
        "+".join(str(number) for number in first["iterations"]) + " iterations",
        f"seed {first['seed']}",
    ]
    quality = next(iter(maps.values())).quality
    explanation = (
        f"{quality.neighbors}-NN agreement: share of the {quality.neighbors} nearest neighbors with the class of the "
        f"sample (chance level {quality.agreement_chance:.2f})"
    )
    return _wrap(f"{', '.join(parts)}. {explanation}.", width / 0.062)


def _panel_title(name: str, width: float) -> str:
    return _wrap(_escape(name), width / 0.08)


def _draw_panel(axes: Axes, name: str, one: TsneMap, classes: np.ndarray, limit: float, width: float) -> None:
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
    axes.spines[:].set(color="#B0B0B0", linewidth=0.6)
    axes.set_title(_panel_title(name, width), fontsize=LARGE)
    axes.set_xlabel(_describe_quality(one.quality, width < 2), fontsize=SMALL)


def _describe_quality(quality: MapQuality, narrow: bool) -> str:
    agreement = f"{quality.neighbors}-NN" if narrow else f"{quality.neighbors}-NN agreement"
    lines = [f"{agreement} {quality.agreement_map:.2f} (features {quality.agreement_features:.2f})"]
    if quality.silhouette_map is not None and quality.silhouette_features is not None:
        name = "silh." if narrow else "silhouette"
        lines.append(f"{name} {quality.silhouette_map:.2f} (features {quality.silhouette_features:.2f})")
    return "\n".join(lines)


def _wrap(text: str, characters: float) -> str:
    return textwrap.fill(text, max(8, int(characters)))


def similarity_heat_map(grid: SimilarityGrid, title: str) -> Figure:
    """Draw the similarity of all pairs of layers, the first row at the bottom, with values in the cells if they fit.

    Args:
        grid: The similarities.
        title: Title of the figure.
    """
    rows, columns = grid.values.shape
    margin = 0.35 + 0.065 * max(len(name) for name in grid.rows) + 0.75
    cell = min(CELL * 1.15, max(0.05, (TWO_COLUMNS - margin) / columns))
    width = max(ONE_COLUMN, columns * cell + margin)
    height = rows * cell + 1.0 + 0.065 * max(len(name) for name in grid.columns)
    figure = Figure(figsize=(width, max(height, 1.8)), layout="constrained")
    axes = figure.subplots()
    low = min(0.0, float(grid.values.min()))
    image = axes.imshow(grid.values, cmap="cividis", vmin=low, vmax=1, origin="lower", aspect="auto")
    step = max(1, int(np.ceil(0.14 / cell)))
    axes.set_xticks(range(0, columns, step), [_escape(name) for name in grid.columns[::step]], rotation=90)
    axes.set_yticks(range(0, rows, step), [_escape(name) for name in grid.rows[::step]])
    axes.tick_params(labelsize=SMALL, length=2)
    if cell >= CELL:
        for (row, column), value in np.ndenumerate(grid.values):
            color = "white" if (value - low) / (1 - low) < 0.55 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=SMALL, color=color)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(display_name(grid.name), fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    axes.set_title(_wrap(_escape(title), (width - margin) / 0.075), fontsize=LARGE)
    caption = f"{grid.samples:,} samples. The expected similarity of unrelated features is {grid.nulls.mean():.2f}."
    figure.supxlabel(_wrap(caption, width / 0.062), fontsize=SMALL)
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
        f"{first.quality.neighbors}-NN agreement, the share of the nearest neighbors with the class of the sample: "
        f"{'; '.join(values)} (chance level {first.quality.agreement_chance:.3f}). No test compares the panels."
    )


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
