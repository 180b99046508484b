"""Temporary folders that a process keeps until it ends."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def temporary_folder() -> Path:
    """Return a new folder that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="modgap-campaign-"))
    owner = os.getpid()

    def remove() -> None:
        # Forked commands run the functions of their parent's exit too.
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
