"""Reading of result folders: which file holds the record, which versions can be read, and what to do without one."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modgap.discrepancy import report as discrepancy_report
from modgap.distortion import report as distortion_report
from modgap.errors import InputError, visible_name
from modgap.race import result as race_result
from modgap.ranking import report as ranking_report
from modgap.ranking.matrix import formats as matrix_formats
from modgap.storage.digests import FILES, warn_without_digests
from modgap.storage.json_records import read_json
from modgap.training import run_folder


@dataclass(frozen=True)
class RecordKind:
    """Kind of a record, and the command that makes one.

    Attributes:
        name: The kind that stands in the record.
        file: Name of the file that holds the record.
        schema: The schema that this version reads.
        command: Name of the command of modgap that writes the record.
        example: Arguments of an example of the command, without the folder.
    """

    name: str
    file: str
    schema: int
    command: str
    example: tuple[str, ...]

    def make(self, folder: Path, *arguments: str) -> str:
        """Return a command that writes a record to a folder; without arguments, it is the example."""
        command = ["modgap", self.command, *(arguments or self.example), "--out", str(folder)]
        return f"`{shlex.join(command)}`"


RANKING = RecordKind(
    "ranking", ranking_report.RECORD, ranking_report.SCHEMA, "rank", ("--target", "digits", "--sources", "vit-fashion")
)
DISCREPANCY = RecordKind(
    "discrepancy",
    "result.json",
    discrepancy_report.SCHEMA,
    "discrepancy",
    ("--source", "vit-fashion", "--target", "digits"),
)
DISTORTION = RecordKind(
    "distortion", distortion_report.RECORD, distortion_report.SCHEMA, "distortion", ("--source", "vit-fashion")
)
RUN = RecordKind(
    "run",
    run_folder.RECORD,
    run_folder.SCHEMA,
    "train",
    ("--method", "finetune", "--source", "vit-fashion", "--target", "digits"),
)
MATRIX = RecordKind(
    "matrix",
    matrix_formats.RECORD,
    matrix_formats.SCHEMA,
    "rank",
    ("--target", "digits", "--target", "wine", "--sources", "vit-fashion"),
)
TRANSFER = RecordKind("transfer", race_result.RECORD, race_result.SCHEMA, "transfer", ("--target", "digits"))
# The folder of a transfer is also that of a run.
KINDS = (TRANSFER, RANKING, DISCREPANCY, DISTORTION, RUN, MATRIX)
MAX_LISTED = 3
"""Largest number of folders inside a folder that a message names."""


def read_result_folder(folder: Path) -> tuple[RecordKind, dict[str, Any]]:
    """Return the kind and the record of a result folder.

    Args:
        folder: Folder that `modgap rank`, `discrepancy`, `distortion` or `train` wrote with --out.

    Raises:
        InputError: If it is not such a folder, or another version of modgap wrote it. The message says what a result
            folder contains, and which command makes one.
    """
    if not folder.is_dir():
        raise InputError(_not_a_folder(folder))
    for kind in KINDS:
        record = read_json(folder / kind.file, checked_key=FILES)
        if record:
            _check_record(folder, record, kind)
            if kind is RUN:
                warn_without_digests(folder / kind.file, record)
            return kind, record
    raise InputError(_no_results(folder))


def _not_a_folder(path: Path) -> str:
    if not path.exists():
        return f"There is no folder {path}. {_expected(path)}"
    if any(path.name == kind.file for kind in KINDS):
        return f"{path} is a file. Pass its folder: `{shlex.join(['modgap', 'report', str(path.parent)])}`."
    return f"{path} is a file, not a folder of results. {_expected(Path('results'))}"


def _no_results(folder: Path) -> str:
    inner = [path for path in _subfolders(folder) if any((path / kind.file).exists() for kind in KINDS)]
    if inner:
        commands = [f"`{shlex.join(['modgap', 'report', str(path)])}`" for path in inner[:MAX_LISTED]]
        return f"{folder} contains folders of results, but is none itself. Pass one of them: {' or '.join(commands)}."
    return f"There are no results in {folder}. {_expected(folder)}"


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise InputError(f"Cannot read the folder {folder}: {error.strerror}.") from error


def _expected(folder: Path) -> str:
    files = [f"{kind.file} (from modgap {kind.command})" for kind in KINDS]
    return (
        f"A folder of results contains {', '.join(files[:-1])} or {files[-1]}. "
        f"Make one with {DISCREPANCY.make(folder)}."
    )


def _check_record(folder: Path, record: Mapping[str, Any], kind: RecordKind) -> None:
    path = folder / kind.file
    if record.get("kind") != kind.name:
        raise InputError(f"{path} is not the record of a {kind.name}. {_expected(folder)}")
    schema = record.get("schema")
    if isinstance(schema, int) and schema > kind.schema:
        raise InputError(
            f"{path} was written by a newer version of modgap (schema {schema}). This version reads schema "
            f"{kind.schema}. Upgrade with `pip install --upgrade modgap`."
        )
    if schema != kind.schema or (kind is not RUN and "answer" not in record):
        reason = "without its answer"
        if schema != kind.schema:
            reason = f"schema {schema}; this version reads schema {kind.schema}"
        raise InputError(
            f"{path} was written by an older version of modgap ({reason}). Run the command again with its options: "
            f"{kind.make(folder, *_arguments(record, kind))}."
        )


def _arguments(record: Mapping[str, Any], kind: RecordKind) -> list[str]:
    """Return the source and the target of a record as arguments; none if they are missing or cannot be typed."""
    try:
        arguments = _source_and_target(record, kind)
    except (AttributeError, LookupError, TypeError):
        return []
    can_be_typed = all(isinstance(value, str) and visible_name(value, len(value)) == value for value in arguments)
    return arguments if can_be_typed else []


def _source_and_target(record: Mapping[str, Any], kind: RecordKind) -> list[str]:
    if kind is MATRIX:
        return []
    if kind is TRANSFER:
        return ["--target", record["target"]]
    if kind is RANKING:
        names = [row["source"] for row in record["sources"] if row["requested"]]
        return ["--target", record["target"]["name"], "--sources", ",".join(names)]
    if kind is DISTORTION:
        return ["--source", record["source"]]
    if kind is RUN:
        source = ["--source", record["source"]] if record["source"] else []
        return ["--method", record["method"], *source, "--target", record["target"]]
    if record["source"] is None:
        return ["--logits", record["target"]]
    return ["--source", record["source"], "--target", record["target"]]
