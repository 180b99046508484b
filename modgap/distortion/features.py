"""Features of a surrogate from the embedder of its source and an encoder, for several layers, stored in the cache."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from modgap.distortion.encoders import Encoder
from modgap.errors import unknown_name
from modgap.forward.batched_inference import choose_device, output_batches
from modgap.forward.sample_request import SampleRequest
from modgap.progress import Progress
from modgap.sources import Parts, Source
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import cache_key, entry_path
from modgap.storage.row_store import RowWriter, read_valid_entry
from modgap.transfer.surrogate import Surrogate, SurrogateBatch

__all__ = ["OUTPUT", "FeatureRequest", "block_names", "compute_features", "layer_names"]

OUTPUT = "output"
"""Layer name of the output of the encoder."""
BLOCKS = ("Block", "Layer", "Bottleneck", "Residual", "SeparableConv")
"""Parts of the names of the classes from which libraries build encoders."""


@dataclass(frozen=True)
class FeatureRequest:
    """Layers whose features are computed, and how.

    Attributes:
        samples: Samples of a surrogate, input size and device. Its `representation` does not apply.
        layers: Names of modules of the encoder, wildcards allowed; `output` for its output.
        normalized: Whether the features of each sample are divided by their Euclidean norm.
    """

    samples: SampleRequest = field(default_factory=SampleRequest)
    layers: tuple[str, ...] = (OUTPUT,)
    normalized: bool = False

    def __post_init__(self) -> None:
        """Raise if a field of the samples is set that does not apply."""
        self.samples.refuse_changes("representation", purpose="features of surrogates")


@dataclass(frozen=True)
class _SurrogateInput:
    """The input of a source replaced by the way in which a surrogate makes batches."""

    surrogate: Surrogate
    kind: Literal["image"] = "image"

    def batch(self, pieces: Sequence[Any], device: torch.device) -> Any:
        return self.surrogate.collate(pieces, device)

    def to_dict(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class _SurrogateEmbedding:
    """The rule of a surrogate by which samples become pieces of the source's input."""

    surrogate: Surrogate

    def pieces(self, sample: Any) -> list[Any]:
        return self.surrogate.to_pieces(sample)


class _PooledLayers(nn.Module):
    """Module from a batch of a surrogate to the pooled features of several layers, shape (B, sum of the widths)."""

    def __init__(self, parts: Parts, encoder: nn.Module, layers: Sequence[str], channels_first: bool) -> None:
        super().__init__()
        self.embedder = parts.embedder
        self.encoder = encoder
        self.layers = tuple(layers)
        self.widths: tuple[int, ...] = ()
        self._output_tokens = parts.tokens
        self._layer_tokens = partial(_to_tokens, channels_first=channels_first)

    def forward(self, batch: SurrogateBatch) -> Tensor:
        with _record_outputs(self.encoder, [name for name in self.layers if name != OUTPUT]) as outputs:
            output = self.encoder(self.embedder(batch.inputs))
        tokens = {name: self._layer_tokens(value) for name, value in outputs.items()}
        tokens[OUTPUT] = self._output_tokens(output)
        pooled = [batch.pool(tokens[name]) for name in self.layers]
        self.widths = tuple(features.shape[1] for features in pooled)
        return torch.cat(pooled, dim=1)


