"""A cache that can be written, for jobs that pass their results on through it."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from modgap.errors import InputError
from modgap.storage.atomic_files import temporary_path
from modgap.storage.paths import SHARED_CACHE, cache_folder, data_folder

log = logging.getLogger("modgap")


@contextlib.contextmanager
def writable_cache(*, on_this_machine: bool) -> Iterator[None]:
    """Provide a cache that can be written within a block, because jobs pass their results on through it.

    Where the cache cannot be written, its entries are read, and new ones go to a temporary folder that is removed at
    the end of the block.

    Args:
        on_this_machine: True if all jobs run on this machine and can use a temporary folder.

    Raises:
        InputError: If the cache cannot be written, and other machines or commands need the results.
    """
    folder = cache_folder()
    reason = _write_error(folder)
    if reason is None:
        yield
        return
    if not on_this_machine:
        raise InputError(
            f"The cache {folder} cannot be written ({reason}), but the jobs pass their results on through it. Set the "
            "environment variable MODGAP_CACHE to a folder that all machines can write."
        )
    log.warning(
        "The cache %s cannot be written (%s). Its entries are used, but new ones are lost when this command ends. To "
        "keep them, set the environment variable MODGAP_CACHE to another folder.",
        folder,
        reason,
    )
    with tempfile.TemporaryDirectory(prefix="modgap-cache-") as temporary:
        # They count for the processes that are started in the block too.
        variables = {"MODGAP_DATA": str(data_folder()), SHARED_CACHE: str(folder), "MODGAP_CACHE": temporary}
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                del os.environ[name]
                if value is not None:
                    os.environ[name] = value


def _write_error(folder: Path) -> str | None:
    """Return the reason why the cache, or a folder of one kind in it, cannot be written; None if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for directory in (folder, *folder.glob("*/"), *folder.glob("*/??/")):
            if not os.access(directory, os.W_OK):
                return "Permission denied"
        probe = temporary_path(folder / "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return None
