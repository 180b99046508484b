"""Figures. Colours are Okabe and Ito's, told apart by colour-blind readers; shapes tell apart what colours do."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.report import DiscrepancyReport

__all__ = ["across_targets", "save", "trials", "winning_map"]

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
ROWS_OF_MAP = 40
MARKERS = ("o", "s", "^", "D")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG at 150 dots per inch, whole or not at all."""
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    figure.savefig(temporary, dpi=150, facecolor="white")
    temporary.replace(path)


def _tidy(axes: Axes, **labels: str) -> None:
    axes.set(**labels)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def trials(report: DiscrepancyReport) -> Figure:
    """Histogram of D over the random maps, and the smallest D against the number of maps."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    found = report.result.estimates["montecarlo"].found
    _histogram(left, report)
    steps, lowest = zip(*found.running_minimum, strict=True)
    right.plot(steps, lowest, color=BLUE, marker="o", markersize=3.5, label="smallest so far")
    right.axhline(report.result.chance, color=GREY, linestyle="--", label="chance")
    right.set_xscale("log")
    right.legend(frameon=False)
    _tidy(right, xlabel="random maps", ylabel="smallest discrepancy", title="Running minimum")
    names = f"{report.source or 'own logits'} → {report.target}"
    size = f"N = {report.result.n_samples:,}, K = {report.result.n_target_classes} of C = "
    figure.suptitle(f"{names}   ({size}{report.result.n_source_classes:,})", fontsize=11)
    return figure


def _histogram(axes: Axes, report: DiscrepancyReport) -> None:
    estimate = report.result.estimates["montecarlo"]
    edges, counts = (np.array(estimate.found.histogram[key]) for key in ("edges", "counts"))
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.6)
    axes.set_yscale("log")
    axes.axvline(
        report.result.chance, color=GREY, linestyle="--", ymax=0.72, label=f"chance {report.result.chance:.3f}"
    )
    axes.axvline(estimate.found.value, color=ORANGE, ymax=0.72, label=f"minimum {estimate.found.value:.3f}")
    if estimate.null:
        low, high = estimate.null.mean - 2 * estimate.null.sd, estimate.null.mean + 2 * estimate.null.sd
        axes.axvspan(
            low, high, 0, 0.72, color=GREEN, alpha=0.25, label=f"minimum, labels permuted {estimate.null.mean:.3f}"
        )
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    # Room for the legend above everything that it names.
    axes.set_ylim(0.7, counts.max() ** 1.4 * 3)
    title = f"{estimate.found.trials:,} random maps"
    _tidy(axes, xlabel="discrepancy (share of samples got wrong)", ylabel="maps", title=title)


def winning_map(report: DiscrepancyReport) -> Figure:
    """The best map found: which source class stands for each target class."""
    rows = report.map_rows("montecarlo")
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
    value = report.result.estimates["montecarlo"].found.value
    axes.set_title(f"Best random map, discrepancy {value:.3f}{rest}", fontsize=10)
    return figure


def across_targets(reports: Sequence[Sequence[DiscrepancyReport]], labels: Sequence[str]) -> Figure:
    """Held-out discrepancy of several sources on several targets, with intervals, nulls and chance.

    Args:
        reports: One sequence of targets for each source, the same targets in the same order.
        labels: Name of each source in the legend.
    """
    figure = Figure(figsize=(1.9 * len(reports[0]) + 1.6, 4.3), layout="constrained")
    axes = figure.subplots()
    for s, (series, label) in enumerate(zip(reports, labels, strict=True)):
        shift = 0.26 * (s - (len(reports) - 1) / 2)
        _points(axes, series, shift, (BLUE, ORANGE, GREEN, GREY)[s % 4], MARKERS[s % 4], label)
    for t, report in enumerate(reports[0]):
        chance = report.result.chance
        axes.hlines(chance, t - 0.42, t + 0.42, color=GREY, linestyle="--", label="chance" if t == 0 else "")
    ticks = [f"{r.target}\nK = {r.result.n_target_classes}" for r in reports[0]]
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_ylim(0, 1.3)
    axes.set_yticks(np.arange(0, 1.01, 0.2))
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    _tidy(axes, ylabel="discrepancy (lower is nearer)", title="Monte-Carlo discrepancy by target")
    return figure


def _points(axes: Axes, series, shift: float, colour: str, marker: str, label: str) -> None:
    for t, report in enumerate(series):
        estimate, place, first = report.result.estimates["montecarlo"], t + shift, t == 0
        axes.plot(place + 0.06, estimate.found.value, marker, color=colour, fillstyle="none",
                  label=f"{label}: smallest of all trials" if first else None)  # fmt: skip
        if estimate.held_out is not None:
            low, high = estimate.held_out_interval or (estimate.held_out, estimate.held_out)
            reach = [[estimate.held_out - low], [high - estimate.held_out]]
            axes.errorbar(place - 0.06, estimate.held_out, reach, fmt=marker, color=colour, capsize=3,
                          label=f"{label}: held out, 95 %" if first else None)  # fmt: skip
        if estimate.null:
            low, high = (estimate.null.mean + sign * 2 * estimate.null.sd for sign in (-1, 1))
            axes.fill_between([place - 0.11, place + 0.11], low, high, color=colour, alpha=0.2, linewidth=0,
                              label=f"{label}: labels permuted, ± 2 sd" if first else None)  # fmt: skip
