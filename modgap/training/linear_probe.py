"""The method `linear-probe`: a linear model on the features of a frozen source, or of several side by side."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from modgap.baselines.baseline import Baseline, Features, FittedBaseline, Predictor, SampleForm, Truth
from modgap.baselines.images import PIXEL_VALUES, PIXELS
from modgap.baselines.parts import Affine, Part
from modgap.baselines.predictors import fit_linear
from modgap.baselines.series import VALUES
from modgap.errors import InputError, UsageError
from modgap.forward.features import PooledFeatures, sample_features
from modgap.forward.sample_request import SampleRequest
from modgap.inputs.native_embedding import Embedding, native_embedding, stored_embedding
from modgap.models.native_model import NativeInput, ProbePredictor, native_input, native_model
from modgap.probes.logistic import with_constants
from modgap.sources import Source, control_name, open_source, source_infos
from modgap.storage.json_records import Record
from modgap.targets import SPLITS, Samples
from modgap.targets.manifest import InputSpec
from modgap.targets.output import Output
from modgap.training.native_inputs import LARGEST_SIDE, embedded_transform, piece_shape
from modgap.training.training_data import InputTransform, TargetData

LINEAR_PROBE = "linear-probe"
"""Name of the method, and of its fitted model."""
ALL = "all"
"""Name that stands for every source that is installed and reads the target, and its random-weights control."""
RAW = "raw"
"""Name that stands for the values of the samples, beside sources."""
SEPARATOR = ","
STRENGTHS = tuple(10.0**exponent for exponent in range(4, -3, -1))
"""L2 strengths of which cross-validation chooses: 1 / C of LogisticRegression and alpha of Ridge in scikit-learn."""
RATIOS = (10.0, 100.0)
"""Ratios of the L2 strengths of sources side by side that are compared."""
MOST_STRENGTHS = 4
"""Largest number of sources side by side that have L2 strengths of their own."""
MOST_SOURCES = 16
"""Largest number of sources side by side."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class ProbedSource:
    """A frozen source whose features a probe reads.

    Attributes:
        name: Name of the source.
        input_size: Height and width of its input in pixels; None for the source's default.
        fingerprint: Everything that decides its outputs.
        source: The source, whose model returns features.
        embedding: Rule by which samples become its input.
        pieces: Shape of the pieces of its input; None if it is not known.
        width: Number of its features; None if it is not known.
    """

    name: str
    input_size: int | None
    fingerprint: Mapping[str, object]
    source: Source
    embedding: Embedding
    pieces: tuple[int, ...] | None = None
    width: int | None = None

    def values(self, samples: Samples, device: str) -> np.ndarray:
        """Return the features of samples, (n, D)."""
        return sample_features(self.source, samples, self.embedding, device=device).astype(np.float64)

    def to_record(self) -> dict[str, object]:
        """Return the plain values that `restore_probe` needs."""
        return {
            "name": self.name,
            "input_size": self.input_size,
            "fingerprint": dict(self.fingerprint),
            "representation": self.embedding.representation,
            "low": self.embedding.low,
            "high": self.embedding.high,
            "pieces": None if self.pieces is None else list(self.pieces),
        }


ProbeSources = tuple[ProbedSource | Features, ...]
"""Sources side by side, and last the values of the samples if they are among the features."""


def raw_values(spec: InputSpec) -> Features:
    """Return the values of samples of a kind: pixels of images, at most 32 x 32, or at most 1,024 values of series.

    Raises:
        UsageError: When such samples have no values of one shape.
    """
    features = {"image": PIXEL_VALUES, "video": PIXEL_VALUES, "series": VALUES}.get(spec.kind)
    if features is None:
        raise UsageError(
            f"`source` names {RAW}, the values of images, videos, series and tables. Samples of kind {spec.kind} have "
            f"none of one shape. Leave {RAW} out."
        )
    return replace(features, name=RAW)


