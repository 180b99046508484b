"""Question D of the third edition: methods with a learning rate of their own for each source and target."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from result_log import ResultLog
from statsmodels.stats.multitest import multipletests

from evidence.ratios import Ratio, error_ratios, interaction_p_value, interaction_ratios, mixed_model_of_sources
from evidence.replay_tables import PrintedTable
from evidence.study_jobs import SOURCES, Job
from evidence.third_choice import LABELED
from evidence.third_jobs import method_targets
from evidence.third_methods import METHODS, RATES, SEEDS, chosen_rate
from modgap.ranking.history.measure import ALL, HALF
from modgap.ranking.source_patterns import split_input_size

MONA, FINE_TUNED, FIRST_STAGE = "mona", "finetune", "emb"
LOWEST = 0.1
"""Error in percent that a lower one counts as, in the analysis with which the main one is compared."""
MANY = 100
"""Number of test samples from which on one wrong sample more or less changes a ratio little."""


def runs_frame(log: ResultLog, *, with_half: bool = True) -> pd.DataFrame:
    """Return the runs on all labeled samples, with the number of tested samples, the error and its logarithm.

    Args:
        log: Results of the jobs.
        with_half: True for the logarithm of (wrong samples + 1/2) / (samples + 1), so that one wrong sample more or
            less of few does not decide; False for that of the error, at least 0.1 %.
    """
    rows = []
    for target, source, method in itertools.product(method_targets(), SOURCES, METHODS):
        rate = chosen_rate([Job(HALF, source, method, target, 0, one) for one in RATES], log)
        for seed in range(SEEDS if rate is not None else 0):
            if result := log.get(Job(ALL, source, method, target, seed, rate)):
                error, n_tested = float(result["error"]), result["samples"]["test"]
                positive = max(error, LOWEST)
                if with_half:
                    positive = 100 * (error / 100 * n_tested + 0.5) / (n_tested + 1)
                rows.append((source, method, target, seed, rate, n_tested, error, np.log(positive)))
    return pd.DataFrame(rows, columns=["source", "method", "target", "seed", "rate", "tested", "error", "log_error"])


def edge_answer(log: ResultLog) -> PrintedTable:
    """Return how many chosen rates lie at an edge of the grid, by the rule that decides between rates of equal errors.

    Args:
        log: Results of the jobs.
    """
    middle = (len(RATES) - 1) / 2
    rules: dict[str, Callable[[int], float]] = {
        "the rate nearest to the middle, as planned": lambda index: abs(index - middle),
        "the lowest rate": lambda index: index,
        "the highest rate": lambda index: -index,
    }
    every = list(itertools.product(SOURCES, METHODS, method_targets()))
    rows = []
    for name, distance in rules.items():
        indices = []
        for source, method, target in every:
            halves = [log.get(Job(HALF, source, method, target, 0, rate)) for rate in RATES]
            errors = [np.inf if half is None else float(half["error"]) for half in halves]
            indices.append(min(range(len(RATES)), key=lambda index: (errors[index], distance(index))))
        at_edge = [index in (0, len(RATES) - 1) for index in indices]
        counts = [sum(at_edge), indices.count(0), indices.count(len(RATES) - 1)]
        counts += [sum(edge for edge, one in zip(at_edge, every, strict=True) if one[0] == each) for each in SOURCES]
        rows.append([name, f"{np.mean(at_edge):.0%}", *map(str, counts)])
    heads = ["of equal errors counts", "share at an edge", "number", f"rate {RATES[0]:g}", f"rate {RATES[-1]:g}"]
    title = f"Rates at an edge of the grid, of the {len(every)} that were chosen"
    return PrintedTable(title, [*heads, *(f"of `{source}`" for source in SOURCES)], rows)


def probe_errors(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean test error of the linear probe of each source on the targets of the methods, in percent.

    Args:
        results: Results of question B, whose probes are fitted to the same samples and tested on at most 1,000.
    """
    errors = {(one["job"]["model"], one["job"]["target"]): one["errors"] for one in results if one["errors"]}
    return {
        source: float(np.mean([errors[split_input_size(source)[0], target][LABELED] for target in method_targets()]))
        for source in SOURCES
    }


