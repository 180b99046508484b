"""Reading of result folders: which file holds the record, which versions can be read, and what to do without one."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from modgap.discrepancy import report as discrepancy_report
from modgap.distortion import report as distortion_report
from modgap.errors import InputError
from modgap.race import result as race_result
from modgap.ranking import report as ranking_report
from modgap.ranking.matrix import formats as matrix_formats
from modgap.storage.digests import FILES
from modgap.storage.json_records import Record, read_json
from modgap.training import run_folder


@dataclass(frozen=True)
class RecordKind:
    """Kind of a record, and the command that makes one.

    Attributes:
        name: The kind that stands in the record.
        file: Name of the file that holds the record.
        schema: The schema that this version reads.
        example: A command that writes such a record, without the folder.
    """

    name: str
    file: str
    schema: int
    example: str

    def make(self, folder: Path) -> str:
        """Return the example, with a folder."""
        return f"`{shlex.join([*self.example.split(), '--out', str(folder)])}`"


RANKING = RecordKind(
    "ranking", ranking_report.RECORD, ranking_report.SCHEMA, "modgap rank --target digits --sources vit-fashion"
)
DISCREPANCY = RecordKind(
    "discrepancy", "result.json", discrepancy_report.SCHEMA, "modgap discrepancy --source vit-fashion --target digits"
)
DISTORTION = RecordKind(
    "distortion", distortion_report.RECORD, distortion_report.SCHEMA, "modgap distortion --source vit-fashion"
)
RUN = RecordKind(
    "run", run_folder.RECORD, run_folder.SCHEMA, "modgap train --method finetune --source vit-fashion --target digits"
)
MATRIX = RecordKind(
    "matrix",
    matrix_formats.RECORD,
    matrix_formats.SCHEMA,
    "modgap rank --target digits --target wine --sources vit-fashion",
)
TRANSFER = RecordKind("transfer", race_result.RECORD, race_result.SCHEMA, "modgap transfer --target digits")
# The folder of a transfer is also that of a run.
KINDS = (TRANSFER, RANKING, DISCREPANCY, DISTORTION, RUN, MATRIX)
MAX_LISTED = 3
"""Largest number of folders inside a folder that a message names."""


def read_result_folder(folder: Path) -> tuple[RecordKind, Record]:
    """Return the kind and the record of a result folder.

    Args:
        folder: Folder that `modgap rank`, `discrepancy`, `distortion` or `train` wrote with --out.

    Raises:
        InputError: If it is not such a folder, or another version of modgap wrote it. The message says what a result
            folder contains, and which command makes one.
    """
    if not folder.exists():
        raise InputError(f"There is no folder {folder}. {_expected(folder)}")
    if not folder.is_dir() and any(folder.name == kind.file for kind in KINDS):
        command = shlex.join(["modgap", "report", str(folder.parent)])
        raise InputError(f"{folder} is a file. Pass its folder: `{command}`.")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder of results. {_expected(Path('results'))}")
    for kind in KINDS:
        record = read_json(folder / kind.file, checked_key=FILES)
        if record:
            _check_record(folder, record, kind)
            return kind, record
    try:
        inner = sorted(path for path in folder.iterdir() if any((path / kind.file).exists() for kind in KINDS))
    except OSError as error:
        raise InputError(f"Cannot read the folder {folder}: {error.strerror}.") from error
    if not inner:
        raise InputError(f"There are no results in {folder}. {_expected(folder)}")
    commands = [f"`{shlex.join(['modgap', 'report', str(path)])}`" for path in inner[:MAX_LISTED]]
    raise InputError(
        f"{folder} contains folders of results, but is none itself. Pass one of them: {' or '.join(commands)}."
    )


def _expected(folder: Path) -> str:
    files = [f"{kind.file} (from modgap {kind.example.split()[1]})" for kind in KINDS]
    return (
        f"A folder of results contains {', '.join(files[:-1])} or {files[-1]}. "
        f"Make one with {DISCREPANCY.make(folder)}."
    )


def _check_record(folder: Path, record: Record, kind: RecordKind) -> None:
    path = folder / kind.file
    if record.get("kind") != kind.name:
        raise InputError(f"{path} is not the record of a {kind.name}. {_expected(folder)}")
    if record.get("schema") != kind.schema or (kind is not RUN and "answer" not in record):
        raise InputError(
            f"{path} was written by another version of modgap (schema {record.get('schema')}; this one reads schema "
            f"{kind.schema}), or is not complete. Run the command that wrote it again, such as {kind.make(folder)}."
        )
