"""Proteins in PDNET's layout: features of residues and of pairs, pickled, and maps of distances between residues."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.targets.plain_pickles import convert_pickles, read_pickle
from modgap.targets.samples import SPLITS, Table
from modgap.targets.shaping import get_entry, split_codes
from modgap.targets.splits import hold_out_validation

__all__ = ["convert", "read"]

OF_RESIDUES = {"ss": 3, "pssm": 22, "sa": 1, "entropy": 1}
"""Features of a residue and how many values each has: secondary structure, profile, accessibility, entropy."""
OF_PAIRS = ("ccmpred", "freecon", "potential")
"""Features of a pair of residues: two predictions of contacts, and a statistical potential."""
SHORTEST = 1.0
"""Distances below are set to it, in angstrom."""


def read(
    files: Mapping[str, Sequence[Path]], *, validation: float | str | None = None, validation_at: str = "end"
) -> Table:
    """List the proteins; each is read, by a child process unless converted, when it is asked for.

    Samples are (57, L, L) float32 for a protein of L residues: for each of 27 features of residues the matrix with
    the feature along its columns, then along its rows; then 3 features of pairs. Targets are (1, L, L), the distances
    between C-beta atoms in angstrom, at least 1, with the diagonal between its neighbors.

    Args:
        files: Under `train`, `val` or `test` a folder with `features/NAME.pkl` and `distance/NAME-cb.npy`, and under
            `train-list`, `val-list` or `test-list` a file with a name at the start of each line.
        validation: Training proteins held for validation: a share, a number or `as-test`; None for none.
        validation_at: Whether these are at the `start` or the `end` of the list.

    Raises:
        InputError: When a list or a protein's file is missing.
    """
    named = [split for split in SPLITS if f"{split}-list" in files]
    if not named:
        raise KeyError(f"{SPLITS[0]}-list")
    lists = [(split, files[split][0], _listed(files[f"{split}-list"][0])) for split in named]
    features = [folder / "features" / f"{name}.pkl" for _, folder, names in lists for name in names]
    distances = [folder / "distance" / f"{name}-cb.npy" for _, folder, names in lists for name in names]
    missing = [path for path in (*features, *distances) if not path.is_file()]
    if missing:
        raise InputError(f"expected a file for every protein, found none at {missing[0]} and {len(missing) - 1} others")
    splits = split_codes([(split, len(names)) for split, _, names in lists])
    return Table(
        _Features(tuple(features)),
        splits=hold_out_validation(splits, validation, validation_at),
        targets=_Distances(tuple(distances)),
    )


def convert(files: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Unpickle all features for good, into files beside them; the samples themselves would take sixty times as much.

    Args:
        files: As `read` takes them.
    """
    folders = [files[split][0] for split in SPLITS if split in files]
    return convert_pickles([path for folder in folders for path in sorted((folder / "features").glob("*.pkl"))])


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the list of proteins {path}: {error}") from error
    names = [line.split()[0] for line in lines if line.strip()]
    strange = [name for name in names if "/" in name or "\\" in name]
    if strange:
        raise InputError(f"expected names of proteins in {path}, got {strange[0]!r}")
    return names


@dataclass(frozen=True)
class _Features:
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        path = self.paths[index]
        record = read_pickle(path)
        length = len(get_entry(record, "seq", str(path)))
        residues = np.concatenate([_of_residues(record, name, length, path) for name in OF_RESIDUES])
        maps = np.empty((2 * len(residues) + len(OF_PAIRS), length, length), np.float32)
        maps[0 : 2 * len(residues) : 2] = residues[:, None, :]
        maps[1 : 2 * len(residues) : 2] = residues[:, :, None]
        for number, name in enumerate(OF_PAIRS, 2 * len(residues)):
            maps[number] = _checked(get_entry(record, name, str(path)), (length, length), name, path)
        return maps


def _of_residues(record: Mapping, name: str, length: int, path: Path) -> np.ndarray:
    """The values of a feature, (values, L)."""
    values, found = OF_RESIDUES[name], get_entry(record, name, str(path))
    if name == "pssm":
        return _checked(found, (length, values), name, path).T
    return _checked(found, (length,) if values == 1 else (values, length), name, path).reshape(values, length)


def _checked(array, shape: tuple[int, ...], name: str, path: Path) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub" or array.shape != shape:
        raise InputError(f"expected {name} of shape {shape} in {path}, got {getattr(array, 'shape', type(array))}")
    return array


@dataclass(frozen=True)
class _Distances:
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        path = self.paths[index]
        record = read_pickle(path)
        if not isinstance(record, np.ndarray) or record.shape != (3,):
            raise InputError(
                f"expected length, sequence and distances in {path}, got {getattr(record, 'shape', record)}"
            )
        length, _, found = record
        distances = np.maximum(_checked(found, (int(length),) * 2, "distances", path), SHORTEST, dtype=np.float32)
        if not np.isfinite(distances).all():
            raise InputError(f"expected a distance between all residues in {path}, got gaps")
        _smooth_diagonal(distances)
        return distances[None]


def _smooth_diagonal(distances: np.ndarray) -> None:
    """Set each distance of a residue to itself to the mean of those to its neighbors along the row."""
    below, above = np.diagonal(distances, -1), np.diagonal(distances, 1)
    inner = np.arange(1, len(distances) - 1)
    diagonal = (below[:-1] + above[1:]) / 2
    distances[inner, inner] = diagonal
    distances[0, 0], distances[-1, -1] = distances[0, 1], distances[-1, -2]
