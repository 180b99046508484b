"""Errors that a user can act on: the problem, what was expected, and the way out."""

import difflib
from collections.abc import Iterable

__all__ = [
    "CUSTOM_DATA_FORMATS",
    "InputError",
    "UsageError",
    "check_maximum",
    "check_minimum",
    "first_line",
    "unknown_name",
]

CUSTOM_DATA_FORMATS = (
    "a .toml manifest, an .npz, .safetensors, .h5, .csv, .tsv, .parquet or .ts file, x.npy with y.npy beside it, "
    "or a folder of class sub-folders of images or sounds"
)
"""The forms of custom data, for messages; defined here so that a command's help need not import the targets."""


MIN_SIMILARITY = 0.6
"""Smallest similarity of a name that an error suggests, from 0 to 1. With 0.5, names of other things are suggested."""
MAX_LISTED = 100
"""Largest number of valid names that an error lists."""


class InputError(ValueError):
    """The data, the weights or the machine do not allow what was requested.

    Attributes:
        exit_code: Exit code of a command that ends with this error: 1.
    """

    exit_code = 1


class UsageError(InputError):
    """The request itself is wrong, such as an unknown name or an argument out of range.

    Attributes:
        exit_code: Exit code of a command that ends with this error: 2.
    """

    exit_code = 2


def unknown_name(kind: str, name: str, valid_names: Iterable[str], hint: str = "") -> UsageError:
    """Return the error for a name that is not registered, with the most similar valid names.

    Args:
        kind: The thing that has the name, such as "source".
        name: The name that was given.
        valid_names: The names that exist.
        hint: Text at the end of the message, such as other forms that are allowed.

    Example:
        >>> print(unknown_name("source", "efficientnet-lit0", ["efficientnet-lite0", "minilm"]))
        Unknown source 'efficientnet-lit0'. Did you mean efficientnet-lite0?
    """
    valid_names = sorted(valid_names)
    similar = difflib.get_close_matches(name, valid_names, n=3, cutoff=MIN_SIMILARITY)
    more = f" and {len(valid_names) - MAX_LISTED:,} more" if len(valid_names) > MAX_LISTED else ""
    way_out = f"Expected one of: {', '.join(valid_names[:MAX_LISTED])}{more}"
    if similar:
        way_out = f"Did you mean {' or '.join(similar)}?"
    return UsageError(f"Unknown {kind} {name!r}. {way_out}" + (f" {hint}" if hint else ""))


def check_minimum(name: str, value: float | None, minimum: float) -> None:
    """Raise if an argument is below its minimum; None passes.

    Args:
        name: The name of the argument, for instance `limit`.
        value: The value of the argument.
        minimum: The smallest value allowed.

    Raises:
        UsageError: When the value is smaller, or not a number.
    """
    if value is not None and not value >= minimum:
        raise UsageError(f"`{name}` is {value}, but it must be at least {minimum}.")


def check_maximum(name: str, value: float | None, maximum: float) -> None:
    """Raise if an argument is above its maximum; None passes.

    Args:
        name: The name of the argument, for instance `threads`.
        value: The value of the argument.
        maximum: The largest value allowed.

    Raises:
        UsageError: When the value is larger.
    """
    if value is not None and value > maximum:
        raise UsageError(f"`{name}` is {value}, but it must be at most {maximum}.")


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message, or the name of its type where the message is empty.

    Example:
        >>> first_line(OSError("no space\nleft")), first_line(EOFError())
        ('no space', 'EOFError')
    """
    return next(iter(str(error).splitlines()), "") or type(error).__name__
