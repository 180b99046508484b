"""A linear probe on a labeled surrogate as the head of a bare encoder; its classes become the source's.

A head depends on the source and the surrogate alone, so it is fitted once for all targets, and kept in the cache.
"""

import functools
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from modgap.errors import InputError
from modgap.forward.batched_inference import output_batches
from modgap.forward.sample_request import SampleRequest
from modgap.inputs.native_embedding import native_embedding
from modgap.probes.logistic import DEFAULT_STRENGTH, logistic_path
from modgap.sources import Source
from modgap.sources.splitting import Pooled
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, cache_key, cached
from modgap.targets import SPLITS, Target
from modgap.targets.splits import stratified_subset

KIND = "fitted_heads"
"""Kind of the cache entries."""
MOST_SAMPLES = 5000


@dataclass(frozen=True)
class FittedHead:
    """A fitted layer from pooled features to classes.

    Attributes:
        weights: Weights of the features, shape (K, D), float32.
        biases: Biases, shape (K,), float32.
        class_names: Names of the K classes; empty if they have only numbers.
        record: Plain values for the record of a result: name of the surrogate, number of its training samples, and
            error rate on its test split, which is None without such a split.
    """

    weights: np.ndarray
    biases: np.ndarray
    class_names: tuple[str, ...]
    record: dict[str, object]


def cached_probe_head(
    source: Source,
    fingerprint: dict[str, object],
    surrogate: Target,
    request: SampleRequest,
    device: torch.device,
    side_by_side: int,
) -> FittedHead:
    """Return the head of a source on a surrogate from the cache, or fit it.

    Args:
        source: The encoder, loaded at the size of the request.
        fingerprint: Content that identifies the source in cache keys.
        surrogate: Labeled data of the source's modality.
        request: Input size, batch size and precision.
        device: Device on which the encoder runs.
        side_by_side: Number of batches that run at a time on the CPU.

    Raises:
        InputError: When the surrogate is multi-label, or lacks training samples of a class.
    """
    content = {
        "source": fingerprint,
        "input_size": request.input_size,
        "surrogate": surrogate.fingerprint,
        "samples": MOST_SAMPLES,
        "batch_size": request.batch_size,
        "dtype": request.dtype,
        # The last bits of the features depend on both, and a ranking has the same bits wherever it runs.
        "device": device.type,
        "threads": torch.get_num_threads(),
        "algorithms": algorithm_versions("reading", "inference", "fitted heads"),
    }

    fit = functools.partial(fit_probe_head, source, surrogate, request, device=device, side_by_side=side_by_side)
    return cached(KIND, cache_key(content), fit, _encode, _decode)


def _encode(head: FittedHead) -> CacheEntry:
    record = {"class_names": list(head.class_names), "record": head.record}
    return CacheEntry({"weights": head.weights, "biases": head.biases}, record)


def _decode(entry: CacheEntry) -> FittedHead:
    weights, biases = np.array(entry.arrays["weights"]), np.array(entry.arrays["biases"])
    names = tuple(str(name) for name in entry.metadata["class_names"])
    if weights.ndim != 2 or biases.shape != weights.shape[:1] or len(names) not in (0, len(biases)):
        raise ValueError("its arrays do not fit together")
    return FittedHead(weights, biases, names, entry.metadata["record"])


def fit_probe_head(
    source: Source, surrogate: Target, request: SampleRequest, *, device: torch.device, side_by_side: int = 1
) -> FittedHead:
    """Fit a head by multinomial logistic regression on standardized features.

    Args:
        source: The encoder. If it has a head, the head is not used.
        surrogate: Labeled data of the source's modality.
        request: Batch size and precision.
        device: Device on which the encoder runs.
        side_by_side: Number of batches that run at a time on the CPU.

    Raises:
        InputError: When the surrogate is multi-label, or lacks training samples of a class.
    """
    table = surrogate.read()
    if table.class_labels.ndim != 1:
        raise InputError(f"Surrogate {surrogate.name} is multi-label. A surrogate needs one label per sample.")
    feature_source = replace(source, model=Pooled(source.features, source.model))
    embedding = native_embedding(surrogate.manifest.input, table, source.input)

    def split_features(split: str) -> tuple[np.ndarray, np.ndarray]:
        rows = np.flatnonzero(table.splits == SPLITS.index(split))
        if len(rows) == 0:
            return np.empty((0, 0)), np.empty(0)
        if len(rows) > MOST_SAMPLES:
            rows = rows[stratified_subset(table.class_labels[rows], MOST_SAMPLES, 0)]
        batches = output_batches(
            feature_source,
            table.samples,
            rows,
            embedding,
            device=device,
            batch_size=request.batch_size,
            dtype=request.dtype,
            side_by_side=side_by_side,
        )
        return np.concatenate(list(batches)), table.class_labels[rows]

    features, labels = split_features("train")
    test_features, test_labels = split_features("test")
    if len(np.unique(labels)) < max(2, len(np.unique(table.class_labels))):
        raise InputError(
            f"The training split of surrogate {surrogate.name} does not have samples of every class. "
            "It needs samples of every class, and at least two classes."
        )
    probe = logistic_path(features, labels, [DEFAULT_STRENGTH])
    error = float((probe.predict(test_features) != test_labels).mean()) if len(test_labels) else None
    weights, biases = (array.astype(np.float32) for array in probe.affine())
    names = tuple(str(name) for name in table.classes or ())
    record = {"surrogate": surrogate.name, "trained_on": len(labels), "test_error": error}
    return FittedHead(weights, biases, names, record)


def with_head(source: Source, head: FittedHead) -> Source:
    """Return the source with a fitted head in place of its own."""
    layer = nn.Linear(head.weights.shape[1], len(head.weights))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weights))
        layer.bias.copy_(torch.from_numpy(head.biases))
    # The part `fitted_head` can be put on the same features from elsewhere.
    parts = OrderedDict(features=Pooled(source.features, source.model), fitted_head=layer)
    return replace(source, model=nn.Sequential(parts).eval(), class_names=head.class_names)
