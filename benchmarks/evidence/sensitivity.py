"""Primary differences of A, B and C (first part) with other weights of the targets, without some, and other choices."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from evidence import choice, lines
from evidence.choice import CONSTANT, Table
from evidence.lines import CONSTANT_SOURCE, LARGEST
from evidence.models import FINE_TUNING, Models, differences_table, model_table, range_text
from evidence.summaries import PrintedTable, detectable_table, exact_zeros, interval_text, without_largest

DOUBTFUL = ("article-languages", "human-populations", "influenza-years", "libras-movements", "solar-flares")
"""Targets of which many samples repeat another one, one that a source was trained for, and one on which the baselines
were changed after the protocol."""
QUESTIONS = {
    "A": "A: history and 3 epochs minus constant answer",
    "B": "B: best probe minus best baseline",
    "C": "C: best probe of all minus fine-tuning",
}


def first_part_tables(table: Table, models: Models) -> list[PrintedTable]:
    """Return the tables of question C, first part."""
    frame = models.chosen()
    differences = (frame["any probe"] - frame[FINE_TUNING]).dropna()
    probe = lines.model_name(CONSTANT_SOURCE)
    return [
        model_table(models),
        model_table(models.without_constant_probe(), f", without the probe of {probe}"),
        fine_tuned_table(table, models),
        sensitivity_table(table, models),
        further_table(table, models),
        detectable_table({f"best probe of all - fine-tuning of {CONSTANT_SOURCE}": differences}),
    ]


def fine_tuned_table(table: Table, models: Models) -> PrintedTable:
    """Return the fine-tuned sources that each way chooses, and the best of all in hindsight, beside the best baseline.

    The title has the numbers of learning rates that were chosen.
    """
    lowest = pd.Series(100 * np.nanmin(table.errors, axis=0), list(lines.judging_targets()))
    regrets, baselines = choice.all_regrets(table), models.chosen()["baseline"]
    rows = []
    for name in (CONSTANT, choice.HISTORY_SHORT, "best of all, known afterwards"):
        differences = exact_zeros((lowest + regrets.get(name, np.zeros(len(lowest))) - baselines).dropna())
        better, decided = int((differences < 0).sum()), int((differences != 0).sum())
        rows.append([name, interval_text(differences, counted=True), f"{better} of {decided}"])
    chosen = [_chosen_rates(sources, models) for sources in (table.sources, (CONSTANT_SOURCE,))]
    title = (
        f"Error of fine-tuned sources minus that of the best baseline, {LARGEST} labeled samples; "
        f"rates of all sources: {chosen[0]}; rates of {CONSTANT_SOURCE}: {chosen[1]}"
    )
    return PrintedTable(title, ["source", "minus best baseline [95 %]", "source is better"], rows)


def _chosen_rates(sources: tuple[str, ...], models: Models) -> str:
    rates = Counter(
        lines.chosen_rate(models.trainings, source, target) for source in sources for target in lines.judging_targets()
    )
    return ", ".join(f"{rates[rate]} of {rate:g}" for rate in sorted(lines.RATES))


def _has_middle_rate(differences: pd.Series, models: Models) -> list[bool]:
    targets = map(str, differences.index)
    return [lines.chosen_rate(models.trainings, CONSTANT_SOURCE, target) == lines.MIDDLE_RATE for target in targets]


def sensitivity_table(table: Table, models: Models) -> PrintedTable:
    """Return the primary differences as planned, and as the protocol's deviations of 2 December added them."""
    frame, equal = models.chosen(), models.equal()
    of_c = (frame["any probe"] - frame[FINE_TUNING]).dropna()
    planned = {
        "A": choice.gain(choice.all_regrets(table)),
        "B": (frame["probe"] - frame["baseline"]).dropna(),
        "C": of_c,
    }
    kinds, packages = lines.judging_targets(), lines.source_packages()
    without = choice.gains_without_sources(table)

    def each(change: Callable[[pd.Series], pd.Series]) -> dict[str, pd.Series]:
        return {question: change(one) for question, one in planned.items()}

    rows: dict[str, Mapping[str, pd.Series]] = {
        "as planned": planned,
        "one mean for each kind": each(lambda one: one.groupby(kinds).mean()),
        "one mean for each package": each(lambda one: one.groupby(packages).mean()),
        "without doubtful targets": each(lambda one: one.drop(list(DOUBTFUL), errors="ignore")),
        f"without {CONSTANT_SOURCE}": {"A": without[CONSTANT_SOURCE]},
        "mean over equal cross-validated errors": {
            "B": (equal["probe"] - equal["baseline"]).dropna(),
            "C": (equal["any probe"] - frame[FINE_TUNING]).dropna(),
        },
        "rate of fine-tuning not at an edge": {"C": of_c[_has_middle_rate(of_c, models)]},
    }
    none = pd.Series(dtype=float)
    cells = [
        [name, *(interval_text(of_row.get(question, none), counted=True) for question in QUESTIONS)]
        for name, of_row in rows.items()
    ]
    left_out = each(lambda one: (one.sum() - one) / (len(one) - 1))
    cells.append(["one target left out", *(range_text(left_out[question].to_numpy()) for question in QUESTIONS)])
    cells.append(["one source left out", range_text(np.array([one.mean() for one in without.values()])), "", ""])
    title = "Primary differences in points, with 95 % intervals and the number of means that they are over"
    return PrintedTable(title, ["analysis", *QUESTIONS.values()], cells)


