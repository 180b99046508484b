"""What a report shows of a source beside its scores: discrepancy with its null, best map of classes, t-SNE map."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError, first_line
from modgap.ranking.extraction import class_names_of, evidence_of
from modgap.ranking.jobs import Failure, fix_threads
from modgap.ranking.source_outputs import Evidence
from modgap.storage.cache import cache_key, entry_path
from modgap.storage.row_store import read_valid_entry, store_arrays
from modgap.targets.splits import stratification_labels, stratified_keys

__all__ = ["DetailJob", "Details"]

KIND, VERSION = "details", 1
MAPPED = 600
"""Samples of a thumbnail."""
NULLS = 99


@dataclass(frozen=True)
class Details:
    """What is shown of a source.

    Attributes:
        discrepancy: `value`, `held_out`, `interval`, `null_mean`, `null_sd`, `p_value`, `ratio_to_null`, `chance` and
            `map`, pairs of target and source class; empty for a source without a head, or with fewer classes.
        coordinates: t-SNE map of some of the samples, shape (m, 2); empty where there are too few.
        labels: Their classes, shape (m,).
    """

    discrepancy: dict[str, Any]
    coordinates: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class DetailJob:
    """Details of one source.

    Attributes:
        evidence: Key of the source's evidence in the cache.
        seed: Of null and map.
    """

    evidence: str
    seed: int

    @property
    def path(self) -> Path:
        """Where its result lies once it is done."""
        return entry_path(KIND, cache_key({**asdict(self), "version": VERSION}))

    def done(self) -> Details | None:
        """Its result, if it is in the cache."""
        entry = read_valid_entry(self.path)
        if entry is None:
            return None
        arrays = entry.arrays
        return Details(entry.metadata["discrepancy"], np.array(arrays["coordinates"]), np.array(arrays["labels"]))

    def __call__(self) -> Details | Failure:
        """Do it, unless it is done."""
        found = self.done()
        if found is not None:
            return found
        fix_threads()
        try:
            evidence = evidence_of(self.evidence)
            details = Details(_discrepancy(evidence, self.evidence, self.seed), *_map(evidence, self.seed))
        except Exception as error:  # what cannot be shown must not cost the ranking
            return Failure(f"{type(error).__name__}: {first_line(error)}")
        store_arrays(
            self.path, {"coordinates": details.coordinates, "labels": details.labels},
            {"discrepancy": details.discrepancy, "job": asdict(self)},
        )  # fmt: skip
        return details

    def describe(self) -> str:
        """For progress and logs."""
        return f"details of {self.evidence[:8]}"


def _discrepancy(evidence: Evidence, key: str, seed: int) -> dict[str, Any]:
    from modgap.discrepancy import estimate

    if evidence.logits is None or evidence.n_classes > evidence.logits.shape[1]:
        return {}
    result = estimate(
        np.asarray(evidence.logits, np.float32), evidence.labels, groups=evidence.groups, estimators=["search"],
        null=NULLS, seed=seed, threads=1,
    )  # fmt: skip
    best = result.estimates["search"]
    sources, targets = class_names_of(key)
    pairs = [[_named(targets, k), _named(sources, int(c))] for k, c in enumerate(best.solution.map)]
    null = best.null
    return {
        "value": best.solution.value, "held_out": best.held_out,
        "interval": list(best.held_out_interval) if best.held_out_interval else None,
        "null_mean": null.mean if null else None, "null_sd": null.sd if null else None,
        "p_value": null.p_value if null else None, "ratio_to_null": best.ratio_to_null, "chance": result.chance,
        "map": pairs,
    }  # fmt: skip


def _named(names: list[str], number: int) -> str:
    return names[number].split(",")[0] if number < len(names) else str(number)


def _map(evidence: Evidence, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from modgap.distortion.tsne_maps import tsne_maps

    labels = stratification_labels(evidence.labels).astype(np.int64)
    order = stratified_keys(labels, None, seed)
    rows = np.sort(np.argsort(order, kind="stable")[:MAPPED])
    if len(rows) < 20:
        return np.empty((0, 2)), np.empty(0, np.int64)
    points, perplexity = np.array(evidence.features[rows]), min(30.0, (len(rows) - 1) / 3)
    try:
        found = tsne_maps({"features": points}, labels[rows], perplexity=perplexity, seed=seed, threads=1)
    except InputError:
        # Constant features, such as a dead network's, have no map.
        return np.empty((0, 2)), np.empty(0, np.int64)
    return found["features"].coordinates, labels[rows]
