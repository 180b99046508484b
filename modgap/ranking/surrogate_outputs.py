"""Features of a source on labeled data of its own modality, which depend on no target, and are computed once.

They are computed if a score uses them.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError
from modgap.forward.sample_request import SampleRequest
from modgap.forward.surrogate_target import default_surrogate, open_surrogate_target
from modgap.process.resources import choose_device
from modgap.ranking.source_outputs import SourceOutputs
from modgap.sources import Source
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, cache_key, find_cached, store
from modgap.training.surrogate import SurrogateBatch, open_surrogate

KIND = "surrogate_outputs"
"""Kind of the cache entries."""
MOST_SAMPLES = 1000
"""Most samples of the source's own modality."""
BATCH_SIZE = 16
"""Batch size for these samples if the request names none."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class SurrogateReference:
    """Labeled data of a source's own modality, on which a head is fitted and the source's error is measured.

    Attributes:
        name: Name of the data. Empty if there are none.
        split: Split of the data that the source was not trained on.
        fingerprint: Content that identifies the data in cache keys.
    """

    name: str = ""
    split: str = ""
    fingerprint: Any = None


def find_surrogate(source_name: str) -> SurrogateReference:
    """Return the labeled data of the modality of a source; an empty reference if there are none."""
    try:
        name, split = default_surrogate(source_name)
        return SurrogateReference(name, split, open_surrogate_target(name)[0].fingerprint)
    except InputError as error:
        log.debug("There is no labeled data of the modality of %s: %s", source_name, error)
        return SurrogateReference()


def surrogate_outputs_key(reference: SurrogateReference, fingerprint: Any, request: SampleRequest) -> str:
    """Return the cache key of the outputs of a source on labeled data of its own modality.

    Args:
        reference: The data.
        fingerprint: Content that identifies the source in cache keys.
        request: Input size and batch size.
    """
    content = {
        "source": fingerprint,
        "surrogate": [reference.name, reference.split, reference.fingerprint],
        "samples": MOST_SAMPLES,
        "input_size": request.input_size,
        "batch_size": request.batch_size,
        "algorithms": algorithm_versions("reading", "inference"),
    }
    return cache_key(content)


def read_surrogate_outputs(key: str) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Return the outputs of a source on labeled data of its own modality from the cache; None if they are not there.

    Args:
        key: Key of the cache entry.

    Returns:
        Pooled features of the encoder, shape (m, D), which are those of the words if words in texts are labeled; the
        class of each sample, 0..K-1, shape (m,); and the error rate of a linear probe on the features in
        cross-validation.
    """
    return find_cached(KIND, key, _decode)


def store_surrogate_outputs(
    reference: SurrogateReference,
    source: Source,
    key: str,
    features_of: Callable[[SurrogateBatch], Tensor],
    request: SampleRequest,
) -> bool:
    """Compute the outputs of a source on labeled data of its own modality, and store them in the cache.

    Args:
        reference: The data.
        source: The source, as it takes the target's samples, because its preprocessing must match.
        key: Key of the cache entry.
        features_of: Function from a batch of the data to features (B, D).
        request: Batch size and device.

    Returns:
        False if the data cannot be used.
    """
    from modgap.ranking.scores.linear_probe import probe_error

    try:
        surrogate = open_surrogate(reference.name, source, split=reference.split, limit=MOST_SAMPLES)
    except InputError as error:
        log.info("There is no labeled data of the modality of the source: %s", error)
        return False
    device = choose_device(request.device)
    batch_size = request.batch_size or BATCH_SIZE
    batches = []
    with torch.inference_mode():
        for start in range(0, len(surrogate), batch_size):
            rows = np.arange(start, min(start + batch_size, len(surrogate)))
            batches.append(features_of(surrogate.load(rows, device)).float().cpu().numpy())
    features = np.concatenate(batches)
    labels = np.unique(surrogate.labels, return_inverse=True)[1].astype(np.int64)
    error_rate = probe_error(SourceOutputs(features, labels, groups=surrogate.groups))
    store(KIND, key, CacheEntry({"features": features, "labels": labels}, {"error": error_rate}))
    return True


def _decode(entry: CacheEntry) -> tuple[np.ndarray, np.ndarray, float]:
    arrays = entry.arrays
    return np.array(arrays["features"]), np.array(arrays["labels"]), float(entry.metadata["error"])
