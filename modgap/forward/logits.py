"""Source model x target data -> logits, computed once and kept in the cache."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap import __version__
from modgap.errors import InputError, UsageError
from modgap.forward.inference_setup import LogitsRequest, TrainedEmbedder, set_up_inference
from modgap.forward.surrogate_target import open_head_surrogate
from modgap.progress import Progress
from modgap.sources import SourceHandle
from modgap.storage.cache import cache_key, entry_path
from modgap.storage.row_store import RowWriter, read_valid_entry
from modgap.targets import Target

__all__ = ["LogitsRequest", "SourceLogits", "TrainedEmbedder", "read_logits_file", "source_logits"]


@dataclass(frozen=True)
class SourceLogits:
    """Logits with all that the estimators and the report need.

    Attributes:
        logits: Shape (N, C), float32; may be mapped from disk.
        labels: Target classes 0..K-1, shape (N,).
        groups: Record, subject or field of each sample, shape (N,), or None.
        source_classes: Names of the C source classes.
        target_classes: Names of the K target classes.
        provenance: What was run on what: weights, data, embedding, versions.
        seconds: Wall time to compute or read them.
        cached: Whether they were read from the cache.
    """

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    source_classes: tuple[str, ...]
    target_classes: tuple[str, ...]
    provenance: dict
    seconds: float = 0.0
    cached: bool = False


def source_logits(
    handle: SourceHandle,
    target: Target,
    request: LogitsRequest,
    progress: Progress | None = None,
    embedder: TrainedEmbedder | None = None,
) -> SourceLogits:
    """Logits of the source on the target, from the cache where they are.

    A cache entry is addressed by what decides its content: weights, data, choice of samples,
    embedding, precision and versions. A damaged entry is said aloud and computed anew; so is a disk
    that takes no new one.

    With a trained embedder only samples that it never saw are judged, by the source's pretrained encoder and head.

    Raises:
        InputError: When the data, the weights or the labels cannot be used.
    """
    began = time.perf_counter()
    samples = request.samples
    head: str | dict = "own"
    if request.head != "own":
        head = {**open_head_surrogate(request.head).fingerprint, "judged": "unfitted"}
    wanted = {
        "source": handle.fingerprint(),
        "target": target.fingerprint,
        "split": samples.split or "all",
        "limit": [samples.limit, samples.seed] if samples.limit else None,
        "input_size": samples.input_size,
        "representation": samples.representation,
        "dtype": samples.dtype,
        # Entries of a time when a head judged the samples it was fitted on are not this.
        "head": head,
        "embedder": embedder.fingerprint if embedder else "native",
        "modgap": __version__,
    }
    path = entry_path("logits", cache_key(wanted))
    found = _from_cache(path)
    if found is None:
        return _computed(handle, target, request, wanted, path, progress, began, embedder)
    return SourceLogits(**found, seconds=time.perf_counter() - began, cached=True)


def _from_cache(path: Path) -> dict | None:
    entry = read_valid_entry(path)
    if entry is None:
        return None
    arrays, record = entry.arrays, entry.metadata
    return {
        "logits": arrays["logits"],
        "labels": np.array(arrays["labels"]),
        "groups": np.array(arrays["groups"]) if "groups" in arrays else None,
        "source_classes": tuple(record["source_classes"]),
        "target_classes": tuple(record["target_classes"]),
        "provenance": record["provenance"],
    }


def _computed(
    handle: SourceHandle, target: Target, request: LogitsRequest, wanted: dict, path: Path,
    progress: Progress | None, began: float, embedder: TrainedEmbedder | None,
) -> SourceLogits:  # fmt: skip
    ready = set_up_inference(handle, target, request, wanted, embedder)
    shape = (len(ready.rows), len(ready.source.class_names))
    record: dict = {
        "source_classes": list(ready.source.class_names),
        "target_classes": list(ready.target_classes),
        "provenance": ready.provenance,
    }
    arrays = {"labels": ready.labels, "rows": ready.rows}
    if ready.groups is not None:
        arrays["groups"] = ready.groups
    with RowWriter(path, arrays, "logits", shape, record) as sink:
        for batch in ready.batches(request):
            sink.append(batch)
            if progress:
                progress("logits", len(batch) / len(ready.rows))
        logits = sink.finish()
    return SourceLogits(
        logits=logits,
        labels=ready.labels,
        groups=ready.groups,
        source_classes=ready.source.class_names,
        target_classes=ready.target_classes,
        provenance=ready.provenance,
        seconds=time.perf_counter() - began,
    )


def read_logits_file(path: str) -> SourceLogits:
    """A user's own logits: `.npz` or `.safetensors` with `logits` (N, C) and `labels` (N,), or `groups` (N,).

    Raises:
        InputError: When the file is missing, broken or lacks an array.
        UsageError: When its suffix is another.
    """
    from modgap.storage.digests import file_digest
    from modgap.targets.readers.arrays import load_arrays

    began, file = time.perf_counter(), Path(path).expanduser()
    if file.suffix not in (".npz", ".safetensors"):
        raise UsageError(f"expected a .npz or .safetensors file of logits and labels, got {path}")
    if not file.is_file():
        raise InputError(f"expected a file at {path}, found none")
    arrays = load_arrays(file)
    missing = [name for name in ("logits", "labels") if name not in arrays]
    if missing:
        raise InputError(f"expected arrays logits and labels in {path}, got {', '.join(sorted(arrays)) or 'none'}")
    return SourceLogits(
        logits=arrays["logits"],
        labels=arrays["labels"],
        groups=arrays.get("groups"),
        source_classes=(),
        target_classes=(),
        provenance={"modgap": __version__, "logits": file_digest(file)},
        seconds=time.perf_counter() - began,
    )
