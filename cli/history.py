"""The command `modgap history`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.completion import complete_files, complete_source_list, complete_target_list
from modgap.cli.groups import HelpGroup, example
from modgap.cli.options import Options, check_minimums, device_option, option, option_group, quiet_option
from modgap.cli.output import log_to_stderr, print_line, print_table, progress_bars
from modgap.errors import InputError, UsageError, count, format_duration
from modgap.storage.paths import expand_user, has_suffix

if TYPE_CHECKING:
    from modgap.ranking.history.build import BuildPlan
    from modgap.ranking.history.lines import HistoryLine, Setup
    from modgap.ranking.history.store import History

shipped_option = option("--shipped", is_flag=True, help="Take the history that ships with modgap, not yours.")


@cloup.group(cls=HelpGroup, epilog=example("modgap history list"))
def history() -> None:
    """Build, list, add, export, merge or remove errors of sources on earlier targets.

    The history is a folder on this machine (MODGAP_HISTORY, or the platform's folder for user data), and modgap never
    sends it anywhere.
    """


@history.command("list", epilog=example("modgap history list", "modgap history list --shipped"))
@shipped_option
def list_lines(shipped: bool) -> None:
    """List the sources and targets of the history."""
    from modgap.ranking.history.store import history_folder, read_history, shipped_history

    listed = shipped_history() if shipped else read_history(history_folder())
    if listed.lines:
        print_table(["target", "kind", "samples", "classes", "sources", "errors"], list(_rows(listed)))
    where = "in modgap" if shipped else f"in {history_folder()}"
    print_line(f"{_counted(listed)} {where}")


def _rows(history: "History") -> Iterator[list[str]]:
    targets: dict[str, list[HistoryLine]] = {}
    for line in history.lines:
        targets.setdefault(line.target, []).append(line)
    for name, lines in targets.items():
        errors = sorted({error for line in lines for error in line.errors})
        numbers = ("" if one is None else f"{one:,}" for one in (lines[0].samples, lines[0].classes))
        counts = *numbers, str(len({line.source for line in lines}))
        yield [name, lines[0].kind, *counts, ", ".join(errors)]


def _counted(history: "History") -> str:
    sources, targets = {line.source for line in history.lines}, {line.target for line in history.lines}
    return f"{count(len(history.lines), 'line')} of {count(len(sources), 'source')} on {count(len(targets), 'target')}"


@history.command(
    epilog=example(
        "modgap history build --sources swin-b,clip-b16 --dry-run",
        "modgap history build --sources swin-b,clip-b16 --hours 8",
    )
)
@option(
    "--sources",
    metavar="A,B,..|@diverse|@FILE",
    multiple=True,
    required=True,
    shell_complete=complete_source_list,
    help="Sources, as for modgap rank. A name may end with the input size, as in vit-b@64px. Can be repeated.",
)
@option(
    "--targets",
    metavar="A,B,..|@packaged|@FILE",
    multiple=True,
    default=("@packaged",),
    shell_complete=complete_target_list,
    help="Targets with one class for each sample: names separated by commas, files of yours, @FILE for a file with one "
    "of them in each line, or @packaged for those of the history that ships with modgap. Can be repeated.",
)
@option(
    "--hours",
    type=float,
    metavar="H",
    help="Begin no training after this many hours of training in this run. The default is no limit.",
)
@option("--jobs", type=int, metavar="N", help="Number of processes. The default is one for each core.")
@device_option
@option("--dry-run", is_flag=True, help="Print what would be trained and how long it takes, and train nothing.")
@quiet_option
def build(**options: Any) -> int:
    """Measure the errors of sources on earlier targets, so that modgap rank knows them.

    Each source is fine-tuned on at most 128 labeled samples of each target as in the history that ships with modgap:
    on one half of them at three rates, on all of them, and with random weights. The errors are added to your history as
    soon as they are known. After an interruption the same command goes on.
    """
    from modgap.jobs import Backend
    from modgap.ranking.history.build import plan_build, run_build
    from modgap.ranking.source_patterns import parse_source_names

    check_minimums(options, {"jobs": 1, "hours": 0})
    log_to_stderr(options["quiet"])
    sources, backend = parse_source_names(options["sources"]), Backend("loky", options["jobs"])
    plan = plan_build(sources, _target_names(options["targets"]), backend=backend, device=options["device"])
    _print_plan(plan, options["hours"])
    if options["dry_run"] or not plan.pairs:
        return 0
    with progress_bars(options["quiet"]) as progress:
        result = run_build(plan, hours=options["hours"], progress=progress)
    for (source, target), reason in result.failures.items():
        print_line(f"{source} failed on {target}: {reason}", err=True)
    expected = _hours(result.expected / 3600)
    print_line(
        f"Added {count(len(result.lines), 'line')} to the history; {len(result.targets)} of "
        f"{count(len(plan.targets), 'target')} are finished for all sources."
    )
    print_line(
        f"{count(result.n_trained, 'training')} took {format_duration(result.seconds)}; on one core they took "
        f"{format_duration(result.spent)}, and {expected} were expected."
    )
    if result.n_left:
        print_line("The hours are spent. Run the same command again to go on.")
    return 1 if result.failures else 0


def _target_names(arguments: tuple[str, ...]) -> list[str]:
    """Return the names of targets in lists that commas separate, and those of files and pools."""
    from modgap.ranking.history.build import PACKAGED
    from modgap.ranking.source_patterns import parse_target_names

    names = []
    for argument in arguments:
        parts = [argument] if expand_user(argument).exists() else [part.strip() for part in argument.split(",")]
        for name in filter(None, parts):
            names += [name] if name == PACKAGED else parse_target_names([name])
    return names or parse_target_names([])


def _print_plan(plan: "BuildPlan", hours: float | None) -> None:

    if plan.absent:
        print_line(f"Not on this machine: {', '.join(plan.absent)}. modgap data fetch NAME brings them.", err=True)
    if plan.n_known:
        print_line(f"Already in the history: {count(plan.n_known, 'pair')} of a source and a target.")
    if not plan.pairs:
        return
    for source, reason in plan.notes.items():
        print_line(f"The time of {source} is not known. {reason}", err=True)
    n_targets = len(plan.targets)
    rows = [[source, _hours(plan.hours(1, source)), _hours(plan.hours(source=source))] for source in plan.sources]
    print_table(["source", f"first target, {plan.targets[0]}", f"all {count(n_targets, 'target')}"], rows)
    total = plan.hours()
    processes = count(plan.n_processes, "process", "processes")
    print_line(f"All trainings take about {_hours(total)} with {processes}, the quickest targets first.")
    if hours is not None and not total <= hours:
        limit = format_duration(3600 * hours)
        within = plan.targets_within(hours)
        print_line(f"In {limit} about {within} of {count(n_targets, 'target')} are finished for all sources.")


def _hours(hours: float) -> str:

    return format_duration(3600 * hours) if hours == hours else "unknown"


@history.command(
    epilog=example(
        "modgap history add results runs/finetune",
        "modgap history add errors.csv --samples 128 --epochs 10 --rates 0.0005,0.0001,0.0025",
    )
)
@click.argument("paths", metavar="DIR|FILE.csv...", nargs=-1, required=True, shell_complete=complete_files)
@option_group(
    "Tables",
    option("--samples", "setup_samples", type=int, metavar="N", help="Largest number of labeled samples."),
    option("--epochs", "setup_epochs", type=int, metavar="N", help="Number of epochs of a training."),
    option("--rates", "setup_rates", metavar="A,B,...", help="Learning rates of which one was chosen."),
    option(
        "--unit",
        type=click.Choice(["auto", "share", "percent"]),
        default="auto",
        help="Unit of the errors: share for errors in [0, 1], percent, or auto for percent if an error is above 1.",
    ),
    description="These options apply to tables, and say how their errors were measured. Only errors that were measured "
    "in the same way are pooled.",
)
@click.pass_context
def add(context: click.Context, /, paths: tuple[str, ...], **options: Any) -> None:
    """Add the errors of rankings with --pilot, of trainings by finetune and scratch, and of tables.

    A table is a .csv, .tsv or .parquet file with one error in each row (columns source, target and error, and perhaps
    variable, kind, samples, classes and held_out) or with one source in each row and a column for each target. Where
    the target of a result can be opened by its name, a sketch of its samples is stored too, so that parts of it are
    recognized later and a target is never its own history. Targets of tables are recognized by their names, whatever
    their upper case, spaces, underscores and hyphens.
    """
    from modgap.ranking.history.store import History, add_to_history, history_folder
    from modgap.ranking.history.tables import lines_of_table
    from modgap.targets.data_frames import SUFFIXES

    log_to_stderr(quiet=False)
    is_table = {path: has_suffix(path, SUFFIXES) and not path.is_dir() for path in map(expand_user, paths)}
    passed = [name for name in options if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
    if passed and not any(is_table.values()):
        raise UsageError(f"`{passed[0]}` applies to tables, and there is none among {', '.join(paths)}.")
    added, n_lines = History(), 0
    for path in is_table:
        if is_table[path]:
            more = History(tuple(lines_of_table(path, _setup(path, options), options["unit"])))
        else:
            more = _result_lines(path)
        added, n_lines = added.merged(more), n_lines + len(more.lines)
    merged = add_to_history(history_folder(), added)
    print_line(f"Added {count(n_lines, 'line')}. The history has {_counted(merged)}.")


def _setup(path: Path, options: Options) -> "Setup":
    """Return how the errors of a table were measured."""
    from modgap.ranking.history.lines import Setup

    if missing := [name for name in ("setup_samples", "setup_epochs", "setup_rates") if options[name] is None]:
        raise UsageError(
            f"`{missing[0]}` is missing. Errors of {path} are pooled only with those of the same epochs and rates, and "
            "of at most twice or half as many labeled samples. Those of the history that ships: --samples 128 --epochs "
            "10 --rates 0.0005,0.0001,0.0025."
        )
    check_minimums(options, {"setup_samples": 1, "setup_epochs": 1})
    try:
        rates = tuple(float(part) for part in options["setup_rates"].split(","))
        return Setup(options["setup_samples"], options["setup_epochs"], rates)
    except ValueError as error:
        raise UsageError(
            f"`setup_rates` is {options['setup_rates']!r}. Expected numbers from 0 separated by commas, such as "
            "0.0005,0.0001."
        ) from error


def _result_lines(folder: Path) -> "History":
    """Return the lines of a result folder with the sketch of its target, if that can be opened by its name."""
    from modgap.api.pages.result_folder import RANKING, RUN, read_result_folder
    from modgap.ranking.history.sketches import sketch_target
    from modgap.ranking.history.store import History, lines_of_ranking, lines_of_run
    from modgap.targets import TargetRequest, open_target

    makers = {RANKING.name: lines_of_ranking, RUN.name: lines_of_run}
    kind, record = read_result_folder(folder)
    lines = makers[kind.name](record) if kind.name in makers else []
    if not lines:
        raise InputError(
            f"{folder} has no errors for a history. Expected the folder of modgap rank --pilot on classes, or of "
            "modgap train --method finetune or scratch."
        )
    # The errors of rankings and trainings are kept under absolute names, too.
    name = TargetRequest(lines[0].target).absolute().name
    lines = [replace(line, target=name) for line in lines]
    try:
        sketch = sketch_target(open_target(name).read().samples)
    except InputError:
        print_line(f"The target {lines[0].target} cannot be opened, so parts of it will not be recognized.")
        return History(tuple(lines))
    return History(tuple(replace(line, target_digest=sketch.digest) for line in lines), {sketch.digest: sketch})


@history.command(epilog=example("modgap history export ours.jsonl"))
@click.argument("file", metavar="FILE")
@option(
    "--with-fingerprints",
    "fingerprints",
    is_flag=True,
    help="Write checksums of targets too. They tell whoever has a target that it was used.",
)
@shipped_option
def export(file: str, fingerprints: bool, shipped: bool) -> None:
    """Write the history to a file of JSON lines, for another machine or for colleagues."""
    from modgap.ranking.history.store import export_history, history_folder, read_history, shipped_history

    exported = shipped_history() if shipped else read_history(history_folder())
    path = expand_user(file)
    export_history(exported, path, fingerprints=fingerprints)
    print_line(f"wrote {_counted(exported)} to {path}")


@history.command(epilog=example("modgap history merge theirs.jsonl"))
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def merge(files: tuple[str, ...]) -> None:
    """Add the lines of files that modgap history export wrote."""
    from modgap.ranking.history.lines import read_lines
    from modgap.ranking.history.store import History, add_to_history, history_folder

    log_to_stderr(quiet=False)
    lines = [line for file in files for line in read_lines(expand_user(file))]
    merged = add_to_history(history_folder(), History(tuple(lines)))
    print_line(f"The history has {_counted(merged)}.")


@history.command(epilog=example("modgap history remove --target wine"))
@option("--source", metavar="NAME", multiple=True, help="Source whose lines go. Can be repeated.")
@option("--target", metavar="NAME", multiple=True, help="Target whose lines go. Can be repeated.")
def remove(source: tuple[str, ...], target: tuple[str, ...]) -> None:
    """Remove the lines of sources and targets from your history."""
    from modgap.ranking.history.store import history_folder, remove_from_history

    if not source and not target:
        raise UsageError("Nothing was removed. Pass --source NAME or --target NAME.")
    folder = history_folder()
    if not Path(folder).is_dir():
        raise UsageError(f"There is no history in {folder}.")
    left, removed = remove_from_history(folder, source, target)
    print_line(f"Removed {count(removed, 'line')}. The history has {_counted(left)}.")
