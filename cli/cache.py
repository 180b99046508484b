"""`modgap cache`."""

import time

import click

__all__ = ["cache"]

DAY = 86_400


@click.group()
def cache() -> None:
    """The cache of logits: list, verify, prune."""


@cache.command("ls")
def list_entries() -> None:
    """What is in the cache, with sizes."""
    from modgap.cli.output import print_table
    from modgap.storage.cache import cache_folder, entries

    found = list(entries())
    rows = [[path.stem[:16], path.parents[1].name, _size(path), _age(path)] for path in found]
    if rows:
        print_table(["key", "kind", "size", "age"], rows)
    total = sum(path.stat().st_size for path in found)
    click.echo(f"{len(found)} entries, {total / 1e6:.1f} MB in {cache_folder()}")


@cache.command()
@click.pass_context
def verify(ctx: click.Context) -> None:
    """Check every entry against its checksum; exits with 1 when one is damaged."""
    from modgap.storage.cache import CorruptEntry, entries, read_entry

    damaged = 0
    for path in entries():
        try:
            read_entry(path)
        except CorruptEntry as error:
            damaged += 1
            click.echo(f"damaged: {path}: {error}")
    click.echo(f"{damaged} damaged entries; the next run that needs one computes it again")
    ctx.exit(1 if damaged else 0)


@cache.command()
@click.option("--older-than", "days", type=click.FloatRange(min=0), default=0.0, help="Only entries older, in days.")
def prune(days: float) -> None:
    """Delete entries, and files that killed runs left unfinished more than a day ago."""
    from modgap.storage.cache import entries, prune, unfinished

    now = time.time()
    old = [path for path in entries() if path.stat().st_mtime <= now - days * DAY]
    # A younger unfinished file may be one that a run is writing now.
    old += [path for path in unfinished() if path.stat().st_mtime <= now - max(days, 1.0) * DAY]
    click.echo(f"deleted {len(old)} files, {prune(old) / 1e6:.1f} MB")


def _size(path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _age(path) -> str:
    return f"{(time.time() - path.stat().st_mtime) / DAY:.1f} days"
