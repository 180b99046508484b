"""The small version of the study: error, distortion and discrepancy of eight methods on targets far from the source.

    python benchmarks/transfer.py plan                    print what is done, what is left, and how long it takes
    python benchmarks/transfer.py run [--part PART]       run the jobs that are left; you can stop it at any time
    python benchmarks/transfer.py again --most 5          repeat jobs that are done; the numbers must be the same
    python benchmarks/transfer.py report [--part PART] [--figures DIR]    print the tables of the jobs that are done
    python benchmarks/transfer.py quick                   run small jobs of two sources, and print their tables; 2 min

Each job is one `modgap train` and its diagnostics on one thread, and appends one line to
benchmarks/results/transfer.jsonl. A job that was stopped resumes from its newest checkpoint. The study has these parts:

    sweep      alpha x lambda on two targets that are in no other part but `steps` (vit-fashion), two seeds; the best
               values are those of MoNA in all other parts
    2d         vit-fashion, four targets, eight methods, five seeds
    surrogate  the same on two targets with mnist5k in place of Fashion-MNIST
    ablation   MoNA without the task loss, with other objectives and switches, two targets, five seeds
    steps      one, two and three inner steps on the targets of the sweep, three seeds
    cnn        efficientnet-lite0 at 64 px, two targets, three methods, three seeds
    1d         minilm, four targets, eight methods, three seeds
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import joblib
import torch
from result_log import ResultLog
from study.figures import figure, sensitivity
from study.jobs import GRIDS, PARTS, UNTOUCHED, Job, jobs
from study.tables import plan, report
from study.work import work

from modgap.answers.figures.files import save_figure
from modgap.storage.algorithms import installed_version

RESULTS = Path(__file__).parent / "results" / "transfer.jsonl"


def run(parts: Sequence[str], log: ResultLog, runs: Path, workers: int, most: int | None) -> None:
    """Run all jobs that are not done, part after part, but at most `most` of them."""
    print(f"{_machine()}; {' '.join(sys.argv)}", flush=True)
    for part in parts:
        waiting = [job for job in jobs(part, log) if log.get(job) is None][:most]
        most = None if most is None else most - len(waiting)
        began = time.perf_counter()
        parallel = joblib.Parallel(workers, return_as="generator_unordered")
        results = parallel(joblib.delayed(_run_job)(job, log, runs) for job in waiting)
        for number, (job, result) in enumerate(results, 1):
            minutes = (time.perf_counter() - began) / 60
            error = f"test error {result['result']['test']:.4g}" if "result" in result else "no training"
            print(
                f"{part} {number}/{len(waiting)} {job.name}: {error}, {result['cost']['whole']} s, "
                f"{minutes:.1f} min so far",
                flush=True,
            )


def _run_job(job: Job, log: ResultLog, runs: Path) -> tuple[Job, dict]:
    return job, work(job, log, runs)


def _machine() -> str:
    versions = f"torch {torch.__version__}, modgap {installed_version()}"
    return f"{platform.machine()}, {os.cpu_count()} cores, no GPU used, {versions}"


def again(parts: Sequence[str], log: ResultLog, most: int) -> None:
    """Repeat some of the jobs that are done in a temporary folder, and exit with 1 if any number differs."""
    finished = [(job, result) for part in parts for job in jobs(part, log) if (result := log.get(job))]
    equal = 0
    chosen = finished[:: max(1, len(finished) // most)][:most]
    for job, result in chosen:
        with tempfile.TemporaryDirectory() as name:
            repeats = ResultLog(Path(name) / "results.jsonl")
            work(job, repeats, Path(name) / "runs")
            repeated = repeats.get(job)
        same = _without_cost(repeated) == _without_cost(result)
        equal += same
        print(f"{job.part} {job.name}: {'the same numbers' if same else 'DIFFERENT NUMBERS'}", flush=True)
    print(f"{equal} of {len(chosen)} repeated jobs gave the same numbers")
    sys.exit(equal != len(chosen))


def _without_cost(result: dict | None) -> dict:
    return {name: value for name, value in (result or {}).items() if name != "cost"}


def _save_part_figure(part: str, log: ResultLog, folder: Path) -> None:
    """Save the figure of a part, if the part has one: the comparisons, and the sweep with the inner steps."""
    part_figure = None
    if part == "sweep":
        part_figure = sensitivity(log)
    elif part in GRIDS:
        part_figure = figure(part, log)
    if part_figure:
        save_figure(part_figure, folder / part)


def quick() -> None:
    """Run two methods on one target of each source in a temporary folder, and print the tables."""
    small = (
        "stage1.epochs=1",
        "stage2.epochs=1",
        "stage1.surrogate_samples=60",
        "stage1.surrogate_batch=16",
        "stage2.keep_epochs=[1]",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = ResultLog(folder / "results.jsonl")
        for part, target in (("2d", "basic-motions"), ("1d", "italy-power")):
            listed = [
                replace(job, limit=24, settings=(*job.settings, *small))
                for job in jobs(part, None)
                if job.target == target and job.method in (UNTOUCHED, "finetune", "mona") and job.seed == 0
            ]
            for job in listed:
                work(job, log, folder / "runs")
            report(part, log, listed)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["plan", "run", "again", "report", "quick"])
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("transfer-runs"), help="parent folder of the run folders")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="number of jobs at a time, one per core"
    )
    parser.add_argument("--figures", type=Path, help="folder for the figures of a report")
    parser.add_argument("--most", type=int, help="largest number of jobs to run")
    options = parser.parse_args()
    parts = options.part or list(PARTS)
    log = ResultLog(options.results)
    if options.command == "quick":
        quick()
    elif options.command == "again":
        again(parts, log, options.most or 5)
    elif options.command == "report":
        for part in parts:
            report(part, log)
            if options.figures:
                _save_part_figure(part, log, options.figures)
    else:
        plan(parts, log, options.workers)
    if options.command == "run":
        try:
            run(parts, log, options.runs, options.workers, options.most)
        except FileNotFoundError as error:
            sys.exit(f"{error}")


if __name__ == "__main__":
    main()
