"""Loading of ONNX models as sources: modules of torch from the parts of a graph."""

import functools
import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from onnx import GraphProto, ModelProto
from onnx2torch import convert
from torch import Tensor, nn

from modgap.errors import InputError, UsageError, first_line
from modgap.sources.inputs import ImageInput, Input, WaveformInput, without_class
from modgap.sources.source import Parts, Source
from modgap.sources.splitting import noise, to_tokens, verify_parts
from modgap_zoo.onnx.bound_inputs import bind_inputs, sample_input
from modgap_zoo.onnx.description import ImageDescription, OnnxDescription
from modgap_zoo.onnx.graph import (
    cut_graph,
    draw_weights,
    is_cut,
    logits_before_softmax,
    read_graph,
    weighted_nodes,
    with_shapes,
)
from modgap_zoo.onnx.operations import register_operations
from modgap_zoo.split_model import SplitModel

SMALLEST_DEVIATION = 1e-6


def torch_module(part: ModelProto, path: Path) -> nn.Module:
    """Convert a part of an ONNX model.

    Raises:
        InputError: When it has an operation that cannot be converted.
    """
    register_operations()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = convert(part)
    except NotImplementedError as error:
        raise InputError(
            f"onnx2torch cannot convert an operation of {path} ({first_line(error)}). Export the model without it, or "
            "write a plug-in for the source."
        ) from error
    except Exception as error:  # the converter raises many types of errors for damaged models
        raise InputError(f"onnx2torch cannot convert {path} ({first_line(error)}).") from error
    converted: nn.Module = module.eval()
    # The converter keeps all constants that are not in layers in one module, if there are any. Those with several
    # values become parameters; single values belong to the operations.
    container = dict(converted.named_children()).get("initializers", nn.Module())
    for name, value in list(container.named_buffers(recurse=False)):
        if value.is_floating_point() and value.numel() > 1:
            delattr(container, name)
            container.register_parameter(name, nn.Parameter(value))
    return converted


# A converted slice indexes with a list, of which torch 2.9 and later warn at each call.
warnings.filterwarnings("ignore", "Using a non-tuple sequence for multidimensional indexing", UserWarning)


class Embedder(nn.Module):
    """The model up to its first layer with weights, from batches of the source's input."""

    def __init__(self, description: OnnxDescription, shape: tuple[int, ...], stem: nn.Module) -> None:
        """Run the stem, which takes an input of this shape (B, ...)."""
        super().__init__()
        self.input = description.input
        self.shape = shape
        self.stem = stem

    def forward(self, batch: Tensor) -> Tensor:
        """Return the encoder's input for images (B, C, H, W) or waveforms (B, window)."""
        if isinstance(self.input, ImageDescription):
            batch = batch.flip(1) if self.input.channels == "bgr" else batch
            batch = batch.permute(0, 2, 3, 1) if self.input.channels_last else batch
        else:
            batch = batch.reshape(batch.shape[0], *(size if size == 1 else -1 for size in self.shape[1:]))
        value: Tensor = self.stem(batch)
        return value


class Head(nn.Module):
    """The model after its features, with the mean of the logits over all positions."""

    def __init__(self, part: nn.Module, class_axis: int, blank: int | None) -> None:
        """Run the part, average over all axes but those of samples and classes, and leave out the blank class."""
        super().__init__()
        self.part = part
        self.class_axis = class_axis
        self.blank = blank

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, C)."""
        values: Tensor = self.part(features).movedim(self.class_axis, -1)
        logits = values.flatten(1, -2).mean(dim=1) if values.ndim > 2 else values
        return logits if self.blank is None else without_class(logits, self.blank)


def scale_layers(network: nn.Module, batch: Tensor) -> None:
    """Scale the weights of each convolution and linear layer so that its output has the standard deviation 1.

    Networks whose normalization was merged into the weights would have outputs that grow from layer to layer.
    Reference: Mishkin and Matas, All you need is a good init (ICLR 2016).

    Args:
        network: Network whose layers have no bias that matters.
        batch: Inputs of noise.
    """

    def scale(layer: Any, _inputs: object, output: Tensor) -> Tensor:
        deviation = output.std().clamp(min=SMALLEST_DEVIATION)
        layer.weight.div_(deviation)
        return output / deviation

    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(scale) for layer in layers]
    with torch.no_grad():
        network(batch)
    for hook in hooks:
        hook.remove()


NAMES_KEY = "character"
"""Key of a model's own record of its characters, one a line, without the blank and the space after them."""


