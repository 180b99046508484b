"""Time series in the .ts format of the UEA and UCR archives, read by aeon."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.labels.written_names import number_names
from modgap.storage.damaged_files import one_line_errors
from modgap.targets.file_layout import data_files
from modgap.targets.samples import ArraySamples, Samples, Table, split_codes


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
    split_paths = data_files(files)
    parts = [_load(path) for _, path in split_paths]
    names = ", ".join(str(path) for _, path in split_paths)
    all_series = [np.asarray(series, np.float64) for x, _ in parts for series in x]
    samples = _as_samples(all_series, names)
    codes = split_codes((code, len(y)) for (code, _), (_, y) in zip(split_paths, parts, strict=True))
    # aeon returns the names of classes as text, and real values as numbers.
    if len({y.dtype.kind == "f" for _, y in parts}) > 1:
        raise InputError(f"expected classes or real values in all files, got both in {names}")
    values = np.concatenate([y for _, y in parts])
    if values.dtype.kind == "f":
        return Table(samples, splits=codes, targets=ArraySamples(values[:, None]))
    numbered = number_names(values)
    return Table(samples, numbered.numbers, numbered.names, codes)


def read_series(path: Path) -> Samples:
    """Read the series of one file, whose labels are ignored or missing.

    Raises:
        InputError: As `read` does.
    """
    return _as_samples([np.asarray(series, np.float64) for series in _load(path)[0]], str(path))


def _load(path: Path) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """Return the series (channels, length) of a file, and their labels."""
    try:
        from aeon.datasets import load_from_ts_file
    except ImportError as error:
        raise InputError("reading .ts files needs aeon. Install it with: pip install 'modgap[demo]'") from error
    with one_line_errors(f"cannot read {path} as a .ts file"):
        series, labels = load_from_ts_file(str(path))
    if not len(series):
        raise InputError(f"{path} has no series. Expected a .ts file with at least one.")
    return series, labels


def _as_samples(series: list[np.ndarray], names: str) -> Samples:
    """Return series as one array if they have one length."""
    if len({len(one) for one in series}) != 1 or any(one.ndim != 2 for one in series):
        raise InputError(f"The series in {names} have different numbers of channels. Expected the same in all.")
    same_length = len({one.shape for one in series}) == 1
    return ArraySamples(np.stack(series)) if same_length else tuple(series)
