"""Errors that a user can act on: what was expected, what came, the way out."""

import difflib
from collections.abc import Iterable

__all__ = ["CUSTOM_DATA_FORMATS", "InputError", "UsageError", "check_minimum", "first_line", "unknown_name"]

CUSTOM_DATA_FORMATS = (
    "a .toml manifest, an .npz, .safetensors, .h5, .csv or .tsv file, a folder with x.npy and y.npy, "
    "or a folder of class sub-folders of images or sounds"
)
"""What a target can be besides a manifest's name; here, so that a command's help needs nothing of the targets."""


class InputError(ValueError):
    """The data, the weights or the machine cannot do what was asked; commands exit with 1."""

    exit_code = 1


class UsageError(InputError):
    """The request itself is wrong: an unknown name, an option out of range; commands exit with 2."""

    exit_code = 2


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UsageError:
    """The error for a name that no registry holds, with the nearest ones.

    Example:
        >>> print(unknown_name("source", "efficientnet-lit0", ["efficientnet-lite0", "minilm"]))
        unknown source 'efficientnet-lit0'; did you mean efficientnet-lite0?
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    way_out = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
    return UsageError(f"unknown {kind} {name!r}; {way_out}" + (f" {hint}" if hint else ""))


def check_minimum(option: str, value: float | None, minimum: float) -> None:
    """Raise if an option's value is below its minimum; None stands for an absent option and passes.

    Args:
        option: The option as the user types it, for instance `--limit`.
        value: The option's value.
        minimum: The smallest value allowed.

    Raises:
        UsageError: When the value is smaller, or not a number.
    """
    if value is not None and not value >= minimum:
        raise UsageError(f"{option} is {value}, but it must be at least {minimum}.")


def first_line(error: BaseException) -> str:
    """What a library's error says, on one line: the first of its message, or its type where it has none.

    Example:
        >>> first_line(OSError("no space\\nleft")), first_line(EOFError())
        ('no space', 'EOFError')
    """
    return next(iter(str(error).splitlines()), "") or type(error).__name__
