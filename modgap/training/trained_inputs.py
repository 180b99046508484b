"""Preparation of the samples of a trained model and the unit of its outputs, as the run's folder keeps them."""

import functools
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError
from modgap.storage.digests import FILES
from modgap.storage.json_records import Record
from modgap.targets.manifest import InputSpec
from modgap.targets.output import Output
from modgap.targets.sample_transforms import (
    Coordinates,
    Division,
    Flattening,
    OwnStandardization,
    SampleTransform,
    Standardization,
    read_transforms,
    transform_records,
    transforms_of,
)
from modgap.training.checkpoint import load_tensors, part_of, write_tensors
from modgap.training.run_folder import INPUTS_FILE, Run, reading_record
from modgap.training.training_data import InputTransform, TargetData

GROUP_COLUMN = "group_column"
"""Option of readers of tables, and key of the record, with the column of the groups."""
NAMED_COLUMNS = ("series_column", "time_column", GROUP_COLUMN)
"""Keys of the record with names of columns that are no values."""
MEAN, SD = "output.mean", "output.sd"
MOST_VALUES = 1 << 28
"""Largest number of values of a sample or an output: 1 GB."""
TARGET_STEP = "clip-targets"
"""The step that does not change samples."""
TRANSFORM_OF_STEP = {
    "coordinates": "coordinates",
    "crop": "crop",
    "fill": "fill",
    "flatten": "flatten",
    "pad": "pad",
    "scale": "divide",
    "standardize": "standardize",
    "standardize-by-input": "standardize",
    "zscore": "standardize-each",
}
"""Name of the transform that each step of a manifest applies to samples; other steps do more than that."""
TRANSFORM = "transform"
"""Name before the names of the transforms' arrays."""
WHITE = 255
"""Value of a white pixel of a picture; black is 0."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class TrainedInputs:
    """Conversion of samples to inputs of a trained model, and of its outputs to the target's unit.

    Attributes:
        transforms: The target's steps of preprocessing, with what was fitted on the training samples; None if they
            cannot be applied to single samples.
        inputs: Standardization, and division into pieces.
        output: Output of the model for a sample.
        scale: Mean and standard deviation that turn outputs into the target's unit, in the output's shape; None if
            they have it.
        classes: Names of the classes in the order of the outputs; empty for real values.
        columns: Columns of values, if the samples are rows of a table.
        background: Color that transparent images are composited on.
        series_column: Column that names the series of each row, if the samples are series in long format.
        time_column: Column that orders the rows of such a series. None keeps their order.
        group_column: Column of a table that names the group of each sample; None if there is none.
    """

    transforms: tuple[SampleTransform, ...] | None
    inputs: InputTransform
    output: Output
    scale: tuple[np.ndarray, np.ndarray] | None
    classes: tuple[str, ...]
    columns: tuple[str, ...] | None
    background: str
    series_column: str | None = None
    time_column: str | None = None
    group_column: str | None = None

    @property
    def fills_missing(self) -> bool:
        """True if a step replaces missing values."""
        return any(type(transform).__name__ == "Filling" for transform in self.transforms or ())

    def check_length(self, sample: Any) -> None:
        """Raise an InputError if a series is longer or shorter than those of the training, which had one length."""
        shape = self.inputs.shape
        has_one_length = self.inputs.spec.kind == "series" and not self.inputs.stretched and len(shape) == 2
        if has_one_length and np.ndim(sample) == 2 and np.shape(sample) != shape:
            raise InputError(f"It has shape {np.shape(sample)}. Expected {shape}, as in the training.")

    def prepared(self, sample: Any) -> Any:
        """Return a sample as the target's files have it after the target's steps.

        Raises:
            InputError: When it does not have the shape of the training samples.
        """
        for transform in self.transforms or ():
            sample = transform(sample)
        return sample

    def picture(self, image: np.ndarray) -> np.ndarray:
        """Return a picture with the channels and the range of values that the target's files have.

        A model of one channel gets the mean of the three colors, as a source of one channel does. Black and white
        become the lowest and the highest value of the manifest. The size is left to `pieces`, which resizes images.

        Args:
            image: Colors (3, H, W) from 0 to 255.
        """
        if self._file_channels == 1:
            image = image.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        low, high = self._file_range
        if (low, high) == (0, WHITE):
            return image
        return np.asarray((low + image.astype(np.float64) * ((high - low) / WHITE)).astype(np.float32))

    @functools.cached_property
    def _file_channels(self) -> int | None:
        """Number of channels of an image before the steps; None if the steps do not tell it."""
        transforms = self.transforms or ()
        if any(isinstance(transform, Flattening) for transform in transforms):
            return None
        n_coordinates = sum(isinstance(transform, Coordinates) for transform in transforms)
        return self.inputs.shape[0] - n_coordinates * (len(self.inputs.shape) - 1)

    @functools.cached_property
    def _file_range(self) -> tuple[float, float]:
        """Values that black and white have in the target's files; those of a picture if the record does not tell."""
        low, high = self.inputs.spec.low, self.inputs.spec.high
        transforms = self.transforms or ()
        if low is None or high is None or any(isinstance(t, Standardization | OwnStandardization) for t in transforms):
            log.warning(
                "The pixels of pictures are taken as values from 0 to %d, because the record of the run does not say "
                "which values black and white have in its training data. Pass arrays if they are others.",
                WHITE,
            )
            return 0, WHITE
        divisor = math.prod(transform.divisor for transform in transforms if isinstance(transform, Division))
        return low * divisor, high * divisor


