"""What runs did to a source's knowledge: probes and similarity of their encoders on surrogates (MoNA, section 2.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modgap.distortion.encoders import Encoder, Epochs, encoders_of_runs, untouched
from modgap.distortion.features import FeatureRequest, features
from modgap.distortion.few_shot import FewShotCurve, few_shot_curve
from modgap.distortion.probes import ProbeResult, probe
from modgap.distortion.similarity import SimilarityResult, similarity
from modgap.distortion.statistics import PairedDifference, paired_difference
from modgap.distortion.tsne_maps import TsneMap, tsne_maps
from modgap.errors import UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.forward.surrogate_target import default_surrogate, parse_surrogate_name
from modgap.progress import Progress
from modgap.sources import Source, SourceHandle, open_source
from modgap.targets.readers.bio import OUTSIDE
from modgap.targets.splits import stratified_keys
from modgap.transfer.surrogate import Surrogate, open_surrogate

__all__ = ["DistortionRequest", "Reading", "SurrogateReadings", "distortion"]

TRAIN_SHARE = 2 / 3
DIVISION_SEED = 0
"""Of the samples that probes are fitted on: one for all, so that encoders are compared on the same test samples."""


DEFAULT_FEATURES = FeatureRequest(SampleRequest(limit=5000))


@dataclass(frozen=True)
class DistortionRequest:
    """What is to be read off the encoders, and how.

    Attributes:
        features: Layers to read, and which samples of a surrogate, at what size, on what device. The split None stands
            for the split that the source was not trained on where modgap knows it, and for the training split
            otherwise.
        probes: Names of the probes; the first is the one that encoders are compared by.
        similarities: Names of the measures of similarity to the untouched encoder.
        epochs: Which weights of each run.
        few_shot: Whether to draw the curve of the first probe's error by training samples a class.
        maps: Whether to make a t-SNE map of each encoder.
        perplexity: Of the maps.
        threads: For the maps; changes no result.
    """

    features: FeatureRequest = DEFAULT_FEATURES
    probes: tuple[str, ...] = ("linear",)
    similarities: tuple[str, ...] = ("linear_cka", "procrustes", "knn_overlap")
    epochs: Epochs = "chosen"
    few_shot: bool = False
    maps: bool = False
    perplexity: float = 30
    threads: int = 1

    @property
    def samples(self) -> SampleRequest:
        """Samples of a surrogate; their seed is also that of probes, intervals and maps."""
        return self.features.samples


@dataclass(frozen=True)
class Reading:
    """What was read off one encoder.

    Attributes:
        encoder: Which.
        source: Name of the source that it belongs to.
        probes: By name, on its last layer.
        difference: Of the first probe's error to the untouched encoder's on the same test samples; None for that one.
        similarity: By measure and layer, to the same layer of the untouched encoder; empty for that one and where the
            layers are others.
        few_shot: The first probe's error on its last layer by training samples a class; None where it was not wanted.
        map: Of its last layer; None where none was wanted.
    """

    encoder: Encoder
    source: str
    probes: Mapping[str, ProbeResult]
    difference: PairedDifference | None
    similarity: Mapping[str, Mapping[str, SimilarityResult]]
    few_shot: FewShotCurve | None = None
    map: TsneMap | None = None

    @property
    def label(self) -> str:
        """What tells it from the others."""
        return self.encoder.label if self.encoder.run else f"{self.source} untouched"


@dataclass(frozen=True)
class SurrogateReadings:
    """What was read off all encoders on one surrogate.

    Attributes:
        name: Of the surrogate.
        provenance: Which samples it has; half of the split, so that no run has trained on them.
        classes: Names of its classes.
        labels: Of its samples, shape (n,).
        trained_on: Samples that each probe was fitted on.
        tested: Samples that it was judged on.
        chance: Error of guessing the largest class of the tested samples.
        readings: One an encoder, the untouched one first.
    """

    name: str
    provenance: Mapping[str, Any]
    classes: tuple[str, ...]
    labels: np.ndarray
    trained_on: int
    tested: int
    chance: float
    readings: tuple[Reading, ...]


def distortion(
    source: str,
    surrogates: Sequence[str] = (),
    runs: Sequence[str] = (),
    request: DistortionRequest | None = None,
    *,
    others: Sequence[str] = (),
    weights: str | None = None,
    progress: Progress | None = None,
) -> list[SurrogateReadings]:
    """Read the source's knowledge off its encoder before and after fine-tuning.

    Args:
        source: As for `modgap.sources.open_source`.
        surrogates: Labeled data of the source's modality; none for the source's own surrogate.
        runs: Folders of runs that started from the source; FOLDER@EPOCH for an epoch that a run kept.
        request: What to read; None for the defaults.
        others: Other sources of the same modality to read beside it, such as its `random:` control.
        weights: File or folder that overrides where the source's weights come from.
        progress: Called with a stage's name and the share of its work done since the last call.

    Returns:
        One of each surrogate; lower probe errors mean that more of the source's knowledge is left.

    Raises:
        UsageError: When a name, an option or a combination is unknown.
        InputError: When data or weights are missing or do not fit, or a surrogate cannot be probed.
    """
    request = request or DistortionRequest()
    if not request.probes:
        raise UsageError("expected at least one probe; linear is the paper's")
    handle = open_source(source, weights=weights)
    encoders = [untouched(), *encoders_of_runs(runs, source, handle, request.epochs)]
    loaded = [_Loaded(source, handle, request, encoders)]
    loaded += [_Loaded(name, open_source(name), request, [untouched()]) for name in others]
    names = tuple(surrogates) or (default_surrogate(handle)[0],)
    return [_read(name, loaded, request, progress) for name in names]


class _Loaded:
    """A source in memory and which of its encoders to read."""

    def __init__(self, name: str, handle: SourceHandle, request: DistortionRequest, encoders: list[Encoder]):
        self.name, self.handle, self.encoders = name, handle, encoders
        self.fingerprint = handle.fingerprint()
        self.source: Source = handle.load(request.samples.input_size, head=False)


def _read(
    name: str, loaded: Sequence[_Loaded], request: DistortionRequest, progress: Progress | None
) -> SurrogateReadings:
    name, named_split = parse_surrogate_name(name)
    split = request.samples.split or named_split or _own_split(name, loaded[0].handle)
    readings: list[Reading] = []
    points: dict[str, np.ndarray] = {}
    first: dict[str, np.ndarray] | None = None
    base: Surrogate | None = None
    for each in loaded:
        surrogate = open_surrogate(name, each.source, split=split, half=1, limit=request.samples.limit)
        base = base or surrogate
        if not np.array_equal(base.labels, surrogate.labels):
            raise UsageError(f"{each.name} takes other samples of {name} than {loaded[0].name}; read it by itself")
        for encoder in each.encoders:
            found = features(each.source, each.fingerprint, encoder, surrogate, request.features, progress)
            first = first or found
            reading = _reading(encoder, each.name, found, first, readings, surrogate, request)
            readings.append(reading)
            points[_unlike(reading.label, points)] = _last(found)
            if progress:
                progress("encoders", 1 / sum(len(other.encoders) for other in loaded))
    assert base is not None
    if request.maps:
        maps = tsne_maps(
            points, base.labels, perplexity=request.perplexity, seed=request.samples.seed, threads=request.threads
        )  # fmt: skip
        readings = [replace(reading, map=one) for reading, one in zip(readings, maps.values(), strict=True)]
    test = _test_samples(base)
    counts = np.bincount(base.labels[test])
    return SurrogateReadings(
        name, base.provenance, base.classes, base.labels, int((~test).sum()), int(test.sum()),
        float(1 - counts.max() / counts.sum()), tuple(readings),
    )  # fmt: skip


def _own_split(name: str, handle: SourceHandle) -> str:
    """The split that the source has not been trained on, where modgap knows of one."""
    try:
        known = default_surrogate(handle)
    except UsageError:
        return "train"
    return known[1] if known[0] == name else "train"


def _unlike(label: str, others: Mapping[str, Any]) -> str:
    return label if label not in others else f"{label} ({len(others)})"


def _last(found: Mapping[str, np.ndarray]) -> np.ndarray:
    return list(found.values())[-1]


def _test_samples(surrogate: Surrogate) -> np.ndarray:
    """Whether each sample is tested, by class, groups kept whole, shape (n,)."""
    return stratified_keys(surrogate.labels, surrogate.groups, DIVISION_SEED) >= TRAIN_SHARE


def _reading(
    encoder: Encoder, source: str, found: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray],
    before: Sequence[Reading], surrogate: Surrogate, request: DistortionRequest,
) -> Reading:  # fmt: skip
    last, test = _last(found), _test_samples(surrogate)
    groups = None if surrogate.groups is None else surrogate.groups[test]
    outside = surrogate.classes.index(OUTSIDE) if OUTSIDE in surrogate.classes else None
    probes = {
        name: probe(
            name, last[~test], surrogate.labels[~test], last[test], surrogate.labels[test],
            seed=request.samples.seed, groups=groups, outside=outside,
        )
        for name in request.probes
    }  # fmt: skip
    curve = None
    if request.few_shot:
        curve = few_shot_curve(
            request.probes[0], last[~test], surrogate.labels[~test], last[test], surrogate.labels[test],
            seed=request.samples.seed,
        )  # fmt: skip
    if not before:
        return Reading(encoder, source, probes, None, {}, curve)
    own = next(iter(probes.values())).wrong
    difference = paired_difference(own, next(iter(before[0].probes.values())).wrong, groups, seed=request.samples.seed)
    alike = {
        measure: {layer: similarity(measure, found[layer], first[layer]) for layer in found if layer in first}
        for measure in request.similarities
    }
    return Reading(encoder, source, probes, difference, alike, curve)
