"""Questions B and C of the third edition: baselines, probes, fine-tuning and whole transfers on the judging targets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from result_log import ResultLog
from scipy import stats
from statsmodels.stats.multitest import multipletests

from evidence.model_jobs import jobs
from evidence.model_tables import CONSTANT, FINE_TUNING, PARTS, chosen_models, percent
from evidence.replay_tables import PrintedTable
from evidence.third_jobs import SIZES, all_judging_targets, judging_targets, last_error, models_design
from evidence.two_way import exact_zeros, target_interval
from modgap.ranking.history.measure import ALL, HALF, RATES, Training, best_rate
from modgap.ranking.source_patterns import split_input_size

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
    for target, chosen in chosen_models(in_order(results), size).items():
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


def in_order(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return results in the order of the jobs, which decides between equal cross-validated errors."""
    order = {(job.part, job.model, job.target): number for number, job in enumerate(jobs(models_design()))}

    def place(result: Mapping[str, Any]) -> int:
        job = result["job"]
        return order.get((job["part"], job["model"], job["target"]), len(order))

    return sorted(results, key=place)


def constant_error(choices: ResultLog, target: str) -> float | None:
    """Return the test error in percent of the constant source after fine-tuning; None if it cannot read the target."""
    rate = rate_of(CONSTANT, choices, target)
    whole = None if rate is None else choices.get(Training(ALL, CONSTANT, target, 0, rate))
    return last_error(whole) if whole else None


def rate_of(source: str, choices: ResultLog, target: str) -> float | None:
    """Return the rate that a source chose on one half of the labeled samples; None if it cannot read the target."""
    halves = {rate: choices.get(Training(HALF, source, target, 0, rate)) for rate in RATES}
    return best_rate({rate: last_error(half) for rate, half in halves.items() if half and "errors" in half})


def baseline_answer(results: Sequence[Mapping[str, Any]], choices: ResultLog) -> PrintedTable:
    """Return the errors of the best probe and the best baseline by kind and number of labeled samples (question B).

    One of them is called better on a kind with 128 labeled samples alone, by p-values that Holm's method corrects for
    the number of kinds with at least four targets.
    """
    rows = []
    for size in SIZES:
        frame = chosen_table(results, size, choices).dropna(subset=["probe", "baseline"])
        better = better_sides(frame) if size == LARGEST else {}
        groups = [*((str(kind), of_kind) for kind, of_kind in frame.groupby("kind")), (ALL_KINDS, frame)]
        for kind, of_kind in groups:
            differences = exact_zeros((of_kind["probe"] - of_kind["baseline"]).to_numpy())
            decided = int((differences != 0).sum())
            share = percent(int((differences < 0).sum()), decided) if decided else ""
            means = [f"{of_kind[name].mean():.1f}" for name in ("probe", "baseline")]
            cells = [*means, _interval(differences), share, better.get(kind, "")]
            rows.append([str(size), kind, str(len(of_kind)), *cells])
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
    differences = exact_zeros((frame["probe"] - frame["baseline"]).to_numpy())
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


def model_answer(
    results: Sequence[Mapping[str, Any]], choices: ResultLog, *, with_constant: bool = True
) -> PrintedTable:
    """Return what cross-validation chooses minus the fine-tuning of the constant source (question C, first part).

    Args:
        results: Results of the baselines and probes.
        choices: Results of question A.
        with_constant: False to leave out the probe of the constant source, whose input is larger than in fine-tuning.
    """
    probed = split_input_size(CONSTANT)[0]
    results = [one for one in results if with_constant or one["job"]["model"] != probed]
    frame = chosen_table(results, LARGEST, choices)
    rows = []
    for name in PARTS:
        pairs = frame[[name, FINE_TUNING]].dropna()
        differences = exact_zeros((pairs[name] - pairs[FINE_TUNING]).to_numpy())
        decided = int((differences != 0).sum())
        means = [f"{pairs[column].mean():.1f}" for column in (name, FINE_TUNING)]
        share = percent(int((differences < 0).sum()), decided) if decided else ""
        rows.append([name, str(len(pairs)), *means, _interval(differences), share])
    heads = ["model", "targets", "its error", f"fine-tuning of {CONSTANT}", "difference [95 %]", "better [95 %]"]
    title = f"Mean test errors in percent, {LARGEST} labeled samples, of the models that cross-validation chooses"
    title += "" if with_constant else f", without the probe of {probed}"
    return PrintedTable(title, heads, rows)


