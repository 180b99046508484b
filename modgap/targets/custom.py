"""Custom data without a manifest: arrays, tables, .ts files, and folders of images or sounds."""

import logging
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError, UsageError, count, unknown_name
from modgap.labels.written_names import parse_number, real_numbers
from modgap.storage.array_formats import map_npy, read_npy_header
from modgap.storage.paths import expand_user, has_suffix, is_regular_file
from modgap.targets.data_frames import SUFFIXES as FRAME_SUFFIXES
from modgap.targets.data_frames import read_frame, without_notes
from modgap.targets.file_layout import GROUP_LIST, SPLIT_LIST, SPLIT_LIST_SUFFIXES, list_files
from modgap.targets.manifest import Manifest
from modgap.targets.readers.csv import find_label_column, read_named_frame
from modgap.targets.readers.image_folder import SUFFIXES as IMAGE_SUFFIXES
from modgap.targets.readers.image_folder import check_background
from modgap.targets.readers.listed_files import listed_paths
from modgap.targets.readers.ts import has_real_values
from modgap.targets.samples import SPLITS
from modgap.targets.sound import SUFFIXES as SOUND_SUFFIXES
from modgap.targets.sound import common_rate
from modgap.targets.table_needs import has_named_features, refuse_at_once

if TYPE_CHECKING:
    from pandas import DataFrame

log = logging.getLogger("modgap")

LETTERS_AND_DIGITS = ("Ll", "Lm", "Lo", "Nd")
"""Unicode categories that the name of a target starts with. Combining marks may follow."""
PICTURES = {"kind": "image", "channels": ["red", "green", "blue"], "low": 0, "high": 255}
"""Description of the input of images in files."""
TABLE_INPUT, TABLE_STEPS = {"kind": "series", "representation": "fold"}, ({"name": "standardize"},)
"""Description of the input of rows of unordered features, and their step."""
TASKS = ("classification", "multi-label", "regression")
"""Tasks that the labels of a target can have."""

ManifestAndFiles = tuple[Manifest, dict[str, list[Path]]]


@dataclass(frozen=True)
class CustomData:
    """Description of custom data where the file itself does not tell.

    Attributes:
        kind: `image` or `series` for array files that could hold either, or `table` if their samples are rows of
            unordered features; `table`, `series`, `text` or `string` (a text whose units are its characters, such as
            that of a molecule) for CSV and Parquet files, or `image` or `sound` for those that list files. None infers
            it.
        label_column: CSV column of the label. None looks for a column named label, class, target or y.
        label_type: `text` if labels and groups of a table are names as they are written, so that 01 and 1 are two, or
            `number` if all spellings of a number are one. None refuses two spellings of a number.
        task: `classification`, `multi-label` or `regression`, for labels that could be classes or values. None decides
            by the labels: in tables numbers of which some are not whole, or of which most differ, are values, and in
            arrays numbers with a decimal point.
        series_column: CSV column with the name of the series that a row belongs to (long format). None if every
            row is a sample.
        time_column: CSV column by which the rows of a series are ordered. None keeps the order of the file.
        group: CSV column, or name of the array, of the groups of samples that belong together; for a folder, a pattern
            of the path or a table (see `modgap.targets.file_layout`). None uses the array `groups` if there is one.
        split_from: CSV column, or name of the array, with the split of each sample: train, val or test. Or a file that
            lists the splits (see `modgap.targets.file_layout.listed_splits`), for data of any form. None uses the
            column `split` or the array `splits` if there is one.
        x_name: Name of the array of samples. None means `x`.
        y_name: Name of the array of labels. None means `y`.
        background: Color that transparent images are composited on. None means white.
        columns: Names of the columns that are features, separated by commas, for a table. None uses all numeric ones.
        fill: `mean` or `median` of the training samples in place of missing cells, or `drop` to leave out rows with
            missing cells. None refuses missing cells.
        standardize: `sample` to standardize each channel of a series by its own mean and standard deviation, so that
            offset and scale of a series do not count. None keeps them.
    """

    kind: str | None = None
    label_column: str | None = None
    label_type: str | None = None
    task: str | None = None
    series_column: str | None = None
    time_column: str | None = None
    group: str | None = None
    split_from: str | None = None
    x_name: str | None = None
    y_name: str | None = None
    background: str | None = None
    columns: str | None = None
    fill: str | None = None
    standardize: str | None = None

    @classmethod
    def of(cls, description: "CustomData | Mapping[str, str] | None") -> "CustomData | None":
        """Return a description that is given as such, as a mapping of its fields, or not at all.

        Raises:
            UsageError: If the mapping has another field. The message suggests similar names.
        """
        if not isinstance(description, Mapping):
            return description
        names = [field.name for field in fields(cls)]
        for name in description:
            if name not in names:
                of_option = [field for field in names if _option(field) == name]
                raise unknown_name("field of custom_data", name, of_option or names)
        return cls(**description)

    def absolute(self) -> "CustomData":
        """Return the description with absolute paths of files of groups and splits, for other working directories."""
        paths = {field: _list_file(self, field) for field in ("group", "split_from")}
        return replace(self, **{field: str(path.resolve()) for field, path in paths.items() if path is not None})

    def fields(self) -> dict[str, str]:
        """Return the fields that are not None."""
        return {field: value for field, value in asdict(self).items() if value is not None}

    def options(self) -> dict[str, str]:
        """Return the fields that are not None, by the command-line option that sets each, without its dashes."""
        return {_option(field): value for field, value in self.fields().items()}


