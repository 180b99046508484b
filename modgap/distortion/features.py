"""Features of a surrogate from the embedder of its source and an encoder, for several layers, stored in the cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from modgap.distortion.encoders import Encoder
from modgap.forward.batched_inference import choose_device, output_batches
from modgap.forward.sample_request import SampleRequest
from modgap.models.pooled_layers import OUTPUT, PooledLayers, layer_names
from modgap.progress import Progress
from modgap.sources import Source
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, Codec, cache_key, cached
from modgap.transfer.surrogate import Surrogate

__all__ = ["FeatureRequest", "compute_features"]


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

    def run() -> tuple[np.ndarray, list[int]]:
        model = PooledLayers(parts, encoder.load(parts), names, source.convolutional).eval()
        return _run_model(source, model, surrogate, request, progress), list(model.widths)

    codec = Codec[tuple[np.ndarray, list[int]]](
        lambda result: CacheEntry({"features": result[0]}, {"widths": result[1], "provenance": provenance}),
        lambda entry: (entry.arrays["features"], entry.metadata["widths"]),
    )
    rows, widths = cached("features", cache_key(provenance), run, codec)
    layers = np.split(rows, np.cumsum(widths)[:-1], axis=1)
    scale = _normalize if request.normalized else np.asarray
    return {name: scale(features) for name, features in zip(names, layers, strict=True)}


def _run_model(
    source: Source,
    model: PooledLayers,
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


def _normalize(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1))
