"""Results that the HTML report shows for each source: discrepancy with its null distribution, class map, t-SNE map."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.ranking.cached_job import CachedJob
from modgap.ranking.score import ErrorOptions
from modgap.ranking.source_outputs import SourceOutputs, load_class_names, load_source_outputs
from modgap.statistics.multiple_comparisons import holm
from modgap.storage.cache import CacheEntry
from modgap.targets.splits import stratification_labels, stratified_keys

VERSION = 5
"""Version of the algorithm, part of the cache keys."""
MAX_MAP_SAMPLES = 600
MIN_MAP_SAMPLES = 20
"""Most and fewest samples of a t-SNE map."""


@dataclass(frozen=True)
class ReportDetails:
    """Results that the HTML report shows for a source.

    Attributes:
        discrepancy: `value`, `held_out`, `interval`, `null_mean`, `null_sd`, `p_value` (of the soft error),
            `corrected_p_value` (by Holm for the number of sources; None for controls), `permuted_error`, `chance`
            (error at chance level) and `map`, a list of pairs of target and source class. Empty for a source without a
            head, or with fewer classes than the target.
        coordinates: t-SNE map of some of the samples, shape (m, 2). Empty if there are too few samples.
        labels: Classes of these samples, shape (m,).
    """

    discrepancy: dict[str, Any]
    coordinates: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class ReportDetailsJob(CachedJob[ReportDetails]):
    """Computation of the report details of one source.

    Attributes:
        outputs_key: Cache key of the source's outputs.
        seed: Seed of the null distribution and of the t-SNE map.
        permutations: Largest number of permutations of the labels for the null distribution.
        errors: Weights and splits of the discrepancy.
    """

    cache_kind = "report_details"
    outputs_key: str
    seed: int
    permutations: int
    errors: ErrorOptions

    def identity(self) -> dict[str, object]:
        """Return the fields, and the version of the algorithm."""
        return {**asdict(self), "version": VERSION}

    def _compute(self) -> ReportDetails:
        outputs = load_source_outputs(self.outputs_key)
        return ReportDetails(_discrepancy(outputs, self), *_tsne_map(outputs, self.seed))

    def _encode(self, details: ReportDetails) -> CacheEntry:
        arrays = {"coordinates": details.coordinates, "labels": details.labels}
        return CacheEntry(arrays, {"discrepancy": details.discrepancy, "job": asdict(self)})

    def _decode(self, entry: CacheEntry) -> ReportDetails:
        coordinates = np.array(entry.arrays["coordinates"])
        return ReportDetails(entry.metadata["discrepancy"], coordinates, np.array(entry.arrays["labels"]))


def correct_p_values(details: Mapping[int, ReportDetails], sources: set[int]) -> dict[int, ReportDetails]:
    """Return the details with p-values that are corrected by Holm for the number of sources.

    Args:
        details: Details of each row by its index.
        sources: Indices of the rows that are sources, and not controls.
    """
    p_values = {
        index: one.discrepancy["p_value"]
        for index, one in details.items()
        if index in sources and one.discrepancy.get("p_value") is not None
    }
    corrected = dict(zip(p_values, holm(list(p_values.values())).tolist(), strict=True))
    return {
        index: replace(one, discrepancy={**one.discrepancy, "corrected_p_value": corrected.get(index)})
        if one.discrepancy
        else one
        for index, one in details.items()
    }


def _discrepancy(outputs: SourceOutputs, job: ReportDetailsJob) -> dict[str, Any]:
    from modgap.discrepancy import estimate

    if outputs.logits is None or outputs.n_classes > outputs.logits.shape[1]:
        return {}
    result = estimate(
        np.asarray(outputs.logits, np.float32),
        outputs.labels,
        groups=outputs.groups,
        estimators=["search"],
        weight=job.errors.weight,
        splits=job.errors.splits,
        per_class=job.errors.per_class,
        permutations=job.permutations,
        seed=job.seed,
        threads=1,
    )
    best = result.estimates["search"]
    source_names, target_names = load_class_names(job.outputs_key)
    pairs = [
        [_class_name(target_names, target), _class_name(source_names, int(source))]
        for target, source in enumerate(best.solution.map)
    ]
    null = result.null
    return {
        "value": best.solution.value,
        "held_out": best.held_out,
        "interval": list(best.held_out_interval) if best.held_out_interval else None,
        "null_mean": null.mean if null else None,
        "null_sd": null.sd if null else None,
        "p_value": null.p_value if null else None,
        "permuted_error": result.permuted_error,
        "chance": result.chance,
        "map": pairs,
    }


def _class_name(names: list[str], number: int) -> str:
    """Return the first of a class's names, which are separated by commas, or its number if it has none."""
    return names[number].split(",")[0] if number < len(names) else str(number)


def _tsne_map(outputs: SourceOutputs, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (m, 2) and classes (m,) of some samples. Both are empty if no map can be made."""
    from modgap.probes.tsne_maps import tsne_maps

    no_map = (np.empty((0, 2)), np.empty(0, np.int64))
    labels = stratification_labels(outputs.labels).astype(np.int64)
    keys = stratified_keys(labels, None, seed)
    rows = np.sort(np.argsort(keys, kind="stable")[:MAX_MAP_SAMPLES])
    if len(rows) < MIN_MAP_SAMPLES:
        return no_map
    points = np.array(outputs.features[rows])
    perplexity = min(30.0, (len(rows) - 1) / 3)
    try:
        maps = tsne_maps({"features": points}, labels[rows], perplexity=perplexity, seed=seed, threads=1)
    except InputError:
        # Constant features, such as those of a network with dead units, have no map.
        return no_map
    return maps["features"].coordinates, labels[rows]
