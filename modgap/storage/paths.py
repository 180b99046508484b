"""The folder where modgap stores its files on this machine."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Return the folder in the environment variable `MODGAP_CACHE`, or else the platform's folder for user caches."""
    if folder := os.environ.get("MODGAP_CACHE"):
        return Path(folder).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("modgap", appauthor=False))
