"""Types of a campaign: numbered tries, each of which passes or fails with a reason."""

from collections.abc import Callable
from dataclasses import dataclass, field

CORE = "tests.campaign.all_campaigns"
"""Module with the campaigns of the core."""


@dataclass(frozen=True)
class Campaign:
    """A set of numbered tries.

    Attributes:
        name: Name in the table.
        tries: Number of tries of the whole campaign.
        quick: Number of tries of the quick share, which `make test` runs.
        attempt: Function of the number of a try that returns the failure, or None; it runs in a child process.
        seconds: Time after which a try counts as a hang.
        chunk: Number of tries of one child process.
        replay: Function of a regression file's bytes that returns the failure, or None.
        suffix: Suffix of regression files.
        registry: Module with the campaign in its `CAMPAIGNS`, which a child process imports.
    """

    name: str
    tries: int
    quick: int
    attempt: Callable[[int], str | None]
    seconds: float = 60.0
    chunk: int = 500
    replay: Callable[[bytes], str | None] | None = field(default=None)
    suffix: str = ""
    registry: str = CORE
