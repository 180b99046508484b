"""Figure of few-shot curves: error rate by the number of training samples of each class."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from modgap.distortion.display_names import display_name
from modgap.distortion.few_shot import FewShotCurve
from modgap.figure_style import GRAY, series_style, style_axes

__all__ = ["few_shot_figure"]


def few_shot_figure(curves: Mapping[str, FewShotCurve], baseline_error: float, surrogate: str) -> Figure:
    """Draw one line for each encoder, the mean error over draws with its standard deviation, on a log axis.

    Args:
        curves: Curve of each encoder, by its label.
        baseline_error: Error rate of always predicting the majority class, drawn as a dashed line.
        surrogate: Name of the surrogate, for the title.
    """
    figure = Figure(figsize=(6.8, 3.2 + 0.12 * len(curves)), layout="constrained")
    axes = figure.subplots()
    for number, (label, curve) in enumerate(curves.items()):
        color, marker = series_style(number)
        # Lines are shifted a little, so that their error bars do not hide each other.
        shots = curve.shots * 1.03 ** (number - (len(curves) - 1) / 2)
        axes.errorbar(
            shots,
            curve.mean,
            np.nan_to_num(curve.sd),
            color=color,
            marker=marker,
            markersize=4.5,
            linewidth=1.2,
            elinewidth=0.9,
            label=label.replace("$", r"\$"),
        )
    axes.axhline(baseline_error, color=GRAY, linestyle="--", linewidth=1, label="majority-class baseline")
    first = next(iter(curves.values()))
    axes.set_xscale("log")
    axes.set_xticks(first.shots, [str(count) for count in first.shots], fontsize=8)
    axes.minorticks_off()
    style_axes(
        axes,
        xlabel="training samples per class",
        ylabel=f"error of the {display_name(first.name)} probe",
        title=f"Few-shot probe error on {surrogate}",
    )
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure
