"""Errors that a user can act on, the progress of long work, and the counts, sizes and names in messages.

An error says what is wrong, what was expected, and the way out.
"""

import difflib
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

CUSTOM_DATA_FORMATS = (
    "a .toml manifest, an .npz, .safetensors, .h5, .csv, .tsv, .parquet or .ts file, x.npy with y.npy beside it, "
    "or a folder of class sub-folders of images or sounds"
)
"""The forms of custom data, for messages; defined here so that a command's help need not import the targets."""
CONTROL_PREFIX = "random:"
"""Beginning of the name of a control: the same architecture as a pretrained source, with random weights."""

Value = TypeVar("Value")

Progress = Callable[[str, float], None]
"""A function of the name of a stage, and of the fraction of its work, in [0, 1], done since the last call."""
MIN_SIMILARITY = 0.6
"""Smallest similarity of a name that an error suggests, from 0 to 1. With 0.5, names of other things are suggested."""
MAX_LISTED = 100
"""Largest number of valid names that an error lists."""
UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
LONGEST_NAME = 80
"""Number of characters above which a name is shortened."""
HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode categories of control, direction, private and unassigned characters and line separators."""
TERMINAL_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, of bytes that are no text, and of line separators."""
DIRECTION_CHARACTERS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that change the direction of the text after them."""


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


def named(kind: str, name: str, values: Mapping[str, Value], hint: str = "") -> Value:
    """Return the value that is registered under a name.

    Args:
        kind: The thing that has the name, such as "source".
        name: The name that was given.
        values: The registered values by name.
        hint: Text at the end of the message, as for `unknown_name`.

    Raises:
        UsageError: If there is none. The message has the most similar names.
    """
    if name not in values:
        raise unknown_name(kind, name, values, hint)
    return values[name]


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


def format_bytes(size: int) -> str:
    """Format a number of bytes with a decimal unit.

    Example:
        >>> format_bytes(26_100_000_000), format_bytes(2_400_000), format_bytes(1_500), format_bytes(1)
        ('26.1 GB', '2.4 MB', '1.5 kB', '1 byte')
    """
    for unit, name in UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return count(size, "byte")


def format_duration(seconds: float) -> str:
    """Format a time in its largest fitting unit.

    Example:
        >>> format_duration(12.3), format_duration(600), format_duration(9000)
        ('12 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Format a number of things, with the noun in the singular for one.

    Args:
        number: Number of things.
        singular: The noun in the singular.
        plural: The noun in the plural; None appends an s.

    Example:
        >>> count(1, "entry", "entries"), count(0, "entry", "entries"), count(1200, "sample")
        ('1 entry', '0 entries', '1,200 samples')
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def visible_name(name: str, longest: int | None = LONGEST_NAME) -> str:
    """Return a name that is safe to show: hidden characters as their numbers, and long names shortened in the middle.

    Args:
        name: Name that comes from a user or a model hub.
        longest: Largest number of characters. None for all of them.

    Example:
        >>> visible_name("vit" + chr(0x202E) + "b"), visible_name("abcdefghij", 7)
        ('vit‹U+202E›b', 'abc…hij')
    """
    shown = "".join(_visible_character(character) for character in name)
    if longest is None or len(shown) <= longest:
        return shown
    n_shown = longest - 1
    return f"{shown[: n_shown - n_shown // 2]}…{shown[len(shown) - n_shown // 2 :]}"


def can_be_typed(*texts: str) -> bool:
    """Return True if texts have no hidden characters, so that a command with them can be copied as it is shown.

    Example:
        >>> can_be_typed("runs/a b", "x" * 200), can_be_typed("vit" + chr(0x202E) + "b")
        (True, False)
    """
    return all(visible_name(text, None) == text for text in texts)


def printable(text: str, *, lines: bool = False) -> str:
    """Return text that a terminal shows as it is: control characters and those that change the direction as numbers.

    A class name, a path or an error may contain them. They would move the cursor, change the title of the window, write
    to the clipboard, or show a name in another order.

    Args:
        text: Text, any part of which may come from data, from a host or from a library.
        lines: True to keep line breaks and tabs.

    Example:
        >>> printable("cat" + chr(27) + "[2J"), printable("a" + chr(10) + "b"), printable("naïve 猫")
        ('cat‹U+001B›[2J', 'a‹U+000A›b', 'naïve 猫')
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown_character(character, lines) for character in text)


def _shown_character(character: str, lines: bool) -> str:
    if lines and character in "\n\t":
        return character
    hidden = unicodedata.category(character) in TERMINAL_CATEGORIES or character in DIRECTION_CHARACTERS
    return f"‹U+{ord(character):04X}›" if hidden else character


def _visible_character(character: str) -> str:
    hidden = unicodedata.category(character) in HIDDEN_CATEGORIES
    return f"‹U+{ord(character):04X}›" if hidden else character
