"""Native embedding: a target's samples as pieces that the source's own preprocessing takes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.inputs.plugin_representations import Rates, get_representation, plugin_pieces
from modgap.inputs.representations import (
    BUILT_IN,
    MOST_WINDOWS,
    PATCH,
    REPRESENTATIONS,
    SPECTROGRAM_WINDOWS,
    cut_windows,
    fold_series,
    image_patches,
    image_rows,
    log_mel_spectrograms,
    mono_waveform,
    numbers_as_text,
    one_hot_as_letters,
    resample,
    series_channels,
    spectrogram,
    stretch,
)
from modgap.sources import Input, TextInput
from modgap.targets import SPLITS, Table
from modgap.targets.manifest import InputSpec, LogMel
from modgap.targets.samples import computing_type

LEVELS = 100
"""Number of whole numbers that values become in text: 0 to 99."""
TOKENS_PER_NUMBER = 2
"""Number of tokens of a text that are reserved for each whole number."""
RANGE_SAMPLES = 2000
"""Largest number of training samples from which the range of values is taken."""
WAVEFORMS = ("waveform", "rows", "patches")
"""modgap's own representations whose pieces are waveforms."""
STRETCHED_SECONDS = 1.0
"""Duration to which a series without a rate, or an image, is stretched for a source of sound without a window."""
SLOWEST = 0.01
"""Sampling rate, relative to the source's, below which a series is stretched as if its rate were unknown. Sources of
sound do not respond to such slow changes."""
Options = tuple[tuple[str, Any], ...]
"""Parameters that a representation needs besides the sample, as pairs of a name and a value."""


@dataclass(frozen=True)
class Embedding:
    """The rule by which samples become pieces of a source's input; recorded in every result.

    Attributes:
        representation: `image`, `frames`, `fold`, `spectrogram`, `log-mel`, `tokens`, `text`, `waveform`, `rows` or
            `patches`; the name of another package's representation; or `values` for a trained embedder.
        low: Value that becomes 0 in images and in numbers as text, and -1 in waveforms of other samples than sound;
            None where values are not scaled.
        high: Value that becomes 1, and in numbers as text the largest number; None where values are not scaled. Values
            beyond low and high are clipped in numbers as text only.
        options: All other parameters of the representation, as pairs of a name and a value.
    """

    representation: str
    low: float | None = None
    high: float | None = None
    options: Options = ()

    def pieces(self, sample: Any) -> list[Any]:
        """Return a sample's pieces: images (C, H, W), strings, or waveforms (length,); float32 once they are scaled.

        A sample of several pieces gets the mean of their logits.
        """
        unscaled = self._unscaled_pieces(sample)
        if self.low is None or self.high is None or self.representation == "tokens":
            return unscaled
        # Waveforms lie in [-1, 1], images in [0, 1].
        if self.representation in WAVEFORMS or dict(self.options).get("pieces") == "audio":
            half = (self.high - self.low) / 2
            return [_scaled(piece, self.low + half, half) for piece in unscaled]
        return [_scaled(piece, self.low, self.high - self.low) for piece in unscaled]

    def _unscaled_pieces(self, sample: Any) -> list[Any]:
        """Return a sample's pieces with the values of the representation, before `low` and `high` are applied."""
        options = dict(self.options)
        match self.representation:
            case "image":
                return [sample]
            case "frames":
                return list(sample)
            case "text":
                return [str(sample)]
            case "log-mel":
                return log_mel_spectrograms(sample, options["rate"], options["log_mel"])
            case "waveform" | "rows" | "patches":
                return _windows(self._waveforms(sample, options), options["window"])
            case "tokens" if "alphabet" in options:
                return [one_hot_as_letters(sample, options["alphabet"])]
            case "tokens":
                assert self.low is not None
                assert self.high is not None
                return [numbers_as_text(sample, self.low, self.high, options["numbers"], options["levels"])]
            case "fold":
                return [fold_series(sample)]
            case "spectrogram":
                return [spectrogram(sample)]
        rates = Rates(options["rate"], options["source_rate"])
        pieces = plugin_pieces(get_representation(self.representation), sample, rates)
        return _windows(pieces, options["window"]) if options["pieces"] == "audio" else pieces

    def _waveforms(self, sample: np.ndarray, options: dict[str, Any]) -> list[np.ndarray]:
        """Return one waveform of a sound or an image, and one for each channel of a series."""
        if self.representation == "rows":
            return [stretch(image_rows(sample), options["stretched"])]
        if self.representation == "patches":
            return [stretch(image_patches(sample, options["patch"]), options["stretched"])]
        if options["stretched"]:
            return [stretch(channel, options["stretched"]) for channel in series_channels(sample)]
        if options["channels"] == "mean":
            return [mono_waveform(sample, options["rate"], options["source_rate"])]
        return [resample(channel, options["rate"], options["source_rate"]) for channel in series_channels(sample)]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the result's record."""
        options = {name: value.model_dump() if isinstance(value, LogMel) else value for name, value in self.options}
        return {"representation": self.representation, "low": self.low, "high": self.high, **options}


