"""IDX files (the format of MNIST and its kin): unsigned bytes behind a header of sizes."""

import gzip
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import SPLITS, ArraySamples, Table

__all__ = ["read"]

UNSIGNED_BYTE = 8


def read(files: Mapping[str, Sequence[Path]]) -> Table:
    """Read images and labels of the splits for which there are files.

    Args:
        files: Paths under the roles `train`, `train-labels`, `test`, `test-labels`.
    """
    named = [split for split in SPLITS if split in files]
    images = [_read_array(files[split][0], 3) for split in named]
    labels = [_read_array(files[f"{split}-labels"][0], 1) for split in named]
    sizes = [len(part) for part in labels]
    if sizes != [len(part) for part in images]:
        raise InputError(f"expected one label an image, got {sizes} labels for {[len(i) for i in images]} images")
    codes = np.repeat([SPLITS.index(split) for split in named], sizes)
    return Table(ArraySamples(np.concatenate(images)[:, None]), np.concatenate(labels).astype(np.int64), None, codes)


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
