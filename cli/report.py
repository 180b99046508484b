"""`modgap report`."""

from pathlib import Path

import click

__all__ = ["report"]


@click.command()
@click.argument("folder", metavar="DIR")
def report(folder: str) -> None:
    """One self-contained HTML page of a ranking, from the folder that modgap rank --out wrote.

    The page asks for nothing from outside: it can be sent, printed, and read on a phone.

    Example: modgap report ranking
    """
    from modgap.ranking.page import write_page

    click.echo(str(write_page(Path(folder).expanduser())))
