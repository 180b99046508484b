"""Power of the third edition, simulated from differences on the earlier targets, which do not judge."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from result_log import ResultLog
from statsmodels.stats.power import TTestPower
from whole_transfer import errors_frame

from evidence.model_tables import CONSTANT as CONSTANT_SOURCE
from evidence.model_tables import chosen_errors, fine_tuning_error
from evidence.replay_tables import SHORT, PrintedTable
from evidence.replays import pools
from evidence.selection import CONSTANT, HISTORY
from evidence.study_jobs import READ
from evidence.third_choice import REPORTED, earlier_regrets, error_table
from evidence.third_models import TRANSFER
from evidence.two_way import target_interval

TRUTH = Path(__file__).parent.parent / "truth"
POWER = 0.8
SIMULATIONS = 10_000
HEADS = [
    "question", "difference", "earlier targets", "standard deviation", "judging targets", "detectable", "power there",
    "found below 0 where it is 0", "above 0",
]  # fmt: skip


def earlier_differences() -> Iterator[tuple[str, str, np.ndarray, int]]:
    """Yield question, compared values, their differences on the earlier targets, and how many targets will judge.

    Differences are in points; those of methods are differences of the natural logarithm of the error, times 100.
    """
    table = error_table([ResultLog(TRUTH / "ranking.jsonl"), ResultLog(TRUTH / "third" / "history.jsonl")], targets=())
    of_pools = [earlier_regrets(table.of(np.array(pool))) for pool in pools(len(table.models))]
    for pool, regrets in (
        ("all sources", earlier_regrets(table)),
        ("pools of five", {name: np.nanmean([part[name] for part in of_pools], axis=0) for name in REPORTED}),
    ):
        regrets = {name: values[np.isfinite(values)] for name, values in regrets.items()}
        after = regrets[HISTORY.format(SHORT)]
        yield "A", f"history and 3 epochs - constant answer, {pool}", after - regrets[CONSTANT], 41
        yield "A", f"history and 3 epochs - 3 epochs alone, {pool}", after - regrets[SHORT], 41
    results = [result for result in ResultLog(TRUTH / "models.jsonl").results() if result["task"] == "classification"]
    errors = chosen_errors(results, 128)
    both = [one for one in errors.values() if "probe" in one]
    yield "B", "best probe - best baseline", np.array([one["probe"] - one["baseline"] for one in both]), 41
    tuned = {target: fine_tuning_error(ResultLog(TRUTH / "ranking.jsonl"), target) for target in errors}
    pairs = [(errors[target]["any probe"], error) for target, error in tuned.items() if error is not None]
    name = f"best probe of all, pretrained or random - fine-tuning of {CONSTANT_SOURCE}"
    yield "C", name, np.subtract(*np.array(pairs).T), 41
    yield "C", *_transfer_differences(), 20
    yield "D", "MoNA - fine-tuning, 100 log errors", _method_differences("mona", "finetune"), 8
    yield "D", "MoNA - its first stage on the task loss, 100 log errors", _method_differences("mona", "emb"), 8


def _transfer_differences() -> tuple[str, np.ndarray]:
    """Return the best single strategy over targets with classes, and the errors of transfers minus its own."""
    results = [result for result in ResultLog(TRUTH / "transfer.first.jsonl").results() if result.get("unit") == "%"]
    frame = errors_frame(results).dropna()
    best = frame.loc[:, [not name.startswith("transfer") for name in frame]].mean().idxmin()
    return f"{TRANSFER} - {best}", (frame[TRANSFER] - frame[best]).to_numpy()


def _method_differences(method: str, other: str) -> np.ndarray:
    """Return 100 times the difference of the log errors of two methods by target, the mean over sources and seeds."""
    lines = map(json.loads, (TRUTH / "study.jsonl").read_text(encoding="utf-8").splitlines())
    rows = [
        {**line["job"], "error": np.log(max(line["errors"][str(READ[-1])], 0.1))}
        for line in lines
        if line["job"]["part"] == "study" and line["job"]["method"] in (method, other)
    ]
    means = pd.DataFrame(rows).pivot_table(index="target", columns="method", values="error")
    return (100 * (means[method] - means[other])).to_numpy()


def power_rows(simulations: int = SIMULATIONS) -> list[list[str]]:
    """Return what a t-test over the judging targets detects with a power of 80 %, and its power in simulations.

    Differences are drawn with replacement from those of the earlier targets, with their mean shifted to minus what is
    to be detected, or to 0, where each finding is a false positive. At most 2.5 % should be on either side.
    """
    rng = np.random.default_rng(0)
    rows = []
    for question, name, differences, n_judging in earlier_differences():
        spread = float(differences.std(ddof=1))
        effect = detectable(spread, n_judging)
        centered = differences - differences.mean()
        power, _ = _found(rng, centered - effect, n_judging, simulations)
        numbers = [str(len(differences)), f"{spread:.1f}", str(n_judging), f"{effect:.1f}", f"{100 * power:.0f} %"]
        false = (f"{100 * share:.1f} %" for share in _found(rng, centered, n_judging, simulations))
        rows.append([question, name, *numbers, *false])
    return rows


def detectable(spread: float, n_targets: int) -> float:
    """Return the mean difference that a t-test over targets finds with a power of 80 % at the 5 % level.

    Args:
        spread: Standard deviation of the differences.
        n_targets: Number of targets.
    """
    return float(TTestPower().solve_power(nobs=n_targets, alpha=0.05, power=POWER)) * spread


def found_power(differences: Mapping[str, np.ndarray]) -> PrintedTable:
    """Return what the judging targets detect with a power of 80 %, with the spread that was found on them.

    Args:
        differences: Differences by judging target of each comparison, by what is compared.
    """
    rows = []
    for name, values in differences.items():
        spread = float(np.std(values, ddof=1))
        rows.append([name, str(len(values)), f"{spread:.1f}", f"{detectable(spread, len(values)):.1f}"])
    heads = ["difference", "targets", "standard deviation", "detectable with a power of 80 %"]
    return PrintedTable("What the design could detect with the spread that was found", heads, rows)


def _found(rng: np.random.Generator, differences: np.ndarray, n_targets: int, simulations: int) -> tuple[float, float]:
    """Return the shares of simulated editions whose 95 % interval of the mean difference is below 0, and above it."""
    drawn = rng.choice(differences, (simulations, n_targets))
    intervals = [target_interval(values) for values in drawn]
    return float(np.mean([one.high < 0 for one in intervals])), float(np.mean([one.low > 0 for one in intervals]))
