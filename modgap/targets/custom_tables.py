"""Custom data in tables: samples in rows, series, texts, and lists of files; and series in .ts files."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modgap.errors import UsageError, unknown_name
from modgap.formatting import count
from modgap.targets.custom_description import PICTURES, CustomData, ManifestAndFiles, check_options, describe_path
from modgap.targets.data_frames import without_notes
from modgap.targets.readers.csv import find_label_column, read_named_frame
from modgap.targets.readers.listed_files import listed_paths
from modgap.targets.readers.ts import has_real_values
from modgap.written_names import parse_number, real_numbers

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["series_file_manifest", "table_manifest"]

MIN_SAMPLES = 2
MOST_CLASSES = 20
"""More different whole numbers than this, with fewer samples each, are values of a regression target."""

log = logging.getLogger("modgap")


def table_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    """Return the manifest and the files of a table, which has the samples or lists their files."""
    _check_descriptions(path, custom_data)
    with without_notes():
        frame = read_named_frame(path, custom_data.label_column, custom_data.group)
    manifest, files = _list_manifest(path, custom_data, frame) or _csv_manifest(path, custom_data, frame)
    return manifest.model_copy(update={"task": _task(path, custom_data, frame)}), files


def _check_descriptions(path: Path, custom_data: CustomData) -> None:
    """Raise if an option does not apply to any table, has an unknown value, or lacks another one."""
    columns = ("kind", "label", "label-type", "series", "time", "group", "columns", "fill", "background")
    check_options(path, custom_data, columns)
    if custom_data.label_type not in (None, "text", "number"):
        raise unknown_name("--label-type", str(custom_data.label_type), ("text", "number"))
    if custom_data.time_column and not custom_data.series_column:
        raise UsageError(
            f"--time needs --series. --time {custom_data.time_column} orders the rows of a series in long format, and "
            "--series COLUMN names the column that identifies the series."
        )


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
    if None in numbers or not (is_real or len(numbers) > max(MOST_CLASSES, len(values) / MIN_SAMPLES)):
        return "classification"
    reason = "some are not whole" if is_real else f"most of the {count(len(values), 'row')} differ in them"
    text = (
        "The labels of %s in column %r are %s different numbers, and %s, so they are read as values of a regression "
        "target. If they are classes, pass --label-type text."
    )
    log.info(text, path, label, f"{len(numbers):,}", reason)
    return "regression"


def series_file_manifest(path: Path, custom_data: CustomData) -> ManifestAndFiles:
    """Return the manifest of a .ts file, or of the pair NAME_TRAIN.ts and NAME_TEST.ts if both exist."""
    check_options(path, custom_data, ())
    task = "regression" if has_real_values(path) else "classification"
    manifest, files = describe_path(path, "ts", {}, {"kind": "series"}, task=task)
    for ending, other in (("_TRAIN", "_TEST"), ("_TEST", "_TRAIN")):
        sibling = path.with_name(path.stem.removesuffix(ending) + other + path.suffix)
        if path.stem.endswith(ending) and sibling.is_file():
            train, test = (path, sibling) if ending == "_TRAIN" else (sibling, path)
            log.info("%s has the training samples and %s the test samples.", train, test)
            return manifest, {"train": [train], "test": [test]}
    return manifest, files


def _list_manifest(path: Path, custom_data: CustomData, frame: "DataFrame") -> ManifestAndFiles | None:
    """Return the manifest and the files of a table that lists images or sounds; None for other tables."""
    kind = custom_data.kind
    listed = None if kind in ("table", "series", "text") else listed_paths(path, kind, frame)
    if listed is None:
        return None
    paths, kind = listed
    options: dict[str, Any] = {"kind": kind}
    if custom_data.label_column is not None:
        options["label_column"] = custom_data.label_column
    if custom_data.label_type is not None:
        options["label_type"] = custom_data.label_type
    if custom_data.group is not None:
        options["group_column"] = custom_data.group
    if kind == "image":
        check_options(path, custom_data, ("kind", "label", "label-type", "group", "background"))
        options["background"] = custom_data.background or "white"
        input_spec: dict[str, Any] = dict(PICTURES)
    else:
        check_options(path, custom_data, ("kind", "label", "label-type", "group"))
        from modgap.targets.sound import common_rate

        options["rate"] = common_rate(paths)
        input_spec = {"kind": "audio", "rate": options["rate"]}
    manifest, files = describe_path(path, "listed_files", options, input_spec, group=custom_data.group)
    return manifest, files | {"listed": paths}


def _csv_manifest(path: Path, custom_data: CustomData, frame: "DataFrame") -> ManifestAndFiles:
    check_options(path, custom_data, ("kind", "label", "label-type", "series", "time", "group", "columns", "fill"))
    if custom_data.kind not in (None, "table", "series", "text"):
        raise UsageError(
            f"--kind {custom_data.kind} does not apply to {path}. Choose table, series, text, image or sound."
        )
    kind = _csv_kind(path, custom_data, frame)
    columns = ("label_column", "label_type", "series_column", "time_column")
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
    return describe_path(path, "csv", options, input_spec, steps=steps, group=custom_data.group)


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


def _csv_kind(path: Path, custom_data: CustomData, frame: "DataFrame") -> str:
    """Return `table`, `series` or `text`."""
    if custom_data.kind is not None:
        return custom_data.kind
    if custom_data.series_column:
        return "series"
    if "text" not in frame.columns:
        raise UsageError(
            f"the rows of {path} can be features or time series. Pass --kind table or --kind series "
            "(in long format --series COLUMN)."
        )
    return "text"
