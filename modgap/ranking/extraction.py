"""Features and logits of a source on the target's samples, computed in one pass and stored in the cache."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modgap.errors import InputError, Progress, UsageError
from modgap.forward.inference_setup import InferenceSetup, LogitsRequest, samples_record, set_up_inference
from modgap.forward.sample_request import SampleRequest
from modgap.forward.surrogate_target import (
    default_surrogate,
    headless_error_with_surrogates,
    open_head_surrogate,
    open_surrogate_target,
)
from modgap.process.resources import choose_device
from modgap.ranking.source_outputs import ARRAY, KIND, SourceOutputs
from modgap.ranking.source_patterns import split_input_size
from modgap.sources import HeadlessError, Source, SourceHandle, open_source
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, cache_key, find_cached, store
from modgap.targets import Table, Target
from modgap.targets.samples import pool_targets
from modgap.training.surrogate import SurrogateBatch, open_surrogate

Surrogate = tuple[str, str, Any]
"""Labeled data of a source's own modality, on which a head is fitted and the source's error is measured.

They are given by their name, the split that the source was not trained on, and what identifies them in cache keys.
"""
SURROGATE_KIND = "surrogate_outputs"
"""Kind of the cache entries of outputs on labeled data of the source's own modality."""
MOST_SURROGATE_SAMPLES = 1000
"""Most samples of these data."""
BATCH_SIZE = 16
"""Batch size for these samples if the request names none."""

log = logging.getLogger("modgap")


class FeaturesAndLogits(nn.Module):
    """Compute pooled features and logits of a batch side by side, (B, D + Z), in one pass of the encoder.

    The features are the mean over the encoder's tokens, which is what the predictors of `modgap train` see. A fitted
    head is linear on the pooled output of the bare encoder.

    Args:
        source: The source.
        fitted_head: Head that was fitted on labeled data of the source's modality. None if there is none.
        headless: True if the source's own head is not used.
    """

    def __init__(self, source: Source, fitted_head: nn.Module | None, *, headless: bool) -> None:  # noqa: D107
        super().__init__()
        parts = source.split()
        self.embedder = parts.embedder
        self.encoder = parts.encoder
        self.head = parts.head
        self.fitted_head = fitted_head
        self.tokens = parts.tokens
        self.headless = headless
        self.width = 0
        # Parameters that the parts share count once.
        modules = nn.ModuleList([self.embedder, self.encoder, self.head])
        self.parameter_count = sum(parameter.numel() for parameter in modules.parameters())
        self.eval()

    def forward(self, batch: Any) -> Tensor:
        """Return features and logits, or features alone where there is no head."""
        encoded = self.encoder(self.embedder(batch))
        features = SurrogateBatch(batch).pool(self.tokens(encoded))
        self.width = features.shape[1]
        if self.headless and self.fitted_head is None:
            return features
        outputs = self.head(encoded)
        logits = outputs if self.fitted_head is None else self.fitted_head(outputs)
        return torch.cat([features, logits], dim=1)

    def surrogate_features(self, batch: SurrogateBatch) -> Tensor:
        """Return the features of a batch of the source's surrogate, shape (B, D)."""
        return batch.pool(self.tokens(self.encoder(self.embedder(batch.inputs))))


@dataclass(frozen=True)
class Extracted:
    """Reference to the outputs of a source in the cache.

    Attributes:
        key: Key of the cache entry.
        cached: True if the entry was in the cache before.
        properties: Properties that do not depend on the target: `parameters`, `head`, `width` and `classes`.
        samples: Number of samples of the target.
        provenance: Record of the model, the data and the versions that were used.
        surrogate_key: Key of the outputs on labeled data of the source's own modality. Empty if there are none, or if
            they were not requested.
        seconds: Seconds that the pass took when it was computed; 0 where it is not known.
    """

    key: str
    cached: bool
    properties: dict[str, Any]
    samples: int
    provenance: dict[str, Any]
    surrogate_key: str = ""
    seconds: float = 0.0


def extract(source_name: str, target: Target, request: LogitsRequest, progress: Progress | None = None) -> Extracted:
    """Run a source over the target's samples, unless the result is in the cache.

    Args:
        source_name: Name of the source, optionally followed by the size of its input as in `vit-b@64px`. The source's
            own head is used if it has one, else a head fitted on labeled data of its modality, else none.
        target: The target.
        request: Samples, input size and precision. Its `head` may be `auto` besides the values for logits.
        progress: Called with `features` and the share of the work done since the last call. None for no reports.

    Returns:
        A reference to the outputs in the cache.

    Raises:
        InputError: If the source, the target or their combination cannot be used. The message says why.
    """
    extraction = prepare_extraction(source_name, target, request)
    return extraction.find_cached() or extraction.run(request.samples.device, progress)


