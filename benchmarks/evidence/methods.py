"""Question D of the third edition: methods with a learning rate of their own for each source and target."""

import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.multitest import multipletests
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from evidence.lines import ALL, HALF, LARGEST, Line, model_name, part_lines
from evidence.summaries import PrintedTable, detectable_table, mean_interval, mean_p_value

METHODS = ("scratch", "finetune", "lp-ft", "lora", "emb", "orca", "mona", "l2-sp", "pare", "finetune++")
SOURCES = ("efficientnet-lite0@64px", "vit-fashion")
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SEEDS = 3
MONA, FINE_TUNED, FIRST_STAGE = "mona", "finetune", "emb"
LOWEST = 0.1
"""Error in percent that a lower one counts as, in the analysis with which the main one is compared."""
MANY = 100
"""Number of test samples from which on one wrong sample more or less changes a ratio little."""
MIDDLE = (len(RATES) - 1) / 2

Results = Mapping[tuple[str, str, str, str, int, float], Line]
"""Results by part, source, method, target, seed and rate."""


class Ratio(NamedTuple):
    """The geometric mean of the ratio of two errors, with its 95 % interval and the p-value of a ratio of 1."""

    value: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        """Return the ratio with its interval."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def read_results() -> Results:
    """Return the recorded trainings."""
    names = ("part", "source", "method", "target", "seed", "rate")
    return {tuple(line["job"][name] for name in names): line for line in part_lines("methods")}  # type: ignore[misc]


def method_targets(results: Results) -> list[str]:
    """Return the targets, in the order of the plan."""
    return list(dict.fromkeys(target for _, _, _, target, _, _ in results))


def chosen_index(
    results: Results,
    source: str,
    method: str,
    target: str,
    distance: Callable[[int], float] = lambda index: abs(index - MIDDLE),
) -> int:
    """Return the number of the rate with the lowest error on the other half, of equal ones that with least distance.

    Args:
        results: The trainings.
        source: Name of the source.
        method: Name of the method.
        target: Name of the target.
        distance: Function of the number of a rate; by default the distance from the middle of the grid.
    """
    errors = [float(results[HALF, source, method, target, 0, rate]["error"]) for rate in RATES]
    return min(range(len(RATES)), key=lambda index: (errors[index], distance(index)))


def runs_frame(results: Results, *, with_half: bool = True) -> pd.DataFrame:
    """Return the runs on all labeled samples at the chosen rates.

    Args:
        results: The trainings.
        with_half: True for the logarithm of (wrong samples + 1/2) / (samples + 1), so that one wrong sample more or
            less of few does not decide; False for that of the error, at least 0.1 %.

    Returns:
        Columns `source`, `method`, `target`, `seed`, `tested` (number of samples), `error` in percent and `log_error`.
    """
    rows = []
    for target, source, method in itertools.product(method_targets(results), SOURCES, METHODS):
        rate = RATES[chosen_index(results, source, method, target)]
        for seed in range(SEEDS):
            line = results[ALL, source, method, target, seed, rate]
            error, tested = float(line["error"]), line["samples"]["test"]
            positive = 100 * (error / 100 * tested + 0.5) / (tested + 1) if with_half else max(error, LOWEST)
            rows.append((source, method, target, seed, tested, error, np.log(positive)))
    return pd.DataFrame(rows, columns=["source", "method", "target", "seed", "tested", "error", "log_error"])


def log_differences(frame: pd.DataFrame, method: str, other: str) -> pd.Series:
    """Return the log error of a method minus that of another by target, the mean over sources and seeds of both."""
    table = frame.pivot_table(index=["target", "source", "seed"], columns="method", values="log_error")
    return (table[method] - table[other]).dropna().groupby("target").mean()


def ratio_of(differences: Iterable[float]) -> Ratio:
    """Return the ratio of errors whose logarithms have these differences on each target, with a paired t-interval."""
    values = np.array(list(differences), float)
    return Ratio(*map(float, np.exp(mean_interval(values))), mean_p_value(values))


def error_ratio(frame: pd.DataFrame, method: str, other: str) -> Ratio:
    """Return the ratio of the error of a method to that of another one, over targets as a random effect."""
    return ratio_of(log_differences(frame, method, other))


def interaction_ratio(frame: pd.DataFrame, method: str, other: str) -> Ratio:
    """Return the ratio of errors with the first source, divided by that with the second."""
    table = frame.pivot_table(index=["target", "source"], columns="method", values="log_error")
    differences = (table[method] - table[other]).unstack("source")
    return ratio_of((differences[SOURCES[0]] - differences[SOURCES[1]]).dropna())


def interaction_p_value(frame: pd.DataFrame) -> float:
    """Return the p-value of no interaction of source and method, by the analysis of variance of repeated measures.

    The targets are the subjects, and the means over seeds their values.
    """
    table = AnovaRM(frame, "log_error", "target", within=["source", "method"], aggregate_func="mean").fit().anova_table
    return float(table.loc["source:method", "Pr > F"])


def mixed_model(frame: pd.DataFrame, method: str) -> tuple[dict[str, Ratio], dict[str, dict[str, Ratio]]]:
    """Return ratios by a mixed model of the log errors with an interaction of source and method.

    It has fixed effects of source and of method within source, and random effects of target, of target by method, of
    target by source, and of target by both.

    Args:
        frame: Result of `runs_frame`.
        method: Method in the numerator.

    Returns:
        For each other method, the ratio of errors with the first source divided by that with the second; and for each
        source, the ratio of the method's error to that of each other one.
    """
    contrast = f"C(method, Treatment('{method}'))"
    parts = {"method": "0 + C(method)", "source": "0 + C(source)", "cell": "0 + C(source):C(method)"}
    formula = f"log_error ~ C(source) + C(source):{contrast}"
    model = MixedLM.from_formula(formula, groups="target", vc_formula=parts, re_formula="1", data=frame)
    with warnings.catch_warnings():
        # A variance may be 0.
        warnings.filterwarnings("ignore", "The MLE may be on the boundary", ConvergenceWarning)
        # Methods by gradients did not converge on these data.
        fitted = model.fit(reml=True, method="powell")
    term = f"C(source)[{{}}]:{contrast}[T.{{}}]"
    others = [name for name in dict.fromkeys(frame.method) if name != method]
    of_source = {
        source: {other: _contrast(fitted, {term.format(source, other): -1.0}) for other in others} for source in SOURCES
    }
    first, second = SOURCES
    interactions = {
        other: _contrast(fitted, {term.format(first, other): -1.0, term.format(second, other): 1.0}) for other in others
    }
    return interactions, of_source


def _contrast(fitted: Any, weights: Mapping[str, float]) -> Ratio:
    """Return the exponential of a weighted sum of fixed effects, with the interval of the normal distribution."""
    effects = fitted.fe_params
    row = np.array([weights.get(name, 0.0) for name in effects.index])
    mean = float(row @ effects)
    error = float(np.sqrt(row @ fitted.cov_params().loc[effects.index, effects.index].to_numpy() @ row))
    ends = np.exp(mean + stats.norm.ppf([0.5, 0.025, 0.975]) * error)
    return Ratio(*map(float, ends), float(2 * stats.norm.sf(abs(mean) / error)))


# Tables


def method_tables() -> list[PrintedTable]:
    """Return the tables of the answer."""
    results = read_results()
    frame, floored = runs_frame(results), runs_frame(results, with_half=False)
    again = method_table(floored)
    title = f"The same with errors of at least {LOWEST} % in place of half a wrong sample"
    primary = {
        f"{MONA} - {other}, 100 log errors": 100 * log_differences(frame, MONA, other)
        for other in (FINE_TUNED, FIRST_STAGE)
    }
    return [
        method_table(frame, probe_errors(part_lines("models"), method_targets(results))),
        source_table(frame),
        stability_table(frame),
        edge_table(results),
        again._replace(title=title),
        detectable_table(primary),
    ]


def probe_errors(probes: Iterable[Line], targets: Sequence[str]) -> dict[str, float]:
    """Return the mean test error of the linear probe of each source on some targets, in percent."""
    errors = {(one["job"]["model"], one["job"]["target"]): one["errors"] for one in probes if one["errors"]}
    return {
        source: float(np.mean([errors[model_name(source), target][str(LARGEST)] for target in targets]))
        for source in SOURCES
    }


def method_table(frame: pd.DataFrame, probes: Mapping[str, float] | None = None) -> PrintedTable:
    """Return the error of each method, its ratio to fine-tuning, and the ratio of MoNA's error to it.

    Args:
        frame: Result of `runs_frame`.
        probes: Result of `probe_errors`, for a row of them; None for none.
    """
    others = [name for name in METHODS if name not in (MONA, FINE_TUNED)]
    over_finetune = {name: error_ratio(frame, name, FINE_TUNED) for name in others}
    corrected = multipletests([ratio.p_value for ratio in over_finetune.values()], method="holm")[1]
    p_values = dict(zip(others, corrected, strict=True))
    means = frame.groupby(["source", "method"]).error.mean()
    rows = []
    for name in [*(one for one in METHODS if one != MONA), MONA]:
        cells = [f"{means[source, name]:.1f}" for source in SOURCES]
        cells += [str(over_finetune[name]), f"{p_values[name]:.3f}"] if name in p_values else ["", ""]
        rows.append([f"`{name}`", *cells, str(error_ratio(frame, MONA, name)) if name != MONA else ""])
    if probes:
        rows.append(["`linear-probe`", *(f"{probes[source]:.1f}" for source in SOURCES), "", "", ""])
    heads = ["method", *(f"error, `{source}`" for source in SOURCES)]
    heads += [f"over `{FINE_TUNED}` [95 %]", "p (Holm)", f"`{MONA}` over it [95 %]"]
    title = f"Test errors in percent, means over {frame.target.nunique()} targets and seeds"
    return PrintedTable(title, heads, rows)


def source_table(frame: pd.DataFrame) -> PrintedTable:
    """Return the ratios of MoNA's error by source, and how much they differ, by pairs and by a mixed model."""
    interactions, of_source = mixed_model(frame, MONA)
    rows = [
        [
            f"`{name}`",
            *(str(of_source[source][name]) for source in SOURCES),
            *(str(interaction_ratio(frame, MONA, name)), str(interactions[name])),
        ]
        for name in METHODS
        if name != MONA
    ]
    heads = [f"`{MONA}` over", *(f"`{source}`, mixed model" for source in SOURCES), "first over second", "in the model"]
    return PrintedTable(f"Source by method: p = {interaction_p_value(frame):.3f}", heads, rows)


