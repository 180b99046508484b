"""Time series in the .ts format of the UEA and UCR archives, read by aeon."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.targets.file_layout import files_by_split
from modgap.targets.samples import ArraySamples, SeriesList, Table
from modgap.written_names import number_names

__all__ = ["has_real_values", "read"]


def has_real_values(path: Path) -> bool:
    """Return True if the header of a file announces real values in place of classes."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        header = itertools.takewhile(lambda line: not line.lower().startswith("@data"), stream)
        return any(line.lower().split()[:2] == ["@targetlabel", "true"] for line in header)


def read(files: Mapping[str, Sequence[Path]]) -> Table:
    """Read the series from all files of each split. Their lengths may differ.

    Args:
        files: Paths under the roles `train` and `test` (and `val`), or one under `data` without splits.

    Returns:
        Samples (channels, length), with labels, or with targets (1,) where the header says @targetlabel.

    Raises:
        InputError: When aeon is missing, a file is broken, the series differ in their number of channels, or some files
            have classes and others real values.
    """
    try:
        from aeon.datasets import load_from_ts_file
    except ImportError as error:
        raise InputError("reading .ts files needs aeon. Install it with: pip install 'modgap[demo]'") from error
    split_paths = [(None, path) for path in files["data"]] if "data" in files else list(files_by_split(files))
    parts = []
    for _, path in split_paths:
        try:
            parts.append(load_from_ts_file(str(path)))
        except (OSError, ValueError, IndexError) as error:
            raise InputError(f"cannot read {path} as a .ts file: {error}") from error
    names = ", ".join(str(path) for _, path in split_paths)
    all_series = [np.asarray(series, np.float64) for x, _ in parts for series in x]
    if len({len(series) for series in all_series}) != 1 or any(series.ndim != 2 for series in all_series):
        raise InputError(f"The series in {names} have different numbers of channels. Expected the same in all.")
    codes = None
    if "data" not in files:
        codes = np.repeat([code for code, _ in split_paths], [len(y) for _, y in parts])
    same_length = len({series.shape for series in all_series}) == 1
    samples = ArraySamples(np.stack(all_series)) if same_length else SeriesList(tuple(all_series))
    # aeon returns the names of classes as text, and real values as numbers.
    if len({y.dtype.kind == "f" for _, y in parts}) > 1:
        raise InputError(f"expected classes or real values in all files, got both in {names}")
    values = np.concatenate([y for _, y in parts])
    if values.dtype.kind == "f":
        return Table(samples, splits=codes, targets=ArraySamples(values[:, None]))
    numbered = number_names(values)
    return Table(samples, numbered.numbers, numbered.names, codes)
