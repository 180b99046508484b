"""Distortion of source knowledge: probes and similarity of encoders before and after training (MoNA, section 2.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from modgap.distortion.encoders import Encoder, Epochs, FeatureRequest, compute_features, encoders_of_runs
from modgap.distortion.probe_cross_validation import (
    REPEATS,
    CrossValidatedProbe,
    FewShotCurve,
    cross_validate_probe,
    few_shot_curve,
)
from modgap.distortion.similarity import SimilarityResult, similarity
from modgap.errors import Progress, UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.forward.surrogate_target import default_surrogate, parse_surrogate_name
from modgap.probes.tsne_maps import TsneMap, tsne_maps
from modgap.sources import Source, SourceHandle, open_source
from modgap.statistics.paired import PairedDifference, paired_difference
from modgap.targets.readers.bio import OUTSIDE
from modgap.targets.splits import stratified_keys
from modgap.training.surrogate import Surrogate, open_surrogate

TRAIN_SHARE = 2 / 3
"""Share of the samples that the few-shot curve draws its training samples from. The others are its test samples."""
SPLIT_SEED = 0
"""Seed of the folds and of the split of the few-shot curve; it is fixed, so that all encoders have the same splits."""
DEFAULT_FEATURES = FeatureRequest(SampleRequest(limit=5000))


@dataclass(frozen=True)
class DistortionRequest:
    """Quantities to measure, and how.

    Attributes:
        features: Layers, and the samples of a surrogate, input size and device. The split None stands for the split
            that the source was not trained on, if modgap has a record of it, and otherwise for the training split.
        probes: Names of the probes, at least one. Encoders are compared by the first.
        repeats: Number of repeats of the three-fold cross-validation of probes, at least 2.
        similarities: Names of the measures of similarity to the untouched encoder.
        epochs: Weights to use of each run: `chosen`, `all`, or numbers of epochs that the run kept.
        few_shot: True to compute the error rate of the first probe by the number of training samples of each class.
        maps: True to compute a t-SNE map for each encoder.
        perplexity: Perplexity of the maps.
        threads: Number of threads for the maps; results do not depend on it.
    """

    features: FeatureRequest = DEFAULT_FEATURES
    probes: tuple[str, ...] = ("linear",)
    repeats: int = REPEATS
    similarities: tuple[str, ...] = ("linear_cka", "procrustes", "knn_overlap")
    epochs: Epochs = "chosen"
    few_shot: bool = False
    maps: bool = False
    perplexity: float = 30
    threads: int = 1

    @property
    def samples(self) -> SampleRequest:
        """Samples of a surrogate. Their seed does not choose them; it is that of probes, few-shot draws and maps."""
        return self.features.samples


@dataclass(frozen=True)
class EncoderResult:
    """Measurements of one encoder.

    Attributes:
        encoder: The encoder.
        source: Name of the source that it belongs to.
        probes: Result of each probe on the last layer, by the name of the probe.
        difference: Error rate of the first probe minus that of the reference, on the same samples and splits. The
            reference is the untouched encoder of the first source. None for the reference itself.
        similarity: Similarity to the same layer of the reference, by measure and layer. Empty for the reference itself;
            a measure has no layers if the encoders share no layer names.
        few_shot: Error rate of the first probe on the last layer by the number of training samples of each class; None
            if it was not requested.
        map: Map of the features of the last layer; None if it was not requested.
    """

    encoder: Encoder
    source: str
    probes: Mapping[str, CrossValidatedProbe]
    difference: PairedDifference | None
    similarity: Mapping[str, Mapping[str, SimilarityResult]]
    few_shot: FewShotCurve | None = None
    map: TsneMap | None = None

    @property
    def label(self) -> str:
        """Label that distinguishes the encoder from the others."""
        return self.encoder.label if self.encoder.run else f"{self.source} {self.encoder.label}"

    @property
    def first_probe(self) -> CrossValidatedProbe:
        """Result of the probe by which encoders are compared."""
        return next(iter(self.probes.values()))


@dataclass(frozen=True)
class SurrogateResult:
    """Measurements of all encoders on one surrogate.

    Attributes:
        name: Name of the surrogate.
        provenance: Description of its samples: the half of the split that no run has trained on.
        classes: Names of its classes.
        labels: Label of each sample, shape (n,).
        training_samples: Number of samples, about two thirds, on which a probe is fitted in a split.
        test_samples: Number of the other samples, on which the probe is tested in this split. Each repeat of the
            three-fold cross-validation tests all samples once.
        baseline_error: Error rate of always predicting the majority class.
        encoders: Result of each encoder, the untouched encoder of the source first.
    """

    name: str
    provenance: Mapping[str, object]
    classes: tuple[str, ...]
    labels: np.ndarray
    training_samples: int
    test_samples: int
    baseline_error: float
    encoders: tuple[EncoderResult, ...]


def measure_distortion(
    source: str,
    surrogates: Sequence[str] = (),
    runs: Sequence[str] = (),
    request: DistortionRequest | None = None,
    *,
    others: Sequence[str] = (),
    weights: str | None = None,
    progress: Progress | None = None,
) -> list[SurrogateResult]:
    """Measure how much of a source's knowledge its encoder has before and after fine-tuning.

    Args:
        source: Name of the source, as for `modgap.sources.open_source`.
        surrogates: Labeled data of the source's modality; none for the default surrogate of the source.
        runs: Folders of runs that started from the source; FOLDER@EPOCH for an epoch that the run kept.
        request: Quantities to measure; None for the defaults.
        others: Names of other sources of the same modality whose untouched encoders are measured too, such as the
            source's `random:` control.
        weights: File or folder from which the weights of `source` are read; None for its default weights.
        progress: Called with the name of a stage and the share of its work done since the last call.

    Returns:
        A result for each surrogate. Lower probe errors mean that more of the source's knowledge is left.

    Raises:
        UsageError: When a name, an option or a combination is unknown.
        InputError: When data or weights are missing or do not fit, or a probe cannot be fitted on a surrogate.
    """
    request = request or DistortionRequest()
    if not request.probes:
        raise UsageError("No probe was requested. At least one is needed, such as linear.")
    if not request.features.layers:
        raise UsageError("No layer was requested. At least one is needed, such as output.")
    handle = open_source(source, weights=weights)
    encoders = [Encoder(), *encoders_of_runs(runs, source, handle, request.epochs)]
    loaded = [_LoadedSource(source, handle, request, encoders)]
    for position, name in enumerate(others):
        # A source that is named again gets a number, so that its label differs.
        number = [source, *others[: position + 1]].count(name)
        loaded.append(_LoadedSource(name, open_source(name), request, [Encoder(number=number)]))
    names = tuple(surrogates) or (default_surrogate(handle)[0],)
    return [_measure_on_surrogate(name, loaded, request, progress) for name in names]


class _LoadedSource:
    """A source in memory without its head, and its encoders to be measured."""

    def __init__(self, name: str, handle: SourceHandle, request: DistortionRequest, encoders: list[Encoder]) -> None:
        self.name = name
        self.handle = handle
        self.encoders = encoders
        self.fingerprint = handle.fingerprint()
        self.source: Source = handle.load(request.samples.input_size, head=False)


def _measure_on_surrogate(
    name: str, sources: Sequence[_LoadedSource], request: DistortionRequest, progress: Progress | None
) -> SurrogateResult:
    """Measure all encoders on one surrogate, and compare each with the first, the source's untouched encoder.

    Args:
        name: Name of the surrogate; `:train`, `:val` or `:test` after it chooses a split.
        sources: The source and others, with their encoders.
        request: Quantities to measure.
        progress: Called with the name of a stage and the share of its work done since the last call.
    """
    name, named_split = parse_surrogate_name(name)
    split = request.samples.split or named_split or _default_split(name, sources[0].handle)
    # The samples do not depend on the seed of the request, so that all measurements on a surrogate are of the same.
    limit = request.samples.limit
    surrogates = [open_surrogate(name, one.source, split=split, half=1, limit=limit) for one in sources]
    surrogate = surrogates[0]
    for source, other in zip(sources, surrogates, strict=True):
        if not np.array_equal(other.labels, surrogate.labels):
            raise UsageError(
                f"Source {source.name} uses other samples of {name} than {sources[0].name}, so that they cannot be "
                f"compared. Measure {source.name} in a separate command."
            )
    reference_layers: dict[str, np.ndarray] = {}
    results: list[EncoderResult] = []
    points: dict[str, np.ndarray] = {}
    total = sum(len(source.encoders) for source in sources)
    for source, samples in zip(sources, surrogates, strict=True):
        for encoder in source.encoders:
            layers = compute_features(source.source, source.fingerprint, encoder, samples, request.features, progress)
            result = _measure_encoder(encoder, source.name, layers, samples, request)
            if results:
                result = _compare(result, results[0], layers, reference_layers, samples.groups, request)
            else:
                reference_layers = layers
            results.append(result)
            points[result.label] = _last_layer(layers)
            if progress:
                progress("encoders", 1 / total)
    if request.maps:
        seed, threads = request.samples.seed, request.threads
        maps = tsne_maps(points, surrogate.labels, perplexity=request.perplexity, seed=seed, threads=threads)
        results = [replace(result, map=one) for result, one in zip(results, maps.values(), strict=True)]
    test = _test_mask(surrogate)
    counts = np.bincount(surrogate.labels)
    return SurrogateResult(
        name=name,
        provenance=surrogate.provenance,
        classes=surrogate.classes,
        labels=surrogate.labels,
        training_samples=int((~test).sum()),
        test_samples=int(test.sum()),
        baseline_error=float(1 - counts.max() / counts.sum()),
        encoders=tuple(results),
    )


def _default_split(name: str, handle: SourceHandle) -> str:
    """Return the split on which the source was not trained, if modgap has a record of it; otherwise `train`."""
    try:
        surrogate, split = default_surrogate(handle)
    except UsageError:
        return "train"
    return split if surrogate == name else "train"


def _last_layer(layers: Mapping[str, np.ndarray]) -> np.ndarray:
    return list(layers.values())[-1]


def _test_mask(surrogate: Surrogate) -> np.ndarray:
    """Return a mask of the few-shot curve's test samples, stratified by class, with groups kept whole, shape (n,)."""
    return stratified_keys(surrogate.labels, surrogate.groups, SPLIT_SEED) >= TRAIN_SHARE


