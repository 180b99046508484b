"""Groups of samples that are files: by a pattern of their paths, or from a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.targets.data_frames import SUFFIXES, list_names, read_frame
from modgap.targets.file_layout import has_suffix

__all__ = ["FILE_NAMES", "groups_of_paths"]

FILE_NAMES = ("file", "path", "filename", "file_name", "filepath", "image", "sound", "audio")
"""Names of columns of file names, in the order in which they are looked for."""
PLACE = "{group}"
ENDS = "/_. "
"""Characters that end a group if the pattern ends with its place."""


def groups_of_paths(folder: Path, paths: Sequence[Path], group: str) -> np.ndarray:
    """Return the group of each file, such as its subject, shape (N,).

    Args:
        folder: Folder that holds the files.
        paths: The N files below it.
        group: Part of the path relative to the folder, with {group} in place of the group's name, such as
            `/s{group}_`; the path begins with /. Or the path of a table with a column of files (file, path or similar)
            and one column of groups.

    Raises:
        UsageError: When the pattern has no place for the group, or several.
        InputError: When a file has no group.
    """
    names = [path.relative_to(folder).as_posix() for path in paths]
    if has_suffix(Path(group), SUFFIXES):
        return _groups_in_table(Path(group), names)
    if group.count(PLACE) != 1:
        raise UsageError(
            f"--group {group} has {group.count(PLACE)} times {PLACE}. Expected it once in a part of the path, such as "
            f"/subject{PLACE}_, or a .csv file with the columns file and group."
        )
    before, after = group.split(PLACE)
    groups = [_group_of(f"/{name}", before, after) for name in names]
    missing = [name for name, found in zip(names, groups, strict=True) if not found]
    if missing:
        raise InputError(
            f"--group {group} does not match {len(missing):,} of {len(names):,} paths, such as /{missing[0]}. Expected "
            f"a match in each path relative to {folder}."
        )
    return np.array(groups)


def _group_of(path: str, before: str, after: str) -> str:
    """Return the first text between two texts that is in one part of a path; empty if there is none.

    Example:
        >>> _group_of("/cats/s12_trial3.png", "/s", "_"), _group_of("/a/7.png", "/a/", ""), _group_of("/a/b", "x", "")
        ('12', '7', '')
    """
    at = path.find(before)
    while at >= 0:
        rest = path[at + len(before) :]
        if after:
            found, separator, _ = rest.partition(after)
            complete = bool(separator)
        else:
            end = min((position for mark in ENDS if (position := rest.find(mark)) >= 0), default=len(rest))
            found, complete = rest[:end], True
        if complete and found and "/" not in found:
            return found
        at = path.find(before, at + 1)
    return ""


def _groups_in_table(table: Path, names: Sequence[str]) -> np.ndarray:
    frame = read_frame(table, lambda columns: columns)
    by_lower_case = {str(name).lower(): name for name in frame.columns}
    file_column = next((by_lower_case[name] for name in FILE_NAMES if name in by_lower_case), None)
    others = [name for name in frame.columns if name != file_column]
    if file_column is None or len(others) != 1:
        raise InputError(
            f"{table} has the columns {list_names(frame.columns)}. Expected a column of files (one of "
            f"{', '.join(FILE_NAMES)}) and one column of groups."
        )
    group_of_file = dict(zip(frame[file_column].astype(str), frame[others[0]].astype(str), strict=True))
    missing = [name for name in names if not group_of_file.get(name, "").strip()]
    if missing:
        raise InputError(
            f"{table} has no group for {len(missing):,} of {len(names):,} files, such as {missing[0]}. Expected each "
            "path relative to the folder of the data."
        )
    return np.array([group_of_file[name] for name in names])
