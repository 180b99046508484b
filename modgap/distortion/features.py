"""Features of a surrogate through the source's own embedder and an encoder, layer by layer, kept in the cache."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from modgap import __version__
from modgap.distortion.encoders import Encoder
from modgap.errors import unknown_name
from modgap.forward.batched_inference import choose_device, output_batches
from modgap.forward.sample_request import SampleRequest
from modgap.progress import Progress
from modgap.sources import Parts, Source
from modgap.storage.cache import cache_key, entry_path
from modgap.storage.row_store import RowWriter, read_valid_entry
from modgap.transfer.surrogate import Surrogate, SurrogateBatch

__all__ = ["OUTPUT", "FeatureRequest", "block_names", "features", "layer_names"]

OUTPUT = "output"
"""Name of the encoder's own output among the layers."""
BLOCKS = ("Block", "Layer", "Bottleneck", "Residual", "SeparableConv")
"""In the names of classes that libraries stack encoders from."""


@dataclass(frozen=True)
class FeatureRequest:
    """Which features are wanted, and how to compute them.

    Attributes:
        samples: Which samples of a surrogate, at what size, on what device. Its `representation` does not apply.
        layers: Modules of the encoder by name, wildcards allowed; `output` for its output.
        normalized: Whether each sample's features are divided by their Euclidean norm.
    """

    samples: SampleRequest = field(default_factory=SampleRequest)
    layers: tuple[str, ...] = (OUTPUT,)
    normalized: bool = False

    def __post_init__(self) -> None:
        """Raise if a field of the samples is set that does not apply."""
        self.samples.refuse_changes("representation", purpose="features of surrogates")


@dataclass(frozen=True)
class _SurrogateInput:
    """The surrogate's own way of making batches, in the place of a source's input."""

    surrogate: Surrogate
    kind: Literal["image"] = "image"

    def batch(self, pieces: Sequence[Any], device: torch.device) -> Any:
        return self.surrogate.collate(pieces, device)

    def to_dict(self) -> dict:
        return {}


class _Layers(nn.Module):
    """A batch of a surrogate to pooled features of several layers (B, the sum of their widths)."""

    def __init__(self, parts: Parts, encoder: nn.Module, layers: Sequence[str], channels_first: bool):
        super().__init__()
        self.embedder, self.encoder, self.layers = parts.embedder, encoder, tuple(layers)
        self._tokens, self._as_tokens = parts.tokens, partial(_tokens_of, channels_first=channels_first)
        self.widths: tuple[int, ...] = ()

    def forward(self, batch: SurrogateBatch) -> Tensor:
        with _outputs(self.encoder, [name for name in self.layers if name != OUTPUT]) as seen:
            seen[OUTPUT] = self._tokens(self.encoder(self.embedder(batch.inputs)))
        found = [batch.pool(seen[n] if n == OUTPUT else self._as_tokens(seen[n])) for n in self.layers]
        self.widths = tuple(each.shape[1] for each in found)
        return torch.cat(found, dim=1)


