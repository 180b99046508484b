"""The tables of the study of methods: errors, remaining knowledge, ratios, and the verdict on the falsifiers."""

import textwrap
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas
from result_log import ResultLog
from scipy import stats

from evidence import ranking_jobs
from evidence.falsifiers import Held, verdict
from evidence.figures import MethodEffect, Panel, distortion_figure, ratios_figure
from evidence.page import replace_section
from evidence.ratios import (
    Ratio,
    detectable_ratio,
    error_ratios,
    interaction_p_value,
    interaction_ratios,
    mixed_model_of_sources,
    mixed_model_ratios,
    ratio_of,
)
from evidence.study_jobs import (
    ADDED_METHODS,
    ADDED_RATE,
    ADDED_SOURCE,
    DEVELOPMENT,
    METHODS,
    RATES,
    READ,
    SEEDS,
    SOURCES,
    TARGETS,
    TWO_STAGES,
    UNTOUCHED,
    Job,
    added_jobs,
    chosen_rate,
)
from modgap.answers.figures.files import save_figure
from modgap.cli.output import print_table
from modgap.statistics.multiple_comparisons import holm

HELD = ("l2-sp", "replay")
"""Methods that hold the source explicitly."""
LEAST_RISE = 0.2
"""Rise of the probe error by fine-tuning, relative to it before, below which a source has nothing to lose."""
MAYBE_SPARED = "vit-fashion"
"""The source that concludes only if fine-tuning raises its probe error by this much on the development targets."""
PROBE = f"probe_{READ[-1]}"
OWN_STATISTICS = "probe_own_statistics"
SECTION = ("<!-- added jobs: written by evidence_study.py page -->", "<!-- end of the added jobs -->")
"""Lines of docs/evidence-second.md between which the results of the added jobs are."""
LINE = 135


def report(log: ResultLog, raw: Mapping[str, float], tuned: pandas.Series) -> None:
    """Print all tables.

    Args:
        log: Results of the jobs.
        raw: Test error of nearest neighbors on the raw values by target.
        tuned: Log error of the fine-tuning of the ranking benchmark, as `tuned_errors` returns it.
    """
    frame = read_runs(log)
    n_jobs = len(SOURCES) * len(METHODS) * len(TARGETS) * SEEDS
    print(f"{len(frame)} of {n_jobs} jobs of the comparison are done")
    if frame.empty:
        return
    rates = [f"{source} {method} {chosen_rate(log, source, method)}" for source in SOURCES for method in METHODS]
    print(f"rates: {', '.join(rates)}")
    print("{} of {} rates lie at an edge of the grid".format(*edge_rates(log)))
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
    _print_interaction(frame, "mona", "each method at the rate that the development targets chose")
    for name in (*TWO_STAGES, *HELD):
        ratios = ratios_to_tuned(frame, name, tuned)
        text = ", ".join(f"{source} {ratio.text}" for source, ratio in ratios.items())
        print(f"{name} over the fine-tuning of the ranking benchmark, whose rate is chosen on each target: {text}")
    if len(frame) < n_jobs:
        print("The verdict on the falsifiers needs all jobs.")
        return
    _print_falsifiers(frame[frame.source.isin(concluding)], start)
    print("\n".join(added_section(log)))
    if n_added(log) == len(added_jobs()):
        _print_interaction(read_runs(log, ADDED_METHODS), "mona", f"{ADDED_SOURCE} at {ADDED_RATE:g} with all methods")


