"""Version of modgap."""

from functools import cache

__all__ = ["installed_version"]

UNKNOWN = "0+unknown"
"""Version of a checkout that is not installed."""


@cache
def installed_version() -> str:
    """Return the version that was installed; it comes from the tags of the repository."""
    # Importing it takes longer than importing modgap.
    from importlib import metadata

    try:
        return metadata.version("modgap")
    except metadata.PackageNotFoundError:
        return UNKNOWN