def _option(field: str) -> str:
    """Return the command-line option that sets a field, without its dashes."""
    return field.removesuffix("_column").removesuffix("_name").replace("_", "-")


def check_fields(path: Path, custom_data: CustomData, allowed: tuple[str, ...]) -> None:
    """Raise a UsageError for the first field that does not apply to the data at a path."""
    for field in custom_data.fields():
        if field not in allowed:
            raise UsageError(f'`custom_data["{field}"]` does not apply to target {path}')


def describe_path(
    path: Path, reader: str, options: Mapping[str, object], input_spec: Mapping[str, object], **fields: object
) -> Manifest:
    """Return a manifest of a reader for the data at a path."""
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
    return Manifest.model_validate(record)


def _sample_steps(path: Path, custom_data: CustomData, kind: str) -> list[Mapping[str, object]]:
    """Return the step that standardizes each sample of a kind, if the user asks for it.

    Raises:
        UsageError: If the samples are no series.
    """
    by = custom_data.standardize
    if by is None:
        return []
    if by != "sample":
        raise unknown_name('`custom_data["standardize"]`', by, ("sample",))
    if kind != "series":
        raise UsageError(
            f'`custom_data={{"standardize": "sample"}}` applies to series, and the samples of {path} are read as '
            f'{kind}. Remove it, or pass `custom_data={{"kind": "series"}}` if each sample is a series.'
        )
    return [{"name": "zscore", "options": {"by_channel": True}}]


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


ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors", ".h5", ".hdf5")
SERIES_SUFFIXES = (".ts",)


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
    if custom_data.task not in (None, *TASKS):
        raise unknown_name('`custom_data["task"]`', str(custom_data.task), TASKS)
    if not path.is_dir() and not path.is_file():
        raise InputError(f"There is no file {path}. Check the path, or list the targets with: modgap targets")
    listed = _list_file(custom_data, "split_from")
    manifest, files = _manifest_of_form(path, replace(custom_data, split_from=None) if listed else custom_data)
    return manifest, files | ({SPLIT_LIST: [listed]} if listed else {})


def _list_file(custom_data: CustomData, field: str) -> Path | None:
    """Return the file of groups or splits that a field names; None if it names something else."""
    value = getattr(custom_data, field)
    if value is None or not has_suffix(Path(value), SPLIT_LIST_SUFFIXES if field == "split_from" else FRAME_SUFFIXES):
        return None
    path = expand_user(value)
    if not is_regular_file(path):
        raise InputError(f'There is no file {path}. Check the path in `custom_data["{field}"]`.')
    return path


