"""The folder of a race: names of its files, and the request of the race that has begun in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modgap.errors import UsageError
from modgap.storage.atomic_files import write_text_atomically
from modgap.storage.json_records import Record, read_json, write_json
from modgap.training.run_folder import RECORD, check_folder

STEPS, REQUEST, MODELS, FINALS = "steps.jsonl", "request.json", "models", "final_models.json"
"""Names in the folder of a race: a file with one result of a step in each line, a file with the request, a folder with
the final models, and a file in it that says which these are."""
TESTED_AFTER = "tested_after"
"""Key of the request: the minutes after which a race was tested before it got more of them."""


def begun_request(folder: Path, *, resume: bool) -> Record:
    """Return the request of the race that has begun in a folder; empty if none has.

    A start that ended before its first result, for instance because a file was broken, has not begun a race.

    Raises:
        UsageError: When a race has begun and `resume` is False, or the folder has other files, or is a file.
        InputError: When the request is damaged.
    """
    steps = folder / STEPS
    is_begun = (folder / REQUEST).is_file() and steps.is_file() and steps.stat().st_size > 0
    check_folder(folder, "transfer", begun=is_begun, resume=resume, allowed=(REQUEST, STEPS))
    return read_json(folder / REQUEST) if is_begun else {}


def prepare_folder(folder: Path, requested: Record, given_up: str, *, resume: bool) -> None:
    """Write the request to a new folder, or check that the folder has the same one; a race may get more minutes.

    Args:
        folder: The folder.
        requested: Record of the request.
        given_up: First words of the reason of a step that was given up because of the time.
        resume: True to continue a race.

    Raises:
        UsageError: When the folder has another request or other files.
    """
    recorded = begun_request(folder, resume=resume)
    if not recorded:
        write_json(folder / REQUEST, requested)
        return
    requested_values, recorded_values = _values(requested), _values(recorded)
    differing = [name for name, value in requested_values.items() if recorded_values.get(name) != value]
    if "data" in differing and recorded_values["target"] == requested_values["target"]:
        raise UsageError(
            f"The data has changed since the transfer in {folder} began. Restore it, or pass another `out`."
        )
    is_longer = requested["minutes"] > float(recorded.get("minutes") or 0)
    if others := [name for name in differing if name != "minutes" or not is_longer]:
        values = more = ""
        if others[0] == "minutes":
            values, more = f" ({recorded['minutes']:g} and not {requested['minutes']:g})", " It can only get more."
        raise UsageError(
            f"The transfer in {folder} has another `{others[0]}`{values}.{more} Repeat it, or pass another `out`."
        )
    if not differing:
        return
    # With more minutes, steps that were given up because of the time may be tried again.
    lines = (folder / STEPS).read_text(encoding="utf-8").splitlines(keepends=True)
    write_text_atomically(folder / STEPS, "".join(line for line in lines if f'"{given_up}' not in line))
    before = list(recorded.get(TESTED_AFTER, []))
    if (folder / RECORD).exists():
        before.append(recorded["minutes"])
    write_json(folder / REQUEST, {**requested, TESTED_AFTER: before})


def _values(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a request by their arguments; those of the samples are a mapping of their own."""
    target = dict(request.get("target") or {})
    if not any((target.get("custom_data") or {}).values()):
        # The command describes data without a word, and Python need not describe it.
        target["custom_data"] = None
    return {**request, **(request.get("samples") or {}), "samples": None, "target": target}
