"""The study in small: eight methods, targets far from the source, seeds; error, distortion and discrepancy.

    python benchmarks/transfer.py plan                    what there is to do, what is done, and the time it takes
    python benchmarks/transfer.py run [--part PART]       the jobs that are not done yet; may be stopped at any time
    python benchmarks/transfer.py again --most 5          jobs that are done once more; the numbers must be the same
    python benchmarks/transfer.py report [--part PART] [--figures DIR]    the tables of what is done
    python benchmarks/transfer.py quick                   small jobs of two sources and their tables, two minutes

Each job is one `modgap train` and its diagnostics on one thread, and appends one line to
benchmarks/results/transfer.jsonl. A job that was stopped resumes from its newest checkpoint. Parts:

    sweep      alpha x lambda on two targets that are in no other part but `steps` (vit-fashion), two seeds; what is
               best there is MoNA's in all parts that follow
    2d         vit-fashion, four targets, eight methods, five seeds
    surrogate  the same on two targets with mnist5k in place of Fashion-MNIST
    ablation   MoNA without the task's loss, with other objectives and switches, two targets, five seeds
    steps      one, two and three inner steps on the sweep's targets, three seeds
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

from modgap import __version__
from modgap.figure_style import save_figure

RESULTS = Path(__file__).parent / "results" / "transfer.jsonl"


def run(parts: Sequence[str], log: ResultLog, runs: Path, workers: int, most: int | None) -> None:
    """All jobs that are not done, part after part."""
    print(f"{_machine()}; {' '.join(sys.argv)}", flush=True)
    for part in parts:
        waiting = [job for job in jobs(part, log) if log.get(job) is None][:most]
        most = None if most is None else most - len(waiting)
        began = time.perf_counter()
        parallel = joblib.Parallel(workers, return_as="generator_unordered")
        for number, (job, found) in enumerate(parallel(joblib.delayed(_worked)(job, log, runs) for job in waiting), 1):
            minutes = (time.perf_counter() - began) / 60
            error = found["result"]["test"] if "result" in found else float("nan")
            print(f"{part} {number}/{len(waiting)} {job.name}: {error:.4g}, {found['cost']['whole']} s, "
                  f"{minutes:.1f} min so far", flush=True)  # fmt: skip


def _worked(job: Job, log: ResultLog, runs: Path) -> tuple[Job, dict]:
    return job, work(job, log, runs)


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, no GPU used, torch {torch.__version__}, modgap {__version__}"


def again(parts: Sequence[str], log: ResultLog, most: int) -> None:
    """Jobs spread over those that are done, once more in a folder of their own."""
    known = [(job, found) for part in parts for job in jobs(part, log) if (found := log.get(job))]
    equal = 0
    chosen = known[:: max(1, len(known) // most)][:most]
    for job, found in chosen:
        with tempfile.TemporaryDirectory() as name:
            repeats = ResultLog(Path(name) / "results.jsonl")
            work(job, repeats, Path(name) / "runs")
            repeated = repeats.get(job)
        same = _numbers(repeated) == _numbers(found)
        equal += same
        print(f"{job.part} {job.name}: {'the same numbers' if same else 'OTHER NUMBERS'}", flush=True)
    print(f"{equal} of {len(chosen)} jobs gave the same numbers again")
    sys.exit(equal != len(chosen))


def _numbers(found: dict | None) -> dict:
    return {name: value for name, value in (found or {}).items() if name != "cost"}


def _draw(part: str, log: ResultLog, folder: Path) -> None:
    """The figure of a part that has one: the comparisons, and the sweep with the inner steps."""
    drawn = None
    if part in GRIDS:
        drawn = figure(part, log)
    elif part == "sweep":
        drawn = sensitivity(log)
    if drawn:
        save_figure(drawn, folder / f"{part}.png")


def quick() -> None:
    """Two methods on one target of each source, in a folder of its own."""
    small = ("stage1.epochs=1", "stage2.epochs=1", "stage1.surrogate_samples=60", "stage1.surrogate_batch=16",
             "stage2.keep_epochs=[1]")  # fmt: skip
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["plan", "run", "again", "report", "quick"])
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("transfer-runs"), help="where the run folders go")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="jobs at a time, a core each")
    parser.add_argument("--figures", type=Path, help="where the figures of a report go")
    parser.add_argument("--most", type=int, help="stop after so many jobs")
    options = parser.parse_args()
    parts = options.part or list(PARTS)
    log = ResultLog(options.results)
    if options.what == "quick":
        quick()
    elif options.what == "again":
        again(parts, log, options.most or 5)
    elif options.what == "report":
        for part in parts:
            report(part, log)
            if options.figures:
                _draw(part, log, options.figures)
    else:
        plan(parts, log, options.workers)
    if options.what == "run":
        try:
            run(parts, log, options.runs, options.workers, options.most)
        except FileNotFoundError as error:
            sys.exit(f"{error}")


if __name__ == "__main__":
    main()
