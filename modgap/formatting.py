"""Numbers formatted for people."""

__all__ = ["format_bytes"]

UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def format_bytes(size: int) -> str:
    """Format a number of bytes with a decimal unit.

    Example:
        >>> format_bytes(26_100_000_000), format_bytes(2_400_000), format_bytes(1_500), format_bytes(12)
        ('26.1 GB', '2.4 MB', '1.5 kB', '12 bytes')
    """
    for unit, name in UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
