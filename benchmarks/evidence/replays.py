"""Replays: what history and pilots choose on targets that they were not fitted on, and how sure they are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement, pairwise

import numpy as np
from scipy.stats import norm

from evidence.controls import right
from evidence.selection import (
    CONSTANT,
    HISTORY,
    Choice,
    Table,
    Variables,
    choices,
    history_stages,
    judge_forecasts,
)
from evidence.two_way import MeanInterval, regrets, target_interval
from modgap.ranking.history.model import Forecast
from modgap.statistics.intervals import wilson_interval

N_POOLS, POOL_SIZE = 40, 5
"""Pools of sources that are drawn, and the number of sources of one."""
DRAWS = 20
"""Short histories that are drawn for each target."""
LEVEL = 0.8
"""Level of the intervals of expected errors."""


# Pools of sources


def pools(n_models: int, seed: int = 0) -> list[list[int]]:
    """Return the numbers of the models of different pools, drawn without replacement."""
    every = list(combinations(range(n_models), POOL_SIZE))
    drawn = np.random.default_rng(seed).choice(len(every), min(N_POOLS, len(every)), replace=False)
    return [list(every[number]) for number in sorted(drawn)]


def pool_regrets(table: Table) -> dict[str, np.ndarray]:
    """Return the regret of each way to choose among five sources whose history alone is known, by target, (n,)."""
    parts = [choices(table.of(np.array(pool))) for pool in pools(len(table.models))]
    return {name: np.mean([part[name].regrets for part in parts], axis=0) for name in parts[0]}


def new_source_regrets(table: Table, pool: Sequence[int], new: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the regret of each pilot of some sources, alone and with a history that lacks some of them, (n,).

    Args:
        table: The table.
        pool: Numbers of the sources to choose from.
        new: Numbers of the sources without history, in the pool or not.
    """
    variables, part = Variables.of(table), table.of(np.array(pool))
    earlier_models = [number for number in range(len(table.models)) if number not in new]
    rows = [earlier_models.index(number) if number in earlier_models else None for number in pool]
    targets = range(len(table.targets))
    models = [variables.without([target], earlier_models) for target in targets]
    by_pool = {}
    for stage, names in table.stages.items():
        observed = variables.observed(names)
        forecasts = [variables.forecast(model, target, observed, pool, rows) for target, model in enumerate(models)]
        by_pool[stage] = 100 * regrets(-part.pilots[stage], part.errors, np.arange(len(pool)), np.array(targets))
        by_pool[HISTORY.format(stage)] = judge_forecasts(part.errors, forecasts).regrets
    return by_pool


# More pilots, and fewer targets


def after_more_pilots(table: Table, stage: str, more: str, counts: Sequence[int]) -> dict[int, Choice]:
    """Return what is chosen where the first few sources by the forecast of a stage get the pilots of another one.

    Args:
        table: The table.
        stage: Name of the stage that all sources have.
        more: Name of the stage that the first few sources reach.
        counts: Numbers of these sources.
    """
    variables = Variables.of(table)
    forecasts: dict[int, list[Forecast]] = {count: [] for count in counts}
    for target in range(len(table.targets)):
        model, known = variables.without([target]), variables.observed(table.stages[stage])
        order = variables.forecast(model, target, known).error.argsort(kind="stable")
        for count in counts:
            observed = known | variables.observed(table.stages[more], order[:count])
            forecasts[count].append(variables.forecast(model, target, observed))
    return {count: judge_forecasts(table.errors, found) for count, found in forecasts.items()}


def short_history_regrets(table: Table, length: int, stages: Sequence[str], seed: int = 0) -> dict[str, np.ndarray]:
    """Return the regrets with histories of a few other targets, (n,), the mean over the histories that are drawn.

    Args:
        table: The table.
        length: Number of targets of a history.
        stages: Names of the stages that history is combined with.
        seed: Seed of the draws.
    """
    variables = Variables.of(table)
    n_models, n_targets = table.errors.shape
    rng = np.random.default_rng(seed)
    ways = {HISTORY.format(stage): variables.observed(table.stages[stage]) for stage in stages}
    by_way: dict[str, list[float]] = {name: [] for name in (CONSTANT, *ways)}
    for target in range(n_targets):
        others = np.delete(np.arange(n_targets), target)
        drawn = [rng.choice(others, length, replace=False) for _ in range(DRAWS if length < len(others) else 1)]
        models = [variables.fitted(history) for history in drawn]
        errors = np.repeat(table.errors[:, [target]], len(drawn), axis=1)
        means = np.stack([table.errors[:, history].mean(axis=1) for history in drawn], axis=1)
        by_way[CONSTANT].append(100 * regrets(-means, errors, np.arange(n_models), np.arange(len(drawn))).mean())
        for name, observed in ways.items():
            forecasts = [variables.forecast(model, target, observed) for model in models]
            by_way[name].append(judge_forecasts(errors, forecasts).regrets.mean())
    return {name: np.array(values) for name, values in by_way.items()}


# Calibration