def draw(log: ResultLog, folder: Path) -> None:
    """Draw the ratios of MoNA's error to that of the other methods, and errors against the loss of knowledge.

    Once all added runs are there, all methods have one rate with the first source. In the second figure the methods
    that hold the source keep the rates that they chose, because they learn next to nothing at the other one.
    """
    complete = n_added(log) == len(added_jobs())
    added = ADDED_METHODS if complete else ()
    frame, start = read_runs(log, added), _probes_before(log)
    trained = [name for name in added if name not in HELD]
    ratios, losses = [], []
    for source in SOURCES:
        runs = frame[frame.source == source]
        rates = {name: _part_and_rate(log, source, name, added)[1] for name in METHODS}
        others = [name for name in METHODS if name in set(runs.method) and name != "mona"]
        ratios.append(Panel(source, _effects(error_ratios(runs, "mona", others), rates, rates["mona"])))
        rates = {name: _part_and_rate(log, source, name, trained)[1] for name in METHODS}
        runs = read_runs(log, trained)
        runs = runs[runs.source == source]
        columns = {source: PROBE, f"{source}, with the source's batch statistics": OWN_STATISTICS}
        for title, column in columns.items():
            lost = rises(runs, start, column).mean()
            if title == source or not lost.equals(losses[-1][1]):
                effects = _effects(ratios_beside_finetune(runs), rates, rates["finetune"], lost)
                losses.append((Panel(title, effects, float(lost["finetune"])), lost))
    design = f"{frame.target.nunique()} targets and {SEEDS} seeds"
    figures = {
        "ratios": ratios_figure(ratios, "mona", design),
        "distortion": distortion_figure([panel for panel, _ in losses], "finetune"),
    }
    for name, figure in figures.items():
        save_figure(figure, folder / f"evidence-{name}")


def _part_and_rate(log: ResultLog, source: str, method: str, added: Collection[str]) -> tuple[str, float | None]:
    """Return the part of the jobs that `read_runs` reads, and their rate."""
    if source == ADDED_SOURCE and method in added:
        return "added", ADDED_RATE
    return "study", chosen_rate(log, source, method)


def _effects(
    ratios: Mapping[str, Ratio],
    rates: Mapping[str, float | None],
    reference: float | None,
    lost: pandas.Series | None = None,
) -> tuple[MethodEffect, ...]:
    """Return methods beside one whose rate is the reference, with p-values corrected by Holm."""
    p_values = holm([one.p_value for one in ratios.values()])
    rise = {} if lost is None else lost.to_dict()
    return tuple(
        MethodEffect(
            name, one.value, (one.low, one.high), float(p), float(rise.get(name, np.nan)), rates[name] == reference
        )
        for (name, one), p in zip(ratios.items(), p_values, strict=True)
    )


def concluding_sources(log: ResultLog) -> tuple[str, ...]:
    """Return the sources from which the conclusions come: one that fine-tuning spares has nothing to save."""
    spared = not _relative_rise(log) >= LEAST_RISE
    return tuple(source for source in SOURCES if source != MAYBE_SPARED or not spared)


def _probes_before(log: ResultLog) -> dict[str, float]:
    results = {source: log.get(Job("study", source, UNTOUCHED, "")) for source in SOURCES}
    return {source: record["probe"]["0"] for source, record in results.items() if record}


def _relative_rise(log: ResultLog) -> float:
    """Return the rise of the probe error by fine-tuning on the development targets, relative to that before."""
    rate = chosen_rate(log, MAYBE_SPARED, "finetune")
    start = _probes_before(log).get(MAYBE_SPARED)
    if rate is None or start is None:
        return np.nan
    results = [log.get(Job("rate", MAYBE_SPARED, "finetune", target, 0, rate)) for target in DEVELOPMENT]
    after = [record["probe"][str(READ[-1])] for record in results if record]
    return float(np.mean(np.array(after, float)) / start - 1)


def rises(frame: pandas.DataFrame, start: Mapping[str, float], column: str = PROBE) -> pandas.DataFrame:
    """Return the mean rise of a probe error by target and method, without scratch, which has no source.

    Args:
        frame: Runs, as `read_runs` returns them.
        start: Probe error before training by source.
        column: Column of the probe error after training.
    """
    rise = frame.assign(rise=frame[column] - frame.source.map(start))
    table = rise[rise.method != "scratch"].pivot_table(index="target", columns="method", values="rise", aggfunc="mean")
    return table


