"""The paper's Fig. 3: how much of the source's knowledge is left, by target, epochs and method."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.distortion.measurement import SurrogateReadings
from modgap.distortion.report import GridCell, grid_cells
from modgap.errors import UsageError
from modgap.figure_style import style, tidy

__all__ = ["probe_grid"]

PANEL, HEIGHT, MOST_ACROSS = 2.3, 2.3, 4
SPREAD = 0.6
"""Of an epoch's place that its methods take."""


def probe_grid(found: Sequence[SurrogateReadings]) -> Figure:
    """One column a target, one row a surrogate; error of the first probe against epochs, a line a method.

    The dashed line is the untouched encoder with its interval. Intervals are of 95 %, over seeds where there are
    several.

    Args:
        found: Readings of the same encoders on one surrogate or several.

    Raises:
        UsageError: When no reading is of a run.
    """
    cells = [grid_cells(one.readings) for one in found]
    targets = list(dict.fromkeys(cell.target for own in cells for cell in own))
    methods = list(dict.fromkeys(cell.method for own in cells for cell in own))
    epochs = sorted({cell.epoch for own in cells for cell in own})
    if not targets:
        raise UsageError("expected at least one run for a figure of what runs did; give --run")
    figure = Figure(figsize=(0.9 + PANEL * max(len(targets), 1.6), HEIGHT * len(found) + 0.9), layout="constrained")
    panels = figure.subplots(len(found), len(targets), squeeze=False, sharex=True, sharey="row")
    for row, (one, own) in enumerate(zip(found, cells, strict=True)):
        for column, target in enumerate(targets):
            axes = panels[row, column]
            _before(axes, one)
            for number, method in enumerate(methods):
                # Methods side by side at each epoch, so that intervals do not hide each other.
                shift = SPREAD * ((number + 0.5) / len(methods) - 0.5)
                _line(
                    axes,
                    [cell for cell in own if (cell.target, cell.method) == (target, method)],
                    epochs,
                    shift,
                    number,
                )
            _finish(axes, epochs, title=target if row == 0 else "", last=row == len(found) - 1)
        name = next(iter(one.readings[0].probes))
        panels[row, 0].set_ylabel(f"{name} probe's error\non {one.name}", fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    for axes in panels.ravel():
        more = [pair for pair in zip(*axes.get_legend_handles_labels(), strict=True) if pair[1] not in labels]
        handles, labels = [*handles, *(h for h, _ in more)], [*labels, *(label for _, label in more)]
    figure.legend(handles, labels, frameon=False, fontsize=8, ncols=MOST_ACROSS, loc="outside upper center")
    return figure


def _before(axes: Axes, found: SurrogateReadings) -> None:
    probe = next(iter(found.readings[0].probes.values()))
    axes.axhline(probe.value, color="0.3", linestyle="--", linewidth=1, label="untouched")
    if np.isfinite(probe.interval).all():
        axes.axhspan(*probe.interval, color="0.3", alpha=0.1, linewidth=0)


def _line(axes: Axes, cells: Sequence[GridCell], epochs: Sequence[int], shift: float, number: int) -> None:
    if not cells:
        return
    color, marker = style(number)
    cells = sorted(cells, key=lambda cell: cell.epoch)
    means = np.array([cell.mean for cell in cells])
    ends = np.array([cell.interval for cell in cells])
    reach = np.nan_to_num(np.abs(ends - means[:, None]).T)
    places = [epochs.index(cell.epoch) + shift for cell in cells]
    axes.errorbar(
        places, means, reach, color=color, marker=marker, markersize=4, linewidth=1,
        capsize=2, elinewidth=0.7, label=cells[0].method,
    )  # fmt: skip


def _finish(axes: Axes, epochs: Sequence[int], title: str, last: bool) -> None:
    tidy(axes)
    axes.set_xticks(range(len(epochs)), map(str, epochs))
    axes.set_xlim(-0.5, len(epochs) - 0.5)
    axes.tick_params(labelsize=8)
    axes.set_title(title, fontsize=10)
    if last:
        axes.set_xlabel("epochs of stage 2", fontsize=9)
