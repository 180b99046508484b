"""Question A of the third edition: what each way to choose costs on the judging targets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from result_log import ResultLog
from scipy import stats

from evidence.ranking_tables import BEST_PILOT
from evidence.replay_tables import SHORT, PrintedTable
from evidence.replays import pools
from evidence.selection import (
    ALONE,
    CONSTANT,
    HISTORY,
    RANDOM,
    Table,
    Variables,
    constant_scores,
    judge_forecasts,
    judge_scores,
)
from evidence.selection_tables import PILOTS
from evidence.third_jobs import EARLIER_TARGETS, EARLIER_TEXTS, SOURCES, judging_targets, last_error
from evidence.two_way import exact_zeros, target_interval
from modgap.answers.formatting import p_value_text
from modgap.ranking.history.measure import ALL, EPOCHS, HALF, MIDDLE_RATE, RATES, Training, best_rate
from modgap.ranking.source_patterns import split_input_size

PROBE = "linear probe by cross-validation"
LABELED = "128"
STAGES = {SHORT: PILOTS[:2], BEST_PILOT: PILOTS}
"""Pilots that are known at each stage."""
EARLIER = (*EARLIER_TARGETS, *EARLIER_TEXTS)
REPORTED = (RANDOM, CONSTANT, ALONE, SHORT, HISTORY.format(SHORT), BEST_PILOT, HISTORY.format(BEST_PILOT), PROBE)
SEEDS = 2
FEWEST = 2
"""Sources that read a target, below which there is nothing to choose."""


def error_table(
    logs: Sequence[ResultLog], probes: Sequence[Mapping[str, Any]] = (), targets: Sequence[str] | None = None
) -> Table:
    """Return the errors of all sources on the earlier targets and then on the judging ones, with pilots and probes.

    Args:
        logs: Logs with the trainings.
        probes: Results of the linear probes on the judging targets, whose cross-validated errors are a score.
        targets: Names of the judging targets; None for all.
    """
    sources = list(SOURCES)
    judging = list(judging_targets() if targets is None else targets)
    every = [*EARLIER, *judging]
    shape = (len(sources), len(every))
    pilots = np.full((len(EPOCHS) + 1, *shape), np.nan)
    errors, held_out = pilots[0].copy(), pilots[0].copy()
    seconds = {name: np.zeros(len(every)) for name in STAGES}
    for cell in np.ndindex(shape):
        source, target = sources[cell[0]], every[cell[1]]
        halves = {rate: _result(logs, Training(HALF, source, target, 0, rate)) for rate in RATES}
        rate = best_rate({one: last_error(half) for one, half in halves.items() if "errors" in half})
        if rate is None:
            continue
        whole = [_result(logs, Training(ALL, source, target, seed, rate)) for seed in range(SEEDS)]
        tested = [last_error(one) for one in whole if "errors" in one]
        errors[cell] = np.mean(tested) / 100 if tested else np.nan
        middle = halves[MIDDLE_RATE]
        pilots[(slice(len(EPOCHS)), *cell)] = [middle["errors"][str(epoch)] / 100 for epoch in EPOCHS]
        pilots[(-1, *cell)] = last_error(halves[rate]) / 100
        held_out[cell] = middle["samples"]["test"]
        seconds[SHORT][cell[1]] += middle["seconds"] * EPOCHS[1] / EPOCHS[-1]
        seconds[BEST_PILOT][cell[1]] += sum(half["seconds"] for half in halves.values())
    is_read = np.isfinite(errors[:, len(EARLIER) :]).all(axis=0)
    # The same samples judge all sources.
    judged = np.array([next(iter(column[np.isfinite(column)]), np.nan) for column in held_out.T])
    return Table(
        "Judging targets",
        sources,
        every,
        errors,
        dict(zip(PILOTS, pilots, strict=True)),
        dict.fromkeys(PILOTS, judged),
        scores={PROBE: _probe_scores(probes, sources, every)},
        stages=STAGES,
        seconds={name: float(np.mean(spent[len(EARLIER) :], where=is_read)) for name, spent in seconds.items()}
        if is_read.any()
        else {},
    )


def _result(logs: Sequence[ResultLog], job: Training) -> Mapping[str, Any]:
    """Return the result of a job from the first log that has it; an empty one without."""
    return next((result for log in logs if (result := log.get(job))), {})


def _probe_scores(probes: Sequence[Mapping[str, Any]], sources: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """Return the negative cross-validated error of each source's probe, (S, T); NaN where there is none."""
    errors = {
        (result["job"]["model"], result["job"]["target"]): result["validated"][LABELED]
        for result in probes
        if result["job"]["part"] == "probe" and result.get("validated", {}).get(LABELED) is not None
    }
    names = [split_input_size(source)[0] for source in sources]
    return -np.array([[errors.get((name, target), np.nan) for target in targets] for name in names])