def read_runs(log: ResultLog, added: Collection[str] = ()) -> pandas.DataFrame:
    """Return one row for each finished run of the comparison, at the rate that its method chose.

    Args:
        log: Results of the jobs.
        added: Methods whose added runs are read in place of those at the chosen rate, with the source that has them.
    """
    rows = []
    for source in SOURCES:
        for method in METHODS:
            part, rate = _part_and_rate(log, source, method, added)
            for target in TARGETS:
                for seed in range(SEEDS):
                    result = None if rate is None else log.get(Job(part, source, method, target, seed, rate))
                    if result is None:
                        continue
                    row = {"source": source, "method": method, "target": target, "seed": seed}
                    row |= {f"error_{epoch}": result["errors"][str(epoch)] for epoch in READ}
                    row |= {f"probe_{epoch}": result["probe"][str(epoch)] for epoch in READ}
                    row[OWN_STATISTICS] = result["probe_own_statistics"][str(READ[-1])]
                    row["log_error"] = _log_error(result)
                    rows.append(row)
    return pandas.DataFrame(rows)


def _log_error(record: Mapping) -> float:
    """Return the logarithm of a test error; it counts half an error more, so that no error has a logarithm too."""
    n_test = record["samples"]["test"]
    return float(np.log((record["errors"][str(READ[-1])] / 100 * n_test + 0.5) / (n_test + 1)))


def n_added(log: ResultLog) -> int:
    """Return how many of the added jobs are done."""
    return sum(log.get(job) is not None for job in added_jobs())


def edge_rates(log: ResultLog) -> tuple[int, int]:
    """Return how many rates of sources and methods are the lowest or the highest of the grid, and their number."""
    rates = [chosen_rate(log, source, method) for source in SOURCES for method in METHODS]
    chosen_rates = [rate for rate in rates if rate is not None]
    return sum(rate in (min(RATES), max(RATES)) for rate in chosen_rates), len(chosen_rates)


def tuned_errors(log: ResultLog) -> pandas.Series:
    """Return the log error of fine-tuning in the ranking benchmark by source and target, the mean over its seeds.

    Its rate is chosen on a half of each target's samples, while a method of the study has one rate for all targets.

    Args:
        log: Results of the ranking benchmark.
    """
    ratios = {}
    for source in SOURCES:
        for target in TARGETS:
            rate = ranking_jobs.chosen_rate(log, source, target)
            seeds = range(ranking_jobs.n_seeds(source)) if rate is not None else ()
            records = [log.get(ranking_jobs.Job("all", source, target, seed, rate)) for seed in seeds]
            if records and all(records):
                ratios[source, target] = float(np.mean([_log_error(record) for record in records if record]))
    return pandas.Series(ratios, pandas.MultiIndex.from_tuples(list(ratios), names=["source", "target"]), dtype=float)


def ratios_to_tuned(frame: pandas.DataFrame, method: str, tuned: pandas.Series) -> dict[str, Ratio]:
    """Return the ratio of a method's error to that of the tuned fine-tuning, by source and over both.

    Args:
        frame: Runs, as `read_runs` returns them.
        method: The method.
        tuned: Log error of the tuned fine-tuning by source and target.
    """
    means = frame[frame.method == method].groupby(["source", "target"]).log_error.mean()
    differences = (means - tuned).dropna().unstack("source")
    ratios = {source: ratio_of(differences[source].dropna()) for source in SOURCES if source in differences}
    return {**ratios, "both": ratio_of(differences.dropna().mean(axis=1))} if ratios else {}


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


