"""A run's folder: its record, and what it refuses to be mixed with."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modgap.errors import InputError, UsageError

__all__ = ["RECORD", "Run", "check_folder", "check_source", "epoch_file", "open_run", "prepare_run", "write_record"]

RECORD = "run.json"
SCHEMA = 1
WEIGHTS = "model.safetensors"
EPOCHS = "epochs"
SETTINGS = ("method", "source", "target", "protocol", "seed", "limit", "input_size", "recipe", "inputs", "provenance")
"""What readers of a record rely on."""


@dataclass(frozen=True)
class Run:
    """A folder that `modgap train` wrote.

    Attributes:
        folder: Where it is.
        record: What run.json says.
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether it has a result."""
        return self.record.get("result") is not None

    @property
    def saved_epochs(self) -> list[int]:
        """Epochs of stage 2 whose weights are there."""
        return sorted(int(path.stem) for path in (self.folder / EPOCHS).glob("*.safetensors") if path.stem.isdigit())

    @property
    def weights(self) -> Path:
        """The chosen weights of the whole model."""
        return self.folder / WEIGHTS


def epoch_file(folder: Path, epoch: int) -> Path:
    """Where the weights after an epoch of stage 2 lie, if the recipe keeps them."""
    return folder / EPOCHS / f"{epoch:05d}.safetensors"


def open_run(folder: str | Path) -> Run:
    """Read a run's record.

    Raises:
        InputError: When there is none, or it is of another kind.
    """
    place = Path(folder).expanduser()
    try:
        record = json.loads((place / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"expected a folder that modgap train wrote, found no {place / RECORD}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {place / RECORD}: {error}") from error
    if not isinstance(record, dict) or record.get("kind") != "run" or record.get("schema") != SCHEMA:
        raise InputError(f"expected {place / RECORD} to be of kind run, schema {SCHEMA}; another version wrote it")
    if missing := [name for name in SETTINGS if name not in record]:
        raise InputError(f"expected {', '.join(missing)} in {place / RECORD}, found none; it was changed by hand")
    return Run(place, record)


def check_source(run: Run, name: str, given: Mapping[str, Any]) -> None:
    """Refuse another source than the run's, or other weights of it; versions of libraries may differ.

    Args:
        run: The run.
        name: Of the source.
        given: Its fingerprint.

    Raises:
        UsageError: When it is another.
    """
    trained = run.record["provenance"]["source"]
    if all(trained.get(part) == given.get(part) for part in ("architecture", "weights")):
        return
    if run.record["source"] != name:
        raise UsageError(f"the run in {run.folder} is of --source {run.record['source']}, not {name}")
    raise UsageError(f"the run in {run.folder} was trained with other weights of {name}; give those with --weights")


def check_folder(folder: Path, *, resume: bool) -> None:
    """Refuse a folder that a run cannot have, whatever its settings.

    Raises:
        UsageError: When it holds a run and `resume` is not given, or holds something else.
    """
    if (folder / RECORD).exists():
        if not resume:
            raise UsageError(f"{folder} holds a run; --resume goes on with it, or give another --out")
    elif folder.exists() and not folder.is_dir():
        raise UsageError(f"expected a folder for the run, {folder} is a file; give another --out")
    elif folder.exists() and any(folder.iterdir()):
        raise UsageError(f"expected an empty folder for the run, {folder} holds other files; give another --out")


def prepare_run(folder: Path, settings: Mapping[str, Any], *, resume: bool) -> Run:
    """The run with these settings that is in a folder, or a new one; nothing is written.

    Raises:
        UsageError: When `check_folder` does, or the folder holds a run with other settings.
    """
    check_folder(folder, resume=resume)
    record = {"schema": SCHEMA, "kind": "run", **json.loads(json.dumps(settings)), "result": None}
    if not (folder / RECORD).exists():
        return Run(folder, record)
    run = open_run(folder)
    given = {name: value for name, value in record.items() if name != "result"}
    if changed := _differences(given, {name: value for name, value in run.record.items() if name in given}):
        raise UsageError(f"the run in {folder} has other settings: {changed}; repeat them, or give another --out")
    return run


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write run.json, whole or not at all."""
    temporary = folder / f".{RECORD}-{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(temporary, folder / RECORD)
    except OSError as error:
        raise InputError(f"cannot write to the run's folder {folder}: {error.strerror}") from error


def _differences(given: Any, there: Any, path: str = "") -> str:
    """What differs, by name, as `name: there, not given`."""
    if isinstance(given, dict) and isinstance(there, dict):
        names = sorted(given.keys() | there.keys())
        found = (_differences(given.get(n), there.get(n), f"{path}.{n}" if path else n) for n in names)
        return "; ".join(each for each in found if each)
    return "" if given == there else f"{path} is {there}, not {given}"
