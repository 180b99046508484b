"""A source's features and logits on the target's samples in one pass, kept in the cache."""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modgap import __version__
from modgap.errors import InputError, UsageError
from modgap.forward.batched_inference import choose_device
from modgap.forward.inference_setup import (
    InferenceSetup,
    LogitsRequest,
    select_samples,
    set_up_inference,
)
from modgap.forward.surrogate_target import default_surrogate, open_head_surrogate, open_surrogate_target
from modgap.progress import Progress
from modgap.ranking.raw_values import RAW, raw_features
from modgap.ranking.source_outputs import Evidence
from modgap.ranking.source_patterns import with_size
from modgap.sources import HeadlessError, Source, SourceHandle, open_source
from modgap.storage.cache import cache_key, entry_path
from modgap.storage.row_store import RowWriter, read_valid_entry
from modgap.targets import Target
from modgap.targets.samples import pool_targets
from modgap.transfer.surrogate import SurrogateBatch, open_surrogate

__all__ = ["Extracted", "class_names_of", "evidence_of", "extract"]

KIND = "evidence"
SURROGATE_SAMPLES, OWN_BATCH = 1000, 16

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class Extracted:
    """Where a source's evidence lies.

    Attributes:
        key: Of the cache entry.
        cached: Whether it was there already.
        facts: What is known of the source: `parameters`, `source_error`, `head`, `width`, `classes`.
        samples: How many of the target's.
        provenance: What was run on what.
    """

    key: str
    cached: bool
    facts: dict[str, Any]
    samples: int
    provenance: dict[str, Any]


class _Joint(nn.Module):
    """Pooled features and logits of a batch side by side, (B, D + Z), from one pass of the encoder.

    The features are the mean over the encoder's tokens, which is what the predictors of `modgap train` see. A head that
    was fitted is linear on the bare encoder's own pooled output.
    """

    def __init__(self, source: Source, fitted: nn.Module | None, bare: bool):
        super().__init__()
        parts = source.split()
        self.embedder, self.encoder, self.head, self.fitted = parts.embedder, parts.encoder, parts.head, fitted
        self._tokens, self._bare = parts.tokens, bare
        self.width = 0
        of_model = (self.embedder, self.encoder, self.head)
        self.parameter_count = sum({p: p.numel() for part in of_model for p in part.parameters()}.values())
        self.eval()

    def forward(self, batch: Any) -> Tensor:
        encoded = self.encoder(self.embedder(batch))
        features = SurrogateBatch(batch).pool(self._tokens(encoded))
        self.width = features.shape[1]
        if self._bare and self.fitted is None:
            return features
        given = self.head(encoded)
        return torch.cat([features, given if self.fitted is None else self.fitted(given)], dim=1)


@dataclass(frozen=True)
class _Own:
    """Labeled data of a source's own modality: what a head is fitted on, and what it is measured on.

    Attributes:
        name: Of the data; empty where modgap knows of none, or it is not here.
        split: Of it, that the source has not been trained on.
        fingerprint: What decides it.
    """

    name: str = ""
    split: str = ""
    fingerprint: Any = None


def _own_of(source: str) -> _Own:
    try:
        name, split = default_surrogate(source)
        return _Own(name, split, open_surrogate_target(name).target.fingerprint)
    except InputError as error:
        log.debug("no labeled data of the modality of %s: %s", source, error)
        return _Own()


