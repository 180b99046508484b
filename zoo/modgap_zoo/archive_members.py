"""Content of single files in archives that are not trusted."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from modgap.errors import InputError, format_bytes
from modgap.targets.download.archives import DAMAGED_ARCHIVE_ERRORS, RefusedArchiveError, iterate_entries

MAX_ENTRIES = 10_000
MAX_SKIPPED_BYTES = 64 << 20
"""Largest sum of the sizes of all entries, because a tar.gz file is decompressed up to the last one that is read."""
MAX_DIRECTORY_BYTES = 1 << 20


def read_members(
    archive: Path, names: Sequence[str], max_bytes: int, *, content: bytes | None = None
) -> dict[str, bytes]:
    """Return the content of files in an archive of one of the kinds that `iterate_entries` reads.

    Args:
        archive: Path of the archive.
        names: Names of the files, as the archive has them.
        max_bytes: Largest size of each file.
        content: Bytes of an archive that was read from `archive`, to be read instead of the file itself. None reads
            the file.

    Raises:
        InputError: When the archive cannot be read, is damaged or too large, or lacks a file.
    """
    try:
        stream: IO[bytes] = archive.open("rb") if content is None else io.BytesIO(content)
        with stream:
            return _read(archive, stream, names, max_bytes)
    except RefusedArchiveError as error:
        raise InputError(f"The archive {archive} cannot be used: {error}.") from error
    except (OSError, *DAMAGED_ARCHIVE_ERRORS) as error:
        raise InputError(f"cannot read the archive {archive}: {error}") from error


def _read(archive: Path, stream: IO[bytes], names: Sequence[str], max_bytes: int) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    total = 0
    for number, entry in enumerate(iterate_entries(archive, stream, MAX_DIRECTORY_BYTES), start=1):
        entry.check_kind()
        total += entry.size or 0
        if number > MAX_ENTRIES or total > MAX_SKIPPED_BYTES:
            raise RefusedArchiveError(
                f"it has more than {MAX_ENTRIES:,} files or more than {format_bytes(MAX_SKIPPED_BYTES)} of content"
            )
        if entry.name in names and not entry.is_folder:
            if entry.name in members:
                raise RefusedArchiveError(f"it has two files {entry.name}")
            with entry.open() as data:
                content = data.read(max_bytes + 1)
            if len(content) > max_bytes:
                raise RefusedArchiveError(f"its file {entry.name} has more than {format_bytes(max_bytes)}")
            members[entry.name] = content
    if missing := [name for name in names if name not in members]:
        raise RefusedArchiveError(f"it has no file {missing[0]}")
    return members
