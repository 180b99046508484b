"""What a manifest says of a target: one TOML file a task, validated, every field documented."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from modgap.errors import InputError

__all__ = ["DataFile", "InputSpec", "Manifest", "load_manifest"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class DataFile(_Record):
    """One file of the original data, in exactly one place."""

    role: str = Field(description="What the reader takes it for, such as train, test or train-labels.")
    path: str = Field(description="Path within the place.")
    package: str | None = Field(default=None, description="Import package that carries the file.")
    folder: str | None = Field(default=None, description="Absolute folder that holds the file, as Debian packages do.")
    size: int | None = Field(default=None, ge=0, description="Bytes.")
    sha256: Sha256 | None = Field(default=None, description="SHA-256 of the file.")


class InputSpec(_Record):
    """What one sample is, and how it becomes the source model's input."""

    kind: Literal["image", "series"] = Field(description="Image (C, H, W) or series (C, length).")
    shape: tuple[int, ...] | None = Field(default=None, description="Shape of one sample, channels first.")
    unit: str | None = Field(default=None, description="Physical unit of the values.")
    low: float | None = Field(
        default=None,
        description="Value of the image, or of the series' representation, that becomes 0; the training split's "
        "smallest if absent.",
    )
    high: float | None = Field(
        default=None, description="The value that becomes 1; the training split's largest if absent."
    )
    representation: Literal["spectrogram", "fold"] | None = Field(
        default=None, description="How a series becomes an image; by its length if absent."
    )


class Reader(_Record):
    """Which reader turns the files into samples and labels."""

    name: str = Field(description="Module in modgap.targets.readers.")
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of its read().")


class Splits(_Record):
    """How samples are split where the data itself says nothing; stratified by class, groups kept whole."""

    validation: float = Field(default=0.1, ge=0, lt=1, description="Share of the training samples held for validation.")
    test: float = Field(default=0.2, ge=0, lt=1, description="Share of all samples held for test, if none is named.")
    seed: int = Field(default=0, ge=0)


class Manifest(_Record):
    """A target task."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    title: str
    modality: str = Field(description="Kind of data in the field's words, such as handwriting or motion.")
    task: Literal["classification", "multi-label", "regression"]
    pseudo_classes: int | None = Field(
        default=None, ge=2, description="Clusters that stand for the values of a regression target."
    )
    input: InputSpec
    classes: tuple[str, ...] | None = Field(default=None, description="Names in label order; the reader's if absent.")
    reader: Reader
    files: tuple[DataFile, ...] = ()
    splits: Splits = Field(default_factory=lambda: Splits())
    group: str | None = Field(
        default=None, description="Which samples belong together (record, subject, field): a name the reader gives."
    )
    group_note: str | None = Field(default=None, description="Why there is no group, or what it stands for.")
    install: str | None = Field(default=None, description="Command that brings the files.")
    licence: str | None = None
    citation: str | None = None
    notes: str | None = None


def load_manifest(path: Path) -> Manifest:
    """Read and validate a manifest file.

    Raises:
        InputError: When the file cannot be read, is not TOML, or a field is missing, unknown or wrong.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read manifest {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"manifest {path} is not TOML: {error}") from error
    try:
        return Manifest.model_validate(record)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"manifest {path} is not valid: {faults}") from error
