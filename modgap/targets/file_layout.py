"""Files of a target: the one of a role, those of each split, those with a suffix, class folders, and groups by path."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.labels.written_names import number_names
from modgap.storage.paths import has_suffix
from modgap.targets.data_frames import SUFFIXES, list_names, read_frame
from modgap.targets.samples import SPLITS

__all__ = ["FILE_NAMES", "class_folder_labels", "files_by_split", "groups_of_paths", "list_files", "single_file"]

SPLIT_LIKE_NAMES = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")


def single_file(files: Mapping[str, Sequence[Path]], role: str) -> Path:
    """Return the one path of a role.

    Raises:
        InputError: When the role has several files.
        KeyError: When the role has no file.
    """
    paths = files[role]
    if len(paths) != 1:
        raise InputError(
            f"expected one file of role {role!r}, got {len(paths)}: {', '.join(map(str, paths))}. "
            "Write a manifest for each of them."
        )
    return paths[0]


def files_by_split(files: Mapping[str, Sequence[Path]], suffix: str = "") -> Iterator[tuple[int, Path]]:
    """Yield index into SPLITS and path of every file of the roles train, val and test, in that order.

    Args:
        files: Paths by role.
        suffix: Text after the split's name in the role, such as `-labels`.

    Raises:
        KeyError: When no split has a file.
    """
    if not any(f"{split}{suffix}" in files for split in SPLITS):
        raise KeyError(f"{SPLITS[0]}{suffix}")
    for code, split in enumerate(SPLITS):
        for path in files.get(f"{split}{suffix}", ()):
            yield code, path


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files with one of the suffixes (lower case) anywhere below a folder, sorted by path.

    The files ._NAME, in which macOS keeps attributes of the file NAME, are left out. So is everything in hidden
    folders, such as .thumbnails or .ipynb_checkpoints, which would otherwise be read as classes.
    """
    return sorted(
        path
        for path in folder.rglob("*")
        if has_suffix(path, suffixes)
        and not path.name.startswith("._")
        and not _is_in_hidden_folder(path, folder)
        and path.is_file()
    )


def _is_in_hidden_folder(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts[:-1])


def class_folder_labels(
    folder: Path, paths: Sequence[Path], noun: str
) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Return labels (N,), class names, and index into SPLITS (N,) of files that lie in class folders.

    Args:
        folder: Folder that holds a folder for each class, or the folders train, val and test that do. Without the
            latter there are no splits.
        paths: The N files below it.
        noun: Name of such files in the plural, for error messages.

    Raises:
        InputError: When there is no file, a file is not in a class folder, all class folders are one level deeper, or
            folders of splits have other names.
    """
    parts = [path.relative_to(folder).parts for path in paths]
    if not parts or any(len(part) < 2 for part in parts):
        raise _no_class_folders(folder, [path for path, part in zip(paths, parts, strict=True) if len(part) < 2], noun)
    has_splits = all(part[0] in SPLITS and len(part) > 2 for part in parts)
    if not has_splits:
        _check_single_folder(folder, parts, noun)
        _check_split_names(folder, {part[0] for part in parts if len(part) > 2})
    class_level = 1 if has_splits else 0
    numbered = number_names([part[class_level] for part in parts], "class folder")
    codes = np.array([SPLITS.index(part[0]) for part in parts]) if has_splits else None
    return numbered.numbers, list(numbered.names), codes


def _no_class_folders(folder: Path, loose: Sequence[Path], noun: str) -> InputError:
    """Return the error of a folder with files that are in no class folder, or without files."""
    fault = f"{folder} contains no {noun}."
    if loose:
        others = f" and {len(loose) - 1:,} more" if len(loose) > 1 else ""
        fault = f"{folder} contains {noun} that are in no class folder: {loose[0].name}{others}."
    return InputError(f"{fault} Expected a sub-folder of {noun} for each class. Move the {noun} of a class into one.")


def _check_single_folder(folder: Path, parts: Sequence[tuple[str, ...]], noun: str) -> None:
    """Raise if all files are in one folder, which then holds the class folders instead of being one."""
    names = {part[0] for part in parts}
    inner = sorted({part[1] for part in parts if len(part) > 2})
    if len(names) == 1 and len(inner) > 1:
        name = names.pop()
        raise InputError(
            f"All {noun} in {folder} are in the folder {name}, which has the sub-folders {inner[0]} and {inner[1]}"
            f"{' and others' if len(inner) > 2 else ''}. Expected a sub-folder of {folder} for each class. If these "
            f"sub-folders are the classes, name {folder / name} instead."
        )


def _check_split_names(folder: Path, names: Collection[str]) -> None:
    """Raise if folders of splits would be read as classes, because of their names or of a folder beside them."""
    splits = sorted(name for name in names if name.lower() in SPLIT_LIKE_NAMES)
    if len(splits) > 1:
        raise InputError(
            f"{folder} has the folders {' and '.join(splits)}, which look like splits and would be read as classes. "
            "Name the folders of the splits train, val and test, and move other folders away."
        )


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
            f'`custom_data={{"group": {group!r}}}` has {group.count(PLACE)} times {PLACE}. Expected it once in a part '
            f"of the path, such as /subject{PLACE}_, or a .csv file with the columns file and group."
        )
    before, after = group.split(PLACE)
    groups = [_group_of(f"/{name}", before, after) for name in names]
    missing = [name for name, found in zip(names, groups, strict=True) if not found]
    if missing:
        raise InputError(
            f'`custom_data={{"group": {group!r}}}` does not match {len(missing):,} of {len(names):,} paths, such as '
            f"/{missing[0]}. Expected a match in each path relative to {folder}."
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
            group, separator, _ = rest.partition(after)
            complete = bool(separator)
        else:
            end = min((position for mark in ENDS if (position := rest.find(mark)) >= 0), default=len(rest))
            group, complete = rest[:end], True
        if complete and group and "/" not in group:
            return group
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
