"""Figures of discrepancies."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.discrepancy.montecarlo import MonteCarlo
from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.result import Estimate
from modgap.figure_style import BLUE, GRAY, GREEN, ORANGE, series_style, style_axes

__all__ = ["plot_across_targets", "plot_best_map", "plot_confusion", "plot_trials"]

ROWS_OF_MAP = 40
LONGEST_NAME = 24


def _names(report: DiscrepancyReport) -> str:
    result = report.result
    size = f"N = {result.n_samples:,}, K = {result.n_target_classes} of C = {result.n_source_classes:,}"
    return f"{report.source or 'own logits'} → {report.target}   ({size})"


def plot_trials(report: DiscrepancyReport) -> Figure:
    """Histogram of D over the random maps, and the smallest D against the number of maps.

    Raises:
        KeyError: When the report has no Monte-Carlo estimate.
    """
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    found = report.result.estimates["montecarlo"].solution
    assert isinstance(found, MonteCarlo)
    _histogram(left, report, found)
    steps, lowest = zip(*found.running_minimum, strict=True)
    right.plot(steps, lowest, color=BLUE, marker="o", markersize=3.5, label="smallest so far")
    for (name, estimate), line in zip(_others(report), (":", "-"), strict=False):
        right.axhline(
            estimate.solution.value, color=ORANGE, linestyle=line, label=f"{name} {estimate.solution.value:.3f}"
        )
    right.axhline(report.result.chance, color=GRAY, linestyle="--", label="chance")
    right.set_xscale("log")
    right.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    style_axes(right, xlabel="random maps", ylabel="smallest discrepancy", title="Running minimum")
    figure.suptitle(_names(report), fontsize=11)
    return figure


def _others(report: DiscrepancyReport) -> list[tuple[str, Estimate]]:
    return [(name, estimate) for name, estimate in report.result.estimates.items() if name != "montecarlo"]


def _histogram(axes: Axes, report: DiscrepancyReport, found: MonteCarlo) -> None:
    chance = report.result.chance
    null = report.result.estimates["montecarlo"].null
    edges, counts = (np.array(found.histogram[key]) for key in ("edges", "counts"))
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.6)
    axes.set_yscale("log")
    axes.axvline(chance, color=GRAY, linestyle="--", ymax=0.72, label=f"chance {chance:.3f}")
    axes.axvline(found.value, color=ORANGE, ymax=0.72, label=f"minimum {found.value:.3f}")
    if null:
        low = null.mean - 2 * null.sd
        high = null.mean + 2 * null.sd
        label = f"minimum, labels permuted {null.mean:.3f}"
        axes.axvspan(low, high, 0, 0.72, color=GREEN, alpha=0.25, label=label)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    # Room for the legend above everything that it names.
    axes.set_ylim(0.7, counts.max() ** 1.4 * 3)
    label = "discrepancy (share of samples got wrong)"
    style_axes(axes, xlabel=label, ylabel="maps", title=f"{found.trials:,} random maps")


def plot_best_map(report: DiscrepancyReport) -> Figure:
    """The best map found: which source class stands for each target class."""
    rows = report.best_map()
    shown = [(a[:30], b.split(",")[0][:34]) for a, b in rows[:ROWS_OF_MAP]]
    figure = Figure(figsize=(6.4, 0.62 + 0.213 * len(shown)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    titles = [f"{report.target}", f"{report.source or 'source'}"]
    table = axes.table(shown, colLabels=titles, cellLoc="left", loc="upper center", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    for (row, _), cell in table.get_celld().items():
        cell.set_linewidth(0.4)
        cell.get_text().set_fontweight("bold" if row == 0 else "normal")
    rest = f", first {ROWS_OF_MAP} of {len(rows)} classes" if len(rows) > ROWS_OF_MAP else ""
    best = report.result.best_estimator or ""
    axes.set_title(
        f"Best map ({best}), discrepancy {report.result.estimates[best].solution.value:.3f}{rest}", fontsize=10
    )
    return figure


def plot_confusion(report: DiscrepancyReport) -> Figure:
    """Share of each target class's samples by prediction, under the best map found."""
    table = report.result.confusion
    assert table is not None
    shares = table / table.sum(axis=1, keepdims=True)
    rows = report.best_map()
    few = len(rows) <= ROWS_OF_MAP
    size = max(4.2, 0.36 * len(rows) + 2.4) if few else 8.0
    figure = Figure(figsize=(size + 0.6, size + 0.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    if few:
        axes.set_xticks(
            range(len(rows)), [f"{_short(a)}\n({_short(b.split(',')[0])})" for a, b in rows], rotation=90, fontsize=7
        )
        axes.set_yticks(range(len(rows)), [_short(a) for a, _ in rows], fontsize=8)
    axes.set(xlabel="predicted (source class that stands for it)", ylabel="target class")
    figure.colorbar(image, ax=axes, label="share of the class's samples", shrink=0.8)
    # A title of the axes that is wider than they are would push them aside.
    figure.suptitle(_names(report).replace("   (", "\n("), fontsize=9)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def plot_across_targets(
    reports: Sequence[Sequence[DiscrepancyReport]], labels: Sequence[str], estimators: Sequence[str] = ("search",)
) -> Figure:
    """Discrepancy of several targets with intervals, nulls and chance: the paper's Fig. 4.

    One panel an estimator. Series may be sources, or one source before and after its embedder was
    trained.

    Args:
        reports: One sequence of targets for each source, the same targets in the same order.
        labels: Name of each source in the legend.
    """
    width = 1.7 * len(reports[0]) * len(estimators) + 1.6
    figure = Figure(figsize=(width, 4.9), layout="constrained")
    panels = figure.subplots(1, len(estimators), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, estimators, strict=True):
        for s, (series, label) in enumerate(zip(reports, labels, strict=True)):
            shift = 0.26 * (s - (len(reports) - 1) / 2)
            _points(axes, name, series, shift, *series_style(s), label)
        for t, report in enumerate(reports[0]):
            chance = report.result.chance
            axes.hlines(chance, t - 0.42, t + 0.42, color=GRAY, linestyle="--", label="chance" if t == 0 else "")
        ticks = [f"{r.target}\nK = {r.result.n_target_classes}" for r in reports[0]]
        axes.set_xticks(range(len(ticks)), ticks, fontsize=9)
        axes.set_ylim(0, 1.02)
        style_axes(axes, title=name)
    panels[0].set_ylabel("discrepancy (lower is nearer)")
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, frameon=False, fontsize=8, ncols=3, loc="outside upper center")
    return figure


def _points(axes: Axes, name: str, series, shift: float, color: str, marker: str, label: str) -> None:
    for t, report in enumerate(series):
        estimate = report.result.estimates[name]
        place = t + shift
        first = t == 0
        axes.plot(place + 0.06, estimate.solution.value, marker, color=color, fillstyle="none",
                  label=f"{label}: smallest value found" if first else None)  # fmt: skip
        if estimate.held_out is not None:
            low, high = estimate.held_out_interval or (estimate.held_out, estimate.held_out)
            reach = [[estimate.held_out - low], [high - estimate.held_out]]
            axes.errorbar(place - 0.06, estimate.held_out, reach, fmt=marker, color=color, capsize=3,
                          label=f"{label}: held out, 95 %" if first else None)  # fmt: skip
        if estimate.null:
            low, high = (estimate.null.mean + sign * 2 * estimate.null.sd for sign in (-1, 1))
            axes.fill_between([place - 0.11, place + 0.11], low, high, color=color, alpha=0.2, linewidth=0,
                              label=f"{label}: labels permuted, ± 2 sd" if first else None)  # fmt: skip
