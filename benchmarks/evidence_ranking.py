"""Compare what rankings choose with the errors after fine-tuning: ten sources, 24 targets, 14 of which judge.

    python benchmarks/evidence_ranking.py plan                    jobs, how many are done, and their measured costs
    python benchmarks/evidence_ranking.py run [--workers 2]       run what is left; stop and resume at any time
    python benchmarks/evidence_ranking.py raw                     nearest neighbors on raw values, without any source
    python benchmarks/evidence_ranking.py again [--most 10]       repeat finished jobs, and compare the numbers
    python benchmarks/evidence_ranking.py report development      tables of the development targets
    python benchmarks/evidence_ranking.py report test             tables of the test targets
    python benchmarks/evidence_ranking.py relation                scores and errors over all sources and targets
    python benchmarks/evidence_ranking.py draw                    figures of docs/evidence-second.md

docs/protocol-second.md says what is concluded from which result; it was written before the first job ran. The results
are in benchmarks/truth/ranking.jsonl, one line for each job.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from evidence.ranking_jobs import DEVELOPMENT, PARTS, SOURCES, TEST, jobs, n_seeds, source_part
from evidence.ranking_tables import draw, print_whole_relation, report
from evidence.ranking_work import work
from evidence.raw_neighbors import run_raw
from evidence.repeats import repeat_jobs
from evidence.running import run_jobs
from result_log import ResultLog

from modgap.cli.output import print_table

RESULTS = Path(__file__).parent / "truth" / "ranking.jsonl"
DOCS = Path(__file__).parent.parent / "docs"


def plan(log: ResultLog, targets: tuple[str, ...], workers: int) -> None:
    """Print the jobs, how many are done, and how long the others take, from the measured costs of each source."""
    rows = []
    total = 0.0
    spent = 0.0
    for source in SOURCES:
        cells = []
        for part in PARTS:
            planned = [job for target in targets for job in source_part(part, log, target, source)]
            done = [result["seconds"] for job in planned if (result := log.get(job))]
            n_planned = len(targets) * (3 if part == "half" else n_seeds(source) if part == "all" else 1)
            mean = float(np.mean(done)) if done else None
            left = (n_planned - len(done)) * mean if mean is not None else 0.0
            total += left
            spent += sum(done)
            cells.append(f"{len(done)} of {n_planned}" + (f" at {mean:.0f} s" if mean is not None else ""))
        rows.append([source, *cells])
    print_table(["source", *PARTS], rows, f"jobs on {len(targets)} targets")
    print(f"{spent / 3600:.2f} core-hours spent, {total / 3600:.2f} left at these costs, with {workers} workers "
          f"{total / 3600 / workers:.2f} hours", flush=True)  # fmt: skip


def run(log: ResultLog, targets: tuple[str, ...], workers: int, parts: tuple[str, ...]) -> None:
    """Run the jobs that are left, target by target and part by part, since the rates of a part come from the last."""
    began = time.perf_counter()
    for target in targets:
        for part in parts:
            waiting = [
                job for source in SOURCES for job in source_part(part, log, target, source) if log.get(job) is None
            ]
            run_jobs(waiting, work, log, workers, began)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["plan", "run", "raw", "again", "report", "relation", "draw"])
    parser.add_argument("half", nargs="?", choices=["development", "test"])
    parser.add_argument("--targets", default="", help="Names separated by commas; all without it.")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--resamples", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, default=DOCS, help="Folder of the figures.")
    options = parser.parse_args()
    log = ResultLog(options.results)
    halves = {"development": tuple(DEVELOPMENT), "test": tuple(TEST), None: (*DEVELOPMENT, *TEST)}
    targets = tuple(filter(None, options.targets.split(","))) or halves[options.half]
    if options.command == "plan":
        plan(log, targets, options.workers)
    elif options.command == "run":
        run(log, targets, options.workers, tuple(options.parts.split(",")))
    elif options.command == "raw":
        run_raw(log, targets)
    elif options.command == "again":
        repeat_jobs(list(jobs(log, targets)), work, log, options.most)
    elif options.command == "relation":
        print_whole_relation(log, options.resamples)
    elif options.command == "draw":
        draw(log, options.folder, options.resamples)
    else:
        report(log, targets, options.resamples)


if __name__ == "__main__":
    main()
