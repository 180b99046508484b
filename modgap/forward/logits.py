"""Logits of a source on a target, computed once and stored in the cache."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.formatting import count
from modgap.forward.inference_setup import (
    InferenceSetup,
    LogitsRequest,
    TrainedEmbedder,
    set_up_inference,
    warn_about_small_classes,
)
from modgap.forward.surrogate_target import headless_error_with_surrogates, open_head_surrogate
from modgap.inputs.native_embedding import representation_record
from modgap.progress import Progress
from modgap.sources import HeadlessError, SourceHandle
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, cache_key, entry_path
from modgap.storage.row_store import RowWriter, read_valid_entry
from modgap.targets import Target

__all__ = ["LogitsRequest", "SourceLogits", "TrainedEmbedder", "source_logits"]


@dataclass(frozen=True)
class SourceLogits:
    """Logits of a source on a target, with everything that the estimators and the report need.

    Attributes:
        logits: Logits of shape (N, C), float32; may be memory-mapped from disk.
        labels: Target classes 0..K-1 of the samples, shape (N,).
        groups: Record, subject or field of each sample, shape (N,); None where every sample is independent.
        source_classes: Names of the C source classes.
        target_classes: Names of the K target classes.
        provenance: Record of the weights, the data, the embedding and the versions.
        seconds: Wall time to compute or read the logits, in seconds.
        cached: Whether the logits were read from the cache.
        rows: Number of each sample in the target, shape (N,); None for the number of the row.
    """

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    source_classes: tuple[str, ...]
    target_classes: tuple[str, ...]
    provenance: dict[str, Any]
    seconds: float = 0.0
    cached: bool = False
    rows: np.ndarray | None = None

    def subset(self, rows: np.ndarray) -> "SourceLogits":
        """Return the logits of some samples.

        Args:
            rows: Numbers of the rows to keep, shape (M,).

        Raises:
            InputError: If a class loses all its samples.
        """
        labels = self.labels[rows]
        lost = _n_classes(self.labels) - _n_classes(labels)
        if lost:
            raise InputError(
                f"The chosen samples have none of {count(lost, 'class', 'classes')}. Choose more samples, or drop "
                "these classes."
            )
        numbers = rows if self.rows is None else self.rows[rows]
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, logits=self.logits[rows], labels=labels, groups=groups, rows=numbers)


def _n_classes(labels: np.ndarray) -> int:
    """Return the number of classes that have a sample."""
    return int(labels.any(axis=0).sum()) if labels.ndim == 2 else len(np.unique(labels))


def source_logits(
    handle: SourceHandle,
    target: Target,
    request: LogitsRequest,
    progress: Progress | None = None,
    embedder: TrainedEmbedder | None = None,
) -> SourceLogits:
    """Return the logits of the source on the target, from the cache if they are there.

    The key of a cache entry contains everything that decides its content: weights, data, selection of samples,
    embedding, precision and versions. A damaged entry causes a warning and is computed again. A disk that cannot
    store a new entry causes a warning, too.

    With a trained embedder, only samples that it was not trained on are used. They pass through the source's
    pretrained encoder and head.

    Args:
        handle: The source.
        target: The target.
        request: Which samples, at what size, with which head.
        progress: Called with `logits` and the fraction of the work done since the last call.
        embedder: A trained embedder that replaces the source's native input; None for the native input.

    Raises:
        InputError: When the data, the weights or the labels cannot be used.
    """
    start = time.perf_counter()
    samples = request.samples
    cache_record = {
        "source": handle.fingerprint(),
        "target": target.fingerprint,
        "split": samples.split or "all",
        "limit": [samples.limit, samples.seed] if samples.limit else None,
        "input_size": samples.input_size,
        "representation": representation_record(samples.representation),
        "dtype": samples.dtype,
        "head": "own" if request.head == "own" else _head_record(request),
        "embedder": embedder.fingerprint if embedder else "native",
        "algorithms": algorithm_versions("reading", "inference", "fitted heads"),
    }
    path = entry_path("logits", cache_key(cache_record))
    cached = read_valid_entry(path, _parse_entry)
    if cached is not None:
        warn_about_small_classes(cached.labels, cached.target_classes)
        return replace(cached, seconds=time.perf_counter() - start)
    try:
        setup = set_up_inference(handle, target, request, cache_record, embedder)
    except HeadlessError as error:
        raise headless_error_with_surrogates(error, handle) from error
    logits = _compute(setup, request, path, progress)
    return SourceLogits(
        logits=logits,
        labels=setup.labels,
        groups=setup.groups,
        source_classes=setup.source.class_names,
        target_classes=setup.target_classes,
        provenance=setup.provenance,
        seconds=time.perf_counter() - start,
        rows=setup.rows,
    )


def _head_record(request: LogitsRequest) -> dict[str, Any]:
    # The marker tells these entries from older ones, in which a head could see its training samples again.
    return {**open_head_surrogate(request.head).fingerprint, "training_samples": "left out"}


def _parse_entry(entry: CacheEntry) -> SourceLogits:
    arrays = entry.arrays
    record = entry.metadata
    return SourceLogits(
        logits=arrays["logits"],
        labels=np.array(arrays["labels"]),
        groups=np.array(arrays["groups"]) if "groups" in arrays else None,
        source_classes=tuple(record["source_classes"]),
        target_classes=tuple(record["target_classes"]),
        provenance=record["provenance"],
        cached=True,
        rows=np.array(arrays["rows"]) if "rows" in arrays else None,
    )


def _compute(setup: InferenceSetup, request: LogitsRequest, path: Path, progress: Progress | None) -> np.ndarray:
    """Run the source, and return its logits (N, C) as they are stored in the cache."""
    shape = (len(setup.rows), len(setup.source.class_names))
    record: dict[str, Any] = {
        "source_classes": list(setup.source.class_names),
        "target_classes": list(setup.target_classes),
        "provenance": setup.provenance,
    }
    arrays = {"labels": setup.labels, "rows": setup.rows}
    if setup.groups is not None:
        arrays["groups"] = setup.groups
    with RowWriter(path, arrays, "logits", shape, record) as sink:
        for batch in setup.batches(request):
            sink.append(batch)
            if progress:
                progress("logits", len(batch) / len(setup.rows))
        return sink.finish()
