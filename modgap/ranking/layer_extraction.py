"""Features of several layers of a source on the target's samples, from one pass, stored in the cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from modgap.errors import InputError, first_line
from modgap.forward.inference_setup import InferenceSetup, LogitsRequest, set_up_inference
from modgap.jobs import Failure, fix_threads, hold_device
from modgap.models.pooled_layers import OUTPUT, PooledLayers, block_names
from modgap.ranking.extraction import outputs_key_content, sample_arrays, store_outputs
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.stored_outputs import KIND
from modgap.sources import open_source
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, cache_key, find_cached, store
from modgap.targets import Target, open_target
from modgap.transfer.surrogate import SurrogateBatch

__all__ = ["LayerOutputs", "LayersJob"]

LAYERS_KIND = "layers"
"""Kind of the cache entries that name the outputs of each layer."""


@dataclass(frozen=True)
class LayerOutputs:
    """References to the features of some layers of a source in the cache.

    Attributes:
        numbers: Number of each layer: its blocks are counted from 1, and the last number is that of its output.
        names: Name of each layer within the encoder; `output` for the output of the encoder.
        n_layers: Number of layers of the source.
        keys: Key of the cache entry of each layer.
        cached: True if all were in the cache before.
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    n_layers: int
    keys: tuple[str, ...]
    cached: bool


class _BatchLayers(PooledLayers):
    """Pooled layers of a batch of the source's input."""

    def forward(self, batch: Any) -> Tensor:
        return super().forward(SurrogateBatch(batch))


@dataclass(frozen=True)
class LayersJob:
    """Pass of one source over the target's samples that keeps the features of several layers.

    Attributes:
        source: Name of the source.
        target: Keyword arguments of `modgap.targets.open_target`.
        request: Samples, input size and device; no head is needed.
        numbers: Numbers of the layers; empty for all.
    """

    source: str
    target: Mapping[str, Any]
    request: LogitsRequest
    numbers: tuple[int, ...]

    def __call__(self) -> LayerOutputs | Failure:
        """Return the references to the features, or the reason why there are none."""
        fix_threads()
        try:
            with hold_device(self.request.samples.device) as device:
                outputs = self._extract(device)
                assert outputs is not None
                return outputs
        except InputError as error:
            return Failure(str(error))
        except Exception as error:  # Third-party models may fail in any way; the row of the source shows the reason.
            return Failure(f"{type(error).__name__}: {first_line(error)}")

    def load_cached(self) -> LayerOutputs | None:
        """Return the references to the features if all are in the cache, which needs no device; None if not."""
        try:
            return self._extract(None)
        except Exception:  # As above; without weights or data it is not known what would be in the cache.
            return None

    def _extract(self, device: str | None) -> LayerOutputs | None:
        samples = replace(self.request.samples, device=device or "cpu")
        request = replace(self.request, samples=samples, head="none")
        return _extract_layers(self.source, open_target(**self.target), request, self.numbers, run=device is not None)


def _extract_layers(
    source_name: str, target: Target, request: LogitsRequest, numbers: Sequence[int], *, run: bool
) -> LayerOutputs | None:
    """Return the features of some layers, from the cache or from one pass that keeps those of all layers.

    They are None if they are not in the cache, and `run` is false.
    """
    name, size = split_input_size(source_name)
    request = replace(request, samples=replace(request.samples, input_size=size or request.samples.input_size))
    handle = open_source(name)
    versions = algorithm_versions("reading", "inference", "pooled layers")
    content = outputs_key_content(handle, target, request) | {"algorithms": versions}
    key = cache_key(content)
    names = find_cached(LAYERS_KIND, key, lambda entry: tuple(entry.metadata["layers"]))
    is_cached = names is not None and all(
        find_cached(KIND, _layer_key(content, layer), lambda entry: entry.metadata) for layer in names
    )
    if not (is_cached or run):
        return None
    if names is None or not is_cached:
        setup = set_up_inference(handle, target, replace(request, compared=2), content)
        names = _run_layers(setup, request, content)
        store(LAYERS_KIND, key, CacheEntry({}, {"layers": list(names)}))
    chosen = tuple(numbers) or tuple(range(1, len(names) + 1))
    if chosen[-1] > len(names):
        raise InputError(f"The source has {len(names)} layers, and layer {chosen[-1]} was requested.")
    picked = tuple(names[number - 1] for number in chosen)
    keys = tuple(_layer_key(content, layer) for layer in picked)
    return LayerOutputs(chosen, picked, len(names), keys, is_cached)


def _layer_key(content: Mapping[str, Any], layer: str) -> str:
    return cache_key({**content, "layer": layer})


def _run_layers(setup: InferenceSetup, request: LogitsRequest, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Run the source, store the features of each layer, and return the names of the layers."""
    parts = setup.source.split()
    # The output of the encoder is that of its last block, after what follows the block.
    names = (*block_names(parts.encoder)[:-1], OUTPUT)
    model = _BatchLayers(parts, parts.encoder, names, setup.source.convolutional).eval()
    setup = replace(setup, source=replace(setup.source, model=model))
    outputs = np.concatenate(list(setup.batches(request)))
    arrays = sample_arrays(setup.labels, setup.rows, setup.groups, setup.table)
    edges = np.cumsum((0, *model.widths))
    for layer, first, last in zip(names, edges[:-1], edges[1:], strict=True):
        properties = {"head": "none", "width": int(last - first), "classes": 0}
        record = {
            "properties": properties,
            "provenance": setup.provenance | {"layer": layer},
            "source_classes": [],
            "target_classes": list(setup.target_classes),
        }
        store_outputs(np.ascontiguousarray(outputs[:, first:last]), arrays, record, _layer_key(content, layer))
    return names
