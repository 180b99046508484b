"""Question A of the third edition: what each way to choose among the sources costs on the judging targets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from evidence import lines
from evidence.lines import SOURCES, Line, Trainings
from evidence.summaries import PrintedTable, detectable_table, exact_zeros, interval_text, p_value_text

RANDOM = "random choice"
CONSTANT = "constant answer"
SHORT = "pilot of 3 epochs"
THREE_RATES = "pilot at three rates"
PROBE = "linear probe by cross-validation"
ALONE = "history alone"
HISTORY_SHORT, HISTORY_RATES = f"history and {SHORT}", f"history and {THREE_RATES}"
WAYS = (RANDOM, CONSTANT, ALONE, SHORT, HISTORY_SHORT, THREE_RATES, HISTORY_RATES, PROBE)
RECORDED = (ALONE, HISTORY_SHORT, HISTORY_RATES)
"""Ways that modgap does not have any more; their regrets are recorded in choice_regrets.json."""
EVERY, FIVE = "all sources", "five sources"
POOLS, POOL_SIZE = 40, 5
SHORT_EPOCHS = "3"
SEEDS = 2
LOWEST = -1e9
"""Score of a source that has none."""

Regrets = dict[str, np.ndarray]
"""Regrets in points by way to choose, (n,); NaN on a target that fewer than two of the sources can read."""


@dataclass(frozen=True)
class Table:
    """Errors in [0, 1] of S sources on n judging targets and on earlier ones, and what is known before the choice.

    Attributes:
        sources: Names of the sources.
        errors: Errors after fine-tuning, (S, n); NaN for a source that cannot read a target.
        earlier: The same on the earlier targets, (S, e).
        scores: Negative errors of pilots and probes by name, each (S, n).
        seconds: Mean seconds of the pilots of all sources on a target that all of them read, by name.
    """

    sources: tuple[str, ...]
    errors: np.ndarray
    earlier: np.ndarray
    scores: Mapping[str, np.ndarray]
    seconds: Mapping[str, float]

    def of(self, numbers: list[int]) -> "Table":
        """Return the table of some of the sources, by their numbers."""
        scores = {name: values[numbers] for name, values in self.scores.items()}
        names = tuple(self.sources[number] for number in numbers)
        return Table(names, self.errors[numbers], self.earlier[numbers], scores, self.seconds)


def read_table() -> Table:
    """Return the table of the recorded lines."""
    trainings = lines.read_trainings(
        [lines.TRUTH / "ranking.jsonl", lines.THIRD / "history.jsonl", lines.THIRD / "choice.jsonl"]
    )
    return error_table(trainings, lines.part_lines("models"))


def error_table(trainings: Trainings, probes: list[Line]) -> Table:
    """Return the table of fine-tunings, with the cross-validated errors of linear probes.

    Args:
        trainings: Fine-tunings on the judging targets and on all others, which are the earlier ones.
        probes: Results of linear probes on the judging targets.
    """
    judging = list(lines.judging_targets())
    earlier = sorted({target for _, _, target, *_ in trainings} - set(judging))
    by_target = {
        name: np.full((len(SOURCES), len(earlier) + len(judging)), np.nan) for name in (lines.ALL, SHORT, THREE_RATES)
    }
    seconds = {name: np.zeros(len(earlier) + len(judging)) for name in (SHORT, THREE_RATES)}
    for row, source in enumerate(SOURCES):
        for column, target in enumerate([*earlier, *judging]):
            rate = lines.chosen_rate(trainings, source, target)
            if rate is None:
                continue
            halves = {one: trainings[lines.HALF, source, target, 0, one] for one in lines.RATES}
            whole = [trainings.get((lines.ALL, source, target, seed, rate), {}) for seed in range(SEEDS)]
            if tested := [lines.last_error(line) for line in whole if "errors" in line]:
                by_target[lines.ALL][row, column] = np.mean(tested) / 100
            middle = halves[lines.MIDDLE_RATE]
            by_target[SHORT][row, column] = middle["errors"][SHORT_EPOCHS] / 100
            by_target[THREE_RATES][row, column] = lines.last_error(halves[rate]) / 100
            seconds[SHORT][column] += middle["seconds"] * int(SHORT_EPOCHS) / int(lines.LAST_EPOCH)
            seconds[THREE_RATES][column] += sum(half["seconds"] for half in halves.values())
    errors = by_target[lines.ALL][:, len(earlier) :]
    is_read = np.isfinite(errors).all(axis=0)
    scores = {name: -by_target[name][:, len(earlier) :] for name in (SHORT, THREE_RATES)}
    return Table(
        SOURCES,
        errors,
        by_target[lines.ALL][:, : len(earlier)],
        {**scores, PROBE: _probe_scores(probes, judging)},
        {name: float(spent[len(earlier) :][is_read].mean()) for name, spent in seconds.items() if is_read.any()},
    )


def _probe_scores(probes: list[Line], targets: list[str]) -> np.ndarray:
    """Return the negative cross-validated error of each source's probe, (S, n); NaN where there is none."""
    errors = {
        (line["job"]["model"], line["job"]["target"]): line["validated"][str(lines.LARGEST)]
        for line in probes
        if line["job"]["part"] == "probe" and line.get("validated", {}).get(str(lines.LARGEST)) is not None
    }
    return -np.array([[errors.get((lines.model_name(name), target), np.nan) for target in targets] for name in SOURCES])


