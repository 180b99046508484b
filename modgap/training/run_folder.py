"""The folder of a training run: its record, its files, and checks that nothing else is mixed into it."""

import contextlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from modgap.errors import InputError, UsageError, first_line, visible_name
from modgap.statistics.sample_file import SAMPLES_FILE
from modgap.storage.atomic_files import atomic_path, write_text_atomically, writing
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS
from modgap.storage.digests import FILES, check_named_file, named_digests
from modgap.storage.json_records import DigestError, Record, format_json, parse_record, plain_values, with_digest
from modgap.storage.locks import FOLDER_LOCK, exclusive_folder
from modgap.storage.paths import expand_user
from modgap.training.answer import run_answer

RECORD = "run.json"
LOG = "metrics.jsonl"
SCHEMA = 1
WEIGHTS = "model.safetensors"
INPUTS_FILE = "inputs.safetensors"
STAGE1_FILE = "stage1.safetensors"
EPOCHS = "epochs"
NAMED_FILES = (WEIGHTS, INPUTS_FILE, STAGE1_FILE, SAMPLES_FILE, LOG, f"{EPOCHS}/*.safetensors")
"""Patterns of the files whose checksums are in the record of a complete training."""
SETTINGS = ("method", "source", "target", "protocol", "seed", "limit", "input_size", "recipe", "inputs", "provenance")
"""Keys of the record that its readers rely on."""
_VALID_TYPES: dict[str, type | UnionType] = {
    "method": str,
    "source": str,
    "target": str,
    "protocol": str,
    "seed": int,
    "limit": int | None,
    "input_size": int | None,
    "recipe": dict,
    "inputs": dict,
    "provenance": dict,
    "extended_from": list | None,
    "training": dict | None,
    "result": dict | None,
    FILES: dict | None,
}
"""Types of these keys."""
_WAY_OUT_OF_DAMAGE = " Restore it, or train the model again."
FREE_SETTINGS = ("provenance.modgap", "environment", "recipe.loader_workers", "data.group_column")
"""Values of the record that may differ when a run is resumed: the versions of its algorithms tell what matters."""


@dataclass(frozen=True)
class Run:
    """A training run in a folder that `modgap train` wrote.

    Attributes:
        folder: The folder.
        record: Content of run.json: the settings and, once the run is finished, the result.
        extended: True if the run is to have more epochs of stage 2 than the record on the disk says.
    """

    folder: Path
    record: Record
    extended: bool = False

    @property
    def finished(self) -> bool:
        """True if the run has a result."""
        return self.record.get("result") is not None

    @property
    def trained(self) -> bool:
        """True if the training is complete and only the test is missing, as in the trials of a sweep."""
        return self.record.get("training") is not None

    def checked(self, path: Path) -> Path:
        """Return one of the run's files, after comparing it with its checksum in the record.

        Raises:
            InputError: When the file was damaged or changed, or is missing.
        """
        return check_named_file(self.folder, self.record, path)

    @property
    def saved_epochs(self) -> list[int]:
        """Epochs of stage 2 whose weights were saved, in ascending order."""
        return sorted(int(path.stem) for path in (self.folder / EPOCHS).glob("*.safetensors") if path.stem.isdecimal())

    @property
    def weights(self) -> Path:
        """File with the chosen weights of the complete model."""
        return self.folder / WEIGHTS

    @property
    def has_chosen_weights(self) -> bool:
        """True if that file has the chosen weights. A finished run that gets more epochs has not chosen again yet."""
        return (self.finished or self.trained) and self.weights.exists()


def epoch_file(folder: Path, epoch: int) -> Path:
    """Return the file for the weights after an epoch of stage 2; it exists only if the recipe saves that epoch."""
    return folder / EPOCHS / f"{epoch:05d}.safetensors"


def best_file(folder: Path, epoch: int) -> Path:
    """Return the file for the weights of the best epoch so far, which an unfinished run has."""
    return folder / f"best-{epoch:05d}.safetensors"


def open_run(folder: str | Path) -> Run:
    """Read the record of a run.

    Raises:
        InputError: When the folder has no record, or the record was damaged, or is invalid or of another version.
    """
    path = expand_user(folder)
    record_file = path / RECORD
    try:
        record, has_digest = parse_record(record_file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{record_file} does not exist. Expected a folder that modgap train wrote, or modgap transfer."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {record_file}: {error}.{_WAY_OUT_OF_DAMAGE}") from error
    return Run(path, check_record(record, record_file, has_digest=has_digest))


