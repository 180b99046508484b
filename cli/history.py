"""The command `modgap history`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from modgap.cli.completion import complete_folders
from modgap.cli.groups import HelpGroup, example
from modgap.cli.output import print_line, print_table

if TYPE_CHECKING:
    from modgap.ranking.history.lines import HistoryLine
    from modgap.ranking.history.store import History

__all__ = ["history"]

shipped_option = click.option("--shipped", is_flag=True, help="Take the history that ships with modgap, not yours.")


@cloup.group(cls=HelpGroup, epilog=example("modgap history list"))
def history() -> None:
    """List, add, export, merge or remove errors of sources on earlier targets.

    The history is a folder on this machine (MODGAP_HISTORY, or the platform's folder for user data), and modgap never
    sends it anywhere.
    """


@history.command("list", epilog=example("modgap history list", "modgap history list --shipped"))
@shipped_option
def list_lines(shipped: bool) -> None:
    """List the sources and targets of the history."""
    from modgap.ranking.history.store import history_folder, read_history, shipped_history

    known = shipped_history() if shipped else read_history(history_folder())
    if known.lines:
        print_table(["target", "kind", "samples", "classes", "sources", "errors"], list(_rows(known)))
    where = "in modgap" if shipped else f"in {history_folder()}"
    print_line(f"{_counted(known)} {where}")


def _rows(known: "History") -> Iterator[list[str]]:
    targets: dict[str, list[HistoryLine]] = {}
    for line in known.lines:
        targets.setdefault(line.target, []).append(line)
    for name, lines in targets.items():
        errors = sorted({error for line in lines for error in line.errors})
        counts = f"{lines[0].samples:,}", f"{lines[0].classes:,}", str(len({line.source for line in lines}))
        yield [name, lines[0].kind, *counts, ", ".join(errors)]


def _counted(known: "History") -> str:
    from modgap.errors import count

    sources, targets = {line.source for line in known.lines}, {line.target for line in known.lines}
    return f"{count(len(known.lines), 'line')} of {count(len(sources), 'source')} on {count(len(targets), 'target')}"


@history.command(epilog=example("modgap history add results runs/finetune"))
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, shell_complete=complete_folders)
def add(folders: tuple[str, ...]) -> None:
    """Add the errors of rankings with --pilot, and of trainings by finetune and scratch.

    Where the target can be opened by its name, a sketch of its samples is stored too, so that parts of it are
    recognized later and a target is never its own history.
    """
    from modgap.api.pages.result_folder import RANKING, RUN, read_result_folder
    from modgap.errors import InputError, count
    from modgap.ranking.history.store import (
        History,
        add_to_history,
        history_folder,
        lines_of_ranking,
        lines_of_run,
    )
    from modgap.storage.paths import expand_user

    makers = {RANKING.name: lines_of_ranking, RUN.name: lines_of_run}
    found, added = History(), 0
    for folder in map(expand_user, folders):
        kind, record = read_result_folder(folder)
        lines = makers[kind.name](record) if kind.name in makers else []
        if not lines:
            raise InputError(
                f"{folder} has no errors for a history. Expected the folder of modgap rank --pilot on classes, or of "
                "modgap train --method finetune or scratch."
            )
        found, added = found.merged(_with_sketch(lines)), added + len(lines)
    known = add_to_history(history_folder(), found)
    print_line(f"Added {count(added, 'line')}. The history has {_counted(known)}.")


def _with_sketch(lines: "list[HistoryLine]") -> "History":
    """Return lines of one target with the sketch of its samples, if the target can be opened by its name."""
    from dataclasses import replace

    from modgap.errors import InputError
    from modgap.ranking.history.sketches import sketch_target
    from modgap.ranking.history.store import History
    from modgap.targets import open_target

    try:
        sketch = sketch_target(open_target(lines[0].target).read().samples)
    except InputError:
        print_line(f"The target {lines[0].target} cannot be opened, so parts of it will not be recognized.")
        return History(tuple(lines))
    return History(tuple(replace(line, target_digest=sketch.digest) for line in lines), {sketch.digest: sketch})


@history.command(epilog=example("modgap history export ours.jsonl"))
@click.argument("file", metavar="FILE")
@click.option(
    "--with-fingerprints",
    "fingerprints",
    is_flag=True,
    help="Write checksums of targets too. They tell whoever has a target that it was used.",
)
@shipped_option
def export(file: str, fingerprints: bool, shipped: bool) -> None:
    """Write the history to a file of JSON lines, for another machine or for colleagues."""
    from modgap.ranking.history.store import export_history, history_folder, read_history, shipped_history
    from modgap.storage.paths import expand_user

    known = shipped_history() if shipped else read_history(history_folder())
    path = expand_user(file)
    export_history(known, path, fingerprints=fingerprints)
    print_line(f"wrote {_counted(known)} to {path}")


@history.command(epilog=example("modgap history merge theirs.jsonl"))
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def merge(files: tuple[str, ...]) -> None:
    """Add the lines of files that modgap history export wrote."""
    from modgap.ranking.history.lines import read_lines
    from modgap.ranking.history.store import History, add_to_history, history_folder
    from modgap.storage.paths import expand_user

    lines = [line for file in files for line in read_lines(expand_user(file))]
    known = add_to_history(history_folder(), History(tuple(lines)))
    print_line(f"The history has {_counted(known)}.")


@history.command(epilog=example("modgap history remove --target wine"))
@click.option("--source", metavar="NAME", multiple=True, help="Source whose lines go. Can be repeated.")
@click.option("--target", metavar="NAME", multiple=True, help="Target whose lines go. Can be repeated.")
def remove(source: tuple[str, ...], target: tuple[str, ...]) -> None:
    """Remove the lines of sources and targets from your history."""
    from modgap.errors import UsageError, count
    from modgap.ranking.history.store import history_folder, remove_from_history

    if not source and not target:
        raise UsageError("Nothing was removed. Pass --source NAME or --target NAME.")
    folder = history_folder()
    if not Path(folder).is_dir():
        raise UsageError(f"There is no history in {folder}.")
    known, removed = remove_from_history(folder, source, target)
    print_line(f"Removed {count(removed, 'line')}. The history has {_counted(known)}.")
