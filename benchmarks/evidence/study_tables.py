"""The tables of the study of methods: errors, remaining knowledge, ratios, and the verdict on the falsifiers."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
from result_log import ResultLog
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.power import TTestPower
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from evidence.falsifiers import Held, verdict
from evidence.figures import MethodEffect, distortion_figure, ratios_figure
from evidence.study_jobs import (
    DEVELOPMENT,
    METHODS,
    READ,
    SEEDS,
    SOURCES,
    TARGETS,
    UNTOUCHED,
    Job,
    chosen_rate,
)
from modgap.cli.output import print_table
from modgap.display.figure_files import save_figure
from modgap.statistics.multiple_comparisons import holm

__all__ = [
    "Ratio",
    "concluding_sources",
    "detectable_ratio",
    "draw",
    "error_ratios",
    "mixed_model_ratios",
    "ratios_beside_finetune",
    "read_runs",
    "report",
]

HELD = ("l2-sp", "replay")
"""Methods that hold the source explicitly."""
LEAST_RISE = 0.2
"""Rise of the probe error by fine-tuning, relative to it before, below which a source has nothing to lose."""
MAYBE_SPARED = "vit-fashion"
"""The source that concludes only if fine-tuning raises its probe error by this much on the development targets."""
PROBE = f"probe_{READ[-1]}"
OWN_STATISTICS = "probe_own_statistics"
POWER = 0.8
"""Power at which a ratio counts as detectable."""


@dataclass(frozen=True)
class Ratio:
    """The ratio of the errors of two methods.

    Attributes:
        value: Geometric mean over targets of the ratio.
        low: Lower bound of its 95 % interval over targets, by Student's t.
        high: Upper bound.
        p_value: P-value of a ratio of 1.
    """

    value: float
    low: float
    high: float
    p_value: float

    @property
    def text(self) -> str:
        """The ratio with its interval."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def report(log: ResultLog, raw: Mapping[str, float]) -> None:
    """Print all tables.

    Args:
        log: Results of the jobs.
        raw: Test error of nearest neighbors on the raw values by target.
    """
    frame = read_runs(log)
    n_jobs = len(SOURCES) * len(METHODS) * len(TARGETS) * SEEDS
    print(f"{len(frame)} of {n_jobs} jobs of the comparison are done")
    if frame.empty:
        return
    rates = [f"{source} {method} {chosen_rate(log, source, method)}" for source in SOURCES for method in METHODS]
    print(f"rates: {', '.join(rates)}")
    start = _probes_before(log)
    for source in SOURCES:
        runs = frame[frame.source == source]
        for epoch in READ:
            _print_means(runs, f"error_{epoch}", f"{source}: test error in % after {epoch} epochs", last=raw)
        title = f"{source}: probe error on its surrogate after {READ[-1]} epochs, {start[source]:.3f} before"
        _print_means(runs, PROBE, title, 3)
        _print_means(runs, OWN_STATISTICS, f"{title}, with the source's own batch statistics", 3)
    lost = frame.groupby("method")[PROBE].apply(lambda values: int(values.isna().sum()))
    print(f"runs without a probe error, because the loss or the features became infinite: {lost[lost > 0].to_dict()}")
    print(f"rise of the probe error of {MAYBE_SPARED} by finetune on the development targets, relative to before: "
          f"{_relative_rise(log):+.2f}, {LEAST_RISE} is needed")  # fmt: skip
    concluding = concluding_sources(log)
    print(f"the conclusions come from {' and '.join(concluding)}")
    for sources in dict.fromkeys((concluding, *((source,) for source in SOURCES))):
        runs = frame[frame.source.isin(sources)]
        if not runs.empty:
            _print_ratios(runs, "mona", f"ratios over targets, {' and '.join(sources)}")
            _print_beside_finetune(runs, f"error of each method over that of finetune, {' and '.join(sources)}")
    if len(frame) < n_jobs:
        print("The verdict on the falsifiers needs all jobs.")
        return
    _print_falsifiers(frame[frame.source.isin(concluding)], start)


def draw(log: ResultLog, folder: Path) -> None:
    """Draw the ratios of MoNA's error to that of the other methods, and errors against the loss of knowledge."""
    sources = concluding_sources(log)
    frame = read_runs(log)
    frame = frame[frame.source.isin(sources)]
    rises = _rises(frame, _probes_before(log)).mean()
    methods = [name for name in METHODS if name in set(frame.method)]

    def effects(found: Mapping[str, Ratio]) -> list[MethodEffect]:
        p_values = dict(zip(found, holm([one.p_value for one in found.values()]), strict=True))
        return [
            MethodEffect(name, one.value, (one.low, one.high), float(p_values[name]), float(rises.get(name, np.nan)))
            for name, one in found.items()
        ]

    over = error_ratios(frame, "mona", [name for name in methods if name != "mona"])
    beside = ratios_beside_finetune(frame)
    n_sources = f"{len(sources)} source{'s' * (len(sources) > 1)}"
    design = f"{frame.target.nunique()} targets, {n_sources} and {SEEDS} seeds"
    figures = {
        "ratios": ratios_figure(effects(over), "mona", design),
        "distortion": distortion_figure(effects(beside), "finetune", float(rises["finetune"])),
    }
    for name, figure in figures.items():
        save_figure(figure, folder / f"evidence-{name}")