@dataclass(frozen=True)
class SideBySide:
    """The features of several sources side by side, (n, D of all).

    Attributes:
        sources: The sources, and the values of the samples last if they are among the features.
        device: Name of the device on which they run.
    """

    sources: ProbeSources
    device: str

    def __call__(self, samples: Samples, form: SampleForm) -> np.ndarray:
        """Return the features of samples, as `Features.compute` does."""
        blocks = [
            one.values(samples, self.device)
            if isinstance(one, ProbedSource)
            else np.asarray(one.compute(samples, form), np.float64)
            for one in self.sources
        ]
        return np.concatenate(blocks, axis=1)

    def to_records(self) -> list[dict[str, object]]:
        """Return the plain values of each source that `restore_probe` needs."""
        return [one.to_record() if isinstance(one, ProbedSource) else {"name": RAW} for one in self.sources]

    def fingerprints(self) -> Mapping[str, object]:
        """Return everything that decides the outputs of the source; of several, by their names."""
        prints = {one.name: dict(one.fingerprint) for one in self.sources if isinstance(one, ProbedSource)}
        return next(iter(prints.values())) if len(prints) == 1 else prints


def open_probed_sources(
    names: str, data: TargetData, samples: SampleRequest, weights: str | None = None
) -> ProbeSources:
    """Open sources, frozen and without their heads, for a target.

    Args:
        names: Names of the sources with commas between them; `raw` among them for the values of the samples, which
            come last.
        data: The target, whose training samples give the range of values.
        samples: Height and width of the sources' input in pixels, and the device on which they run.
        weights: File or folder with the weights of the only source; None for the default weights.

    Raises:
        UsageError: When a source does not take such samples, or the names are too many or not different.
        InputError: When weights are missing or do not fit.
    """
    listed = [name.strip() for name in names.split(SEPARATOR) if name.strip()]
    if not 1 <= len(listed) <= MOST_SOURCES or len(set(listed)) < len(listed):
        raise UsageError(
            f"`source` is {names!r}. Expected 1 to {MOST_SOURCES} different sources with commas between them."
        )
    if weights and len(listed) > 1:
        raise UsageError(f"`weights` belongs to one source, and `source` has {len(listed)}. Pass one source.")
    if listed == [RAW]:
        raise UsageError(
            f"`source` is {RAW}, the values of the samples, which stand beside sources. Name a source, or pass "
            '`method="baseline"` for models of values alone.'
        )
    table, spec = data.table, data.target.manifest.input
    raw = (raw_values(spec),) if RAW in listed else ()
    first = int(np.flatnonzero(table.splits == SPLITS.index("train"))[0])
    opened = []
    for name in listed:
        if name == RAW:
            continue
        handle = open_source(name, weights=weights)
        source = handle.load(samples.input_size, head=False)
        embedding = native_embedding(spec, table, source.input)
        frozen = replace(source, model=PooledFeatures(source))
        pieces, width = None, None
        if isinstance(source.input, NativeInput):
            pieces = piece_shape(table.samples, first, source.input, embedding)
        if len(listed) > 1:
            width = sample_features(frozen, [table.samples[first]], embedding, device=samples.device).shape[1]
        opened.append(ProbedSource(name, samples.input_size, handle.fingerprint(), frozen, embedding, pieces, width))
    return (*opened, *raw)


def relative_strengths(n_sources: int) -> list[tuple[float, ...]]:
    """Return the L2 strengths of several sources, relative to the smallest, that are compared.

    The first are equal. Then one source has 10 or 100 times the strength of the others, or the others have those of it.

    Example:
        >>> relative_strengths(2)
        [(1.0, 1.0), (10.0, 1.0), (1.0, 10.0), (100.0, 1.0), (1.0, 100.0)]
    """
    compared = [(1.0,) * n_sources]
    if n_sources > MOST_STRENGTHS:
        return compared
    for ratio in RATIOS:
        for chosen in range(n_sources):
            compared.append(tuple(ratio if one == chosen else 1.0 for one in range(n_sources)))
            compared.append(tuple(1.0 if one == chosen else ratio for one in range(n_sources)))
    return list(dict.fromkeys(compared))


