"""Split a timm model into embedder, encoder and head."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import UsageError
from modgap.sources.source import Parts
from modgap.sources.splitting import EncoderEntry, StandIn, entry_of_output, replace_modules, verify_parts

__all__ = ["split_model"]

STEM_SHARE = 0.5
"""What has more of the parameters than this is no stem."""
SIBLINGS = {"conv_stem": ("bn1",), "conv1": ("bn1", "act1", "maxpool")}
"""What follows the first convolution under the model itself and belongs to the stem: norm, activation, pooling."""


def split_model(model: nn.Module, size: tuple[int, int]) -> Parts:
    """Split a timm model at its stem; embedder, encoder and head share the model's parameters.

    Of a transformer, tokens (B, T, D) pass from the embedder to the encoder: what its patch embedding
    gives, normalized where it does so. Of a convolutional model it is the stem's feature map.

    Args:
        model: The model.
        size: Height and width of its input in pixels.

    Raises:
        UsageError: When timm does not say where the stem is, or the parts do not give the model's outputs.
    """
    first = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv")
    if not isinstance(first, str) or not hasattr(model, "forward_head"):
        raise UsageError(f"timm does not name the stem of {type(model).__name__}; it cannot be split")
    convolution: Any = model.get_submodule(first)
    weight = convolution.weight
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, convolution.in_channels, *size, generator=generator).to(weight.device, weight.dtype)
    parts = verify_parts(lambda: _split(model, first, sample), model, sample, type(model).__name__)
    own, total = (sum(p.numel() for p in each.parameters()) for each in (parts.embedder, model))
    if own > STEM_SHARE * total:
        raise UsageError(f"{type(model).__name__} cannot be split: its first convolution is in no module of its own")
    return parts


def _split(model: Any, first: str, sample: Tensor) -> Parts:
    names = [first.split(".")[0]]
    names += [name for name in SIBLINGS.get(names[0], ()) if name in model._modules]
    stem = nn.Sequential(*(model.get_submodule(name) for name in names)).eval()
    with torch.no_grad():
        output = stem(sample)
    entry = entry_of_output(
        output, channels_last=_channels_last(model, first, output), as_tokens=names[0].startswith("patch_embed")
    )
    given = StandIn(stem[0])
    replaced: dict[str, nn.Module] = {name: nn.Identity() for name in (*names, *_classifiers(model))}
    encoder = replace_modules(model, replaced | {names[0]: given})
    return Parts(
        _Embedder(stem, entry), _Encoder(encoder, given, entry, sample.shape[1:]), _Head(model), _as_tokens(model)
    )


def _channels_last(model: Any, first: str, output: Any) -> bool:
    """Whether the stem gives maps (B, H, W, D)."""
    shape = (output[0] if isinstance(output, tuple) else output).shape
    width = model.get_submodule(first).out_channels
    if len(shape) == 4 and (shape[1] == width) != (shape[3] == width):
        return shape[3] == width
    own = getattr(model.get_submodule(first.split(".")[0]), "output_fmt", None)
    return str(getattr(own, "value", own)) == "NHWC"


def _classifiers(model: Any) -> list[str]:
    """Paths of the classifiers, which the encoder has no use for."""
    named = (model.pretrained_cfg or {}).get("classifier") or ()
    modules = dict(model.named_modules())
    return [path for path in ((named,) if isinstance(named, str) else named) if path in modules]


class _Embedder(nn.Module):
    def __init__(self, stem: nn.Module, entry: EncoderEntry):
        super().__init__()
        self.stem, self.entry = stem, entry
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.entry.outward(self.stem(images))


class _Encoder(nn.Module):
    """The model's features, with the tokens given in place of the stem's output."""

    def __init__(self, model: nn.Module, given: StandIn, entry: EncoderEntry, image: torch.Size):
        super().__init__()
        self.model, self.given, self.entry, self.image = model, given, entry, image
        self.eval()

    def forward(self, tokens: Tensor) -> Tensor:
        whole: Any = self.model
        # The model reads no more than the shape of its images, since their stem is stood in for.
        images = tokens.new_zeros(1).expand(len(tokens), *self.image)
        with self.given.returning(self.entry.inward(tokens)):
            return whole.forward_features(images)


class _Head(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        whole: Any = self.model
        return whole.forward_head(features)


def _as_tokens(model: Any) -> Callable[[Tensor], Tensor]:
    """A function from features (B, T, D), (B, H, W, D) or (B, D, H, W) to (B, T, D)."""
    channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"

    def tokens(features: Tensor) -> Tensor:
        if features.ndim == 3:
            return features
        return features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)

    return tokens
