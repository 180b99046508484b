"""Samples as the input of the source itself, for models that read them as a linear probe does, texts among them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from modgap.errors import InputError, UsageError
from modgap.inputs.native_embedding import Embedding, native_embedding, stored_embedding
from modgap.models.native_model import NativeInput, native_input
from modgap.sources import ImageInput, Source, TextInput
from modgap.storage.json_records import Record
from modgap.targets import Samples
from modgap.targets.manifest import InputSpec
from modgap.targets.samples import have_one_shape
from modgap.training.method import Method
from modgap.training.training_data import MOST_PIXELS_RATIO, InputTransform, TargetData

IMAGES = ("image", "frames")
"""Representations whose pieces are the images of the target, scaled."""
NATIVE = "native"
"""Key of the transform in the record of its plain values."""


@dataclass(frozen=True)
class NativeTransform(InputTransform):
    """Transform of a sample to pieces that a native model takes: images, waveforms or tokens.

    The mean and the standard deviation of images are the value that becomes 0 and the range that becomes 1.

    Attributes:
        embedding: Rule by which samples become pieces of the source's input.
        source_input: Input of the source.
        piece_shape: Shape of images and waveforms; empty for texts.
        length: Largest number of tokens of a text; None for the source's limit.
    """

    embedding: Embedding = field(kw_only=True)
    source_input: NativeInput = field(kw_only=True)
    piece_shape: tuple[int, ...] = field(kw_only=True)
    length: int | None = field(default=None, kw_only=True)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of every piece; empty for tokens."""
        return self.piece_shape

    def example(self) -> torch.Tensor:
        """Return a piece of zeros, or the tokens of a short text."""
        if isinstance(self.source_input, TextInput):
            return torch.from_numpy(self.source_input.tokens("a"))
        return torch.zeros(self.piece_shape)

    def pieces(self, sample: Any) -> list[np.ndarray]:
        """Return the pieces of a sample."""
        return [self._array(piece) for piece in self.embedding.pieces(sample)]

    def _array(self, piece: Any) -> np.ndarray:
        if isinstance(self.source_input, TextInput):
            return self.source_input.tokens(piece, self.length)
        array = np.asarray(piece, np.float32)
        if array.shape == self.piece_shape:
            return array
        if not isinstance(self.source_input, ImageInput) or array.ndim != 3 or len(array) != self.piece_shape[0]:
            raise InputError(
                f"A sample becomes a piece of shape {array.shape}, and others one of {self.piece_shape}. Crop or pad "
                "them to one shape, by a step of a manifest or before."
            )
        size = (self.piece_shape[1], self.piece_shape[2])
        return replace(self.source_input, size=size).resize(torch.from_numpy(array)[None])[0].numpy()

    def _chunk_spans(self, samples: Any, row: int) -> list[tuple[int, int]]:
        """Return the chunks of a sound where they are those of the manifest's spectrograms."""
        return super()._chunk_spans(samples, row) if self.embedding.representation == "log-mel" else []

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the record of a run."""
        embedding = self.embedding
        native = {
            "representation": embedding.representation,
            "low": embedding.low,
            "high": embedding.high,
            "piece_shape": list(self.piece_shape),
            "length": self.length,
        }
        return {**super().to_dict(), NATIVE: native}


def text_input(transform: InputTransform) -> TextInput | None:
    """Return the input of a network that takes tokens, with the transform's largest number of them; None for others."""
    if not isinstance(transform, NativeTransform) or not isinstance(transform.source_input, TextInput):
        return None
    source_input, length = transform.source_input, transform.length
    return source_input if length is None else replace(source_input, max_tokens=min(length, source_input.max_tokens))


def reads_native_input(method: Method, spec: InputSpec) -> bool:
    """Return True if a method lets samples enter a source as a linear probe does; texts enter in no other way.

    Raises:
        UsageError: When the samples are texts, and the method trains an embedder first.
    """
    if spec.kind == "text" and method.has_embedder_stage:
        raise UsageError(
            f"Method {method.name} trains an embedder first, and texts have the source's own. Choose finetune or lp-ft."
        )
    return spec.kind == "text" or method.embedder_start == NATIVE


