"""Figures of maps and similarity at the width they are printed in, their text at 8 points or more."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from modgap.distortion.arrays import checked_count
from modgap.distortion.map_quality import MapQuality
from modgap.distortion.similarity import SimilarityGrid
from modgap.distortion.tsne_maps import TsneMap
from modgap.errors import InputError, UsageError
from modgap.figure_style import style

__all__ = ["map_grid", "similarity_heat_map"]

ONE_COLUMN, TWO_COLUMNS = 3.4, 6.8
"""Widths of print, in inches."""
SMALL, LARGE = 8, 9
CLASSES_NAMED = 24
SLICES = 6
CELL = 0.34
"""Inches that a value with two decimals needs."""


def map_grid(
    maps: Mapping[str, TsneMap], labels: ArrayLike, class_names: Sequence[str], columns: int | None = None
) -> Figure:
    """One panel an encoder, all to one scale, classes by color and marker: MoNA's Fig. 2 with what it leaves unsaid.

    Under each panel stand k-NN agreement and silhouette in the map and in the features; at the foot, the parameters.

    Args:
        maps: The maps, titles as keys.
        labels: Classes (n,), indices of `class_names`.
        class_names: Name of each class.
        columns: Panels side by side, 1 to 4; three, or as many as there are maps if fewer.

    Raises:
        InputError: When maps and labels differ in their samples, or a label has no name.
        UsageError: When there are no maps, or not 1 to 4 columns.
    """
    if not maps:
        raise UsageError("expected at least one map for a figure, got none")
    classes = _checked_classes(maps, np.asarray(labels), len(class_names))
    columns = min(len(maps), checked_count("columns", 3 if columns is None else columns, 1, 4))
    rows = -(-len(maps) // columns)
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    present = np.unique(classes)
    handles = [_handle(number, class_names[number]) for number in present[:CLASSES_NAMED]]
    across = max(1, int(width / (0.35 + 0.065 * max(len(str(handle.get_label())) for handle in handles))))
    across = min(across, len(handles))
    caption = _caption(maps, len(classes), len(present), width)
    lines = max(_title(name, width / columns).count("\n") + 1 for name in maps)
    extra = 0.18 * (-(-len(handles) // across) + caption.count("\n") + 1) + 0.2
    figure = Figure(figsize=(width, rows * (width / columns + 0.45 + 0.16 * lines) + extra), layout="constrained")
    reach = 1.05 * max(np.abs(one.coordinates).max() for one in maps.values())
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, one) in zip(panels, maps.items(), strict=False):
        _panel(axes, name, one, classes, reach, width / columns)
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=across,
        frameon=False,
        fontsize=SMALL,
        handletextpad=0.1,
        columnspacing=0.8,
    )
    figure.supxlabel(caption, fontsize=SMALL)
    return figure


def _checked_classes(maps: Mapping[str, TsneMap], labels: np.ndarray, names: int) -> np.ndarray:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise InputError(f"expected labels as integers of shape (n,), got {labels.dtype} {labels.shape}")
    if labels.min() < 0 or labels.max() >= names:
        raise InputError(
            f"expected labels from 0 to {names - 1}, one for each of {names} class names, got "
            f"{labels.min()} to {labels.max()}; name every class"
        )
    for name, one in maps.items():
        if len(one.coordinates) != len(labels):
            raise InputError(
                f"expected one label for each sample of map {name}: {len(one.coordinates)}, got {len(labels)}"
            )
    return labels


def _plain(text: str) -> str:
    """Text that matplotlib takes neither for a formula nor for a label to hide."""
    return str(text).replace("$", r"\$").replace("_", " _", 1 if str(text).startswith("_") else 0)


def _handle(number: int, name: str) -> Line2D:
    color, marker = style(number)
    short = textwrap.shorten(name, 28, placeholder=" …") if len(name) > 28 else name
    return Line2D([], [], linestyle="", color=color, marker=marker, markersize=4.5, label=_plain(short[:28]))


def _caption(maps: Mapping[str, TsneMap], samples: int, classes: int, width: float) -> str:
    """What all maps share, in lines that fit the width; what differs between them is given for each."""
    first = next(iter(maps.values())).parameters
    start = {"shared": "one start for all", "pca": "own starts, turned onto the first"}
    told = [
        f"{samples:,} samples of {classes} classes" + (f" ({CLASSES_NAMED} named)" if classes > CLASSES_NAMED else ""),
        f"t-SNE ({first['library']})",
        f"perplexity {first['perplexity']:g}" + (" (lowered)" if "perplexity_asked" in first else ""),
        start[first["initialization"]],
        "+".join(str(number) for number in first["iterations"]) + " iterations",
        f"seed {first['seed']}",
    ]
    kept = sorted({one.parameters["principal_components"] for one in maps.values()} - {None})
    if kept:
        told.insert(2, f"on {kept[-1]} principal components")
    near = next(iter(maps.values())).quality.neighbors
    shares = f"{near}-NN: share of the {near} nearest neighbors that are of a sample's class, by chance "
    chance = next(iter(maps.values())).quality.agreement_chance
    return _wrapped(f"{', '.join(told)}. {shares}{chance:.2f}", width / 0.062)


def _title(name: str, width: float) -> str:
    return _wrapped(_plain(name), width / 0.08)


def _panel(axes: Axes, name: str, one: TsneMap, classes: np.ndarray, reach: float, width: float) -> None:
    size = float(np.clip(12000 / len(classes), 2.5, 16))
    # In slices, so that no class lies on top of all others.
    order = np.random.default_rng(0).permutation(len(classes))
    for some in np.array_split(order, SLICES):
        for number in np.unique(classes[some]):
            color, marker = style(number)
            places = one.coordinates[some[classes[some] == number]]
            axes.scatter(
                places[:, 0], places[:, 1], s=size, c=color, marker=marker, linewidths=0, alpha=0.75, rasterized=True
            )
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set(color="#B0B0B0", linewidth=0.6)
    axes.set_title(_title(name, width), fontsize=LARGE)
    axes.set_xlabel(_told(one.quality, width < 2), fontsize=SMALL)


def _told(quality: MapQuality, narrow: bool) -> str:
    told = [f"{quality.neighbors}-NN {quality.agreement_map:.2f} (features {quality.agreement_features:.2f})"]
    if quality.silhouette_map is not None and quality.silhouette_features is not None:
        name = "silh." if narrow else "silhouette"
        told.append(f"{name} {quality.silhouette_map:.2f} (features {quality.silhouette_features:.2f})")
    return "\n".join(told)


def _wrapped(text: str, characters: float) -> str:
    return textwrap.fill(text, max(8, int(characters)))


def similarity_heat_map(grid: SimilarityGrid, title: str) -> Figure:
    """Similarity of all pairs of layers, the first encoder's from the bottom up; values in the cells where they fit.

    Args:
        grid: The similarities.
        title: Above the figure.
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
    every = max(1, int(np.ceil(0.14 / cell)))
    axes.set_xticks(range(0, columns, every), [_plain(name) for name in grid.columns[::every]], rotation=90)
    axes.set_yticks(range(0, rows, every), [_plain(name) for name in grid.rows[::every]])
    axes.tick_params(labelsize=SMALL, length=2)
    if cell >= CELL:
        for (row, column), value in np.ndenumerate(grid.values):
            color = "white" if (value - low) / (1 - low) < 0.55 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=SMALL, color=color)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(grid.name.replace("_", " ").replace("cka", "CKA").replace("knn", "k-NN"), fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    axes.set_title(_wrapped(_plain(title), (width - margin) / 0.075), fontsize=LARGE)
    caption = f"{grid.samples:,} samples; unrelated features would have {grid.nulls.mean():.2f}"
    figure.supxlabel(_wrapped(caption, width / 0.062), fontsize=SMALL)
    return figure
