"""Discrepancy and linear probe of every packaged source on every packaged target that it can read.

    python benchmarks/zoo_matrix.py plan [--hours 10]      pairs, and core-hours that are expected
    python benchmarks/zoo_matrix.py run [--hours 10]       rank all sources for each target; stop and resume at any time
    python benchmarks/zoo_matrix.py report                 the best source of each kind of target, beside the baselines
    python benchmarks/zoo_matrix.py page                   write these tables into docs/zoo/sources.md, and a CSV

Each pair has 200 samples and one random-weights control, and the best two sources of each target have three controls in
the discrepancy. Near copies are left out, and so are the targets that will judge the third edition of the evidence
(benchmarks/truth/judging_targets.json). The results are in benchmarks/truth/zoo.jsonl, one line for each target.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from evidence.summaries import mean_interval
from result_log import ResultLog

import modgap
from modgap.cli.output import print_table
from modgap.errors import InputError
from modgap.ranking.types import BASELINE, CONTROL, SOURCE
from modgap.storage.json_records import plain_values

RESULTS = Path(__file__).parent / "truth" / "zoo.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "zoo" / "sources.md"
SECTION = ("<!-- matrix begin -->", "<!-- matrix end -->")
CSV = PAGE.parent / "_static" / "zoo.csv"
JUDGING = RESULTS.with_name("judging_targets.json")
SAMPLES = 200
BEST = 2
"""Sources of each target whose discrepancy has three controls."""
MEASURED = ("digits", "gunpoint", "spoken-digits", "promoter-genes")
"""A source is timed on the first of these targets that it reads."""
MEASURED_SAMPLES = 40
"""Samples of a first ranking, which is not timed."""
OWN_DATA = {("vit-fashion", "fashion-mnist")}
"""Sources with the target that they were trained on, whose errors say nothing about other data and are left out."""
PROBE, DISCREPANCY = "linear-probe", "discrepancy"
SEPARATOR = ", "
RANKING: dict[str, Any] = {"scores": (DISCREPANCY,), "by": PROBE, "resamples": 0}


@dataclass(frozen=True)
class Job:
    """All sources on one target.

    Attributes:
        target: Name of the target.
        sources: Names of the sources, of which those that cannot read the target fail.
    """

    target: str
    sources: tuple[str, ...]


def judging_targets() -> set[str]:
    """Return the names of the targets that nothing may touch before the protocol of the third edition."""
    return {name for of_kind in json.loads(JUDGING.read_text()).values() for name in of_kind}


def usable_targets() -> list[str]:
    """Return the targets on this machine, without near copies and those that will judge."""
    infos = [info for info in modgap.list_targets() if info.is_installed and not info.near_copies]
    return [info.name for info in infos if info.name not in judging_targets()]


def usable_sources() -> list[str]:
    """Return the sources whose weights are on this machine."""
    return [info.name for info in modgap.list_sources() if info.is_installed]


def planned_jobs(targets: Sequence[str], seconds: Mapping[str, float], hours: float) -> Iterator[tuple[Job, float]]:
    """Yield the job of each target with its expected core-seconds, without those of the baselines.

    If all pairs would take longer than these core-hours, the same share of the pairs is drawn on every target.

    Args:
        targets: Names of the targets.
        seconds: Core-seconds of each source on one target.
        hours: Most core-hours.
    """
    total = len(targets) * sum(seconds.values())
    share = min(1.0, 3600 * hours / total) if total else 1.0
    rng = np.random.default_rng(0)
    for target in targets:
        drawn = rng.random(len(seconds)) < share
        kept = tuple(source for source, is_drawn in zip(seconds, drawn, strict=True) if is_drawn)
        yield Job(target, kept), sum(seconds[source] for source in kept)


def measured_seconds(source: str) -> float:
    """Return the seconds of a ranking of a source alone, in an empty cache; 0 if it reads none of `MEASURED`."""
    alone = {"baselines": "none", "jobs": 1}
    for target in MEASURED:
        with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, MODGAP_CACHE=folder):
            # Fits the head of a source that has none, once for all targets.
            first = modgap.rank(target, [source], **RANKING, limit=MEASURED_SAMPLES, **alone).to_dict()
            if all(_row(row).get(PROBE) is None for row in first["sources"]):
                continue
            began = time.perf_counter()
            modgap.rank(target, [source], **RANKING, limit=SAMPLES, **alone)
            return time.perf_counter() - began
    return 0.0


def work(job: Job, log: ResultLog) -> dict:
    """Rank the sources on a target, measure the best two with three controls, and append the results."""
    began = time.perf_counter()
    record = modgap.rank(job.target, list(job.sources), **RANKING, limit=SAMPLES).to_dict()
    rows = [_row(row) for row in record["sources"]]
    best = [row["source"] for row in rows if row["kind"] == SOURCE and row.get(PROBE) is not None][:BEST]
    controls = {source: _with_controls(source, job.target) for source in best}
    target = {name: record["target"][name] for name in ("task", "samples", "classes", "groups", "kind")}
    seconds = round(time.perf_counter() - began, 1)
    return log.add(job, plain_values({"target": target, "rows": rows, "controls": controls, "seconds": seconds}))


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a source, a control or a baseline: its scores, or the reason why it has none."""
    values = {name: row["scores"][name]["value"] for name in (PROBE, DISCREPANCY) if name in row["scores"]}
    return {"source": row["source"], "kind": row["kind"], **values, "reason": row["reason"]}


