"""Custom data without a manifest: array files, CSV and Parquet files, and folders of images or sounds."""

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modgap.errors import InputError, UsageError, unknown_name
from modgap.formatting import count
from modgap.storage.mmap_arrays import read_npy_header
from modgap.targets.data_frames import SUFFIXES as FRAME_SUFFIXES
from modgap.targets.data_frames import read_frame
from modgap.targets.file_layout import has_suffix, list_files
from modgap.targets.manifest import Manifest
from modgap.targets.readers.image_folder import SUFFIXES as IMAGE_SUFFIXES
from modgap.targets.readers.image_folder import check_background
from modgap.targets.readers.listed_files import listed_paths
from modgap.targets.samples import SPLITS
from modgap.targets.sound import SUFFIXES as SOUND_SUFFIXES

__all__ = ["CustomData", "custom_data_manifest", "is_custom_data"]

log = logging.getLogger("modgap")

ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors", ".h5", ".hdf5")
SERIES_SUFFIXES = (".ts",)
LETTERS_AND_DIGITS = ("Ll", "Lm", "Lo", "Nd")
"""Unicode categories that the name of a target starts with. Combining marks may follow."""
FIELD_OF_OPTION = {
    "kind": "kind",
    "label": "label_column",
    "series": "series_column",
    "time": "time_column",
    "group": "group",
    "x": "x_name",
    "y": "y_name",
    "background": "background",
    "columns": "columns",
    "fill": "fill",
}
"""Field of CustomData that each command-line option sets, without the option's dashes."""

ManifestAndFiles = tuple[Manifest, dict[str, list[Path]]]


@dataclass(frozen=True)
class CustomData:
    """Description of custom data where the file itself does not tell.

    Attributes:
        kind: `image` or `series` for array files that could hold either; `table`, `series` or `text` for CSV and
            Parquet files, or `image` or `sound` for those that list files. None infers it.
        label_column: CSV column of the label. None looks for a column named label, class, target or y.
        series_column: CSV column with the name of the series that a row belongs to (long format). None if every
            row is a sample.
        time_column: CSV column by which the rows of a series are ordered. None keeps the order of the file.
        group: CSV column, or name of the array, of the groups of samples that belong together; for a folder, a pattern
            of the path or a table (see `modgap.targets.path_groups`). None uses the array `groups` if there is one.
        x_name: Name of the array of samples. None means `x`.
        y_name: Name of the array of labels. None means `y`.
        background: Color that transparent images are composited on. None means white.
        columns: Names of the columns that are features, separated by commas, for a table. None uses all numeric ones.
        fill: `mean` or `median` of the training samples in place of missing cells, or `drop` to leave out rows with
            missing cells. None refuses missing cells.
    """

    kind: str | None = None
    label_column: str | None = None
    series_column: str | None = None
    time_column: str | None = None
    group: str | None = None
    x_name: str | None = None
    y_name: str | None = None
    background: str | None = None
    columns: str | None = None
    fill: str | None = None

    @classmethod
    def of(cls, description: "CustomData | Mapping[str, str] | None") -> "CustomData | None":
        """Return a description that is given as such, as a mapping of its fields, or not at all.

        Raises:
            UsageError: If the mapping has another field. The message suggests similar names.
        """
        if not isinstance(description, Mapping):
            return description
        for name in description:
            if name not in cls.__dataclass_fields__:
                raise unknown_name("field of custom_data", name, cls.__dataclass_fields__)
        return cls(**description)

    @classmethod
    def from_options(cls, options: Mapping[str, str | None]) -> "CustomData":
        """Return the description that command-line options give.

        Args:
            options: Values by option, without the option's dashes (kind, label, series, time, group, x, y, background,
                columns, fill). Other options are ignored.
        """
        return cls(**{field: options.get(option) for option, field in FIELD_OF_OPTION.items()})

    def options(self) -> dict[str, str]:
        """Return the fields that are not None, by the command-line option that sets each, without its dashes."""
        values = {option: getattr(self, field) for option, field in FIELD_OF_OPTION.items()}
        return {option: value for option, value in values.items() if value is not None}


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
        return _list_manifest(path, custom_data) or _csv_manifest(path, custom_data)
    if has_suffix(path, SERIES_SUFFIXES):
        return _ts_manifest(path, custom_data)
    return _arrays_manifest(path, custom_data)