def check_record(record: Any, record_file: Path, *, has_digest: bool) -> dict[str, Any]:
    """Return the record of a run if it has the keys and types that its readers rely on.

    Args:
        record: Parsed content.
        record_file: Its file, for messages.
        has_digest: True if the record fits its checksum, False if it has none.

    Raises:
        InputError: When it is invalid, or of another version.
    """
    if not isinstance(record, dict) or record.get("kind") != "run" or record.get("schema") != SCHEMA:
        raise InputError(
            f"{record_file} was written by another version of modgap. Expected kind run with schema {SCHEMA}."
        )
    if not has_digest:
        raise InputError(f"Cannot read {record_file}: {DigestError()}.{_WAY_OUT_OF_DAMAGE}")
    if missing := [name for name in SETTINGS if name not in record]:
        raise changed_record(f"{record_file} lacks {', '.join(missing)}")
    wrong = [name for name, valid in _VALID_TYPES.items() if not isinstance(record.get(name), valid)]
    origin = {} if wrong else record["provenance"]
    if wrong := wrong or [f"provenance.{name}" for name in ("source", "target") if type(origin.get(name)) is not dict]:
        raise changed_record(f"{record_file} has values of another type for {', '.join(wrong)}")
    return record


def changed_record(complaint: str) -> InputError:
    """Return the error for a record with values that modgap train did not write; the complaint has no period."""
    return InputError(f"{complaint}. It was changed after modgap train wrote it. Restore it, or train the model again.")


@contextlib.contextmanager
def reading_record(complaint: str) -> Iterator[None]:
    """Convert the errors of changed values of a record within a block to an InputError, which begins with a complaint.

    Raises:
        InputError: When the block raises such an error.
    """
    try:
        yield
    except InputError:
        raise
    except DAMAGED_FILE_ERRORS as error:
        raise changed_record(f"{complaint} ({first_line(error)})") from error


def check_source(run: Run, name: str, fingerprint: Mapping[str, object]) -> None:
    """Raise an error unless a source is the one that a run started from; library versions may differ.

    Args:
        run: The run.
        name: Name of the source.
        fingerprint: Fingerprint of the source.

    Raises:
        UsageError: When it is another source, or has other weights, or the run trained no source.
    """
    if run.record.get("fitted") is not None:
        raise UsageError(
            f"The run in {run.folder} ({run.record['method']}) trained no source, so no knowledge of one is lost. "
            "Compare it with other runs by `modgap compare`."
        )
    trained = run.record["provenance"]["source"]
    if all(trained.get(key) == fingerprint.get(key) for key in ("architecture", "weights")):
        return
    if run.record["source"] != name:
        raise UsageError(
            f"The run in {run.folder} started from another source. Pass `source={run.record['source']!r}`."
        )
    raise UsageError(
        f'The run in {run.folder} started from other weights of {name}. Pass the same file with `weights="PATH"`.'
    )


