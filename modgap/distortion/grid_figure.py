"""The paper's Fig. 3: how much of the source's knowledge is left, by target, epochs and method."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from modgap.display.figure_layout import (
    MARGIN,
    WIDTH,
    Ink,
    draw_title,
    drawable_names,
    figure_below_title,
    fit_names,
    name_in_title,
    style_lines_axes,
    styled,
)
from modgap.display.label_spacing import label_lines
from modgap.distortion.display_names import display_name
from modgap.distortion.dumbbell_figure import dumbbell_figure
from modgap.distortion.grid import GridCell, grid_cells
from modgap.distortion.measurement import EncoderResult, SurrogateResult
from modgap.errors import UsageError

__all__ = ["probe_caption", "probe_figure"]

COLUMNS = 4
LEFT = 0.55
RIGHT = 1.0
GAP = 0.16
PANEL_HEIGHT = 1.75
WIDEST_PANEL = 2.6
HEADER = 0.36
FOOTER = 0.34
SCRATCH = "scratch"
"""Method that does not start from the source, so that it has no knowledge to lose; the caption gives its values."""
COUNTED = "whose difference to the source has a 95 % interval above 0, without correction for their number"
COLORED = ((Ink.TITLE, "s"), (Ink.SOURCE, "^"))
"""Color and marker of the methods beside the one of the title."""


@dataclass(frozen=True)
class _Style:
    """Color, marker, line width and drawing order of a method."""

    color: str
    text_color: str
    marker: str
    width: float
    order: int


GRAY_STYLE = _Style(Ink.AXIS, Ink.SECONDARY, "", 1.0, 2)
TITLE_STYLE = _Style(Ink.ERROR, Ink.ERROR_TEXT, "o", 2.4, 6)


@styled
def probe_figure(result: SurrogateResult) -> Figure:
    """Draw the error of the first probe before and after fine-tuning, with one panel for each target.

    Lines are means over seeds with 95 % intervals. The dashed line is the source before fine-tuning. If each method has
    one epoch on each target, it has a row instead of a line.

    Args:
        result: Results of the encoders on one surrogate.

    Raises:
        UsageError: When no encoder was trained by a run.
    """
    cells = _drawn_cells(result)
    if not cells:
        raise UsageError("There is no run to draw. Pass at least one with --run.")
    targets = _sort_targets(cells)
    worst = _method_with_largest_loss(result, cells)
    epochs = sorted({cell.epoch for cell in cells})
    title = _title(result, worst, targets)
    subtitle = _subtitle(result, epochs)
    if _has_one_epoch(cells):
        rows = sorted(cells, key=lambda cell: (targets.index(cell.target), -cell.mean))
        worse = [_raises_error(result, cell) for cell in rows]
        return dumbbell_figure(title, subtitle, rows, result.encoders[0].first_probe.value, worst, worse)
    columns = min(COLUMNS, len(targets))
    n_rows = -(-len(targets) // columns)
    figure, top = figure_below_title(title, subtitle, n_rows * (HEADER + PANEL_HEIGHT + FOOTER) + 0.12)
    height = figure.get_figheight()
    width = min(WIDEST_PANEL, (WIDTH - LEFT - RIGHT - GAP * (columns - 1)) / columns)
    boxes = [
        (
            LEFT + (number % columns) * (width + GAP),
            height - top - (number // columns + 1) * (HEADER + PANEL_HEIGHT) - (number // columns) * FOOTER,
        )
        for number in range(len(targets))
    ]
    panels = [
        figure.add_axes((x / WIDTH, y / height, width / WIDTH, PANEL_HEIGHT / height), label=str(number))
        for number, (x, y) in enumerate(boxes)
    ]
    _draw_panels(panels, result, cells, worst, columns, width)
    figure.text(MARGIN / WIDTH, 1 - (top + HEADER - 0.06) / height, "error", size=8, color=Ink.SECONDARY, va="bottom")
    center = (LEFT + (columns * (width + GAP) - GAP) / 2) / WIDTH
    figure.text(center, 0.08 / height, "epochs of fine-tuning", size=8.5, ha="center", va="bottom")
    draw_title(figure, title, subtitle)
    return figure


def _draw_panels(
    panels: Sequence[Axes],
    result: SurrogateResult,
    cells: Sequence[GridCell],
    worst: str | None,
    columns: int,
    width: float,
) -> None:
    targets = _sort_targets(cells)
    epochs = sorted({cell.epoch for cell in cells})
    styles = _styles(cells, worst)
    limits = _limits(result, cells)
    names = fit_names(drawable_names(targets, "target"), width, 9.5, bold=True)
    for number, (axes, target, name) in enumerate(zip(panels, targets, names, strict=True)):
        _style_panel(axes, epochs, limits, is_first=number % columns == 0)
        axes.set_title(name, loc="left", fontsize=9.5, fontweight="bold", color=Ink.TITLE, pad=5)
        shown = [cell for cell in cells if cell.target == target]
        _draw_panel(axes, result, shown, styles, epochs)
        if number == columns - 1:
            _label_methods(axes, cells, target, styles, len(epochs))
    before = result.encoders[0].first_probe.value
    low, high = limits
    below = before - 0.06 * (high - low)
    panels[0].text(-0.2, below, f"before: {before:.3f}", va="center", size=8, color=Ink.SECONDARY)


def _drawn_cells(result: SurrogateResult) -> list[GridCell]:
    """Return the cells without those of training from scratch, unless there are no others."""
    cells = grid_cells(result.encoders)
    return [cell for cell in cells if cell.method.split()[0] != SCRATCH] or cells


def _has_one_epoch(cells: Sequence[GridCell]) -> bool:
    """Return True if no method has several epochs on a target, so that there is no line to draw."""
    return len({(cell.target, cell.method) for cell in cells}) == len(cells)


def _raises_error(result: SurrogateResult, cell: GridCell) -> bool:
    """Return True if the error after fine-tuning is significantly higher than before.

    With one seed the test is paired by sample. With several, the 95 % interval over seeds has to lie above the error
    before fine-tuning.
    """
    if cell.seeds > 1:
        return cell.interval[0] > result.encoders[0].first_probe.value
    runs = [one for one in result.encoders if one.encoder.run is not None and one.encoder.target == cell.target]
    return any(_is_worse(one) for one in runs if one.encoder.method == cell.method)


def _last_means(cells: Sequence[GridCell]) -> dict[tuple[str, str], float]:
    """Return the mean error after the last epoch by target and method."""
    last: dict[tuple[str, str], float] = {}
    for cell in sorted(cells, key=lambda cell: cell.epoch):
        last[cell.target, cell.method] = cell.mean
    return last


def _sort_targets(cells: Sequence[GridCell]) -> list[str]:
    last = _last_means(cells)
    targets = dict.fromkeys(cell.target for cell in cells)
    return sorted(targets, key=lambda target: -max(mean for (other, _), mean in last.items() if other == target))


def _sort_methods(cells: Sequence[GridCell]) -> list[str]:
    """Return the methods, largest mean error after the last epoch first."""
    last = _last_means(cells)
    methods = dict.fromkeys(cell.method for cell in cells)
    return sorted(methods, key=lambda method: -float(np.mean([m for (_, other), m in last.items() if other == method])))


def _method_with_largest_loss(result: SurrogateResult, cells: Sequence[GridCell]) -> str | None:
    """Return the method that loses significantly more than each other method on every target. None if there is none."""
    methods = _sort_methods(cells)
    targets = {cell.target for cell in cells}
    if len(methods) < 2 or not _is_testable(result, methods, targets):
        return None
    worst = methods[0]
    differs = all(
        _differs(_last_errors(result, target, worst), _last_errors(result, target, other))
        for target in targets
        for other in methods[1:]
    )
    return worst if differs else None


def _is_testable(result: SurrogateResult, methods: Sequence[str], targets: set[str]) -> bool:
    """Return True if on every target each method has two or more seeds in common with the first."""
    return all(
        len(_last_errors(result, target, methods[0]).keys() & _last_errors(result, target, other).keys()) > 1
        for target in targets
        for other in methods[1:]
    )


def _last_errors(result: SurrogateResult, target: str, method: str) -> dict[int | None, float]:
    """Return the error after the last epoch by seed."""
    runs = [
        encoder
        for encoder in result.encoders
        if encoder.encoder.run is not None and encoder.encoder.target == target and encoder.encoder.method == method
    ]
    runs.sort(key=lambda run: run.encoder.trained_epochs or 0)
    return {run.encoder.seed: run.first_probe.value for run in runs}


def _differs(errors: dict[int | None, float], others: dict[int | None, float]) -> bool:
    """Return True if the 95 % interval of the mean difference, paired by seed, lies above 0."""
    differences = np.array([errors[seed] - others[seed] for seed in errors.keys() & others.keys()])
    reach = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return bool(differences.mean() - reach > 0)


def _title(result: SurrogateResult, worst: str | None, targets: Sequence[str]) -> str:
    if worst:
        where = name_in_title(targets[0], "target") if len(targets) == 1 else f"all {len(targets)} targets"
        return f"{name_in_title(worst, 'method')} loses the most source knowledge on {where}"
    tuned = [one for one in result.encoders if one.encoder.run is not None and one.difference is not None]
    n_worse = sum(_is_worse(encoder) for encoder in tuned)
    if not n_worse:
        return "Fine-tuning does not significantly raise the probe error"
    return f"Fine-tuning raises the probe error of {n_worse} of {len(tuned)} encoders"


def _is_worse(encoder: EncoderResult) -> bool:
    interval = encoder.difference.interval if encoder.difference else None
    return interval is not None and interval[0] > 0


def _subtitle(result: SurrogateResult, epochs: Sequence[int]) -> str:
    probe = display_name(next(iter(result.encoders[0].probes)))
    numbers = " and ".join([*([", ".join(map(str, epochs[:-1]))] if epochs[1:] else []), str(epochs[-1])])
    after = f"{numbers} {'epoch' if epochs == [1] else 'epochs'}"
    surrogate = name_in_title(result.name, "surrogate")
    return f"Error of a {probe} probe on {surrogate}, before fine-tuning and after {after}."


def _styles(cells: Sequence[GridCell], worst: str | None) -> dict[str, _Style]:
    """Return the style of each method: that of the title, the next largest and the smallest loss, and the others."""
    others = [method for method in _sort_methods(cells) if method != worst]
    styles = dict.fromkeys(others, GRAY_STYLE)
    for method, (color, marker) in zip(dict.fromkeys([*others[:1], *others[-1:]]), COLORED, strict=False):
        styles[method] = _Style(color, color, marker, 1.5, 4)
    return {**styles, worst: TITLE_STYLE} if worst else styles


def _limits(result: SurrogateResult, cells: Sequence[GridCell]) -> tuple[float, float]:
    ends = [end for cell in cells for end in (cell.mean, *cell.interval) if np.isfinite(end)]
    ends.append(result.encoders[0].first_probe.value)
    span = (max(ends) - min(ends)) or 0.1
    return min(ends) - 0.2 * span, max(ends) + 0.16 * span


def _style_panel(axes: Axes, epochs: Sequence[int], limits: tuple[float, float], is_first: bool) -> None:
    style_lines_axes(axes)
    axes.set_xticks(range(len(epochs) + 1), ["0", *map(str, epochs)], fontsize=8)
    axes.set(xlim=(-0.3, len(epochs) + 0.4), ylim=limits)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="y", labelsize=8, labelleft=is_first)


def _draw_panel(
    axes: Axes, result: SurrogateResult, cells: Sequence[GridCell], styles: dict[str, _Style], epochs: Sequence[int]
) -> None:
    before = result.encoders[0].first_probe.value
    axes.axhline(before, color=Ink.BASELINE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
    for method, style in styles.items():
        line = sorted((cell for cell in cells if cell.method == method), key=lambda cell: cell.epoch)
        if not line:
            continue
        positions = [0, *(epochs.index(cell.epoch) + 1 for cell in line)]
        means = [before, *(cell.mean for cell in line)]
        axes.plot(
            positions, means, color=style.color, marker=style.marker, markersize=5, linewidth=style.width,
            markeredgecolor="white", markeredgewidth=0.5, zorder=style.order,
        )  # fmt: skip
        if style.marker:
            for x, cell in zip(positions[1:], line, strict=True):
                axes.plot([x, x], cell.interval, color=style.color, linewidth=1.4, zorder=style.order - 1)
        if style is TITLE_STYLE:
            top = np.nanmax([line[-1].mean, line[-1].interval[1]])
            axes.annotate(
                f"{line[-1].mean:.2f}", (positions[-1], top), (5, 4), textcoords="offset points", ha="right",
                size=9, weight="bold", color=style.text_color,
            )  # fmt: skip


def _label_methods(axes: Axes, cells: Sequence[GridCell], target: str, styles: dict[str, _Style], last: int) -> None:
    """Write the names of the colored methods where their lines end, on this target or else on another one."""
    means = _last_means(cells)
    ends = {method: mean for (_, method), mean in means.items()}
    ends |= {method: mean for (name, method), mean in means.items() if name == target}
    labeled = [method for method, style in styles.items() if style.marker and method in ends]
    names = fit_names(drawable_names(labeled, "method"), RIGHT - 0.16, 8.5, bold=True)
    labels = [(ends[method], name, styles[method].text_color) for method, name in zip(labeled, names, strict=True)]
    gray = [ends[method] for method, style in styles.items() if not style.marker and method in ends]
    if gray:
        text = "1 other" if len(gray) == 1 else f"{len(gray)} others"
        labels.append((float(np.mean(gray)), text, Ink.SECONDARY))
    label_lines(axes, last + 0.5, labels, PANEL_HEIGHT)


def probe_caption(result: SurrogateResult) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    cells = grid_cells(result.encoders)
    drawn = _drawn_cells(result)
    worst = _method_with_largest_loss(result, drawn)
    probe = display_name(next(iter(result.encoders[0].probes)))
    seeds = sorted({cell.seeds for cell in drawn})
    over = "samples" if seeds == [1] else "seeds (over samples where there is one seed)" if 1 in seeds else "seeds"
    sentences = [
        f"Error of a {probe} probe on {result.name} ({result.training_samples:,} training and {result.test_samples:,} "
        f"test samples) before fine-tuning (dashed, {result.encoders[0].first_probe.value:.3f}) and after it.",
        f"Lines are means over seeds; bars are 95 % intervals over {over}.",
        "Targets are sorted by the largest error after the last epoch.",
    ]
    if _has_one_epoch(drawn):
        sentences[1] = (
            f"Circles are means over seeds; lines are 95 % intervals over {over}. A filled circle is significantly "
            "worse than the source (paired by sample with one seed, and otherwise an interval above the dashed line)."
        )
    if worst:
        sentences.append(
            f"On every target the difference between {worst} and each other method after the last epoch, paired by "
            "seed, has a 95 % interval above 0 (not corrected for the number of comparisons)."
        )
    else:
        sentences.append(f"The title counts encoders {COUNTED}.")
    gray = [] if _has_one_epoch(drawn) else [m for m, style in _styles(drawn, worst).items() if not style.marker]
    if gray:
        sentences.append(f"Thin gray lines are {', '.join(gray)}.")
    outside = [cell.mean for cell in cells if cell not in drawn]
    if outside:
        sentences.append(f"Training from scratch is outside the figure: {min(outside):.3f} to {max(outside):.3f}.")
    values = [f"{method} on {target} {mean:.3f}" for (target, method), mean in _last_means(cells).items()]
    return " ".join([*sentences, f"Errors after the last epoch: {', '.join(values)}."])
