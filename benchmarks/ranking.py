"""Compare the scores of `modgap rank` with the test errors after fine-tuning every source on every target.

    python benchmarks/ranking.py plan                  print what is done, what is left, and how long it takes
    python benchmarks/ranking.py run [--workers 2]     run the fine-tunings that are left; you can stop it at any time
    python benchmarks/ranking.py report                compute the scores of all sources, and print the tables
    python benchmarks/ranking.py report --score soft   compute only this score, and take the others from the last report

The reference is the test error after fine-tuning all weights on small images and at most 200 samples, over three seeds.
The error of a probe would be a circular reference, since a probe is one of the scores. The scores use the training
samples only. There is one table over all sources, including those with random weights, and one over the pretrained
sources alone. The intervals are over targets, by Student's t. The tables also have the size of the source, a random
choice, the best source with random weights, the constant answer (for each target the source that is best on the other
targets), the size among the sources that are not the text model, and one fine-tuning of each source, compared with the
mean of the other seeds. This last row shows how well the reference itself can be predicted. The score `entropy` does
not use the labels.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import joblib
import numpy as np
from choice.fine_tuning import PRETRAINED, SEEDS, SOURCES, TARGETS, Trial, errors_of, trials, work
from choice.tables import print_agreement, print_truth
from result_log import ResultLog

from modgap.forward.sample_request import SampleRequest
from modgap.ranking.backends import Backend
from modgap.ranking.rank import rank
from modgap.ranking.scores import score_names
from modgap.ranking.standings import round_significant
from modgap.ranking.types import RankRequest
from modgap.version import installed_version

RESULTS = Path(__file__).parent / "results" / "ranking.jsonl"
SECONDS_UNKNOWN = 60.0


def plan(log: ResultLog, workers: int) -> None:
    """Print the number of fine-tunings, how many are done, and the time that the others take."""
    planned = list(trials())
    seconds = [result["seconds"] for trial in planned if (result := log.get(trial))]
    mean_seconds = float(np.mean(seconds)) if seconds else SECONDS_UNKNOWN
    minutes_left = (len(planned) - len(seconds)) * mean_seconds / 60
    origin = "measured" if seconds else "an estimate"
    print(
        f"{len(planned)} fine-tunings ({len(SOURCES)} sources x {len(TARGETS)} targets x {SEEDS} seeds), "
        f"{len(seconds)} done, {mean_seconds:.0f} s for each ({origin}); {minutes_left:.0f} min of one core left, "
        f"{minutes_left / workers:.0f} min with {workers} workers",
        flush=True,
    )


def run(log: ResultLog, runs: Path, workers: int) -> None:
    """Run all fine-tunings that are not done, seed after seed."""
    plan(log, workers)
    waiting = [trial for trial in trials() if log.get(trial) is None]
    began = time.perf_counter()
    parallel = joblib.Parallel(workers, return_as="generator_unordered")
    results = parallel(joblib.delayed(_run_trial)(trial, log, runs) for trial in waiting)
    for number, (trial, result) in enumerate(results, 1):
        minutes = (time.perf_counter() - began) / 60
        print(
            f"{number}/{len(waiting)} {trial.name}: error {result['test']:.4g} %, {result['seconds']} s, "
            f"{minutes:.1f} min so far",
            flush=True,
        )


def _run_trial(trial: Trial, log: ResultLog, runs: Path) -> tuple[Trial, dict]:
    return trial, work(trial, log, runs)


def report(log: ResultLog, workers: int, names: Sequence[str] = ()) -> None:
    """Print the test errors, the scores and how they agree, and write them to a JSON file.

    Args:
        log: Results of the fine-tunings.
        workers: Number of processes that compute scores.
        names: Scores to compute; the others are taken from the JSON file of the last report. Empty for all.
    """
    path = log.path.with_suffix(".json")
    last_scores = json.loads(path.read_text())["scores"] if names else {}
    results = {target: errors_of(target, log) for target in TARGETS}
    complete = {target: errors for target, errors in results.items() if set(errors) == set(SOURCES)}
    print(f"{platform.machine()}, {os.cpu_count()} cores, no GPU used, modgap {installed_version()}")
    print(f"targets with all sources done: {', '.join(complete) or 'none'}")
    if not complete:
        return
    print_truth(complete, SOURCES)
    began = time.perf_counter()
    scores = {
        target: {**last_scores.get(target, {}), **_scores(target, workers, names or score_names())}
        for target in complete
    }
    seconds = time.perf_counter() - began
    headless = {name for table in scores.values() for name, value in table["leep"].items() if value is None}
    if headless:
        print(
            f"No head, so the tables are of fewer sources: {', '.join(sorted(headless))}. `make setup data` installs "
            "the data that heads are fitted on."
        )
    computed = f"{len(names)} scores" if names else "all scores"
    print(f"{computed} of {len(SOURCES)} sources on {len(complete)} targets: {seconds:.0f} s with {workers} workers")
    agreement = {
        title: print_agreement(title, complete, scores, sources)
        for title, sources in (("all sources", SOURCES), ("pretrained sources alone", PRETRAINED))
    }
    record = {"targets": list(complete), "scores": scores, "agreement": agreement}
    path.write_text(json.dumps(record, indent=1) + "\n")


def _scores(target: str, workers: int, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Return the values on the training samples, by score and source; higher is better."""
    samples = SampleRequest(split="train", limit=200)
    request = RankRequest(scores=tuple(names), by=names[0], resamples=0, samples=samples, controls=False, raw=False)
    ranking = rank(target, SOURCES, request, Backend("loky", workers))
    values: dict[str, dict[str, float | None]] = {}
    for name, table in ranking.tables.items():
        sign = 1 if table.higher_is_better else -1
        values[name] = {
            row.name: sign * float(value) if np.isfinite(value) else None
            for row, value in zip(ranking.rows, round_significant(table.standings.values), strict=True)
        }
    return values


def main() -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["plan", "run", "report"])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--score", action="append", default=[], choices=score_names(), dest="scores")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("ranking-runs"))
    options = parser.parse_args()
    log = ResultLog(options.results)
    if options.command == "plan":
        plan(log, options.workers)
    elif options.command == "run":
        run(log, options.runs, options.workers)
    else:
        report(log, options.workers, options.scores)


if __name__ == "__main__":
    main()