def inputs_record(data: TargetData) -> dict[str, object]:
    """Return the plain values of the record of a run that describe its samples and classes."""
    manifest = data.target.manifest
    records, _ = _describe_transforms(data)
    classes = () if data.output.task == "regression" else data.table.classes or ()
    group_column = manifest.reader.options.get(GROUP_COLUMN)
    return {
        "input": manifest.input.model_dump(mode="json", exclude_defaults=True),
        "transforms": records,
        "classes": [str(name) for name in classes],
        "columns": None if data.table.columns is None else list(data.table.columns),
        "background": str(manifest.reader.options.get("background", "white")),
        "series_column": manifest.reader.options.get("series_column"),
        "time_column": manifest.reader.options.get("time_column"),
        "is_scaled": data.scale is not None,
    } | ({GROUP_COLUMN: group_column} if group_column else {})


def _describe_transforms(data: TargetData) -> tuple[list[dict[str, Any]] | None, dict[str, np.ndarray]]:
    """Return records and arrays of the steps; None if they cannot be applied to samples one by one."""
    names = [step.name for step in data.target.manifest.steps if step.name != TARGET_STEP]
    transforms = transforms_of(data.table.samples)
    # The reader may have transforms of its own before the steps. Windows are cut from several samples at once, and a
    # converted copy has the samples after all steps, without them.
    steps = transforms[len(transforms) - len(names) :] if len(names) <= len(transforms) else ()
    described = transform_records(steps)
    expected = [TRANSFORM_OF_STEP.get(name) for name in names]
    if described is None or [record["name"] for record in described[0]] != expected:
        return None, {}
    return described


def write_inputs(folder: Path, data: TargetData) -> None:
    """Write the arrays of the steps and of the scale of the outputs to a run's folder, if there are any.

    Raises:
        InputError: When the file cannot be written.
    """
    if arrays := _named_arrays(_describe_transforms(data)[1], data.scale):
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        write_tensors(folder / INPUTS_FILE, tensors)


def arrays_of(inputs: TrainedInputs) -> dict[str, np.ndarray]:
    """Return the arrays of the steps and of the scale of the outputs, by the names that `read_inputs` takes."""
    described = transform_records(inputs.transforms or ())
    return _named_arrays({} if described is None else described[1], inputs.scale)


def _named_arrays(
    transforms: Mapping[str, np.ndarray], scale: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, np.ndarray]:
    arrays = {f"{TRANSFORM}.{name}": array for name, array in transforms.items()}
    return arrays if scale is None else arrays | {MEAN: scale[0], SD: scale[1]}


def read_inputs(run: Run, tensors: Mapping[str, Tensor] | None = None) -> TrainedInputs:
    """Read what a run's model does to its samples.

    Args:
        run: The run.
        tensors: Arrays of the preparation by name; None for those in the run's folder.

    Raises:
        InputError: When the record or the file of arrays is missing, or was changed.
    """
    if tensors is None:
        path = run.folder / INPUTS_FILE
        is_named = INPUTS_FILE in (run.record.get(FILES) or ())
        tensors = load_tensors(run.checked(path)) if is_named or path.exists() else {}
    with reading_record(f"The record of the run in {run.folder} does not describe its samples"):
        return _parse(run.record["data"], run.record, tensors)


def _shape(sizes: Iterable[int]) -> tuple[int, ...]:
    """Return a shape, or raise if no sample or output has it."""
    shape = tuple(int(size) for size in sizes)
    if any(size < 1 for size in shape) or math.prod(shape) > MOST_VALUES:
        raise ValueError(f"the shape {shape} is not one of samples or outputs")
    return shape


def _parse(record: Record, run: Record, tensors: Mapping[str, Tensor]) -> TrainedInputs:
    output = Output(run["output"]["task"], _shape(run["output"]["shape"]))
    inputs = run["inputs"]
    transform = InputTransform(
        InputSpec.model_validate(record["input"]),
        _shape(inputs["shape"]),
        np.array(inputs["mean"], np.float64),
        np.array(inputs["sd"], np.float64),
        stretched=inputs.get("stretched", False) is True,
    )
    arrays = {name: tensor.numpy() for name, tensor in part_of(tensors, TRANSFORM).items()}
    transforms = None if record["transforms"] is None else read_transforms(record["transforms"], arrays)
    scale = (tensors[MEAN].numpy(), tensors[SD].numpy()) if MEAN in tensors else None
    if record["is_scaled"] != (scale is not None):
        raise ValueError(f"the scale of the outputs is missing in {INPUTS_FILE}")
    if scale is not None and not scale[0].shape == scale[1].shape == output.shape:
        raise ValueError("the scale of the outputs has another shape")
    if not transform.mean.shape == transform.sd.shape == transform.shape[:1]:
        raise ValueError("the means of the channels have another shape than the samples")
    classes = tuple(str(name) for name in record["classes"])
    if len(classes) != (0 if output.task == "regression" else output.shape[0]):
        raise ValueError(f"there are {len(classes)} names of classes for outputs of shape {output.shape}")
    columns = record["columns"]
    return TrainedInputs(
        transforms,
        transform,
        output,
        scale,
        classes,
        None if columns is None else tuple(str(name) for name in columns),
        str(record["background"]),
        *(None if (name := record.get(field)) is None else str(name) for field in NAMED_COLUMNS),
    )
