"""What a manifest says of a target: one TOML file a task, validated, every field documented."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from modgap.errors import InputError

__all__ = [
    "DataFile",
    "Download",
    "InputSpec",
    "LogMel",
    "Loss",
    "LossName",
    "Manifest",
    "Metric",
    "MetricName",
    "Step",
    "load_manifest",
]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Md5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
LossName = Literal["cross-entropy", "binary cross-entropy", "mean squared error", "relative L2", "nRMSE", "RMSE"]
MetricName = Literal["0-1 error %", "1 - F1", "1 - AUROC", "1 - mAP", "MAE8", "RMSE", "nRMSE", "relative L2"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Download(_Record):
    """One file that `modgap data fetch` brings into the target's folder."""

    path: str = Field(description="Path within the target's folder.")
    urls: tuple[str, ...] = Field(default=(), description="Where it lies, tried in this order; none if only by hand.")
    size: int | None = Field(default=None, ge=0, description="Bytes.")
    about: int | None = Field(default=None, ge=0, description="Bytes as published, rounded, where `size` is absent.")
    sha256: Sha256 | None = Field(default=None, description="SHA-256; recorded on the first fetch if absent.")
    md5: Md5 | None = Field(default=None, description="MD5, where the host publishes no better sum.")
    unpack: bool = Field(default=False, description="An archive (tar, zip, gzip), extracted into its folder.")
    unpacked: int | None = Field(
        default=None, ge=0, description="Bytes of what it unpacks to; at most 100 times the archive if absent."
    )


class DataFile(_Record):
    """One file or folder of the original data that a reader takes, in exactly one place."""

    role: str = Field(description="What the reader takes it for, such as train, test or train-labels.")
    path: str = Field(description="Path within the place; a folder where the reader takes one.")
    package: str | None = Field(default=None, description="Import package that carries the file.")
    folder: str | None = Field(default=None, description="Absolute folder that holds the file, as Debian packages do.")
    size: int | None = Field(default=None, ge=0, description="Bytes.")
    sha256: Sha256 | None = Field(default=None, description="SHA-256 of the file.")


class LogMel(_Record):
    """How sound becomes log-mel spectrograms, one image (1, bands, frames) a chunk."""

    bands: int = Field(default=64, ge=1)
    window: int = Field(default=1024, ge=1, description="Samples of the Hann window.")
    fft: int | None = Field(
        default=None, ge=1, description="Samples of the Fourier transform, the window padded to it; `window` if absent."
    )
    hop: int = Field(default=320, ge=1, description="Samples from one frame to the next.")
    chunk: float | None = Field(default=None, gt=0, description="Seconds of a chunk; the whole sound if absent.")
    chunk_hop: float | None = Field(default=None, gt=0, description="Seconds from chunk to chunk; `chunk` if absent.")
    frames: int | None = Field(default=None, ge=1, description="Frames, cut or padded on the right; all if absent.")
    short: Literal["zeros", "repeat"] = Field(default="zeros", description="What fills a sound shorter than a chunk.")
    ends: Literal["zeros", "reflect"] = Field(default="zeros", description="What lies beyond the ends of a chunk.")
    low_hz: float = Field(default=0.0, ge=0)
    high_hz: float | None = Field(default=None, gt=0, description="Half the rate if absent.")
    scale: Literal["slaney", "htk"] = Field(
        default="slaney", description="Mel scale; htk's filters are not normalized."
    )
    decibels: bool = Field(default=True, description="10 log10 of the power, 80 dB below the peak at most.")
    center: bool = Field(default=False, description="Whether the mean of each spectrogram is subtracted.")


class InputSpec(_Record):
    """What one sample is, and how it becomes the source model's input."""

    kind: Literal["image", "series", "audio", "video", "text"] = Field(
        description="Image (C, H, W), series (C, length), audio (C, length), video (frames, C, H, W) or a string."
    )
    shape: tuple[int, ...] | None = Field(
        default=None, description="Shape of one sample, channels first; -1 where samples differ."
    )
    unit: str | None = Field(default=None, description="Physical unit of the values.")
    rate: float | None = Field(default=None, gt=0, description="Values a second of series and audio, in hertz.")
    channels: tuple[str, ...] | None = Field(default=None, description="What the channels are, in order.")
    low: float | None = Field(
        default=None,
        description="Value of the image, or of the series' representation, that becomes 0; the training split's "
        "smallest if absent.",
    )
    high: float | None = Field(
        default=None, description="The value that becomes 1; the training split's largest if absent."
    )
    representation: Literal["spectrogram", "log-mel", "fold", "tokens"] | None = Field(
        default=None,
        description="How series and sound enter a source of images or text; by length if absent.",
    )
    log_mel: LogMel = Field(default_factory=lambda: LogMel())
    alphabet: str | None = Field(
        default=None, description="Letters that one-hot channels stand for in text, in order, such as ACGT."
    )