def method_answer(frame: pd.DataFrame, probes: Mapping[str, float] | None = None) -> PrintedTable:
    """Return the error of each method, its ratio to fine-tuning, and the ratio of MoNA's error to it.

    Args:
        frame: Result of `runs_frame`.
        probes: Result of `probe_errors`, for a row of them; None for none.
    """
    others = [name for name in METHODS if name in set(frame.method) and name != MONA]
    of_mona = error_ratios(frame, MONA, others)
    over_finetune = {name: error_ratios(frame, name, [FINE_TUNED])[FINE_TUNED] for name in others}
    corrected = _holm({name: ratio for name, ratio in over_finetune.items() if name != FINE_TUNED})
    by_source = {source: of_source.groupby("method").error.mean() for source, of_source in frame.groupby("source")}
    rows = []
    for name in [*others, MONA]:
        cells = [f"{by_source[source][name]:.1f}" for source in SOURCES]
        has_ratio = name not in (FINE_TUNED, MONA)
        cells += [over_finetune[name].text, f"{corrected[name]:.3f}"] if has_ratio else ["", ""]
        rows.append([f"`{name}`", *cells, of_mona[name].text if name != MONA else ""])
    if probes:
        rows.append(["`linear-probe`", *(f"{probes[source]:.1f}" for source in SOURCES), "", "", ""])
    heads = ["method", *(f"error, `{source}`" for source in SOURCES)]
    heads += [f"over `{FINE_TUNED}` [95 %]", "p (Holm)", f"`{MONA}` over it [95 %]"]
    title = f"Test errors in percent, means over {frame.target.nunique()} targets and seeds"
    return PrintedTable(title, heads, rows)


def source_answer(frame: pd.DataFrame) -> PrintedTable:
    """Return the ratios of MoNA's error by source, and how much they differ, by pairs and by a mixed model."""
    others = [name for name in METHODS if name in set(frame.method) and name != MONA]
    paired = interaction_ratios(frame, MONA, others)
    model, by_source = mixed_model_of_sources(frame, MONA)
    rows = [
        [f"`{name}`", *(by_source[source][name].text for source in SOURCES), paired[name].text, model[name].text]
        for name in others
    ]
    heads = [f"`{MONA}` over", *(f"`{source}`, mixed model" for source in SOURCES), "first over second", "in the model"]
    return PrintedTable(f"Source by method: p = {interaction_p_value(frame):.3f}", heads, rows)


def primary_differences(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the differences of log errors by target on which the two primary ratios rest, times 100."""
    table = frame.pivot_table(index=["target", "source", "seed"], columns="method", values="log_error")
    return {
        f"{MONA} - {other}, 100 log errors": 100 * (table[MONA] - table[other]).dropna().groupby("target").mean()
        for other in (FINE_TUNED, FIRST_STAGE)
    }


def stability_answer(frame: pd.DataFrame) -> PrintedTable:
    """Return the two primary ratios again without targets of few test samples, and without each target in turn."""
    targets = list(dict.fromkeys(frame.target))
    others = [FINE_TUNED, FIRST_STAGE]
    parts = {"as planned": frame, f"at least {MANY} test samples": frame[frame.tested >= MANY]}
    rows = [
        [f"{name} ({part.target.nunique()} targets)", *(error_ratios(part, MONA, others)[one].text for one in others)]
        for name, part in parts.items()
        if part.target.nunique() > 1
    ]
    left_out = [error_ratios(frame[frame.target != target], MONA, others) for target in targets]
    ends = [[ratios[one].value for ratios in left_out] for one in others]
    rows.append(["one target left out", *(f"{min(values):.2f} to {max(values):.2f}" for values in ends)])
    return PrintedTable(
        f"Stability of the ratios of `{MONA}`", ["analysis", *(f"over `{one}`" for one in others)], rows
    )


def _holm(ratios: dict[str, Ratio]) -> dict[str, float]:
    corrected = multipletests([ratio.p_value for ratio in ratios.values()], method="holm")[1]
    return dict(zip(ratios, map(float, corrected), strict=True))
