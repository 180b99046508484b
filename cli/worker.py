"""`modgap worker`."""

import click
import cloup

from modgap.cli.completion import complete_files
from modgap.cli.groups import example
from modgap.cli.options import check_minimums, option_group, quiet_option
from modgap.cli.output import print_line
from modgap.errors import UsageError
from modgap.formatting import count
from modgap.storage.paths import expand_user

__all__ = ["worker"]

MINIMUMS = {"lease": 1, "minutes": 0}


@cloup.command(epilog=example("modgap worker jobs.jsonl --minutes 55"))
@click.argument("jobs", metavar="FILE", shell_complete=complete_files)
@option_group(
    "Time",
    click.option(
        "--lease",
        type=float,
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="A job whose worker has given no sign of life for so long is run by another worker.",
    ),
    click.option(
        "--minutes",
        type=float,
        metavar="MINUTES",
        help="Begin no job after this many minutes, because the machine is taken back at a fixed time. A job that runs "
        "is not ended.",
    ),
)
@option_group(
    "Jobs",
    click.option(
        "--retry-failed",
        is_flag=True,
        help="Repeat the jobs that failed before this worker started, for instance because weights were absent.",
    ),
)
@option_group("Output", quiet_option)
def worker(jobs: str, lease: float, minutes: float | None, retry_failed: bool, quiet: bool) -> int:
    """Run jobs of a plan until all are finished, by this worker or by others.

    Start as many workers as there are cores or GPUs, on any machines that share the folder of the plan and the cache.
    They claim jobs one by one; each job uses one core, or one GPU. A worker that is killed loses only the job that it
    runs, which another one repeats. The exit code is 1 if a job of this worker failed.
    """
    from modgap.cli.output import log_to_stderr, progress_bars
    from modgap.matrix.leases import LONGEST_LEASE
    from modgap.matrix.ranking_jobs import ranking_runner
    from modgap.matrix.worker import work
    from modgap.ranking.writable_cache import writable_cache

    check_minimums({"lease": lease, "minutes": minutes}, MINIMUMS)
    if not lease <= LONGEST_LEASE:
        raise UsageError(f"--lease is {lease:g}, but it must be at most {LONGEST_LEASE:,.0f} seconds, a day.")
    log_to_stderr(quiet)
    seconds = None if minutes is None else 60 * minutes
    with writable_cache(on_this_machine=False), progress_bars(quiet) as progress:
        summary = work(
            expand_user(jobs),
            ranking_runner,
            lease=lease,
            seconds=seconds,
            retry_failed=retry_failed,
            progress=progress,
        )
    print_line(
        f"{count(summary.finished, 'job')} finished here, {summary.failed} of them failed; {summary.elsewhere} by "
        f"others. See the results with: modgap plan --gather {jobs}"
    )
    if summary.failed:
        print_line(f"To repeat failed jobs: modgap worker {jobs} --retry-failed")
    return 1 if summary.failed else 0
