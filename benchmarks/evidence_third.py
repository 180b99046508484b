"""The third edition of the evidence: resumable jobs on targets that nothing had touched before its protocol.

    python benchmarks/evidence_third.py plan [PART]                 jobs, how many are done, and their measured costs
    python benchmarks/evidence_third.py run PART [--workers 2]      run what is left; stop and resume at any time
    python benchmarks/evidence_third.py again PART [--most 10]      repeat finished jobs, and compare the numbers

PART is `history` (errors of the new sources on earlier targets) or `choice` (all sources on the judging targets). The
results are in benchmarks/truth/third/, one file for each part and one line for each job.
"""

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from evidence.repeats import repeat_jobs
from evidence.running import run_jobs
from evidence.third_jobs import choice_pairs, history_pairs, training_jobs, work
from result_log import ResultLog

from modgap.cli.output import print_table

RESULTS = Path(__file__).parent / "truth" / "third"
PARTS: dict[str, Callable[[], list[tuple[str, str]]]] = {"history": history_pairs, "choice": choice_pairs}


def plan(part: str, log: ResultLog) -> None:
    """Print for each source how many jobs are done and their mean seconds, and the core-hours of the part."""
    jobs = list(training_jobs(PARTS[part](), log))
    planned, done, seconds = Counter(job.source for job in jobs), Counter[str](), Counter[str]()
    for job in jobs:
        if result := log.get(job):
            done[job.source] += 1
            seconds[job.source] += result["seconds"]
    rows = [
        [source, f"{done[source]} of {count}", f"{seconds[source] / done[source]:.1f}" if done[source] else ""]
        for source, count in planned.items()
    ]
    print_table(["source", "jobs", "seconds a job"], rows, f"{part}: {seconds.total() / 3600:.2f} core-hours spent")


def run(part: str, log: ResultLog, workers: int) -> None:
    """Run the jobs that are left: all rates first, then the trainings at the rates that were chosen."""
    began = time.perf_counter()
    while waiting := [job for job in training_jobs(PARTS[part](), log) if log.get(job) is None]:
        run_jobs(waiting, work, log, workers, began)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["plan", "run", "again"])
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder of the results.")
    options = parser.parse_args()
    log = ResultLog(options.results / f"{options.part}.jsonl")
    if options.command == "plan":
        plan(options.part, log)
    elif options.command == "run":
        run(options.part, log, options.workers)
    else:
        repeat_jobs(list(training_jobs(PARTS[options.part](), log)), work, log, options.most)


if __name__ == "__main__":
    main()
