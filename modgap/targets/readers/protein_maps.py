"""Proteins in PDNET's layout: pickled features of residues and pairs, and maps of distances between residues."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.paths import is_regular_file
from modgap.targets.file_layout import files_by_split, read_text
from modgap.targets.plain_pickles import convert_pickles, read_pickle
from modgap.targets.samples import SPLITS, StoredSamples, Table, get_entry, split_codes
from modgap.targets.splits import hold_out_validation

RESIDUE_FEATURES = {"ss": 3, "pssm": 22, "sa": 1, "entropy": 1}
"""Number of values of each feature of a residue: secondary structure, profile, accessibility, entropy."""
PAIR_FEATURES = ("ccmpred", "freecon", "potential")
"""Features of a pair of residues: two predictions of contacts, and a statistical potential."""
MIN_DISTANCE = 1.0
"""Smallest distance in angstrom; smaller ones are raised to it."""


def read(
    files: Mapping[str, Sequence[Path]], *, validation: float | str | None = None, validation_position: str = "end"
) -> Table:
    """List the proteins. Each is read on access, by a child process unless its file has been converted.

    Samples are (57, L, L) float32 for a protein of L residues: for each of 27 features of residues the matrix with
    the feature along its columns, then along its rows; then 3 features of pairs. Targets are (1, L, L), the distances
    between C-beta atoms in angstrom, at least 1, with the diagonal interpolated between its neighbors.

    Args:
        files: Under `train`, `val` or `test` a folder with `features/NAME.pkl` and `distance/NAME-cb.npy`, and under
            `train-list`, `val-list` or `test-list` a file with a name at the start of each line.
        validation: Training proteins moved to validation: a fraction, a number or `size-of-test`. None moves none.
        validation_position: `start` or `end` of the list, where these proteins are.

    Raises:
        InputError: When a list or a protein's file is missing.
    """
    splits = [(code, SPLITS[code]) for code in dict(files_by_split(files, "-list"))]
    lists = [(code, files[split][0], _read_names(files[f"{split}-list"][0])) for code, split in splits]
    features = [folder / "features" / f"{name}.pkl" for _, folder, names in lists for name in names]
    distances = [folder / "distance" / f"{name}-cb.npy" for _, folder, names in lists for name in names]
    if missing := [path for path in (*features, *distances) if not is_regular_file(path)]:
        raise InputError(f"expected a file for every protein, found none at {missing[0]} and {len(missing) - 1} others")
    codes = split_codes((code, len(names)) for code, _, names in lists)
    return Table(
        StoredSamples(features, _read_features),
        splits=hold_out_validation(codes, validation, validation_position),
        targets=StoredSamples(distances, _read_distances),
    )


def convert(files: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Unpickle all features once, into files beside them. The samples themselves would take sixty times the space.

    Args:
        files: The files that `read` takes.

    Returns:
        Paths of the new files.
    """
    folders = [files[split][0] for split in SPLITS if split in files]
    return convert_pickles([path for folder in folders for path in sorted((folder / "features").glob("*.pkl"))])


def _read_names(path: Path) -> list[str]:
    lines = read_text(path, f"the list of proteins {path}").splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    if invalid := [name for name in names if "/" in name or "\\" in name]:
        raise InputError(f"expected names of proteins in {path}, got {invalid[0]!r}")
    return names


def _read_features(path: Path) -> np.ndarray:
    """Return the features of a protein, shape (57, L, L)."""
    record = read_pickle(path)
    length = len(get_entry(record, "seq", str(path)))
    parts = []
    for name, n_values in RESIDUE_FEATURES.items():
        array = get_entry(record, name, str(path))
        if name == "pssm":
            parts.append(_check_array(array, (length, n_values), name, path).T)
        else:
            shape = (length,) if n_values == 1 else (n_values, length)
            parts.append(_check_array(array, shape, name, path).reshape(n_values, length))
    residues = np.concatenate(parts)
    n_residue_maps = 2 * len(residues)
    maps = np.empty((n_residue_maps + len(PAIR_FEATURES), length, length), np.float32)
    maps[0:n_residue_maps:2] = residues[:, None, :]
    maps[1:n_residue_maps:2] = residues[:, :, None]
    for number, name in enumerate(PAIR_FEATURES, n_residue_maps):
        maps[number] = _check_array(get_entry(record, name, str(path)), (length, length), name, path)
    return maps


def _check_array(array: object, shape: tuple[int, ...], name: str, path: Path) -> np.ndarray:
    """Return an object if it is an array of numbers with this shape; raise an InputError otherwise."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub" or array.shape != shape:
        raise InputError(f"expected {name} of shape {shape} in {path}, got {getattr(array, 'shape', type(array))}")
    return array


def _read_distances(path: Path) -> np.ndarray:
    """Return the distances between the residues of a protein, shape (1, L, L)."""
    record = read_pickle(path)
    if not isinstance(record, np.ndarray) or record.shape != (3,):
        raise InputError(f"expected length, sequence and distances in {path}, got {getattr(record, 'shape', record)}")
    length = int(record[0])
    stored = _check_array(record[2], (length, length), "distances", path)
    distances: np.ndarray = np.maximum(stored, MIN_DISTANCE, dtype=np.float32)
    if not np.isfinite(distances).all():
        raise InputError(f"expected a distance between all residues in {path}, got NaN or infinities")
    # The distance of a residue to itself becomes the mean of the distances to its neighbors along the row.
    inner = np.arange(1, length - 1)
    distances[inner, inner] = (distances[inner, inner - 1] + distances[inner, inner + 1]) / 2
    distances[0, 0] = distances[0, 1]
    distances[-1, -1] = distances[-1, -2]
    return distances[None]
