"""Numbers of layers as users write them."""

from modgap.errors import UsageError

__all__ = ["parse_layers"]


def parse_layers(text: str) -> tuple[int, ...] | None:
    """Return the numbers of layers in `all` (none for all) or `N,M,...`; they are counted from 1.

    Raises:
        UsageError: If the text is neither.
    """
    if text == "all":
        return ()
    if text == "last":
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and 0 < int(part) < 10_000 for part in parts):
        raise UsageError(f"`layers` is {text!r}. Expected last, all, or numbers of layers from 1 such as 2,4.")
    return tuple(sorted({int(part) for part in parts}))
