"""Tables of the models that train no network: what is best on how many targets of each kind, with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from result_log import ResultLog
from scipy import stats

from evidence.page import replace_section
from evidence.ranking_jobs import EPOCHS, Job, chosen_rate, n_seeds
from evidence.two_way import exact_zeros

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
FINE_TUNING = "fine-tuning"
COMPARED = ("baseline", "probe", "random probe", FINE_TUNING)
"""Kinds of models of which one is best on a target."""
PAIRS = (
    ("probe", "baseline"),
    ("probe", "random probe"),
    ("probe", FINE_TUNING),
    ("any probe", FINE_TUNING),
    ("baseline", FINE_TUNING),
    ("any", FINE_TUNING),
)
SIZES = (128, 512)
SECTION = ("<!-- table of models: written by evidence_models.py page -->", "<!-- end of the table of models -->")


class ModelTable(NamedTuple):
    """A table of results.

    Attributes:
        title: What it has.
        heads: Heads of its columns.
        rows: Its rows.
    """

    title: str
    heads: list[str]
    rows: list[list[str]]


def chosen_errors(results: Sequence[Mapping[str, Any]], size: int) -> dict[str, dict[str, float]]:
    """Return for each target the test errors in percent of the models that cross-validation chooses.

    Args:
        results: Results of the jobs.
        size: Number of labeled samples.

    Returns:
        By target and name of the choice, without choices of which no model was fitted.
    """
    chosen = chosen_models(results, size)
    return {
        target: {name: float(model["errors"][str(size)]) for name, model in of_parts.items()}
        for target, of_parts in chosen.items()
    }


def chosen_models(results: Sequence[Mapping[str, Any]], size: int) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return the results of the models that cross-validation chooses, by target and name of the choice."""
    return {
        target: {name: models[0] for name, models in of_parts.items()}
        for target, of_parts in best_models(results, size).items()
    }


def best_models(results: Sequence[Mapping[str, Any]], size: int) -> dict[str, dict[str, list[Mapping[str, Any]]]]:
    """Return the results with the lowest cross-validated error, several if it is equal, by target and choice."""
    fitted: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        if str(size) in result["errors"]:
            fitted.setdefault(result["job"]["target"], []).append(result)
    best: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for target, models in fitted.items():
        of_parts = {name: _best(models, parts, str(size)) for name, parts in PARTS.items()}
        best[target] = {name: equal for name, equal in of_parts.items() if equal}
    return best


def _best(models: Sequence[Mapping[str, Any]], parts: Sequence[str], size: str) -> list[Mapping[str, Any]]:
    compared = [model for model in models if model["job"]["part"] in parts and model["validated"][size] is not None]
    lowest = min((model["validated"][size] for model in compared), default=None)
    return [model for model in compared if model["validated"][size] == lowest]


def fine_tuning_error(truth: ResultLog, target: str) -> float | None:
    """Return the test error in percent of the constant source, fine-tuned on 128 samples; None without one."""
    rate = chosen_rate(truth, CONSTANT, target)
    runs = [truth.get(Job("all", CONSTANT, target, seed, rate)) for seed in range(n_seeds(CONSTANT))] if rate else []
    errors = [run["errors"][str(EPOCHS[-1])] for run in runs if run]
    return float(np.mean(errors)) if errors else None


def model_tables(results: Sequence[Mapping[str, Any]], truth: ResultLog) -> list[ModelTable]:
    """Return, for each number of labeled samples, the errors by kind, what is best how often, and the comparisons.

    Args:
        results: Results of the jobs.
        truth: Results of fine-tuning, which are there for 128 labeled samples.
    """
    kinds = {
        result["job"]["target"]: VALUES if result["task"] == "regression" else result["kind"] for result in results
    }
    tables = []
    for size in SIZES:
        errors = chosen_errors(results, size)
        for target, of_models in errors.items():
            error = fine_tuning_error(truth, target) if size == SIZES[0] and kinds[target] != VALUES else None
            of_models |= {} if error is None else {FINE_TUNING: error}
        groups = list(_by_kind(kinds, errors))
        tables += [_means(groups, errors, size), _counts(groups, errors, size), _comparisons(groups, errors, size)]
    return tables


