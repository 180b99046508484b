"""Everything that is settled before a source runs over a target's samples: which samples, which input, which head."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from modgap.errors import InputError, UsageError, count
from modgap.forward.sample_request import SampleRequest
from modgap.forward.surrogate_target import open_head_surrogate
from modgap.inputs.native_embedding import Embedding, native_embedding
from modgap.inputs.plugin_representations import representation_record
from modgap.labels.label_space import label_space, validate_class_count
from modgap.sources import Source, SourceHandle
from modgap.storage.algorithms import installed_version
from modgap.storage.cache import cache_key
from modgap.targets import SPLITS, Table, Target
from modgap.targets.splits import stratification_labels, stratified_subset

if TYPE_CHECKING:
    import torch

NAMES_SHOWN = 5
"""Largest number of class names in a message."""
FEW_SAMPLES = 5
"""Number of samples below which results for a class are unreliable."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class LogitsRequest:
    """A request for logits: of which samples, and with which head.

    Attributes:
        samples: The samples, their size and the device.
        head: `own` for the source's head; `probe:SURROGATE` for a linear probe fitted on that labeled data, whose
            training samples are then left out; `none` for features alone.
        compared: Number of target classes that are compared at a time; None for all. More classes than the source
            has raise an error before the model runs, unless fewer are compared at a time.
        surrogate: True to run the source over labeled data of its own modality too, if there are any. A ranking asks
            for it where a score uses them.
        side_by_side: Number of batches that run at a time on the CPU. The outputs do not depend on it.
    """

    samples: SampleRequest = field(default_factory=SampleRequest)
    head: str = "own"
    compared: int | None = None
    surrogate: bool = False
    side_by_side: int = 1


class TrainedEmbedder(Protocol):
    """A target embedder that was trained and replaces the source's native input."""

    @property
    def fingerprint(self) -> dict[str, object]:
        """Everything that decides its outputs, and which samples it was trained on."""

    def embedding(self, table: Table) -> Embedding:
        """Return the rule by which samples become the embedder's input."""

    def adapt(self, source: Source) -> Source:
        """Return the source with this embedder in front of its pretrained encoder and head."""

    def unseen_rows(self, table: Table) -> np.ndarray:
        """Return the numbers of the samples that its training did not use."""


@dataclass(frozen=True)
class InferenceSetup:
    """Everything that a pass of a source over a target's samples needs.

    Attributes:
        source: The model with the requested head.
        rows: Numbers of the selected samples, shape (N,).
        embedding: Rule by which samples become the source's input.
        device: Device on which the model runs.
        labels: Classes of the selected samples, shape (N,), or (N, K) for a multi-label target.
        groups: Record or subject of each selected sample, shape (N,); None where every sample is independent.
        table: The target as it was read.
        target_classes: Names of the target classes.
        provenance: Record of the weights, the data and the settings.
    """

    source: Source
    rows: np.ndarray
    embedding: Embedding
    device: "torch.device"
    labels: np.ndarray
    groups: np.ndarray | None
    table: Table
    target_classes: tuple[str, ...]
    provenance: dict[str, Any]

    def batches(self, request: LogitsRequest) -> Iterator[np.ndarray]:
        """Yield the model's outputs for the selected samples, batch by batch, float32 (B, outputs)."""
        from modgap.forward.batched_inference import output_batches

        return output_batches(
            self.source,
            self.table.samples,
            self.rows,
            self.embedding,
            device=self.device,
            batch_size=request.samples.batch_size,
            dtype=request.samples.dtype,
            side_by_side=request.side_by_side,
            loader_workers=request.samples.loader_workers,
        )


