"""`modgap report`."""

from pathlib import Path

import click

__all__ = ["report"]


@click.command()
@click.argument("folder", metavar="DIR")
def report(folder: str) -> None:
    """Make one self-contained HTML page from the folder DIR that `modgap rank --out DIR` wrote.

    The page loads nothing from outside. It can be sent, printed, and read on a phone.

    Example: modgap report ranking
    """
    from modgap.ranking.page import write_page

    click.echo(str(write_page(Path(folder).expanduser())))
