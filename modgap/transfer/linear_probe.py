"""The method `linear-probe`: a linear model on the features of a frozen source, or of several side by side."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from modgap.baselines.baseline import Baseline, Features, FittedBaseline, Predictor, SampleForm
from modgap.baselines.parts import Affine, Part
from modgap.baselines.predictors import fit_linear
from modgap.errors import InputError, UsageError
from modgap.forward.features import PooledFeatures, sample_features
from modgap.inputs.native_embedding import Embedding, native_embedding, stored_embedding
from modgap.models import TargetModel
from modgap.models.native_model import NativeInput, ProbePredictor, native_input, native_model
from modgap.sources import Source, control_name, open_source, source_infos
from modgap.targets import SPLITS, Samples, Table
from modgap.targets.manifest import InputSpec
from modgap.transfer.native_inputs import LARGEST_SIDE, NativeTransform, embedded_transform, piece_shape
from modgap.transfer.training_data import InputTransform

__all__ = [
    "ALL",
    "LINEAR_PROBE",
    "ProbedSource",
    "SideBySide",
    "open_probed_sources",
    "probe_networks",
    "probe_of_source",
    "probes_of",
    "restore_probe",
    "set_probe",
]

LINEAR_PROBE = "linear-probe"
"""Name of the method, and of its fitted model."""
ALL = "all"
"""Name that stands for every source that is installed and reads the target, and its random-weights control."""
SEPARATOR = ","
STRENGTHS = tuple(10.0**exponent for exponent in range(4, -3, -1))
"""L2 strengths of which cross-validation chooses: 1 / C of LogisticRegression and alpha of Ridge in scikit-learn."""
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
        pieces: Shape of the pieces of its input; None if it is not known, or is that of each sample.
    """

    name: str
    input_size: int | None
    fingerprint: Mapping[str, Any]
    source: Source
    embedding: Embedding
    pieces: tuple[int, ...] | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the plain values that `restore_probe` needs."""
        embedding = self.embedding
        return {
            "name": self.name,
            "input_size": self.input_size,
            "fingerprint": dict(self.fingerprint),
            "representation": embedding.representation,
            "low": embedding.low,
            "high": embedding.high,
            "pieces": None if self.pieces is None else list(self.pieces),
        }


@dataclass(frozen=True)
class SideBySide:
    """The features of several sources side by side, (n, D of all).

    Attributes:
        sources: The sources.
        device: Name of the device on which they run.
    """

    sources: tuple[ProbedSource, ...]
    device: str

    def __call__(self, samples: Samples, form: SampleForm) -> np.ndarray:  # noqa: ARG002
        """Return the features of samples, as `Features.compute` does."""
        blocks = [
            sample_features(one.source, samples, one.embedding, device=self.device).astype(np.float64)
            for one in self.sources
        ]
        return np.concatenate(blocks, axis=1)


def open_probed_sources(
    names: str, table: Table, spec: InputSpec, *, input_size: int | None, weights: str | None
) -> tuple[ProbedSource, ...]:
    """Open sources, frozen and without their heads, for a target.

    Args:
        names: Names of the sources with commas between them.
        table: Data of the target, whose training samples give the range of values.
        spec: Description of a sample.
        input_size: Height and width of the sources' input in pixels; None for each one's default.
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
    opened = []
    for name in listed:
        handle = open_source(name, weights=weights)
        source = handle.load(input_size, head=False)
        embedding = native_embedding(spec, table, source.input)
        frozen = replace(source, model=PooledFeatures(source))
        pieces = None
        if isinstance(source.input, NativeInput):
            first = int(np.flatnonzero(table.splits == SPLITS.index("train"))[0])
            pieces = piece_shape(table.samples, first, source.input, embedding)
        opened.append(ProbedSource(name, input_size, handle.fingerprint(), frozen, embedding, pieces))
    return tuple(opened)


def _probe(sources: tuple[ProbedSource, ...], device: str) -> Baseline:
    """Return the linear probe of some sources, which is fitted as a baseline is."""
    names = SEPARATOR.join(one.name for one in sources)
    return Baseline(
        LINEAR_PROBE,
        f"a linear model on the features of {names}",
        "MoNA (ICML 2024), section 2.2",
        (),
        ("classification", "multi-label", "regression"),
        (Features(names, SideBySide(sources, device)),),
        PROBE,
        (Affine,),
    )


