"""Source model x target data -> logits, computed once and kept in the cache."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from modgap import __version__
from modgap.cache import entry_path, key_of
from modgap.checks import checked_class_count
from modgap.embedding import Embedding, native_embedding
from modgap.errors import InputError, UsageError
from modgap.label_space import label_space
from modgap.row_store import RowSink, sound_entry
from modgap.sources import Source, SourceHandle
from modgap.targets import SPLITS, Table, Target, open_target
from modgap.targets.splits import strata, stratified_subset

__all__ = ["LogitsRequest", "SourceLogits", "TrainedEmbedder", "logits_from_file", "source_logits"]

Progress = Callable[[str, float], None]
log = logging.getLogger("modgap")


@dataclass(frozen=True)
class LogitsRequest:
    """Which logits are wanted, and how to compute them.

    Attributes:
        split: `all`, or one of train, val and test.
        limit: A stratified choice of so many samples; None for all.
        seed: Seed of that choice.
        input_size: Height and width of the source's input in pixels; None for its own.
        representation: How series become images; None for the manifest's way.
        dtype: float32, or bfloat16 or float16 for mixed precision.
        device: auto, cpu, cuda or mps. Not part of what is asked for: devices differ by rounding only.
        batch_size: Samples at a time; None finds it.
        head: `own`, or `probe:SURROGATE` for a linear probe fitted on that target, whose training samples are not
            judged by it.
        compared: Target classes that will be compared at a time; None for all. More classes than the
            source has are refused before the model runs, unless fewer are compared.
    """

    split: str = "all"
    limit: int | None = None
    seed: int = 0
    input_size: int | None = None
    representation: str | None = None
    dtype: str = "float32"
    device: str = "auto"
    batch_size: int | None = None
    head: str = "own"
    compared: int | None = None


class TrainedEmbedder(Protocol):
    """A target embedder that was trained, to stand in for the source's own."""

    @property
    def fingerprint(self) -> dict:
        """What decides its outputs, and which samples it saw."""

    def embedding(self, table: Table) -> Embedding:
        """How samples become what it takes."""

    def adapt(self, source: Source) -> Source:
        """The source with this embedder before its own encoder and head."""

    def unseen(self, table: Table) -> np.ndarray:
        """Rows of the samples that its training did not see."""


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
    wanted = {
        "source": handle.fingerprint(),
        "target": target.fingerprint,
        "split": request.split,
        "limit": [request.limit, request.seed] if request.limit else None,
        "input_size": request.input_size,
        "representation": request.representation,
        "dtype": request.dtype,
        # Entries of a time when a head judged the samples it was fitted on are not this.
        "head": {**_surrogate(request).fingerprint, "judged": "unfitted"} if request.head != "own" else "own",
        "embedder": embedder.fingerprint if embedder else "native",
        "modgap": __version__,
    }
    path = entry_path("logits", key_of(wanted))
    found = _from_cache(path)
    if found is None:
        return _computed(handle, target, request, wanted, path, progress, began, embedder)
    return SourceLogits(**found, seconds=time.perf_counter() - began, cached=True)


def _from_cache(path: Path) -> dict | None:
    entry = sound_entry(path)
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


def _surrogate(request: LogitsRequest) -> Target:
    kind, _, name = request.head.partition(":")
    if kind != "probe" or not name:
        raise UsageError(f"expected --head own or probe:SURROGATE, got {request.head!r}")
    return open_target(name)


def _chosen_rows(
    table: Table, request: LogitsRequest, embedder: TrainedEmbedder | None, *, fitted: bool = False
) -> np.ndarray:
    rows = np.arange(len(table)) if embedder is None else embedder.unseen(table)
    if fitted:
        rows = _unfitted(rows, table, request)
    if request.split != "all":
        rows = rows[np.asarray(table.splits)[rows] == SPLITS.index(request.split)]
    if len(rows) == 0:
        seen = " that the embedder's training did not see" if embedder else ""
        raise InputError(f"expected at least one sample in split {request.split}{seen}, got none")
    if request.limit and request.limit < len(rows):
        rows = rows[stratified_subset(strata(table.known_labels[rows]), request.limit, request.seed)]
    return rows


def _unfitted(rows: np.ndarray, table: Table, request: LogitsRequest) -> np.ndarray:
    """Without the samples that the head was fitted on, where it was fitted on this very target."""
    train = SPLITS.index("train")
    if request.split == "train":
        raise UsageError(
            f"--head {request.head} is fitted on the training samples of this target, which would judge itself; "
            "use --split test"
        )
    log.warning("--head %s is fitted on this target's training samples; they are left out", request.head)
    return rows[np.asarray(table.splits)[rows] != train]