def _print_ratios(frame: pandas.DataFrame, method: str, title: str) -> None:
    others = [name for name in METHODS if name in set(frame.method) and name != method]
    ratios, mixed = error_ratios(frame, method, others), mixed_model_ratios(frame, method)
    p_values = holm([one.p_value for one in ratios.values()])
    n_targets = frame.target.nunique()
    rows = [
        [
            other,
            ratios[other].text,
            f"{p_value:.3f}",
            mixed[other].text,
            f"{detectable_ratio(ratios[other], n_targets):.2f}",
        ]
        for other, p_value in zip(others, p_values, strict=True)
    ]
    header = ["method", f"error of {method} over it [95 %]", "p (Holm)", "mixed model [95 %]", "detectable"]
    print_table(header, rows, title)


def _print_interaction(frame: pandas.DataFrame, method: str, title: str) -> None:
    """Print how much the ratios of a method depend on the source."""
    if frame.source.nunique() < 2:
        return
    others = [name for name in METHODS if name in set(frame.method) and name != method]
    interactions = interaction_ratios(frame, method, others)
    mixed, by_source = mixed_model_of_sources(frame, method)
    p_values = holm([one.p_value for one in interactions.values()])
    rows = [
        [name, interactions[name].text, f"{interactions[name].p_value:.3f}", f"{p_value:.3f}", mixed[name].text]
        + [ratios[name].text for ratios in by_source.values()]
        for name, p_value in zip(others, p_values, strict=True)
    ]
    header = [f"error of {method} over", "ratio of ratios [95 %]", "p", "p (Holm)", "mixed model [95 %]", *by_source]
    print_table(header, rows, f"{SOURCES[0]} over {SOURCES[1]}, {title}")
    print(f"no interaction of source and method, all methods: p = {interaction_p_value(frame):.4f}")


def ratios_beside_finetune(frame: pandas.DataFrame) -> dict[str, Ratio]:
    """Return the ratio of the error of each method that uses the source to that of `finetune`."""
    methods = set(frame.method)
    others = [name for name in METHODS if name in methods and name not in ("finetune", "scratch")]
    return {name: error_ratios(frame, name, ["finetune"])["finetune"] for name in others}


def _print_beside_finetune(frame: pandas.DataFrame, title: str) -> None:
    ratios = ratios_beside_finetune(frame)
    p_values = holm([one.p_value for one in ratios.values()])
    rows = [[name, one.text, f"{p_value:.3f}"] for (name, one), p_value in zip(ratios.items(), p_values, strict=True)]
    print_table(["method", "ratio [95 %]", "p (Holm)"], rows, title)


def _held(frame: pandas.DataFrame, name: str, by_target: pandas.DataFrame) -> Held:
    """Print and return what a method that holds the source does to distortion and error."""
    ratio = error_ratios(frame, name, ["finetune"])["finetune"]
    both = by_target[[name, "finetune"]].dropna()
    one = Held(name, float(both[name].mean()), float(both["finetune"].mean()), ratio.high)
    saved = stats.ttest_rel(both["finetune"], both[name]).confidence_interval(0.95)
    print(
        f"{name}: rise of the probe error {one.rise:+.3f} against {one.reference:+.3f} of finetune, lower by "
        f"{one.reference - one.rise:.3f} [{saved.low:.3f}, {saved.high:.3f}]; error ratio {ratio.text}: {one.text}"
    )
    return one


def _print_falsifiers(frame: pandas.DataFrame, start: Mapping[str, float]) -> None:
    """Print what the protocol concludes from distortion and errors."""
    held = [_held(frame, name, rises(frame, start)) for name in HELD]
    print("With the source's own batch statistics:")
    for name in HELD:
        _held(frame, name, rises(frame, start, OWN_STATISTICS))
    mechanism = error_ratios(frame, "mona", ["emb"])["emb"]
    print(f"mona over emb: {mechanism.text}")
    print(verdict(held, mechanism.low))


def mean_errors(frame: pandas.DataFrame, source: str, column: str = f"error_{READ[-1]}") -> dict[str, float]:
    """Return the mean over targets of the mean over seeds by method, for one source."""
    table = frame[frame.source == source].pivot_table(index="method", columns="target", values=column)
    return {method: float(table.loc[method].mean()) for method in METHODS if method in table.index}


