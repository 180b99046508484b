"""Splitting a timm model into embedder, encoder and head."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import UsageError
from modgap.sources.source import Parts
from modgap.sources.splitting import (
    EncoderEntry,
    Pooled,
    StandIn,
    entry_of_output,
    noise,
    replace_modules,
    to_tokens,
    verify_parts,
)

LARGEST_STEM = 0.5
"""Largest fraction of the model's parameters that a stem can have."""
SIBLINGS = {"conv_stem": ("bn1",), "conv1": ("bn1", "act1", "maxpool")}
"""Modules after the first convolution that also belong to the stem: normalization, activation, pooling."""


def split_model(model: nn.Module, size: tuple[int, int]) -> Parts:
    """Split a timm model at its stem; embedder, encoder and head share the model's parameters.

    The encoder of a transformer takes tokens (B, T, D), which are the output of its patch embedding, normalized if the
    patch embedding does so. The encoder of a convolutional model takes the stem's feature map.

    Args:
        model: The model.
        size: Height and width of its input in pixels.

    Raises:
        UsageError: When timm does not name the stem, or the parts do not give the model's outputs.
    """
    first = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv")
    if not isinstance(first, str) or not hasattr(model, "forward_head"):
        raise UsageError(f"Model {type(model).__name__} cannot be split: timm does not name its stem.")
    convolution: Any = model.get_submodule(first)
    weight = convolution.weight
    sample = noise(1, convolution.in_channels, *size).to(weight.device, weight.dtype)
    parts = verify_parts(lambda: _split(model, first, sample), model, sample, type(model).__name__)
    if _parameter_count(parts.embedder) > LARGEST_STEM * _parameter_count(model):
        name = type(model).__name__
        raise UsageError(f"Model {name} cannot be split: its first convolution is in no module of its own.")
    return parts


def _parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _split(model: Any, first: str, sample: Tensor) -> Parts:
    names = [first.split(".")[0]]
    names += [name for name in SIBLINGS.get(names[0], ()) if name in model._modules]
    stem = nn.Sequential(*(model.get_submodule(name) for name in names)).eval()
    with torch.no_grad():
        output = stem(sample)
    entry = entry_of_output(
        output, channels_last=_channels_last(model, first, output), as_tokens=names[0].startswith("patch_embed")
    )
    stand_in = StandIn(stem[0])
    # The encoder does not use the classifiers.
    classifiers = (model.pretrained_cfg or {}).get("classifier") or ()
    modules = dict(model.named_modules())
    unused = [one for one in ((classifiers,) if isinstance(classifiers, str) else classifiers) if one in modules]
    replaced: dict[str, nn.Module] = {name: nn.Identity() for name in (*names, *unused)}
    encoder = replace_modules(model, replaced | {names[0]: stand_in})
    return Parts(
        _Embedder(stem, entry),
        _Encoder(encoder, stand_in, entry, sample.shape[1:]),
        Pooled(model.forward_head, model),
        functools.partial(to_tokens, channels_last=getattr(model, "output_fmt", "NCHW") == "NHWC"),
    )


def _channels_last(model: Any, first: str, output: Any) -> bool:
    """Return whether the stem's output is a map (B, H, W, D)."""
    shape = (output[0] if isinstance(output, tuple) else output).shape
    width = model.get_submodule(first).out_channels
    if len(shape) == 4 and (shape[1] == width) != (shape[3] == width):
        return bool(shape[3] == width)
    layout = getattr(model.get_submodule(first.split(".")[0]), "output_fmt", None)
    return str(getattr(layout, "value", layout)) == "NHWC"


class _Embedder(nn.Module):
    def __init__(self, stem: nn.Module, entry: EncoderEntry) -> None:
        super().__init__()
        self.stem = stem
        self.entry = entry

    def forward(self, images: Tensor) -> Tensor:
        return self.entry.outward(self.stem(images))


class _Encoder(nn.Module):
    """The model up to its features, which takes tokens instead of images."""

    def __init__(self, model: nn.Module, stem: StandIn, entry: EncoderEntry, image_shape: torch.Size) -> None:
        super().__init__()
        self.model = model
        self.stem = stem
        self.entry = entry
        self.image_shape = image_shape

    def forward(self, tokens: Tensor) -> Tensor:
        model: Any = self.model
        # The model reads only the shape of its images, because its stem is replaced.
        images = tokens.new_zeros(1).expand(tokens.shape[0], *self.image_shape)
        with self.stem.returning(self.entry.inward(tokens)):
            features: Tensor = model.forward_features(images)
        return features