def _check_options(path: Path, custom_data: CustomData, allowed: tuple[str, ...]) -> None:
    for option in custom_data.options():
        if option not in allowed:
            raise UsageError(f"--{option} does not apply to target {path}")


def _manifest(
    path: Path, reader: str, options: Mapping[str, Any], input_spec: Mapping[str, Any], **fields: Any
) -> ManifestAndFiles:
    """Return a manifest of a reader for one path, and the path under the role `data`."""
    record = {
        "schema": 1,
        "name": _target_name(path),
        # File names that are not valid Unicode contain surrogates, which no record can store.
        "title": path.name.encode("utf-8", "replace").decode(),
        "modality": "custom data",
        "task": "classification",
        "input": dict(input_spec),
        "reader": {"name": reader, "options": dict(options)},
        **fields,
    }
    return Manifest.model_validate(record), {"data": [path]}


def _target_name(path: Path) -> str:
    """Return the name of a file or folder without suffix, in lower case, with hyphens for other characters."""
    stem = path.with_suffix("").stem if path.suffix.lower() == ".gz" else path.stem
    name = ""
    # Composed letters, because macOS stores a letter and its accent as two characters.
    for character in unicodedata.normalize("NFC", stem).lower():
        category = unicodedata.category(character)
        is_mark = category.startswith("M") and name[-1:] not in ("", "-")
        name += character if is_mark or category in LETTERS_AND_DIGITS else "-"
    return name.strip("-") or "data"


def _folder_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    if (path / "x.npy").is_file():
        return _arrays_manifest(path, custom_data)
    _check_options(path, custom_data, ("group", "background"))
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
        return _manifest(path, "image_folder", options, {"kind": "image", "low": 0, "high": 255}, group=group)
    _check_options(path, custom_data, ("group",))
    from modgap.targets.sound import common_rate

    rate = common_rate(sounds)
    return _manifest(path, "audio", {"rate": rate, **options}, {"kind": "audio", "rate": rate}, group=group)


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


def _ts_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    """Return the manifest of a .ts file, or of the pair NAME_TRAIN.ts and NAME_TEST.ts if both exist."""
    _check_options(path, custom_data, ())
    manifest, files = _manifest(path, "ts", {}, {"kind": "series"})
    for ending, other in (("_TRAIN", "_TEST"), ("_TEST", "_TRAIN")):
        sibling = path.with_name(path.stem.removesuffix(ending) + other + path.suffix)
        if path.stem.endswith(ending) and sibling.is_file():
            train, test = (path, sibling) if ending == "_TRAIN" else (sibling, path)
            log.info("%s has the training samples and %s the test samples.", train, test)
            return manifest, {"train": [train], "test": [test]}
    return manifest, files


def _list_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles | None:
    """Return the manifest and the files of a table that lists images or sounds; None for other tables."""
    kind = custom_data.kind
    listed = None if kind in ("table", "series", "text") else listed_paths(path, kind)
    if listed is None:
        return None
    paths, kind = listed
    options: dict[str, Any] = {"kind": kind}
    if custom_data.label_column is not None:
        options["label_column"] = custom_data.label_column
    if custom_data.group is not None:
        options["group_column"] = custom_data.group
    if kind == "image":
        _check_options(path, custom_data, ("kind", "label", "group", "background"))
        options["background"] = custom_data.background or "white"
        input_spec: dict[str, Any] = {"kind": "image", "low": 0, "high": 255}
    else:
        _check_options(path, custom_data, ("kind", "label", "group"))
        from modgap.targets.sound import common_rate

        options["rate"] = common_rate(paths)
        input_spec = {"kind": "audio", "rate": options["rate"]}
    manifest, files = _manifest(path, "listed_files", options, input_spec, group=custom_data.group)
    return manifest, files | {"listed": paths}


