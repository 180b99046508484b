"""Questions B and C of the third edition: baselines, probes, fine-tuning and whole transfers on the judging targets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from result_log import ResultLog
from scipy import stats

from evidence.model_tables import CONSTANT, FINE_TUNING, PARTS, chosen_models, percent
from evidence.replay_tables import PrintedTable
from evidence.third_jobs import SIZES, all_judging_targets, judging_targets, last_error
from evidence.two_way import target_interval
from modgap.ranking.history.measure import ALL, HALF, RATES, Training, best_rate

ALL_KINDS = "all"
FEWEST = 4
"""Targets of a kind of which a conclusion may be drawn."""
LARGEST = SIZES[-1]
TRANSFER = "transfer, 10 minutes"


def chosen_table(results: Sequence[Mapping[str, Any]], size: int, choices: ResultLog) -> pd.DataFrame:
    """Return the errors of the models that cross-validation chooses, a row for each judging target with classes.

    Args:
        results: Results of the baselines and probes.
        size: Number of labeled samples.
        choices: Results of question A, which have the fine-tuning of the constant source on 128 labeled samples.

    Returns:
        Columns `kind`, one for each of `PARTS` with the test error in percent, `fine-tuning`, and
        `validated`, the cross-validated error of the best probe minus that of the best baseline.
    """
    kinds = judging_targets()
    rows = {}
    for target, chosen in chosen_models(results, size).items():
        if target not in kinds:
            continue
        row = {name: float(model["errors"][str(size)]) for name, model in chosen.items()}
        if size == LARGEST and (error := constant_error(choices, target)) is not None:
            row[FINE_TUNING] = error
        if "probe" in chosen and "baseline" in chosen:
            validated = [float(chosen[name]["validated"][str(size)]) for name in ("probe", "baseline")]
            row["validated"] = validated[0] - validated[1]
        rows[target] = {"kind": kinds[target], **row}
    return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=["kind", *PARTS, FINE_TUNING, "validated"])


def constant_error(choices: ResultLog, target: str) -> float | None:
    """Return the test error in percent of the constant source after fine-tuning; None if it cannot read the target."""
    halves = {rate: choices.get(Training(HALF, CONSTANT, target, 0, rate)) for rate in RATES}
    rate = best_rate({rate: last_error(half) for rate, half in halves.items() if half and "errors" in half})
    whole = None if rate is None else choices.get(Training(ALL, CONSTANT, target, 0, rate))
    return last_error(whole) if whole else None


def baseline_answer(results: Sequence[Mapping[str, Any]], choices: ResultLog) -> PrintedTable:
    """Return the errors of the best probe and the best baseline by kind and number of labeled samples (question B)."""
    rows = []
    for size in SIZES:
        frame = chosen_table(results, size, choices).dropna(subset=["probe", "baseline"])
        groups = [*((str(kind), of_kind) for kind, of_kind in frame.groupby("kind")), (ALL_KINDS, frame)]
        for kind, of_kind in groups:
            differences = (of_kind["probe"] - of_kind["baseline"]).to_numpy()
            decided = int((differences != 0).sum())
            share = percent(int((differences < 0).sum()), decided) if decided else ""
            means = [f"{of_kind[name].mean():.1f}" for name in ("probe", "baseline")]
            better = ("probe" if differences.mean() < 0 else "baseline") if is_decided(differences) else "not shown"
            rows.append([str(size), kind, str(len(of_kind)), *means, _interval(differences), share, better])
    heads = [
        "labeled", "kind", "targets", "best probe", "best baseline", "probe minus baseline [95 %]",
        "probe is better [95 %]", "better",
    ]  # fmt: skip
    return PrintedTable("Mean test errors in percent", heads, rows)


def foresight(frame: pd.DataFrame) -> tuple[int, int, int]:
    """Return how often the sign of probe minus baseline is that of the cross-validated errors, and the more frequent.

    Args:
        frame: Result of `chosen_table`.

    Returns:
        Number of targets whose sign is foreseen, that of targets with the more frequent sign, and that of all targets
        with a difference. Equal cross-validated errors foresee that the baseline is better.
    """
    differences = (frame["probe"] - frame["baseline"]).to_numpy()
    differs = np.isfinite(differences) & (differences != 0)
    is_better = differences[differs] < 0
    foreseen = frame["validated"].to_numpy()[differs] < 0
    n_better = int(is_better.sum())
    return int((foreseen == is_better).sum()), max(n_better, len(is_better) - n_better), len(is_better)


def foresight_answer(results: Sequence[Mapping[str, Any]], choices: ResultLog) -> PrintedTable:
    """Return on how many targets it is foreseen whether the best probe or the best baseline has the lower error."""
    rows = []
    for size in SIZES:
        foreseen, constant, number = foresight(chosen_table(results, size, choices))
        shares = [percent(count, number) if number else "" for count in (foreseen, constant)]
        rows.append([str(size), str(number), *shares])
    heads = ["labeled", "targets", "foreseen by cross-validation", "by always naming the more frequent one"]
    return PrintedTable("Is it foreseen whether the best probe or the best baseline is better?", heads, rows)


def model_answer(results: Sequence[Mapping[str, Any]], choices: ResultLog) -> PrintedTable:
    """Return what cross-validation chooses minus the fine-tuning of the constant source (question C, first part)."""
    frame = chosen_table(results, LARGEST, choices)
    rows = []
    for name in PARTS:
        pairs = frame[[name, FINE_TUNING]].dropna()
        differences = (pairs[name] - pairs[FINE_TUNING]).to_numpy()
        decided = int((differences != 0).sum())
        means = [f"{pairs[column].mean():.1f}" for column in (name, FINE_TUNING)]
        share = percent(int((differences < 0).sum()), decided) if decided else ""
        rows.append([name, str(len(pairs)), *means, _interval(differences), share])
    heads = ["model", "targets", "its error", f"fine-tuning of {CONSTANT}", "difference [95 %]", "better [95 %]"]
    title = f"Mean test errors in percent, {LARGEST} labeled samples, of the models that cross-validation chooses"
    return PrintedTable(title, heads, rows)


def transfer_answer(errors: pd.DataFrame) -> PrintedTable:
    """Return the regret of each strategy, and how far whole transfers are from it (question C, second part).

    Args:
        errors: Test errors in percent, a row for each target and a column for each strategy; only targets on which all
            strategies have one count.
    """
    complete = errors.dropna()
    regrets = complete.sub(complete.min(axis=1), axis=0)
    rows = []
    for name in complete:
        values = regrets[name].to_numpy()
        difference = (complete[TRANSFER] - complete[name]).to_numpy()
        cells = [f"{complete[name].mean():.1f}", _interval(values), f"{values.max():.1f}"]
        rows.append([str(name), *cells, "" if name == TRANSFER else _interval(difference)])
    heads = ["strategy", "error", "regret [95 %]", "largest", f"{TRANSFER}, minus it [95 %]"]
    return PrintedTable(f"Mean test errors and regrets on {len(complete)} judging targets", heads, rows)


def other_answer(results: Sequence[Mapping[str, Any]]) -> PrintedTable:
    """Return the errors of the judging targets without one class a sample, in percent of the variance."""
    chosen = chosen_models(results, LARGEST)
    others = sorted((set(all_judging_targets()) - set(judging_targets())) & set(chosen))
    rows = [[target, *_errors(chosen[target])] for target in others]
    return PrintedTable("Errors of targets without classes, in percent of the variance", ["target", *PARTS], rows)


def _errors(chosen: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [f"{chosen[name]['errors'][str(LARGEST)]:.1f}" if name in chosen else "" for name in PARTS]


def _interval(values: np.ndarray) -> str:
    if len(values) < 2:
        return f"{values.mean():.1f}" if len(values) else ""
    interval = target_interval(values)
    return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def is_decided(differences: np.ndarray) -> bool:
    """Return True if a mean difference over enough targets has an interval that excludes 0."""
    if len(differences) < FEWEST:
        return False
    return bool(stats.ttest_1samp(differences, 0).pvalue < 0.05) if np.ptp(differences) else bool(differences[0])
