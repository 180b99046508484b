"""Sensitivity of the primary differences of A, B and C (first part), declared before any of them was computed."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from result_log import ResultLog

from evidence.model_tables import CONSTANT as CONSTANT_SOURCE
from evidence.model_tables import FINE_TUNING, best_models
from evidence.replay_tables import SHORT, PrintedTable
from evidence.selection import CONSTANT, HISTORY, Table
from evidence.third_choice import EARLIER, PROBE, judged_pool_regrets, judged_regrets, of_constant
from evidence.third_jobs import SIZES, judging_targets
from evidence.third_models import LARGEST, TRANSFER, chosen_table, in_order, rate_of
from evidence.two_way import exact_zeros, target_interval
from modgap.ranking.history.measure import MIDDLE_RATE, RATES
from modgap.targets.named_manifests import named_manifest

DOUBTFUL = ("article-languages", "human-populations", "influenza-years", "libras-movements", "solar-flares")
"""Targets of which many samples repeat another one, one that a source was trained for, and one on which the baselines
were changed after the protocol."""
QUESTIONS = {
    "A": "A: history and 3 epochs minus constant answer",
    "B": "B: best probe minus best baseline",
    "C": "C: best probe of all minus fine-tuning",
}


def sensitivity_answer(table: Table, results: Sequence[Mapping[str, Any]], choices: ResultLog) -> PrintedTable:
    """Return the primary differences with other weights of the targets, without some, and with other choices.

    Args:
        table: Result of `error_table`.
        results: Results of the baselines and probes.
        choices: Results of question A.
    """
    frame, equal = chosen_table(results, LARGEST, choices), equal_errors(results)
    of_a, of_c = gain_of_history(table), (frame["any probe"] - frame[FINE_TUNING]).dropna()
    of_b = (frame["probe"] - frame["baseline"]).dropna()
    planned = {"A": of_a, "B": of_b, "C": of_c}
    kinds = judging_targets()
    packages = {target: artifact.name for target in kinds if (artifact := named_manifest(target).artifact)}
    rows = {"as planned": planned}
    rows |= {f"one mean for each {name}": _each(planned, lambda one, groups=groups: one.groupby(groups).mean())
             for name, groups in (("kind", kinds), ("package", packages))}  # fmt: skip
    rows["without doubtful targets"] = _each(planned, lambda one: one.drop(list(DOUBTFUL), errors="ignore"))
    without = {source: gain_of_history(_without(table, source)) for source in table.models}
    rows[f"without {CONSTANT_SOURCE}"] = {"A": without[CONSTANT_SOURCE]}
    rows["mean over equal cross-validated errors"] = {
        "B": (equal["probe"] - equal["baseline"]).dropna(),
        "C": (equal["any probe"] - frame[FINE_TUNING]).dropna(),
    }
    rows["rate of fine-tuning not at an edge"] = {"C": of_c[_has_middle_rate(of_c, choices)]}
    cells = [[name, *(_interval(of_row.get(question)) for question in QUESTIONS)] for name, of_row in rows.items()]
    left_out = {question: (one.sum() - one) / (len(one) - 1) for question, one in planned.items()}
    cells.append(["one target left out", *(_range(left_out[question]) for question in QUESTIONS)])
    cells.append(["one source left out", _range(np.array([one.mean() for one in without.values()])), "", ""])
    title = "Primary differences in points, with 95 % intervals and the number of means that they are over"
    return PrintedTable(title, ["analysis", *QUESTIONS.values()], cells)


def gain_of_history(table: Table) -> pd.Series:
    """Return the regret of history with pilots of three epochs minus that of the constant answer, by judging target."""
    return _gain(judged_regrets(table), HISTORY.format(SHORT), table)


def _gain(regrets: Mapping[str, np.ndarray], way: str, table: Table) -> pd.Series:
    return pd.Series(regrets[way] - regrets[CONSTANT], list(table.targets[len(EARLIER) :])).dropna()


def _without(table: Table, source: str) -> Table:
    return table.of(np.array([number for number, name in enumerate(table.models) if name != source]))


def equal_errors(results: Sequence[Mapping[str, Any]], size: int = LARGEST) -> pd.DataFrame:
    """Return the mean test errors of the models with the lowest cross-validated error, by target and kind of model."""
    rows = {
        target: {name: np.mean([model["errors"][str(size)] for model in models]) for name, models in of_parts.items()}
        for target, of_parts in best_models(in_order(results), size).items()
        if target in judging_targets()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def further_answer(table: Table, results: Sequence[Mapping[str, Any]], choices: ResultLog) -> PrintedTable:
    """Return differences that were not declared: other rules for equal errors, and what readers asked for.

    Args:
        table: Result of `error_table`.
        results: Results of the baselines and probes.
        choices: Results of question A.
    """
    frame = chosen_table(results, LARGEST, choices)
    history, of_a = HISTORY.format(SHORT), gain_of_history(table)
    pooled = of_constant(judged_pool_regrets(table), table)
    probes = table.scores[PROBE] - 1e-9 * np.arange(len(table.models))[:, None]
    first = judged_regrets(replace(table, scores={PROBE: probes}))
    baseline, chosen = ((frame[name] - frame[FINE_TUNING]).dropna() for name in ("baseline", "any"))
    best_probe = (frame["probe"] - frame["baseline"]).dropna()
    is_table = best_probe.index.isin(list(tabular_targets(results)))
    kinds = judging_targets()
    rows = {
        f"A: {history} - {CONSTANT}, without the target with the largest difference": of_a.drop(of_a.abs().idxmax()),
        f"A: {history} - {CONSTANT}, five sources, without texts": _gain(pooled, history, table),
        f"A: {PROBE} - {CONSTANT}, first of equal errors": _gain(first, PROBE, table),
        "B: lowest cross-validated error of all - best baseline": (frame["any"] - frame["baseline"]).dropna(),
        "B: the same without random-weights probes": best_probe.where(frame["validated"] < 0, 0.0).dropna(),
        "B: best probe - best baseline, samples are rows of a table": best_probe[is_table],
        "B: best probe - best baseline, all other samples": best_probe[~is_table],
    }
    for size in SIZES:
        equal = equal_errors(results, size)
        name = f"B: best probe - best baseline, {size} labeled, mean over equal errors"
        rows[name] = (equal["probe"] - equal["baseline"]).dropna()
    rows["C: best baseline - fine-tuning, rate not at an edge"] = baseline[_has_middle_rate(baseline, choices)]
    for name, differences in {"best baseline": baseline, "lowest cross-validated error of all": chosen}.items():
        start = f"C: {name} - fine-tuning"
        rows[f"{start}, one mean for each kind"] = differences.groupby(kinds).mean()
        rows[f"{start}, without doubtful targets"] = differences.drop(list(DOUBTFUL), errors="ignore")
        rows[f"{start}, without the target with the largest difference"] = differences.drop(differences.abs().idxmax())
    title = "Differences in points that were not declared before the answers"
    return PrintedTable(title, ["difference", "[95 %]"], [[name, _interval(one)] for name, one in rows.items()])


def transfer_further_answer(errors: pd.DataFrame, tabular: Collection[str]) -> PrintedTable:
    """Return differences between strategies that were not declared (question C, second part).

    Args:
        errors: Test errors in percent, a row for each target and a column for each strategy.
        tabular: Targets whose samples are rows of a table.
    """
    baseline, probe, tuned = (errors[name] for name in ("best baseline", "best probe of all sources", "fine-tuning"))
    whole, of_probe = errors[TRANSFER] - baseline, probe - baseline
    is_table = errors.index.isin(list(tabular))
    start = f"{TRANSFER} - best baseline"
    rows = {
        f"{TRANSFER} - 2 minutes": errors[TRANSFER] - errors["transfer, 2 minutes"],
        f"{start}, without the target with the largest difference": whole.drop(whole.abs().idxmax()),
        f"{start}, one mean for each kind": whole.groupby(judging_targets()).mean(),
        f"{start}, samples are rows of a table": whole[is_table],
        f"{start}, all other samples": whole[~is_table],
        "best probe of all sources - best baseline": of_probe,
        "the same, without the target with the largest difference": of_probe.drop(of_probe.abs().idxmax()),
        "fine-tuning - best baseline": tuned - baseline,
        "fine-tuning - best probe of all sources": tuned - probe,
        "fine-tuning - scratch": tuned - errors["scratch"],
    }
    title = "Differences in points that were not declared before the answer"
    return PrintedTable(title, ["difference", "[95 %]"], [[name, _interval(one)] for name, one in rows.items()])


def tabular_targets(results: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the targets whose samples are rows of a table, by the results of their baselines and probes."""
    return {one["job"]["target"] for one in results if one["kind"] == "table"}


