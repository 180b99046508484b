"""Comma-separated numbers, with one sample in each row and the label in the last column."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS
from modgap.targets.file_layout import single_file
from modgap.targets.samples import ArraySamples, Table

__all__ = ["read"]


def read(files: Mapping[str, Sequence[Path]], *, shape: Sequence[int]) -> Table:
    """Read one file (plain or gzip) of rows with prod(shape) values and a label.

    Args:
        files: One path under the role `data`.
        shape: Shape of a sample, channels first.
    """
    path = single_file(files, "data")
    try:
        rows = np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
    except DAMAGED_FILE_ERRORS as error:
        raise InputError(f"cannot read {path} as comma-separated numbers: {error}") from error
    n_values = int(np.prod(shape))
    if rows.shape[1] != n_values + 1:
        raise InputError(f"expected {n_values} values and a label in each row of {path}, got {rows.shape[1]}")
    return Table(ArraySamples(rows[:, :-1].reshape(-1, *shape)), rows[:, -1].astype(np.int64))