def _predictor(sources: ProbeSources) -> Predictor:
    """Return the linear model on the features of sources, each of which has an L2 strength of its own."""
    widths = [one.width for one in sources if isinstance(one, ProbedSource)]
    if len(sources) == 1 or None in widths:
        return PROBE
    compared = relative_strengths(len(sources))

    def fit(values: np.ndarray, truth: Truth, _seed: int) -> list[Part]:
        # The raw values, if there are any, are what remains.
        edges = np.cumsum([width or 0 for width in widths])[: len(sources) - 1]
        blocks = np.diff([0, *edges, values.shape[1]])
        fitted = []
        for ratios in compared:
            factors = None if len(set(ratios)) == 1 else np.repeat(np.array(ratios) ** -0.5, blocks)
            fitted += fit_linear(values, truth, STRENGTHS, factors)
        return fitted

    def setting(ratios: Sequence[float], strength: float) -> str:
        if len(set(ratios)) == 1:
            return f"L2 strength {strength:g}"
        strengths = [f"{ratio * strength:g} of {one.name}" for one, ratio in zip(sources, ratios, strict=True)]
        return f"L2 strength {', '.join(strengths)}"

    return Predictor(tuple(setting(ratios, strength) for ratios in compared for strength in STRENGTHS), fit)


def linear_probe(features: Features, predictor: Predictor | None = None) -> Baseline:
    """Return the linear probe of features, which is fitted as a baseline is.

    Args:
        features: The features, with the names of their sources.
        predictor: The linear model; None for one with the same L2 strength for all features.
    """
    return Baseline(
        LINEAR_PROBE,
        f"a linear model on the features of {features.name}",
        "MoNA (ICML 2024), section 2.2",
        (),
        ("classification", "multi-label", "regression"),
        (features,),
        predictor or PROBE,
        (Affine,),
    )


def _probe(sources: ProbeSources, device: str) -> Baseline:
    names = SEPARATOR.join(one.name for one in sources)
    return linear_probe(Features(names, SideBySide(sources, device)), _predictor(sources))


def probe_to_train(name: str, source: Source, embedding: Embedding, device: str) -> Baseline:
    """Return the linear probe of a source that is open, from which a training starts, by an embedding of the samples.

    It takes features that hardly vary as constant, because an update of the encoder would move them by many times their
    standard deviation, and the scores with them.
    """
    frozen = replace(source, model=PooledFeatures(source))
    features = Features(name, SideBySide((ProbedSource(name, None, {}, frozen, embedding),), device))
    return linear_probe(features, replace(PROBE, fit=_fit_varying))


def _fit_varying(values: np.ndarray, truth: Truth, seed: int) -> Sequence[Part]:
    return PROBE.fit(with_constants(values), truth, seed)


def probes_of(
    names: str, data: TargetData, samples: SampleRequest, weights: str | None
) -> Iterator[tuple[str, Baseline]]:
    """Yield the linear probes that a request names: one, or one for every source that reads the target.

    Args:
        names: Names of sources with commas between them, which are probed side by side, and `raw` for the values of the
            samples; or `all` for one probe of each source that is installed and reads the target, and one of its
            random-weights control.
        data: The target.
        samples: Height and width of the sources' input in pixels, and the device on which they run.
        weights: File or folder with the weights of the only source.

    Yields:
        Name of the source, and its probe.

    Raises:
        UsageError: When a source that is named does not take such samples.
        InputError: When weights are missing or do not fit.
    """
    if names != ALL:
        yield names, _probe(open_probed_sources(names, data, samples, weights), samples.device)
        return
    if weights:
        raise UsageError("`weights` belongs to one source, and `source` is all. Pass one source.")
    for info in source_infos():
        for name in (info.name, control_name(info.name)) if info.is_installed else ():
            try:
                sources = open_probed_sources(name, data, samples)
            except InputError as error:
                log.info("Source %s is left out: %s", name, error)
                continue
            yield name, _probe(sources, samples.device)


def restore_probe(described: Sequence[Record], spec: InputSpec, device: str, weights: str | None) -> Baseline:
    """Return the linear probe of the sources that a record describes, to restore a fitted one.

    Args:
        described: Plain values of `ProbedSource.to_record`, one for each source.
        spec: Description of a sample.
        device: Name of the device.
        weights: File or folder with the weights of the only source.

    Raises:
        UsageError: When there is no such source, or it does not take such samples.
        InputError: When a source is missing on this machine, or has other weights than when the probe was fitted.
        ValueError: When the values are not those of a probe.
    """
    if not 1 <= len(described) <= MOST_SOURCES:
        raise ValueError(f"a probe of {len(described)} sources")
    opened: list[ProbedSource | Features] = []
    for one in described:
        if one["name"] == RAW:
            opened.append(raw_values(spec))
            continue
        name, size = str(one["name"]), one["input_size"]
        if size is not None and not (type(size) is int and 1 <= size <= LARGEST_INPUT):
            raise ValueError(f"the input size is {size!r}")
        handle = open_source(name, weights=weights)
        fingerprint = handle.fingerprint()
        if any(fingerprint.get(key) != one["fingerprint"].get(key) for key in ("architecture", "weights")):
            raise InputError(
                f"Source {name} has other weights here than when the probe was fitted, so its features differ. Install "
                "the same weights, or fit the probe again."
            )
        source = handle.load(size, head=False)
        low, high = (None if value is None else float(value) for value in (one["low"], one["high"]))
        embedding = stored_embedding(spec, source.input, str(one["representation"]), low, high)
        pieces = one.get("pieces")
        if pieces is not None and not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in pieces):
            raise ValueError(f"the shape of a piece is {pieces!r}")
        frozen = replace(source, model=PooledFeatures(source))
        shape = None if pieces is None else tuple(pieces)
        opened.append(ProbedSource(name, size, fingerprint, frozen, embedding, shape))
    return _probe(tuple(opened), device)


