"""`modgap plan`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.completion import complete_files, complete_folders, complete_targets
from modgap.cli.groups import example
from modgap.cli.options import (
    all_options,
    batch_size_option,
    check_minimums,
    dtype_option,
    loader_workers_option,
    option_group,
    quiet_option,
    sample_options,
)
from modgap.cli.output import print_line, print_table
from modgap.cli.rank import build_request
from modgap.cli.rank_options import (
    device_list_option,
    pass_options,
    score_options,
    sources_option,
    statistics_options,
)
from modgap.errors import InputError, UsageError
from modgap.formatting import count, format_duration, format_value
from modgap.storage.paths import expand_user

if TYPE_CHECKING:
    from modgap.matrix.job_list import JobList
    from modgap.matrix.result import Matrix
    from modgap.ranking.types import Ranking

__all__ = ["plan"]

MINIMUMS = {"resamples": 0, "limit": 0, "pseudo_classes": 2, "splits": 1, "per_class": 1}
FORMATS = ("table", "csv", "json", "latex")


@cloup.command(
    epilog=example(
        "modgap plan --targets digits,wine --sources vit-fashion,minilm --out all.jsonl",
        "modgap worker all.jsonl",
        "modgap plan --status all.jsonl",
        "modgap plan --gather all.jsonl",
    )
)
@all_options(
    option_group(
        "Sources and targets",
        click.option(
            "--targets",
            "target_arguments",
            metavar="A,B,..|@FILE",
            multiple=True,
            shell_complete=complete_targets,
            help="Targets: names or paths separated by commas, or @FILE with one in each line. Data that needs options "
            "needs a manifest, and where data lies is set with modgap data path. Can be repeated.",
        ),
        sources_option(required=False),
    ),
    option_group("Scores", *score_options),
    sample_options(default_limit=2000, default_split="train", several_targets=True),
    pass_options,
    statistics_options,
    option_group("Hardware", device_list_option, dtype_option, batch_size_option, loader_workers_option),
    option_group(
        "Output",
        click.option(
            "--out",
            metavar="FILE",
            shell_complete=complete_files,
            help="File of the jobs to write, such as jobs.jsonl.",
        ),
        quiet_option,
    ),
    option_group(
        "Results",
        click.option(
            "--gather",
            metavar="FILE",
            shell_complete=complete_files,
            help="Instead of planning, make the matrix of what the workers of this file have finished.",
        ),
        click.option(
            "--status",
            metavar="FILE",
            shell_complete=complete_files,
            help="Instead of planning, show how far the workers of this file are.",
        ),
        click.option(
            "--results",
            metavar="DIR",
            shell_complete=complete_folders,
            help="With --gather, also write matrix.json, matrix.csv, matrix.tex and the ranking of each target here.",
        ),
        click.option(
            "--as",
            "output_format",
            type=click.Choice(FORMATS),
            default="table",
            show_default=True,
            help="With --gather, what is printed.",
        ),
    ),
)
def plan(**options: Any) -> None:
    """Plan the rankings of many sources for many targets as independent jobs.

    The jobs are lines of a file. Any number of workers (modgap worker) on machines that share its folder and the cache
    run them, from a SLURM array, Kubernetes, Snakemake or by hand. What is in the cache is not computed again, so a new
    plan with more sources or targets computes only what is new.
    """
    from modgap.cli.output import log_to_stderr

    log_to_stderr(options["quiet"])
    if options["gather"] and options["status"]:
        raise UsageError("Pass --gather or --status, not both.")
    if options["status"]:
        _print_status(expand_user(options["status"]))
    elif options["gather"]:
        _gather(options)
    else:
        _plan(options)


def _plan(options: dict[str, Any]) -> None:
    from modgap.matrix.job_list import write_job_list
    from modgap.matrix.ranking_jobs import plan_jobs
    from modgap.ranking.source_patterns import parse_source_names
    from modgap.targets import open_target

    for name in ("results",):
        if options[name]:
            raise UsageError(f"--{name} applies to --gather.")
    if not options["target_arguments"] or not options["source_arguments"] or not options["out"]:
        raise UsageError("A plan needs --targets, --sources and --out. To see results, pass --gather FILE.")
    check_minimums(options, MINIMUMS)
    request = build_request({**options, "out": None})
    sources = [_absolute_source(name) for name in parse_source_names(options["source_arguments"])]
    targets = [_absolute(name) for name in _names(options["target_arguments"])]
    tasks = {open_target(target).manifest.task for target in targets}
    if options["pseudo_classes"] and "regression" not in tasks:
        raise UsageError("--pseudo-classes applies to real-valued targets, but all of these have classes.")
    jobs = plan_jobs(targets, sources, request)
    made = write_job_list(expand_user(options["out"]), request, jobs, options["pseudo_classes"])
    print_line(f"{count(len(jobs), 'job')} written to {made.path}: {count(len(targets), 'target')}, each with "
               f"{count(len(jobs) // len(targets), 'row')}. {_cost(made)}")  # fmt: skip
    print_line(f"Run them with: modgap worker {made.path}")


def _cost(jobs: "JobList") -> str:
    known = [job.seconds for job in jobs.jobs if job.seconds is not None]
    unknown = len(jobs.jobs) - len(known)
    hours = f"About {format_value(sum(known) / 3600)} hours of one core"
    return f"{hours}." if not unknown else f"{hours}, and {count(unknown, 'job')} of unknown size."


def _names(arguments: tuple[str, ...]) -> list[str]:
    names = []
    for argument in arguments:
        if argument.startswith("@"):
            path = expand_user(argument[1:])
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"Cannot read the list of targets {path}: {error}.") from error
            names += [line.partition("#")[0].strip() for line in lines]
        else:
            names += [part.strip() for part in argument.split(",")]
    return list(dict.fromkeys(filter(None, names)))


def _absolute(name: str) -> str:
    from modgap.targets import manifest_names

    path = expand_user(name)
    return str(path.resolve()) if path.exists() and name not in manifest_names() else name


def _absolute_source(name: str) -> str:
    from modgap.ranking.source_patterns import split_input_size
    from modgap.sources import absolute_name

    base, size = split_input_size(name)
    return absolute_name(base) + (f"@{size}px" if size else "")


def _print_status(path: Path) -> None:
    from modgap.matrix.job_list import read_job_list
    from modgap.matrix.plan_status import plan_status

    status = plan_status(read_job_list(path))
    print_line(f"{count(status.jobs, 'job')} of {path}:")
    numbers = (status.computed, status.cached, status.failed, status.undefined, status.running, status.waiting)
    columns = ["computed", "from cache", "failed", "not defined", "running", "waiting"]
    print_table(columns, [[f"{number:,}" for number in numbers]])
    if status.failed:
        print_line(f"To repeat failed jobs: modgap worker {path} --retry-failed")
    if status.seconds_left is not None:
        ends = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + status.seconds_left))
        left = format_duration(status.seconds_left)
        print_line(f"With {count(status.running, 'worker')}, the rest takes about {left}, until {ends}.")
    elif not status.running and status.waiting:
        print_line(f"No worker is running. Start one with: modgap worker {path}")


def _gather(options: dict[str, Any]) -> None:
    from modgap.cli.output import print_answer, progress_bars
    from modgap.matrix.answer import matrix_answer
    from modgap.matrix.formats import to_csv, to_json, to_latex
    from modgap.matrix.gather import gather
    from modgap.matrix.job_list import read_job_list

    for name, option in (("target_arguments", "targets"), ("source_arguments", "sources"), ("out", "out")):
        if options[name]:
            raise UsageError(f"--{option} does not apply to --gather.")
    jobs = read_job_list(expand_user(options["gather"]))
    with progress_bars(options["quiet"]) as progress:
        matrix, rankings = gather(jobs, progress)
    texts = {"csv": to_csv, "json": to_json, "latex": to_latex}
    if options["results"]:
        _write(matrix, rankings, jobs, expand_user(options["results"]))
    if options["output_format"] == "table":
        print_answer(matrix_answer(matrix))
    else:
        click.echo(texts[options["output_format"]](matrix).rstrip("\n"))


def _write(matrix: "Matrix", rankings: "dict[str, Ranking]", jobs: "JobList", folder: Path) -> None:
    from modgap.cli.output import print_written
    from modgap.matrix.result_folder import write_results
    from modgap.storage.output_folder import output_folder

    with output_folder(str(folder)) as created:
        assert created is not None
        written = write_results(matrix, rankings, jobs.targets, created)
        # The rankings of all targets would be too long a list.
        print_written([path for path in written if path.parent == created])
        print_line(f"modgap: and a folder with the ranking of each of {count(len(rankings), 'target')}", err=True)
