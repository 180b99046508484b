"""Checks of the options of readers that render samples; a manifest may contain any value."""

from collections.abc import Collection, Sequence
from textwrap import shorten
from typing import Any

from modgap.errors import InputError
from modgap.formatting import format_bytes
from modgap.limits import RENDERED_BYTES, RENDERED_SAMPLES

__all__ = [
    "check_choice",
    "check_number",
    "check_rendered_size",
    "check_whole_number",
    "different_names",
    "names_among",
    "option_error",
    "whole_numbers",
]

LONGEST_VALUE = 60
"""Largest number of characters of a wrong value that a message shows."""


def option_error(option: str, value: object, expected: str) -> InputError:
    """Return the error for a wrong value of an option.

    Args:
        option: Name of the option in the manifest.
        value: The wrong value.
        expected: Description of the values that are allowed.
    """
    shown = shorten(repr(value), LONGEST_VALUE, placeholder="...")
    return InputError(f"The reader's option {option} is {shown}. Expected {expected}.")


def check_whole_number(option: str, value: object, low: int, high: int) -> None:
    """Raise an InputError unless an option is a whole number from `low` to `high`."""
    if not _is_whole_number(value, low, high):
        raise option_error(option, value, f"a whole number from {low:,} to {high:,}")


def check_number(option: str, value: object, low: float, high: float) -> None:
    """Raise an InputError unless an option is a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise option_error(option, value, f"a number from {low} to {high}")


def check_choice(option: str, value: object, choices: Collection[str]) -> None:
    """Raise an InputError unless an option is one of some names."""
    if not isinstance(value, str) or value not in choices:
        raise option_error(option, value, f"one of {', '.join(choices)}")


def whole_numbers(option: str, values: object, low: int, high: int) -> tuple[int, ...]:
    """Return an option that is a list of different whole numbers from `low` to `high`.

    Raises:
        InputError: When it is anything else, or empty.
    """
    items = _different_items(values)
    if items is None or not all(_is_whole_number(item, low, high) for item in items):
        raise option_error(option, values, f"a list of different whole numbers from {low:,} to {high:,}")
    return tuple(items)


def different_names(option: str, values: object) -> tuple[str, ...]:
    """Return an option that is a list of different names.

    Raises:
        InputError: When it is anything else, or empty.
    """
    items = _different_items(values)
    if items is None or not all(isinstance(item, str) for item in items):
        raise option_error(option, values, "a list of different names")
    return tuple(items)


def names_among(option: str, values: object, choices: Collection[str]) -> tuple[str, ...]:
    """Return an option that is a list of different names, each one of `choices`.

    Raises:
        InputError: When it is anything else, or empty.
    """
    names = different_names(option, values)
    for name in names:
        check_choice(option, name, choices)
    return names


def check_rendered_size(n_samples: int, sample_bytes: int) -> None:
    """Raise an InputError if the samples that options describe exceed the limits, before any is rendered.

    Args:
        n_samples: Number of samples.
        sample_bytes: Size of one sample as an array.
    """
    if n_samples > RENDERED_SAMPLES.value:
        raise InputError(
            f"The reader's options describe {n_samples:,} samples. The limit is {RENDERED_SAMPLES.value:,}. "
            f"{RENDERED_SAMPLES.way_out(n_samples)}"
        )
    total = n_samples * sample_bytes
    if total > RENDERED_BYTES.value:
        raise InputError(
            f"The reader's options describe samples of {format_bytes(total)}. The limit is "
            f"{format_bytes(RENDERED_BYTES.value)}. {RENDERED_BYTES.way_out(total)}"
        )


def _is_whole_number(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _different_items(values: object) -> Sequence[Any] | None:
    """Return the items of a list of different numbers or strings; None for anything else, or an empty list."""
    if not isinstance(values, list | tuple) or not values:
        return None
    if not all(isinstance(item, int | float | str) for item in values) or len(set(values)) < len(values):
        return None
    return values
