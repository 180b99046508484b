"""Export of a trained model: as one file of modgap's own, or as a program that runs without modgap."""

import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from modgap.errors import InputError, UsageError, first_line, unknown_name
from modgap.storage.atomic_files import atomic_path, write_text_atomically, writing
from modgap.storage.json_records import format_json, plain_values
from modgap.transfer.trained_model import TrainedModel, write_model_file

__all__ = ["FORMATS", "LOWEST_TORCH", "ExportedModel", "description_file", "export_model", "program_description"]

EXAMPLE_BATCH = 2
"""Number of samples that the model is traced with; 1 would be taken for a constant."""
MAX_BATCH = 2**31 - 1
"""Largest number of samples of a program; before torch 2.10, the exporter refuses some models without a limit."""
LOWEST_TORCH = {"torch-export": "2.7", "onnx": "2.10"}
"""First version of torch whose exporter writes the format for any number of samples and with every operator needed."""
METADATA_KEY = "modgap"
"""Key of the description in the metadata of an ONNX file; a torch program has it in the extra file `modgap.json`."""
AXES = {1: ["length"], 2: ["height", "width"], 3: ["depth", "height", "width"]}
"""Names of the axes after that of the channels, by their number."""

log = logging.getLogger("modgap")


def _step_name(step: Mapping[str, Any]) -> str:
    """Return the name of a step of preprocessing, and by what it standardizes if that is not the whole sample."""
    return f"{step['name']} by channel" if step.get("by_channel") else str(step["name"])


