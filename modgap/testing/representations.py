"""Check of a representation: its description, its pieces, determinism, and that it leaves samples as they are."""

from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.inputs.plugin_representations import Rates, Representation, get_representation, plugin_pieces

__all__ = ["check_representation"]

SHAPES = {
    "image": ((1, 28, 28), (3, 40, 32)),
    "video": ((6, 3, 32, 32),),
    "series": ((1, 100), (3, 500), (2, 24)),
    "audio": ((1, 16_000), (2, 8000)),
}
"""Shapes of the samples that a representation is tried on, by their kind."""
SAMPLE_RATE = 8000.0
SOURCE_RATE = 16_000.0


def check_representation(representation: str | Representation) -> None:
    """Check a representation on random samples of its kind.

    Its description is complete; it makes at least one piece of each sample, of the kind of its sources; it makes the
    same pieces of the same sample, and pieces that differ of samples that differ; and it does not change the sample.

    Args:
        representation: Name of an installed representation, or a representation.

    Raises:
        AssertionError: If the representation breaks one of these rules.
    """
    checked = get_representation(representation) if isinstance(representation, str) else representation
    for field in ("name", "title", "reference"):
        assert getattr(checked, field).strip(), f"The {field} of the representation {checked.name!r} is empty."
    assert checked.version >= 1, f"The version of {checked.name} is {checked.version}. Expected a number from 1 on."
    assert checked.samples in SHAPES, f"{checked.name} takes samples of the unknown kind {checked.samples!r}."
    for shape in SHAPES[checked.samples]:
        _check_shape(checked, shape)


def _check_shape(checked: Representation, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    sample, other = rng.standard_normal((2, *shape)).astype(np.float32)
    has_rate = checked.samples in ("series", "audio")
    rates = Rates(SAMPLE_RATE if has_rate else None, SOURCE_RATE if checked.source == "audio" else None)
    before = sample.copy()
    first, again, others = (_pieces(checked, one, rates) for one in (sample, before, other))
    assert _equal(first, again), f"{checked.name} makes other pieces of the same sample the second time."
    assert not _equal(first, others), f"{checked.name} makes the same pieces of different samples of shape {shape}."
    checked.convert(sample, rates)
    assert np.array_equal(sample, before), f"{checked.name} changes the sample that it is given."


def _pieces(checked: Representation, sample: np.ndarray, rates: Rates) -> list[Any]:
    try:
        return plugin_pieces(checked, sample, rates)
    except InputError as error:
        raise AssertionError(str(error)) from error


def _equal(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