def prepare_extraction(source_name: str, target: Target, request: LogitsRequest) -> "Extraction":
    """Return the pass of a source over the target's samples, which knows whether its result is in the cache.

    Args:
        source_name: Name of the source, as for `extract`.
        target: The target.
        request: Samples, input size and precision; its device is not used.

    Raises:
        InputError: If the source or the target cannot be used. The message says why.
    """
    name, size = split_input_size(source_name)
    samples = replace(request.samples, input_size=size or request.samples.input_size)
    request = replace(request, samples=samples)
    handle = open_source(name)
    surrogate = find_surrogate(name)
    heads = _candidate_heads(request, surrogate, target)
    content = outputs_key_content(handle, target, request) | {
        "heads": heads,
        "fitted_on": [open_head_surrogate(head).fingerprint for head in heads if ":" in head],
        "algorithms": algorithm_versions("reading", "inference", "fitted heads"),
    }
    own_key = ""
    if request.surrogate and surrogate:
        own_content = {
            "source": handle.fingerprint(),
            "surrogate": list(surrogate),
            "samples": MOST_SURROGATE_SAMPLES,
            "input_size": samples.input_size,
            "batch_size": samples.batch_size,
            "algorithms": algorithm_versions("reading", "inference"),
        }
        own_key = cache_key(own_content)
    return Extraction(target, request, handle, surrogate, heads, content, cache_key(content), own_key)


@dataclass(frozen=True)
class Extraction:
    """The pass of a source over the samples of a target.

    Attributes:
        target: The target.
        request: Samples, input size and precision.
        handle: The source.
        surrogate: Labeled data of the source's own modality. None if there are none.
        heads: Heads to try, in this order.
        key_content: Everything that the outputs depend on.
        key: Key of the outputs in the cache.
        own_key: Key of the outputs on the surrogate. Empty if they are not needed.
    """

    target: Target
    request: LogitsRequest
    handle: SourceHandle
    surrogate: Surrogate | None
    heads: list[str]
    key_content: dict[str, object]
    key: str
    own_key: str

    def find_cached(self) -> Extracted | None:
        """Return the reference to the outputs if all of them are in the cache; it needs no device."""
        cached = self._read()
        if cached is None or (self.own_key and read_surrogate_outputs(self.own_key) is None):
            return None
        return replace(cached, surrogate_key=self.own_key)

    def run(self, device: str, progress: Progress | None = None) -> Extracted:
        """Run the source on a device, and return a reference to the outputs.

        Raises:
            InputError: If the source and the target cannot be combined. The message says why.
        """
        samples = replace(self.request.samples, device=device)
        request = replace(self.request, samples=samples)
        cached = self._read()
        setup, head = _set_up(self.handle, self.target, request, self.heads, self.key_content)
        fitted_head = getattr(setup.source.model, "fitted_head", None)
        model = FeaturesAndLogits(setup.source, fitted_head, headless=head != "own")
        extracted = cached or _run_source(setup, model, head, request, self.key, progress)
        has_own = bool(self.own_key) and read_surrogate_outputs(self.own_key) is not None
        if self.surrogate and self.own_key and not has_own:
            features = model.surrogate_features
            has_own = store_surrogate_outputs(self.surrogate, setup.source, self.own_key, features, samples)
        return replace(extracted, surrogate_key=self.own_key if has_own else "")

    def _read(self) -> Extracted | None:
        return find_cached(KIND, self.key, lambda entry: _reference(entry, self.key, cached=True))


def _reference(entry: CacheEntry, key: str, *, cached: bool) -> Extracted:
    record, n_samples = entry.metadata, len(entry.arrays["labels"])
    seconds = float(record.get("seconds", 0.0))
    return Extracted(key, cached, record["properties"], n_samples, record["provenance"], seconds=seconds)


def outputs_key_content(handle: SourceHandle, target: Target, request: LogitsRequest) -> dict[str, object]:
    """Return everything that the features depend on, besides the algorithms.

    Args:
        handle: The source.
        target: The target.
        request: Samples, input size and precision.
    """
    samples = request.samples
    return {
        "source": handle.fingerprint(),
        **samples_record(target, samples, samples.input_size),
        "batch_size": samples.batch_size,
    }


def _run_source(
    setup: InferenceSetup,
    model: FeaturesAndLogits,
    head: str,
    request: LogitsRequest,
    key: str,
    progress: Progress | None,
) -> Extracted:
    setup = replace(setup, source=replace(setup.source, model=model))
    batches = []
    began = time.perf_counter()
    for batch in setup.batches(request):
        batches.append(batch)
        if progress:
            progress("features", len(batch) / len(setup.rows))
    outputs = np.concatenate(batches)
    n_classes = outputs.shape[1] - model.width
    properties = {"parameters": model.parameter_count, "head": head, "width": model.width, "classes": n_classes}
    arrays = sample_arrays(setup.labels, setup.rows, setup.groups, setup.table)
    record = {
        "properties": properties,
        "provenance": setup.provenance | {"head": head},
        "source_classes": list(setup.source.class_names if n_classes else ()),
        "target_classes": list(setup.target_classes),
        "seconds": time.perf_counter() - began,
    }
    return store_outputs(outputs, arrays, record, key)


