"""Figures of features: maps of the samples of each encoder, and similarity by layer."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from modgap.answers.figures.files import ResultFigure
from modgap.answers.figures.grid import draw_grid
from modgap.answers.figures.intervals import tidy_frame
from modgap.answers.figures.maps import LINE, SMALL, draw_legend, draw_map, legend_size, name_clusters
from modgap.answers.figures.style import (
    MARGIN,
    WIDTH,
    Ink,
    figure_of,
    fit_names,
    panel,
    panels,
    styled,
    text_width,
    wrap_text,
)
from modgap.distortion.grid import display_name, starts_from_source
from modgap.distortion.measurement import EncoderResult, SurrogateResult
from modgap.probes.tsne_maps import MapQuality, TsneMap
from modgap.storage.json_records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_TITLE = 8.5
GAP = 0.12
WIDEST_PANEL = 3.4
COLUMNS = 3
"""Most maps side by side."""
MAX_PANELS = 12
"""Most maps that are drawn."""
NAMED_CLUSTERS = 12
"""Most classes whose names stand on their clusters; more classes have a legend."""
LEGEND_CLASSES = 24
CELL = 0.34
"""Width of a value with two decimals, in inches."""
CELL_HEIGHT = 0.24
DARK = 0.55
"""Position on the color scale below which text is white."""
LONGEST_ROW_NAME = 2.6
LONGEST_COLUMN_NAME = 1.3
INITIALIZATION_CAPTIONS = {
    "shared": "shared initialization",
    "pca": "own PCA initialization, rotated onto the first map",
}


def map_frame(maps: Mapping[str, TsneMap], labels: ArrayLike) -> pd.DataFrame:
    """Return the points of maps: one row for each encoder and sample, with the class number.

    Args:
        maps: The maps by the name of the encoder.
        labels: Class of each sample, shape (n,).
    """
    classes = np.asarray(labels)
    parts = [
        tidy_frame({"encoder": [name] * len(classes), "x": x, "y": y, "class": classes})
        for name, (x, y) in ((name, one.coordinates.T) for name, one in maps.items())
    ]
    return pd.concat(parts, ignore_index=True)


@styled
def map_grid(maps: Mapping[str, TsneMap], labels: ArrayLike, class_names: Sequence[str]) -> "Figure":
    """Draw one panel for each encoder on the same scale, with classes by color and marker (MoNA, Fig. 2).

    Under each panel are k-NN agreement and silhouette in the map and in the features. With more than 12 maps, the first
    one and the 11 with the lowest agreement in the features are drawn.

    Args:
        maps: The maps by panel title, at least that of the source, which comes first.
        labels: Class of each sample, an index of `class_names`, shape (n,).
        class_names: Name of each class.
    """
    classes = np.asarray(labels)
    present = np.unique(classes).tolist()
    # The first map and those with the lowest agreement in the features are drawn, in their order.
    first, *others = maps
    lowest = sorted(others, key=lambda name: maps[name].quality.agreement_features)[: MAX_PANELS - 1]
    drawn = {name: maps[name] for name in maps if name in {first, *lowest}}
    columns = min(len(drawn), COLUMNS)
    width = min(WIDEST_PANEL, (WIDTH - 2 * MARGIN - GAP * (columns - 1)) / columns)
    titles = [wrap_text(name, width, PANEL_TITLE) for name in drawn]
    in_legend = present[:LEGEND_CLASSES] if len(present) > NAMED_CLUSTERS else []
    legend_names = [class_names[number] for number in in_legend]
    height = (LINE * max(map(len, titles)) + width + 2 * LINE + 0.3) * -(-len(drawn) // columns)
    height += legend_size(legend_names)[1] if in_legend else 0.0
    subtitle = _maps_subtitle(maps, drawn, len(classes), len(present))
    shares = [round(100 * one.quality.agreement_features) for one in maps.values()]
    span = f"{min(shares)} %" if min(shares) == max(shares) else f"{min(shares)} to {max(shares)} %"
    chance = round(100 * maps[first].quality.agreement_chance)
    title = f"{span} of the nearest neighbors share the class; chance level {chance} %"
    axes = panels(title, subtitle, height, len(drawn), columns)
    limit = 1.05 * max(np.abs(one.coordinates).max() for one in drawn.values())
    frame = map_frame(drawn, classes)
    for one, lines, (name, shown) in zip(axes, titles, drawn.items(), strict=True):
        draw_map(one, frame[frame["encoder"] == name], limit)
        one.set_title("\n".join(lines), loc="left", fontsize=PANEL_TITLE, color=Ink.TITLE, pad=3)
        quality = _describe_quality(shown.quality, width < 2)
        one.set_xlabel(quality, fontsize=SMALL, color=Ink.SECONDARY, loc="left", labelpad=3)
    if in_legend:
        draw_legend(figure_of(axes[0]), in_legend, legend_names)
    else:
        name_clusters(axes[0], frame[frame["encoder"] == next(iter(drawn))], class_names)
    return figure_of(axes[0])


def _maps_subtitle(maps: Mapping[str, TsneMap], drawn: Mapping[str, TsneMap], n_samples: int, n_classes: int) -> str:
    parts = [f"t-SNE maps of the features of {n_samples:,} samples in {n_classes:,} classes."]
    if n_classes > LEGEND_CLASSES:
        parts.append(f"The legend has {LEGEND_CLASSES} of them.")
    if len(drawn) < len(maps):
        parts.append(
            f"Of {len(maps):,} encoders, the first and the {len(drawn) - 1} with the lowest agreement are drawn."
        )
    return " ".join(parts)


def _describe_quality(quality: MapQuality, narrow: bool) -> str:
    agreement = f"{quality.neighbors}-NN" if narrow else f"{quality.neighbors}-NN agreement"
    lines = [f"{agreement} {quality.agreement_map:.2f} (features {quality.agreement_features:.2f})"]
    if quality.silhouette_map is not None and quality.silhouette_features is not None:
        name = "silh." if narrow else "silhouette"
        lines.append(f"{name} {quality.silhouette_map:.2f} (features {quality.silhouette_features:.2f})")
    return "\n".join(lines)


@dataclass(frozen=True)
class SimilarityGrid:
    """Similarity of the layers of encoders to the same layers of the untouched encoder.

    Attributes:
        name: Name of the measure.
        values: Similarities, with a row for each encoder and a column for each layer; higher is more similar.
        null: Mean of the expected values for unrelated features.
        samples: Number of samples.
    """

    name: str
    values: pd.DataFrame
    null: float
    samples: int


def layer_grid(results: Sequence[EncoderResult], measure: str) -> SimilarityGrid | None:
    """Return the similarity of each layer of each encoder to the same layer of the untouched encoder.

    Args:
        results: Results on one surrogate.
        measure: Name of the similarity measure.

    Returns:
        The similarities; None with fewer than two layers.
    """
    by_label = {result.label: result.similarity[measure] for result in results if result.similarity.get(measure)}
    layers = list(next(iter(by_label.values()), ()))
    if len(layers) < 2:
        return None
    rows = {label: list(cells.values()) for label, cells in by_label.items() if list(cells) == layers}
    values = tidy_frame([[one.value for one in row] for row in rows.values()], index=list(rows), columns=layers)
    null = float(np.mean([[one.null for one in row] for row in rows.values()]))
    return SimilarityGrid(measure, values, null, next(iter(rows.values()))[0].samples)


@styled
def similarity_heat_map(grid: SimilarityGrid, title: str, ax: "Axes | None" = None) -> "Figure":
    """Draw the similarity of each encoder and layer, with values in the cells if they fit.

    Args:
        grid: The similarities.
        title: The finding, in one sentence.
        ax: Axes to draw on. None for a new figure.
    """
    values = grid.values
    rows = fit_names(list(values.index), "row", LONGEST_ROW_NAME, SMALL)
    columns = fit_names(list(values.columns), "layer", LONGEST_COLUMN_NAME, SMALL)
    measure = display_name(grid.name)
    subtitle = (
        f"{measure[0].upper()}{measure[1:]} on {grid.samples:,} samples. "
        f"The expected similarity of unrelated features is {grid.null:.2f}."
    )
    below = max(text_width(name, SMALL) for name in columns) + 0.28
    axes = panel(title, subtitle, max(0.5, CELL_HEIGHT * len(rows)) + below, ax)
    cell = (WIDTH - 1.1 - max(text_width(name, SMALL) for name in rows)) / len(columns)
    texts = values.map("{:.2f}".format) if cell >= CELL else None
    limits = (min(0.0, float(values.to_numpy().min())), 1.0)
    draw_grid(
        axes, values, "cividis", limits, texts, linewidths=0, xticklabels=columns, yticklabels=rows, cbar=True,
        cbar_kws={"ticks": [0, 0.5, 1], "pad": 0.02, "fraction": 0.03, "aspect": 2.4 * len(rows)},
    )  # fmt: skip
    for text, value in zip(axes.texts, values.to_numpy().ravel(), strict=False):
        text.set_color("white" if (value - limits[0]) / (1 - limits[0]) < DARK else "black")
    step = int(np.ceil(LINE / cell))
    for number, tick in enumerate(axes.xaxis.get_major_ticks()):
        tick.label1.set_visible(number % step == 0)
    if bar := axes.collections[0].colorbar:
        bar.ax.tick_params(labelsize=SMALL, length=0)
    return figure_of(axes)


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


def _parameters(parameters: Record) -> str:
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
    values = grid.values.to_numpy()
    return (
        f"{display_name(grid.name)} of the features of {len(values):,} encoders with those of the source before "
        f"fine-tuning, layer by layer, on {grid.samples:,} samples of {surrogate}. Rows are encoders and columns are "
        f"layers. The values are {values.min():.3f} to {values.max():.3f}; unrelated features have an "
        f"expected similarity of {grid.null:.3f}. 1 means the same features up to what the measure ignores."
    )


def feature_figures(result: SurrogateResult) -> Iterator[ResultFigure]:
    """Yield the figures of maps and of similarity by layer, if there are any."""
    surrogate = PurePath(result.name).stem
    maps = {encoder.map.name: encoder.map for encoder in result.encoders if encoder.map}
    if maps:
        draw = partial(map_grid, maps, result.labels, result.classes)
        caption = partial(map_caption, maps, result.labels, result.name)
        yield ResultFigure(f"maps-{surrogate}", partial(map_frame, maps, result.labels), draw, caption)
    for measure in dict.fromkeys(name for encoder in result.encoders for name in encoder.similarity):
        grid = layer_grid(result.encoders, measure)
        if grid is not None:
            draw = partial(similarity_heat_map, grid, _similarity_title(result, grid))
            caption = partial(heat_map_caption, grid, result.name)
            yield ResultFigure(f"{measure}-{surrogate}", grid.values.copy, draw, caption)


def _similarity_title(result: SurrogateResult, grid: SimilarityGrid) -> str:
    """Return the lowest similarity of the fine-tuned encoders, in a sentence. Other sources do not count."""
    runs = [one for one in result.encoders if one.encoder.run is not None]
    tuned = {one.label for one in runs if starts_from_source(one.encoder.method)}
    rows = grid.values[grid.values.index.isin(tuned)]
    name = display_name(grid.name)
    name = name if name[1].isupper() or name.startswith("k-") else name[0].upper() + name[1:]
    lowest = float((grid.values if rows.empty else rows).to_numpy().min())
    # Rounded down, because "at least 1.00" would be false of 0.996. The tolerance is for the error of CKA itself.
    at_least = f"is at least {math.floor(100 * lowest + 1e-6) / 100:.2f}"
    if rows.empty:
        return f"{name} with the source {at_least}"
    return f"After fine-tuning, {display_name(grid.name)} with the source {at_least}"
