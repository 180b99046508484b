"""Export of a trained model: as one file of modgap's own, or as a program that runs without modgap."""

import importlib.util
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from modgap.baselines.baseline import FittedBaseline
from modgap.errors import InputError, UsageError, first_line, unknown_name
from modgap.sources import TextInput
from modgap.storage.atomic_files import atomic_path, write_text_atomically, writing
from modgap.storage.json_records import format_json, plain_values
from modgap.training.linear_probe import SideBySide, probe_networks
from modgap.training.native_inputs import NativeTransform, text_input
from modgap.training.program_inputs import TOKEN_ARRAYS, input_shape, preparation
from modgap.training.trained_model import TrainedModel, write_model_file
from modgap.training.training_data import InputTransform

EXAMPLE_BATCH = 2
"""Number of samples that the model is traced with; 1 would be taken for a constant."""
EXAMPLE_TOKENS = 7
"""Number of tokens of each text that the model is traced with."""
TOKENIZER_SUFFIX = ".tokenizer.json"
"""End of the name of the file with the tokenizer beside a program for texts."""
MAX_BATCH = 2**31 - 1
"""Largest number of samples of a program; before torch 2.10, the exporter refuses some models without a limit."""
LOWEST_TORCH = {"torch-export": "2.7", "onnx": "2.10"}
"""First version of torch whose exporter writes the format for any number of samples and with every operator needed."""
FORMATS = ("safetensors", *LOWEST_TORCH)
METADATA_KEY = "modgap"
"""Key of the description in the metadata of an ONNX file; a torch program has it in the extra file `modgap.json`."""
AXES = {1: ["length"], 2: ["height", "width"], 3: ["depth", "height", "width"]}
"""Names of the axes after that of the channels, by their number."""

log = logging.getLogger("modgap")