def concluding_sources(log: ResultLog) -> tuple[str, ...]:
    """Return the sources from which the conclusions come: one that fine-tuning spares has nothing to save."""
    spared = not _relative_rise(log) >= LEAST_RISE
    return tuple(source for source in SOURCES if source != MAYBE_SPARED or not spared)


def _probes_before(log: ResultLog) -> dict[str, float]:
    found = {source: log.get(Job("study", source, UNTOUCHED, "")) for source in SOURCES}
    return {source: record["probe"]["0"] for source, record in found.items() if record}


def _relative_rise(log: ResultLog) -> float:
    """Return the rise of the probe error by fine-tuning on the development targets, relative to that before."""
    rate = chosen_rate(log, MAYBE_SPARED, "finetune")
    start = _probes_before(log).get(MAYBE_SPARED)
    if rate is None or start is None:
        return np.nan
    found = [log.get(Job("rate", MAYBE_SPARED, "finetune", target, 0, rate)) for target in DEVELOPMENT]
    after = [record["probe"][str(READ[-1])] for record in found if record]
    return float(np.mean(np.array(after, float)) / start - 1)


def _rises(frame: pandas.DataFrame, start: Mapping[str, float], column: str = PROBE) -> pandas.DataFrame:
    """Return the mean rise of a probe error by target and method, without scratch, which has no source."""
    rise = frame.assign(rise=frame[column] - frame.source.map(start))
    table = rise[rise.method != "scratch"].pivot_table(index="target", columns="method", values="rise", aggfunc="mean")
    return table


def read_runs(log: ResultLog) -> pandas.DataFrame:
    """Return one row for each finished run of the comparison, at the rate that its method chose."""
    rows = []
    for source in SOURCES:
        for method in METHODS:
            rate = chosen_rate(log, source, method)
            for target in TARGETS:
                for seed in range(SEEDS):
                    found = None if rate is None else log.get(Job("study", source, method, target, seed, rate))
                    if found is None:
                        continue
                    row = {"source": source, "method": method, "target": target, "seed": seed}
                    row |= {f"error_{epoch}": found["errors"][str(epoch)] for epoch in READ}
                    row |= {f"probe_{epoch}": found["probe"][str(epoch)] for epoch in READ}
                    row[OWN_STATISTICS] = found["probe_own_statistics"][str(READ[-1])]
                    # Half an error more, so that no error has a logarithm too.
                    n_test = found["samples"]["test"]
                    row["log_error"] = np.log((row[f"error_{READ[-1]}"] / 100 * n_test + 0.5) / (n_test + 1))
                    rows.append(row)
    return pandas.DataFrame(rows)


def _print_means(
    frame: pandas.DataFrame, column: str, title: str, digits: int = 1, last: Mapping[str, float] | None = None
) -> None:
    table = frame.pivot_table(index="method", columns="target", values=column, aggfunc="mean")
    rows = [
        [method, *(f"{value:.{digits}f}" for value in table.loc[method]), f"{table.loc[method].mean():.{digits}f}"]
        for method in METHODS
        if method in table.index
    ]
    errors = np.array([last[target] if last else np.nan for target in table.columns])
    if np.isfinite(errors).any():
        cells = [f"{error:.{digits}f}" if error == error else "-" for error in errors]
        rows.append(["neighbors of raw values", *cells, f"{np.nanmean(errors):.{digits}f}"])
    print_table(["method", *table.columns, "mean"], rows, title)


def error_ratios(frame: pandas.DataFrame, method: str, others: list[str]) -> dict[str, Ratio]:
    """Return the ratio of a method's error to that of each other one, over targets as a random effect.

    Each target's log ratio is the mean over the sources and seeds that both methods have. With the same runs in every
    cell it is also the estimate of the mixed model (`mixed_model_ratios`). The interval is that of a paired t-test over
    targets, so that it uses the variance of this pair of methods, while the mixed model has one for all.

    Args:
        frame: Runs with the columns `source`, `method`, `target`, `seed` and `log_error`.
        method: Method in the numerator.
        others: Methods in the denominator.
    """
    table = frame.pivot_table(index=["target", "source", "seed"], columns="method", values="log_error")
    found = {}
    for other in others:
        differences = (table[method] - table[other]).dropna().groupby("target").mean().to_numpy()
        test = stats.ttest_1samp(differences, 0.0)
        interval = test.confidence_interval(0.95)
        mean, low, high = np.exp([differences.mean(), interval.low, interval.high])
        found[other] = Ratio(float(mean), float(low), float(high), float(test.pvalue))
    return found


