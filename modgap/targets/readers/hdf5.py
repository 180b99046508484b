"""HDF5 files of simulated fields, in both of PDEBench's layouts; one sample is read at a time, when asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from modgap.errors import InputError
from modgap.targets.file_layout import single_file
from modgap.targets.hdf5_arrays import open_hdf5, reraise_hdf5_errors
from modgap.targets.samples import SPLITS, Table

if TYPE_CHECKING:
    import h5py

__all__ = ["Fields", "read"]

AXES = frozenset("tcxyz")
HANDLES = 32
"""Open files that are kept, one for each file, process and thread."""


@dataclass(frozen=True)
class Fields:
    """Which values of a simulation are x, or y.

    Attributes:
        names: Datasets that become channels, one after the other.
        axes: Axes of one simulation in a dataset, a letter each: t time, c channel, x, y, z space.
        frame: Step in time, counted after `time` has thinned them; negative from the end.
        channels: Which of the dataset's channels; None for all.
        time: Every how many steps in time are kept.
        space: Every how many points in space are kept, along each axis.
    """

    names: tuple[str, ...]
    axes: str
    frame: int = 0
    channels: tuple[int, ...] | None = None
    time: int = 1
    space: int = 1

    def step(self, length: int) -> int:
        """Index in time, among all steps of the file."""
        return range(0, length, self.time)[self.frame]

    def values(self, dataset: "h5py.Dataset", sample: tuple[int, ...]) -> np.ndarray:
        """One simulation's values from a dataset, channels first, float32; only the one step is read.

        Args:
            dataset: With the axes of `axes`, after one for the simulations where `sample` has a number.
            sample: The simulation's number, or nothing where the dataset holds one simulation.
        """
        lengths = dict(zip(self.axes, dataset.shape[len(sample) :], strict=True))
        wanted = tuple(self.step(lengths[axis]) if axis == "t" else slice(None) for axis in self.axes)
        array = dataset[sample + wanted]
        left = self.axes.replace("t", "")
        array = array[tuple(slice(None) if axis == "c" else slice(None, None, self.space) for axis in left)]
        array = np.moveaxis(array, left.index("c"), 0) if "c" in left else array[None]
        array = array if self.channels is None else array[list(self.channels)]
        return np.ascontiguousarray(array, np.float32)


@dataclass(frozen=True)
class _Simulations:
    """Samples of an HDF5 file. Holds no handle, so that it can go to another process."""

    path: Path
    fields: Fields
    count: int
    groups: tuple[str, ...] | None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        number = range(self.count)[index]
        with reraise_hdf5_errors(self.path):
            file = open_hdf5(self.path)
            place, sample = (file, (number,)) if self.groups is None else (file[self.groups[number]], ())
            return np.concatenate([self.fields.values(place[name], sample) for name in self.fields.names])


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    x: dict[str, Any],
    y: dict[str, Any],
    time: int = 1,
    space: int = 1,
    per_group: bool = False,
    test: Literal["first", "last"] = "first",
    test_share: float = 0.1,
) -> Table:
    """Simulations as pairs of fields: what it starts from, and what is to be predicted.

    Args:
        files: One path under the role `data`.
        x: `names` and `axes` of the datasets, and `frame` and `channels` where they apply (see Fields).
        y: The same of what is predicted.
        time: Every how many steps in time are kept.
        space: Every how many points in space are kept.
        per_group: Each simulation is a group of the file, in order of their names, and the datasets lie
            in it; otherwise simulations are the datasets' first axis.
        test: Which end of the simulations is the test split.
        test_share: Its share, rounded down where it is the first and up where it is the last.

    Returns:
        Samples (C, X[, Y]) and targets (C, X[, Y]), float32.

    Raises:
        InputError: When the file is broken, or its datasets are not what x and y say.
    """
    path = single_file(files, "data")
    source, target = (_fields(part, name, time, space) for part, name in ((x, "x"), (y, "y")))
    with reraise_hdf5_errors(path):
        file = open_hdf5(path)
        groups = tuple(sorted(file)) if per_group else None
        count = len(groups) if groups is not None else _count(file, (*source.names, *target.names))
    _check(path, file, groups, (source, target))
    samples, targets = (_Simulations(path, part, count, groups) for part in (source, target))
    return Table(samples, splits=_splits(count, test, test_share), targets=targets)


def _fields(part: dict[str, Any], name: str, time: int, space: int) -> Fields:
    known = {"names", "axes", "frame", "channels"}
    axes = part.get("axes", "")
    if not {"names", "axes"} <= set(part) <= known or not part["names"] or sorted(axes) != sorted(set(axes) & AXES):
        raise InputError(
            f"expected names and axes (letters of t, c, x, y, z) and perhaps frame and channels in {name}, got {part}"
        )
    if min(time, space) < 1:
        raise InputError(f"expected time and space of at least 1, got {time} and {space}")
    channels = tuple(part["channels"]) if "channels" in part else None
    return Fields(tuple(part["names"]), axes, part.get("frame", 0), channels, time, space)


def _splits(count: int, test: str, share: float) -> np.ndarray:
    """The first or last simulations are the test split; ORCA's rounding, so that the splits are its own."""
    codes = np.full(count, SPLITS.index("train"))
    held = slice(int(count * share)) if test == "first" else slice(int(count * (1 - share)), None)
    codes[held] = SPLITS.index("test")
    return codes


def _count(file: "h5py.File", names: Sequence[str]) -> int:
    sizes = {name: len(_dataset(file, name)) for name in names}
    if len(set(sizes.values())) > 1:
        raise InputError(f"expected as many simulations in each dataset of {file.filename}, got {sizes}")
    return next(iter(sizes.values()))


def _dataset(place: "h5py.Group", name: str) -> "h5py.Dataset":
    if not hasattr(place, "keys") or name not in place or not hasattr(place[name], "shape"):
        held = ", ".join(sorted(place)[:5] if hasattr(place, "keys") else ["a dataset"]) or "nothing"
        raise InputError(f"expected a dataset {name} in {place.file.filename} at {place.name}, got: {held}")
    return place[name]


def _check(path: Path, file: "h5py.File", groups: Sequence[str] | None, parts: Sequence[Fields]) -> None:
    """Refuse datasets of another rank, or without the frame or channels; the first simulation speaks for all."""
    if groups is not None and not groups:
        raise InputError(f"expected a group for each simulation in {path}, got none")
    place = file if groups is None else file[groups[0]]
    for fields in parts:
        for name in fields.names:
            with reraise_hdf5_errors(path):
                shape = _dataset(place, name).shape[0 if groups is not None else 1 :]
            if len(shape) != len(fields.axes):
                raise InputError(
                    f"expected simulations with the axes {', '.join(fields.axes)} in dataset {name} of {path}, "
                    f"got the shape {shape}"
                )
            lengths = dict(zip(fields.axes, shape, strict=True))
            steps = len(range(0, lengths.get("t", 1), fields.time))
            channels = fields.channels or (0,)
            if not -steps <= fields.frame < steps or max(channels) >= lengths.get("c", 1) or min(channels) < 0:
                raise InputError(
                    f"expected frame {fields.frame} of channels {channels} in dataset {name} of {path}, "
                    f"got {steps} frames of {lengths.get('c', 1)} channels"
                )