@dataclass(frozen=True)
class Calibration:
    """How well the 80 % intervals of expected errors hold, and what a factor of their width would change.

    Attributes:
        width: Mean width of the intervals in points.
        factor: Factor of the standard deviations with which 80 % of the other targets' errors are in their intervals,
            the mean over targets.
        covered: Share of the errors in their intervals.
        corrected: Share of the errors in the intervals with the factor that the other targets choose.
        gain: Interval score with this factor minus that without one, in points; below 0 is better.
    """

    width: float
    factor: float
    covered: MeanInterval
    corrected: MeanInterval
    gain: MeanInterval


def left_out_forecasts(table: Table) -> dict[str, list[Forecast]]:
    """Return the forecast of each target by stage, the first without pilots, from models fitted on the others."""
    variables = Variables.of(table)
    models = [variables.without([target]) for target in range(len(table.targets))]
    return {
        name: [variables.forecast(model, target, variables.observed(known)) for target, model in enumerate(models)]
        for name, known in history_stages(table).items()
    }


def calibrations(table: Table) -> dict[str, Calibration]:
    """Return how well intervals hold at each stage, the first without pilots, from models fitted on other targets.

    The factor of a target comes from the other ones, each of which is forecast without both.
    """
    variables, n_targets = Variables.of(table), len(table.targets)
    pairs = {pair: variables.without(sorted(set(pair))) for pair in combinations_with_replacement(range(n_targets), 2)}
    by_stage = {}
    for name, known in history_stages(table).items():
        observed = variables.observed(known)
        forecasts = {}
        for (one, other), model in pairs.items():
            forecasts[one, other] = variables.forecast(model, one, observed)
            forecasts[other, one] = variables.forecast(model, other, observed)
        by_stage[name] = _calibration(variables, table.errors, forecasts)
    return by_stage


def _calibration(
    variables: Variables, errors: np.ndarray, forecasts: Mapping[tuple[int, int], Forecast]
) -> Calibration:
    """Return how well the forecasts of each target hold that leave out the target and another one."""
    distances = {
        pair: np.abs(variables.z[:, pair[0], 0] - one.mean) / np.sqrt(one.variance) for pair, one in forecasts.items()
    }
    covered, corrected, widths, gains, factors = [], [], [], [], []
    for target, values in enumerate(errors.T):
        others = [distance for (one, other), distance in distances.items() if other == target != one]
        factors.append(float(np.quantile(np.concatenate(others), LEVEL) / norm.ppf((1 + LEVEL) / 2)))
        own = forecasts[target, target]
        ends = own.interval(LEVEL)
        scaled = replace(own, variance=factors[-1] ** 2 * own.variance).interval(LEVEL)
        covered.append(_inside(values, ends).mean())
        corrected.append(_inside(values, scaled).mean())
        widths.append(100 * np.diff(ends).mean())
        gains.append(100 * (_interval_score(values, scaled) - _interval_score(values, ends)).mean())
    means = (target_interval(np.array(one)) for one in (covered, corrected, gains))
    return Calibration(float(np.mean(widths)), float(np.mean(factors)), *means)


def _inside(errors: np.ndarray, ends: np.ndarray) -> np.ndarray:
    inside: np.ndarray = (ends[:, 0] <= errors) & (errors <= ends[:, 1])
    return inside


def _interval_score(errors: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the interval score of Gneiting and Raftery (2007): the width, and a penalty of errors outside."""
    low, high = ends.T
    beyond = np.maximum(low - errors, 0) + np.maximum(errors - high, 0)
    score: np.ndarray = high - low + 2 / (1 - LEVEL) * beyond
    return score


@dataclass(frozen=True)
class ReliabilityBin:
    """Forecast probabilities in a range, and how often what they forecast happened.

    Attributes:
        low: Lower end of the range.
        high: Upper end.
        count: Number of forecasts.
        forecast: Mean of the probabilities.
        share: Share of them that happened.
        interval: Its 95 % interval by Wilson, which takes the forecasts as independent.
    """

    low: float
    high: float
    count: int
    forecast: float
    share: float
    interval: tuple[float, float]


def reliability(probabilities: np.ndarray, happened: np.ndarray, edges: Sequence[float]) -> Iterator[ReliabilityBin]:
    """Yield how often what was forecast happened, by ranges of the probability that have any.

    Args:
        probabilities: Probabilities.
        happened: What happened, 0 or 1, or a share in between; of the same shape.
        edges: Ends of the ranges, of which the last one includes its upper end.
    """
    numbers = np.minimum(np.digitize(probabilities, edges) - 1, len(edges) - 2)
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = numbers == number
        if count := int(inside.sum()):
            total = int(happened[inside].sum())
            interval = wilson_interval(total, count)
            yield ReliabilityBin(low, high, count, float(probabilities[inside].mean()), total / count, interval)


def is_best(errors: np.ndarray) -> np.ndarray:
    """Return 1 for the model with the lowest error on each target, (S, n); models with equal errors share it."""
    best: np.ndarray = errors == errors.min(axis=0)
    return best


def record_against_controls(errors: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Return on which share of the other targets a source had a lower error than its control, (S, n).

    Args:
        errors: Errors of the sources, (S, n).
        controls: Errors of the same networks with random weights, (S, n). Equal errors count half.
    """
    wins = right(np.ones_like(errors), controls - errors)
    record: np.ndarray = (wins.sum(axis=1, keepdims=True) - wins) / (wins.shape[1] - 1)
    return record
