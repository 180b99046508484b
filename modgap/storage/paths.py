"""Where modgap keeps its own files on this machine."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """`MODGAP_CACHE`, else the platform's folder for a user's caches."""
    if named := os.environ.get("MODGAP_CACHE"):
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("modgap", appauthor=False))
