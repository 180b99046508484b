"""Does `modgap rank` choose well? Every source fine-tuned on every target, and how each score agrees with that.

    python benchmarks/ranking.py plan                  what there is to do, what is done, and the time it takes
    python benchmarks/ranking.py run [--workers 2]     the fine-tunings that are not done yet; stopped when you like
    python benchmarks/ranking.py report                scores of all sources, and the tables

The truth is the test error after fine-tuning everything on small images and 200 samples at most, over three seeds: a
probe as truth would be circular, since a probe is one of the scores. The scores see the training samples only. Over all
sources (random weights among them) and among the pretrained ones alone; intervals are over targets, by Student's t.
Beside the scores stand the sources' size, a choice at random, the best of all random weights, and one fine-tuning of
each source judged by the other seeds, which is what the truth itself can tell.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import joblib
import numpy as np
from choice.tables import print_agreement, print_truth
from choice.truth import PRETRAINED, SEEDS, SOURCES, TARGETS, Trial, errors_of, trials, work
from result_log import ResultLog

from modgap import __version__
from modgap.forward.sample_request import SampleRequest
from modgap.ranking.backends import Backend
from modgap.ranking.rank import rank
from modgap.ranking.scores import score_names
from modgap.ranking.standings import round_significant
from modgap.ranking.types import RankRequest

RESULTS = Path(__file__).parent / "results" / "ranking.jsonl"
SECONDS_UNKNOWN = 60.0


def plan(log: ResultLog, workers: int) -> None:
    """What is done and what the rest takes."""
    listed = list(trials())
    spent = [found["seconds"] for trial in listed if (found := log.get(trial))]
    each = float(np.mean(spent)) if spent else SECONDS_UNKNOWN
    left = (len(listed) - len(spent)) * each / 60
    told = "measured" if spent else "guess"
    print(f"{len(listed)} fine-tunings ({len(SOURCES)} sources x {len(TARGETS)} targets x {SEEDS} seeds), {len(spent)} "
          f"done, {each:.0f} s each ({told}); {left:.0f} min of one core left, {left / workers:.0f} min with {workers} "
          "workers", flush=True)  # fmt: skip


def run(log: ResultLog, runs: Path, workers: int) -> None:
    """All that are not done, seed after seed."""
    plan(log, workers)
    waiting = [trial for trial in trials() if log.get(trial) is None]
    began = time.perf_counter()
    parallel = joblib.Parallel(workers, return_as="generator_unordered")
    for number, (trial, found) in enumerate(
        parallel(joblib.delayed(_worked)(trial, log, runs) for trial in waiting), 1
    ):
        print(f"{number}/{len(waiting)} {trial.name}: {found['test']:.4g}, {found['seconds']} s, "
              f"{(time.perf_counter() - began) / 60:.1f} min so far", flush=True)  # fmt: skip


def _worked(trial: Trial, log: ResultLog, runs: Path) -> tuple[Trial, dict]:
    return trial, work(trial, log, runs)


def report(log: ResultLog, workers: int) -> None:
    """The truth, the scores, and how they agree."""
    done = {target: errors_of(target, log) for target in TARGETS}
    whole = {target: errors for target, errors in done.items() if set(errors) == set(SOURCES)}
    print(f"{platform.machine()}, {os.cpu_count()} cores, no GPU used, modgap {__version__}; targets with all sources "
          f"done: {', '.join(whole) or 'none'}")  # fmt: skip
    if not whole:
        return
    print_truth(whole, SOURCES)
    began = time.perf_counter()
    scored = {target: _scored(target, workers) for target in whole}
    print(f"scores of {len(SOURCES)} sources on {len(whole)} targets: {time.perf_counter() - began:.0f} s with "
          f"{workers} workers")  # fmt: skip
    agreement = {
        title: print_agreement(title, whole, scored, sources)
        for title, sources in (("all sources", SOURCES), ("pretrained sources alone", PRETRAINED))
    }
    found = {"targets": list(whole), "scores": scored, "agreement": agreement}
    log.path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


def _scored(target: str, workers: int) -> dict[str, dict[str, float | None]]:
    """By score and source, the value on the training samples; the higher the better."""
    samples = SampleRequest(split="train", limit=200)
    request = RankRequest(scores=tuple(score_names()), resamples=0, samples=samples, controls=False, raw=False)
    found = rank(target, SOURCES, request, Backend("loky", workers))
    values: dict[str, dict[str, float | None]] = {}
    for name, table in found.tables.items():
        sign = 1 if table.higher_is_better else -1
        values[name] = {
            row.name: sign * float(value) if np.isfinite(value) else None
            for row, value in zip(found.rows, round_significant(table.standings.values), strict=True)
        }
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["plan", "run", "report"])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("ranking-runs"))
    options = parser.parse_args()
    log = ResultLog(options.results)
    if options.what == "plan":
        plan(log, options.workers)
    elif options.what == "run":
        run(log, options.runs, options.workers)
    else:
        report(log, options.workers)


if __name__ == "__main__":
    main()