def _measure_encoder(
    encoder: Encoder, source: str, layers: Mapping[str, np.ndarray], surrogate: Surrogate, request: DistortionRequest
) -> EncoderResult:
    """Return the probes and the few-shot curve of an encoder, not yet compared with the reference."""
    features = _last_layer(layers)
    # If words are labeled, this is the class of words outside of all entities.
    outside = surrogate.classes.index(OUTSIDE) if OUTSIDE in surrogate.classes else None
    probes = {
        name: cross_validate_probe(
            name,
            features,
            surrogate.labels,
            surrogate.groups,
            repeats=request.repeats,
            split_seed=SPLIT_SEED,
            outside=outside,
            seed=request.samples.seed,
        )
        for name in request.probes
    }
    curve = None
    if request.few_shot:
        test = _test_mask(surrogate)
        curve = few_shot_curve(
            request.probes[0],
            features[~test],
            surrogate.labels[~test],
            features[test],
            surrogate.labels[test],
            train_groups=None if surrogate.groups is None else surrogate.groups[~test],
            seed=request.samples.seed,
        )
    return EncoderResult(encoder, source, probes, difference=None, similarity={}, few_shot=curve)


def _compare(
    result: EncoderResult,
    reference: EncoderResult,
    layers: Mapping[str, np.ndarray],
    reference_layers: Mapping[str, np.ndarray],
    groups: np.ndarray | None,
    request: DistortionRequest,
) -> EncoderResult:
    """Return a result with its difference from the reference and its similarity to it.

    Args:
        result: Result of the encoder.
        reference: Result of the untouched encoder of the first source.
        layers: Features of the encoder by layer, each of shape (n, D).
        reference_layers: Features of the reference by layer.
        groups: Record or subject of each sample, shape (n,); None if samples are independent.
        request: Quantities to measure.
    """
    difference = paired_difference(result.first_probe.errors, reference.first_probe.errors)
    shared = [layer for layer in layers if layer in reference_layers]
    similarities = {
        measure: {layer: similarity(measure, layers[layer], reference_layers[layer], groups) for layer in shared}
        for measure in request.similarities
    }
    return replace(result, difference=difference, similarity=similarities)
