"""HDF5 files of simulated fields, in both of PDEBench's layouts. One sample is read at a time, on access."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from modgap.errors import InputError
from modgap.storage.hdf5_arrays import check_packed_size, open_hdf5, reraise_hdf5_errors, stored_dataset
from modgap.targets.file_layout import single_file
from modgap.targets.samples import SPLITS, StoredSamples, Table

if TYPE_CHECKING:
    import h5py

AXES = frozenset("tcxyz")


@dataclass(frozen=True)
class Fields:
    """Values of a simulation that form x or y.

    Attributes:
        names: Datasets whose channels are concatenated.
        axes: Axes of one simulation in a dataset, one letter each: t is time, c channel, x, y and z are space.
        frame: Index of the time step, counted after `time_stride` is applied. Negative counts from the end.
        channels: Indices of the dataset's channels to take. None takes all.
        time_stride: Stride along the time axis.
        space_stride: Stride along each space axis.
    """

    names: tuple[str, ...]
    axes: str
    frame: int = 0
    channels: tuple[int, ...] | None = None
    time_stride: int = 1
    space_stride: int = 1

    def values(self, dataset: "h5py.Dataset", sample: tuple[int, ...]) -> np.ndarray:
        """Return one simulation's values from a dataset, channels first, float32. Only the one time step is read.

        Args:
            dataset: Dataset with the axes of `axes`, after one for the simulations if `sample` has a number.
            sample: Number of the simulation, or () if the dataset holds one simulation.
        """
        lengths = dict(zip(self.axes, dataset.shape[len(sample) :], strict=True))
        steps = range(0, lengths.get("t", 0), self.time_stride)
        index = tuple(steps[self.frame] if axis == "t" else slice(None) for axis in self.axes)
        read = math.prod(length for axis, length in lengths.items() if axis != "t")
        check_packed_size(dataset, read * dataset.dtype.itemsize)
        array = dataset[sample + index]
        axes = self.axes.replace("t", "")
        array = array[tuple(slice(None) if axis == "c" else slice(None, None, self.space_stride) for axis in axes)]
        array = np.moveaxis(array, axes.index("c"), 0) if "c" in axes else array[None]
        if self.channels is not None:
            array = array[list(self.channels)]
        return np.ascontiguousarray(array, np.float32)


def _read_simulation(number: int, path: Path, fields: Fields, groups: Sequence[str] | None) -> np.ndarray:
    """Return the values of one simulation. No handle is kept, so that samples can be sent to another process."""
    with reraise_hdf5_errors(path):
        parent = open_hdf5(path)
        sample: tuple[int, ...] = (number,)
        if groups is not None:
            parent = parent[groups[number]]
            sample = ()
        datasets = [stored_dataset(path, parent[name]) for name in fields.names]
        return np.concatenate([fields.values(dataset, sample) for dataset in datasets])


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    x: dict[str, Any],
    y: dict[str, Any],
    time_stride: int = 1,
    space_stride: int = 1,
    group_per_simulation: bool = False,
    test_position: Literal["first", "last"] = "first",
    test_fraction: float = 0.1,
) -> Table:
    """Read simulations as pairs of fields: the input x and the prediction target y.

    Args:
        files: One path under the role `data`.
        x: `names` and `axes` of the datasets, and `frame` and `channels` where they apply (see Fields).
        y: The same for the target.
        time_stride: Stride along the time axis.
        space_stride: Stride along each space axis.
        group_per_simulation: True if each simulation is a group of the file that contains the datasets; simulations
            are then in the order of the groups' names. False if simulations are the datasets' first axis.
        test_position: `first` or `last` simulations as the test split.
        test_fraction: Fraction of test simulations, rounded down for `first` and up for `last`.

    Returns:
        Samples (C, X[, Y]) and targets (C, X[, Y]), float32.

    Raises:
        InputError: When the file is broken, or its datasets are not as x and y describe them.
    """
    path = single_file(files, "data")
    x_fields = _parse_fields(x, "x", time_stride, space_stride)
    y_fields = _parse_fields(y, "y", time_stride, space_stride)
    with reraise_hdf5_errors(path):
        file = open_hdf5(path)
        groups = tuple(sorted(file)) if group_per_simulation else None
        names = [] if group_per_simulation else [*x_fields.names, *y_fields.names]
        sizes = {name: len(_dataset(file, name)) for name in names}
        if len(set(sizes.values())) > 1:
            raise InputError(f"expected as many simulations in each dataset of {file.filename}, got {sizes}")
        count = len(groups) if groups is not None else next(iter(sizes.values()))
    _check_datasets(path, file, groups, (x_fields, y_fields))
    # The number of test samples is rounded as ORCA does, to get the same splits.
    first, last = slice(int(count * test_fraction)), slice(int(count * (1 - test_fraction)), None)
    splits = np.full(count, SPLITS.index("train"))
    splits[first if test_position == "first" else last] = SPLITS.index("test")
    samples, targets = (
        StoredSamples(range(count), partial(_read_simulation, path=path, fields=fields, groups=groups))
        for fields in (x_fields, y_fields)
    )
    return Table(samples, splits=splits, targets=targets)


def _parse_fields(options: dict[str, Any], name: str, time_stride: int, space_stride: int) -> Fields:
    allowed = {"names", "axes", "frame", "channels"}
    axes = options.get("axes", "")
    is_complete = {"names", "axes"} <= set(options) <= allowed and options["names"]
    if not is_complete or sorted(axes) != sorted(set(axes) & AXES):
        raise InputError(
            f"expected names and axes (letters of t, c, x, y, z), optionally frame and channels, in {name}, "
            f"got {options}"
        )
    if min(time_stride, space_stride) < 1:
        raise InputError(f"expected time_stride and space_stride of at least 1, got {time_stride} and {space_stride}")
    channels = tuple(options["channels"]) if "channels" in options else None
    return Fields(tuple(options["names"]), axes, options.get("frame", 0), channels, time_stride, space_stride)


def _dataset(group: "h5py.Group", name: str) -> "h5py.Dataset":
    if not hasattr(group, "keys") or name not in group or not hasattr(group[name], "shape"):
        content = ", ".join(sorted(group)[:5] if hasattr(group, "keys") else ["a dataset"]) or "nothing"
        raise InputError(f"expected a dataset {name} in {group.file.filename} at {group.name}, got: {content}")
    return group[name]


def _check_datasets(path: Path, file: "h5py.File", groups: Sequence[str] | None, all_fields: Sequence[Fields]) -> None:
    """Raise an InputError if the datasets of the first simulation do not fit; the others are assumed to be alike."""
    if groups is not None and not groups:
        raise InputError(f"expected a group for each simulation in {path}, got none")
    parent = file if groups is None else file[groups[0]]
    for fields in all_fields:
        for name in fields.names:
            with reraise_hdf5_errors(path):
                shape = _dataset(parent, name).shape[0 if groups is not None else 1 :]
            if len(shape) != len(fields.axes):
                raise InputError(
                    f"expected simulations with the axes {', '.join(fields.axes)} in dataset {name} of {path}, "
                    f"got the shape {shape}"
                )
            lengths = dict(zip(fields.axes, shape, strict=True))
            n_steps = len(range(0, lengths.get("t", 1), fields.time_stride))
            n_channels = lengths.get("c", 1)
            channels = fields.channels or (0,)
            if not -n_steps <= fields.frame < n_steps or max(channels) >= n_channels or min(channels) < 0:
                raise InputError(
                    f"expected frame {fields.frame} of channels {channels} in dataset {name} of {path}, "
                    f"got {n_steps} frames of {n_channels} channels"
                )