def native_data(data: TargetData, source: Source, length: int | None = None) -> TargetData:
    """Return the data of a target whose samples enter a source as a linear probe lets them.

    Args:
        data: The target.
        source: The source.
        length: Largest number of tokens of a text; None for the source's limit.

    Raises:
        UsageError: When the source does not take such samples, or its input cannot be a part of a network.
    """
    samples, first = data.table.samples, int(data.train[0])
    spec, source_input = data.target.manifest.input, native_input(source)
    embedding = native_embedding(spec, data.table, source.input)
    inputs = replace(data.transform, shape=np.shape(samples[first]) if spec.kind != "text" else ())
    pieces = piece_shape(samples, first, source_input, embedding)
    return replace(data, transform=embedded_transform(inputs, embedding, source_input, pieces, length))


def piece_shape(samples: Samples, row: int, source_input: NativeInput, embedding: Embedding) -> tuple[int, ...]:
    """Return the shape of all pieces of samples; empty for texts.

    Images of different sizes, and those much larger than the source's, get the size of the source.

    Args:
        samples: The samples.
        row: Number of one of them.
        source_input: Input of the source.
        embedding: Rule by which samples become pieces.
    """
    if isinstance(source_input, TextInput):
        return ()
    shape: tuple[int, ...] = np.shape(embedding.pieces(samples[row])[0])
    if isinstance(source_input, ImageInput):
        is_large = math.prod(shape[1:]) > MOST_PIXELS_RATIO * math.prod(source_input.size)
        if is_large or not have_one_shape(samples):
            return (shape[0], *source_input.size)
    return shape


def embedded_transform(
    inputs: InputTransform,
    embedding: Embedding,
    source_input: NativeInput,
    pieces: tuple[int, ...],
    length: int | None = None,
) -> NativeTransform:
    """Return the transform of samples to pieces by an embedding.

    Args:
        inputs: A transform with the description and the shape of a sample, whose standardization does not apply.
        embedding: The embedding.
        source_input: Input of the source.
        pieces: Shape of a piece.
        length: Largest number of tokens of a text.
    """
    shape, zero, unit = inputs.shape, 0.0, 1.0
    if embedding.representation in IMAGES:
        assert embedding.low is not None
        assert embedding.high is not None
        shape, zero, unit = pieces, embedding.low, embedding.high - embedding.low
    scaled = replace(inputs, shape=shape, mean=np.full(shape[:1], zero), sd=np.full(shape[:1], unit))
    return NativeTransform(
        **vars(scaled), embedding=embedding, source_input=source_input, piece_shape=pieces, length=length
    )


def restore_transform(inputs: InputTransform, record: Record, source: Source) -> InputTransform:
    """Return the transform of a stored model.

    Args:
        inputs: The transform without what belongs to the source.
        record: Plain values of the transform, as they were stored.
        source: The source.

    Raises:
        ValueError: When the values are not those of such a transform.
        UsageError: When the source does not take such samples.
    """
    native = record.get(NATIVE)
    if native is None:
        return inputs
    if not isinstance(native, Mapping):
        raise ValueError(f"{NATIVE} is no table")
    source_input, length = native_input(source), native["length"]
    if length is not None and not (type(length) is int and length >= 1):
        raise ValueError(f"the length is {length!r}")
    piece_shape = tuple(native["piece_shape"])
    if any(type(size) is not int or not 1 <= size <= LARGEST_SIDE for size in piece_shape):
        raise ValueError(f"the shape of a piece is {piece_shape}")
    if len(piece_shape) != {"image": 3, "audio": 1, "text": 0}[source_input.kind]:
        raise ValueError(f"a piece of {source_input.kind} has the shape {piece_shape}")
    low, high = (None if native[name] is None else float(native[name]) for name in ("low", "high"))
    embedding = stored_embedding(inputs.spec, source.input, str(native["representation"]), low, high)
    return NativeTransform(
        **vars(inputs), embedding=embedding, source_input=source_input, piece_shape=piece_shape, length=length
    )


LARGEST_SIDE = 1 << 20
"""Largest size of a piece along an axis that is believed."""