def detectable_ratio(ratio: Ratio, n_targets: int) -> float:
    """Return the ratio below 1 that a paired t-test over targets finds with a power of 80 % at the 5 % level.

    Args:
        ratio: A ratio whose interval is that of a t-test, from which the standard deviation over targets follows.
        n_targets: Number of targets.
    """
    half = (np.log(ratio.high) - np.log(ratio.low)) / 2
    spread = half / stats.t.ppf(0.975, n_targets - 1) * np.sqrt(n_targets)
    effect = TTestPower().solve_power(nobs=n_targets, alpha=0.05, power=POWER)
    return float(np.exp(-effect * spread))


def mixed_model_ratios(frame: pandas.DataFrame, method: str) -> dict[str, Ratio]:
    """Return the ratio of a method's error to that of each other one, by restricted maximum likelihood.

    The model of the log errors has fixed effects of method and source, and random effects of target and of target by
    method. The intervals are those of the normal distribution. With as many runs in every cell they are also those of
    the analysis of variance (`tests/test_evidence.py`).

    Args:
        frame: Runs with the columns `source`, `method`, `target` and `log_error`.
        method: Method in the numerator.
    """
    others = [name for name in METHODS if name in set(frame.method) and name != method]
    contrast = f"C(method, Treatment('{method}'))"
    model = MixedLM.from_formula(
        f"log_error ~ {contrast}" + (" + source" if frame.source.nunique() > 1 else ""),
        groups="target",
        vc_formula={"cell": "0 + C(method)"},
        re_formula="1",
        data=frame,
    )
    with warnings.catch_warnings():
        # A variance may be 0.
        warnings.filterwarnings("ignore", "The MLE may be on the boundary", ConvergenceWarning)
        # Methods by gradients did not converge on these data.
        fitted = model.fit(reml=True, method="powell")
    names = [f"{contrast}[T.{name}]" for name in others]
    intervals, p_values = fitted.conf_int(), fitted.pvalues
    found = {}
    for other, name in zip(others, names, strict=True):
        low, high = intervals.loc[name]
        ratio, least, most = np.exp(-np.array([fitted.fe_params[name], high, low]))
        found[other] = Ratio(float(ratio), float(least), float(most), float(p_values[name]))
    return found


def _print_ratios(frame: pandas.DataFrame, method: str, title: str) -> None:
    others = [name for name in METHODS if name in set(frame.method) and name != method]
    found, mixed = error_ratios(frame, method, others), mixed_model_ratios(frame, method)
    p_values = holm([one.p_value for one in found.values()])
    n_targets = frame.target.nunique()
    rows = [
        [
            other,
            found[other].text,
            f"{p_value:.3f}",
            mixed[other].text,
            f"{detectable_ratio(found[other], n_targets):.2f}",
        ]
        for other, p_value in zip(others, p_values, strict=True)
    ]
    header = ["method", f"error of {method} over it [95 %]", "p (Holm)", "mixed model [95 %]", "detectable"]
    print_table(header, rows, title)


def ratios_beside_finetune(frame: pandas.DataFrame) -> dict[str, Ratio]:
    """Return the ratio of the error of each method that uses the source to that of `finetune`."""
    found = set(frame.method)
    others = [name for name in METHODS if name in found and name not in ("finetune", "scratch")]
    return {name: error_ratios(frame, name, ["finetune"])["finetune"] for name in others}


def _print_beside_finetune(frame: pandas.DataFrame, title: str) -> None:
    found = ratios_beside_finetune(frame)
    p_values = holm([one.p_value for one in found.values()])
    rows = [[name, one.text, f"{p_value:.3f}"] for (name, one), p_value in zip(found.items(), p_values, strict=True)]
    print_table(["method", "ratio [95 %]", "p (Holm)"], rows, title)


def _held(frame: pandas.DataFrame, name: str, rises: pandas.DataFrame) -> Held:
    """Print and return what a method that holds the source does to distortion and error."""
    ratio = error_ratios(frame, name, ["finetune"])["finetune"]
    both = rises[[name, "finetune"]].dropna()
    one = Held(name, float(both[name].mean()), float(both["finetune"].mean()), ratio.high)
    saved = stats.ttest_rel(both["finetune"], both[name]).confidence_interval(0.95)
    print(
        f"{name}: rise of the probe error {one.rise:+.3f} against {one.reference:+.3f} of finetune, lower by "
        f"{one.reference - one.rise:.3f} [{saved.low:.3f}, {saved.high:.3f}]; error ratio {ratio.text}: {one.text}"
    )
    return one


def _print_falsifiers(frame: pandas.DataFrame, start: Mapping[str, float]) -> None:
    """Print what the protocol concludes from distortion and errors."""
    held = [_held(frame, name, _rises(frame, start)) for name in HELD]
    print("With the source's own batch statistics:")
    for name in HELD:
        _held(frame, name, _rises(frame, start, OWN_STATISTICS))
    mechanism = error_ratios(frame, "mona", ["emb"])["emb"]
    print(f"mona over emb: {mechanism.text}")
    print(verdict(held, mechanism.low))
