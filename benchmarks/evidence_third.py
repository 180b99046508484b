"""The third edition of the evidence: resumable jobs on targets that nothing had touched before its protocol.

    python benchmarks/evidence_third.py power                       what the comparisons can detect
    python benchmarks/evidence_third.py plan PART                   jobs, how many are done, and their measured costs
    python benchmarks/evidence_third.py run PART [--workers 2]      run what is left; stop and resume at any time
    python benchmarks/evidence_third.py again PART [--most 10]      repeat finished jobs, and compare the numbers
    python benchmarks/evidence_third.py report                      the tables of the four answers, from what is done
    python benchmarks/evidence_third.py page                        write them and their figures to docs/
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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from evidence import (
    model_jobs,
    third_choice,
    third_figures,
    third_methods,
    third_models,
    third_ratios,
    third_sensitivity,
)
from evidence.model_tables import CONSTANT, FINE_TUNING
from evidence.page import replace_section
from evidence.repeats import count_same, repeat_jobs
from evidence.replay_tables import PrintedTable
from evidence.running import refuse_absent, run_jobs
from evidence.selection import Table
from evidence.study_jobs import SURROGATES
from evidence.third_jobs import (
    choice_pairs,
    code_digest,
    has_protocol,
    history_pairs,
    models_design,
    training_jobs,
    work,
)
from evidence.third_power import HEADS, found_power, power_rows
from matplotlib.figure import Figure
from result_log import ResultLog
from whole_transfer import errors_frame, judging_jobs

from modgap.cli.output import print_table
from modgap.errors import count

RESULTS = Path(__file__).parent / "truth" / "third"
DOCS = Path(__file__).parents[1] / "docs"
RANKING = RESULTS.parent / "ranking.jsonl"
"""Errors of the second edition, which are a part of the history."""
Logs = Mapping[str, ResultLog]
"""The results of each part, by its name."""


@dataclass(frozen=True)
class Part:
    """A part of the evidence.

    Attributes:
        jobs: Function of the log that returns the jobs that are known; more of them may follow from results.
        work: Function that does a job and appends its result to the log.
        label: Name of the attribute of a job by which costs are shown.
        read: Names of targets that jobs read beside their own.
    """

    jobs: Callable[[ResultLog], Iterable[Any]]
    work: Callable[[Any, ResultLog], dict[str, Any]]
    label: str
    read: Collection[str] = ()


PARTS = {
    "history": Part(functools.partial(training_jobs, history_pairs()), work, "source"),
    "choice": Part(functools.partial(training_jobs, choice_pairs()), work, "source"),
    "models": Part(
        lambda _: model_jobs.jobs(models_design()), functools.partial(model_jobs.work, design=models_design()), "part"
    ),
    "methods": Part(
        third_methods.method_jobs, third_methods.work, "method", {surrogate for surrogate, _ in SURROGATES.values()}
    ),
}

PLANNED = {"history": 1.4, "choice": 8.0, "models": 7.0, "methods": 9.0, "transfer": 13.0}
"""Core-hours of each part that the protocol planned. Whole transfers have two cores."""
CORES = {"transfer": 2}


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
        refuse_absent([*part.read, *(job.target for job in waiting)])
        failed += run_jobs(waiting, part.work, log, workers, began)
    if failed:
        raise SystemExit(f"{count(len(failed), 'job')} ended with an error, and will run again.")


@dataclass(frozen=True)
class Question:
    """A question of the protocol, which is answered when all jobs of some parts are done.

    Attributes:
        parts: Names of the parts.
        tables: Function of the logs by part that returns the tables of the answer.
        figure: Function of the logs that draws the answer; None for no figure.
        name: Name of the figure in docs/.
        shown: What the figure shows, in words.
    """

    parts: tuple[str, ...]
    tables: Callable[[Logs], Sequence[PrintedTable]]
    figure: Callable[[Logs], Figure] | None = None
    name: str = ""
    shown: str = ""


def _choice_table(logs: Logs) -> Table:
    earlier = [ResultLog(RANKING), logs["history"]]
    return third_choice.error_table([*earlier, logs["choice"]], logs["models"].results())


def _choice_answers(logs: Logs) -> list[PrintedTable]:
    table = _choice_table(logs)
    regrets = third_choice.judged_regrets(table)
    return [
        third_choice.choice_answer(regrets, "all sources"),
        third_choice.choice_answer(
            third_choice.of_constant(regrets, table), "all sources, without texts", table.seconds
        ),
        third_choice.choice_answer(third_choice.judged_pool_regrets(table), "five sources, the mean over pools"),
        found_power({"history and 3 epochs - constant answer, all sources": third_sensitivity.gain_of_history(table)}),
    ]


def _choice_figure(logs: Logs) -> Figure:
    table = _choice_table(logs)
    return third_figures.choice_figure(third_choice.judged_regrets(table), table)


def _baseline_answers(logs: Logs) -> list[PrintedTable]:
    results = logs["models"].results()
    frame = third_models.chosen_table(results, third_models.LARGEST, logs["choice"])
    return [
        third_models.baseline_answer(results, logs["choice"]),
        third_models.foresight_answer(results, logs["choice"]),
        third_models.other_answer(results),
        found_power({"best probe - best baseline": (frame["probe"] - frame["baseline"]).dropna()}),
    ]


def _baseline_figure(logs: Logs) -> Figure:
    chosen = third_models.chosen_table(logs["models"].results(), third_models.LARGEST, logs["choice"])
    return third_figures.baseline_figure(chosen)


def _model_answers(logs: Logs) -> list[PrintedTable]:
    results = logs["models"].results()
    table = _choice_table(logs)
    frame = third_models.chosen_table(results, third_models.LARGEST, logs["choice"])
    differences = (frame["any probe"] - frame[FINE_TUNING]).dropna()
    return [
        third_models.model_answer(results, logs["choice"]),
        third_models.model_answer(results, logs["choice"], with_constant=False),
        third_sensitivity.fine_tuned_answer(table, results, logs["choice"]),
        third_sensitivity.sensitivity_answer(table, results, logs["choice"]),
        third_sensitivity.further_answer(table, results, logs["choice"]),
        found_power({f"best probe of all - fine-tuning of {CONSTANT}": differences}),
    ]


def _transfer_answers(logs: Logs) -> list[PrintedTable]:
    results = logs["transfer"].results()
    seconds = pd.DataFrame([{**result["job"], **result} for result in results]).groupby("strategy")["seconds"].mean()
    errors = errors_frame(results)
    single = third_models.best_single(errors)
    differences = (errors[third_models.TRANSFER] - errors[single]).dropna()
    tabular = third_sensitivity.tabular_targets(logs["models"].results())
    return [
        third_models.transfer_answer(errors, seconds),
        third_models.transfer_targets_answer(errors, results),
        third_sensitivity.transfer_further_answer(errors, tabular),
        found_power({f"{third_models.TRANSFER} - {single}": differences}),
    ]


def _method_answers(logs: Logs) -> list[PrintedTable]:
    frame = third_ratios.runs_frame(logs["methods"])
    return [
        third_ratios.method_answer(frame, third_ratios.probe_errors(logs["models"].results())),
        third_ratios.source_answer(frame),
        third_ratios.stability_answer(frame),
        third_ratios.edge_answer(logs["methods"]),
        replace(
            third_ratios.method_answer(third_ratios.runs_frame(logs["methods"], with_half=False)),
            title=f"The same with errors of at least {third_ratios.LOWEST} % in place of half a wrong sample",
        ),
        found_power(third_ratios.primary_differences(frame)),
    ]


QUESTIONS = {
    "A": Question(
        ("history", "choice", "models"),
        _choice_answers,
        _choice_figure,
        "evidence-choice",
        "Regret of each way to choose among the sources",
    ),
    "B": Question(
        ("choice", "models"),
        _baseline_answers,
        _baseline_figure,
        "evidence-baselines",
        "Error of the best probe minus that of the best baseline, by kind of target",
    ),
    "C, first part": Question(("history", "choice", "models"), _model_answers),
    "C, second part": Question(
        ("models", "transfer"),
        _transfer_answers,
        lambda logs: third_figures.transfer_figure(errors_frame(logs["transfer"].results())),
        "evidence-transfers",
        "Regret of whole transfers and of single strategies",
    ),
    "D": Question(
        ("models", "methods"),
        _method_answers,
        lambda logs: third_figures.method_figure(third_ratios.runs_frame(logs["methods"])),
        "evidence-methods",
        "Error of each method divided by that of fine-tuning",
    ),
}


def cost_table(folder: Path) -> PrintedTable:
    """Return the core-hours of each part, planned and taken so far, and how many repeated jobs were the same."""
    rows = []
    for name, planned in PLANNED.items():
        log = ResultLog(folder / f"{name}.jsonl")
        hours = CORES.get(name, 1) * sum(result["seconds"] for result in log.results()) / 3600
        again = ResultLog(folder / f"{name}.again.jsonl")
        repeated = f"{count_same(log, again)} of {len(again.results())}" if again.results() else ""
        rows.append([name, f"{len(log.results()):,}", f"{planned:g}", f"{hours:.1f}", repeated])
    heads = ["part", "jobs", "core-hours planned", "core-hours spent", "the same when repeated"]
    return PrintedTable("Jobs that are done", heads, rows)


def answered(folder: Path) -> dict[str, Logs]:
    """Return the questions of whose parts all jobs are done, with the logs."""
    logs = {name: ResultLog(folder / f"{name}.jsonl") for name in PLANNED}
    is_done = {name: all(map(log.get, part_jobs(name, log))) for name, log in logs.items()}
    return {name: logs for name, question in QUESTIONS.items() if all(map(is_done.get, question.parts))}


def part_jobs(name: str, log: ResultLog) -> Iterable[Any]:
    """Return the jobs of a part, or of the whole transfers, that are known."""
    return PARTS[name].jobs(log) if name in PARTS else judging_jobs()


def write_answers(folder: Path, docs: Path) -> None:
    """Write the tables of the answers and of the costs into evidence.md, and the figures beside it."""
    _write("costs", cost_table(folder).markdown, docs)
    of_questions = answered(folder)
    for name, question in QUESTIONS.items():
        lines = ["Not all of its jobs are done, so there is no answer yet."]
        if name in of_questions:
            logs = of_questions[name]
            lines = [line for table in question.tables(logs) for line in (*table.markdown, "")][:-1]
            if question.figure:
                question.figure(logs).savefig(docs / f"{question.name}.png")
                lines = [f"![{question.shown}]({question.name}.png)", "", *lines]
        _write(f"answer {name}", lines, docs)


def _write(section: str, lines: Sequence[str], docs: Path) -> None:
    marks = (f"<!-- {section}: written by evidence_third.py page -->", f"<!-- end of {section} -->")
    replace_section(docs / "evidence.md", marks, lines)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["power", "plan", "run", "again", "report", "page", "digest"])
    parser.add_argument("part", choices=list(PARTS), nargs="?")
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder of the results.")
    options = parser.parse_args()
    if options.command == "power":
        print_table(HEADS, power_rows())
        return
    if options.command == "report":
        for name, logs in answered(options.results).items():
            for table in QUESTIONS[name].tables(logs):
                print_table(list(table.heads), [list(row) for row in table.rows], f"{name}. {table.title}")
        return
    if options.command == "page":
        write_answers(options.results, DOCS)
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
