"""Figure of few-shot curves."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from modgap.distortion.few_shot import FewShotCurve
from modgap.figure_style import GRAY, style, tidy

__all__ = ["few_shot_figure"]


def few_shot_figure(curves: Mapping[str, FewShotCurve], chance: float, surrogate: str) -> Figure:
    """A line an encoder, the mean over draws with its standard deviation, training samples a class on a log axis.

    Args:
        curves: By the encoder's label.
        chance: Error of guessing the largest class, drawn as a dashed line.
        surrogate: Name of the surrogate, for the title.
    """
    figure = Figure(figsize=(6.8, 3.2 + 0.12 * len(curves)), layout="constrained")
    axes = figure.subplots()
    for number, (label, curve) in enumerate(curves.items()):
        color, marker = style(number)
        # Aside by a little, so that spreads do not hide each other.
        shots = curve.shots * 1.03 ** (number - (len(curves) - 1) / 2)
        spread = np.nan_to_num(curve.sd)
        axes.errorbar(shots, curve.mean, spread, color=color, marker=marker, markersize=4.5, linewidth=1.2,
                      elinewidth=0.9, label=label.replace("$", r"\$"))  # fmt: skip
    axes.axhline(chance, color=GRAY, linestyle="--", linewidth=1, label="guessing the largest class")
    name = next(iter(curves.values())).name
    axes.set_xscale("log")
    ticks = next(iter(curves.values())).shots
    axes.set_xticks(ticks, [str(count) for count in ticks], fontsize=8)
    axes.minorticks_off()
    tidy(axes, xlabel="training samples a class", ylabel=f"{name} probe's error", title=surrogate)
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure
