"""Figures of discrepancies."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.discrepancy.report import DiscrepancyReport
from modgap.figure_style import GRAY, series_style, style_axes

__all__ = ["plot_across_targets"]


def plot_across_targets(
    reports: Sequence[Sequence[DiscrepancyReport]], labels: Sequence[str], estimators: Sequence[str] = ("search",)
) -> Figure:
    """Plot the discrepancy of several targets with intervals, null distributions and chance levels (paper's Fig. 4).

    Each estimator has one panel. The series can be different sources, or one source before and after its embedder was
    trained.

    Args:
        reports: For each series, one report for each target; all series have the same targets in the same order.
        labels: Name of each series in the legend.
        estimators: Name of the estimator of each panel.
    """
    width = 1.7 * len(reports[0]) * len(estimators) + 1.6
    figure = Figure(figsize=(width, 4.9), layout="constrained")
    panels = figure.subplots(1, len(estimators), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, estimators, strict=True):
        for s, (series, label) in enumerate(zip(reports, labels, strict=True)):
            shift = 0.26 * (s - (len(reports) - 1) / 2)
            _plot_series(axes, name, series, shift, *series_style(s), label)
        for t, report in enumerate(reports[0]):
            label_once = "chance level" if t == 0 else ""
            axes.hlines(report.result.chance, t - 0.42, t + 0.42, color=GRAY, linestyle="--", label=label_once)
        ticks = [f"{r.target}\nK = {r.result.n_target_classes}" for r in reports[0]]
        axes.set_xticks(range(len(ticks)), ticks, fontsize=9)
        axes.set_ylim(0, 1.02)
        style_axes(axes, title=name)
    panels[0].set_ylabel("error (lower is nearer)")
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, frameon=False, fontsize=8, ncols=3, loc="outside upper center")
    return figure


def _plot_series(
    axes: Axes, name: str, series: Sequence[DiscrepancyReport], shift: float, color: str, marker: str, label: str
) -> None:
    """Plot one estimator's estimates of a series: value, held-out value with interval, and null distribution."""
    for t, report in enumerate(series):
        estimate = report.result.estimates[name]
        position = t + shift
        labels = [f"{label}: {kind}" for kind in ("smallest error", "held-out error, 95 %", "permuted labels, ± 2 sd")]
        value_label, held_out_label, null_label = labels if t == 0 else (None, None, None)
        value = estimate.solution.value
        axes.plot(position + 0.06, value, marker, color=color, fillstyle="none", label=value_label)
        if estimate.held_out is not None:
            low, high = estimate.held_out_interval or (estimate.held_out, estimate.held_out)
            reach = [[estimate.held_out - low], [high - estimate.held_out]]
            axes.errorbar(
                position - 0.06, estimate.held_out, reach, fmt=marker, color=color, capsize=3, label=held_out_label
            )
        if estimate.null:
            ends = [position - 0.11, position + 0.11]
            low = estimate.null.mean - 2 * estimate.null.sd
            high = estimate.null.mean + 2 * estimate.null.sd
            axes.fill_between(ends, low, high, color=color, alpha=0.2, linewidth=0, label=null_label)