class ExportedModel(nn.Module):
    """A trained model with the preparation of its inputs and the unit of its outputs as parts of it.

    It is on the CPU in single precision. Its inputs are samples (n, C, ...) after the target's steps of preprocessing,
    float32; or the numbers and the mask of the tokens of texts (n, T), int64. Its output are logits (n, K), or values
    in the target's unit.

    Attributes:
        trained: The trained model.
        transform: Transform of its samples to pieces.
    """

    output_mean: Tensor
    output_sd: Tensor

    def __init__(self, trained: TrainedModel) -> None:
        """Wrap the networks of a trained model.

        Args:
            trained: The model, which is moved to the CPU.

        Raises:
            UsageError: When the model is a baseline, or its sources take different inputs.
        """
        super().__init__()
        fitted = trained.predictor
        networks: list[tuple[InputTransform, nn.Module]]
        if isinstance(fitted, FittedBaseline) and isinstance(fitted.compute, SideBySide):
            networks = list(probe_networks(fitted, fitted.compute.sources, trained.inputs.inputs))
        else:
            networks = [(trained.network.transform, trained.network.model)]
        transforms = [transform for transform, _ in networks]
        if len(set(map(input_shape, transforms))) > 1 or (len(transforms) > 1 and text_input(transforms[0])):
            raise UsageError(
                "The sources of this linear probe take different inputs, so they are no single program. Fit and export "
                "a probe of one of them, or export this one as safetensors, which modgap reads again."
            )
        self.trained = trained
        self.transform = transforms[0]
        # The outputs of the networks are added.
        self.blocks = nn.ModuleList(
            nn.Sequential(preparation(transform), network.cpu().float().eval()) for transform, network in networks
        )
        mean, sd = trained.inputs.scale or (None, None)
        self.is_scaled = mean is not None
        if mean is not None and sd is not None:
            self.register_buffer("output_mean", torch.from_numpy(mean.copy()).float())
            self.register_buffer("output_sd", torch.from_numpy(sd.copy()).float())

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the outputs (n, ...) for the inputs of n samples."""
        outputs: Tensor = self.blocks[0](inputs)
        for block in self.blocks[1:]:
            outputs = outputs + block(inputs)
        return outputs * self.output_sd + self.output_mean if self.is_scaled else outputs


def program_description(model: ExportedModel) -> dict[str, object]:
    """Return the plain values that a user of a program has to know: its classes, and the values that it takes."""
    trained, texts = model.trained, text_input(model.transform)
    record = trained.run.record
    steps = record["data"]["transforms"]
    if texts is None:
        described = _sample_record(trained, model.transform)
    else:
        described = {
            "kind": "text",
            "dtype": "int64",
            "axes": ["samples", "tokens"],
            "arrays": TOKEN_ARRAYS,
            "max_tokens": texts.max_tokens,
            "tokenizer": "the file beside the program whose name ends with .tokenizer.json, for the package tokenizers",
        }
    names = [f"{step['name']} by channel" if step.get("by_channel") else step["name"] for step in steps or ()]
    description: dict[str, object] = plain_values(
        {
            "run": {name: record[name] for name in ("method", "source", "target")},
            "task": trained.task,
            "classes": trained.classes,
            "output": "values in the target's unit" if trained.task == "regression" else "logits",
            "input": {**described, "steps": None if steps is None else names},
        }
    )
    return description


def _sample_record(trained: TrainedModel, transform: InputTransform) -> dict[str, object]:
    """Return the entries of the description that tell which arrays a program takes."""
    spec, shape = transform.spec, input_shape(transform)
    is_image = spec.kind in ("image", "video")
    representation, resize = None, "bilinear, antialiased" if is_image else None
    if isinstance(transform, NativeTransform):
        is_converted = shape != transform.shape
        representation = transform.embedding.representation if is_converted else None
        resize = str(transform.source_input.to_dict().get("resize")) if is_image or is_converted else None
    elif transform.stretched:
        resize = "scipy.signal.resample_poly with padtype='line', of each channel"
    names = spec.channels or (("gray",) if is_image else ())
    return {
        "kind": spec.kind,
        "dtype": "float32",
        "axes": ["samples", *(["length"] if len(shape) == 1 else ["channels", *AXES[len(shape) - 1]])],
        "shape": shape,
        "channels": names if len(names) == shape[0] else None,
        "low": spec.low if is_image else None,
        "high": spec.high if is_image else None,
        "unit": spec.unit,
        "representation": representation,
        "resize": resize,
        "background": trained.inputs.background if is_image else None,
        "rate": spec.rate,
        "log_mel": spec.log_mel.model_dump(mode="json") if spec.kind == "audio" else None,
        "mean": transform.mean,
        "sd": transform.sd,
        "standardized_by": "the program, which takes values that are not standardized",
    }


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
    if file_format not in LOWEST_TORCH:
        with writing(path), atomic_path(path) as temporary:
            write_model_file(trained.run, trained.state(), trained.inputs, temporary)
        return
    model, lowest = ExportedModel(trained), LOWEST_TORCH[file_format]
    if TorchVersion(torch.__version__) < lowest:
        raise UsageError(
            f"The format {file_format} needs torch {lowest} or later; torch {torch.__version__} is "
            "installed. Install a later one, or export the model as safetensors, which modgap reads again."
        )
    write = _write_onnx if file_format == "onnx" else _write_torch_export
    with writing(path), atomic_path(path) as temporary:
        write(model.eval(), temporary)
        write_text_atomically(path.with_suffix(".json"), format_json(program_description(model)) + "\n")
        if texts := text_input(model.transform):
            write_text_atomically(path.with_suffix(TOKENIZER_SUFFIX), _tokenizer(texts))


def _tokenizer(source_input: TextInput) -> str:
    """Return the tokenizer of a source as the package tokenizers reads it, which cuts and pads as the source does."""
    from tokenizers import Tokenizer

    tokenizer = source_input.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UsageError(
            "The source's tokenizer is written in Python, so a program cannot come with it. Export the model as "
            "safetensors, which modgap reads again."
        )
    copied = Tokenizer.from_str(backend.to_str())
    copied.enable_truncation(source_input.max_tokens)
    copied.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    return str(copied.to_str(pretty=True))


def _write_torch_export(model: ExportedModel, path: Path) -> None:
    # Written to memory first, because torch warns of files whose names do not end with .pt2.
    stream = io.BytesIO()
    description = format_json(program_description(model))
    torch.export.save(_trace(model), stream, extra_files={f"{METADATA_KEY}.json": description})
    path.write_bytes(stream.getvalue())


def _write_onnx(model: ExportedModel, path: Path) -> None:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"The format onnx needs {' and '.join(missing)}. Install them with: pip install 'modgap[onnx]'"
        )
    program = _trace(model)
    names = ("x",) if text_input(model.transform) is None else TOKEN_ARRAYS
    with warnings.catch_warnings():
        # The exporter warns of its own deprecations, which a user can do nothing about.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            converted = torch.onnx.export(
                program, dynamo=True, verbose=False, external_data=False, input_names=list(names)
            )
        except Exception as error:  # the exporter raises many types
            raise _not_exportable(model, "onnx", error) from error
    if converted is None:
        raise InputError("The exporter of torch returned no ONNX model.")
    converted.model.metadata_props[METADATA_KEY] = format_json(program_description(model), indent=None)
    converted.save(str(path), external_data=False)


def _trace(model: ExportedModel) -> torch.export.ExportedProgram:
    """Return the model as a program for any number of samples, and any number of tokens."""
    example = [torch.zeros(EXAMPLE_BATCH, *input_shape(model.transform))]
    axes = {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}
    if texts := text_input(model.transform):
        example = [torch.ones(EXAMPLE_BATCH, EXAMPLE_TOKENS, dtype=torch.int64) for _ in TOKEN_ARRAYS]
        axes[1] = torch.export.Dim("tokens", min=2, max=texts.max_tokens)
    dynamic = {"inputs": tuple(axes for _ in example)}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(model, tuple(example), dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # the exporter raises many types
        raise _not_exportable(model, "torch-export", error) from error


def _not_exportable(model: ExportedModel, file_format: str, error: Exception) -> InputError:
    return InputError(
        f"A model of the source {model.trained.run.record['source']} cannot be exported as {file_format}: "
        f"{first_line(error)}. Export it as safetensors, which modgap reads again."
    )
