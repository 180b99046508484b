"""Functions that select files: the one of a role, those of each split, those with a suffix, or class folders."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import SPLITS
from modgap.written_names import number_names

__all__ = ["class_folder_labels", "files_by_split", "has_suffix", "list_files", "single_file"]

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


def has_suffix(path: Path, suffixes: Collection[str]) -> bool:
    """Return True if a path ends with one of the suffixes (lower case), in upper or lower case.

    Example:
        >>> has_suffix(Path("Data.CSV.GZ"), [".csv.gz"]), has_suffix(Path("data.txt"), [".csv", ".npz"])
        (True, False)
    """
    return path.name.lower().endswith(tuple(suffixes))


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
