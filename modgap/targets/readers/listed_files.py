"""Image or sound files that a table lists with their labels, and with groups and splits if it has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from modgap.errors import InputError, UsageError
from modgap.storage.paths import has_suffix, is_regular_file
from modgap.targets.data_frames import list_names, read_frame
from modgap.targets.file_layout import FILE_NAMES, single_file
from modgap.targets.readers.csv import (
    find_label_column,
    find_split_column,
    read_groups,
    read_labels,
    read_named_frame,
    split_column_codes,
)
from modgap.targets.readers.image_folder import SUFFIXES as IMAGE_SUFFIXES
from modgap.targets.readers.image_folder import ImageFiles, check_background
from modgap.targets.samples import Samples, Table
from modgap.targets.sound import SUFFIXES as SOUND_SUFFIXES
from modgap.targets.sound import SoundFiles

if TYPE_CHECKING:
    from pandas import DataFrame

KINDS = {"image": IMAGE_SUFFIXES, "sound": SOUND_SUFFIXES}


def listed_paths(table: Path, kind: str | None, frame: "DataFrame | None" = None) -> tuple[list[Path], str] | None:
    """Return the files that a table lists, and their kind; None if the table lists no files.

    Args:
        table: Table with a column of file names, relative to the table's folder.
        kind: `image` or `sound`; None infers it from the suffix of the first file.
        frame: Content of the table; None to read it.

    Raises:
        InputError: When a file is missing, or the kind is given but there is no column of file names.
    """
    frame = read_frame(table) if frame is None else frame
    names = _file_names(frame)
    if kind is None:
        kind = next((kind for kind, suffixes in KINDS.items() if names and has_suffix(Path(names[0]), suffixes)), None)
        if kind is None:
            return None
    if not names:
        raise InputError(
            f"{table} has the columns {list_names(frame.columns)}. Expected a column of {kind} files with one of the "
            f"names {', '.join(FILE_NAMES)}."
        )
    paths = [table.parent / name for name in names]
    if missing := [path for path in paths if not is_regular_file(path)]:
        raise InputError(
            f"{table} lists {len(paths):,} files, of which {len(missing):,} do not exist, such as {missing[0]}. "
            "Expected paths relative to the folder of the table."
        )
    return paths, kind


def _file_names(frame: "DataFrame") -> list[str]:
    """Return the names of the files that a table lists; none if it has no column of them."""
    by_lower_case = {str(name).lower(): name for name in frame.columns}
    column = next((by_lower_case[name] for name in FILE_NAMES if name in by_lower_case), None)
    return [] if column is None else [str(name) for name in frame[column]]


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    kind: Literal["image", "sound"],
    label_column: str | None = None,
    group_column: str | None = None,
    split_column: str | None = None,
    label_type: Literal["text", "number"] | None = None,
    regression: bool | None = None,
    background: str = "white",
    rate: int | None = None,
) -> Table:
    """Read the table, and list its files. Each is decoded when it is read.

    Args:
        files: The table under the role `data`, and its files in the order of its rows under `listed`.
        kind: `image` or `sound`.
        label_column: Column of the label. None takes the first of label, class, target and y. Numbers of which some
            are not whole are real-valued targets, everything else is a class.
        group_column: Column of the groups of samples that belong together.
        split_column: Column with train, val or test in each row. None takes the column `split` if there is one.
        label_type: `text` if labels and groups are names as they are written, `number` if spellings of one number are
            one name. None raises an error for two spellings of a number.
        regression: True if the labels are real-valued targets, and False if they are classes. None decides by the
            labels.
        background: Color that transparent images are composited on.
        rate: Sampling rate of sounds in hertz. Files of another rate are resampled.

    Raises:
        InputError: When labels, groups or splits are missing or invalid.
    """
    table = single_file(files, "data")
    frame = read_named_frame(table, label_column, group_column)
    label = find_label_column(frame.columns, label_column, table)
    for column in (label, group_column, split_column):
        if column is not None and column not in frame.columns:
            raise UsageError(f"There is no column {column!r} in {table}. The columns are {list_names(frame.columns)}.")
        if column is not None and frame[column].isna().any():
            raise InputError(
                f"{int(frame[column].isna().sum())} rows of {table} have no value in the column {column!r}."
            )
    labels, classes, targets = read_labels(frame[label], label_type, regression)
    paths = files["listed"]
    if len(paths) != len(frame):
        raise InputError(
            f"{table} has {len(frame):,} rows, but {len(paths):,} files were found. Run the command again."
        )
    samples: Samples
    if kind == "image":
        check_background(background)
        samples = ImageFiles(paths, background)
    else:
        if rate is None:
            raise InputError("Sounds need a sampling rate in hertz. Set the reader's option rate.")
        samples = SoundFiles.of_paths(paths, rate)
    codes = None
    if split := split_column or find_split_column(frame.columns):
        codes = split_column_codes(frame[split], table)
    groups = None if group_column is None else {group_column: read_groups(frame[group_column], label_type)}
    return Table(samples, labels, classes, codes, groups, targets, names=_file_names(frame))