def _computed(
    handle, target: Target, request: LogitsRequest, wanted, path: Path, progress, began,
    embedder: TrainedEmbedder | None,
) -> SourceLogits:  # fmt: skip
    from modgap.inference import choose_device, logit_batches

    device = choose_device(request.device)
    table = target.read()
    fitted_here = request.head != "own" and _surrogate(request).fingerprint == target.fingerprint
    rows = _chosen_rows(table, request, embedder, fitted=fitted_here)
    source = handle.load(request.input_size, head=request.head == "own")
    if embedder is None:
        embedding = native_embedding(target.manifest.input, table, source.input, request.representation)
    head: str | dict = "own"
    if request.head != "own":
        from modgap.probe_head import with_probe_head

        source, fitted = with_probe_head(
            source, _surrogate(request), device=device, batch_size=request.batch_size, dtype=request.dtype
        )  # fmt: skip
        head = asdict(fitted)
    if embedder is not None:
        source, embedding = embedder.adapt(source), embedder.embedding(table)
    shape = (len(rows), len(source.class_names))
    labels = table.known_labels[rows]
    _refuse_absent_classes(table, labels, request, embedder)
    n_classes = label_space(labels).n_classes
    checked_class_count(request.compared or n_classes, shape[1])
    if len(table.classes or ()) < n_classes:
        raise InputError(f"expected labels of {len(table.classes or ())} classes, got {n_classes}")
    record: dict = {
        "source_classes": list(source.class_names),
        "target_classes": [str(name) for name in table.classes or ()][:n_classes],
        "provenance": _provenance(wanted, source, embedding, device.type) | {"head": head},
    }
    arrays = {"labels": labels, "rows": rows}
    if table.groups:
        arrays["groups"] = table.groups["groups"][rows].astype(np.int64)
    with RowSink(path, arrays, "logits", shape, record) as sink:
        for batch in logit_batches(
            source, table.samples, rows, embedding, device=device, batch_size=request.batch_size, dtype=request.dtype
        ):
            sink.append(batch)
            if progress:
                progress("logits", len(batch) / len(rows))
        logits = sink.finish()
    return SourceLogits(
        logits=logits,
        labels=labels,
        groups=arrays.get("groups"),
        source_classes=source.class_names,
        target_classes=tuple(record["target_classes"]),
        provenance=record["provenance"],
        seconds=time.perf_counter() - began,
    )


def _refuse_absent_classes(
    table: Table, labels: np.ndarray, request: LogitsRequest, embedder: TrainedEmbedder | None
) -> None:
    """Choosing samples must not change which classes there are."""
    if labels.ndim == 1:
        absent = np.setdiff1d(table.known_labels, labels)
    else:
        absent = np.flatnonzero(table.known_labels.any(axis=0) & ~labels.any(axis=0))
    if len(absent):
        names = ", ".join(str((table.classes or ())[k]) for k in absent[:5])
        chosen = f"split {request.split}" + (f" with --limit {request.limit}" if request.limit else "")
        unseen = " that the embedder's training did not see" if embedder else ""
        way_out = "use --split all or a larger --limit"
        if embedder and request.split == "all" and not request.limit:
            way_out = "leave more samples to its test"
        raise InputError(
            f"expected samples{unseen} of all classes, {chosen} has none of {len(absent)} of them ({names}); {way_out}"
        )


def _provenance(wanted: dict, source: Source, embedding: Embedding, device: str) -> dict:
    own = source.input
    files = wanted["target"]["files"]
    return {
        "modgap": __version__,
        "source": wanted["source"],
        "target": {"manifest": key_of(wanted["target"]["manifest"]), "files": files},
        "samples": {"split": wanted["split"], "limit": wanted["limit"]},
        "embedding": {
            "embedder": wanted["embedder"],
            **embedding.to_dict(),
            **own.to_dict(),
        },
        "source_notes": dict(source.notes),
        "dtype": wanted["dtype"],
        "device": device,
    }


def logits_from_file(path: str) -> SourceLogits:
    """A user's own logits: `.npz` or `.safetensors` with `logits` (N, C) and `labels` (N,), or `groups` (N,).

    Raises:
        InputError: When the file is missing, broken or lacks an array.
        UsageError: When its suffix is another.
    """
    from modgap.digests import file_digest
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
