"""Strict JSON: records of plain values, without NaN and infinity."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.storage.atomic_files import write_text_atomically

__all__ = ["format_json", "parse_json", "plain_values", "read_json", "write_json"]


def plain_values(value: Any) -> Any:
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


def format_json(record: Any, indent: int | None = 2) -> str:
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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that modgap wrote.

    Returns:
        The object; an empty dictionary when there is no file.

    Raises:
        InputError: When the file cannot be read, is not strict JSON, or is not an object.
    """
    try:
        record = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}). Repair or delete it.") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} is not a JSON object but {type(record).__name__}. Repair or delete it.")
    return record


def write_json(path: Path, record: Mapping[str, Any], indent: int = 1) -> None:
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
