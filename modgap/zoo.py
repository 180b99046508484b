"""The distribution modgap-zoo, which brings sources and targets inside ordinary packages: its names alone."""

import functools
import tomllib
from importlib import resources
from typing import Literal

Kind = Literal["source", "prefix", "target", "reader", "client"]
TABLES: dict[Kind, str] = {
    "source": "sources",
    "prefix": "prefixes",
    "target": "targets",
    "reader": "readers",
    "client": "clients",
}
INSTALL = "pip install modgap-zoo"


@functools.cache
def zoo_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of a kind that modgap-zoo brings, whether it is installed or not."""
    text = resources.files("modgap").joinpath("zoo_names.toml").read_text("utf-8")
    return tuple(tomllib.loads(text)[TABLES[kind]])


def zoo_hint(kind: Kind, name: str) -> str:
    """Return the sentences that say how to install a name of modgap-zoo; empty if it has no such name.

    They are shown where the name is unknown, so where modgap-zoo is not installed.
    """
    if name not in zoo_names(kind):
        return ""
    return (
        f"The {kind} {name} comes with the distribution modgap-zoo, which is not installed. Run: {INSTALL} "
        "(in a checkout of modgap: pip install ./zoo)"
    )
