"""Modules of torch from the parts of an ONNX model."""

import warnings
from pathlib import Path
from typing import Any

import torch
from onnx2torch import convert
from torch import Tensor, nn

from modgap.errors import InputError, first_line
from modgap.sources.onnx.description import ImageDescription, OnnxDescription

__all__ = ["Embedder", "Head", "OnnxModel", "scale_layers", "tokens_of", "torch_module"]

SMALLEST_DEVIATION = 1e-6


def torch_module(part: Any, path: Path) -> nn.Module:
    """Convert a part of an ONNX model.

    Raises:
        InputError: When it has an operation that cannot be converted.
    """
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
    # The converter keeps all constants that are not in layers in one module, if there are any.
    if "initializers" in dict(converted.named_children()):
        _train_constants(converted.get_submodule("initializers"))
    return converted


def _train_constants(container: nn.Module) -> None:
    """Turn the constants with several values into parameters; single values belong to the operations."""
    for name, value in list(container.named_buffers(recurse=False)):
        if value.is_floating_point() and value.numel() > 1:
            delattr(container, name)
            container.register_parameter(name, nn.Parameter(value))


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
        self.eval()

    def forward(self, batch: Tensor) -> Tensor:
        """Return the encoder's input for images (B, C, H, W) or waveforms (B, window)."""
        value: Tensor = self.stem(self._model_form(batch))
        return value

    def _model_form(self, batch: Tensor) -> Tensor:
        if isinstance(self.input, ImageDescription):
            images = batch.flip(1) if self.input.channels == "bgr" else batch
            return images.permute(0, 2, 3, 1) if self.input.channels_last else images
        return batch.reshape(batch.shape[0], *(size if size == 1 else -1 for size in self.shape[1:]))


def _mean_of_positions(values: Tensor, axis: int) -> Tensor:
    """Return the mean over all axes but the first and this one: (B, C)."""
    moved = values.movedim(axis, -1)
    return moved.flatten(1, -2).mean(dim=1) if moved.ndim > 2 else moved


def tokens_of(features: Tensor) -> Tensor:
    """Return features (B, D), (B, T, D) or (B, D, H, W) as tokens (B, T, D)."""
    if features.ndim == 2:
        return features.unsqueeze(1)
    return features.flatten(2).transpose(1, 2) if features.ndim > 3 else features


class Head(nn.Module):
    """The model after its features, with the mean of the logits over all positions."""

    def __init__(self, part: nn.Module, class_axis: int, blank: int | None) -> None:
        """Run the part, average over all axes but those of samples and classes, and leave out the blank class."""
        super().__init__()
        self.part = part
        self.class_axis = class_axis
        self.blank = blank
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, C)."""
        logits = _mean_of_positions(self.part(features), self.class_axis)
        if self.blank is None:
            return logits
        return torch.cat([logits[:, : self.blank], logits[:, self.blank + 1 :]], dim=1)


class OnnxModel(nn.Module):
    """Embedder, encoder and head one after the other."""

    def __init__(self, embedder: nn.Module, encoder: nn.Module, head: nn.Module) -> None:
        """Run the three modules."""
        super().__init__()
        self.embedder = embedder
        self.encoder = encoder
        self.head = head
        self.eval()

    def forward(self, batch: Tensor) -> Tensor:
        """Return logits (B, C)."""
        logits: Tensor = self.head(self.encoder(self.embedder(batch)))
        return logits

    def features(self, batch: Tensor) -> Tensor:
        """Return pooled features (B, D)."""
        encoded: Tensor = self.encoder(self.embedder(batch))
        return tokens_of(encoded).mean(dim=1)


def scale_layers(network: nn.Module, batch: Tensor) -> None:
    """Scale the weights of each convolution and linear layer so that its output has the standard deviation 1.

    Networks whose normalization was merged into the weights would have outputs that grow from layer to layer.
    Reference: Mishkin and Matas, All you need is a good init (ICLR 2016).

    Args:
        network: Network whose layers have no bias that matters.
        batch: Inputs of noise.
    """

    def scale(layer: Any, _inputs: Any, output: Tensor) -> Tensor:
        deviation = output.std().clamp(min=SMALLEST_DEVIATION)
        layer.weight.div_(deviation)
        return output / deviation

    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(scale) for layer in layers]
    with torch.no_grad():
        network(batch)
    for hook in hooks:
        hook.remove()
