"""The command `modgap transfer`."""

import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.completion import complete_source_list
from modgap.cli.groups import example
from modgap.cli.options import (
    Options,
    check_figure_formats,
    check_minimums,
    custom_data_options,
    data_dir_option,
    device_option,
    option,
    option_group,
    output_options,
    pseudo_classes_option,
    sample_request,
    seed_option,
    target_option,
    target_request,
)
from modgap.cli.output import log_to_stderr, print_line, print_result, printable, progress_bars
from modgap.errors import CUSTOM_DATA_FORMATS, InputError, UsageError, format_duration

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from modgap.race.transfer import RaceRequest, State, Watch
    from modgap.storage.json_records import Record

MOST_RUNNING = 4
"""Most models that the live view names as those that are fitted."""


@contextlib.contextmanager
def live_view(quiet: bool) -> Iterator["Watch | None"]:
    """Yield a function that shows the state of a race on a terminal; None elsewhere, where lines are logged."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    shown: list[tuple[State, float]] = []

    def draw() -> "RenderableType":
        return _drawn(*shown[-1]) if shown else ""

    with Live(console=Console(stderr=True, highlight=False, markup=False), get_renderable=draw, transient=True):
        yield lambda state: shown.append((state, time.monotonic()))


def _drawn(state: "State", at: float) -> "RenderableType":
    """Return the view of a state that was told at a time: the stage, what is fitted, the best so far, the time left."""
    from rich.table import Table

    passed = time.monotonic() - at
    left = "" if state.left is None else f", {format_duration(max(0.0, state.left - passed))} left"
    view = Table(box=None, show_header=False, pad_edge=False)
    view.add_row("now", f"{state.stage}: {printable('; '.join(state.running[:MOST_RUNNING]))}")
    view.add_row("time", f"{format_duration(state.seconds + passed)}{left}, {state.n_tried} steps tried")
    for number, (name, error) in enumerate(state.best):
        view.add_row("" if number else "best", f"{error:>10}  {printable(name)}")
    return view


@cloup.command(epilog=example("modgap transfer --target photos --out best"))
@option_group(
    "Data and sources",
    target_option(
        f"Target data: a name (modgap targets lists them), or {CUSTOM_DATA_FORMATS}. With --resume the default is that "
        "of the folder.",
        required=False,
    ),
    data_dir_option(),
    pseudo_classes_option,
    option(
        "--sources",
        metavar="A,B,..",
        shell_complete=complete_source_list,
        help="Sources: names separated by commas (modgap sources lists them). The default is those on this machine "
        "with an open license and without near copies.",
    ),
)
@option_group(
    "Time",
    option(
        "--minutes",
        metavar="M",
        default=2.0,
        help="Minutes in which models are compared. The final fits come after them, and how long they take is told "
        "before. With 0 the quick baselines alone are compared.",
    ),
    option("--steps", metavar="FILE", help="Repeat exactly the steps of an earlier transfer: its transfer.json."),
    option(
        "--resume",
        is_flag=True,
        help="Continue an interrupted transfer, with the options that its folder has, or a finished one with more "
        "--minutes.",
    ),
    option(
        "--limit", type=int, metavar="N", help="Largest number of samples of each split, in proportion to the classes."
    ),
    seed_option,
)
@custom_data_options
@option_group(
    "Hardware",
    device_option,
    option("--jobs", type=int, metavar="N", help="Number of processes. The default is one for each core."),
)
@output_options("Folder of the model, which must be new or, with --resume, that of an interrupted transfer.")
@click.pass_context
def transfer(context: click.Context, /, **options: Any) -> int:
    """Find the best model for your data within some minutes, and test it once.

    A test split is put aside first. On the other samples, baselines of the field, linear probes of sources and of
    networks with random weights, and trainings of the best sources at several rates are compared. The simplest model
    within one standard error of the lowest error is fitted and tested, beside the best model of each other kind. The
    folder is then that of a trained model, for modgap predict, export, report and compare.
    """
    check_minimums(options, {"limit": 1, "jobs": 1, "pseudo_classes": 2})
    check_figure_formats(context, options["out"])
    if not options["out"]:
        raise UsageError("The model needs a folder. Pass --out DIR.")
    # What is wrong with the folder is told before the libraries are imported, which takes seconds.
    from modgap.race.folder import REQUEST, begun_request
    from modgap.storage.json_records import read_json
    from modgap.storage.paths import expand_user

    folder = expand_user(options["out"])
    recorded = begun_request(folder, resume=options["resume"])
    if options["resume"]:
        # A transfer that was interrupted before its first result has its options, too.
        recorded = read_json(folder / REQUEST)
    _take_over(context, options, recorded, folder / REQUEST)
    if options["target"] is None:
        raise click.UsageError("Missing option '--target'.", context)

    from modgap.jobs import Backend
    from modgap.process.end import mark_announced, stop_signal
    from modgap.race.result import TransferResult
    from modgap.race.transfer import run_race

    log_to_stderr(options["quiet"])
    request = _race_request(options, recorded, folder / REQUEST)
    try:
        with live_view(options["quiet"]) as watch, progress_bars(options["quiet"] or watch is not None) as progress:
            backend = Backend(options["jobs"])
            race = run_race(request, folder, backend, resume=options["resume"], progress=progress, watch=watch)
    except BaseException as error:
        # After a signal, libraries may raise any error.
        if (stop_signal() or isinstance(error, KeyboardInterrupt)) and (folder / REQUEST).exists():
            command = shlex.join(["modgap", "transfer", "--out", options["out"], "--resume"])
            # It begins below the ^C of a terminal.
            print_line(f"\nmodgap: interrupted. The results so far are kept. Continue with: {command}", err=True)
            mark_announced()
            raise click.exceptions.Exit(128 + (stop_signal() or signal.SIGINT)) from error
        raise
    print_result(TransferResult(race, folder), folder, options["formats"], as_json=options["as_json"])
    return 0


def _race_request(options: Options, recorded: "Record", path: "Path") -> "RaceRequest":
    """Return the request for a race.

    Args:
        options: The options of the command.
        recorded: Request of the transfer that has begun in the folder; empty if none has.
        path: Its file.
    """
    from modgap.race.steps import read_steps
    from modgap.race.transfer import RaceRequest
    from modgap.ranking.source_patterns import parse_source_names
    from modgap.storage.paths import expand_user

    steps = expand_user(options["steps"]) if options["steps"] else path if recorded else None
    return RaceRequest(
        target_request(options["target"], options),
        options["minutes"],
        tuple(parse_source_names([options["sources"]])) if options["sources"] else (),
        sample_request(options),
        () if steps is None else tuple(read_steps(steps, may_be_none=not options["steps"])),
    )


def _take_over(context: click.Context, options: dict[str, Any], recorded: "Record", path: "Path") -> None:
    """Give the options that were not passed the values that they have in the request of a transfer that has begun.

    Raises:
        InputError: When the request is damaged.
    """
    if not recorded:
        return
    try:
        target, samples = recorded["target"], recorded["samples"]
        values = {
            **(target["custom_data"] or {}),
            "target": target["name"],
            "data_dir": target["data_dir"],
            "pseudo_classes": target["pseudo_classes"],
            "minutes": float(recorded["minutes"]),
            "sources": ",".join(recorded["sources"]) or None,
            **{name: samples[name] for name in ("limit", "seed", "device")},
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not the request of a transfer. Pass another --out.") from error
    for name, value in values.items():
        if context.get_parameter_source(name) is not click.core.ParameterSource.COMMANDLINE:
            options[name] = value