def regrets_of(scores: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the error of the source with the highest score minus the lowest error, in points, (n,).

    Args:
        scores: Score by source and target, (S, n); NaN where it is not defined. The errors of equal ones are averaged.
        errors: Error in [0, 1], (S, n); NaN for a source that cannot read a target, which is never chosen.
    """
    can_read = np.isfinite(errors)
    values = np.where(can_read, np.nan_to_num(scores, nan=LOWEST, neginf=LOWEST), -np.inf)
    is_chosen = can_read & (values == values.max(axis=0))
    has_choice = can_read.sum(axis=0) > 1
    regrets = np.full(errors.shape[1], np.nan)
    chosen = np.where(is_chosen, errors, 0.0).sum(axis=0)[has_choice] / is_chosen.sum(axis=0)[has_choice]
    regrets[has_choice] = 100 * (chosen - np.nanmin(errors[:, has_choice], axis=0))
    return regrets


def constant_scores(earlier: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return minus the mean error of each source on the earlier targets, less the mean of all sources there, (S, n).

    On targets that the source with the lowest mean cannot read, the earlier targets that it cannot read count alone.

    Args:
        earlier: Errors on the earlier targets, (S, e).
        errors: Errors on the judging targets, (S, n), which say only which source reads which target.
    """
    earlier = earlier[:, np.isfinite(earlier).any(axis=0)]
    centered = earlier - np.nanmean(earlier, axis=0)
    first = np.nanmean(centered, axis=1).argmin()
    scores = np.empty_like(errors)
    for unread in (True, False):
        group = np.isnan(earlier[first]) == unread
        of_group = centered[:, group] if group.any() else centered
        counts = np.isfinite(of_group).sum(axis=1)
        means = np.where(counts > 0, np.nansum(of_group, axis=1) / np.maximum(1, counts), np.inf)
        scores[:, np.isnan(errors[first]) == unread] = -means[:, None]
    return scores


def judged_regrets(table: Table) -> Regrets:
    """Return the regrets on the judging targets of the ways that need no model of the history."""
    ways = {RANDOM: np.zeros_like(table.errors), CONSTANT: constant_scores(table.earlier, table.errors), **table.scores}
    return {name: regrets_of(scores, table.errors) for name, scores in ways.items()}


def recorded_regrets() -> dict[str, Regrets]:
    """Return the regrets of `RECORDED` among all sources, among five, and without one of them (`without NAME`)."""
    record = json.loads((lines.THIRD / "choice_regrets.json").read_text(encoding="utf-8"))
    targets = lines.judging_targets()
    return {
        among: {way: np.array([of_targets[target] for target in targets], float) for way, of_targets in ways.items()}
        for among, ways in record.items()
    }


def all_regrets(table: Table) -> Regrets:
    """Return the regrets of all ways to choose among all sources."""
    regrets = judged_regrets(table) | recorded_regrets()[EVERY]
    return {name: regrets[name] for name in WAYS}


def pool_regrets(table: Table) -> Regrets:
    """Return the regrets of all ways to choose among five sources, the mean over 40 drawn pools that read a target."""
    every = list(combinations(range(len(table.sources)), POOL_SIZE))
    drawn = np.random.default_rng(0).choice(len(every), POOLS, replace=False)
    parts = [judged_regrets(table.of(list(every[number]))) for number in sorted(drawn)]
    regrets = {name: np.nanmean([part[name] for part in parts], axis=0) for name in parts[0]}
    regrets |= recorded_regrets()[FIVE]
    return {name: regrets[name] for name in WAYS}


def of_constant(regrets: Regrets, table: Table) -> Regrets:
    """Return the regrets with NaN on the judging targets that the constant source cannot read, which are texts."""
    constant = np.nanmean(table.earlier - np.nanmean(table.earlier, axis=0), axis=1).argmin()
    is_read = np.isfinite(table.errors[constant])
    return {name: np.where(is_read, values, np.nan) for name, values in regrets.items()}


def gain(regrets: Regrets, way: str = HISTORY_SHORT) -> pd.Series:
    """Return the regret of a way to choose minus that of the constant answer, by judging target with a choice."""
    return pd.Series(regrets[way] - regrets[CONSTANT], list(lines.judging_targets())).dropna()


def gains_without_sources(table: Table) -> dict[str, pd.Series]:
    """Return the gain of history with pilots of three epochs with each of the sources left out in turn."""
    recorded = recorded_regrets()
    parts = {}
    for left_out, source in enumerate(table.sources):
        rest = table.of([number for number in range(len(table.sources)) if number != left_out])
        parts[source] = gain(judged_regrets(rest) | recorded[f"without {source}"])
    return parts


def choice_tables(table: Table) -> list[PrintedTable]:
    """Return the tables of the answer."""
    regrets = all_regrets(table)
    primary = {"history and 3 epochs - constant answer, all sources": gain(regrets)}
    return [
        choice_table(regrets, EVERY),
        choice_table(of_constant(regrets, table), f"{EVERY}, without texts", table.seconds),
        choice_table(pool_regrets(table), f"{FIVE}, the mean over pools"),
        detectable_table(primary),
    ]


def choice_table(regrets: Regrets, among: str, seconds: Mapping[str, float] | None = None) -> PrintedTable:
    """Return the regrets with their intervals, and their differences to the constant answer and to the pilots alone.

    Args:
        regrets: Regrets by way to choose.
        among: The sources to choose from, in words.
        seconds: Mean seconds of the pilots of all sources on a target, on one core; None to leave them out.
    """
    has_choice = np.isfinite(regrets[CONSTANT])
    values = {name: of_way[has_choice] for name, of_way in regrets.items()}
    rows = []
    for name, of_way in values.items():
        pairs = ["" if other == name else _difference(of_way - values[other]) for other in (CONSTANT, SHORT)]
        spent: list[Any] = (
            [] if seconds is None else [next((f"{seconds[one]:.0f}" for one in seconds if one in name), "")]
        )
        rows.append([name, interval_text(of_way), *pairs, *spent])
    title = f"Mean regret in points on {has_choice.sum()} judging targets, among {among}"
    heads = ["way to choose", "regret [95 %]", f"minus {CONSTANT} [95 %]", f"minus {SHORT}"]
    return PrintedTable(title, [*heads, *([] if seconds is None else ["seconds"])], rows)


def _difference(values: np.ndarray) -> str:
    """Return a mean difference with its interval, and the p-value of Wilcoxon's signed-rank test."""
    p_value = stats.wilcoxon(exact_zeros(values)).pvalue if np.any(values) else 1.0
    return f"{interval_text(values)}, {p_value_text(p_value)}"
