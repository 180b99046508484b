"""Numbers formatted for people."""

__all__ = ["count", "format_bytes"]

UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def format_bytes(size: int) -> str:
    """Format a number of bytes with a decimal unit.

    Example:
        >>> format_bytes(26_100_000_000), format_bytes(2_400_000), format_bytes(1_500), format_bytes(1)
        ('26.1 GB', '2.4 MB', '1.5 kB', '1 byte')
    """
    for unit, name in UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return count(size, "byte")


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Format a number of things, with the noun in the singular for one.

    Args:
        number: Number of things.
        singular: The noun in the singular.
        plural: The noun in the plural; None appends an s.

    Example:
        >>> count(1, "entry", "entries"), count(0, "entry", "entries"), count(1200, "sample")
        ('1 entry', '0 entries', '1,200 samples')
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
