"""The paper's Fig. 3: how much of the source's knowledge is left, by target, epochs and method."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.distortion.display_names import display_name
from modgap.distortion.measurement import SurrogateResult
from modgap.distortion.report import GridCell, grid_cells
from modgap.errors import UsageError
from modgap.figure_style import series_style, style_axes

__all__ = ["probe_grid"]

PANEL_WIDTH = 2.3
PANEL_HEIGHT = 2.3
LEGEND_COLUMNS = 4
SPREAD = 0.6
"""Width over which the methods of one epoch are spread, as a share of the distance between epochs."""


def probe_grid(results: Sequence[SurrogateResult]) -> Figure:
    """Draw the error rate of the first probe against epochs, a column for each target and a row for each surrogate.

    Each method is a line. The dashed line is the untouched encoder with its 95 % interval. The intervals of methods
    are 95 % intervals over seeds, or over samples if there is one seed.

    Args:
        results: Results of the same encoders on one or more surrogates.

    Raises:
        UsageError: When no encoder was trained by a run.
    """
    cells = [grid_cells(result.encoders) for result in results]
    targets = list(dict.fromkeys(cell.target for row in cells for cell in row))
    methods = list(dict.fromkeys(cell.method for row in cells for cell in row))
    epochs = sorted({cell.epoch for row in cells for cell in row})
    if not targets:
        raise UsageError("There is no run to draw. Pass at least one with --run.")
    size = (0.9 + PANEL_WIDTH * max(len(targets), 1.6), PANEL_HEIGHT * len(results) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(results), len(targets), squeeze=False, sharex=True, sharey="row")
    for row, (result, row_cells) in enumerate(zip(results, cells, strict=True)):
        for column, target in enumerate(targets):
            axes = panels[row, column]
            _draw_untouched(axes, result)
            _draw_methods(axes, [cell for cell in row_cells if cell.target == target], methods, epochs)
            _style_panel(axes, epochs, title=target if row == 0 else "", is_last_row=row == len(results) - 1)
        name = display_name(next(iter(result.encoders[0].probes)))
        panels[row, 0].set_ylabel(f"error of the {name} probe\non {result.name}", fontsize=9)
    handles: dict[str, Artist] = {}
    for axes in panels.ravel():
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        list(handles.values()),
        list(handles),
        frameon=False,
        fontsize=8,
        ncols=LEGEND_COLUMNS,
        loc="outside upper center",
    )
    return figure


def _draw_untouched(axes: Axes, result: SurrogateResult) -> None:
    probe = result.encoders[0].first_probe
    axes.axhline(probe.value, color="0.3", linestyle="--", linewidth=1, label="untouched encoder")
    if np.isfinite(probe.interval).all():
        axes.axhspan(*probe.interval, color="0.3", alpha=0.1, linewidth=0)


def _draw_methods(axes: Axes, cells: Sequence[GridCell], methods: Sequence[str], epochs: Sequence[int]) -> None:
    for number, method in enumerate(methods):
        # The methods of an epoch are side by side, so that their intervals do not hide each other.
        shift = SPREAD * ((number + 0.5) / len(methods) - 0.5)
        _draw_line(axes, [cell for cell in cells if cell.method == method], epochs, shift, number)


def _draw_line(axes: Axes, cells: Sequence[GridCell], epochs: Sequence[int], shift: float, number: int) -> None:
    if not cells:
        return
    color, marker = series_style(number)
    cells = sorted(cells, key=lambda cell: cell.epoch)
    means = np.array([cell.mean for cell in cells])
    limits = np.array([cell.interval for cell in cells])
    axes.errorbar(
        [epochs.index(cell.epoch) + shift for cell in cells],
        means,
        np.nan_to_num(np.abs(limits - means[:, None]).T),
        color=color,
        marker=marker,
        markersize=4,
        linewidth=1,
        capsize=2,
        elinewidth=0.7,
        label=cells[0].method,
    )


def _style_panel(axes: Axes, epochs: Sequence[int], title: str, is_last_row: bool) -> None:
    style_axes(axes)
    axes.set_xticks(range(len(epochs)), map(str, epochs))
    axes.set_xlim(-0.5, len(epochs) - 0.5)
    axes.tick_params(labelsize=8)
    axes.set_title(title, fontsize=10)
    if is_last_row:
        axes.set_xlabel("epochs of stage 2", fontsize=9)
