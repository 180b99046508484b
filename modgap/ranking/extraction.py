"""A source's features and logits on the target's samples in one pass, kept in the cache."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modgap import __version__
from modgap.cache import entry_path, key_of
from modgap.errors import InputError
from modgap.preparation import LogitsRequest, Prepared, chosen_samples, prepare
from modgap.ranking.evidence import Evidence
from modgap.ranking.raw import RAW, raw_features
from modgap.ranking.sources import with_size
from modgap.row_store import RowSink, sound_entry
from modgap.sources import HeadlessError, Source, SourceHandle, open_source
from modgap.targets import Target
from modgap.targets.samples import pooled

__all__ = ["Extracted", "class_names_of", "evidence_of", "extract"]

KIND = "evidence"
SURROGATE_SAMPLES = 1000

Progress = Callable[[str, float], None]
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

    Of a source with its own head the features are the mean over the encoder's tokens, which is what the predictors of
    `modgap train` see; of a bare encoder its pooled output, on which a fitted head is linear.
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
        given = self.head(encoded)
        if not self._bare:
            features = _mean(self._tokens(encoded), batch)
            self.width = features.shape[1]
            return torch.cat([features, given], dim=1)
        self.width = given.shape[1]
        return given if self.fitted is None else torch.cat([given, self.fitted(given)], dim=1)


def _mean(tokens: Tensor, batch: Any) -> Tensor:
    """Mean over tokens that are no padding."""
    from modgap.transfer.surrogate import SurrogateBatch

    return SurrogateBatch(batch).pooled(tokens)


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
    request = replace(request, input_size=size or request.input_size)
    handle = None if name == RAW else open_source(name)
    wanted = {
        "source": handle.fingerprint() if handle else RAW, "target": target.fingerprint, "split": request.split,
        "limit": [request.limit, request.seed] if request.limit else None,
        "input_size": None if handle is None else request.input_size, "representation": request.representation,
        "dtype": request.dtype, "head": request.head, "batch_size": request.batch_size, "modgap": __version__,
    }  # fmt: skip
    key = key_of(wanted)
    entry = sound_entry(entry_path(KIND, key))
    if entry is not None:
        record = entry.metadata
        return Extracted(key, True, record["facts"], len(entry.arrays["labels"]), record["provenance"])
    if handle is None:
        return _raw(target, request, wanted, key)
    return _run(name, handle, target, request, wanted, key, progress)


def _run(
    name: str, handle: SourceHandle, target: Target, request: LogitsRequest, wanted: dict, key: str,
    progress: Progress | None,
) -> Extracted:  # fmt: skip
    ready, head = _prepared(name, handle, target, request, wanted)
    fitted = getattr(ready.source.model, "fitted_head", None)
    joint = _Joint(ready.source, fitted, bare=head != "own")
    ready = replace(ready, source=replace(ready.source, model=joint))
    rows = []
    for batch in ready.batches(request):
        rows.append(batch)
        if progress:
            progress("features", len(batch) / len(ready.rows))
    whole = np.concatenate(rows)
    surrogate, error = _own_data(name, handle, ready.source, request)
    facts = {
        "parameters": joint.parameter_count, "source_error": error, "head": head,
        "width": joint.width, "classes": whole.shape[1] - joint.width,
    }  # fmt: skip
    classes = ready.source.class_names if facts["classes"] else ()
    names = {"source_classes": list(classes), "target_classes": list(ready.target_classes)}
    return _kept(whole, _arrays(ready, surrogate), facts, ready.provenance | {"head": head}, key, names)


def _prepared(
    name: str, handle: SourceHandle, target: Target, request: LogitsRequest, wanted: dict
) -> tuple[Prepared, str]:
    """Everything but the pass itself, and which head there is: `own`, `probe:NAME` or `none`."""
    for head in _heads(name) if request.head == "auto" else (request.head,):
        try:
            return prepare(handle, target, replace(request, head=head, compared=2), wanted), head
        except HeadlessError:
            log.debug("%s has no head of its own", name)
    return prepare(handle, target, replace(request, head="none", compared=2), wanted), "none"


def _heads(name: str) -> list[str]:
    from modgap.targets import open_target
    from modgap.transfer.surrogate import default_surrogate

    try:
        surrogate, _ = default_surrogate(name)
        open_target(surrogate)
    except InputError:
        return ["own"]
    return ["own", f"probe:{surrogate}"]


def _own_data(
    name: str, handle: SourceHandle, source: Source, request: LogitsRequest
) -> tuple[tuple[np.ndarray, np.ndarray] | None, float | None]:
    """Features and classes of labelled data of the source's own modality, and what a probe gets wrong on it."""
    from modgap.distortion.encoders import untouched
    from modgap.distortion.features import FeatureRequest, features
    from modgap.ranking.scores.linear_probe import SCORE
    from modgap.transfer.surrogate import default_surrogate, open_surrogate

    try:
        known, split = default_surrogate(name)
        surrogate = open_surrogate(known, source, split=split, limit=SURROGATE_SAMPLES)
        asked = FeatureRequest(
            input_size=request.input_size, dtype=request.dtype, device=request.device, batch_size=request.batch_size
        )
        found = features(source, handle.fingerprint(), untouched(), surrogate, asked)["output"]
    except InputError as error:
        log.info("no labelled data of the modality of %s: %s", name, error)
        return None, None
    own = Evidence(found, np.unique(surrogate.labels, return_inverse=True)[1], groups=surrogate.groups)
    return (found, surrogate.labels), SCORE.of(own)


def _arrays(ready: Prepared, surrogate: tuple[np.ndarray, np.ndarray] | None) -> dict[str, np.ndarray]:
    arrays = {"labels": ready.labels, "rows": ready.rows}
    if ready.groups is not None:
        arrays["groups"] = ready.groups
    if ready.table.targets is not None:
        arrays["values"] = pooled(ready.table.only(ready.rows).targets)  # type: ignore[arg-type]
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
    with RowSink(entry_path(KIND, key), arrays, "evidence", whole.shape, record) as sink:
        sink.append(whole)
        sink.finish()
    return Extracted(key, False, facts, len(whole), provenance)


def _raw(target: Target, request: LogitsRequest, wanted: dict, key: str) -> Extracted:
    """The samples' own values in place of features: what any model must beat."""
    table, rows, labels, groups = chosen_samples(target, replace(request, head="none"))
    values = raw_features(table.samples, rows)
    facts = {"parameters": 0, "source_error": None, "head": "none", "width": values.shape[1], "classes": 0}
    arrays = {"labels": labels, "rows": rows}
    if groups is not None:
        arrays["groups"] = groups
    if table.targets is not None:
        arrays["values"] = pooled(table.only(rows).targets)  # type: ignore[arg-type]
    names = {"source_classes": [], "target_classes": [str(name) for name in table.classes or ()]}
    provenance = {"modgap": __version__, "source": RAW, "samples": wanted["limit"]}
    return _kept(values, arrays, facts, provenance, key, names)


def evidence_of(key: str) -> Evidence:
    """What `extract` has put into the cache.

    Raises:
        InputError: When it is not there any more.
    """
    entry = sound_entry(entry_path(KIND, key))
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
    entry = sound_entry(entry_path(KIND, key))
    return ([], []) if entry is None else (entry.metadata["source_classes"], entry.metadata["target_classes"])