def judged_regrets(table: Table) -> dict[str, np.ndarray]:
    """Return the regret of each way to choose on the judging targets in points, (n,), with only earlier ones known.

    The constant answer and the crossed model are those of the earlier targets, which come first in the table. A target
    that fewer than two of the sources can read has NaN, since there is nothing to choose.
    """
    n_earlier = len(EARLIER)
    has_choice = np.isfinite(table.errors[:, n_earlier:]).sum(axis=0) >= FEWEST
    columns = np.flatnonzero(np.append(np.isfinite(table.errors[:, :n_earlier]).any(axis=0), has_choice))
    n_known = int((columns < n_earlier).sum())
    of_columns = _judged_regrets(table.of(np.arange(len(table.models)), columns), n_known)
    filled = {name: np.full(len(has_choice), np.nan) for name in of_columns}
    for name, values in of_columns.items():
        filled[name][has_choice] = values
    return filled


def of_constant(regrets: Mapping[str, np.ndarray], table: Table) -> dict[str, np.ndarray]:
    """Return the regrets with NaN on the judging targets that the constant source cannot read, which are texts."""
    earlier = table.errors[:, : len(EARLIER)]
    constant = np.nanmean(earlier - np.nanmean(earlier, axis=0), axis=1).argmin()
    is_read = np.isfinite(table.errors[constant, len(EARLIER) :])
    return {name: np.where(is_read, values, np.nan) for name, values in regrets.items()}


def _judged_regrets(table: Table, n_earlier: int) -> dict[str, np.ndarray]:
    judged = table.errors[:, n_earlier:]
    constant = constant_scores(table.errors, n_earlier)[:, n_earlier:]
    ways = {RANDOM: np.zeros_like(judged), CONSTANT: constant}
    ways |= {name: -table.pilots[name][:, n_earlier:] for name in STAGES}
    ways |= {name: scores[:, n_earlier:] for name, scores in table.scores.items()}
    by_way = {name: judge_scores(scores, judged).regrets for name, scores in ways.items()}
    variables = Variables.of(table)
    model = variables.fitted(np.arange(n_earlier))
    for name, pilots in {ALONE: (), **{HISTORY.format(stage): names for stage, names in STAGES.items()}}.items():
        observed = variables.observed(pilots)
        forecasts = [variables.forecast(model, target, observed) for target in range(n_earlier, len(table.targets))]
        by_way[name] = judge_forecasts(judged, forecasts).regrets
    return {name: by_way[name] for name in REPORTED}


def judged_pool_regrets(table: Table) -> dict[str, np.ndarray]:
    """Return the same for five sources to choose from, whose history alone is known, the mean over pools, (n,)."""
    parts = [judged_regrets(table.of(np.array(pool))) for pool in pools(len(table.models))]
    return {name: np.nanmean([part[name] for part in parts], axis=0) for name in REPORTED}


def earlier_regrets(table: Table) -> dict[str, np.ndarray]:
    """Return the regrets on the earlier targets, (n,), each judged as if it were new and the others were known.

    A target that fewer than two of the sources can read has NaN.

    Args:
        table: Result of `error_table` without judging targets.
    """
    sources, targets = np.arange(len(table.models)), np.arange(len(table.targets))
    regrets = {name: np.full(len(targets), np.nan) for name in REPORTED}
    for target in targets[np.isfinite(table.errors).sum(axis=0) >= FEWEST]:
        others = [other for other in targets if other != target and np.isfinite(table.errors[:, other]).any()]
        for name, values in _judged_regrets(table.of(sources, np.array([*others, target])), len(others)).items():
            regrets[name][target] = values[0]
    return regrets


def choice_answer(
    regrets: Mapping[str, np.ndarray], among: str, seconds: Mapping[str, float] | None = None
) -> PrintedTable:
    """Return the regrets with their intervals, and their differences to the constant answer and to the pilots alone.

    Args:
        regrets: Regrets by way to choose, (n,).
        among: The sources to choose from, in words.
        seconds: Mean seconds that the pilots of all sources take on a target, on one core; None to leave them out.
    """
    rows = []
    has_choice = np.isfinite(regrets[CONSTANT])
    regrets = {name: values[has_choice] for name, values in regrets.items()}
    for name, values in regrets.items():
        pairs = [other for other in (CONSTANT, SHORT) if other != name]
        differences = {other: _difference(values - regrets[other]) for other in pairs}
        spent = next((f"{of_pilot:.0f}" for stage, of_pilot in (seconds or {}).items() if stage in name), "")
        cells = [_interval(values), *(differences.get(other, "") for other in (CONSTANT, SHORT))]
        rows.append([name, *cells, *([] if seconds is None else [spent])])
    title = f"Mean regret in points on {has_choice.sum()} judging targets, among {among}"
    heads = ["way to choose", "regret [95 %]", f"minus {CONSTANT} [95 %]", f"minus {SHORT}"]
    return PrintedTable(title, [*heads, *([] if seconds is None else ["seconds"])], rows)


def _interval(values: np.ndarray) -> str:
    interval = target_interval(values)
    return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def _difference(values: np.ndarray) -> str:
    """Return a mean difference with its interval, and the p-value of Wilcoxon's signed-rank test."""
    p_value = stats.wilcoxon(exact_zeros(values)).pvalue if np.any(values) else 1.0
    return f"{_interval(values)}, {p_value_text(p_value)}"
