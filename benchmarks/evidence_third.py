"""The third edition of the evidence: resumable jobs on targets that nothing had touched before its protocol.

    python benchmarks/evidence_third.py power                       what the comparisons can detect
    python benchmarks/evidence_third.py plan PART                   jobs, how many are done, and their measured costs
    python benchmarks/evidence_third.py run PART [--workers 2]      run what is left; stop and resume at any time
    python benchmarks/evidence_third.py again PART [--most 10]      repeat finished jobs, and compare the numbers
    python benchmarks/evidence_third.py report                      the tables of the four answers, from what is done
    python benchmarks/evidence_third.py figures                     their figures, to docs/
    python benchmarks/evidence_third.py digest                      the digest of the code, which each line has

All parts but `history` wait for the protocol, docs/protocol.md, which says what is concluded from which result. PART is
one of

    history    fine-tunings of the new sources on earlier targets
    choice     fine-tunings of all sources on the judging targets
    models     baselines and linear probes on the judging targets
    methods    methods with a learning rate of their own on eight of the judging targets

The results are in benchmarks/truth/third/, one file for each part and one line for each job. Whole transfers run alone
on the machine: `python benchmarks/whole_transfer.py run --judging`.
"""

import argparse
import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence import model_jobs, third_choice, third_figures, third_methods, third_models, third_ratios
from evidence.repeats import repeat_jobs
from evidence.replay_tables import PrintedTable
from evidence.running import refuse_absent, run_jobs
from evidence.selection import Table
from evidence.third_jobs import (
    choice_pairs,
    code_digest,
    has_protocol,
    history_pairs,
    models_design,
    training_jobs,
    work,
)
from evidence.third_power import HEADS, power_rows
from matplotlib.figure import Figure
from result_log import ResultLog
from whole_transfer import errors_frame, has_transfers

from modgap.cli.output import print_table
from modgap.errors import count

RESULTS = Path(__file__).parent / "truth" / "third"
DOCS = Path(__file__).parents[1] / "docs"
RANKING = RESULTS.parent / "ranking.jsonl"
"""Errors of the second edition, which are a part of the history."""


@dataclass(frozen=True)
class Part:
    """A part of the evidence.

    Attributes:
        jobs: Function of the log that returns the jobs that are known; more of them may follow from results.
        work: Function that does a job and appends its result to the log.
        label: Name of the attribute of a job by which costs are shown.
    """

    jobs: Callable[[ResultLog], Iterable[Any]]
    work: Callable[[Any, ResultLog], dict[str, Any]]
    label: str


PARTS = {
    "history": Part(functools.partial(training_jobs, history_pairs()), work, "source"),
    "choice": Part(functools.partial(training_jobs, choice_pairs()), work, "source"),
    "models": Part(
        lambda _: model_jobs.jobs(models_design()), functools.partial(model_jobs.work, design=models_design()), "part"
    ),
    "methods": Part(third_methods.method_jobs, third_methods.work, "method"),
}


def plan(part: Part, log: ResultLog) -> None:
    """Print how many jobs are done, their mean seconds, and the core-hours of all of them."""
    planned, done, seconds = Counter[str](), Counter[str](), Counter[str]()
    for job in part.jobs(log):
        label = getattr(job, part.label)
        planned[label] += 1
        if result := log.get(job):
            done[label] += 1
            seconds[label] += result["seconds"]
    rows = [
        [label, f"{done[label]} of {count}", f"{seconds[label] / done[label]:.1f}" if done[label] else ""]
        for label, count in planned.items()
    ]
    print_table([part.label, "jobs", "seconds a job"], rows, f"{seconds.total() / 3600:.2f} core-hours spent")


def run(part: Part, log: ResultLog, workers: int) -> None:
    """Run the jobs that are left, and those that follow from their results.

    Raises:
        SystemExit: If data of a target is absent, or jobs have no result because of an error.
    """
    began, failed = time.perf_counter(), list[Any]()
    while waiting := [job for job in part.jobs(log) if log.get(job) is None and job not in failed]:
        refuse_absent(job.target for job in waiting)
        failed += run_jobs(waiting, part.work, log, workers, began)
    if failed:
        raise SystemExit(f"{count(len(failed), 'job')} ended with an error, and will run again.")