def probe_networks(
    fitted: FittedBaseline, sources: ProbeSources, inputs: InputTransform
) -> Iterator[tuple[InputTransform, nn.Module]]:
    """Yield the network of each source of a fitted probe, whose outputs are added, with its transform of samples.

    Args:
        fitted: The probe.
        sources: Its sources.
        inputs: Shape of a sample.

    Raises:
        UsageError: When the input of a source, or the raw values, cannot be a part of a network.
    """
    (part,) = fitted.parts
    assert isinstance(part, Affine)
    start, intercepts = 0, part.intercepts
    for one in sources:
        if isinstance(one, Features):
            yield inputs, _RawNetwork(inputs, _block(part, slice(start, None), intercepts), fitted.output)
            return
        source_input = native_input(one.source)
        shape = one.pieces
        if shape is None:
            shape = piece_shape([np.zeros(inputs.shape, np.float32)], 0, source_input, one.embedding)
        transform = embedded_transform(inputs, one.embedding, source_input, shape)
        network = native_model(one.source, transform.example(), fitted.output)
        assert isinstance(network.predictor, ProbePredictor)
        end = start + network.predictor.linear.in_features
        set_probe(network.predictor, _block(part, slice(start, end), intercepts))
        # The outputs of the networks are added, so one of them has the intercepts.
        start, intercepts = end, np.zeros_like(intercepts)
        yield transform, network


def _block(part: Affine, columns: slice, intercepts: np.ndarray) -> Affine:
    """Return the part of a probe for some of its features."""
    return Affine(part.mean[columns], part.scale[columns], part.weights[:, columns], intercepts)


class _RawNetwork(nn.Module):
    """The linear function of the values of samples, of images after they are resized."""

    def __init__(self, inputs: InputTransform, part: Affine, output: Output) -> None:
        super().__init__()
        self.size: tuple[int, int] | None = None
        if inputs.spec.kind in ("image", "video"):
            self.size = (min(inputs.shape[1], PIXELS), min(inputs.shape[2], PIXELS))
        elif inputs.stretched or len(part.mean) != int(np.prod(inputs.shape)):
            raise UsageError(
                "The raw values of this linear probe are means over stretches of the series, or the series are "
                "stretched, so no program has them. Export the probe as safetensors, which modgap reads again."
            )
        self.predictor = ProbePredictor(len(part.mean), output.shape)
        set_probe(self.predictor, part)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of samples (n, C, ...)."""
        if self.size is not None and x.shape[2:] != self.size:
            x = nn.functional.interpolate(x, self.size, mode="bilinear", antialias=True)
        outputs: Tensor = self.predictor(x.flatten(1)[:, None])
        return outputs


def set_probe(predictor: nn.Module, part: Part) -> None:
    """Set the predictor of a native model to the fitted part of a linear probe."""
    assert isinstance(part, Affine)
    assert isinstance(predictor, ProbePredictor)
    arrays = (part.mean, part.scale, part.weights, part.intercepts)
    predictor.set_probe(*(torch.from_numpy(np.array(array, np.float64)) for array in arrays))


LARGEST_INPUT = 4096
"""Largest height and width of a source's input that is believed, in pixels."""
PROBE = Predictor(
    tuple(f"L2 strength {strength:g}" for strength in STRENGTHS),
    lambda values, truth, _seed: fit_linear(values, truth, STRENGTHS),
)
