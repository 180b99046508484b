"""The command `modgap cache`."""

import time

import click
import cloup

from modgap.cli.completion import complete_folders
from modgap.cli.groups import HelpGroup, example
from modgap.cli.options import option
from modgap.cli.output import log_to_stderr, print_line, print_table, progress_bars
from modgap.errors import UsageError, count, format_bytes

DAY = 86_400


@cloup.group(cls=HelpGroup, epilog=example("modgap cache prune --older-than 30"))
def cache() -> None:
    """List, verify, merge or prune the cache of all results."""


@cache.command("ls", epilog=example("modgap cache ls"))
def list_entries() -> None:
    """List all cache entries with their sizes and ages."""
    from modgap.storage.cache import entry_paths
    from modgap.storage.paths import cache_folder
    from modgap.targets.stored_arrays import stored_array_paths

    paths = [*entry_paths(), *stored_array_paths()]
    sizes = [path.stat().st_size for path in paths]
    now = time.time()
    rows = [
        [path.stem[:16], path.parents[1].name, format_bytes(size), f"{(now - path.stat().st_mtime) / DAY:.1f} days"]
        for path, size in zip(paths, sizes, strict=True)
    ]
    if rows:
        print_table(["key", "kind", "size", "age"], rows)
    print_line(f"{count(len(paths), 'entry', 'entries')}, {format_bytes(sum(sizes))} in {cache_folder()}")


@cache.command(epilog=example("modgap cache verify"))
@click.pass_context
def verify(ctx: click.Context) -> None:
    """Compare every cache entry with its checksum.

    The exit code is 1 when one is damaged.
    """
    from modgap.storage.cache import CorruptEntryError, entry_paths, read_entry

    damaged = 0
    log_to_stderr(quiet=False)
    with progress_bars(quiet=False):
        for path in entry_paths():
            try:
                read_entry(path)
            except CorruptEntryError as error:
                damaged += 1
                print_line(f"damaged: {path}: {error}")
    if damaged:
        print_line(f"{count(damaged, 'entry', 'entries')} damaged. The next run that needs one computes it again.")
        ctx.exit(1)
    print_line("0 entries damaged.")


@cache.command(epilog=example("modgap cache merge /mnt/other/modgap-cache"))
@click.argument("folder", metavar="DIR", shell_complete=complete_folders)
@click.pass_context
def merge(ctx: click.Context, folder: str) -> None:
    """Copy the entries of another cache folder that this one lacks.

    Results of several machines become one: what any of them has computed is not computed again. Each entry is compared
    with its checksum. The exit code is 1 when one is damaged.
    """
    from modgap.storage.cache import merge_cache
    from modgap.storage.paths import cache_folder, expand_user

    log_to_stderr(quiet=False)
    copied: list[int] = []
    n_present = damaged = 0
    with progress_bars(quiet=False):
        for path, size, fault in merge_cache(expand_user(folder)):
            if fault:
                print_line(f"damaged: {path}: {fault}")
                damaged += 1
            elif size:
                copied.append(size)
            else:
                n_present += 1
    print_line(
        f"copied {count(len(copied), 'entry', 'entries')}, {format_bytes(sum(copied))}, to {cache_folder()}; "
        f"{n_present} were there before, {damaged} damaged."
    )
    if damaged:
        ctx.exit(1)


@cache.command(epilog=example("modgap cache prune --older-than 30"))
@option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Delete the entries older than this number of days.",
)
@option("--all", "everything", is_flag=True, help="Delete all entries.")
def prune(days: float | None, everything: bool) -> None:
    """Delete cache entries: old ones, or all.

    Without an option nothing is deleted. Unfinished files of killed runs are deleted too if they are older than a day
    and than DAYS.
    """
    from modgap.storage.cache import delete_files, entry_paths, unfinished_paths
    from modgap.targets.stored_arrays import stored_array_paths

    if days is None and not everything:
        raise UsageError(
            "Nothing was deleted. Delete the entries older than 30 days with: modgap cache prune --older-than 30, or "
            "all with: modgap cache prune --all"
        )
    age = 0.0 if everything or days is None else days
    now = time.time()
    old = [path for path in (*entry_paths(), *stored_array_paths()) if path.stat().st_mtime <= now - age * DAY]
    # A younger unfinished file may be one that a run is writing now.
    old += [path for path in unfinished_paths() if path.stat().st_mtime <= now - max(age, 1.0) * DAY]
    print_line(f"deleted {count(len(old), 'file')}, {format_bytes(delete_files(old))}")