class OutputSpec(_Record):
    """What is predicted where the target is not one class: the shape and unit of y."""

    shape: tuple[int, ...] | None = Field(default=None, description="Shape of one y; -1 where samples differ.")
    unit: str | None = None


class Reader(_Record):
    """Which reader turns the files into samples and labels."""

    name: str = Field(description="Module in modgap.targets.readers.")
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of its read().")


class Step(_Record):
    """One step of preprocessing, in order, after the reader."""

    name: str = Field(description="Function in modgap.targets.steps.")
    options: dict[str, Any] = Field(default_factory=dict, description="Its keyword arguments.")


class Splits(_Record):
    """How samples are split where the data itself says nothing; stratified by class, groups kept whole."""

    validation: float = Field(default=0.1, ge=0, lt=1, description="Share of the training samples held for validation.")
    test: float = Field(default=0.2, ge=0, lt=1, description="Share of all samples held for test, if none is named.")
    seed: int = Field(default=0, ge=0)


class SplitSizes(_Record):
    """Samples of each split in the benchmark, for the record."""

    train: int | None = None
    val: int | None = None
    test: int | None = None


class Loss(_Record):
    """What training minimizes."""

    name: LossName
    options: dict[str, Any] = Field(default_factory=dict, description="Its keyword arguments in modgap.transfer.")


class Metric(_Record):
    """What is reported; lower is better in all of them."""

    name: MetricName
    options: dict[str, Any] = Field(default_factory=dict, description="Its keyword arguments in modgap.transfer.")


class Training(_Record):
    """The benchmark's recipe of full fine-tuning (stage 2), and what is particular in stage 1."""

    batch_size: int | None = None
    epochs: int | None = None
    gradient_accumulation: int | None = None
    optimizer: Literal["adam", "adamw", "sgd"] | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    warmup_epochs: int | None = None
    decay_epochs: int | None = None
    gradient_clip: float | None = None
    augmentation: str | None = None
    target_sequence_length: int | None = None
    stage1_epochs: int | None = Field(default=None, description="Of ORCA's first stage.")
    stage1_samples_per_class: int | None = Field(default=None, description="Of ORCA's first stage.")


class Published(_Record):
    """One published result."""

    method: str
    value: float = Field(description="In the manifest's metric; lower is better.")
    source: str = Field(description="Where it is printed.")
    model: str | None = Field(default=None, description="Pretrained model, where the source names it.")


class Manifest(_Record):
    """A target task."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    title: str
    modality: str = Field(description="Kind of data in the field's words, such as handwriting or motion.")
    task: Literal["classification", "multi-label", "regression"] = Field(
        description="One class a sample, several, or values (dense ones too)."
    )
    n_classes: int | None = Field(default=None, ge=2, description="K, where the names are not given here.")
    pseudo_classes: int | None = Field(
        default=None, ge=2, description="Clusters that stand for the values of a regression target."
    )
    input: InputSpec
    output: OutputSpec | None = None
    classes: tuple[str, ...] | None = Field(default=None, description="Names in label order; the reader's if absent.")
    reader: Reader
    steps: tuple[Step, ...] = ()
    files: tuple[DataFile, ...] = ()
    downloads: tuple[Download, ...] = ()
    splits: Splits = Field(default_factory=lambda: Splits())
    split_sizes: SplitSizes | None = None
    group: str | None = Field(
        default=None, description="Which samples belong together (record, subject, field): a name the reader gives."
    )
    group_note: str | None = Field(default=None, description="Why there is no group, or what it stands for.")
    install: str | None = Field(default=None, description="Command that brings the files.")
    license: str | None = None
    citation: str | None = None
    preprocessing: str | None = Field(default=None, description="What is done to the original data, in words.")
    loss: Loss | None = Field(
        default=None,
        description="Training loss of the benchmark; if absent cross-entropy, binary cross-entropy or mean squared "
        "error, by task.",
    )
    metric: Metric | None = Field(
        default=None,
        description="Metric of the benchmark, lower is better; if absent 0-1 error %, 1 - mAP or nRMSE, by task.",
    )
    training: Training | None = None
    published: tuple[Published, ...] = ()
    unknown: dict[str, str] = Field(default_factory=dict, description="Fields left out, and why.")
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
