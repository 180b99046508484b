"""Strict JSON: records of plain values, without NaN and infinity, and with a checksum where modgap reads them again."""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.storage.atomic_files import write_text_atomically

Record = Mapping[str, Any]
"""A record of plain values, as strict JSON has them. Who reads it knows its keys."""
DIGEST = "digest"
"""Name of the checksum in a record, which is its last value."""
DIGEST_AT_END = re.compile(r'"digest": "([0-9a-f]{64})"\s*\}\s*\Z')
NO_DIGEST = "0" * 64


class DigestError(ValueError):
    """An error for a record that does not fit its checksum."""

    def __init__(self) -> None:
        """Set the message."""
        super().__init__("The file does not fit its checksum, so it was damaged or changed after modgap wrote it")


def plain_values(value: object) -> Any:
    """Convert a record to values that strict JSON can represent.

    Mappings become dictionaries with string keys. Tuples and NumPy arrays become lists. NumPy scalars become Python
    numbers. NaN and infinities become None.

    Example:
        >>> plain_values({"error": np.float32(0.5), "interval": (np.nan, 0.75), "labels": np.arange(2)})
        {'error': 0.5, 'interval': [None, 0.75], 'labels': [0, 1]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain_values(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain_values(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def format_json(record: object, indent: int | None = 2) -> str:
    """Format a record as strict JSON.

    Args:
        record: Plain values; see `plain_values`.
        indent: Spaces per level; None puts the whole document on one line.

    Raises:
        ValueError: When the record contains NaN or an infinity.
        TypeError: When the record contains a value that JSON cannot represent.
    """
    return json.dumps(record, indent=indent, allow_nan=False)


def parse_json(text: str | bytes) -> Any:
    """Parse strict JSON.

    Raises:
        ValueError: When the text is not JSON, or contains NaN or an infinity.
    """
    try:
        return json.loads(text, parse_constant=_raise_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _raise_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed in strict JSON")


def with_digest(text: str) -> str:
    """Return the text of a JSON object with the SHA-256 of the whole text, which finds damage, as its last value.

    Example:
        >>> print(with_digest('{"error": 0.5}'), end="")
        {"error": 0.5,
         "digest": "2e2d994394771d983e43f054b9ad5f993bce6fc16f41ffc513a8ac28e239e383"
        }
    """
    content = text.rstrip().removesuffix("}").rstrip()
    separator = "" if content.endswith("{") else ","
    start, end = f'{content}{separator}\n "{DIGEST}": "', '"\n}\n'
    return f"{start}{_digest(f'{start}{NO_DIGEST}{end}')}{end}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def parse_record(text: str) -> tuple[Any, bool]:
    """Parse strict JSON, and compare it with its checksum, if it has one.

    Returns:
        The value without the checksum, and True if there was one.

    Raises:
        ValueError: When the text is not JSON.
        DigestError: When it does not fit its checksum.
    """
    record = parse_json(text)
    match = DIGEST_AT_END.search(text)
    if match is None or not isinstance(record, dict):
        return record, False
    if _digest(f"{text[: match.start(1)]}{NO_DIGEST}{text[match.end(1) :]}") != match[1]:
        raise DigestError
    return {name: value for name, value in record.items() if name != DIGEST}, True


def read_json(path: Path, *, checked_key: str | None = None) -> dict[str, Any]:
    """Read a JSON object that modgap wrote, and compare it with its checksum, if it has one.

    Args:
        path: The file.
        checked_key: Key that only records with a checksum have, so that one without it has lost its checksum.

    Returns:
        The object without the checksum; an empty dictionary when there is no file.

    Raises:
        InputError: When the file cannot be read, is not strict JSON, is not an object, or does not fit its checksum.
    """
    try:
        record, has_digest = parse_record(path.read_text(encoding="utf-8"))
        if not has_digest and isinstance(record, dict) and checked_key in record:
            raise DigestError
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except DigestError as error:
        raise InputError(f"{path}: {error}. Restore it, or run the command that wrote it again.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}). Repair or delete it.") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} is not a JSON object but {type(record).__name__}. Repair or delete it.")
    return record


def write_json(path: Path, record: Mapping[str, object], indent: int = 1) -> None:
    """Write a JSON object, complete or not at all.

    Args:
        path: The file. Missing parent folders are created.
        record: The object, of plain values.
        indent: Spaces per level.

    Raises:
        OSError: When the folder cannot be written, or the disk is full.
        ValueError: When the record contains NaN or an infinity.
    """
    write_text_atomically(path, format_json(record, indent) + "\n")


KEY = "key"
"""Name of the file without its suffix. A note that was copied to another name is not taken."""


def read_note(path: Path) -> dict[str, Any] | None:
    """Return the record of a note; None when there is none, or it cannot be read or is damaged."""
    try:
        record, has_digest = parse_record(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if has_digest and record.pop(KEY, None) == path.stem else None


def write_note(path: Path, record: Mapping[str, object]) -> None:
    """Write a note. Where it cannot be written, the next run repeats the work, so this is no error.

    Args:
        path: The file. Missing parent folders are created.
        record: Record of plain values.
    """
    with contextlib.suppress(OSError):
        write_text_atomically(path, with_digest(format_json({**record, KEY: path.stem}, indent=1)))
