"""Native embedding: a target's samples as pieces that the source's own preprocessing takes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.inputs.representations import (
    fold,
    letters,
    log_mel,
    numbers_as_text,
    spectrogram,
    spectrogram_applies,
    waveform,
)
from modgap.sources import Input, TextInput
from modgap.targets import SPLITS, Table
from modgap.targets.manifest import InputSpec, LogMel

__all__ = ["Embedding", "native_embedding"]

WAYS = {
    ("image", "image"): ("image",),
    ("video", "image"): ("frames",),
    ("series", "image"): ("spectrogram", "fold", "log-mel"),
    ("audio", "image"): ("log-mel", "spectrogram", "fold"),
    ("text", "text"): ("text",),
    ("series", "text"): ("tokens",),
    ("audio", "text"): ("tokens",),
    ("image", "text"): ("tokens",),
    ("audio", "audio"): ("waveform",),
    ("series", "audio"): ("waveform",),
}
"""Representations by what samples are and what the source takes; the first is the default."""
LEVELS = 100
"""Whole numbers that values become in text: 0 to 99."""
TOKENS_A_NUMBER = 2
RANGE_SAMPLES = 2000


@dataclass(frozen=True)
class Embedding:
    """How samples become pieces; recorded in every result.

    Attributes:
        representation: `image`, `frames`, `fold`, `spectrogram`, `log-mel`, `tokens`, `text` or `waveform`; `values`
            for a trained embedder, whose `inputs` make the pieces.
        low: Value that becomes 0 in images and in numbers as text; None elsewhere.
        high: Value that becomes 1; values beyond are not clipped in images.
        options: What else decides the pieces, by name.
    """

    representation: str
    low: float | None = None
    high: float | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def pieces(self, sample: Any) -> list[Any]:
        """A sample's pieces: images (C, H, W) float32, strings, or waveforms (length,) float32.

        A sample of several pieces gets the mean of their logits.
        """
        if self.representation == "values":
            return dict(self.options)["inputs"].pieces(sample)
        raw = self._raw(sample)
        if self.low is None or self.high is None or self.representation == "tokens":
            return raw
        scale = np.float32(self.high - self.low)
        return [(piece.astype(np.float32) - np.float32(self.low)) / scale for piece in raw]

    def _raw(self, sample: Any) -> list[Any]:
        options: dict[str, Any] = dict(self.options)
        if self.representation == "image":
            return [sample]
        if self.representation == "frames":
            return list(sample)
        if self.representation == "text":
            return [str(sample)]
        if self.representation == "log-mel":
            return log_mel(sample, options["rate"], options["log_mel"])
        if self.representation == "waveform":
            return [waveform(sample, options["rate"], options["source_rate"])]
        if self.representation == "tokens":
            return [self._text(sample, options)]
        return [{"fold": fold, "spectrogram": spectrogram}[self.representation](sample)]

    def _text(self, sample: np.ndarray, options: dict[str, Any]) -> str:
        if "alphabet" in options:
            return letters(sample, options["alphabet"])
        assert self.low is not None
        assert self.high is not None
        return numbers_as_text(sample, self.low, self.high, options["numbers"], options["levels"])

    def to_dict(self) -> dict:
        """Plain values for the result's record."""
        record: dict[str, Any] = {"representation": self.representation, "low": self.low, "high": self.high}
        given = {n: v.model_dump() if isinstance(v, LogMel) else v for n, v in self.options if n != "inputs"}
        return record | given


def native_embedding(spec: InputSpec, table: Table, own: Input, representation: str | None = None) -> Embedding:
    """Choose the representation and the range.

    Args:
        spec: The manifest's word on the input.
        table: The data, for the training split's range where the manifest gives none.
        own: What the source takes.
        representation: Overrides the manifest's.

    Raises:
        UsageError: When the source cannot take such samples, or not so represented.
        InputError: When all training values are equal or some are NaN or infinite.
    """
    chosen = _chosen(spec, table, own, representation)
    options = _options(spec, table, own, chosen)
    embedding = Embedding(chosen, options=options)
    if chosen in ("text", "waveform") or "alphabet" in dict(options):
        return embedding
    low, high = _range(spec, table, embedding)
    return Embedding(chosen, low, high, options)


