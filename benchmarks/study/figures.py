"""Figures of the study: error, remaining knowledge and discrepancy by method and target (Table 2, Figs. 3 and 4)."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from result_log import ResultLog
from scipy import stats

from modgap.answers.figures.labels import label_ends
from modgap.answers.figures.style import (
    MARGIN,
    SERIES,
    WIDTH,
    Ink,
    draw_title,
    figure_below_title,
    style_axes,
    styled,
)
from modgap.errors import count
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL, holm
from study.jobs import ALPHAS, UNTOUCHED, WEIGHTS, Job, jobs, log_ratio, smoothed_error, sweep_ratios

Results = list[tuple[Job, dict]]
Measure = Callable[[dict], float]

REFERENCE = "finetune"
RATIOS = (0.1, 0.3, 1, 3, 10, 30)
LEFT = 0.95
GAP = 0.16
ROW = 0.17
HEADING = 0.34
FOOTER = 0.3
SENSITIVITY_LEFT = 0.6
SENSITIVITY_RIGHT = 0.9
SENSITIVITY_GAP = 1.0
SENSITIVITY_HEIGHT = 1.9
SENSITIVITY_FOOTER = 0.52
SENSITIVITY_HEAD = 0.3
STEPS_WIDTH = 1.9


def _error(result: dict) -> float:
    """Return the test error with half an error added, because an error of 0 cannot be a reference."""
    error = smoothed_error(result)
    return np.nan if error is None else error


def _last_probe(result: dict) -> float:
    return list(next(iter(result["probe_error"].values())).values())[-1]


def _held_out(result: dict) -> float:
    held_out = (result["discrepancy"] or {}).get("held_out")
    return np.nan if held_out is None else held_out


MEASURES: tuple[tuple[str, Measure, bool], ...] = (
    (f"test error divided by that of {REFERENCE} (log scale)", _error, True),
    ("error of a linear probe on the surrogate after the last epoch; dashed: before fine-tuning", _last_probe, False),
    ("held-out discrepancy before the encoder is trained; dashed: with the source's embedder", _held_out, False),
)
"""Heading and function of each measure, and True for a ratio to the reference."""


@styled
def figure(part: str, log: ResultLog) -> Figure | None:
    """Draw the three measures, with a row for each method and a column for each target.

    Circles are means over seeds, lines are one standard deviation, and dots are single seeds.

    Returns:
        The figure; None if no run of `finetune`, the reference of the test error, is finished.
    """
    results = [(job, result) for job in jobs(part, log) if (result := log.get(job))]
    if not any("result" in result and job.method == REFERENCE for job, result in results):
        return None
    targets = list(dict.fromkeys(job.target for job, _ in results))
    methods = [name for name in dict.fromkeys(job.method for job, _ in results) if name != UNTOUCHED]
    measured = [[name for name in methods if _has_values(results, name, pick)] for _, pick, _ in MEASURES]
    blocks = [HEADING + ROW * len(names) + FOOTER for names in measured]
    title = _title(results, targets, methods)
    subtitle = (
        "Each row is a method. Circles are means over seeds, lines are one standard deviation, dots are single seeds. "
        "Lower is better."
    )
    drawn, top = figure_below_title(title, subtitle, sum(blocks) + 0.1)
    draw_title(drawn, title, subtitle)
    height = drawn.get_figheight()
    y = height - top
    for number, (heading, pick, is_ratio) in enumerate(MEASURES):
        drawn.text(MARGIN / WIDTH, y / height, heading, size=9.5, weight="bold", color=Ink.TITLE, va="top")
        _draw_block(drawn, results, targets, measured[number], pick, y - HEADING, is_ratio, number == 0)
        y -= blocks[number]
    return drawn


def _has_values(results: Results, method: str, pick: Measure) -> bool:
    return any(np.isfinite(pick(result)) for job, result in results if job.method == method)


def _draw_block(
    drawn: Figure,
    results: Results,
    targets: Sequence[str],
    methods: Sequence[str],
    pick: Measure,
    top: float,
    is_ratio: bool,
    has_titles: bool,
) -> None:
    """Draw one measure: a pair of axes for each target, with the names of the methods left of the first one."""
    width = (WIDTH - LEFT - MARGIN - GAP * (len(targets) - 1)) / len(targets)
    height = ROW * len(methods)
    total = drawn.get_figheight()
    panels = []
    for number, target in enumerate(targets):
        x = LEFT + number * (width + GAP)
        axes = drawn.add_axes((x / WIDTH, (top - height) / total, width / WIDTH, height / total))
        axes.set(ylim=(len(methods), 0), yticks=[])
        _draw_target(axes, results, target, methods, pick, is_ratio)
        if has_titles:
            axes.set_title(target, loc="left", fontsize=8.5, color=Ink.TEXT, pad=3)
        panels.append(axes)
    for row, method in enumerate(methods):
        weight = "bold" if method == "mona" else "normal"
        y = (top - ROW * (row + 0.5)) / total
        drawn.text((LEFT - 0.08) / WIDTH, y, method, ha="right", va="center", size=8.5, weight=weight)
    limits = [axes.get_xlim() for axes in panels]
    for axes in panels:
        _style(axes, is_ratio, min(low for low, _ in limits), max(high for _, high in limits))


def _draw_target(
    axes: Axes, results: Results, target: str, methods: Sequence[str], pick: Measure, is_ratio: bool
) -> None:
    base = np.nanmean(_values(results, target, REFERENCE, pick)) if is_ratio else 1.0
    axes.set_xscale("log" if is_ratio else "linear")
    for row, method in enumerate(methods):
        values = np.array(_values(results, target, method, pick)) / base
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        y = row + 0.5
        color = Ink.ERROR if method == "mona" else Ink.SOURCE
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        ends = [max(values.mean() - spread, values.min() if is_ratio else 0.0), values.mean() + spread]
        axes.plot(values, np.full(len(values), y), ".", color=color, alpha=0.45, markersize=3, zorder=2)
        axes.plot(ends, [y, y], color=color, linewidth=1.6, solid_capstyle="butt", zorder=3)
        axes.plot(values.mean(), y, "o", color=color, markersize=4.5, zorder=4)
    levels = [1.0] if is_ratio else _values(results, target, UNTOUCHED, pick)
    for level in levels:
        if np.isfinite(level):
            axes.axvline(level, color=Ink.BASELINE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)


def _style(axes: Axes, is_ratio: bool, low: float, high: float) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color=Ink.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelsize=8, length=2)
    axes.set_xlim(low, high)
    if not is_ratio:
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], prune="both"))
        return
    axes.set_xticks([tick for tick in RATIOS if low <= tick <= high])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _title(results: Results, targets: Sequence[str], methods: Sequence[str]) -> str:
    """Return the finding on test errors: Student's t-tests of the log ratios, paired by seed and corrected by Holm."""
    logs = []
    for target in targets:
        base = _by_seed(results, target, REFERENCE)
        for method in methods:
            other = _by_seed(results, target, method)
            paired = [log_ratio(other[seed], base[seed]) for seed in other if seed in base]
            if method != REFERENCE and len(paired) > 1:
                logs.append(np.array(paired))
    corrected = holm([_p_value(one) for one in logs])
    lower = sum(one.mean() < 0 and p <= SIGNIFICANCE_LEVEL for one, p in zip(logs, corrected, strict=True))
    higher = sum(one.mean() > 0 and p <= SIGNIFICANCE_LEVEL for one, p in zip(logs, corrected, strict=True))
    pairs = count(len(logs), "pair")
    if not lower and not higher:
        return f"In {pairs} of method and target, no test error differs significantly from {REFERENCE}"
    return (
        f"Of {pairs} of method and target, {lower or 'none'} {'has' if lower <= 1 else 'have'} a lower test error than "
        f"{REFERENCE} and {higher or 'none'} a higher one"
    )


