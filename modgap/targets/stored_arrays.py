"""Targets that are arrays in memory: files whose paths are the names of the targets, most of them in the cache."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.labels.user_arrays import align_rows, number_groups, number_labels, to_numpy
from modgap.storage.atomic_files import atomic_path
from modgap.storage.paths import cache_folder

FOLDER = "arrays"


def store_arrays(
    x: object, y: object, groups: object = None, folder: Path | None = None, splits: np.ndarray | None = None
) -> Path:
    """Write samples and labels to a file, unless it is there, and return its path.

    Equal arrays have the same path, so their results are found in the cache again, and a training can be resumed.

    Args:
        x: Samples: images (N, H, W) or (N, C, H, W), or series (N, length) or (N, C, length).
        y: Classes (N,), 0/1 labels (N, K), or real values (N, ...).
        groups: Group of each sample, (N,); None if samples are independent.
        folder: Folder of the file; None for the cache.
        splits: Number of the split of each sample, (N,); None to draw them.

    Raises:
        InputError: If the samples are not numbers, there is not one label or group for each, or the file cannot be
            written.
    """
    rows = align_rows({"x": x, "y": y, "groups": groups})
    samples = to_numpy(rows["x"], "x of the target")
    labels = to_numpy(rows["y"], "y of the target")
    if labels.dtype.kind == "O":
        numbered = number_labels(rows["y"])
        labels = np.array(numbered.names)[numbered.numbers] if numbered.names else numbered.numbers
    if samples.dtype.kind not in "biuf" or samples.ndim < 2:
        raise InputError(
            f"x of the target has type {samples.dtype} and shape {samples.shape}. Expected numbers: images (N, H, W) "
            "or (N, C, H, W), series (N, length) or (N, C, length), or rows of a table (N, D). A table with text is "
            "read from a CSV or Parquet file."
        )
    if labels.ndim == 0 or len(labels) != len(samples):
        raise InputError(
            f"y of the target has shape {labels.shape}, and x has shape {samples.shape}. Expected one label for each "
            "sample."
        )
    arrays = {"x": samples, "y": labels}
    if groups is not None:
        arrays["groups"] = number_groups(rows["groups"], len(samples))
    if splits is not None:
        arrays["splits"] = splits
    digest = hashlib.sha256()
    for array in arrays.values():
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        for row in array:
            digest.update(np.ascontiguousarray(row).tobytes())
    folder = cache_folder() / FOLDER / digest.hexdigest()[:2] if folder is None else folder
    path = folder / f"arrays-{digest.hexdigest()[:12]}.npz"
    if not path.is_file():
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            raise InputError(f"Cannot write the arrays of the target to {path}: {error.strerror}.") from error
    return path


def stored_array_paths() -> Iterator[Path]:
    """Yield the paths of all stored arrays, sorted."""
    yield from sorted(cache_folder().glob(f"{FOLDER}/??/*.npz"))
