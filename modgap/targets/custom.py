"""Custom data without a manifest: array files, CSV and Parquet files, and folders of images or sounds."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.formatting import count
from modgap.storage.mmap_arrays import map_npy, read_npy_header
from modgap.targets.custom_description import PICTURES, CustomData, ManifestAndFiles, check_options, describe_path
from modgap.targets.custom_tables import series_file_manifest, table_manifest
from modgap.targets.data_frames import SUFFIXES as FRAME_SUFFIXES
from modgap.targets.file_layout import has_suffix, list_files
from modgap.targets.readers.image_folder import SUFFIXES as IMAGE_SUFFIXES
from modgap.targets.readers.image_folder import check_background
from modgap.targets.samples import SPLITS
from modgap.targets.sound import SUFFIXES as SOUND_SUFFIXES

__all__ = ["custom_data_manifest", "is_custom_data"]

ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors", ".h5", ".hdf5")
SERIES_SUFFIXES = (".ts",)

log = logging.getLogger("modgap")


def is_custom_data(path: Path) -> bool:
    """Return True if a path is data rather than a manifest or the name of a manifest."""
    return has_suffix(path, ARRAY_SUFFIXES + FRAME_SUFFIXES + SERIES_SUFFIXES) or path.is_dir()


def custom_data_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    """Return a manifest that describes the data at a path, and the files by role.

    Args:
        path: Array file, CSV or Parquet file, or folder.
        custom_data: Description of what the data does not tell itself.

    Raises:
        UsageError: When the data can be read in several ways, or an option does not apply to it.
        InputError: When there is nothing to read.
    """
    if path.is_dir():
        return _folder_manifest(path, custom_data)
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the path, or list the targets with: modgap targets")
    if has_suffix(path, FRAME_SUFFIXES):
        return table_manifest(path, custom_data)
    if has_suffix(path, SERIES_SUFFIXES):
        return series_file_manifest(path, custom_data)
    return _arrays_manifest(path, custom_data)


def _folder_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    if (path / "x.npy").is_file():
        return _arrays_manifest(path, custom_data)
    check_options(path, custom_data, ("group", "background"))
    images = list_files(path, IMAGE_SUFFIXES)
    sounds = list_files(path, SOUND_SUFFIXES)
    if images and sounds:
        raise UsageError(
            f"{path} has {count(len(images), 'image')} and {count(len(sounds), 'sound')}. "
            "Put images and sounds into separate folders."
        )
    _check_class_folders(path, images or sounds, "sounds" if sounds else "images")
    options: dict[str, Any] = {} if custom_data.group is None else {"group_pattern": custom_data.group}
    group = None if custom_data.group is None else "group"
    if not sounds:
        background = custom_data.background or "white"
        check_background(background)
        options["background"] = background
        return describe_path(path, "image_folder", options, PICTURES, group=group)
    check_options(path, custom_data, ("group",))
    from modgap.targets.sound import common_rate

    rate = common_rate(sounds)
    return describe_path(path, "audio", {"rate": rate, **options}, {"kind": "audio", "rate": rate}, group=group)


def _check_class_folders(folder: Path, files: Sequence[Path], noun: str) -> None:
    """Raise if a class folder has no file that can be read, because its class would be left out."""
    parts = [file.relative_to(folder).parts for file in files]
    has_splits = all(len(part) > 2 and part[0] in SPLITS for part in parts)
    parents = [folder / split for split in SPLITS] if has_splits else [folder]
    classes = {part[1 if has_splits else 0] for part in parts if len(part) > 1}
    for class_folder in sorted(child for parent in parents if parent.is_dir() for child in parent.iterdir()):
        if class_folder.is_dir() and class_folder.name not in classes and class_folder.name[0] not in "._":
            raise InputError(
                f"The class folder {class_folder} has no {noun} in a format that can be read. Add {noun} of this "
                "class, or remove the folder."
            )


def _arrays_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    from modgap.targets.readers.arrays import check_array_names, map_arrays, read_array_headers

    if custom_data.kind not in (None, "image", "series"):
        raise UsageError(f"--kind {custom_data.kind} does not apply to {path}. Choose image or series.")
    if has_suffix(path, (".npy",)):
        return _npy_manifest(path, custom_data)
    check_options(path, custom_data, ("kind", "group", "x", "y"))
    headers = read_array_headers(path)
    x_name = custom_data.x_name or "x"
    y_name = custom_data.y_name or "y"
    check_array_names(headers, x_name, y_name, path, "Name the samples with --x NAME and the labels with --y NAME.")
    kind = custom_data.kind or _array_kind(path, x_name, headers[x_name][0])
    task = _array_task(y_name, *headers[y_name], lambda: map_arrays(path)[y_name])
    names = {"x": custom_data.x_name, "y": custom_data.y_name, "groups": custom_data.group}
    options = {"kind": kind} | {name: value for name, value in names.items() if value}
    group = custom_data.group or ("groups" if "groups" in headers else None)
    return describe_path(path, "arrays", options, {"kind": kind}, task=task, group=group)


def _array_task(name: str, shape: tuple[int, ...], dtype_kind: str, read: Callable[[], Any]) -> str:
    """Return the task that the labels suggest, and say so if a sample can have several labels.

    Args:
        name: Name of the labels.
        shape: Their shape.
        dtype_kind: Kind of their dtype.
        read: Returns the array of the labels.
    """
    if len(shape) > 2:
        return "regression"
    if len(shape) == 2 and shape[1] > 1 and dtype_kind in "biuf" and np.isin(read(), (0, 1)).all():
        text = (
            "%s of shape %s has only the values 0 and 1, so a sample can have several of %d labels (multi-label). If "
            "each sample has one class, save its number, as %s.argmax(axis=1). If these are real values, write a "
            'manifest with task = "regression".'
        )
        log.info(text, name, shape, shape[1], name)
        return "multi-label"
    return "regression" if dtype_kind == "f" else "classification"


def _npy_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    """Return the manifest and the files of samples in a `.npy` file, with the labels in another one beside it."""
    check_options(path, custom_data, ("kind", "group", "y"))
    y_name = custom_data.y_name or "y"
    group_name = custom_data.group or "groups"
    labels = path.with_name(f"{y_name}.npy")
    if labels == path or not labels.is_file():
        raise InputError(
            f"There are no labels for {path}. Expected them in {path.with_name('y.npy')}. Name another file of this "
            "folder with --y NAME, without its suffix .npy."
        )
    shape, _ = read_npy_header(path)
    label_shape, label_type = read_npy_header(labels)
    kind = custom_data.kind or _array_kind(path, path.stem, shape)
    siblings = {name: path.with_name(f"{name}.npy") for name in (y_name, group_name, "splits", "masks")}
    files = {"data": [path]} | {name: [file] for name, file in siblings.items() if file.is_file()}
    options = {"kind": kind, "x": path.stem, "y": y_name, "groups": group_name}
    manifest, _ = describe_path(
        path,
        "arrays",
        options,
        {"kind": kind},
        task=_array_task(y_name, label_shape, label_type.kind, lambda: map_npy(labels)),
        group=custom_data.group or (group_name if group_name in files else None),
    )
    return manifest, files


def _array_kind(path: Path, x_name: str, shape: tuple[int, ...]) -> str:
    """Return `image` or `series`, by the number of axes."""
    if len(shape) == 3:
        raise UsageError(
            f"{x_name} of shape {shape} in {path} can be images (N, H, W) or series (N, channels, length). "
            "Pass --kind image or --kind series."
        )
    return "image" if len(shape) > 3 else "series"