@contextlib.contextmanager
def exclusive_run(folder: Path, *, resume: bool) -> Iterator[None]:
    """Refuse other processes that train in the same folder, within a block.

    Raises:
        InputError: When another living process trains in the folder.
        UsageError: When `check_folder` raises it, or no file of weights can have such a path.
    """
    try:
        folder.exists()
        str(folder).encode()
    except (OSError, UnicodeEncodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not valid Unicode"
        name = visible_name(str(folder))
        raise UsageError(f"{name} cannot be the folder of a run: {reason}. Pass another `out`.") from error
    if folder.exists() and not folder.is_dir():
        _check_run_folder(folder, resume)
    with exclusive_folder(folder):
        _check_run_folder(folder, resume)
        yield


def _check_run_folder(folder: Path, resume: bool) -> None:
    check_folder(folder, "run", begun=(folder / RECORD).exists(), resume=resume)


def check_folder(folder: Path, noun: str, *, begun: bool, resume: bool, allowed: Collection[str] = ()) -> None:
    """Raise an error if a folder cannot be that of a run, of a sweep or of a race, whatever its settings are.

    Args:
        folder: The folder.
        noun: What the folder is for, such as `run`.
        begun: True if the folder contains one.
        resume: True to continue it.
        allowed: Names of files that the folder may contain before it contains one.

    Raises:
        UsageError: When it contains one and `resume` is False, or contains other files, or is a file.
    """
    if begun:
        if not resume:
            raise UsageError(
                f"{folder} already contains a {noun}. Pass `resume=True` to continue it, or another `out`."
            )
    elif folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file. Expected a folder for the {noun}. Pass another `out`.")
    elif folder.exists() and any(path.name not in (FOLDER_LOCK, *allowed) for path in folder.iterdir()):
        raise UsageError(f"{folder} contains other files. Expected a new or empty folder. Pass another `out`.")


def prepare_run(folder: Path, settings: Mapping[str, object], *, resume: bool) -> Run:
    """Return the run with these settings that is in a folder, or a new run; nothing is written.

    A resumed run may have more epochs of stage 2 than before. A decay of the learning rate that ended with the last
    epoch then ends with the new one.

    Raises:
        UsageError: When `check_folder` raises it, or the folder contains a run with other settings.
    """
    _check_run_folder(folder, resume)
    record = {"schema": SCHEMA, "kind": "run", **plain_values(settings), "result": None}
    if not (folder / RECORD).exists():
        return Run(folder, record)
    run = open_run(folder)
    requested = {name: value for name, value in record.items() if name != "result"}
    recorded = {name: value for name, value in run.record.items() if name in requested}
    differences = settings_differences(recorded, requested)
    before, after = recorded["recipe"].get("stage2"), record["recipe"].get("stage2")
    are_stages = isinstance(before, Mapping) and isinstance(before.get("epochs"), int) and isinstance(after, Mapping)
    may_differ = set()
    if are_stages and before["epochs"] < after["epochs"]:
        may_differ.add("recipe.stage2.epochs")
        if before.get("decay_epochs") == before["epochs"] and after["decay_epochs"] == after["epochs"]:
            may_differ.add("recipe.stage2.decay_epochs")
    is_extended = bool(differences) and differences.keys() <= may_differ
    if differences and not is_extended:
        raise UsageError(
            f"The run in {folder} has other settings: {', '.join(differences.values())}. "
            "Repeat the settings of that run, or pass another `out`."
        )
    if is_extended:
        extended_from = [*(run.record.get("extended_from") or []), before["epochs"]]
        without_answer = {name: value for name, value in run.record.items() if name != "answer"}
        extended = {**without_answer, "recipe": record["recipe"], "extended_from": extended_from, "result": None}
        return Run(folder, extended, extended=True)
    return run


def settings_differences(recorded: Mapping[str, object], requested: Mapping[str, object]) -> dict[str, str]:
    """Return a phrase `NAME is RECORDED, not REQUESTED` by the name of each setting in which two records differ.

    Settings that may differ when a run is resumed are left out.
    """
    below = tuple(f"{name}." for name in FREE_SETTINGS)
    differences = _differences(recorded, requested)
    return {path: text for path, text in differences if path not in FREE_SETTINGS and not path.startswith(below)}


def write_record(folder: Path, record: Mapping[str, object]) -> None:
    """Write run.json, complete or not at all, with its checksum and, after the training, those of the other files.

    Raises:
        InputError: When it cannot be written, or another file cannot be read.
    """
    is_trained = record.get("result") is not None or record.get("training") is not None
    files = sorted(path for pattern in NAMED_FILES for path in folder.glob(pattern)) if is_trained else []
    with writing(folder / RECORD):
        text = format_json({**record, FILES: named_digests(folder, files)}, indent=1)
        write_text_atomically(folder / RECORD, with_digest(text))


def finish_run(folder: Path, record: Record, result: Record, seconds: float | None) -> Run:
    """Write the record of a run with its result and the answer, and return the run.

    The record that is returned has no time, so that it is the same for the same run.

    Args:
        folder: Folder of the run.
        record: Record of the run, without a result.
        result: The result.
        seconds: Seconds of the run; None in a process that writes nothing.
    """
    answer = run_answer({**record, "result": result}).to_dict()
    if seconds is not None:
        timed = {**result, "seconds": round(seconds, 1)}
        write_record(folder, {**record, "result": timed, "answer": answer})
    return Run(folder, {**record, "result": result, "answer": answer})


def copy_run_files(run: Run, folder: Path) -> None:
    """Copy everything in the folder of a finished or trained run, except its record, to another folder.

    Raises:
        InputError: When a file does not fit its checksum, or cannot be written.
    """
    for path in sorted(run.folder.iterdir()):
        # The lock and incomplete files have hidden names.
        if path.name == RECORD or path.name.startswith("."):
            continue
        if path.is_dir():
            shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
            continue
        if path.name in (run.record.get(FILES) or ()):
            run.checked(path)
        with writing(folder / path.name), atomic_path(folder / path.name) as temporary:
            shutil.copyfile(path, temporary)


def _differences(recorded: object, requested: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name of each value that differs, and a phrase `NAME is RECORDED, not REQUESTED`."""
    if isinstance(recorded, dict) and isinstance(requested, dict):
        for name in sorted(recorded.keys() | requested.keys()):
            yield from _differences(recorded.get(name), requested.get(name), f"{path}.{name}" if path else name)
    elif recorded != requested:
        yield path, f"{path} is {recorded}, not {requested}"