def extract(
    name: str,
    target: Target,
    request: LogitsRequest,
    progress: Progress | None = None,
) -> Extracted:
    """Run the source over the target's samples, unless the cache has it.

    Args:
        name: Of the source, with `@64px` after it for a size of its own. Its own head where it has one, else one fitted
            on its own surrogate, else none. `raw` for the samples' own values in place of features.
        target: The target.
        request: Which samples, at what size. Its `head` is `auto`, or as for logits.
        progress: Called with `features` and the share of the work done since the last call.

    Raises:
        InputError: When source, target or their combination cannot be used; says why.
    """
    name, size = with_size(name)
    samples = replace(request.samples, input_size=size or request.samples.input_size)
    request = replace(request, samples=samples)
    handle = None if name == RAW else open_source(name)
    own = _Own() if handle is None else _own_of(name)
    heads = _heads(request, own, target)
    wanted = {
        "source": handle.fingerprint() if handle else RAW, "target": target.fingerprint,
        "split": samples.split or "all",
        "limit": [samples.limit, samples.seed] if samples.limit else None,
        "input_size": samples.input_size if handle else None, "representation": samples.representation,
        "dtype": samples.dtype, "batch_size": samples.batch_size, "heads": heads,
        "fitted_on": [open_head_surrogate(head).fingerprint for head in heads if ":" in head],
        "custom_data_of": [own.name, own.split, own.fingerprint], "modgap": __version__,
    }  # fmt: skip
    key = cache_key(wanted)
    entry = read_valid_entry(entry_path(KIND, key))
    if entry is not None:
        record = entry.metadata
        return Extracted(key, True, record["facts"], len(entry.arrays["labels"]), record["provenance"])
    if handle is None:
        return _raw(target, request, wanted, key)
    return _run(handle, target, request, heads, own, wanted, key, progress)


def _run(
    handle: SourceHandle, target: Target, request: LogitsRequest, heads: list[str], own: _Own, wanted: dict, key: str,
    progress: Progress | None,
) -> Extracted:  # fmt: skip
    ready, head = _prepared(handle, target, request, heads, wanted)
    fitted = getattr(ready.source.model, "fitted_head", None)
    joint = _Joint(ready.source, fitted, bare=head != "own")
    ready = replace(ready, source=replace(ready.source, model=joint))
    rows = []
    for batch in ready.batches(request):
        rows.append(batch)
        if progress:
            progress("features", len(batch) / len(ready.rows))
    whole = np.concatenate(rows)
    surrogate, error = _own_data(own, ready.source, joint, request)
    facts = {
        "parameters": joint.parameter_count, "source_error": error, "head": head,
        "width": joint.width, "classes": whole.shape[1] - joint.width,
    }  # fmt: skip
    classes = ready.source.class_names if facts["classes"] else ()
    names = {"source_classes": list(classes), "target_classes": list(ready.target_classes)}
    return _kept(whole, _arrays(ready, surrogate), facts, ready.provenance | {"head": head}, key, names)


def _heads(request: LogitsRequest, own: _Own, target: Target) -> list[str]:
    """Heads to try, in this order.

    Raises:
        UsageError: When a head would be fitted on the very target that it is to judge.
    """
    if request.head == "auto":
        # Fitted on the target's training samples it would judge these, or other samples than other sources do.
        fitted = own.name and own.fingerprint != target.fingerprint
        return ["own", *([f"probe:{own.name}"] if fitted else []), "none"]
    if request.head not in ("own", "none") and open_head_surrogate(request.head).fingerprint == target.fingerprint:
        raise UsageError(f"--head {request.head} would be fitted on the target itself; name other labeled data")
    return [request.head]


def _prepared(
    handle: SourceHandle, target: Target, request: LogitsRequest, heads: list[str], wanted: dict
) -> tuple[InferenceSetup, str]:
    """Everything but the pass itself, and which head there is."""
    for head in heads[:-1]:
        try:
            return set_up_inference(handle, target, replace(request, head=head, compared=2), wanted), head
        except HeadlessError:
            log.debug("%s has no head of its own", handle.name)
    return set_up_inference(handle, target, replace(request, head=heads[-1], compared=2), wanted), heads[-1]