def set_up_inference(
    handle: SourceHandle,
    target: Target,
    request: LogitsRequest,
    cache_record: dict[str, Any],
    embedder: TrainedEmbedder | None = None,
) -> InferenceSetup:
    """Read the target, select its samples, load the source, and check that they fit together.

    Args:
        handle: The source.
        target: The target.
        request: The samples, their size and the head.
        cache_record: Everything that decides the outputs; copied into the provenance.
        embedder: A trained embedder that replaces the source's native input; None for the native input.

    Raises:
        InputError: When the data, the weights or the labels cannot be used.
        UsageError: When an option does not apply.
    """
    from modgap.process.resources import choose_device

    device = choose_device(request.samples.device)
    table, rows, labels, groups = select_samples(target, request, embedder)
    source = handle.load(request.samples.input_size, head=request.head == "own")
    if embedder is None:
        embedding = native_embedding(target.manifest.input, table, source.input, request.samples.representation)
    head: str | dict[str, object] = request.head
    if request.head not in ("own", "none"):
        from modgap.forward.probe_head import cached_probe_head, with_head

        surrogate, threads = open_head_surrogate(request.head), request.side_by_side
        fitted = cached_probe_head(source, handle.fingerprint(), surrogate, request.samples, device, threads)
        source, head = with_head(source, fitted), fitted.record
    if embedder is not None:
        source = embedder.adapt(source)
        embedding = embedder.embedding(table)
    n_classes = label_space(labels).n_classes
    n_named = len(table.classes or ())
    warn_about_small_classes(labels, table.classes or ())
    if request.head != "none":
        validate_class_count(request.compared or n_classes, len(source.class_names))
    if n_named < n_classes:
        raise InputError(f"The labels have {n_classes} classes, but the target names only {n_named}.")
    return InferenceSetup(
        source=source,
        rows=rows,
        embedding=embedding,
        device=device,
        labels=labels,
        groups=groups,
        table=table,
        target_classes=tuple(str(name) for name in table.classes or ())[:n_classes],
        provenance=_provenance(cache_record, source, embedding, device.type) | {"head": head},
    )


def warn_about_small_classes(labels: np.ndarray, names: Sequence[str]) -> None:
    """Log the classes that have few samples, with their numbers.

    Args:
        labels: Class of each sample, shape (N,), or 0/1 labels, shape (N, K).
        names: Names of the K classes.
    """
    sizes = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(names))
    small = [k for k in np.argsort(sizes, kind="stable") if 0 < sizes[k] < FEW_SAMPLES and k < len(names)]
    if small:
        listed = ", ".join(f"{names[k]} ({sizes[k]})" for k in small[:NAMES_SHOWN])
        others = f" and {len(small) - NAMES_SHOWN} more" if len(small) > NAMES_SHOWN else ""
        log.warning(
            "%s fewer than %d samples: %s%s. Results for such classes are unreliable, and a class needs at least two "
            "samples for held-out errors. Add samples, or merge or remove these classes.",
            "1 class has" if len(small) == 1 else f"{len(small)} classes have",
            FEW_SAMPLES,
            listed,
            others,
        )


def samples_record(target: Target, samples: SampleRequest, input_size: int | None) -> dict[str, Any]:
    """Return the part of a cache key that says which samples of a target enter a source, and how.

    Args:
        target: The target.
        samples: The samples, their representation and precision.
        input_size: Height and width of the source's input in pixels; None for the source's default, or if there is no
            source.
    """
    return {
        "target": target.fingerprint,
        "split": samples.split or "all",
        "limit": [samples.limit, samples.seed] if samples.limit else None,
        "input_size": input_size,
        "representation": representation_record(samples.representation),
        "dtype": samples.dtype,
    }


