"""Compare methods of transfer on targets that chose nothing: errors, and what is left of the source's knowledge.

    python benchmarks/evidence_study.py plan                  jobs, how many are done, and their measured costs
    python benchmarks/evidence_study.py run [--workers 2]     run what is left; stop and resume at any time
    python benchmarks/evidence_study.py again [--most 10]     repeat finished jobs, and compare the numbers
    python benchmarks/evidence_study.py report                the tables
    python benchmarks/evidence_study.py draw                  figures of docs/evidence-second.md
    python benchmarks/evidence_study.py page                  write the added jobs into docs/evidence-second.md

docs/protocol-second.md says what is concluded from which result; it was written before the first job ran. The results
are in benchmarks/truth/study.jsonl, one line for each job.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from evidence.raw_neighbors import raw_errors
from evidence.repeats import repeat_jobs
from evidence.running import run_jobs
from evidence.study_jobs import METHODS, SEEDS, SOURCES, TARGETS, jobs
from evidence.study_tables import draw, report, tuned_errors, write_section
from evidence.study_work import work
from result_log import ResultLog

from modgap.cli.output import print_table

RESULTS = Path(__file__).parent / "truth" / "study.jsonl"
RANKING = RESULTS.with_name("ranking.jsonl")
"""Results of the ranking benchmark, which has the errors without any source."""
DOCS = Path(__file__).parent.parent / "docs"


def plan(log: ResultLog, workers: int) -> None:
    """Print the known jobs, how many are done, and how long the others take, from the measured costs of each method."""
    listed = list(dict.fromkeys(jobs(log)))
    rows = []
    left = 0.0
    for source in SOURCES:
        for method in METHODS:
            planned = [job for job in listed if (job.source, job.method) == (source, method)]
            done = [result["seconds"] for job in planned if (result := log.get(job))]
            if not planned:
                continue
            mean = float(np.mean(done)) if done else None
            left += (len(planned) - len(done)) * (mean or 0.0)
            rows.append([source, method, f"{len(done)} of {len(planned)}", "" if mean is None else f"{mean:.0f} s"])
    print_table(["source", "method", "jobs", "mean"], rows, "jobs that are known")
    spent = sum(result["seconds"] for job in listed if (result := log.get(job)))
    n_jobs = len(METHODS) * len(TARGETS) * SEEDS
    print(f"{n_jobs} jobs of a source compare the methods")
    print(f"{spent / 3600:.2f} core-hours spent, {left / 3600:.2f} left of the known jobs, with {workers} workers "
          f"{left / 3600 / workers:.2f} hours", flush=True)  # fmt: skip


def run(log: ResultLog, workers: int) -> None:
    """Run the jobs that are left, and those that become known by their results."""
    began = time.perf_counter()
    while waiting := [job for job in dict.fromkeys(jobs(log)) if log.get(job) is None]:
        run_jobs(waiting, work, log, workers, began)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["plan", "run", "again", "report", "draw", "page"])
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, default=DOCS, help="Folder of the figures and the page.")
    options = parser.parse_args()
    log = ResultLog(options.results)
    if options.command == "plan":
        plan(log, options.workers)
    elif options.command == "run":
        run(log, options.workers)
    elif options.command == "again":
        repeat_jobs(list(dict.fromkeys(jobs(log))), work, log, options.most)
    elif options.command == "draw":
        draw(log, options.folder)
    elif options.command == "page":
        write_section(log, options.folder / "evidence-second.md")
    else:
        ranking = ResultLog(RANKING)
        raw = raw_errors(ranking, TARGETS)
        report(log, dict(zip(TARGETS, raw.tolist(), strict=True)), tuned_errors(ranking))


if __name__ == "__main__":
    main()
