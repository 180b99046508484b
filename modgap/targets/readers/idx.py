"""IDX files (the format of MNIST and similar data sets): unsigned bytes after a header of sizes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.damaged_files import one_line_errors, open_content
from modgap.storage.limits import check_memory, check_unpacked_size
from modgap.targets.file_layout import files_by_split
from modgap.targets.samples import SPLITS, ArraySamples, Table, split_codes

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
    codes = split_codes((code, len(part)) for code, part in images)
    return Table(ArraySamples(pixels), np.concatenate([part for _, part in labels]).astype(np.int64), None, codes)


def _read_array(path: Path, dimensions: int) -> np.ndarray:
    with one_line_errors(f"cannot read {path}"), open_content(path) as stream:
        start = 4 * (1 + dimensions)
        header = stream.read(start)
        if len(header) < start or header[:4] != bytes([0, 0, UNSIGNED_BYTE, dimensions]):
            raise InputError(f"expected an IDX file of bytes in {dimensions} dimensions, got {path}")
        shape = tuple(int(size) for size in np.frombuffer(header[4:], ">u4"))
        size = math.prod(shape)
        if path.suffix == ".gz":
            check_unpacked_size(path, path.stat().st_size, size)
        elif size != path.stat().st_size - start:
            raise InputError(f"expected {size} bytes of data in {path}, got {path.stat().st_size - start}")
        check_memory(path, size)
        content = stream.read(size)
        if len(content) != size or stream.read(1):
            amount = "more" if len(content) == size else len(content)
            raise InputError(f"expected {size} bytes of data in {path}, got {amount}")
        return np.frombuffer(content, np.uint8).reshape(shape)