def select_samples(
    target: Target, request: LogitsRequest, embedder: TrainedEmbedder | None = None
) -> tuple[Table, np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the target as it was read, and the numbers, labels and groups of the requested samples.

    Raises:
        InputError: When no sample is selected, or a class loses all its samples.
    """
    table = target.read()
    has_probe = request.head not in ("own", "none")
    is_fitted_here = has_probe and open_head_surrogate(request.head).fingerprint == target.fingerprint
    available = _available_rows(table, request, embedder, is_fitted_here=is_fitted_here)
    rows, limit = available, request.samples.limit
    if limit and limit < len(rows):
        strata = stratification_labels(table.class_labels[rows])
        rows = rows[stratified_subset(strata, limit, request.samples.seed)]
    labels = table.class_labels[rows]
    is_limited = len(_absent_classes(table, table.class_labels[available])) < len(_absent_classes(table, labels))
    _check_no_class_is_lost(table, labels, request, embedder, is_limited=is_limited)
    groups = table.groups["groups"][rows].astype(np.int64) if table.groups else None
    return table, rows, labels, groups


def _available_rows(
    table: Table, request: LogitsRequest, embedder: TrainedEmbedder | None, *, is_fitted_here: bool
) -> np.ndarray:
    """Return the rows of the requested split on which the source can be evaluated."""
    rows = np.arange(len(table)) if embedder is None else embedder.unseen_rows(table)
    if is_fitted_here:
        if request.samples.split == "train":
            raise UsageError(
                f"`head={request.head!r}` is fitted on the training samples of this target, so it cannot be evaluated "
                'on them. Use `split="test"`.'
            )
        message = "`head=%r` is fitted on the training samples of this target. These samples are left out."
        log.warning(message, request.head)
        rows = rows[np.asarray(table.splits)[rows] != SPLITS.index("train")]
    split = request.samples.split or "all"
    if split != "all":
        rows = rows[np.asarray(table.splits)[rows] == SPLITS.index(split)]
    if len(rows) == 0:
        raise InputError(f"Split {split} has no sample{_unseen_note(embedder)}. Choose another `split`.")
    return rows


def _unseen_note(embedder: TrainedEmbedder | None) -> str:
    return " that the embedder was not trained on" if embedder else ""


def _absent_classes(table: Table, labels: np.ndarray) -> np.ndarray:
    """Return the numbers of the target's classes that some labels do not have."""
    if labels.ndim == 1:
        return np.setdiff1d(table.class_labels, labels)
    return np.flatnonzero(table.class_labels.any(axis=0) & ~labels.any(axis=0))


def _check_no_class_is_lost(
    table: Table, labels: np.ndarray, request: LogitsRequest, embedder: TrainedEmbedder | None, *, is_limited: bool
) -> None:
    """Raise if the selection leaves a class without samples, which would change what is compared."""
    absent = _absent_classes(table, labels)
    if len(absent) == 0:
        return
    split = request.samples.split or "all"
    limit = request.samples.limit if is_limited else None
    names = ", ".join(str((table.classes or ())[k]) for k in absent[:NAMES_SHOWN])
    selection = f"Split {split}" + (f" with `limit={limit}`" if limit else "")
    way_out = 'Use `split="all"` or a larger `limit`.' if limit else 'Use `split="all"`.'
    if embedder and split == "all" and not limit:
        way_out = "Train the embedder with more samples in the test split."
    raise InputError(
        f"{selection} has no samples{_unseen_note(embedder)} of {count(len(absent), 'class', 'classes')} ({names}). "
        f"Every class needs at least one. {way_out}"
    )


def _provenance(cache_record: dict[str, Any], source: Source, embedding: Embedding, device: str) -> dict[str, object]:
    target = cache_record["target"]
    return {
        "modgap": installed_version(),
        "source": cache_record["source"],
        "kinds": {"source": source.input.kind, "samples": target["manifest"]["input"]["kind"]},
        "target": {
            "manifest": cache_key(target["manifest"]),
            "reader": target["manifest"]["reader"],
            "files": target["files"],
        },
        "samples": {"split": cache_record["split"], "limit": cache_record["limit"]},
        "embedding": {
            "embedder": cache_record.get("embedder", "native"),
            **embedding.to_dict(),
            **source.input.to_dict(),
        },
        "source_notes": dict(source.notes),
        "dtype": cache_record["dtype"],
        "device": device,
    }