def _scaled(piece: np.ndarray, zero: float, unit: float) -> np.ndarray:
    """Return (piece - zero) / unit as float32. The difference is taken before float64 values are rounded."""
    scaled: np.ndarray = (piece.astype(computing_type(piece.dtype), copy=False) - zero) / unit
    return scaled.astype(np.float32, copy=False)


def _windows(waveforms: list[np.ndarray], window: int | None) -> list[np.ndarray]:
    """Return the windows of all waveforms for a source that has windows, else the waveforms themselves.

    There are at most `MOST_WINDOWS` windows together, but at least one of each waveform.

    Args:
        waveforms: Waveforms of one sample, each of shape (length,).
        window: Number of values of a window; None for a source of waveforms of any length.
    """
    if window is None:
        return waveforms
    most = max(1, MOST_WINDOWS // len(waveforms))
    return [part for waveform in waveforms for part in cut_windows(waveform, window, most)]


def native_embedding(
    spec: InputSpec, table: Table, source_input: Input, representation: str | None = None
) -> Embedding:
    """Choose the representation of a target's samples for a source, and the range of values that it scales by.

    Args:
        spec: The manifest's description of the samples.
        table: The target's data. Its training split gives the range of values if the manifest does not.
        source_input: The source's input.
        representation: Name of a representation; None for the manifest's choice, or else the default.

    Raises:
        UsageError: When the source cannot take such samples, or cannot take them in this representation.
        InputError: When all training values are equal, or some are NaN or infinite.
    """
    chosen = _choose_representation(spec, table, source_input, representation)
    options = _options(spec, table, source_input, chosen)
    unscaled = Embedding(chosen, options=options)
    is_sound = spec.kind == "audio" and chosen == "waveform"
    is_text = chosen == "text" or dict(options).get("pieces") == "text"
    if is_sound or is_text or "alphabet" in dict(options):
        return unscaled
    low, high = _range(spec, table, unscaled)
    return Embedding(chosen, low, high, options)


def stored_embedding(
    spec: InputSpec, source_input: Input, representation: str, low: float | None, high: float | None
) -> Embedding:
    """Return the embedding that `native_embedding` chose before, by its representation and its range of values.

    Raises:
        UsageError: When the source cannot take such samples in this representation.
    """
    chosen = _choose_representation(spec, None, source_input, representation)
    return Embedding(chosen, low, high, _options(spec, None, source_input, chosen))


def _choose_representation(spec: InputSpec, table: Table | None, source_input: Input, requested: str | None) -> str:
    """Return the name of the requested representation, or else of the manifest's if it is possible, or the default.

    Args:
        spec: The manifest's description of the samples.
        table: The target's data, whose first sample decides whether a spectrogram is the default; None if unknown.
        source_input: The source's input.
        requested: Name of a representation; None to choose one.

    Raises:
        UsageError: When the source cannot take such samples, or cannot take them in this representation.
    """
    if requested and requested not in BUILT_IN:
        plugin = get_representation(requested)
        if (plugin.samples, plugin.source) != (spec.kind, source_input.kind):
            raise UsageError(
                f"`representation={requested!r}` does not apply. It turns {plugin.samples} into input of sources that "
                f"take {plugin.source}, but the samples are {spec.kind} and the source takes {source_input.kind}."
            )
        return requested
    possible = REPRESENTATIONS.get((spec.kind, source_input.kind))
    if possible is None:
        fitting = sorted({source_kind for kind, source_kind in REPRESENTATIONS if kind == spec.kind})
        raise UsageError(
            f"The source takes {source_input.kind}, but this target's samples are {spec.kind}. "
            f"Choose a source that takes {' or '.join(fitting)}."
        )
    if requested and requested not in possible:
        raise UsageError(
            f"`representation={requested!r}` does not apply. A source that takes {source_input.kind} can take "
            f"{spec.kind} samples as {' or '.join(possible)}."
        )
    if requested:
        return requested
    if spec.representation in possible:
        return spec.representation
    is_series_as_image = spec.kind == "series" and source_input.kind == "image"
    # The spectrogram of a short series would have few frames.
    if is_series_as_image and table is not None and len(table.samples[0][0]) < SPECTROGRAM_WINDOWS[0]:
        return "fold"
    return possible[0]


def _options(spec: InputSpec, table: Table | None, source_input: Input, chosen: str) -> Options:
    """Return the parameters that the representation needs besides the sample, as pairs of a name and a value."""
    if chosen == "log-mel":
        if spec.rate is None:
            raise InputError("A log-mel spectrogram needs the sampling rate in hertz. Set input.rate in the manifest.")
        return (("rate", spec.rate), ("log_mel", spec.log_mel))
    if chosen not in BUILT_IN:
        return (
            ("pieces", source_input.kind),
            ("version", get_representation(chosen).version),  # for the record alone
            ("rate", spec.rate),
            ("source_rate", getattr(source_input, "rate", None)),
            ("window", getattr(source_input, "window", None)),
        )
    if chosen in WAVEFORMS:
        return _waveform_options(spec, source_input, chosen)
    if chosen == "tokens" and spec.alphabet:
        channels = len(spec.alphabet) if table is None else table.samples[0].shape[0]
        if channels != len(spec.alphabet):
            raise InputError(
                f"The manifest's alphabet {spec.alphabet!r} has {len(spec.alphabet)} letters, but the samples have "
                f"{channels} channels. It needs one letter per channel."
            )
        return (("alphabet", spec.alphabet),)
    if chosen == "tokens":
        assert isinstance(source_input, TextInput)
        # Two tokens are those at the start and the end of a text.
        return (("numbers", max(1, (source_input.max_tokens - 2) // TOKENS_PER_NUMBER)), ("levels", LEVELS))
    return ()


def _waveform_options(spec: InputSpec, source_input: Input, chosen: str) -> Options:
    """Return the parameters of a waveform, as pairs of a name and a value.

    Sound, and series with a sampling rate, are resampled to the source's rate. Other samples are stretched to one
    window of the source, or to a second if it takes sound of any length.
    """
    source_rate = getattr(source_input, "rate")  # noqa: B009 - inputs of the kind audio have a rate
    window = getattr(source_input, "window", None)
    rate = spec.rate
    if spec.kind == "audio" and rate is None:
        rate = source_rate
    stretched = None
    if rate is None or source_rate is None or chosen != "waveform" or rate < SLOWEST * source_rate:
        stretched = window or round(STRETCHED_SECONDS * source_rate)
    return (
        ("rate", None if stretched else rate),
        ("source_rate", source_rate),
        ("channels", "each" if spec.kind == "series" else "mean"),
        ("stretched", stretched),
        ("window", window),
        ("most_windows", MOST_WINDOWS),  # for the record alone
        ("patch", PATCH if chosen == "patches" else None),
    )


def _range(spec: InputSpec, table: Table, embedding: Embedding) -> tuple[float, float]:
    """Return `low` and `high` of the embedding: the values by which its pieces are scaled.

    They are the manifest's, or else the smallest and largest unscaled value in the pieces of at most `RANGE_SAMPLES`
    training samples. `embedding` therefore has no range yet.
    """
    low = spec.low
    high = spec.high
    if low is None or high is None:
        pieces = _training_pieces(table, embedding)
        extremes = np.array([(piece.min(), piece.max()) for piece in pieces], dtype=np.float64)
        smallest, largest = float(extremes[:, 0].min()), float(extremes[:, 1].max())
        if not np.isfinite([smallest, largest]).all():
            n_bad = int((~np.isfinite(extremes)).any(axis=1).sum())
            raise InputError(
                f"There are NaN or infinite values in {n_bad} training samples. All values must be finite."
            )
        if smallest == largest:
            raise InputError(f"All training samples have the same value {smallest} throughout. Samples must differ.")
        low = smallest if low is None else low
        high = largest if high is None else high
    if not low < high:
        raise InputError(f"The samples cannot be scaled, because low is {low} and high is {high}. Set low below high.")
    return low, high


def _training_pieces(table: Table, embedding: Embedding) -> Iterable[np.ndarray]:
    """Yield the arrays whose values are scaled: the pieces of training samples, or the samples if they become text."""
    rows = np.flatnonzero(table.splits == SPLITS.index("train"))
    if len(rows) == 0:
        raise InputError(
            "The range of values is unknown, because there are no training samples. "
            "Set input.low and input.high in the manifest."
        )
    if len(rows) > RANGE_SAMPLES:
        rows = rows[np.linspace(0, len(rows) - 1, RANGE_SAMPLES).astype(np.int64)]
    for row in rows:
        sample = table.samples[int(row)]
        yield from [sample] if embedding.representation == "tokens" else embedding.pieces(sample)
