"""The file sweep.json: the request of a sweep, and how far its trials have come."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modgap.errors import InputError
from modgap.storage.atomic_files import write_text_atomically, writing
from modgap.storage.json_records import format_json, parse_record, with_digest

__all__ = ["SWEEP", "read_sweep", "write_sweep"]

SWEEP = "sweep.json"
SCHEMA = 2


def read_sweep(folder: Path) -> dict[str, Any]:
    """Return the content of the sweep.json in a folder.

    Raises:
        InputError: When it is missing or damaged, or another version of modgap wrote it.
    """
    path = folder / SWEEP
    try:
        record, _ = parse_record(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from error
    if not _is_sweep(record):
        raise InputError(f"{path} was changed, or another version of modgap wrote it. Pass another --out.")
    content: dict[str, Any] = record
    return content


def _is_sweep(record: Any) -> bool:
    if not isinstance(record, dict) or record.get("schema") != SCHEMA or not isinstance(record.get("settings"), dict):
        return False
    trials = record.get("trials")
    return "values" in record and isinstance(trials, list) and all(_is_trial(trial) for trial in trials)


def _is_trial(trial: Any) -> bool:
    if not isinstance(trial, dict) or not isinstance(trial.get("settings"), dict):
        return False
    error = trial.get("validation")
    finite = error is None or (isinstance(error, int | float) and not isinstance(error, bool) and math.isfinite(error))
    return trial.get("state") in ("open", "finished", "failed") and finite


def write_sweep(
    folder: Path,
    values: Mapping[str, Sequence[str]],
    trials: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> None:
    """Write sweep.json, complete or not at all.

    Args:
        folder: Folder of the sweep.
        values: Values of each setting, by key.
        trials: Settings and state of each trial.
        settings: Settings that the trials share.

    Raises:
        InputError: When it cannot be written.
    """
    record = {"schema": SCHEMA, "settings": dict(settings), "values": dict(values), "trials": list(trials)}
    with writing(folder / SWEEP):
        write_text_atomically(folder / SWEEP, with_digest(format_json(record, indent=1)))