def write_section(results: Sequence[Mapping[str, Any]], truth: ResultLog, page: Path) -> None:
    """Write the tables into docs/evidence-second.md."""
    lines = []
    for title, heads, rows in model_tables(results, truth):
        lines += [f"{title}:", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    replace_section(page, SECTION, lines[:-1])


def _by_kind(kinds: Mapping[str, str], errors: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for kind in sorted(set(kinds.values())):
        yield kind, [target for target in errors if kinds[target] == kind]
    yield "all classes", [target for target in errors if kinds[target] != VALUES]


Groups = Sequence[tuple[str, list[str]]]
Errors = Mapping[str, Mapping[str, float]]


def _means(groups: Groups, errors: Errors, size: int) -> ModelTable:
    """Return the mean errors, each with the number of its targets where not all of them have the model."""

    def mean(targets: Sequence[str], name: str) -> str:
        values = [errors[target][name] for target in targets if name in errors[target]]
        return f"{np.mean(values):.1f}{'' if len(values) == len(targets) else f' ({len(values)})'}" if values else ""

    columns = (*PARTS, FINE_TUNING) if size == SIZES[0] else tuple(PARTS)
    rows = [[kind, str(len(targets)), *(mean(targets, name) for name in columns)] for kind, targets in groups]
    title = f"Mean test error in percent, {size} labeled samples, of the models that cross-validation chooses"
    return ModelTable(title, ["kind", "targets", *columns], rows)


def _counts(groups: Groups, errors: Errors, size: int) -> ModelTable:
    """Return on how many targets each kind of model is best, alone or tied, of those that have all of them."""
    columns = [name for name in COMPARED if any(name in of_models for of_models in errors.values())]
    rows = []
    for kind, targets in groups:
        complete = [errors[target] for target in targets if all(name in errors[target] for name in columns)]
        if complete:
            lowest = [min(of_models[name] for name in columns) for of_models in complete]
            best = [
                sum(of_models[name] == error for of_models, error in zip(complete, lowest, strict=True))
                for name in columns
            ]
            rows.append([kind, str(len(complete)), *(f"{n}: {percent(n, len(complete))}" for n in best)])
    title = f"Number of targets on which each is best, alone or tied, {size} labeled samples"
    return ModelTable(title, ["kind", "targets", *columns], rows)


def _comparisons(groups: Groups, errors: Errors, size: int) -> ModelTable:
    rows = [
        row
        for one, other in PAIRS
        for kind, targets in groups
        if (row := _difference_row(kind, targets, errors, one, other))
    ]
    heads = ["kind", "first", "second", "targets", "first is better", "share [95 %]", "first minus second [95 %]"]
    return ModelTable(f"Comparisons over targets, {size} labeled samples", heads, rows)


def _difference_row(kind: str, targets: Sequence[str], errors: Errors, one: str, other: str) -> list[str] | None:
    """Return the mean difference of two models, with its interval by t over targets; None with fewer than two."""
    pairs = [errors[target] for target in targets if one in errors[target] and other in errors[target]]
    differences = exact_zeros([pair[one] - pair[other] for pair in pairs])
    if len(differences) < 2:
        return None
    better, decided = int((differences < 0).sum()), int((differences != 0).sum())
    margin = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    mean = differences.mean()
    interval = f"{mean:+.1f} [{mean - margin:.1f}, {mean + margin:.1f}]"
    share = percent(better, decided) if decided else ""
    return [kind, one, other, str(len(differences)), f"{better} of {decided}", share, interval]


def percent(successes: int, trials: int) -> str:
    """Return a share in percent with its exact 95 % interval."""
    low, high = stats.binomtest(successes, trials).proportion_ci()
    return f"{100 * successes / trials:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