def _manifest_of_form(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    """Return the manifest and the files of data by its form; the splits are in no file of their own."""
    has_arrays = not path.is_dir() or (path / "x.npy").is_file()
    if custom_data.split_from and (not has_arrays or has_suffix(path, SERIES_SUFFIXES)):
        raise UsageError(
            f'`custom_data={{"split_from": {custom_data.split_from!r}}}` is not the name of a file, and {path} has no '
            "columns. Pass a .csv file with the columns sample and split."
        )
    if path.is_dir():
        return _arrays_manifest(path, custom_data) if has_arrays else _folder_manifest(path, custom_data)
    if has_suffix(path, FRAME_SUFFIXES):
        return table_manifest(path, custom_data)
    if has_suffix(path, SERIES_SUFFIXES):
        return series_file_manifest(path, custom_data)
    return _arrays_manifest(path, custom_data)


def _folder_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    check_fields(path, custom_data, ("group", "background", "task"))
    task = _one_label_task(path, custom_data) or "classification"
    images = list_files(path, IMAGE_SUFFIXES)
    sounds = list_files(path, SOUND_SUFFIXES)
    if images and sounds:
        raise UsageError(
            f"{path} has {count(len(images), 'image')} and {count(len(sounds), 'sound')}. "
            "Put images and sounds into separate folders."
        )
    if not images and not sounds and not any(child.is_dir() for child in path.iterdir()):
        raise InputError(f"{path} contains no images or sounds. Expected a sub-folder of them for each class.")
    _check_class_folders(path, images or sounds, "sounds" if sounds else "images" if images else "images or sounds")
    listed = _list_file(custom_data, "group")
    files = {"data": [path]} | ({GROUP_LIST: [listed]} if listed else {})
    options: dict[str, object] = {} if listed or custom_data.group is None else {"group_pattern": custom_data.group}
    group = None if custom_data.group is None else "group"
    if sounds:
        check_fields(path, custom_data, ("group", "task"))
    decoding, spec = _decoding(sounds, custom_data)
    reader = "audio" if sounds else "image_folder"
    return describe_path(path, reader, options | decoding, spec, group=group, task=task), files


def _decoding(sounds: Sequence[Path], custom_data: CustomData) -> tuple[dict[str, object], dict[str, object]]:
    """Return a reader's options for decoding sounds, or images if there are none, and the input of the samples."""
    if sounds:
        rate = common_rate(sounds)
        return {"rate": rate}, {"kind": "audio", "rate": rate}
    background = custom_data.background or "white"
    check_background(background)
    return {"background": background}, PICTURES


def _one_label_task(path: Path, custom_data: CustomData) -> str | None:
    """Return the task that the user names, or raise if samples of this form cannot have several labels."""
    if custom_data.task == "multi-label":
        raise UsageError(
            f'`custom_data={{"task": "multi-label"}}` does not apply to {path}, where each sample has one label. Save '
            "samples with several labels in an array file, with 0/1 labels of shape (N, K)."
        )
    return custom_data.task


def _regression_option(custom_data: CustomData) -> dict[str, bool]:
    """Return the option of a reader that says whether labels are values, if the user names the task."""
    return {} if custom_data.task is None else {"regression": custom_data.task == "regression"}


def _check_class_folders(folder: Path, files: Sequence[Path], noun: str) -> None:
    """Raise if a class folder has no file that can be read, because its class, or its split, would be left out."""
    parts = [file.relative_to(folder).parts for file in files]
    has_splits = all(len(part) > 2 and part[0] in SPLITS for part in parts)
    parents = [folder / split for split in SPLITS] if has_splits else [folder]
    classes = {part[1 if has_splits else 0] for part in parts if len(part) > 1}
    read = {folder.joinpath(*part[: 2 if has_splits else 1]) for part in parts if len(part) > 1}
    for class_folder in sorted(child for parent in parents if parent.is_dir() for child in parent.iterdir()):
        if class_folder in read or class_folder.name[0] in "._" or not class_folder.is_dir():
            continue
        # A split may have an empty folder of a class that others have.
        if class_folder.name not in classes or any(class_folder.iterdir()):
            raise InputError(
                f"The class folder {class_folder} has no {noun} in a format that can be read; links to folders are not "
                f"followed. Add {noun} of this class, or remove the folder."
            )


def _arrays_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    from modgap.targets.readers.arrays import check_array_names, map_arrays, read_array_headers

    if custom_data.kind not in (None, "image", "series", "table"):
        raise UsageError(
            f'`custom_data={{"kind": {custom_data.kind!r}}}` does not apply to {path}. Choose image, series or table.'
        )
    if has_suffix(path, (".npy",)):
        return _npy_manifest(path, custom_data)
    check_fields(path, custom_data, ("kind", "task", "group", "split_from", "x_name", "y_name", "standardize"))
    headers = read_array_headers(path)
    x_name = custom_data.x_name or "x"
    y_name = custom_data.y_name or "y"
    hint = (
        'Name the samples with `custom_data={"x_name": "NAME"}` and the labels with `custom_data={"y_name": "NAME"}`.'
    )
    check_array_names(headers, (x_name, y_name), path, hint)
    kind, spec, steps = _array_form(path, custom_data, x_name, headers[x_name][0])
    task = custom_data.task or _array_task(y_name, *headers[y_name], lambda: map_arrays(path)[y_name])
    names = {"kind": kind, "x": custom_data.x_name, "y": custom_data.y_name, "groups": custom_data.group}
    names |= {"splits": custom_data.split_from}
    options = {name: value for name, value in names.items() if value} | _regression_option(custom_data)
    group = custom_data.group or ("groups" if "groups" in headers else None)
    return describe_path(path, "arrays", options, spec, task=task, group=group, steps=steps), {"data": [path]}


def _array_task(name: str, shape: tuple[int, ...], dtype_kind: str, read: Callable[[], ArrayLike]) -> str:
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
            'each sample has one class, pass `custom_data={"task": "classification"}`. If these are real values, pass '
            '`custom_data={"task": "regression"}`.'
        )
        log.info(text, name, shape, shape[1])
        return "multi-label"
    if dtype_kind != "f":
        return "classification"
    values = np.asarray(read())
    if values.ndim == 1 and np.all(values == np.round(values)) and len(np.unique(values)) <= MOST_CLASSES:
        text = (
            "The %d different values of %s are whole numbers, read as real values because of their type. If they are "
            'classes, pass `custom_data={"task": "classification"}`.'
        )
        log.info(text, len(np.unique(values)), name)
    return "regression"


