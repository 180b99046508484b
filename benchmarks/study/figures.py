"""The study's figure: error, knowledge left and discrepancy of each method on each target (Table 2, Figs. 3 and 4)."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from result_log import ResultLog

from modgap.figure_style import series_style
from study.jobs import ALPHAS, UNTOUCHED, WEIGHTS, Job, jobs, log_ratio, smoothed_error, sweep_ratios

__all__ = ["figure", "sensitivity"]

Found = list[tuple[Job, dict]]


def figure(part: str, log: ResultLog) -> Figure | None:
    """Three panels over the targets, mean and sd over seeds; None where fine-tuning, the measure, is not done."""
    found = [(job, result) for job in jobs(part, log) if (result := log.get(job))]
    if not any("result" in result and job.method == "finetune" for job, result in found):
        return None
    targets = list(dict.fromkeys(job.target for job, _ in found))
    drawn = Figure(figsize=(1.6 + 2.1 * len(targets), 8.4), layout="constrained")
    panels = drawn.subplots(3, 1, sharex=True)
    base = _mean(found, "finetune", _error)
    for axes, title, pick in (
        (panels[0], "test error over the mean of finetune", lambda j, r: _error(r) / base[j.target]),
        (panels[1], "error of a linear probe on the surrogate\nafter the last epoch", lambda j, r: _last_probe(r)),
        (panels[2], "held-out discrepancy\nbefore the encoder is trained", lambda j, r: _held_out(r)),
    ):
        _points(axes, found, targets, pick)
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
    """The test error, with half a sample more got wrong: none wrong is no measure for the others."""
    found = smoothed_error(result)
    return np.nan if found is None else found


def _last_probe(result: dict) -> float:
    return list(next(iter(result["probe_error"].values())).values())[-1]


def _held_out(result: dict) -> float:
    found = (result["discrepancy"] or {}).get("held_out")
    return np.nan if found is None else found


def _mean(found: Found, method: str, pick: Callable[[dict], float]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for job, result in found:
        if job.method == method:
            values.setdefault(job.target, []).append(pick(result))
    return {target: float(np.mean(each)) for target, each in values.items()}


def _points(axes: Axes, found: Found, targets: list[str], pick: Callable[[Job, dict], float]) -> None:
    names = [name for name in dict.fromkeys(job.method for job, _ in found) if name != UNTOUCHED]
    for m, name in enumerate(names):
        values = [[pick(j, r) for j, r in found if (j.method, j.target) == (name, target)] for target in targets]
        places = np.arange(len(targets)) + 0.09 * (m - (len(names) - 1) / 2)
        for place, own in zip(places, values, strict=True):
            axes.plot(np.full(len(own), place), own, ".", color=series_style(m)[0], alpha=0.4, markersize=3)
        means = [np.mean(own) if own else np.nan for own in values]
        spread = [np.std(own, ddof=1) if len(own) > 1 else 0.0 for own in values]
        axes.errorbar(
            places, means, spread, fmt=series_style(m)[1], color=series_style(m)[0], capsize=2, markersize=6, label=name
        )
    for t, target in enumerate(targets):
        for job, result in found:
            value = pick(job, result) if (job.method, job.target) == (UNTOUCHED, target) else np.nan
            if np.isfinite(value):
                axes.hlines(value, t - 0.42, t + 0.42, color="0.3", linestyle="--", label="the source as it is")


def sensitivity(log: ResultLog) -> Figure:
    """Error by lambda and alpha, over emb's, and by inner steps, over one step's: the paper's Fig. 6.

    Geometric means over targets and seeds, with the standard error of the mean.

    Raises:
        FileNotFoundError: When the sweep is not complete.
    """
    drawn = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = drawn.subplots(1, 2, sharey=True)
    ratios = sweep_ratios(log)
    for number, alpha in enumerate(ALPHAS):
        own = [ratios[f"{alpha}-{weight}"] for weight in WEIGHTS]
        _ratios(left, np.array(WEIGHTS) * 1.04 ** (number - 1), own, number + 2, f"alpha {alpha:g}")
    left.set_xscale("log")
    left.set(xlabel="lambda", ylabel="test error, ratio", title="over emb's, by lambda and alpha")
    found = [(job, result) for job in jobs("steps", log) if (result := log.get(job))]
    errors = {(job.target, job.seed, job.label): smoothed_error(result) for job, result in found}
    steps = sorted({job.label for job, _ in found})
    own = [[log_ratio(error, errors[target, seed, "steps-1"]) for (target, seed, label), error in errors.items()
            if label == step and (target, seed, "steps-1") in errors] for step in steps]  # fmt: skip
    _ratios(right, np.array([int(step[-1]) for step in steps]), own, 5, "exact route")
    right.set(xlabel="inner steps", title="over one step's, by inner steps", xticks=[1, 2, 3])
    for axes in (left, right):
        axes.axhline(1, color="0.6", linewidth=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    return drawn


def _ratios(axes: Axes, places: np.ndarray, logs: list[list[float]], number: int, label: str) -> None:
    if not logs:
        axes.plot([], [], label="not run yet")
        return
    means = np.exp([np.mean(own) for own in logs])
    errors = [np.std(own, ddof=1) / np.sqrt(len(own)) if len(own) > 1 else 0.0 for own in logs]
    reach = [means * (1 - np.exp(-np.array(errors))), means * (np.exp(errors) - 1)]
    axes.errorbar(
        places, means, reach, color=series_style(number)[0], marker=series_style(number)[1], capsize=2, label=label
    )
