"""IDX files (the format of MNIST and similar data sets): unsigned bytes after a header of sizes."""

import gzip
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.targets.file_layout import files_by_split
from modgap.targets.samples import SPLITS, ArraySamples, Table

__all__ = ["read"]

UNSIGNED_BYTE = 8


def read(files: Mapping[str, Sequence[Path]]) -> Table:
    """Read images and labels of all files of each split.

    Args:
        files: Paths under the roles `train`, `train-labels`, `test`, `test-labels` (and `val`, `val-labels`). The
            label files of a split are in the order of its image files.

    Raises:
        InputError: When a file is broken, or images and labels differ in number.
    """
    images = [(code, _read_array(path, 3)) for code, path in files_by_split(files)]
    labels = [(code, _read_array(path, 1)) for code, path in files_by_split(files, "-labels")]
    image_counts = [(SPLITS[code], len(part)) for code, part in images]
    label_counts = [(SPLITS[code], len(part)) for code, part in labels]
    if image_counts != label_counts:
        raise InputError(f"expected one label for each image, got labels {label_counts} for images {image_counts}")
    if len({part.shape[1:] for _, part in images}) > 1:
        raise InputError(f"expected images of one size, got {sorted({part.shape[1:] for _, part in images})}")
    pixels = np.concatenate([part for _, part in images])[:, None]
    codes = np.repeat([code for code, _ in images], [len(part) for _, part in images])
    return Table(ArraySamples(pixels), np.concatenate([part for _, part in labels]).astype(np.int64), None, codes)


def _read_array(path: Path, dimensions: int) -> np.ndarray:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    start = 4 * (1 + dimensions)
    if content[:4] != bytes([0, 0, UNSIGNED_BYTE, dimensions]):
        raise InputError(f"expected an IDX file of bytes in {dimensions} dimensions, got {path}")
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    if len(content) != start + math.prod(shape):
        raise InputError(f"expected {math.prod(shape)} bytes of data in {path}, got {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
