"""Representations of other packages, which the entry points of the group `modgap.representations` refer to."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, NamedTuple

import numpy as np

from modgap.errors import InputError, unknown_name
from modgap.inputs.representations import BUILT_IN
from modgap.process.installed_packages import check_plugin, describe_origin, one_line, plugin_entries, requested_plugin

GROUP = "modgap.representations"
NOUN = "Representation"
SAMPLE_KINDS = ("image", "video", "series", "audio")
SOURCE_KINDS = ("image", "audio", "text")
SHAPES = {"image": (3, "(channels, height, width)"), "audio": (1, "(length,)")}
"""Number of axes of a piece, and its shape for messages, by the kind of the source's input."""


class Rates(NamedTuple):
    """Sampling rates in hertz.

    Attributes:
        samples: Rate of the target's samples; None if it is unknown or they have none.
        source: Rate that the source expects; None for sources of images and text.
    """

    samples: float | None
    source: float | None


@dataclass(frozen=True)
class Representation:
    """A rule that turns samples of one kind into pieces of input for sources of one kind.

    Attributes:
        name: Name that `--representation` takes.
        title: What the pieces are, in a few words.
        reference: Where the rule comes from.
        samples: Kind of the samples: `image` (C, H, W), `video` (T, C, H, W), or `series` and `audio` (C, length).
        source: Kind of the source's input: `image`, `audio` or `text`.
        convert: Function of a sample and its `Rates` that returns a list of pieces, at least one: images (C, H, W),
            waveforms (length,) at the source's rate, or strings. Images and waveforms may have any finite values,
            which are scaled by those of the training samples. The mean of the pieces' outputs is the sample's.
        version: Number that is raised when the pieces change, so that results in the cache are computed again.
    """

    name: str
    title: str
    reference: str
    samples: str
    source: str
    convert: Callable[[np.ndarray, Rates], list[Any]]
    version: int = 1


def get_representation(name: str) -> Representation:
    """Return the representation of a package that has this name.

    Args:
        name: Name of the representation.

    Raises:
        UsageError: If no package has such a representation.
        InputError: If the package's representation cannot be used.
    """
    entries = _entries()
    if name not in entries:
        raise unknown_name("representation", name, [*BUILT_IN, *entries])
    return _load(entries[name])


@functools.cache
def _entries() -> dict[str, EntryPoint]:
    return plugin_entries(GROUP, NOUN, BUILT_IN)


@functools.cache
def _load(entry: EntryPoint) -> Representation:
    return requested_plugin(entry, NOUN, _check_description)


def _check_description(name: str, plugin: object) -> Representation:
    """Return a plug-in if it is a representation of its entry point's name, between kinds that exist."""
    representation = check_plugin(name, plugin, Representation)
    for value, kinds in ((representation.samples, SAMPLE_KINDS), (representation.source, SOURCE_KINDS)):
        if value not in kinds:
            raise ValueError(f"it has the kind {value!r} in place of {' or '.join(kinds)}")
    return representation


def representation_record(name: str | None) -> str | dict[str, object] | None:
    """Return what a cache key holds of a requested representation: its name, and of a package's also the versions.

    Args:
        name: Name of the representation; None for the manifest's choice.

    Raises:
        UsageError: If neither modgap nor another package has a representation of this name.
    """
    if name is None or name in BUILT_IN:
        return name
    plugin = get_representation(name)
    return {"name": name, "version": plugin.version, "package": describe_origin(_entries()[name])}


def plugin_pieces(representation: Representation, sample: np.ndarray, rates: Rates) -> list[Any]:
    """Return the pieces that a package's representation makes of a sample.

    Args:
        representation: The representation.
        sample: The sample. The representation gets a copy, so that it cannot change it.
        rates: Sampling rates of the samples and of the source.

    Raises:
        InputError: If it fails, or returns something else than pieces of its kind.
    """
    try:
        pieces = representation.convert(np.array(sample), rates)
        if not isinstance(pieces, list) or not pieces:
            raise TypeError("it returned no list of pieces")
        return [_checked_piece(piece, representation.source) for piece in pieces]
    except InputError:
        raise
    except Exception as error:  # a plug-in can fail in any way
        raise InputError(
            f"The representation {representation.name} failed on a sample of shape {np.shape(sample)}: "
            f"{one_line(error)}"
        ) from error


def _checked_piece(piece: object, kind: str) -> str | np.ndarray:
    if kind == "text":
        if not isinstance(piece, str):
            raise TypeError(f"it returned a {type(piece).__name__}, not a string")
        return piece
    values = np.asarray(piece)
    n_axes, shape = SHAPES[kind]
    if values.ndim != n_axes or not values.size or values.dtype.kind not in "fiu":
        raise TypeError(f"it returned {values.dtype} of shape {values.shape}, not numbers of shape {shape}")
    if not np.isfinite(values).all():
        raise ValueError("it returned NaN or infinite values")
    return values.astype(np.float32)