def _with_controls(source: str, target: str) -> Any:
    """Return what the discrepancy says about three controls; the reason where it cannot be measured."""
    try:
        result = modgap.measure(source, target, limit=SAMPLES, control=3, split="train")
    except InputError as error:
        return str(error)
    return result.to_dict()["control"]


def scores_frame(results: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return a row for each source, control and baseline on each target, with both scores; NaN for one without a value.

    Pairs of a source and the data that it was trained on are left out.
    The kind of a target with values instead of classes is `values`, since its errors are of another unit (1 - R2).
    """
    kinds = {info.name: info.kind for info in modgap.list_targets()}
    rows = []
    for result in results:
        name, about = result["job"]["target"], result["target"]
        kind = "values" if about["task"] == "regression" else kinds.get(name, about["kind"])
        target = {"kind": kind, "target": name, "samples": about["samples"], "classes": about["classes"]}
        rows += [
            {
                **target,
                "source": row["source"],
                "role": row["kind"],
                PROBE: row.get(PROBE),
                DISCREPANCY: row.get(DISCREPANCY),
            }
            for row in result["rows"]
            if (row["source"], name) not in OWN_DATA
        ]
    frame = pd.DataFrame(rows).astype({PROBE: float, DISCREPANCY: float})
    return frame.sort_values(["kind", "target"], ignore_index=True, kind="stable")


def best_sources(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each target: its kind, the best source and baseline, and the error of both by cross-validation.

    The names of several with the same lowest error have commas between them.

    Args:
        frame: Scores as `scores_frame` returns them.
    """
    rows = []
    for (kind, target), rows_of in frame.dropna(subset=PROBE).groupby(["kind", "target"]):
        row = {"kind": kind, "target": target}
        for name in (SOURCE, BASELINE):
            best = rows_of[rows_of["role"] == name].nsmallest(1, PROBE, keep="all")
            row |= {name: SEPARATOR.join(best["source"]), f"{name} error": best[PROBE].min()}
        if row[SOURCE]:
            rows.append(row)
    return pd.DataFrame(rows)


def tables(results: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yield title, heads and rows of tables: the best of each kind, how often each source is, what pretraining adds."""
    scores = scores_frame(results)
    best = best_sources(scores)
    names, errors = (SOURCE, BASELINE), [f"{SOURCE} error", f"{BASELINE} error"]
    rows = []
    for kind, of_kind in best.groupby("kind"):
        both = of_kind.dropna(subset=errors)
        means = [f"{both[error].mean():.3f}" for error in errors]
        wins = int((both[errors[0]] < both[errors[1]]).sum())
        source, baseline = (_most_frequent(of_kind[name]) for name in names)
        rows.append([str(kind), str(len(of_kind)), source, means[0], baseline, means[1], f"{wins} of {len(both)}"])
    title = "The best linear probe of each target beside the best baseline, by cross-validation on 200 samples"
    heads = ["kind", "targets", "best sources", "mean error", "best baselines", "mean error", "source is better"]
    yield title, heads, rows
    counts = name_counts(best[SOURCE])
    shares = [[str(name), str(n), f"{100 * n / len(best):.0f} %"] for name, n in counts.items()]
    yield (
        "Targets on which a source has the lowest probe error, alone or with others",
        ["source", "targets", "share"],
        shares,
    )
    title = (
        "Probe error of a source minus that of the same network with random weights, in points, on targets with classes"
    )
    rows = []
    for name, values in pretraining_differences(scores).groupby(level="source"):
        if len(values) < 2:
            continue
        interval = mean_interval(values.to_numpy())
        rows.append((interval.mean, [str(name), str(len(values)), str(interval)]))
    yield title, ["source", "targets", "difference [95 %]"], [row for _, row in sorted(rows)]


def pretraining_differences(scores: pd.DataFrame) -> pd.Series:
    """Return the probe error minus that of random weights in points, by source and target with classes."""
    of_classes = scores[scores["kind"] != "values"]
    sources, controls = (of_classes[of_classes["role"] == role] for role in (SOURCE, CONTROL))
    controls = controls.assign(source=controls["source"].str.removeprefix("random:"))
    errors = [rows.set_index(["source", "target"])[PROBE] for rows in (sources, controls)]
    return (100 * (errors[0] - errors[1])).dropna()


def name_counts(names: pd.Series) -> pd.Series:
    """Return in how many rows of a column of `best_sources` each name is."""
    each = names.str.split(SEPARATOR).explode()
    return each[each != ""].str.removeprefix(f"{BASELINE}:").value_counts()


def _most_frequent(names: pd.Series) -> str:
    return ", ".join(f"{name} ({n})" for name, n in name_counts(names).head(3).items())


def report(log: ResultLog) -> None:
    """Print the tables, the time that the results took, and why sources have no value."""
    results = log.results()
    for title, heads, rows in tables(results):
        print_table(heads, rows, title)
    failed = {row["reason"] for result in results for row in result["rows"] if row["reason"]}
    n_pairs = sum(len(result["job"]["sources"]) for result in results)
    hours = sum(result["seconds"] for result in results) / 3600
    print(f"{len(results)} targets, {n_pairs} pairs, {hours:.2f} hours by wall time")
    print("reasons of sources without a value:", *sorted(failed), sep="\n  ")


def write_page(log: ResultLog) -> None:
    """Write the tables into docs/zoo/sources.md, and the scores of all sources into a CSV beside it."""
    lines = []
    for title, heads, rows in tables(log.results()):
        lines += [f"{title}:", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(SECTION[0])
    _, end, after = rest.partition(SECTION[1])
    text = "\n".join(lines[:-1])
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
    scores_frame(log.results()).round(4).to_csv(CSV, index=False)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["plan", "run", "report", "page"])
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    log = ResultLog(options.results)
    if options.command == "report":
        report(log)
        return
    if options.command == "page":
        write_page(log)
        return
    seconds_of = {source: measured_seconds(source) for source in usable_sources()}
    jobs = list(planned_jobs(usable_targets(), seconds_of, options.hours))
    hours = sum(seconds for _, seconds in jobs) / 3600
    n_pairs = sum(len(job.sources) for job, _ in jobs)
    print(f"{len(jobs)} targets, {n_pairs} pairs, about {hours:.1f} core-hours", flush=True)
    if options.command == "plan":
        return
    # In a drawn order, so that an unfinished matrix has targets of all kinds.
    np.random.default_rng(0).shuffle(jobs)
    done = {result["job"]["target"] for result in log.results()}
    for job, seconds in jobs:
        if job.target not in done:
            result = work(job, log)
            print(f"{job.target}: {result['seconds']} s, expected {seconds:.0f} core-seconds", flush=True)


if __name__ == "__main__":
    main()