def _by_seed(results: Results, target: str, method: str) -> dict[int, float]:
    errors = {job.seed: _error(result) for job, result in results if (job.target, job.method) == (target, method)}
    return {seed: error for seed, error in errors.items() if np.isfinite(error)}


def _p_value(values: np.ndarray) -> float:
    """Return the p-value of Student's t-test for a mean of 0."""
    standard_error = values.std(ddof=1) / np.sqrt(len(values))
    if standard_error == 0:
        return 0.0 if values.any() else 1.0
    return float(2 * stats.t.sf(abs(values.mean()) / standard_error, len(values) - 1))


def _values(results: Results, target: str, method: str, pick: Measure) -> list[float]:
    return [pick(result) for job, result in results if (job.target, job.method) == (target, method)]


@styled
def sensitivity(log: ResultLog) -> Figure:
    """Draw the ratio of errors to emb by lambda and alpha, and to one inner step by inner steps (the paper's Fig. 6).

    Points are geometric means over targets and seeds, with the standard error of the mean.

    Raises:
        FileNotFoundError: If the sweep is not complete.
    """
    ratios = sweep_ratios(log)
    by_alpha = {alpha: [ratios[f"{alpha}-{weight}"] for weight in WEIGHTS] for alpha in ALPHAS}
    by_step = _ratios_by_step(log)
    title = _sensitivity_title([one for line in by_alpha.values() for one in line], [*by_step.values()][1:])
    subtitle = (
        "Ratio of test errors, geometric mean over targets and seeds with its standard error. Below 1 is better. "
        "Colors are values of alpha."
    )
    drawn, _ = figure_below_title(title, subtitle, SENSITIVITY_HEAD + SENSITIVITY_HEIGHT + SENSITIVITY_FOOTER)
    draw_title(drawn, title, subtitle)
    total = drawn.get_figheight()
    width = WIDTH - SENSITIVITY_LEFT - SENSITIVITY_GAP - STEPS_WIDTH - MARGIN
    boxes = ((SENSITIVITY_LEFT, width), (WIDTH - MARGIN - STEPS_WIDTH, STEPS_WIDTH))
    left, right = (
        drawn.add_axes((x / WIDTH, SENSITIVITY_FOOTER / total, w / WIDTH, SENSITIVITY_HEIGHT / total)) for x, w in boxes
    )
    ends = []
    for number, (alpha, logs) in enumerate(by_alpha.items()):
        color, text_color, marker, *_ = SERIES[number]
        means = _draw_ratios(left, np.array(WEIGHTS) * 1.04 ** (number - 1), logs, color, marker)
        ends.append((float(means[-1]), f"alpha {alpha:g}", text_color, True))
    _draw_ratios(right, np.array(list(by_step), float), list(by_step.values()), Ink.SOURCE, "o")
    left.set_xscale("log")
    left.set_xticks(WEIGHTS, [f"{weight:g}" for weight in WEIGHTS])
    left.xaxis.set_minor_locator(NullLocator())
    left.set_xlabel("lambda (log scale)")
    right.set(xlabel="inner steps", xticks=list(by_step))
    for axes, heading in ((left, "relative to emb"), (right, "relative to one inner step")):
        style_axes(axes, "y")
        axes.axhline(1, color=Ink.BASELINE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
        axes.set_title(heading, loc="left", fontsize=9.5, fontweight="bold", color=Ink.TITLE, pad=6)
        axes.tick_params(labelsize=8)
    label_ends(left, ends)
    return drawn


def _ratios_by_step(log: ResultLog) -> dict[int, list[float]]:
    """Return the log ratios of errors to those with one inner step, by the number of inner steps."""
    results = [(job, result) for job in jobs("steps", log) if (result := log.get(job))]
    errors = {(job.target, job.seed, job.label): smoothed_error(result) for job, result in results}
    ratios: dict[int, list[float]] = {}
    for (target, seed, label), error in sorted(errors.items(), key=lambda item: item[0][2]):
        if (target, seed, "steps-1") in errors:
            ratio = log_ratio(error, errors[target, seed, "steps-1"])
            ratios.setdefault(int(label[-1]), []).append(ratio)
    return ratios


def _sensitivity_title(settings: Sequence[Sequence[float]], steps: Sequence[Sequence[float]]) -> str:
    corrected = holm([_p_value(np.array(one)) for one in (*settings, *steps)])
    n_different = int((corrected <= SIGNIFICANCE_LEVEL).sum())
    if not n_different:
        return "No lambda, alpha or number of inner steps changes the error significantly"
    return f"{n_different} of {len(corrected)} settings of lambda, alpha and inner steps change the error"


def _draw_ratios(
    axes: Axes, positions: np.ndarray, logs: Sequence[Sequence[float]], color: str, marker: str
) -> np.ndarray:
    """Draw geometric means with their standard errors, and return the means."""
    centers = np.array([np.mean(numbers) for numbers in logs])
    reach = np.array([np.std(one, ddof=1) / np.sqrt(len(one)) if len(one) > 1 else 0.0 for one in logs])
    axes.plot(positions, np.exp(centers), color=color, marker=marker, markersize=5, linewidth=1.6, zorder=3)
    for x, center, size in zip(positions, centers, reach, strict=True):
        axes.plot([x, x], np.exp([center - size, center + size]), color=color, linewidth=1.4, zorder=2)
    return np.exp(centers)