class ExportedModel(nn.Module):
    """A trained model with the standardization of its inputs and the unit of its outputs as parts of it.

    Its input are samples (n, C, ...) of the shape in training after the target's steps of preprocessing, float32. Its
    output are logits (n, K), or values in the target's unit.
    """

    input_mean: Tensor
    input_sd: Tensor
    output_mean: Tensor
    output_sd: Tensor

    def __init__(self, trained: TrainedModel) -> None:
        """Wrap a trained model on the CPU.

        Args:
            trained: The model.
        """
        super().__init__()
        inputs = trained.inputs.inputs
        ones = [1] * (len(inputs.shape) - 1)
        self.model = trained.network.model.cpu().float()
        self.register_buffer("input_mean", torch.from_numpy(inputs.mean).float().reshape(-1, *ones))
        self.register_buffer("input_sd", torch.from_numpy(inputs.sd).float().reshape(-1, *ones))
        mean, sd = trained.inputs.scale or (None, None)
        self.is_scaled = mean is not None
        if mean is not None and sd is not None:
            self.register_buffer("output_mean", torch.from_numpy(mean.copy()).float())
            self.register_buffer("output_sd", torch.from_numpy(sd.copy()).float())

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (n, ...) for samples (n, C, ...)."""
        outputs: Tensor = self.model((x - self.input_mean) / self.input_sd)
        return outputs * self.output_sd + self.output_mean if self.is_scaled else outputs


def program_description(trained: TrainedModel) -> dict[str, Any]:
    """Return the plain values that a user of a program has to know: its classes, and the values that it takes."""
    inputs = trained.inputs.inputs
    spec = inputs.spec
    is_image = spec.kind in ("image", "video")
    resize = "bilinear, antialiased" if is_image else None
    if inputs.stretched:
        resize = "scipy.signal.resample_poly with padtype='line', of each channel"
    names = spec.channels or (("gray",) if is_image else ())
    steps = trained.run.record["data"]["transforms"]
    record = trained.run.record
    description: dict[str, Any] = plain_values(
        {
            "run": {name: record[name] for name in ("method", "source", "target")},
            "task": trained.task,
            "classes": trained.classes,
            "output": "values in the target's unit" if trained.task == "regression" else "logits",
            "input": {
                "kind": spec.kind,
                "dtype": "float32",
                "axes": ["samples", "channels", *AXES[len(inputs.shape) - 1]],
                "shape": inputs.shape,
                "channels": names if len(names) == inputs.shape[0] else None,
                "low": spec.low if is_image else None,
                "high": spec.high if is_image else None,
                "unit": spec.unit,
                "resize": resize,
                "background": trained.inputs.background if is_image else None,
                "rate": spec.rate,
                "log_mel": spec.log_mel.model_dump(mode="json") if spec.kind == "audio" else None,
                "steps": None if steps is None else [_step_name(step) for step in steps],
                "mean": inputs.mean,
                "sd": inputs.sd,
                "standardized_by": "the program, which takes values that are not standardized",
            },
        }
    )
    return description


def description_file(path: Path, file_format: str) -> Path | None:
    """Return the JSON file beside a program that describes it; None for a format that modgap itself reads."""
    return path.with_suffix(".json") if file_format in LOWEST_TORCH else None


def export_model(trained: TrainedModel, path: Path, file_format: str) -> None:
    """Write a trained model to a file, complete or not at all, and the description of a program beside it.

    Args:
        trained: The model, which is moved to the CPU.
        path: File to write.
        file_format: One of FORMATS. `torch-export` and `onnx` take the samples after the target's steps, and one piece
            of each: the mean over several pieces, such as windows of a recording, is left to the caller.

    Raises:
        UsageError: When there is no such format, or a package is missing, or torch is too old for it.
        InputError: When the model cannot be expressed in the format, or the file cannot be written.
    """
    if file_format not in FORMATS:
        raise unknown_name("format", file_format, FORMATS)
    if file_format in LOWEST_TORCH:
        trained.network  # noqa: B018 - a baseline is no program
    lowest = LOWEST_TORCH.get(file_format, "0")
    if TorchVersion(torch.__version__) < lowest:
        raise UsageError(
            f"The format {file_format} needs torch {lowest} or later; torch {torch.__version__} is "
            "installed. Install a later one, or export the model as safetensors, which modgap reads again."
        )
    write = FORMATS[file_format]
    with writing(path), atomic_path(path) as temporary:
        write(trained, temporary)
        if description := description_file(path, file_format):
            write_text_atomically(description, format_json(program_description(trained)) + "\n")


def _write_torch_export(trained: TrainedModel, path: Path) -> None:
    # Written to memory first, because torch warns of files whose names do not end with .pt2.
    stream = io.BytesIO()
    description = format_json(program_description(trained))
    torch.export.save(_trace(trained), stream, extra_files={f"{METADATA_KEY}.json": description})
    path.write_bytes(stream.getvalue())


def _write_onnx(trained: TrainedModel, path: Path) -> None:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"The format onnx needs {' and '.join(missing)}. Install them with: pip install 'modgap[onnx]'"
        )
    program = _trace(trained)
    with warnings.catch_warnings():
        # The exporter warns of its own deprecations, which a user can do nothing about.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            converted = torch.onnx.export(program, dynamo=True, verbose=False, external_data=False)
        except Exception as error:  # the exporter raises many types
            raise _not_exportable(trained, "onnx", error) from error
    if converted is None:
        raise InputError("The exporter of torch returned no ONNX model.")
    converted.model.metadata_props[METADATA_KEY] = format_json(program_description(trained), indent=None)
    converted.save(str(path), external_data=False)


def _trace(trained: TrainedModel) -> torch.export.ExportedProgram:
    """Return the model as a program for any number of samples."""
    module = ExportedModel(trained).eval()
    example = torch.zeros(EXAMPLE_BATCH, *trained.inputs.inputs.shape)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(module, (example,), dynamic_shapes={"x": {0: batch}}, strict=False)
    except Exception as error:  # the exporter raises many types
        raise _not_exportable(trained, "torch-export", error) from error


def _not_exportable(trained: TrainedModel, file_format: str, error: Exception) -> InputError:
    return InputError(
        f"A model of the source {trained.run.record['source']} cannot be exported as {file_format}: "
        f"{first_line(error)}. Export it as safetensors, which modgap reads again."
    )


FORMATS: Mapping[str, Callable[[TrainedModel, Path], Any]] = {
    "safetensors": lambda trained, path: write_model_file(trained.run, trained.state(), trained.inputs, path),
    "torch-export": _write_torch_export,
    "onnx": _write_onnx,
}
"""Functions that write a model, by format."""
