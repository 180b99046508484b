"""Figure of layers: the error of a linear probe by the layer whose features it sees."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from modgap.display.figure_layout import (
    LINE_STYLES,
    Ink,
    drawable_names,
    fit_names,
    name_in_title,
    result_figure,
    style_lines_axes,
    styled,
)
from modgap.display.label_spacing import label_lines
from modgap.errors import InputError
from modgap.formatting import format_p_value
from modgap.ranking.check_sentences import join_names
from modgap.ranking.layer_curves import LayerCurve
from modgap.ranking.layers import JUDGED_BY, SIGNIFICANT, layer_finding
from modgap.ranking.types import Ranking

__all__ = ["has_curves", "layer_caption", "layer_figure"]

HEIGHT = 2.4
LEFT = 0.62
RIGHT = 1.9
LABEL_SIZE = 8.5
OTHER_STYLE = (Ink.FAINT_CONTROL, Ink.SECONDARY, "o")
"""The same for all further curves."""


@styled
def layer_figure(ranking: Ranking) -> Figure:
    """Draw one curve for each source: the error of a linear probe by the depth of the layer.

    Args:
        ranking: A ranking with layers.

    Raises:
        InputError: If no source has the errors of two layers.
    """
    curves = drawn_curves(ranking)
    target = ranking.target
    assert target is not None
    subtitle = (
        "Error of a linear probe by the depth of the layer whose features it sees; 100 % is the output of the encoder. "
        "A ring marks the layer with the lowest error."
    )
    title = f"On {name_in_title(target.name, 'target')}, {layer_finding(curves)}"
    figure, axes = result_figure(title, subtitle, HEIGHT, LEFT, RIGHT)
    style_lines_axes(axes)
    axes.grid(visible=False, axis="x")
    names = fit_names(drawable_names([curve.source for curve in curves], "source"), RIGHT - 0.25, LABEL_SIZE, bold=True)
    labels = []
    for number, (curve, name) in enumerate(zip(curves, names, strict=True)):
        color, text_color, marker = LINE_STYLES[number] if number < len(LINE_STYLES) else OTHER_STYLE
        values = _draw_curve(axes, curve, color, marker)
        labels.append((values[-1], name, text_color))
    highest = max(_highest(curve) for curve in curves)
    axes.set(xlabel="depth of the layer", ylabel="error of a linear probe", xlim=(0, 103), ylim=(0, 1.05 * highest))
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    axes.yaxis.set_major_locator(MaxNLocator(5))
    label_lines(axes, 106, labels, HEIGHT)
    return figure


def drawn_curves(ranking: Ranking) -> list[LayerCurve]:
    """Return the curves with the errors of two or more layers.

    Raises:
        InputError: If there is none.
    """
    curves = [curve for curve in ranking.layers if _is_drawable(curve)]
    if not curves:
        raise InputError("No source has the errors of two layers, so there is nothing to draw.")
    return curves


def has_curves(ranking: Ranking) -> bool:
    """Return True if any source has the errors of two or more layers."""
    return any(_is_drawable(curve) for curve in ranking.layers)


def _is_drawable(curve: LayerCurve) -> bool:
    values = curve.values.get(JUDGED_BY, ())
    return len(values) > 1 and bool(np.isfinite(values).all())


def _highest(curve: LayerCurve) -> float:
    """Return the largest value of a curve and its band."""
    return max([*curve.values[JUDGED_BY], *(interval[1] for interval in curve.intervals if interval)])


def _draw_curve(axes: Axes, curve: LayerCurve, color: str, marker: str) -> Sequence[float]:
    """Draw a curve with its band, and return its values."""
    values = curve.values[JUDGED_BY]
    depths = 100 * np.array(curve.numbers) / curve.n_layers
    bands = [interval for interval in curve.intervals if interval is not None]
    if len(bands) == len(values):
        low, high = zip(*bands, strict=True)
        axes.fill_between(depths, low, high, color=color, alpha=0.12, linewidth=0, zorder=2)
    axes.plot(depths, values, color=color, marker=marker, markersize=4.5, linewidth=1.8, zorder=3)
    best = int(np.argmin(values))
    axes.plot(depths[best], values[best], "o", ms=11, mfc="none", mec=color, mew=1.4, zorder=4)
    return values


def layer_caption(ranking: Ranking) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    target = ranking.target
    assert target is not None
    curves = drawn_curves(ranking)
    sentences = [
        f"Error of a linear probe (five-fold cross-validation) on the features of the layers of "
        f"{join_names([curve.source for curve in curves])} on {target.name} ({target.samples:,} samples, "
        f"{target.classes:,} classes). Features are means over tokens or positions. Bands are 95 % intervals."
    ]
    for curve in curves:
        if choice := curve.choice:
            p_value = choice.corrected_p_value
            shown = "" if p_value is None else f", p {format_p_value(p_value)}"
            sentences.append(
                f"{curve.source}: layers chosen on one half of the samples have the error {choice.error:.3f} on the "
                f"other half, and the last layer {choice.last_error:.3f} (difference {choice.difference.value:+.3f}"
                f"{shown})."
            )
    sentences.append(
        f"Differences with p <= {SIGNIFICANT} count as significant; p is corrected for the sources (Holm)."
    )
    return " ".join(sentences)