def probe_of_source(name: str, source: Source, embedding: Embedding, device: str) -> Baseline:
    """Return the linear probe of a source that is open, by an embedding of the samples."""
    frozen = replace(source, model=PooledFeatures(source))
    return _probe((ProbedSource(name, None, {}, frozen, embedding),), device)


def probes_of(
    names: str, table: Table, spec: InputSpec, *, input_size: int | None, weights: str | None, device: str
) -> Iterator[tuple[str, Baseline]]:
    """Yield the linear probes that a request names: one, or one for every source that reads the target.

    Args:
        names: Names of sources with commas between them, which are probed side by side; or `all` for one probe of each
            source that is installed and reads the target, and one of its random-weights control.
        table: Data of the target.
        spec: Description of a sample.
        input_size: Height and width of the sources' input in pixels; None for each one's default.
        weights: File or folder with the weights of the only source.
        device: Name of the device on which they run.

    Yields:
        Name of the source, and its probe.

    Raises:
        UsageError: When a source that is named does not take such samples.
        InputError: When weights are missing or do not fit.
    """
    if names != ALL:
        sources = open_probed_sources(names, table, spec, input_size=input_size, weights=weights)
        yield names, _probe(sources, device)
        return
    if weights:
        raise UsageError("`weights` belongs to one source, and `source` is all. Pass one source.")
    for info in source_infos():
        for name in (info.name, control_name(info.name)) if info.is_installed else ():
            try:
                sources = open_probed_sources(name, table, spec, input_size=input_size, weights=None)
            except InputError as error:
                log.info("Source %s is left out: %s", name, error)
                continue
            yield name, _probe(sources, device)


def restore_probe(described: Sequence[Any], spec: InputSpec, device: str, weights: str | None) -> Baseline:
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
    opened = []
    for one in described:
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
        frozen = replace(source, model=PooledFeatures(source))
        opened.append(ProbedSource(name, size, fingerprint, frozen, embedding, _stored_shape(one.get("pieces"))))
    return _probe(tuple(opened), device)


def _stored_shape(sizes: Any) -> tuple[int, ...] | None:
    """Return the shape of pieces in a record, or raise if no piece has it."""
    if sizes is None:
        return None
    if not all(type(size) is int and 1 <= size <= LARGEST_SIDE for size in sizes):
        raise ValueError(f"the shape of a piece is {sizes!r}")
    return tuple(sizes)


def probe_networks(
    fitted: FittedBaseline, sources: Sequence[ProbedSource], inputs: InputTransform
) -> Iterator[tuple[NativeTransform, TargetModel]]:
    """Yield the network of each source of a fitted probe, whose outputs are added, with its transform of samples.

    Args:
        fitted: The probe.
        sources: Its sources.
        inputs: Shape of a sample.

    Raises:
        UsageError: When the input of a source cannot be a part of a network.
    """
    (part,) = fitted.parts
    assert isinstance(part, Affine)
    start = 0
    for one in sources:
        source_input = native_input(one.source)
        shape = one.pieces
        if shape is None:
            shape = piece_shape([np.zeros(inputs.shape, np.float32)], 0, source_input, one.embedding)
        transform = embedded_transform(inputs.spec, inputs.shape, one.embedding, source_input, shape, inputs.stretched)
        network = native_model(one.source, transform.example(), fitted.output)
        assert isinstance(network.predictor, ProbePredictor)
        block = slice(start, start + network.predictor.linear.in_features)
        intercepts = part.intercepts if start == 0 else np.zeros_like(part.intercepts)
        set_probe(network, Affine(part.mean[block], part.scale[block], part.weights[:, block], intercepts))
        start = block.stop
        yield transform, network


def set_probe(model: TargetModel, part: Part) -> None:
    """Set the predictor of a native model to the fitted part of a linear probe."""
    assert isinstance(part, Affine)
    assert isinstance(model.predictor, ProbePredictor)
    arrays = (part.mean, part.scale, part.weights, part.intercepts)
    model.predictor.set_probe(*(torch.from_numpy(np.array(array, np.float64)) for array in arrays))


LARGEST_INPUT = 4096
"""Largest height and width of a source's input that is believed, in pixels."""
PROBE = Predictor(
    tuple(f"L2 strength {strength:g}" for strength in STRENGTHS),
    lambda values, truth, _seed: fit_linear(values, truth, STRENGTHS),
)
