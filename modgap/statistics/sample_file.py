"""The file samples.npz of a result folder: the held-out errors of each sample, which paired comparisons need."""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError, first_line
from modgap.statistics.intervals import SampleErrors
from modgap.storage.atomic_files import atomic_path
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS

SAMPLES_FILE = "samples.npz"
VERSION = 1
MOST_BYTES = 1 << 30
"""Largest total size of the arrays that are read."""
MOST_CLASSES = 1 << 24
NO_GROUP = -1


@dataclass(frozen=True)
class SampleFile:
    """Errors of each tested sample, by the name of the estimator, score or method.

    Attributes:
        ids: Identifier of each sample: its number in the target, or its text, shape (M,).
        labels: Number of each sample's class, shape (M,).
        groups: Number of each sample's group, shape (M,); None if samples are independent.
        errors: Errors by name, all with the same samples, weights and splits. Their units are the groups or the
            samples, some of which are merged if they share copies of a sample.
        n_classes: Number K of target classes that maps are over.
        per_class: Number of samples of each class that maps are fitted on; None for halves.
    """

    ids: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    groups: np.ndarray | None = field(repr=False)
    errors: dict[str, SampleErrors]
    n_classes: int
    per_class: int | None


def numbered_sample_file(number: int, n_files: int) -> str:
    """Return the name of one of the files of errors in a folder.

    Args:
        number: Number of the file, from 0.
        n_files: Number of files. A single one has the usual name.

    Example:
        >>> numbered_sample_file(0, 1), numbered_sample_file(0, 2)
        ('samples.npz', 'samples-1.npz')
    """
    return SAMPLES_FILE if n_files == 1 else f"samples-{number + 1}.npz"


def write_sample_file(path: Path, samples: SampleFile) -> None:
    """Write a file of errors, complete or not at all.

    Args:
        path: Path of the file.
        samples: Samples with at least one column of errors.

    Raises:
        OSError: When the file cannot be written.
    """
    first = next(iter(samples.errors.values()))
    missing_group = np.full(len(samples.ids), NO_GROUP)
    arrays: dict[str, Any] = {
        "version": np.array(VERSION),
        "id": samples.ids,
        "label": samples.labels,
        "group": missing_group if samples.groups is None else samples.groups,
        "weight": first.weights,
        "name": np.array(list(samples.errors), np.str_),
        "error": np.stack([one.errors for one in samples.errors.values()]),
        "split_average": np.stack([one.averages for one in samples.errors.values()]),
        "split_seed": np.array(first.split_seed),
        "n_classes": np.array(samples.n_classes),
        "per_class": np.array(samples.per_class or 0),
        "mean_over_classes": np.array(first.strata is not None),
    }
    blocks = [one.without for one in samples.errors.values()]
    if sizes := [len(one) for one in blocks if one is not None]:
        # Errors that have no blocks, such as those of the search, have NaN.
        arrays["block_average"] = np.stack([np.full(sizes[0], np.nan) if one is None else one for one in blocks])
    n_groups = len(samples.ids) if samples.groups is None else len(np.unique(samples.groups))
    if len(np.unique(first.units)) < n_groups:
        arrays["unit"] = first.units
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def read_sample_file(path: Path) -> SampleFile:
    """Read a file of errors. Nothing in it is unpickled.

    Args:
        path: Path of the file.

    Raises:
        InputError: If the file is missing, damaged, too large, or of another version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                raise InputError(f"{path} has more than {MOST_BYTES:,} bytes of arrays.")
            if archive.testzip() is not None:
                raise InputError(f"{path} is damaged. Run the command that wrote it again.")
        with np.load(path, allow_pickle=False) as arrays:
            return _parse({name: arrays[name] for name in arrays.files})
    except FileNotFoundError as error:
        raise InputError(
            f"There is no {path.name} in {path.parent}, so its samples cannot be compared. Run the command again."
        ) from error
    except DAMAGED_FILE_ERRORS as error:
        raise InputError(f"{path} is damaged ({first_line(error)}). Run the command that wrote it again.") from error


def _parse(arrays: dict[str, np.ndarray]) -> SampleFile:
    if int(arrays["version"]) != VERSION:
        raise ValueError(f"version {int(arrays['version'])}, expected {VERSION}")
    ids = arrays["id"]
    errors = arrays["error"].astype(np.float64)
    averages = arrays["split_average"].astype(np.float64)
    names = [str(name) for name in arrays["name"]]
    labels = arrays["label"].astype(np.int64)
    weights = arrays["weight"].astype(np.float64)
    groups = None if (arrays["group"] == NO_GROUP).all() else arrays["group"].astype(np.int64)
    if errors.shape != (len(names), len(ids)) or averages.ndim != 2 or len(averages) != len(names) or not names:
        raise ValueError("its arrays have shapes that do not fit")
    if not len(labels) == len(weights) == len(arrays["group"]) == len(ids):
        raise ValueError("its arrays have lengths that do not fit")
    _check_values(names, errors, weights, labels)
    if not np.isfinite(averages).all():
        raise ValueError("the mean of a split is not finite")
    blocks = arrays.get("block_average", np.full((len(names), 1), np.nan)).astype(np.float64)
    if blocks.ndim != 2 or len(blocks) != len(names):
        raise ValueError("its arrays have shapes that do not fit")
    has_blocks = [bool(np.isfinite(row).all()) for row in blocks]
    if not all(one or np.isnan(row).all() for one, row in zip(has_blocks, blocks, strict=True)):
        raise ValueError("the means without each block of groups are incomplete")
    units = arrays.get("unit", np.arange(len(ids)) if groups is None else groups)
    if units.shape != (len(ids),):
        raise ValueError("its arrays have lengths that do not fit")
    units = np.unique(units.astype(np.int64), return_inverse=True)[1]
    strata = labels if bool(arrays["mean_over_classes"]) else None
    seed = int(arrays["split_seed"])
    columns = {
        name: SampleErrors(
            errors[i], weights, units, averages[i], strata, seed, without=blocks[i] if has_blocks[i] else None
        )
        for i, name in enumerate(names)
    }
    return SampleFile(ids, labels, groups, columns, int(arrays["n_classes"]), int(arrays["per_class"]) or None)


def _check_values(names: list[str], errors: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> None:
    """Raise if no mean can be computed, or if values are impossible."""
    if len(set(names)) < len(names):
        raise ValueError("two columns of errors have the same name")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("a weight is negative or not finite, or all are 0")
    if np.isinf(errors).any() or not ((labels >= 0) & (labels < MOST_CLASSES)).all():
        raise ValueError("an error is infinite, or a label is out of range")
    if not (np.isfinite(errors) & (weights > 0)).any(axis=1).all():
        raise ValueError("a column has no errors")
