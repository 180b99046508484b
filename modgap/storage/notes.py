"""Notes in the cache folder: small JSON records with a checksum. A damaged note counts as absent."""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modgap.errors import InputError
from modgap.storage.json_records import format_json, read_json, write_json

__all__ = ["read_note", "write_note"]

CHECKSUM = "checksum"


def read_note(path: Path) -> dict[str, Any] | None:
    """Return the record of a note; None when there is none, or it cannot be read or is damaged."""
    try:
        record = read_json(path)
    except InputError:
        return None
    checksum = record.pop(CHECKSUM, None)
    return record if checksum == _checksum(path, record) else None


def write_note(path: Path, record: Mapping[str, Any]) -> None:
    """Write a note. Where it cannot be written, the next run repeats the work, so this is no error.

    Args:
        path: The file. Missing parent folders are created.
        record: Record of plain values.
    """
    with contextlib.suppress(OSError):
        write_json(path, {**record, CHECKSUM: _checksum(path, record)})


def _checksum(path: Path, record: Mapping[str, Any]) -> str:
    # The name of the file is the key, so a note that was copied under another key is not taken.
    return hashlib.sha256(format_json([path.stem, record], indent=None).encode()).hexdigest()
