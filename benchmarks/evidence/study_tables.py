"""The tables of the study of methods: errors, remaining knowledge, ratios, and the verdict on the falsifiers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas
from result_log import ResultLog
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM

from evidence.figures import MethodEffect, distortion_figure, ratios_figure
from evidence.study_jobs import (
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

__all__ = ["draw", "error_ratio", "report"]

HELD = ("l2-sp", "replay")
"""Methods that hold the source explicitly."""
LESS_DISTORTION = 0.7
"""Ratio of the distortion below which it is said to be cut."""
SAME_ERROR = 0.95
"""Ratio of errors above which a method does not help by an amount that matters."""


def report(log: ResultLog, raw: Mapping[str, float]) -> None:
    """Print all tables.

    Args:
        log: Results of the jobs.
        raw: Test error of nearest neighbors on the raw values by target.
    """
    frame = _read(log)
    if frame.empty:
        print("No job of the study is done.")
        return
    print(f"{len(frame)} of {len(SOURCES) * len(METHODS) * len(TARGETS) * SEEDS} jobs are done")
    rates = [f"{source} {method} {chosen_rate(log, source, method)}" for source in SOURCES for method in METHODS]
    print(f"rates: {', '.join(rates)}")
    for source in SOURCES:
        runs = frame[frame.source == source]
        for epoch in READ:
            _print_means(runs, f"error_{epoch}", f"{source}: test error in % after {epoch} epochs", last=raw)
        before = log.get(Job("study", source, UNTOUCHED, ""))
        assert before is not None
        _print_means(
            runs,
            f"probe_{READ[-1]}",
            f"{source}: probe error on its surrogate after {READ[-1]} epochs, {before['probe']['0']:.3f} before",
            3,
        )
    _print_ratios(frame, "mona")
    _print_falsifiers(frame, {source: log.get(Job("study", source, UNTOUCHED, "")) for source in SOURCES})


def draw(log: ResultLog, folder: Path) -> None:
    """Draw the ratios of MoNA's error to that of the other methods, and errors against the loss of knowledge."""
    frame = _read(log)
    probe = frame[f"probe_{READ[-1]}"]
    before = {source: log.get(Job("study", source, UNTOUCHED, "")) for source in SOURCES}
    start = {source: record["probe"]["0"] for source, record in before.items() if record}
    rises = frame.assign(rise=probe - frame.source.map(start)).groupby("method").rise.mean()

    def effects(other: str, *, over: bool) -> list[MethodEffect]:
        found = []
        for name in METHODS:
            if name != other and name in set(frame.method):
                ratio, low, high = error_ratio(frame, *((other, name) if over else (name, other)))
                rise = float("nan") if name == "scratch" else float(rises[name])
                found.append(MethodEffect(name, ratio, (low, high), rise))
        return found

    save_figure(ratios_figure(effects("mona", over=True), "mona", len(TARGETS)), folder / "evidence-ratios")
    save_figure(distortion_figure(effects("finetune", over=False), "finetune"), folder / "evidence-distortion")


def _read(log: ResultLog) -> pandas.DataFrame:
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


def error_ratio(frame: pandas.DataFrame, method: str, other: str) -> tuple[float, float, float]:
    """Return the ratio of the errors of two methods with its 95 % interval, over targets as a random effect.

    Each target's log ratio is the mean over sources and seeds. With the same number of runs in every cell this is the
    estimate of the mixed model with random effects of target and of target by method (Student's t over targets).

    Args:
        frame: Runs with the columns `method`, `target` and `log_error`.
        method: Method in the numerator.
        other: Method in the denominator.
    """
    table = frame.pivot_table(index="target", columns="method", values="log_error", aggfunc="mean")
    differences = (table[method] - table[other]).dropna().to_numpy()
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    mean = differences.mean()
    return float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half))


def _print_ratios(frame: pandas.DataFrame, method: str) -> None:
    rows = []
    mixed = _mixed_model(frame, method)
    for other in METHODS:
        if other != method and other in set(frame.method):
            ratio, low, high = error_ratio(frame, method, other)
            fitted = mixed.get(other)
            rows.append([other, f"{ratio:.2f} [{low:.2f}, {high:.2f}]", "" if fitted is None else f"{fitted:.2f}"])
    print_table(["method", f"error of {method} over it [95 %]", "mixed model"], rows, "ratios over targets and sources")


def _mixed_model(frame: pandas.DataFrame, method: str) -> Mapping[str, float]:
    """Return the ratio of a method's error to that of each other, by restricted maximum likelihood.

    The model has fixed effects of method and source, and random effects of target and of target by method.
    """
    others = [name for name in METHODS if name in set(frame.method) and name != method]
    model = MixedLM.from_formula(
        f"log_error ~ C(method, Treatment('{method}')) + source",
        groups="target",
        vc_formula={"cell": "0 + C(method)"},
        re_formula="1",
        data=frame,
    )
    fitted = model.fit(reml=True)
    return {name: float(np.exp(-fitted.fe_params[f"C(method, Treatment('{method}'))[T.{name}]"])) for name in others}


def _print_falsifiers(frame: pandas.DataFrame, before: Mapping[str, dict | None]) -> None:
    """Print what the protocol concludes from distortion and errors."""
    probe = f"probe_{READ[-1]}"
    start = {source: record["probe"]["0"] for source, record in before.items() if record}
    rises = frame.assign(rise=frame[probe] - frame.source.map(start)).groupby("method").rise.mean()
    helps = []
    for name in HELD:
        if name not in rises or "finetune" not in rises:
            continue
        share = rises[name] / rises["finetune"]
        ratio, low, high = error_ratio(frame, name, "finetune")
        cut = share < LESS_DISTORTION
        helps.append(cut and high < 1)
        print(
            f"{name}: rise of the probe error {rises[name]:+.3f} against {rises['finetune']:+.3f} of finetune "
            f"({share:.2f} times), error ratio {ratio:.2f} [{low:.2f}, {high:.2f}]: distortion "
            f"{'cut' if cut else 'not cut'} by 30 %, target error {'lower' if high < 1 else 'not lower'}"
        )
    ratio, low, high = error_ratio(frame, "mona", "emb")
    print(f"mona over emb: {ratio:.2f} [{low:.2f}, {high:.2f}]")
    if helps and not any(helps):
        print("Holding the source does not lower the target error: the premise is not supported here.")
    elif any(helps) and low > SAME_ERROR:
        print("Holding the source helps, but MoNA's mixed product does not: the mechanism is not supported here.")
    else:
        print("Neither falsifier is met.")