def _csv_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    _check_options(path, custom_data, ("kind", "label", "series", "time", "group", "columns", "fill"))
    if custom_data.kind not in (None, "table", "series", "text"):
        raise UsageError(
            f"--kind {custom_data.kind} does not apply to {path}. Choose table, series, text, image or sound."
        )
    if custom_data.time_column and not custom_data.series_column:
        raise UsageError(
            f"--time needs --series. --time {custom_data.time_column} orders the rows of a series in long format, and "
            "--series COLUMN names the column that identifies the series."
        )
    kind = _csv_kind(path, custom_data)
    columns = ("label_column", "series_column", "time_column")
    options: dict[str, Any] = {name: value for name in columns if (value := getattr(custom_data, name)) is not None}
    if custom_data.group is not None:
        options["group_column"] = custom_data.group
    input_spec = {"kind": "text" if kind == "text" else "series"}
    if kind == "table":
        input_spec["representation"] = "fold"
    steps: list[dict[str, Any]] = [{"name": "standardize"}] if kind == "table" else []
    _check_table_options(path, custom_data, kind)
    if custom_data.columns is not None:
        options["columns"] = [name.strip() for name in custom_data.columns.split(",")]
    if custom_data.fill == "drop":
        options["missing_values"] = "drop"
    elif custom_data.fill is not None:
        options["missing_values"] = "keep"
        steps.insert(0, {"name": "fill", "options": {"statistic": custom_data.fill}})
    options |= {"kind": kind, "drop_index": True}
    return _manifest(path, "csv", options, input_spec, steps=steps, group=custom_data.group)


def _check_table_options(path: Path, custom_data: CustomData, kind: str) -> None:
    """Raise if an option does not apply to a table of this kind."""
    if kind == "text" and (custom_data.columns or custom_data.fill):
        raise UsageError(f"--columns and --fill do not apply to {path}, whose samples are texts.")
    if custom_data.fill not in (None, "mean", "median", "drop"):
        raise unknown_name("--fill", str(custom_data.fill), ("mean", "median", "drop"))
    if custom_data.series_column and custom_data.fill in ("mean", "median"):
        raise UsageError(
            f"--fill {custom_data.fill} does not apply to series in long format, whose rows are moments. Pass "
            "--fill drop to leave out the moments with missing cells."
        )


def _csv_kind(path: Path, custom_data: CustomData) -> str:
    """Return `table`, `series` or `text`."""
    if custom_data.kind is not None:
        return custom_data.kind
    if custom_data.series_column:
        return "series"
    if "text" not in read_frame(path).columns:
        raise UsageError(
            f"the rows of {path} can be features or time series. Pass --kind table or --kind series "
            "(in long format --series COLUMN)."
        )
    return "text"


def _arrays_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    from modgap.targets.readers.arrays import check_array_names, read_array_headers

    if has_suffix(path, (".npy",)):
        return _npy_manifest(path, custom_data)
    _check_options(path, custom_data, ("kind", "group", "x", "y"))
    if custom_data.kind not in (None, "image", "series"):
        raise UsageError(f"--kind {custom_data.kind} does not apply to {path}. Choose image or series.")
    headers = read_array_headers(path)
    x_name = custom_data.x_name or "x"
    y_name = custom_data.y_name or "y"
    check_array_names(headers, x_name, y_name, path, "Name the samples with --x NAME and the labels with --y NAME.")
    kind = custom_data.kind or _array_kind(path, x_name, headers[x_name][0])
    task = _array_task(*headers[y_name])
    names = {"x": custom_data.x_name, "y": custom_data.y_name, "groups": custom_data.group}
    options = {"kind": kind} | {name: value for name, value in names.items() if value}
    group = custom_data.group or ("groups" if "groups" in headers else None)
    return _manifest(path, "arrays", options, {"kind": kind}, task=task, group=group)


def _array_task(shape: tuple[int, ...], dtype_kind: str) -> str:
    """Return the task that the shape and the kind of dtype of the labels suggest."""
    if dtype_kind == "f":
        return "regression"
    return "multi-label" if len(shape) == 2 and shape[1] > 1 else "classification"


def _npy_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    """Return the manifest and the files of samples in a `.npy` file, with the labels in another one beside it."""
    _check_options(path, custom_data, ("kind", "group", "y"))
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
    manifest, _ = _manifest(
        path,
        "arrays",
        options,
        {"kind": kind},
        task=_array_task(label_shape, label_type.kind),
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