def _candidate_heads(request: LogitsRequest, surrogate: Surrogate | None, target: Target) -> list[str]:
    """Return the heads to try, in this order.

    Raises:
        UsageError: If the head would be fitted on the target that the source is scored on.
    """
    if request.head == "auto":
        # A head fitted on the target's training samples would see the samples that it is scored on.
        fitted = [f"probe:{surrogate[0]}"] if surrogate and surrogate[2] != target.fingerprint else []
        return ["own", *fitted, "none"]
    if request.head not in ("own", "none") and open_head_surrogate(request.head).fingerprint == target.fingerprint:
        raise UsageError(
            f"The head {request.head} would be fitted on the target itself. Name other labeled data of the source's "
            'modality in `head="probe:SURROGATE"`, or pass `head="auto"` for the data that modgap knows of.'
        )
    return [request.head]


def _set_up(
    handle: SourceHandle, target: Target, request: LogitsRequest, heads: list[str], key_content: dict[str, object]
) -> tuple[InferenceSetup, str]:
    """Prepare the pass with the first head that the source has or that can be fitted, and return that head too."""
    *before, last = heads
    for head in before:
        try:
            return set_up_inference(handle, target, replace(request, head=head, compared=2), key_content), head
        except HeadlessError:
            log.debug("%s has no head of its own", handle.name)
    try:
        return set_up_inference(handle, target, replace(request, head=last, compared=2), key_content), last
    except HeadlessError as error:
        raise headless_error_with_surrogates(error, handle) from error


def sample_arrays(
    labels: np.ndarray, rows: np.ndarray, groups: np.ndarray | None, table: Table
) -> dict[str, np.ndarray]:
    """Return the arrays of a cache entry that describe the samples: labels, rows, groups and values."""
    arrays = {"labels": labels, "rows": rows}
    if groups is not None:
        arrays["groups"] = groups
    if table.targets is not None:
        selected = table.select(rows)
        arrays["values"] = pool_targets(selected.targets, selected.masks)  # type: ignore[arg-type]
    return arrays


def store_outputs(outputs: np.ndarray, arrays: dict[str, np.ndarray], record: dict[str, Any], key: str) -> Extracted:
    """Store outputs (n, D + Z) with their samples and their record under a key, and return a reference to them."""
    entry = CacheEntry({**arrays, ARRAY: outputs}, record)
    store(KIND, key, entry)
    return _reference(entry, key, cached=False)


# Outputs on labeled data of the source's own modality, which depend on no target, and are computed if a score uses them


def find_surrogate(source_name: str) -> Surrogate | None:
    """Return the labeled data of the modality of a source; None if there are none."""
    try:
        name, split = default_surrogate(source_name)
        return name, split, open_surrogate_target(name)[0].fingerprint
    except InputError as error:
        log.debug("There is no labeled data of the modality of %s: %s", source_name, error)
        return None


def read_surrogate_outputs(key: str) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Return the outputs of a source on labeled data of its own modality from the cache; None if they are not there.

    Args:
        key: Key of the cache entry.

    Returns:
        Pooled features of the encoder, shape (m, D), which are those of the words if words in texts are labeled; the
        class of each sample, 0..K-1, shape (m,); and the error rate of a linear probe on the features in
        cross-validation.
    """

    def decode(entry: CacheEntry) -> tuple[np.ndarray, np.ndarray, float]:
        arrays = entry.arrays
        return np.array(arrays["features"]), np.array(arrays["labels"]), float(entry.metadata["error"])

    return find_cached(SURROGATE_KIND, key, decode)


def store_surrogate_outputs(
    surrogate: Surrogate,
    source: Source,
    key: str,
    features_of: Callable[[SurrogateBatch], Tensor],
    request: SampleRequest,
) -> bool:
    """Compute the outputs of a source on labeled data of its own modality, and store them in the cache.

    Args:
        surrogate: The data.
        source: The source, as it takes the target's samples, because its preprocessing must match.
        key: Key of the cache entry.
        features_of: Function from a batch of the data to features (B, D).
        request: Batch size and device.

    Returns:
        False if the data cannot be used.
    """
    from modgap.ranking.scores.linear_probe import probe_error

    try:
        name, split, _ = surrogate
        data = open_surrogate(name, source, split=split, limit=MOST_SURROGATE_SAMPLES)
    except InputError as error:
        log.info("There is no labeled data of the modality of the source: %s", error)
        return False
    device = choose_device(request.device)
    batch_size = request.batch_size or BATCH_SIZE
    batches = []
    with torch.inference_mode():
        for start in range(0, len(data), batch_size):
            rows = np.arange(start, min(start + batch_size, len(data)))
            batches.append(features_of(data.load(rows, device)).float().cpu().numpy())
    features = np.concatenate(batches)
    labels = np.unique(data.labels, return_inverse=True)[1].astype(np.int64)
    error_rate = probe_error(SourceOutputs(features, labels, groups=data.groups))
    store(SURROGATE_KIND, key, CacheEntry({"features": features, "labels": labels}, {"error": error_rate}))
    return True