def added_section(log: ResultLog) -> list[str]:
    """Return the lines of docs/evidence-second.md about the added jobs; without a table before all of them are done."""
    n_jobs, done = len(added_jobs()), n_added(log)
    if done < n_jobs:
        text = f"{done} of these {n_jobs} jobs are done, and their errors are shown when all of them are."
        return textwrap.wrap(text, LINE)
    before, after = read_runs(log), read_runs(log, ADDED_METHODS)
    after = after[after.source == ADDED_SOURCE]
    chosen, same = mean_errors(before, ADDED_SOURCE), mean_errors(after, ADDED_SOURCE)
    probes, restored = (mean_errors(after, ADDED_SOURCE, column) for column in (PROBE, OWN_STATISTICS))
    beside = ratios_beside_finetune(after)
    p_values = dict(zip(beside, holm([one.p_value for one in beside.values()]), strict=True))
    lines = [
        f"| method | error at the chosen rate | error at {ADDED_RATE:g} | over that of `finetune` [95 %] | p (Holm) | "
        "`mona` over it [95 %] | probe error | with the source's statistics |",
        "|---|---|---|---|---|---|---|---|",
    ]
    over = error_ratios(after, "mona", [name for name in METHODS if name != "mona"])
    for name in METHODS:
        cells = [f"{chosen[name]:.1f}", f"{same[name]:.1f}"]
        cells += [beside[name].text, f"{p_values[name]:.3f}"] if name in beside else ["", ""]
        cells += [over[name].text if name in over else "", f"{probes[name]:.3f}", f"{restored[name]:.3f}"]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return [*lines, "", *textwrap.wrap(_added_text(log, same, beside, p_values), LINE)]


def _added_text(
    log: ResultLog, errors: Mapping[str, float], beside: Mapping[str, Ratio], p_values: Mapping[str, float]
) -> str:
    """Return what the added jobs show, in sentences that claim no more than is significant."""
    lower = [f"`{name}`" for name in TWO_STAGES if p_values[name] <= 0.05 and beside[name].value < 1]
    names = f"{', '.join(f'`{name}`' for name in TWO_STAGES[:-1])} and `{TWO_STAGES[-1]}`"
    stages = (
        f"{names}, which train the embedder first, are not shown to have a lower error than `finetune` at this rate"
    )
    if lower:
        stages = (
            f"Of {names}, which train the embedder first, {' and '.join(lower)} {'has' if len(lower) == 1 else 'have'} "
            "a significantly lower error than `finetune` at this rate"
        )
    trained = [name for name in ADDED_METHODS if name not in HELD]
    frame = read_runs(log, trained)
    frame = frame[frame.source == ADDED_SOURCE]
    held = " and ".join(f"`{name}`" for name in HELD)
    on_development = [development_error(log, ADDED_SOURCE, name, ADDED_RATE) for name in HELD]
    ratios = [error_ratios(frame, name, ["finetune"])["finetune"].text for name in HELD]
    return (
        f"{stages}. With {held}, batch normalization keeps the source's statistics, and at this rate their errors are "
        f"{' and '.join(f'{errors[name]:.1f}' for name in HELD)} % (on the development targets "
        f"{' and '.join(f'{error:.1f}' for error in on_development)} %). At the rates that they chose, they have "
        f"{' and '.join(ratios)} times the error of `finetune` at {ADDED_RATE:g}."
    )


def development_error(log: ResultLog, source: str, method: str, rate: float) -> float:
    """Return the mean error of a method on the development targets at a rate."""
    records = [log.get(Job("rate", source, method, target, 0, rate)) for target in DEVELOPMENT]
    return float(np.mean([record["errors"][str(READ[-1])] for record in records if record]))


def write_section(log: ResultLog, page: Path) -> None:
    """Write the results of the added jobs into docs/evidence-second.md."""
    replace_section(page, SECTION, added_section(log))
