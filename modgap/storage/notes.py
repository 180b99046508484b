"""Notes in the cache folder: small JSON records with a checksum. A damaged note counts as absent."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modgap.storage.atomic_files import write_text_atomically
from modgap.storage.json_records import format_json, parse_record, with_digest

__all__ = ["read_note", "write_note"]

KEY = "key"
"""Name of the file without its suffix. A note that was copied to another name is not taken."""


def read_note(path: Path) -> dict[str, Any] | None:
    """Return the record of a note; None when there is none, or it cannot be read or is damaged."""
    try:
        record, has_digest = parse_record(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if has_digest and record.pop(KEY, None) == path.stem else None


def write_note(path: Path, record: Mapping[str, Any]) -> None:
    """Write a note. Where it cannot be written, the next run repeats the work, so this is no error.

    Args:
        path: The file. Missing parent folders are created.
        record: Record of plain values.
    """
    with contextlib.suppress(OSError):
        write_text_atomically(path, with_digest(format_json({**record, KEY: path.stem}, indent=1)))
