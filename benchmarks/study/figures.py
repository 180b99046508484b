"""Figures of the study: error, remaining knowledge and discrepancy by method and target (Table 2, Figs. 3 and 4)."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from result_log import ResultLog

from modgap.display.figure_layout import series_style
from study.jobs import ALPHAS, UNTOUCHED, WEIGHTS, Job, jobs, log_ratio, smoothed_error, sweep_ratios

__all__ = ["figure", "sensitivity"]

Results = list[tuple[Job, dict]]


def figure(part: str, log: ResultLog) -> Figure | None:
    """Draw three panels over the targets, with means and standard deviations over seeds.

    Returns:
        The figure; None if no run of `finetune`, the reference of the first panel, is finished.
    """
    results = [(job, result) for job in jobs(part, log) if (result := log.get(job))]
    if not any("result" in result and job.method == "finetune" for job, result in results):
        return None
    targets = list(dict.fromkeys(job.target for job, _ in results))
    drawn = Figure(figsize=(1.6 + 2.1 * len(targets), 8.4), layout="constrained")
    panels = drawn.subplots(3, 1, sharex=True)
    base = _mean(results, "finetune", _error)
    for axes, title, pick in (
        (panels[0], "test error over the mean of finetune", lambda j, r: _error(r) / base[j.target]),
        (panels[1], "error of a linear probe on the surrogate\nafter the last epoch", lambda j, r: _last_probe(r)),
        (panels[2], "held-out discrepancy\nbefore the encoder is trained", lambda j, r: _held_out(r)),
    ):
        _points(axes, results, targets, pick)
        axes.set_ylabel(title, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yscale("log")
    panels[0].axhline(1, color="0.6", linewidth=0.8, zorder=0)
    panels[2].set_xticks(range(len(targets)), targets)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    drawn.legend(handles.values(), handles.keys(), ncols=4, loc="outside upper center", frameon=False, fontsize=9)
    return drawn


def _error(result: dict) -> float:
    """Return the test error with half an error added, because an error of 0 cannot be a reference."""
    error = smoothed_error(result)
    return np.nan if error is None else error


def _last_probe(result: dict) -> float:
    return list(next(iter(result["probe_error"].values())).values())[-1]


def _held_out(result: dict) -> float:
    held_out = (result["discrepancy"] or {}).get("held_out")
    return np.nan if held_out is None else held_out


def _mean(results: Results, method: str, pick: Callable[[dict], float]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for job, result in results:
        if job.method == method:
            values.setdefault(job.target, []).append(pick(result))
    return {target: float(np.mean(numbers)) for target, numbers in values.items()}


def _points(axes: Axes, results: Results, targets: list[str], pick: Callable[[Job, dict], float]) -> None:
    names = [name for name in dict.fromkeys(job.method for job, _ in results) if name != UNTOUCHED]
    for m, name in enumerate(names):
        values = [[pick(j, r) for j, r in results if (j.method, j.target) == (name, target)] for target in targets]
        positions = np.arange(len(targets)) + 0.09 * (m - (len(names) - 1) / 2)
        color, marker = series_style(m)
        for position, numbers in zip(positions, values, strict=True):
            axes.plot(np.full(len(numbers), position), numbers, ".", color=color, alpha=0.4, markersize=3)
        means = [np.mean(numbers) if numbers else np.nan for numbers in values]
        spread = [np.std(numbers, ddof=1) if len(numbers) > 1 else 0.0 for numbers in values]
        axes.errorbar(positions, means, spread, fmt=marker, color=color, capsize=2, markersize=6, label=name)
    for t, target in enumerate(targets):
        for job, result in results:
            value = pick(job, result) if (job.method, job.target) == (UNTOUCHED, target) else np.nan
            if np.isfinite(value):
                axes.hlines(value, t - 0.42, t + 0.42, color="0.3", linestyle="--", label="source before fine-tuning")


def sensitivity(log: ResultLog) -> Figure:
    """Draw the ratio of errors to emb by lambda and alpha, and to one inner step by inner steps (the paper's Fig. 6).

    Points are geometric means over targets and seeds, with the standard error of the mean.

    Raises:
        FileNotFoundError: If the sweep is not complete.
    """
    drawn = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = drawn.subplots(1, 2, sharey=True)
    ratios = sweep_ratios(log)
    for number, alpha in enumerate(ALPHAS):
        by_weight = [ratios[f"{alpha}-{weight}"] for weight in WEIGHTS]
        _ratios(left, np.array(WEIGHTS) * 1.04 ** (number - 1), by_weight, number + 2, f"alpha {alpha:g}")
    left.set_xscale("log")
    left.set(xlabel="lambda", ylabel="ratio of test errors", title="relative to emb, by lambda and alpha")
    results = [(job, result) for job in jobs("steps", log) if (result := log.get(job))]
    errors = {(job.target, job.seed, job.label): smoothed_error(result) for job, result in results}
    steps = sorted({job.label for job, _ in results})
    by_step = [[log_ratio(error, errors[target, seed, "steps-1"]) for (target, seed, label), error in errors.items()
            if label == step and (target, seed, "steps-1") in errors] for step in steps]  # fmt: skip
    _ratios(right, np.array([int(step[-1]) for step in steps]), by_step, 5, "exact route")
    right.set(xlabel="inner steps", title="relative to one step, by inner steps", xticks=[1, 2, 3])
    for axes in (left, right):
        axes.axhline(1, color="0.6", linewidth=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    return drawn


def _ratios(axes: Axes, positions: np.ndarray, logs: list[list[float]], number: int, label: str) -> None:
    if not logs:
        axes.plot([], [], label="not finished")
        return
    means = np.exp([np.mean(numbers) for numbers in logs])
    errors = [np.std(numbers, ddof=1) / np.sqrt(len(numbers)) if len(numbers) > 1 else 0.0 for numbers in logs]
    reach = [means * (1 - np.exp(-np.array(errors))), means * (np.exp(errors) - 1)]
    axes.errorbar(
        positions, means, reach, color=series_style(number)[0], marker=series_style(number)[1], capsize=2, label=label
    )