def _npy_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    """Return the manifest and the files of samples in a `.npy` file, with the labels in another one beside it."""
    check_fields(path, custom_data, ("kind", "task", "group", "split_from", "y_name", "standardize"))
    y_name = custom_data.y_name or "y"
    group_name = custom_data.group or "groups"
    labels = path.with_name(f"{y_name}.npy")
    if labels == path or not labels.is_file():
        raise InputError(
            f"There are no labels for {path}. Expected them in {path.with_name('y.npy')}. Name another file of this "
            'folder with `custom_data={"y_name": "NAME"}`, without its suffix .npy.'
        )
    shape, _ = read_npy_header(path)
    label_shape, label_type = read_npy_header(labels)
    kind, spec, steps = _array_form(path, custom_data, path.stem, shape)
    split_name = custom_data.split_from or "splits"
    siblings = {name: path.with_name(f"{name}.npy") for name in (y_name, group_name, split_name, "masks")}
    files = {"data": [path]} | {name: [file] for name, file in siblings.items() if file.is_file()}
    options = {"kind": kind, "x": path.stem, "y": y_name, "groups": group_name, **_regression_option(custom_data)}
    if custom_data.split_from is not None:
        options["splits"] = split_name
    task = custom_data.task or _array_task(y_name, label_shape, label_type.kind, lambda: map_npy(labels))
    group = custom_data.group or (group_name if group_name in files else None)
    return describe_path(path, "arrays", options, spec, task=task, group=group, steps=steps), files


def _array_form(
    path: Path, custom_data: CustomData, x_name: str, shape: tuple[int, ...]
) -> tuple[str, dict[str, str], list[Mapping[str, object]]]:
    """Return the kind as which an array is read, the input of its samples, and their steps.

    Raises:
        UsageError: If the shape does not tell the kind, or does not fit it.
    """
    if custom_data.kind is None and len(shape) == 3:
        raise UsageError(
            f"{x_name} of shape {shape} in {path} can be images (N, H, W) or series (N, channels, length). "
            'Pass `custom_data={"kind": "image"}` or `custom_data={"kind": "series"}`.'
        )
    kind = custom_data.kind or ("image" if len(shape) > 3 else "series")
    if kind != "table":
        return kind, {"kind": kind}, _sample_steps(path, custom_data, kind)
    if len(shape) != 2:
        raise UsageError(
            f"{x_name} of shape {shape} in {path} is no table. Expected (N, D), a row of D features for each sample."
        )
    return "series", TABLE_INPUT, [*TABLE_STEPS, *_sample_steps(path, custom_data, kind)]


