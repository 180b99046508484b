"""Test errors of the field's baselines and of linear probes of all packaged sources, on all packaged targets.

    python benchmarks/evidence_models.py plan                  jobs, how many are done, and their measured costs
    python benchmarks/evidence_models.py run [--workers 2]     run what is left; stop and resume at any time
    python benchmarks/evidence_models.py again [--most 10]     repeat finished jobs, and compare the numbers
    python benchmarks/evidence_models.py report                what is best on how many targets of each kind
    python benchmarks/evidence_models.py page                  write these tables into docs/evidence-second.md

Each model is fitted to the same 128 and the same 512 labeled samples of a target, chooses its settings by
cross-validation on them, and is tested on the target's test samples. The results are in benchmarks/truth/models.jsonl,
one line for each model and target. The errors of fine-tuning beside them are those of benchmarks/truth/ranking.jsonl,
which are there for 24 targets and 128 labeled samples. Controls of the sources are fitted to these alone, and only the
one with the lowest cross-validated error is tested. Targets that have fewer labeled samples give all.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

from evidence.model_jobs import PARTS, SECOND_EDITION, TARGETS, Design, jobs, work
from evidence.model_tables import model_tables, write_section
from evidence.repeats import repeat_jobs
from evidence.running import run_jobs
from result_log import ResultLog

from modgap.cli.output import print_table

RESULTS = Path(__file__).parent / "truth" / "models.jsonl"
FINE_TUNED = RESULTS.with_name("ranking.jsonl")
"""Results of the ranking benchmark, which has the errors after fine-tuning."""
PAGE = Path(__file__).parent.parent / "docs" / "evidence-second.md"


def plan(log: ResultLog, design: Design) -> None:
    """Print for each part how many jobs are done, and how long they took."""
    rows = []
    for part in PARTS:
        planned = [job for job in jobs(design) if job.part == part]
        seconds = [result["seconds"] for job in planned if (result := log.get(job))]
        rows.append([part, f"{len(seconds)} of {len(planned)}", f"{sum(seconds) / 3600:.2f}"])
    print_table(["part", "jobs", "core-hours"], rows)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["plan", "run", "again", "report", "page"])
    parser.add_argument("--targets", default=",".join(TARGETS), help="Names separated by commas.")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    log, design = ResultLog(options.results), replace(SECOND_EDITION, targets=options.targets.split(","))
    if options.command == "plan":
        plan(log, design)
    elif options.command == "run":
        parts = options.parts.split(",")
        waiting = [job for job in jobs(design) if job.part in parts and log.get(job) is None]
        run_jobs(waiting, work, log, options.workers, time.perf_counter())
    elif options.command == "again":
        repeat_jobs(list(jobs(design)), work, log, options.most)
    else:
        results = [result for job in jobs(design) if (result := log.get(job))]
        if options.command == "page":
            write_section(results, ResultLog(FINE_TUNED), PAGE)
        else:
            for title, heads, rows in model_tables(results, ResultLog(FINE_TUNED)):
                print_table(heads, rows, title)


if __name__ == "__main__":
    main()