def stability_table(frame: pd.DataFrame) -> PrintedTable:
    """Return the two primary ratios again without targets of few test samples, and without each target in turn."""
    others = (FINE_TUNED, FIRST_STAGE)
    parts = {"as planned": frame, f"at least {MANY} test samples": frame[frame.tested >= MANY]}
    rows = [
        [f"{name} ({part.target.nunique()} targets)", *(str(error_ratio(part, MONA, one)) for one in others)]
        for name, part in parts.items()
    ]
    left_out = [frame[frame.target != target] for target in dict.fromkeys(frame.target)]
    ends = [[error_ratio(part, MONA, one).value for part in left_out] for one in others]
    rows.append(["one target left out", *(f"{min(values):.2f} to {max(values):.2f}" for values in ends)])
    heads = ["analysis", *(f"over `{one}`" for one in others)]
    return PrintedTable(f"Stability of the ratios of `{MONA}`", heads, rows)


def edge_table(results: Results) -> PrintedTable:
    """Return how many chosen rates lie at an edge of the grid, by the rule that decides between equal errors."""
    rules: dict[str, Callable[[int], float]] = {
        "the rate nearest to the middle, as planned": lambda index: abs(index - MIDDLE),
        "the lowest rate": lambda index: index,
        "the highest rate": lambda index: -index,
    }
    every = list(itertools.product(SOURCES, METHODS, method_targets(results)))
    rows = []
    for name, distance in rules.items():
        indices = [chosen_index(results, *one, distance) for one in every]
        at_edge = [index in (0, len(RATES) - 1) for index in indices]
        counts = [sum(at_edge), indices.count(0), indices.count(len(RATES) - 1)]
        counts += [sum(edge for edge, one in zip(at_edge, every, strict=True) if one[0] == each) for each in SOURCES]
        rows.append([name, f"{np.mean(at_edge):.0%}", *map(str, counts)])
    heads = ["of equal errors counts", "share at an edge", "number", f"rate {RATES[0]:g}", f"rate {RATES[-1]:g}"]
    title = f"Rates at an edge of the grid, of the {len(every)} that were chosen"
    return PrintedTable(title, [*heads, *(f"of `{source}`" for source in SOURCES)], rows)