def fine_tuned_answer(table: Table, results: Sequence[Mapping[str, Any]], choices: ResultLog) -> PrintedTable:
    """Return the fine-tuned sources that each way chooses, and the best of all in hindsight, beside the best baseline.

    The title has the numbers of learning rates that were chosen.
    """
    errors = pd.DataFrame(100 * table.errors, columns=list(table.targets)).iloc[:, len(EARLIER) :]
    lowest, regrets = errors.min(), judged_regrets(table)
    baselines = chosen_table(results, LARGEST, choices)["baseline"]
    rows = []
    for name in (CONSTANT, HISTORY.format(SHORT), "best of all, known afterwards"):
        differences = exact_zeros((lowest + regrets.get(name, np.zeros(len(lowest))) - baselines).dropna())
        better, decided = int((differences < 0).sum()), int((differences != 0).sum())
        rows.append([name, _interval(differences), f"{better} of {decided}"])
    chosen = [_chosen_rates(sources, choices) for sources in (list(table.models), [CONSTANT_SOURCE])]
    title = (
        f"Error of fine-tuned sources minus that of the best baseline, {LARGEST} labeled samples; "
        f"rates of all sources: {chosen[0]}; rates of {CONSTANT_SOURCE}: {chosen[1]}"
    )
    return PrintedTable(title, ["source", "minus best baseline [95 %]", "source is better"], rows)


def _chosen_rates(sources: Sequence[str], choices: ResultLog) -> str:
    chosen = Counter(rate_of(source, choices, target) for source in sources for target in judging_targets())
    return ", ".join(f"{chosen[rate]} of {rate:g}" for rate in sorted(RATES))


def _has_middle_rate(differences: pd.Series, choices: ResultLog) -> list[bool]:
    return [rate_of(CONSTANT_SOURCE, choices, str(target)) == MIDDLE_RATE for target in differences.index]


def _each(planned: Mapping[str, pd.Series], change: Callable[[pd.Series], pd.Series]) -> dict[str, pd.Series]:
    return {question: change(one) for question, one in planned.items()}


def _interval(values: pd.Series | None) -> str:
    if values is None or len(values) < 2:
        return ""
    interval = target_interval(values.to_numpy())
    return f"{_shown(interval.mean)} [{_shown(interval.low)}, {_shown(interval.high)}] ({len(values)})"


def _shown(value: float) -> str:
    """Return a number with one decimal, and 0.0 without a sign."""
    return f"{round(value, 1) + 0.0:.1f}"


def _range(means: Any) -> str:
    return f"{_shown(means.min())} to {_shown(means.max())}"