MIN_SAMPLES = 2
CSV_FIELDS = (
    *("kind", "label_column", "label_type", "task", "series_column", "time_column", "group", "split_from"),
    *("columns", "fill", "standardize"),
)
"""Fields of CustomData that apply to a table that has the samples."""
LIST_FIELDS = ("kind", "label_column", "label_type", "task", "group", "split_from")
"""Fields of CustomData that apply to a table that lists files."""
MOST_CLASSES = 20
"""More different whole numbers than this, with fewer samples each, are values of a regression target."""


def table_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    """Return the manifest and the files of a table, which has the samples or lists their files.

    Raises:
        UsageError: If an option does not apply to any table, has an unknown value, or lacks another one.
    """
    check_fields(path, custom_data, (*CSV_FIELDS, "background"))
    if custom_data.label_type not in (None, "text", "number"):
        raise unknown_name('`custom_data["label_type"]`', str(custom_data.label_type), ("text", "number"))
    if _one_label_task(path, custom_data) == "regression" and custom_data.label_type == "text":
        raise UsageError(
            '`custom_data={"task": "regression", "label_type": "text"}` contradicts itself: values are numbers, and '
            "text makes names of classes of them. Pass one of the two."
        )
    if custom_data.time_column and not custom_data.series_column:
        raise UsageError(
            '`custom_data["time_column"]` needs `custom_data["series_column"]`. '
            f'`custom_data={{"time_column": {custom_data.time_column!r}}}` orders the rows of a series in long '
            'format, and `custom_data={"series_column": "COLUMN"}` names the column that identifies the series.'
        )
    with without_notes():
        try:
            frame = read_named_frame(path, custom_data.label_column, custom_data.group)
        except UsageError:
            frame = read_frame(path)
            if _listed(path, custom_data.kind, frame) is None:
                refuse_at_once(path, custom_data.fields(), frame)
            raise
    manifest, files = _list_manifest(path, custom_data, frame) or _csv_manifest(path, custom_data, frame)
    return manifest.model_copy(update={"task": custom_data.task or _task(path, custom_data, frame)}), files


def _task(path: Path, custom_data: CustomData, frame: "DataFrame") -> str:
    """Return `regression` or `classification`, by the labels, and say what was assumed of numbers."""
    label = find_label_column(frame.columns, custom_data.label_column, path)
    if custom_data.label_type == "text" or label not in frame.columns:
        return "classification"
    # In long format all rows of a series have its label.
    rows = frame.drop_duplicates(custom_data.series_column) if custom_data.series_column in frame.columns else frame
    values = [str(value).strip() for value in rows[label].dropna()]
    numbers = {parse_number(value) for value in values}
    is_real = real_numbers(values) is not None
    if None in numbers:
        return "classification"
    if not is_real and len(numbers) <= max(MOST_CLASSES, len(values) / MIN_SAMPLES):
        if len(numbers) > MOST_CLASSES:
            text = (
                "The labels of %s in column %r are %s different whole numbers, and are read as classes. If they are "
                'values, pass `custom_data={"task": "regression"}`.'
            )
            log.info(text, path, label, f"{len(numbers):,}")
        return "classification"
    reason = "some are not whole" if is_real else f"most of the {count(len(values), 'row')} differ in them"
    text = (
        "The labels of %s in column %r are %s different numbers, and %s, so they are read as values of a regression "
        'target. If they are classes, pass `custom_data={"task": "classification"}`.'
    )
    log.info(text, path, label, f"{len(numbers):,}", reason)
    return "regression"


def series_file_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    """Return the manifest of a .ts file, or of the pair NAME_TRAIN.ts and NAME_TEST.ts if both exist."""
    check_fields(path, custom_data, ("task", "standardize"))
    task = _one_label_task(path, custom_data) or ("regression" if has_real_values(path) else "classification")
    steps = _sample_steps(path, custom_data, "series")
    manifest = describe_path(path, "ts", {}, {"kind": "series"}, task=task, steps=steps)
    stem = path.stem.rpartition("_")[0]
    train, test = (path.with_name(f"{stem}{ending}{path.suffix}") for ending in ("_TRAIN", "_TEST"))
    if path not in (train, test) or not (train.is_file() and test.is_file()):
        return manifest, {"data": [path]}
    log.info("%s has the training samples and %s the test samples.", train, test)
    return manifest, {"train": [train], "test": [test]}


def _listed(path: Path, kind: str | None, frame: "DataFrame") -> tuple[list[Path], str] | None:
    """Return the images or sounds that a table lists, and their kind; None for other tables."""
    return None if kind in ("table", "series", "text", "string") else listed_paths(path, kind, frame)