def _chosen(spec: InputSpec, table: Table, own: Input, asked: str | None) -> str:
    ways = WAYS.get((spec.kind, own.kind))
    if ways is None:
        raise UsageError(
            f"the source takes {own.kind}, this target's samples are {spec.kind}; "
            f"choose a source that takes {' or '.join(sorted({b for a, b in WAYS if a == spec.kind}))}"
        )
    if asked and asked not in ways:
        there = f"{spec.kind} samples for a source that takes {own.kind} enter as {' or '.join(ways)}"
        raise UsageError(f"--representation {asked} does not apply; {there}")
    if asked:
        return asked
    if spec.representation in ways:
        return spec.representation
    if spec.kind == "series" and own.kind == "image" and not spectrogram_applies(table.samples[0]):
        return "fold"
    return ways[0]


def _options(spec: InputSpec, table: Table, own: Input, chosen: str) -> tuple[tuple[str, Any], ...]:
    """What the representation needs to know beside the sample."""
    if chosen == "log-mel":
        if spec.rate is None:
            raise InputError("a log-mel spectrogram needs the values' rate in hertz; give input.rate in the manifest")
        return (("rate", spec.rate), ("log_mel", spec.log_mel))
    if chosen == "waveform":
        rate = getattr(own, "rate")  # noqa: B009 - only an AudioInput takes waveforms
        # A series that is no sound keeps its values, as if taken at the source's own rate.
        return (("rate", spec.rate if spec.kind == "audio" and spec.rate else rate), ("source_rate", rate))
    if chosen == "tokens" and spec.alphabet:
        channels = table.samples[0].shape[0]
        if channels != len(spec.alphabet):
            raise InputError(f"expected {channels} letters in the manifest's alphabet, got {spec.alphabet!r}")
        return (("alphabet", spec.alphabet),)
    if chosen == "tokens":
        assert isinstance(own, TextInput)
        return (("numbers", max(1, (own.max_tokens - 2) // TOKENS_A_NUMBER)), ("levels", LEVELS))
    return ()


def _range(spec: InputSpec, table: Table, embedding: Embedding) -> tuple[float, float]:
    """What becomes 0 and 1: the manifest's, or the range of (at most 2,000 of) the training samples."""
    low, high = spec.low, spec.high
    if low is None or high is None:
        train = np.flatnonzero(table.splits == SPLITS.index("train"))
        if len(train) == 0:
            raise InputError("expected training samples to take the range of values from, got none; give low and high")
        if len(train) > RANGE_SAMPLES:
            train = train[np.linspace(0, len(train) - 1, RANGE_SAMPLES).astype(np.int64)]
        values: Callable[[Any], list] = (lambda s: [s]) if embedding.representation == "tokens" else embedding.pieces
        found = _value_range(piece for i in train for piece in values(table.samples[int(i)]))
        low, high = found[0] if low is None else low, found[1] if high is None else high
    if not low < high:
        raise InputError(f"expected low below high to scale samples by, got {low} and {high}")
    return low, high


def _value_range(pieces: Iterable[np.ndarray]) -> tuple[float, float]:
    extremes = np.array([(piece.min(), piece.max()) for piece in pieces], dtype=np.float64)
    low, high = float(extremes[:, 0].min()), float(extremes[:, 1].max())
    if not np.isfinite([low, high]).all():
        bad = int((~np.isfinite(extremes)).any(axis=1).sum())
        raise InputError(f"expected finite samples, got NaN or infinite values in {bad} of the training split's")
    if low == high:
        raise InputError(f"expected samples that differ, got the value {low} throughout the training split")
    return low, high
