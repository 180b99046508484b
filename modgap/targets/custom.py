"""A user's own data without a manifest: array files, CSV, folders of images or sounds."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from modgap.errors import InputError, UsageError
from modgap.targets.file_layout import list_files
from modgap.targets.manifest import Manifest
from modgap.targets.readers.image_folder import SUFFIXES as IMAGES
from modgap.targets.sound import SUFFIXES as SOUNDS

__all__ = ["CustomData", "custom_data_manifest", "is_custom_data"]

ARRAYS = (".npz", ".safetensors", ".h5", ".hdf5")
CSV = (".csv", ".tsv")


@dataclass(frozen=True)
class CustomData:
    """What a file does not say of itself.

    Attributes:
        kind: `image` or `series` for array files that could be either; `table`, `series` or `text` for CSV.
        label: CSV column of the label.
        series: CSV column that says which series a row belongs to (long format).
        time: CSV column that orders a series' rows.
        group: CSV column, or array, that says which samples belong together.
        x: Name of the samples' array.
        y: Name of the labels' array.
    """

    kind: str | None = None
    label: str | None = None
    series: str | None = None
    time: str | None = None
    group: str | None = None
    x: str | None = None
    y: str | None = None

    def given(self) -> dict[str, str]:
        """What is not None."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


def is_custom_data(path: Path) -> bool:
    """Whether a path is data rather than a manifest or a manifest's name."""
    return path.suffix in ARRAYS + CSV or path.is_dir()


def custom_data_manifest(path: Path, own: CustomData) -> tuple[Manifest, dict[str, list[Path]]]:
    """A manifest made up for the path, and the files by role.

    Raises:
        UsageError: When it could be read in several ways, or an option does not apply.
        InputError: When there is nothing to read.
    """
    if path.is_dir():
        return _folder(path, own)
    if not path.is_file():
        raise InputError(f"expected a file at {path}, found none")
    return (_csv if path.suffix in CSV else _arrays)(path, own)


def _expect_only(path: Path, own: CustomData, allowed: tuple[str, ...]) -> None:
    for name in own.given():
        if name not in allowed:
            raise UsageError(f"--{name} does not apply to target {path}")


def _manifest(path: Path, reader: str, options: Mapping[str, Any], kind: str, spec: dict | None = None, **more):
    name = "".join(c if c.isalnum() else "-" for c in path.stem.lower()).strip("-")
    return Manifest.model_validate(
        {
            "schema": 1,
            "name": name or "data",
            "title": path.name,
            "modality": "user's own",
            "task": "classification",
            "input": {"kind": kind, **(spec or {})},
            "reader": {"name": reader, "options": dict(options)},
            **more,
        }
    )


def _folder(path: Path, own: CustomData) -> tuple[Manifest, dict[str, list[Path]]]:
    if (path / "x.npy").is_file():
        return _arrays(path, own)
    _expect_only(path, own, ())
    images, sounds = list_files(path, IMAGES), list_files(path, SOUNDS)
    if images and sounds:
        raise UsageError(f"expected images or sounds in {path}, got {len(images)} and {len(sounds)}; keep them apart")
    if not sounds:
        return _manifest(path, "image_folder", {}, "image", {"low": 0, "high": 255}), {"data": [path]}
    from modgap.targets.sound import file_rate

    rate = file_rate(sounds[0])
    return _manifest(path, "audio", {"rate": rate}, "audio", {"rate": rate}), {"data": [path]}


def _csv(path: Path, own: CustomData) -> tuple[Manifest, dict[str, list[Path]]]:
    _expect_only(path, own, ("kind", "label", "series", "time", "group"))
    if own.kind not in (None, "table", "series", "text"):
        raise UsageError(f"--kind {own.kind} does not apply to {path}; there is: table, series, text")
    if own.time and not own.series:
        raise UsageError("--time orders the rows of a series in long format; name the series' column with --series")
    kind = own.kind or ("series" if own.series else None)
    if kind is None:
        from modgap.targets.readers.csv import columns_of

        if "text" not in columns_of(path):
            raise UsageError(
                f"the rows of {path} can be features or time series; say which with --kind table or --kind series "
                "(in long format --series COLUMN)"
            )
        kind = "text"
    options = {name: value for name, value in own.given().items() if name != "kind"} | {"kind": kind}
    steps = [{"name": "standardize"}] if kind == "table" else []
    spec = {"representation": "fold"} if kind == "table" else {}
    return _manifest(
        path, "csv", options, "text" if kind == "text" else "series", spec, steps=steps, group=own.group
    ), {"data": [path]}


def _arrays(path: Path, own: CustomData) -> tuple[Manifest, dict[str, list[Path]]]:
    from modgap.targets.readers.arrays import read_array_headers

    _expect_only(path, own, ("kind", "group", "x", "y"))
    if own.kind not in (None, "image", "series"):
        raise UsageError(f"--kind {own.kind} does not apply to {path}; there is: image, series")
    header = read_array_headers(path)
    x, y, group = own.x or "x", own.y or "y", own.group or "groups"
    if x not in header:
        raise InputError(f"expected arrays {x} and {y} in {path}, got {', '.join(sorted(header)) or 'none'}")
    kind = own.kind
    if kind is None:
        if len(header[x][0]) == 3:
            raise UsageError(
                f"{x} of shape {header[x][0]} in {path} can be images (N, H, W) or series (N, channels, length); "
                "say which with --kind image or --kind series"
            )
        kind = "image" if len(header[x][0]) > 3 else "series"
    shape, sort = header.get(y, ((0,), "i"))
    task = "regression" if sort == "f" else "multi-label" if len(shape) == 2 else "classification"
    options = {"kind": kind} | {name: v for name, v in (("x", own.x), ("y", own.y), ("groups", own.group)) if v}
    has_group = group in header or own.group is not None
    return _manifest(path, "arrays", options, kind, task=task, group=group if has_group else None), {"data": [path]}
