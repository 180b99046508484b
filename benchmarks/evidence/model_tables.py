"""Tables of the models that need no training: what is best on how many targets of each kind, with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from result_log import ResultLog
from scipy import stats

from evidence.ranking_jobs import EPOCHS, Job, chosen_rate, n_seeds
from modgap.cli.output import print_table

__all__ = ["chosen_errors", "fine_tuning_error", "print_reading"]

CONSTANT = "efficientnet-lite0@64px"
"""The source that is always named."""
VALUES = "values"
"""Kind of all targets of real values, whose errors are shares of the variance."""
PARTS = {
    "baseline": ("baseline",),
    "probe": ("probe",),
    "random probe": ("control",),
    "any probe": ("probe", "control"),
    "any": ("baseline", "probe", "control"),
}
"""Models among which cross-validation on the labeled samples chooses."""


def chosen_errors(results: Sequence[Mapping[str, Any]], size: int) -> dict[str, dict[str, float]]:
    """Return for each target the test errors in percent of the models that cross-validation chooses.

    Args:
        results: Results of the jobs.
        size: Number of labeled samples.

    Returns:
        By target and name of the choice, without choices of which no model was fitted.
    """
    fitted: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        if str(size) in result["errors"]:
            fitted.setdefault(result["job"]["target"], []).append(result)
    chosen: dict[str, dict[str, float]] = {}
    for target, models in fitted.items():
        of_parts = {name: _chosen(models, parts, str(size)) for name, parts in PARTS.items()}
        chosen[target] = {name: error for name, error in of_parts.items() if error is not None}
    return chosen


def _chosen(models: Sequence[Mapping[str, Any]], parts: Sequence[str], size: str) -> float | None:
    """Return the test error of the first of the models with the lowest cross-validated error; None without models."""
    compared = [model for model in models if model["job"]["part"] in parts and model["validated"][size] is not None]
    best = min(compared, key=lambda model: model["validated"][size], default=None)
    return None if best is None else float(best["errors"][size])


def fine_tuning_error(truth: ResultLog, target: str) -> float | None:
    """Return the test error in percent of the constant source, fine-tuned on 128 samples; None without one."""
    rate = chosen_rate(truth, CONSTANT, target)
    runs = [truth.get(Job("all", CONSTANT, target, seed, rate)) for seed in range(n_seeds(CONSTANT))] if rate else []
    errors = [run["errors"][str(EPOCHS[-1])] for run in runs if run]
    return float(np.mean(errors)) if errors else None


def print_reading(results: Sequence[Mapping[str, Any]], truth: ResultLog) -> None:
    """Print, for each number of labeled samples, the errors by kind, and what is better on how many targets."""
    kinds = {
        result["job"]["target"]: VALUES if result["task"] == "regression" else result["kind"] for result in results
    }
    for size in (128, 512):
        errors = chosen_errors(results, size)
        if size == 128:
            for target, of_models in errors.items():
                error = None if kinds[target] == VALUES else fine_tuning_error(truth, target)
                of_models |= {} if error is None else {"fine-tuning": error}
        print_table(
            ["kind", "targets", *PARTS, "fine-tuning"],
            [_mean_row(kind, targets, errors) for kind, targets in _by_kind(kinds, errors)],
            f"mean test error in percent, {size} labeled samples; chosen by cross-validation",
        )
        rows = [
            row
            for one, other in (("probe", "baseline"), ("any", "fine-tuning"), ("probe", "fine-tuning"))
            for kind, targets in _by_kind(kinds, errors)
            if (row := _difference_row(kind, targets, errors, one, other))
        ]
        heads = ["kind", "first", "second", "targets", "first is better", "share", "first minus second", "95 % CI"]
        print_table(heads, rows, f"comparisons over targets, {size} labeled samples")


def _by_kind(kinds: Mapping[str, str], errors: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for kind in sorted(set(kinds.values())):
        yield kind, [target for target in errors if kinds[target] == kind]
    yield "all classes", [target for target in errors if kinds[target] != VALUES]


def _mean_row(kind: str, targets: Sequence[str], errors: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the means over the targets that have all of the models, but for fine-tuning."""

    def mean(name: str) -> str:
        values = [errors[target][name] for target in targets if name in errors[target]]
        return f"{np.mean(values):.1f}{'' if len(values) == len(targets) else f' ({len(values)})'}" if values else "-"

    return [kind, str(len(targets)), *map(mean, (*PARTS, "fine-tuning"))]


def _difference_row(
    kind: str, targets: Sequence[str], errors: Mapping[str, Mapping[str, float]], one: str, other: str
) -> list[str] | None:
    pairs = [errors[target] for target in targets if one in errors[target] and other in errors[target]]
    differences = np.array([pair[one] - pair[other] for pair in pairs])
    if len(differences) < 2:
        return None
    better, decided = int((differences < 0).sum()), int((differences != 0).sum())
    margin = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    share = _percent(better, decided) if decided else "-"
    mean = differences.mean()
    interval = f"{mean - margin:.1f} to {mean + margin:.1f}"
    return [kind, one, other, str(len(differences)), f"{better} of {decided}", share, f"{mean:+.1f}", interval]


def _percent(successes: int, trials: int) -> str:
    low, high = stats.binomtest(successes, trials).proportion_ci()
    return f"{100 * successes / trials:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