def further_table(table: Table, models: Models) -> PrintedTable:
    """Return differences that were not declared: other rules for equal errors, and what readers asked for."""
    frame, of_a = models.chosen(), choice.gain(choice.all_regrets(table))
    pooled = choice.of_constant(choice.pool_regrets(table), table)
    in_order = table.scores[choice.PROBE] - 1e-9 * np.arange(len(table.sources))[:, None]
    first = choice.judged_regrets(replace(table, scores={choice.PROBE: in_order}))
    best_probe = (frame["probe"] - frame["baseline"]).dropna()
    is_table = best_probe.index.isin(list(models.tabular()))
    start = f"A: {choice.HISTORY_SHORT} - {CONSTANT}"
    rows = {
        f"{start}, without the target with the largest difference": without_largest(of_a),
        f"{start}, {choice.FIVE}, without texts": choice.gain(pooled),
        f"A: {choice.PROBE} - {CONSTANT}, first of equal errors": choice.gain(first, choice.PROBE),
        "B: lowest cross-validated error of all - best baseline": (frame["any"] - frame["baseline"]).dropna(),
        "B: the same without random-weights probes": best_probe.where(frame["validated"] < 0, 0.0).dropna(),
        "B: best probe - best baseline, samples are rows of a table": best_probe[is_table],
        "B: best probe - best baseline, all other samples": best_probe[~is_table],
    }
    for size in lines.SIZES:
        equal = models.equal(size)
        name = f"B: best probe - best baseline, {size} labeled, mean over equal errors"
        rows[name] = (equal["probe"] - equal["baseline"]).dropna()
    baseline, chosen = ((frame[name] - frame[FINE_TUNING]).dropna() for name in ("baseline", "any"))
    rows["C: best baseline - fine-tuning, rate not at an edge"] = baseline[_has_middle_rate(baseline, models)]
    for name, differences in {"best baseline": baseline, "lowest cross-validated error of all": chosen}.items():
        start = f"C: {name} - fine-tuning"
        rows[f"{start}, one mean for each kind"] = differences.groupby(lines.judging_targets()).mean()
        rows[f"{start}, without doubtful targets"] = differences.drop(list(DOUBTFUL), errors="ignore")
        rows[f"{start}, without the target with the largest difference"] = without_largest(differences)
    return differences_table("Differences in points that were not declared before the answers", rows)