def _list_manifest(path: Path, custom_data: CustomData, frame: "DataFrame") -> ManifestAndFiles | None:
    """Return the manifest and the files of a table that lists images or sounds; None for other tables."""
    listed = _listed(path, custom_data.kind, frame)
    if listed is None:
        return None
    paths, kind = listed
    check_fields(path, custom_data, (*LIST_FIELDS, "background") if kind == "image" else LIST_FIELDS)
    decoding, input_spec = _decoding(paths if kind == "sound" else (), custom_data)
    options = {"kind": kind, **_column_options(custom_data), **decoding}
    manifest = describe_path(path, "listed_files", options, input_spec, group=custom_data.group)
    return manifest, {"data": [path], "listed": paths}


def _column_options(custom_data: CustomData) -> dict[str, object]:
    """Return the options of the readers of tables that say what columns are and how labels are read."""
    names = dict.fromkeys(("label_column", "label_type", "series_column", "time_column"))
    names |= {"group": "group_column", "split_from": "split_column"}
    options = {names[field] or field: value for field, value in custom_data.fields().items() if field in names}
    return {**options, **_regression_option(custom_data)}


def _csv_manifest(path: Path, custom_data: CustomData, frame: "DataFrame") -> ManifestAndFiles:
    check_fields(path, custom_data, CSV_FIELDS)
    refuse_at_once(path, custom_data.fields(), frame)
    if custom_data.kind not in (None, "table", "series", "text", "string"):
        raise UsageError(
            f'`custom_data={{"kind": {custom_data.kind!r}}}` does not apply to {path}. '
            "Choose table, series, text, image or sound."
        )
    kind = _csv_kind(path, custom_data, frame)
    options = _column_options(custom_data)
    input_spec = TABLE_INPUT if kind == "table" else {"kind": kind}
    steps: list[Mapping[str, object]] = [*TABLE_STEPS] if kind == "table" else []
    _check_table_options(path, custom_data, kind)
    if custom_data.columns is not None:
        options["columns"] = [name.strip() for name in custom_data.columns.split(",")]
    if custom_data.fill == "drop":
        options["missing_values"] = "drop"
    elif custom_data.fill is not None:
        options["missing_values"] = "keep"
        steps.insert(0, {"name": "fill", "options": {"statistic": custom_data.fill}})
    steps += _sample_steps(path, custom_data, kind)
    options |= {"kind": kind, "drop_index": True, **({"categories": True} if kind == "table" else {})}
    return describe_path(path, "csv", options, input_spec, steps=steps, group=custom_data.group), {"data": [path]}


def _check_table_options(path: Path, custom_data: CustomData, kind: str) -> None:
    """Raise if an option does not apply to a table of this kind."""
    if kind == "text" and (custom_data.columns or custom_data.fill):
        raise UsageError(
            f'`custom_data["columns"]` and `custom_data["fill"]` do not apply to {path}, whose samples are texts.'
        )
    if custom_data.fill not in (None, "mean", "median", "drop"):
        raise unknown_name('`custom_data["fill"]`', str(custom_data.fill), ("mean", "median", "drop"))
    if custom_data.series_column and custom_data.fill in ("mean", "median"):
        raise UsageError(
            f'`custom_data={{"fill": {custom_data.fill!r}}}` does not apply to series in long format, whose rows are '
            'moments. Pass `custom_data={"fill": "drop"}` to leave out the moments with missing cells.'
        )


def _csv_kind(path: Path, custom_data: CustomData, frame: "DataFrame") -> str:
    """Return `table`, `series` or `text`."""
    if custom_data.kind is not None:
        return "text" if custom_data.kind == "string" else custom_data.kind
    if custom_data.series_column:
        return "series"
    if "text" not in frame.columns:
        if has_named_features(custom_data.fields(), frame):
            text = (
                "The columns of %s have different names, so its rows are read as features and not as series. If each "
                'row is a series, pass `custom_data={"kind": "series"}`.'
            )
            log.info(text, path)
            return "table"
        raise UsageError(
            f'the rows of {path} can be features or time series. Pass `custom_data={{"kind": "table"}}` or '
            '`custom_data={"kind": "series"}` (in long format `custom_data={"series_column": "COLUMN"}`).'
        )
    return "text"
