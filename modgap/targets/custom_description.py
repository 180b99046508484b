"""Description of custom data: what the data itself does not tell, and the manifest that follows from it."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modgap.errors import UsageError, unknown_name
from modgap.targets.manifest import Manifest

__all__ = ["FIELD_OF_OPTION", "PICTURES", "CustomData", "ManifestAndFiles", "check_options", "describe_path"]

LETTERS_AND_DIGITS = ("Ll", "Lm", "Lo", "Nd")
"""Unicode categories that the name of a target starts with. Combining marks may follow."""
FIELD_OF_OPTION = {
    "kind": "kind",
    "label": "label_column",
    "label-type": "label_type",
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
PICTURES = {"kind": "image", "channels": ["red", "green", "blue"], "low": 0, "high": 255}
"""Description of the input of images in files."""

ManifestAndFiles = tuple[Manifest, dict[str, list[Path]]]


@dataclass(frozen=True)
class CustomData:
    """Description of custom data where the file itself does not tell.

    Attributes:
        kind: `image` or `series` for array files that could hold either; `table`, `series` or `text` for CSV and
            Parquet files, or `image` or `sound` for those that list files. None infers it.
        label_column: CSV column of the label. None looks for a column named label, class, target or y.
        label_type: `text` if labels and groups of a table are names as they are written, so that 01 and 1 are two, or
            `number` if all spellings of a number are one. None refuses two spellings of a number.
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
    label_type: str | None = None
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
                fields = [FIELD_OF_OPTION[name]] if name in FIELD_OF_OPTION else cls.__dataclass_fields__
                raise unknown_name("field of custom_data", name, fields)
        return cls(**description)

    @classmethod
    def from_options(cls, options: Mapping[str, str | None]) -> "CustomData":
        """Return the description that command-line options give.

        Args:
            options: Values by option, without the option's dashes (the keys of FIELD_OF_OPTION). Other options are
                ignored.
        """
        return cls(**{field: options.get(option) for option, field in FIELD_OF_OPTION.items()})

    def options(self) -> dict[str, str]:
        """Return the fields that are not None, by the command-line option that sets each, without its dashes."""
        values = {option: getattr(self, field) for option, field in FIELD_OF_OPTION.items()}
        return {option: value for option, value in values.items() if value is not None}


def check_options(path: Path, custom_data: CustomData, allowed: tuple[str, ...]) -> None:
    """Raise a UsageError for the first option that does not apply to the data at a path."""
    for option in custom_data.options():
        if option not in allowed:
            raise UsageError(f"--{option} does not apply to target {path}")


def describe_path(
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