@contextmanager
def _record_outputs(encoder: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a dictionary that receives the outputs of these modules during the context."""
    outputs: dict[str, Any] = {}

    def record(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs[name] = output

    with ExitStack() as stack:
        for name in names:
            hook = encoder.get_submodule(name).register_forward_hook(partial(record, name))
            stack.callback(hook.remove)
        yield outputs


def _to_tokens(output: Any, *, channels_first: bool) -> Tensor:
    """Return the output of a module as tokens, shape (B, T, D).

    Args:
        output: Tokens, a feature map, one vector for each sample, or a tuple or mapping that begins with one of these.
        channels_first: Whether feature maps have shape (B, D, H, W), not (B, H, W, D).
    """
    if isinstance(output, Mapping):
        output = next(iter(output.values()))
    while isinstance(output, tuple | list):
        output = output[0]
    assert isinstance(output, Tensor)
    if output.ndim == 4:
        return output.flatten(2).transpose(1, 2) if channels_first else output.flatten(1, 2)
    return output[:, None] if output.ndim == 2 else output


def block_names(encoder: nn.Module) -> list[str]:
    """Return the names of the blocks of an encoder, in its order; blocks that contain other blocks are left out.

    Example:
        >>> block_names(nn.Sequential(nn.TransformerEncoderLayer(4, 2), nn.TransformerEncoderLayer(4, 2)))
        ['0', '1']
    """
    blocks = {
        f"{path}.{name}" if path else name
        for path, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        for name, child in module.named_children()
        if any(part in type(child).__name__ for part in BLOCKS) and "Norm" not in type(child).__name__
    }
    innermost = [name for name in blocks if not any(other.startswith(f"{name}.") for other in blocks)]
    order = {name: number for number, (name, _) in enumerate(encoder.named_modules())}
    return sorted(innermost, key=order.__getitem__)


def layer_names(encoder: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return the names of the layers that match names and wildcards, in the order of the encoder, its output last.

    Args:
        encoder: The encoder.
        patterns: Names of modules, patterns such as `blocks.*.mlp`, `blocks` for all blocks, or `output`.

    Raises:
        UsageError: When a pattern matches no layer; the error lists the nearest names.
    """
    names = [name for name, _ in encoder.named_modules() if name]
    selected: set[str] = set()
    for pattern in patterns:
        matches = block_names(encoder) if pattern == "blocks" else fnmatch.filter([*names, OUTPUT], pattern)
        if not matches:
            raise unknown_name("layer of the encoder", pattern, [*names, OUTPUT, "blocks"])
        selected.update(matches)
    return [name for name in [*names, OUTPUT] if name in selected]


def compute_features(
    source: Source,
    fingerprint: Mapping[str, Any],
    encoder: Encoder,
    surrogate: Surrogate,
    request: FeatureRequest | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Compute the features of each requested layer in one pass, or read them from the cache.

    The features of a sample are the mean over its tokens or positions; those of a labeled word are its first token's.

    Args:
        source: Source that the encoder comes from, with its embedder and preprocessing.
        fingerprint: Everything that determines the weights of the source.
        encoder: The encoder.
        surrogate: The labeled samples.
        request: Layers, precision and device; None for the output alone.
        progress: Called with `features` and the share of the work done since the last call.

    Returns:
        Features by layer, float32, shape (n, D).

    Raises:
        UsageError: When a layer is unknown.
        InputError: When the weights do not fit the source.
    """
    request = request or FeatureRequest()
    parts = source.split()
    names = layer_names(parts.encoder, request.layers)
    provenance = {
        "source": dict(fingerprint),
        **encoder.fingerprint(),
        "surrogate": surrogate.provenance,
        "layers": names,
        "input_size": request.samples.input_size,
        "dtype": request.samples.dtype,
        "algorithms": algorithm_versions("reading", "inference", "pooled layers"),
    }
    path = entry_path("features", cache_key(provenance))
    cached = read_valid_entry(path, lambda entry: (entry.arrays["features"], entry.metadata["widths"]))
    if cached is None:
        model = _PooledLayers(parts, encoder.load(parts), names, source.convolutional).eval()
        rows = _run_model(source, model, surrogate, request, progress)
        widths = list(model.widths)
        _store(rows, widths, path, provenance)
    else:
        rows, widths = cached
    layers = np.split(rows, np.cumsum(widths)[:-1], axis=1)
    scale = _normalize if request.normalized else np.asarray
    return {name: scale(features) for name, features in zip(names, layers, strict=True)}


def _run_model(
    source: Source,
    model: _PooledLayers,
    surrogate: Surrogate,
    request: FeatureRequest,
    progress: Progress | None,
) -> np.ndarray:
    """Return the pooled features of all layers, shape (n, sum of the widths)."""
    pooled_source: Any = replace(source, model=model, input=_SurrogateInput(surrogate))
    embedding: Any = _SurrogateEmbedding(surrogate)
    batches = []
    for batch in output_batches(
        pooled_source,
        surrogate.samples,
        np.arange(len(surrogate)),
        embedding,
        device=choose_device(request.samples.device),
        batch_size=request.samples.batch_size,
        dtype=request.samples.dtype,
    ):
        batches.append(batch)
        if progress:
            progress("features", len(batch) / len(surrogate))
    return np.concatenate(batches)


def _store(rows: np.ndarray, widths: list[int], path: Path, provenance: Mapping[str, Any]) -> None:
    metadata = {"widths": widths, "provenance": dict(provenance)}
    with RowWriter(path, {}, "features", rows.shape, metadata) as writer:
        writer.append(rows)
        writer.finish()


def _normalize(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1))
