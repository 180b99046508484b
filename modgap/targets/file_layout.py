"""How readers find their files: one of a role, some of each split, or class sub-folders."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import SPLITS

__all__ = ["class_folder_labels", "files_by_split", "list_files", "single_file"]


def single_file(files: Mapping[str, Sequence[Path]], role: str) -> Path:
    """The one path of a role.

    Raises:
        InputError: When the role has several.
        KeyError: When it has none.
    """
    if len(files[role]) != 1:
        raise InputError(
            f"expected one file of role {role!r}, got {len(files[role])}: {', '.join(map(str, files[role]))}; "
            "give the others in manifests of their own"
        )
    return files[role][0]


def files_by_split(files: Mapping[str, Sequence[Path]], suffix: str = "") -> Iterator[tuple[int, Path]]:
    """Index into SPLITS and path of every file of the roles train, val and test, in that order.

    Args:
        files: Paths by role.
        suffix: What follows the split in the role, such as `-labels`.

    Raises:
        KeyError: When no split has a file.
    """
    if not any(f"{split}{suffix}" in files for split in SPLITS):
        raise KeyError(f"{SPLITS[0]}{suffix}")
    for code, split in enumerate(SPLITS):
        for path in files.get(f"{split}{suffix}", ()):
            yield code, path


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files with these suffixes, in lower case, anywhere below a folder, in order of their path."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())


def class_folder_labels(
    folder: Path, paths: Sequence[Path], what: str
) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Labels (N,), class names, and index into SPLITS (N,) of files that lie in class sub-folders.

    Args:
        folder: Holds a folder for each class, or the folders train, val and test that do.
        paths: Files below it.
        what: What they are, in the plural, for the error.

    Raises:
        InputError: When there is no file, or one lies in no class's folder.
    """
    parts = [path.relative_to(folder).parts for path in paths]
    split = bool(parts) and all(p[0] in SPLITS and len(p) > 2 for p in parts)
    if not parts or any(len(p) < 2 for p in parts):
        raise InputError(f"expected a sub-folder of {what} for each class in {folder}, got {len(paths)} {what}")
    classes, labels = np.unique([p[1] if split else p[0] for p in parts], return_inverse=True)
    codes = np.array([SPLITS.index(p[0]) for p in parts]) if split else None
    return labels.astype(np.int64), [str(name) for name in classes], codes
