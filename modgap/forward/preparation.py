"""What a pass over a target's samples needs: which samples, how they enter the source, and what head it has."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from modgap import __version__
from modgap.errors import InputError, UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.inputs.native_embedding import Embedding, native_embedding
from modgap.label_space import label_space, validate_class_count
from modgap.sources import Source, SourceHandle
from modgap.storage.cache import key_of
from modgap.targets import SPLITS, Samples, Table, Target, open_target
from modgap.targets.splits import stratification_labels, stratified_subset

if TYPE_CHECKING:
    import torch

__all__ = ["LogitsRequest", "Prepared", "TrainedEmbedder", "chosen_samples", "prepare", "surrogate_of"]

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class LogitsRequest:
    """Which logits to compute, and how.

    Attributes:
        samples: Which samples, at what size, on what device.
        head: `own` for the source's head; `probe:SURROGATE` for a linear probe fitted on that labeled data, whose
            training samples are then left out; `none` for features alone.
        compared: Number of target classes that are compared at a time; None for all. More classes than the source
            has raise an error before the model runs, unless fewer are compared at a time.
    """

    samples: SampleRequest = field(default_factory=SampleRequest)
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
class Prepared:
    """All that a pass over the samples needs.

    Attributes:
        source: The model, with the head that was asked for.
        samples: Of the target.
        rows: Numbers of the samples wanted, shape (N,).
        embedding: How they enter the source.
        device: Where the model runs.
        labels: Their classes, shape (N,) or (N, K).
        groups: Their records or subjects, shape (N,); None where each is its own.
        table: The target as it was read.
        target_classes: Names of the classes.
        provenance: What is run on what.
    """

    source: Source
    samples: Samples
    rows: np.ndarray
    embedding: Embedding
    device: "torch.device"
    labels: np.ndarray
    groups: np.ndarray | None
    table: Table
    target_classes: tuple[str, ...]
    provenance: dict

    def batches(self, request: LogitsRequest) -> Iterator[np.ndarray]:
        """What the model gives for the samples, batch by batch, float32 (B, outputs)."""
        from modgap.forward.source_pass import logit_batches

        return logit_batches(
            self.source,
            self.samples,
            self.rows,
            self.embedding,
            device=self.device,
            batch_size=request.samples.batch_size,
            dtype=request.samples.dtype,
        )


def prepare(
    handle: SourceHandle, target: Target, request: LogitsRequest, wanted: dict, embedder: TrainedEmbedder | None = None
) -> Prepared:
    """Read the target, choose its samples, load the source, and see that they fit.

    Args:
        handle: The source.
        target: The target.
        request: Which samples, at what size, with which head.
        wanted: What decides the outcome, for the record.
        embedder: One that was trained, in place of the source's own.

    Raises:
        InputError: When the data, the weights or the labels cannot be used.
        UsageError: When options do not apply.
    """
    from modgap.forward.source_pass import choose_device

    device = choose_device(request.samples.device)
    table, rows, labels, groups = chosen_samples(target, request, embedder)
    source = handle.load(request.samples.input_size, head=request.head == "own")
    if embedder is None:
        embedding = native_embedding(target.manifest.input, table, source.input, request.samples.representation)
    source, head = _with_head(source, request, device)
    if embedder is not None:
        source, embedding = embedder.adapt(source), embedder.embedding(table)
    n_classes = label_space(labels).n_classes
    if request.head != "none":
        validate_class_count(request.compared or n_classes, len(source.class_names))
    if len(table.classes or ()) < n_classes:
        raise InputError(f"expected labels of {len(table.classes or ())} classes, got {n_classes}")
    return Prepared(
        source, table.samples, rows, embedding, device, labels, groups, table,
        tuple(str(name) for name in table.classes or ())[:n_classes],
        _provenance(wanted, source, embedding, device.type) | {"head": head},
    )  # fmt: skip


def chosen_samples(
    target: Target, request: LogitsRequest, embedder: TrainedEmbedder | None = None
) -> tuple[Table, np.ndarray, np.ndarray, np.ndarray | None]:
    """The target as read, the numbers of the samples that were asked for, their labels and groups.

    Raises:
        InputError: When there are none, or a class has none among them.
    """
    table = target.read()
    named = request.head not in ("own", "none")
    rows = _chosen_rows(
        table, request, embedder, fitted=named and surrogate_of(request).fingerprint == target.fingerprint
    )
    labels = table.class_labels[rows]
    _refuse_absent_classes(table, labels, request, embedder)
    return table, rows, labels, table.groups["groups"][rows].astype(np.int64) if table.groups else None


def _with_head(source: Source, request: LogitsRequest, device: "torch.device") -> tuple[Source, str | dict]:
    """The source with the head asked for, and what is recorded of that."""
    if request.head in ("own", "none"):
        return source, request.head
    from modgap.forward.probe_head import with_probe_head

    source, fitted = with_probe_head(
        source, surrogate_of(request), device=device, batch_size=request.samples.batch_size, dtype=request.samples.dtype
    )  # fmt: skip
    return source, asdict(fitted)


def surrogate_of(request: LogitsRequest) -> Target:
    """The labeled data that a head is to be fitted on.

    Raises:
        UsageError: When the request's head is another.
    """
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
    split = request.samples.split or "all"
    if split != "all":
        rows = rows[np.asarray(table.splits)[rows] == SPLITS.index(split)]
    if len(rows) == 0:
        seen = " that the embedder's training did not see" if embedder else ""
        raise InputError(f"expected at least one sample in split {split}{seen}, got none")
    limit = request.samples.limit
    if limit and limit < len(rows):
        strata = stratification_labels(table.class_labels[rows])
        rows = rows[stratified_subset(strata, limit, request.samples.seed)]
    return rows


def _unfitted(rows: np.ndarray, table: Table, request: LogitsRequest) -> np.ndarray:
    """Without the samples that the head was fitted on, where it was fitted on this very target."""
    train = SPLITS.index("train")
    if request.samples.split == "train":
        raise UsageError(
            f"--head {request.head} is fitted on the training samples of this target, which would judge itself; "
            "use --split test"
        )
    log.warning("--head %s is fitted on this target's training samples; they are left out", request.head)
    return rows[np.asarray(table.splits)[rows] != train]


def _refuse_absent_classes(
    table: Table, labels: np.ndarray, request: LogitsRequest, embedder: TrainedEmbedder | None
) -> None:
    """Choosing samples must not change which classes there are."""
    if labels.ndim == 1:
        absent = np.setdiff1d(table.class_labels, labels)
    else:
        absent = np.flatnonzero(table.class_labels.any(axis=0) & ~labels.any(axis=0))
    if len(absent):
        names = ", ".join(str((table.classes or ())[k]) for k in absent[:5])
        chosen = f"split {request.samples.split or 'all'}" + (
            f" with --limit {request.samples.limit}" if request.samples.limit else ""
        )
        unseen = " that the embedder's training did not see" if embedder else ""
        way_out = "use --split all or a larger --limit"
        if embedder and request.samples.split in (None, "all") and not request.samples.limit:
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
            "embedder": wanted.get("embedder", "native"),
            **embedding.to_dict(),
            **own.to_dict(),
        },
        "source_notes": dict(source.notes),
        "dtype": wanted["dtype"],
        "device": device,
    }
