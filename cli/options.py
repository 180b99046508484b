"""Options that several commands share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from modgap.targets import OwnData

__all__ = ["OWN", "own_data", "own_data_options"]

OWN = ("kind", "label", "series", "time", "group", "x", "y")
"""What data of one's own does not say of itself."""

OPTIONS = (
    click.option("--place", metavar="DIR", help="Folder in which the target's files lie; found by itself if absent."),
    click.option(
        "--kind", type=click.Choice(["image", "series", "table", "text"]),
        help="What an array file or CSV holds, where unclear.",
    ),
    click.option("--label", metavar="COLUMN", help="CSV: the label; label, class, target or y if absent."),
    click.option("--series", metavar="COLUMN", help="CSV in long format: which series a row belongs to."),
    click.option("--time", metavar="COLUMN", help="CSV in long format: what orders a series' rows."),
    click.option("--group", metavar="NAME", help="CSV column, or array, that says which samples belong together."),
    click.option("--x", metavar="KEY", help="Array file: name of the samples; x if absent."),
    click.option("--y", metavar="KEY", help="Array file: name of the labels; y if absent."),
)  # fmt: skip


def own_data_options(command: Callable) -> Callable:
    """Add the options of where a target lies and of data of one's own."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def own_data(given: dict[str, Any]) -> "OwnData":
    """What was given of them."""
    from modgap.targets import OwnData

    return OwnData(**{name: given[name] for name in OWN})
