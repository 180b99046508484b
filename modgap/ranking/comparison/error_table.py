"""Errors of systems on the samples of one target, as read from a result folder, a CSV file or arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.errors import InputError, first_line, visible_name
from modgap.labels.user_arrays import align_rows, number_groups, to_numpy
from modgap.statistics.intervals import SampleErrors, independent_errors
from modgap.statistics.sample_file import SampleFile
from modgap.targets.data_frames import list_names, read_frame

if TYPE_CHECKING:
    from pandas import DataFrame, Series

DISCREPANCY = "discrepancy"
DISTORTION = "distortion"
RANKING = "ranking"
TRAINING = "training run"
CSV = "table of errors"


@dataclass(frozen=True)
class ErrorTable:
    """Errors of one or several systems on the samples of one target.

    Attributes:
        origin: Path of the folder or file, or a description of the arrays, for messages.
        kind: Kind of results: one of the constants of this module.
        target: Name of the target; None if it is not known, as for a file of logits.
        samples: Identifiers, labels and groups of the samples, and their errors by column.
        metric: Name of the error, such as `held-out error`.
        bounded: True if errors lie in [0, 1].
        system: Name of the one system whose errors by different estimators are the columns; None if each column is a
            system.
        conditions: Further conditions under which errors are comparable, by the name of the condition.
        data: Checksums of the target's files, by role; None if they are not known.
        command: Command that computes the errors again, for messages.
    """

    origin: str
    kind: str
    target: str | None
    samples: SampleFile
    metric: str
    bounded: bool
    system: str | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] | None = None
    command: str = ""

    @property
    def columns(self) -> Mapping[str, SampleErrors]:
        """Errors by the name of the column."""
        return self.samples.errors

    def with_columns(self, columns: Mapping[str, SampleErrors], metric: str | None = None) -> "ErrorTable":
        """Return the table with these columns, each the errors of a system."""
        samples = replace(self.samples, errors=dict(columns))
        return replace(self, samples=samples, metric=metric or self.metric, system=None)


ID_NAMES = ("id", "sample", "sample_id", "sample id")
"""Names of the column of sample identifiers, in lower case; without one of them it is the first column."""
GROUP_NAME = "group"
LAYOUT = (
    "Expected one row for each sample: a column of sample identifiers, one column of errors for each system, and, if "
    "samples are not independent, a column named group."
)


def read_error_file(path: Path, target: str | None = None) -> ErrorTable:
    """Read a CSV, TSV or Parquet file of errors by sample.

    Args:
        path: The file.
        target: Name of the target; None for the name of the file.

    Raises:
        InputError: If the file cannot be read, or has another layout.
    """
    try:
        frame = read_frame(path)
    except (MemoryError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as a table of errors: {first_line(error)}. {LAYOUT}") from error
    return table_of_frame(frame, str(path), target or path.name.partition(".")[0] or path.name)


def table_of_frame(frame: "DataFrame", origin: str, target: str) -> ErrorTable:
    """Return a data frame with one row for each sample as a table of errors.

    Args:
        frame: Column of sample identifiers (named id, sample or sample_id, else an index with a name or of texts, else
            the first column), an optional column `group`, and one column of errors for each system.
        origin: Path of the file, or description of the frame, for messages.
        target: Name of the target.

    Raises:
        InputError: If columns are missing, an identifier occurs twice, or an error is not a finite number.
    """
    if frame.empty:
        raise InputError(f"{origin} is empty: it has the shape {frame.shape}. {LAYOUT}")
    frame = _with_index_column(frame)
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise InputError(f"{origin} has two columns of the same name. Give each system a name of its own.")
    frame = frame.set_axis(names, axis=1)
    id_name = next((name for name in names if name.strip().lower() in ID_NAMES), names[0])
    group_name = next((name for name in names if name.strip().lower() == GROUP_NAME and name != id_name), None)
    systems = [name for name in names if name not in (id_name, group_name)]
    if not systems:
        raise InputError(f"{origin} has no column of errors (columns: {list_names(names)}). {LAYOUT}")
    ids, groups = _identifiers(frame[id_name], origin), None
    if group_name is not None:
        column = frame[group_name]
        if column.isna().any():
            raise InputError(f"Row {_row(column.isna())} of {origin} has no group. Every sample needs one.")
        groups = np.unique(column.astype(str).to_numpy(np.str_), return_inverse=True)[1].ravel()
    errors = {name: _numbers(frame[name], name, origin) for name in systems}
    return _table(errors, ids, groups, origin, target)


def _with_index_column(frame: "DataFrame") -> "DataFrame":
    """Return a frame with its index as a column, if the index identifies the samples and no column is named so.

    An index without a name does if it is text and the first column is numeric, so that this is a system.
    """
    index = frame.index
    is_named = any(name is not None for name in index.names)
    is_identifier = is_named or (index.inferred_type == "string" and frame.dtypes.iloc[0].kind in "biuf")
    has_column = any(str(name).strip().lower() in ID_NAMES for name in frame.columns)
    if not is_identifier or has_column or any(name in frame.columns for name in index.names):
        return frame
    return frame.reset_index()


def _identifiers(column: "Series[Any]", origin: str) -> np.ndarray:
    if column.isna().any():
        raise InputError(f"Row {_row(column.isna())} of {origin} has no sample identifier. {LAYOUT}")
    ids = column.astype(str)
    if ids.duplicated().any():
        repeated = visible_name(str(ids[ids.duplicated()].iloc[0]))
        raise InputError(
            f"The sample identifier {repeated!r} occurs twice in the column {visible_name(str(column.name))!r} of "
            f"{origin}. Give every row an identifier of its own, and put what several rows have in common, such as the "
            "subject, into a column named group."
        )
    return np.asarray(ids.to_numpy(np.str_))


def _numbers(column: "Series[Any]", name: str, origin: str) -> np.ndarray:
    """Return the errors of a system, float64 (N,)."""
    shown = visible_name(name)
    if column.dtype.kind not in "biuf":
        raise InputError(f"The column {shown!r} of {origin} has values that are not numbers. {LAYOUT}")
    errors: np.ndarray = column.to_numpy(np.float64, na_value=np.nan)
    invalid = ~np.isfinite(errors)
    if invalid.any():
        raise InputError(
            f"Row {_row(invalid)} of {origin} has no finite error in the column {shown!r}. A paired comparison needs "
            "the error of every system on every sample. Remove the sample, or the system."
        )
    return errors


def _row(is_invalid: Any) -> int:
    """Return the number of the first invalid row, where the header is row 1."""
    return int(np.argmax(np.asarray(is_invalid))) + 2


def table_of_arrays(errors: Mapping[str, Any], groups: Any, origin: str, target: str) -> ErrorTable:
    """Return arrays of errors by system as a table.

    Args:
        errors: Errors of each system by its name, each of shape (N,); pandas series are aligned by their index.
        groups: Group of each sample, shape (N,), aligned likewise; None if samples are independent.
        origin: Description of the arrays, for messages.
        target: Name of the target.

    Raises:
        InputError: If the arrays have different lengths or cannot be aligned, or an error is not a finite number.
    """
    if not errors:
        raise InputError(f"{origin} is empty. Expected the errors (N,) of each system by its name.")
    argument_of = {f"the array {visible_name(str(name))!r}": str(name) for name in errors}
    if len(argument_of) < len(errors):
        raise InputError(f"{origin} has two systems of the same name. Give each system a name of its own.")
    rows = align_rows({**dict(zip(argument_of, errors.values(), strict=True)), "groups": groups})
    columns = {name: to_numpy(rows[argument], argument) for argument, name in argument_of.items()}
    first = next(iter(columns.values())).shape
    for name, array in columns.items():
        if array.ndim != 1 or array.shape != first or not len(array):
            raise InputError(
                f"The errors of {visible_name(name)} have shape {array.shape}. Expected one error for each sample, "
                f"shape (N,), with the same N for every system (the first has shape {first})."
            )
        if array.dtype.kind not in "biuf":
            raise InputError(f"The errors of {visible_name(name)} have type {array.dtype}. Expected real numbers.")
        if not np.isfinite(array).all():
            raise InputError(
                f"The errors of {visible_name(name)} are not all finite numbers (first in row "
                f"{int(np.argmin(np.isfinite(array)))}). Remove the sample from every system."
            )
    numbers = None if groups is None else number_groups(rows["groups"], first[0])
    values = {name: array.astype(np.float64) for name, array in columns.items()}
    return _table(values, np.arange(first[0]), numbers, origin, target)


def _table(
    errors: Mapping[str, np.ndarray], ids: np.ndarray, groups: np.ndarray | None, origin: str, target: str
) -> ErrorTable:
    units = np.arange(len(ids)) if groups is None else groups
    columns = {name: independent_errors(values, units) for name, values in errors.items()}
    bounded = all(((values >= 0) & (values <= 1)).all() for values in errors.values())
    samples = SampleFile(ids, np.zeros(len(ids), np.int64), groups, columns, 0, None)
    return ErrorTable(origin, CSV, target, samples, "error", bounded)