@contextmanager
def _outputs(encoder: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What these modules give during the context."""
    seen: dict[str, Any] = {}

    def keep(name: str, module: nn.Module, given: Any, output: Any) -> None:
        seen[name] = output

    with ExitStack() as stack:
        for name in names:
            handle = encoder.get_submodule(name).register_forward_hook(partial(keep, name))
            stack.callback(handle.remove)
        yield seen


def _tokens_of(output: Any, *, channels_first: bool) -> Tensor:
    """Tokens (B, T, D) of what a module gives: tokens, a feature map, one vector, or a tuple that begins with one."""
    if isinstance(output, Mapping):
        output = next(iter(output.values()))
    while isinstance(output, tuple | list):
        output = output[0]
    if output.ndim == 4:
        return output.flatten(2).transpose(1, 2) if channels_first else output.flatten(1, 2)
    return output[:, None] if output.ndim == 2 else output


def block_names(encoder: nn.Module) -> list[str]:
    """The blocks that an encoder is stacked from, in their order: those that hold no other blocks.

    Example:
        >>> block_names(nn.Sequential(nn.TransformerEncoderLayer(4, 2), nn.TransformerEncoderLayer(4, 2)))
        ['0', '1']
    """
    stacked = {
        f"{path}.{name}" if path else name
        for path, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        for name, child in module.named_children()
        if any(word in type(child).__name__ for word in BLOCKS) and "Norm" not in type(child).__name__
    }
    inner = [name for name in stacked if not any(other.startswith(f"{name}.") for other in stacked)]
    order = {name: number for number, (name, _) in enumerate(encoder.named_modules())}
    return sorted(inner, key=order.__getitem__)


def layer_names(encoder: nn.Module, asked: Sequence[str]) -> list[str]:
    """The layers that these names and wildcards mean, in the encoder's order, its output last.

    Args:
        encoder: The encoder.
        asked: Names of modules, patterns such as `blocks.*.mlp`, `blocks` for all blocks, or `output`.

    Raises:
        UsageError: When one means none, with the nearest names.
    """
    known = [name for name, _ in encoder.named_modules() if name]
    wanted: set[str] = set()
    for name in asked:
        matches = block_names(encoder) if name == "blocks" else fnmatch.filter([*known, OUTPUT], name)
        if not matches:
            raise unknown_name("layer of the encoder", name, [*known, OUTPUT, "blocks"])
        wanted.update(matches)
    return [name for name in [*known, OUTPUT] if name in wanted]


def features(
    source: Source,
    fingerprint: Mapping[str, Any],
    encoder: Encoder,
    surrogate: Surrogate,
    request: FeatureRequest | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Features (n, D) float32 of each layer asked for, in one pass; from the cache where they are.

    The mean over a sample's tokens or places, of a labeled word its first token's.

    Args:
        source: The source that the encoder came from, which brings embedder and preprocessing.
        fingerprint: What decides the source's weights.
        encoder: The encoder.
        surrogate: The labeled samples.
        request: Layers, precision, device; None for the output alone.
        progress: Called with `features` and the share of the work done since the last call.

    Raises:
        UsageError: When a layer is not known.
        InputError: When the weights do not fit.
    """
    request = request or FeatureRequest()
    parts = source.split()
    names = layer_names(parts.encoder, request.layers)
    wanted = {
        "source": dict(fingerprint), **encoder.fingerprint(), "surrogate": surrogate.provenance, "layers": names,
        "input_size": request.samples.input_size, "dtype": request.samples.dtype, "modgap": __version__,
    }  # fmt: skip
    path = entry_path("features", cache_key(wanted))
    entry = read_valid_entry(path)
    if entry is None:
        rows, widths = _computed(source, parts, encoder, surrogate, names, request, progress)
        _kept(rows, widths, path, wanted)
    else:
        rows, widths = entry.arrays["features"], entry.metadata["widths"]
    divided = np.split(rows, np.cumsum(widths)[:-1], axis=1)
    scale = _unit if request.normalized else np.asarray
    return {name: scale(each) for name, each in zip(names, divided, strict=True)}


def _computed(
    source: Source, parts: Parts, encoder: Encoder, surrogate: Surrogate, names: list[str], request: FeatureRequest,
    progress: Progress | None,
) -> tuple[np.ndarray, list[int]]:  # fmt: skip
    model = _Layers(parts, encoder.load(parts), names, source.convolutional).eval()
    bare: Any = replace(source, model=model, input=_SurrogateInput(surrogate))
    as_pieces: Any = surrogate
    found = []
    for batch in output_batches(
        bare, surrogate.samples, np.arange(len(surrogate)), as_pieces, device=choose_device(request.samples.device),
        batch_size=request.samples.batch_size, dtype=request.samples.dtype,
    ):  # fmt: skip
        found.append(batch)
        if progress:
            progress("features", len(batch) / len(surrogate))
    return np.concatenate(found), list(model.widths)


def _kept(rows: np.ndarray, widths: list[int], path: Any, wanted: Mapping[str, Any]) -> None:
    with RowWriter(path, {}, "features", rows.shape, {"widths": widths, "provenance": dict(wanted)}) as sink:
        sink.append(rows)
        sink.finish()


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