def load_onnx(name: str, path: Path, description: OnnxDescription, control_seed: int | None) -> Source:
    """Load an ONNX model as embedder, encoder and head.

    The parts are cut at two tensors that everything passes through: after the first layer with weights, and at the
    features, before the last one.

    Args:
        name: Name of the source, for errors.
        path: File of the model.
        description: What it takes and returns.
        control_seed: Seed of random weights; None for the weights of the file.

    Raises:
        InputError: When the file cannot be read or converted, or does not fit its description.
        UsageError: When the model cannot be split.
    """
    original = read_graph(path)
    model_input = sample_input(original, description.others, path)
    source_input: Input
    if isinstance(description.input, ImageDescription):
        image = description.input
        source_input = ImageInput(image.size, image.mean, image.sd, image.interpolation)
        channels = (len(image.mean),)
        input_shape: tuple[int, ...] = (*image.size, *channels) if image.channels_last else (*channels, *image.size)
    else:
        sound = description.input
        source_input = WaveformInput(sound.rate, sound.window, standardize=sound.standardize)
        dims = [dim.dim_value for dim in model_input.type.tensor_type.shape.dim[1:]]
        input_shape = tuple(size if size == 1 else sound.window for size in dims)
    bind_inputs(original, input_shape, description.others, path)
    model = with_shapes(original, input_shape, path)
    if control_seed is not None:
        draw_weights(model, control_seed)
    output = _output(model.graph, description, path)
    features, entry = _cuts(model.graph, description, output, name)
    stem = torch_module(cut_graph(model, None, entry), path)
    encoder = torch_module(cut_graph(model, entry, features), path)
    last = torch_module(cut_graph(model, features, output), path) if features != output else nn.Identity()
    head = Head(last, description.class_axis, description.blank)
    network = SplitModel(Embedder(description, (0, *input_shape), stem), encoder, head).eval()
    logits = _try(network, description, path)
    if control_seed is not None:
        scale_layers(network, _noise(description))
    parts = Parts(network.embedder, network.encoder, network.head, to_tokens)
    names = _class_names(original, description, int(logits.shape[1]), path)

    split = functools.partial(verify_parts, lambda: parts, network, _noise(description), name)

    def pooled(batch: Tensor) -> Tensor:
        return to_tokens(network.encoder(network.embedder(batch))).mean(dim=1)

    return Source(network, source_input, names, False, split, pooled)


def _output(graph: GraphProto, description: OnnxDescription, path: Path) -> str:
    """Return the name of the tensor of logits, or of the features of a bare encoder."""
    tensors = {name for node in graph.node for name in node.output}
    for field in ("output", "features"):
        name = getattr(description, field)
        if name is not None and name not in tensors:
            raise InputError(f'{path} has no tensor {name!r}, which its description names as "{field}".')
    output = description.output or graph.output[0].name
    return logits_before_softmax(graph, output) if description.has_head else output


def _cuts(graph: GraphProto, description: OnnxDescription, output: str, name: str) -> tuple[str, str]:
    """Return the tensor of features and the tensor between embedder and encoder."""
    layers = weighted_nodes(graph, output)
    if len(layers) < 2:
        raise UsageError(f"Source {name} has {len(layers)} layers with weights. Expected two or more.")
    features = description.features or (layers[-1].input[0] if description.has_head else output)
    order = {tensor: number for number, tensor in enumerate(itertools.chain(*(node.output for node in graph.node)))}
    first = order[layers[0].output[0]]
    entries = [
        tensor
        for tensor, number in order.items()
        if first <= number < order.get(features, math.inf) and is_cut(graph, tensor, features)
    ]
    if not is_cut(graph, features, output) and features != output:
        raise UsageError(
            f"Source {name} cannot be split at the tensor {features!r}, which not everything passes through. Name "
            'another one as "features" in its description.'
        )
    if not entries:
        raise UsageError(f"Source {name} cannot be split: no tensor after its first layer has everything pass through.")
    return features, entries[0]


def _noise(description: OnnxDescription) -> Tensor:
    """Return a batch of two inputs of noise."""
    source_input = description.input
    if isinstance(source_input, ImageDescription):
        return noise(2, len(source_input.mean), *source_input.size)
    return noise(2, source_input.window)


def _try(network: nn.Module, description: OnnxDescription, path: Path) -> Tensor:
    """Return the logits (2, C) of noise."""
    try:
        with torch.no_grad():
            logits: Tensor = network(_noise(description))
    except Exception as error:  # the converted operations raise many types of errors
        raise InputError(f"{path} fails on a batch of two inputs ({first_line(error)}).") from error
    if logits.ndim != 2 or len(logits) != 2:
        raise InputError(
            f"{path} gives an output of shape {tuple(logits.shape)} for two inputs. Expected one row for each; see "
            '"class_axis" in the documentation of the description.'
        )
    return logits


def _class_names(model: ModelProto, description: OnnxDescription, n_classes: int, path: Path) -> tuple[str, ...]:
    """Return the names of the classes, or their numbers; none for a bare encoder."""
    if not description.has_head:
        return ()
    if description.classes and len(description.classes) != n_classes:
        raise InputError(
            f"The description of {path} names {len(description.classes)} classes, but the model has {n_classes}."
        )
    recorded = {entry.key: entry.value for entry in model.metadata_props}.get(NAMES_KEY)
    characters = (*recorded.splitlines(), "(space)") if recorded else ()
    names = description.classes or characters
    return names if len(names) == n_classes else tuple(str(c) for c in range(n_classes))
