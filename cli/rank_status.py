"""Output of `modgap rank --status DIR`: how far a ranking is that writes to a folder."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modgap.cli.output import print_line, print_table
from modgap.errors import InputError, count, format_duration
from modgap.storage.paths import expand_user

if TYPE_CHECKING:
    from modgap.ranking.stages import RunningJobs, StageState

HEADS = ["stage", "jobs", "computed", "from cache", "failed", "running", "left", "ends"]


def show_status(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    """Print how far the ranking of a folder is, and end the command."""
    if value is None or context.resilient_parsing:
        return
    from modgap.ranking.stages import read_progress

    folder = expand_user(value)
    running = read_progress(folder)
    if running is None:
        _print_finished(folder)
        context.exit()
    now = time.time() if running.is_alive else running.written
    state = "has run for" if running.is_alive else "was interrupted after"
    who = f"process {running.process} on {running.host}"
    print_line(f"The ranking in {folder} {state} {format_duration(now - running.began)} ({who}).")
    if not running.is_alive:
        print_line("Run the same command again: what is finished comes from the cache.")
    print_table(HEADS, [_row(stage, running, now) for stage in running.stages])
    context.exit()


def _print_finished(folder: Path) -> None:
    from modgap.ranking.matrix.formats import RECORD as MATRIX
    from modgap.ranking.report import RECORD
    from modgap.storage.json_records import read_json

    record = read_json(folder / RECORD)
    matrix = {} if record else read_json(folder / MATRIX)
    if record.get("jobs"):
        print_line(f"The ranking in {folder} is finished.")
        rows = []
        for stage, counts in record["jobs"].items():
            computed, cached, failed = (int(counts.get(name, 0)) for name in ("computed", "cached", "failed"))
            numbers = (computed + cached + failed, computed, cached, failed)
            rows.append([stage, *(f"{number:,}" for number in numbers)])
        print_table(HEADS[:5], rows)
    elif matrix.get("targets"):
        failed = f"{count(int(matrix.get('failed_jobs', 0)), 'job')} failed"
        print_line(f"The ranking in {folder} is finished, for {count(len(matrix['targets']), 'target')}. {failed}.")
    else:
        raise InputError(f"There is no ranking in {folder}. Pass the folder of --out.")


def _row(stage: "StageState", running: "RunningJobs", now: float) -> list[str]:
    counts = [f"{number:,}" for number in (stage.jobs, stage.computed, stage.cached, stage.failed)]
    at_work = running.running(stage)
    left = stage.seconds_left(now)
    if not running.is_alive or left is None:
        expected = ["-", "-"]
    elif not left:
        expected = ["-", "ended"]
    else:
        expected = [format_duration(left), time.strftime("%H:%M", time.localtime(now + left))]
    return [stage.stage, *counts, "-" if at_work is None else f"{at_work:,}", *expected]
