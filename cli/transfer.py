"""The command `modgap transfer`."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.completion import complete_source_list
from modgap.cli.groups import example
from modgap.cli.options import (
    check_figure_formats,
    check_minimums,
    custom_data_options,
    data_dir_option,
    device_option,
    option_group,
    output_options,
    pseudo_classes_option,
    sample_request,
    seed_option,
    target_option,
    target_request,
)
from modgap.cli.output import log_to_stderr, print_result, printable, progress_bars
from modgap.errors import CUSTOM_DATA_FORMATS, UsageError, format_duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from modgap.race.transfer import State, Watch

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


@cloup.command(epilog=example("modgap transfer --target photos --minutes 10 --out best"))
@option_group(
    "Data and sources",
    target_option(f"Target data: a name (modgap targets lists them), or {CUSTOM_DATA_FORMATS}."),
    data_dir_option(),
    pseudo_classes_option,
    click.option(
        "--sources",
        metavar="A,B,..",
        shell_complete=complete_source_list,
        help="Sources: names separated by commas (modgap sources lists them). The default is those on this machine "
        "with an open license and without near copies.",
    ),
)
@option_group(
    "Time",
    click.option(
        "--minutes",
        type=float,
        metavar="M",
        default=10.0,
        show_default=True,
        help="Minutes in which models are compared. The final fits come after them, and how long they take is told "
        "before. With 0 the quick baselines alone are compared.",
    ),
    click.option(
        "--steps",
        metavar="FILE",
        help="Repeat exactly the steps of an earlier transfer: its transfer.json.",
    ),
    click.option("--resume", is_flag=True, help="Continue an interrupted transfer with the same options."),
    click.option(
        "--limit", type=int, metavar="N", help="Largest number of samples of each split, in proportion to the classes."
    ),
    seed_option,
)
@custom_data_options
@option_group(
    "Hardware",
    device_option,
    click.option("--jobs", type=int, metavar="N", help="Number of processes. The default is one for each core."),
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
    from modgap.jobs import Backend
    from modgap.race.result import TransferResult
    from modgap.race.steps import read_steps
    from modgap.race.transfer import RaceRequest, run_race
    from modgap.ranking.source_patterns import parse_source_names
    from modgap.storage.paths import expand_user

    check_minimums(options, {"limit": 1, "jobs": 1, "pseudo_classes": 2})
    check_figure_formats(context, options["out"])
    if not options["out"]:
        raise UsageError("The model needs a folder. Pass --out DIR.")
    log_to_stderr(options["quiet"])
    request = RaceRequest(
        target_request(options["target"], options),
        options["minutes"],
        tuple(parse_source_names([options["sources"]])) if options["sources"] else (),
        sample_request(options),
        tuple(read_steps(expand_user(options["steps"]))) if options["steps"] else (),
    )
    folder = expand_user(options["out"])
    with live_view(options["quiet"]) as watch, progress_bars(options["quiet"] or watch is not None) as progress:
        backend = Backend("loky", options["jobs"])
        race = run_race(request, folder, backend, resume=options["resume"], progress=progress, watch=watch)
    print_result(TransferResult(race, folder), folder, options["formats"], as_json=options["as_json"])
    return 0