def transfer_answer(errors: pd.DataFrame, seconds: Mapping[str, float]) -> PrintedTable:
    """Return the regret of each strategy, and how far whole transfers are from it (question C, second part).

    Args:
        errors: Test errors in percent, a row for each target and a column for each strategy; only targets on which all
            strategies have one count.
        seconds: Mean seconds of each strategy, on two cores.
    """
    complete = errors.dropna()
    regrets = complete.sub(complete.min(axis=1), axis=0)
    rows = []
    for name in complete:
        values = regrets[name].to_numpy()
        difference = (complete[TRANSFER] - complete[name]).to_numpy()
        cells = [f"{seconds[name]:.0f}", f"{complete[name].mean():.1f}", _interval(values), f"{values.max():.1f}"]
        rows.append([str(name), *cells, "" if name == TRANSFER else _interval(difference)])
    heads = ["strategy", "seconds", "error", "regret [95 %]", "largest", f"{TRANSFER}, minus it [95 %]"]
    return PrintedTable(f"Mean test errors and regrets on {len(complete)} judging targets", heads, rows)


def transfer_targets_answer(errors: pd.DataFrame, results: Sequence[Mapping[str, Any]]) -> PrintedTable:
    """Return the error of each strategy on each target, and the model that a transfer of 10 minutes chose.

    Args:
        errors: Test errors in percent, a row for each target and a column for each strategy.
        results: Results of the strategies.
    """
    chosen = {one["job"]["target"]: one.get("chosen", "") for one in results if one["job"]["strategy"] == TRANSFER}
    kinds = judging_targets()
    rows = [
        [str(target), kinds[str(target)], *(f"{error:.1f}" for error in row), chosen[str(target)]]
        for target, row in zip(errors.index, errors.to_numpy(), strict=True)
    ]
    title = "Test errors in percent, and the model that a transfer of 10 minutes chose"
    return PrintedTable(title, ["target", "kind", *map(str, errors), "chosen"], rows)


def single_strategies(errors: pd.DataFrame) -> list[str]:
    """Return the names of the strategies that are no transfers."""
    return [str(name) for name in errors if not str(name).startswith("transfer")]


def best_single(errors: pd.DataFrame) -> str:
    """Return the single strategy with the lowest mean error on the targets that have the errors of all strategies."""
    return str(errors.dropna()[single_strategies(errors)].mean().idxmin())


def upper_ends(errors: pd.DataFrame) -> dict[str, float]:
    """Return the upper end of the interval of a transfer of 10 minutes minus each single strategy, by its name.

    A strategy that is chosen for its mean on the same targets would be an opponent of luck, so the transfer has to
    be as good as all of them.
    """
    differences = {name: (errors[TRANSFER] - errors[name]).to_numpy() for name in single_strategies(errors)}
    return {name: target_interval(values).high for name, values in differences.items()}


def other_answer(results: Sequence[Mapping[str, Any]]) -> PrintedTable:
    """Return 1 - mean average precision in percent of the judging targets with several labels a sample."""
    chosen = chosen_models(in_order(results), LARGEST)
    others = sorted((set(all_judging_targets()) - set(judging_targets())) & set(chosen))
    rows = [[target, *_errors(chosen[target])] for target in others]
    return PrintedTable(
        "1 - mean average precision in percent, of targets with several labels a sample", ["target", *PARTS], rows
    )


def _errors(chosen: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [f"{chosen[name]['errors'][str(LARGEST)]:.1f}" if name in chosen else "" for name in PARTS]


def _interval(values: np.ndarray) -> str:
    if len(values) < 2:
        return f"{values.mean():.1f}" if len(values) else ""
    interval = target_interval(values)
    return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def better_sides(frame: pd.DataFrame) -> dict[str, str]:
    """Return for all targets and for each kind with at least four of them what is better, `probe` or `baseline`.

    It is `not shown` where the p-value of the paired t-test, of kinds corrected by Holm, exceeds .05.

    Args:
        frame: Result of `chosen_table`.
    """
    both = frame.dropna(subset=["probe", "baseline"])
    differences = both["probe"] - both["baseline"]
    of_kinds = {str(kind): part for kind, part in differences.groupby(both["kind"]) if len(part) >= FEWEST}
    p_values = {kind: _p_value(part.to_numpy()) for kind, part in of_kinds.items()}
    corrected = multipletests(list(p_values.values()), method="holm")[1] if p_values else []
    p_values = {**dict(zip(p_values, corrected, strict=True)), ALL_KINDS: _p_value(differences.to_numpy())}
    means = {kind: part.mean() for kind, part in of_kinds.items()} | {ALL_KINDS: differences.mean()}
    sides = {kind: "probe" if mean < 0 else "baseline" for kind, mean in means.items()}
    return {kind: sides[kind] if p_value <= 0.05 else "not shown" for kind, p_value in p_values.items()}


def _p_value(differences: np.ndarray) -> float:
    """Return the p-value of a mean of 0; of equal differences it is 0, or 1 if they are 0."""
    if np.ptp(differences) == 0:
        return float(differences[0] == 0)
    return float(stats.ttest_1samp(differences, 0).pvalue)