def answers(folder: Path) -> Iterator[PrintedTable]:
    """Yield the tables of the four questions, each as soon as all of its jobs are done.

    The choice among sources needs the history, and the cross-validated errors of their probes; the models need the
    fine-tuning of the constant source.
    """
    logs = _logs(folder)
    has_models = _is_done("choice", logs) and _is_done("models", logs)
    if has_models and _is_done("history", logs):
        table = _choice_table(logs)
        regrets = third_choice.judged_regrets(table)
        yield third_choice.choice_answer(regrets, "all sources")
        yield third_choice.choice_answer(third_choice.of_constant(regrets, table), "all sources, without texts")
        yield third_choice.choice_answer(third_choice.judged_pool_regrets(table), "five sources, the mean over pools")
    if has_models:
        results = logs["models"].results()
        yield third_models.baseline_answer(results, logs["choice"])
        yield third_models.foresight_answer(results, logs["choice"])
        yield third_models.model_answer(results, logs["choice"])
        yield third_models.model_answer(results, logs["choice"], with_constant=False)
        yield third_models.other_answer(results)
    if has_transfers(logs["transfer"]):
        yield third_models.transfer_answer(errors_frame(logs["transfer"].results()))
    if _is_done("methods", logs):
        frame = third_ratios.runs_frame(logs["methods"])
        yield third_ratios.method_answer(frame)
        yield third_ratios.source_answer(frame)
        yield third_ratios.method_answer(third_ratios.runs_frame(logs["methods"], with_half=False))


def figures(folder: Path) -> Iterator[tuple[str, Figure]]:
    """Yield the name and the figure of each question, as soon as all of its jobs are done."""
    logs = _logs(folder)
    has_models = _is_done("choice", logs) and _is_done("models", logs)
    if has_models and _is_done("history", logs):
        table = _choice_table(logs)
        yield "evidence-choice", third_figures.choice_figure(third_choice.judged_regrets(table), table)
    if has_models:
        chosen = third_models.chosen_table(logs["models"].results(), third_models.LARGEST, logs["choice"])
        yield "evidence-baselines", third_figures.baseline_figure(chosen)
    if has_transfers(logs["transfer"]):
        yield "evidence-transfers", third_figures.transfer_figure(errors_frame(logs["transfer"].results()))
    if _is_done("methods", logs):
        yield "evidence-methods", third_figures.method_figure(third_ratios.runs_frame(logs["methods"]))


def _logs(folder: Path) -> dict[str, ResultLog]:
    return {name: ResultLog(folder / f"{name}.jsonl") for name in (*PARTS, "transfer")}


def _choice_table(logs: Mapping[str, ResultLog]) -> Table:
    earlier = [ResultLog(RANKING), logs["history"]]
    return third_choice.error_table([*earlier, logs["choice"]], logs["models"].results())


def _is_done(part: str, logs: Mapping[str, ResultLog]) -> bool:
    return all(logs[part].get(job) for job in PARTS[part].jobs(logs[part]))


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["power", "plan", "run", "again", "report", "figures", "digest"])
    parser.add_argument("part", choices=list(PARTS), nargs="?")
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder of the results.")
    options = parser.parse_args()
    if options.command == "power":
        print_table(HEADS, power_rows())
        return
    if options.command == "report":
        for table in answers(options.results):
            print_table(list(table.heads), [list(row) for row in table.rows], table.title)
        return
    if options.command == "figures":
        for name, figure in figures(options.results):
            figure.savefig(DOCS / f"{name}.png")
        return
    if options.command == "digest":
        print(code_digest())
        return
    if options.part is None:
        parser.error("name a part")
    if options.command != "plan" and options.part != "history" and not has_protocol():
        parser.error("the protocol of the third edition must be committed first")
    part, log = PARTS[options.part], ResultLog(options.results / f"{options.part}.jsonl", code_digest())
    if options.command == "plan":
        plan(part, log)
    elif options.command == "run":
        run(part, log, options.workers)
    else:
        repeat_jobs(list(part.jobs(log)), part.work, log, options.most)


if __name__ == "__main__":
    main()