def _own_data(
    own: _Own, source: Source, joint: _Joint, request: LogitsRequest
) -> tuple[tuple[np.ndarray, np.ndarray] | None, float | None]:
    """Features and classes of labeled data of the source's own modality, and what a probe gets wrong on it.

    Where words are labeled the features are their own tokens'.
    """
    from modgap.ranking.scores.linear_probe import SCORE

    if not own.name:
        return None, None
    try:
        # The model that takes the target's samples, whose preprocessing it is.
        surrogate = open_surrogate(own.name, source, split=own.split, limit=SURROGATE_SAMPLES)
    except InputError as error:
        log.info("no labeled data of the modality of the source: %s", error)
        return None, None
    device, size = choose_device(request.samples.device), request.samples.batch_size or OWN_BATCH
    found = []
    with torch.inference_mode():
        for start in range(0, len(surrogate), size):
            rows = np.arange(start, min(start + size, len(surrogate)))
            found.append(_tokens_mean(joint, surrogate.load(rows, device)).float().cpu().numpy())
    features, labels = np.concatenate(found), np.unique(surrogate.labels, return_inverse=True)[1]
    return (features, labels), SCORE.of(Evidence(features, labels, groups=surrogate.groups))


def _tokens_mean(joint: _Joint, batch: SurrogateBatch) -> Tensor:
    return batch.pool(joint._tokens(joint.encoder(joint.embedder(batch.inputs))))


def _arrays(ready: InferenceSetup, surrogate: tuple[np.ndarray, np.ndarray] | None) -> dict[str, np.ndarray]:
    arrays = {"labels": ready.labels, "rows": ready.rows}
    if ready.groups is not None:
        arrays["groups"] = ready.groups
    if ready.table.targets is not None:
        arrays["values"] = pool_targets(ready.table.select(ready.rows).targets)  # type: ignore[arg-type]
    if surrogate is not None:
        arrays |= {"surrogate_features": surrogate[0], "surrogate_labels": np.asarray(surrogate[1], np.int64)}
    return arrays


def _kept(
    whole: np.ndarray,
    arrays: dict[str, np.ndarray],
    facts: dict[str, Any],
    provenance: dict,
    key: str,
    names: dict[str, list[str]],
) -> Extracted:
    record = {"facts": facts, "provenance": provenance, **names}
    with RowWriter(entry_path(KIND, key), arrays, "evidence", whole.shape, record) as sink:
        sink.append(whole)
        sink.finish()
    return Extracted(key, False, facts, len(whole), provenance)


def _raw(target: Target, request: LogitsRequest, wanted: dict, key: str) -> Extracted:
    """The samples' own values in place of features: what any model must beat."""
    table, rows, labels, groups = select_samples(target, replace(request, head="none"))
    values = raw_features(table.samples, rows)
    facts = {"parameters": 0, "source_error": None, "head": "none", "width": values.shape[1], "classes": 0}
    arrays = {"labels": labels, "rows": rows}
    if groups is not None:
        arrays["groups"] = groups
    if table.targets is not None:
        arrays["values"] = pool_targets(table.select(rows).targets)  # type: ignore[arg-type]
    names = {"source_classes": [], "target_classes": [str(name) for name in table.classes or ()]}
    provenance = {"modgap": __version__, "source": RAW, "samples": wanted["limit"]}
    return _kept(values, arrays, facts, provenance, key, names)


def evidence_of(key: str) -> Evidence:
    """What `extract` has put into the cache.

    Raises:
        InputError: When it is not there any more.
    """
    entry = read_valid_entry(entry_path(KIND, key))
    if entry is None:
        raise InputError(f"cache entry {key[:12]}... is gone; run the command again")
    arrays, facts = entry.arrays, entry.metadata["facts"]
    width, whole = facts["width"], arrays["evidence"]
    own = (arrays["surrogate_features"], arrays["surrogate_labels"]) if "surrogate_features" in arrays else None
    return Evidence(
        features=whole[:, :width],
        labels=np.array(arrays["labels"]),
        logits=whole[:, width:] if facts["classes"] else None,
        values=np.array(arrays["values"]) if "values" in arrays else None,
        groups=np.array(arrays["groups"]) if "groups" in arrays else None,
        surrogate=own,
        facts=facts,
    )


def class_names_of(key: str) -> tuple[list[str], list[str]]:
    """Names of the source's and of the target's classes, where they have some."""
    entry = read_valid_entry(entry_path(KIND, key))
    return ([], []) if entry is None else (entry.metadata["source_classes"], entry.metadata["target_classes"])
