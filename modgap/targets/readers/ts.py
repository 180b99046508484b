"""Time series in the .ts format of the UEA and UCR archives, read by aeon."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.targets.file_layout import files_by_split
from modgap.targets.samples import ArraySamples, Table

__all__ = ["read"]


def read(files: Mapping[str, Sequence[Path]]) -> Table:
    """Read series of equal length from all files of each split.

    Args:
        files: Paths under the roles `train` and `test` (and `val`).

    Raises:
        InputError: When aeon is missing, a file is broken, or the series differ in length.
    """
    try:
        from aeon.datasets import load_from_ts_file
    except ImportError as error:
        raise InputError("reading .ts files needs aeon. Install it with: pip install 'modgap[demo]'") from error
    split_paths = list(files_by_split(files))
    parts = []
    for _, path in split_paths:
        try:
            parts.append(load_from_ts_file(str(path)))
        except (OSError, ValueError, IndexError) as error:
            raise InputError(f"cannot read {path} as a .ts file: {error}") from error
    if any(not isinstance(x, np.ndarray) for x, _ in parts) or len({x.shape[1:] for x, _ in parts}) > 1:
        raise InputError(f"expected series of equal length in {', '.join(str(path) for _, path in split_paths)}")
    classes, labels = np.unique(np.concatenate([y for _, y in parts]), return_inverse=True)
    codes = np.repeat([code for code, _ in split_paths], [len(y) for _, y in parts])
    series = np.concatenate([x for x, _ in parts]).astype(np.float32)
    return Table(ArraySamples(series), labels.astype(np.int64), [str(name) for name in classes], codes)
