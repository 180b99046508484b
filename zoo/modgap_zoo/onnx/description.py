"""Description of a model in an ONNX file: what it takes and what it returns."""

import math
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from modgap.errors import InputError, first_line

LARGEST_DESCRIPTION = 1 << 24
"""Largest size of a description in bytes."""
SAMPLE = "sample"
"""Value of a further input that is the sample itself."""
EXAMPLE = 'input = { kind = "image", size = [224, 224] }'

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Pixels = Annotated[int, Field(ge=1, le=1 << 14)]


def _input_value(value: float | str) -> float | str:
    if value != SAMPLE and (isinstance(value, str) or not math.isfinite(value)):
        raise PydanticCustomError("input_value", "Expected a finite number or 'sample'")
    return value


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageDescription(_Table):
    """Input of images.

    Attributes:
        size: Height and width in pixels.
        mean: Mean of each channel, which is subtracted from values in [0, 1]; as many as there are channels.
        sd: Standard deviation of each channel, by which the difference is divided.
        interpolation: Interpolation when images are resized.
        channels: Order of the three colors.
        channels_last: True for a model that takes (B, H, W, C), False for (B, C, H, W).
    """

    kind: Literal["image"]
    size: tuple[Pixels, Pixels]
    mean: tuple[Finite, ...] = (0.5, 0.5, 0.5)
    sd: tuple[Positive, ...] = (0.5, 0.5, 0.5)
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    channels: Literal["rgb", "bgr"] = "rgb"
    channels_last: bool = False


class SoundDescription(_Table):
    """Input of waveforms, or of series that are read as waveforms.

    Attributes:
        rate: Sampling rate in hertz.
        window: Number of values of a waveform.
        standardize: True to shift and scale each window to mean 0 and standard deviation 1.
    """

    kind: Literal["sound"]
    rate: Annotated[int, Field(ge=1, le=10_000_000)]
    window: Annotated[int, Field(ge=16, le=1 << 24)]
    standardize: bool = False


class OnnxDescription(_Table):
    """A model in an ONNX file.

    Attributes:
        input: Input of the model that takes the sample.
        others: Values of the model's other inputs by name: a number, which fills the input, or `sample` for the sample
            once more.
        output: Name of the tensor of logits; None for the model's first output, before its softmax or sigmoid.
        features: Name of the tensor of features; None for the input of the last layer.
        classes: Names of the classes; empty for their numbers.
        class_axis: Axis of the classes in the tensor of logits. The mean over all other axes but the first is taken.
        blank: Number of the class that stands for nothing, in models that read character by character (CTC). It is left
            out. None if there is none.
        has_head: False for a bare encoder, whose output are features and not logits.
    """

    input: Annotated[ImageDescription | SoundDescription, Field(discriminator="kind")]
    others: dict[str, Annotated[float | str, AfterValidator(_input_value)]] = Field(default_factory=dict)
    output: str | None = None
    features: str | None = None
    classes: tuple[str, ...] = ()
    class_axis: Annotated[int, Field(ge=-3, le=3)] = -1
    blank: Annotated[int, Field(ge=0)] | None = None
    has_head: bool = True


def read_description(path: Path, model: Path) -> OnnxDescription:
    """Read and validate the description of a model.

    Args:
        path: TOML file.
        model: File of the model, for errors.

    Raises:
        InputError: When there is no such file, it is not TOML, or a field is missing, unknown or invalid.
    """
    if not path.is_file():
        raise InputError(
            f"There is no description {path} of {model.name}. Write one that says what the model takes, such as "
            f"{EXAMPLE}."
        )
    try:
        if path.stat().st_size > LARGEST_DESCRIPTION:
            raise InputError(f"The description {path} is larger than {LARGEST_DESCRIPTION >> 20} MiB.")
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The description {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"The description {path} is not valid TOML: {first_line(error)}.") from error
    try:
        description = OnnxDescription.model_validate(record)
    except ValidationError as error:
        raise InputError(f"The description {path} is not valid. {_fault_sentence(error.errors()[0])}") from error
    source_input = description.input
    if isinstance(source_input, ImageDescription) and len(source_input.mean) != len(source_input.sd):
        raise InputError(
            f'The description {path} has {len(source_input.mean)} values of "mean" and {len(source_input.sd)} of '
            '"sd". Expected one of each for each channel.'
        )
    return description


def _fault_sentence(fault: ErrorDetails) -> str:
    """Return a sentence about the first fault that pydantic found."""
    field = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return f"The field {field} is missing."
    if fault["type"] == "extra_forbidden":
        return f"The field {field} is unknown."
    expectation = str(fault["msg"]).replace("Input should be", "Expected", 1)
    return f"The field {field} is {str(fault['input'])[:60]!r}. {expectation}."
