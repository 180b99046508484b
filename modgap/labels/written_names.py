"""Names of classes and groups as users write them: which values are one name, and which are different names."""

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np

from modgap.errors import InputError, count

Spelling = Literal["refuse", "text", "number"]
"""How different spellings of one number are read: as an error, as different names, or as one name."""
NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?")
"""A decimal number as texts write it, with an exponent of at most four digits."""
PLAIN_NUMBER = re.compile("-?[1-9][0-9]{0,17}|0")
"""A whole number as Python writes it, of at most 18 digits, so that it fits into int64."""
OUTER = " \t\r\n\v\f\0\u00a0\u3000"
"""Characters that do not belong to a name at its ends: spaces, and the NUL that pads texts of a fixed width."""
MOST_DIGITS = 40
"""Largest number of digits that a name of a whole number is written out with."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class NumberedNames:
    """Classes or groups by number, with their names.

    Attributes:
        numbers: Number 0..K-1 of each value, shape (N,), or 0/1 labels of shape (N, K) for a multi-label target.
        names: The K names in the order of their numbers; empty if the values were such numbers already.
    """

    numbers: np.ndarray
    names: tuple[str, ...]

    @property
    def values(self) -> np.ndarray:
        """Name of each value, shape (N,): integers if all names are whole numbers as Python writes them, else texts."""
        is_plain = all(PLAIN_NUMBER.fullmatch(name) for name in self.names)
        names = np.array([int(name) for name in self.names]) if is_plain else np.array(self.names, object)
        return np.asarray(names[self.numbers])


def number_names(
    values: np.ndarray | Sequence[object], noun: str = "label", spelling: Spelling = "text", way_out: str = ""
) -> NumberedNames:
    """Number the names of classes or groups, so that no names are merged, and none is split, without a word.

    The name of a value is its text in the composed form of Unicode (NFC) without outer spaces; a warning says which
    names this changes. Bytes are UTF-8. Names are in the order of the alphabet, or of their values if all are numbers
    and the spelling counts.

    Args:
        values: Texts, bytes, numbers or truth values, of which none is missing, shape (N,).
        noun: `label` or `group`, for messages.
        spelling: Treatment of different spellings of one number (1 and 01, 1e3 and 1000) or truth value.
        way_out: Sentence for the message that refuses such spellings; empty for none.

    Raises:
        InputError: If two different values would have one name, spellings of one number are refused, or bytes are not
            UTF-8. The message shows the values.

    Example:
        >>> number_names(["10", "2", "10"])
        NumberedNames(numbers=array([0, 1, 0]), names=('10', '2'))
        >>> number_names(["10", "2", "10"], spelling="number").names
        ('2', '10')
    """
    distinct, rows, inverse = _distinct_values(values, noun)
    texts = [_text(value, noun, row) for value, row in zip(distinct, rows, strict=True)]
    names = [unicodedata.normalize("NFC", text.strip(OUTER)) for text in texts]
    first: dict[str, object] = {}
    for value, name in zip(distinct, names, strict=True):
        other = first.setdefault(name, value)
        if other is not value:
            raise InputError(
                f"The {noun}s {other!a} and {value!a} differ only in spaces at their ends, in the form of Unicode or "
                "in their type, so they would be read as one name. Write it in one way, or rename one of them."
            )
    if changed := [(text, name) for text, name in zip(texts, names, strict=True) if text != name]:
        are_read = f"{count(len(changed), f'{noun} is', f'{noun}s are')} read"
        message = "%s without spaces at the ends and in the composed form of Unicode (NFC), such as %a as %a."
        log.warning(message, are_read, *changed[0])
    if spelling != "text":
        names = _merge_spellings(names, noun, spelling, way_out)
    ordered = sorted(set(names))
    decimals = {name: decimal for name in ordered if (decimal := parse_number(name)) is not None}
    if spelling != "text" and len(decimals) == len(ordered):
        ordered.sort(key=decimals.__getitem__)
    index = {name: number for number, name in enumerate(ordered)}
    return NumberedNames(np.array([index[name] for name in names], np.int64)[inverse], tuple(ordered))


def parse_number(text: str) -> Decimal | None:
    """Return the number that a text is, without rounding; None for other texts.

    Example:
        >>> parse_number("01") == parse_number("1.0"), parse_number("NaN"), parse_number("1e3") == 1000
        (True, None, True)
    """
    return Decimal(text) if NUMBER.fullmatch(text) else None


def real_numbers(values: Sequence[object]) -> np.ndarray | None:
    """Return texts as float64 if all are numbers, and some are not whole; None for other values.

    Example:
        >>> real_numbers(["1", ".5"]), real_numbers(["1", "2.0"]), real_numbers(["1.5", "x"])
        (array([1. , 0.5]), None, None)
    """
    numbers = [parse_number(value.strip()) for value in values if isinstance(value, str)]
    parsed = [number for number in numbers if number is not None]
    if len(parsed) < len(values) or all(number == number.to_integral_value() for number in parsed):
        return None
    return np.array([float(number) for number in parsed])


def written_values(texts: Sequence[str]) -> np.ndarray:
    """Return texts as float64, the values of a regression target.

    Raises:
        InputError: If a text is not a number. The message shows it.

    Example:
        >>> written_values(["01", "1.0", "2e3"]).tolist()
        [1.0, 1.0, 2000.0]
    """
    numbers = [parse_number(text.strip()) for text in texts]
    if None in numbers:
        raise InputError(
            f"The label {texts[numbers.index(None)]!r} is not a number, and a regression target has numbers as labels. "
            'If the labels are classes, the task is classification (`custom_data={"task": "classification"}`).'
        )
    return np.array([float(number) for number in numbers if number is not None])


def _distinct_values(values: np.ndarray | Sequence[object], noun: str) -> tuple[list[object], list[int], np.ndarray]:
    """Return the different values, the first row of each, and the number of each row's value, shape (N,)."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "US":
        distinct, first_rows, numbers = np.unique(values, return_index=True, return_inverse=True)
        return distinct.tolist(), first_rows.tolist(), numbers
    number_of_key: dict[tuple[str, object], int] = {}
    rows: list[int] = []
    inverse = np.empty(len(values), np.int64)
    for row, item in enumerate(values):
        value = item.item() if isinstance(item, np.generic) else item
        # Equal numbers are one value, but 1, True and "1" are not.
        kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
        try:
            inverse[row] = number_of_key.setdefault((kind, value), len(number_of_key))
        except TypeError as error:
            raise InputError(f"The {noun} in row {row} is a {kind}. Expected a text or a number.") from error
        if inverse[row] == len(rows):
            rows.append(row)
    return [value for _, value in number_of_key], rows, inverse


def _text(value: object, noun: str, row: int) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The {noun} {value!r} (first in row {row}) is not text in UTF-8. Decode the {noun}s with their encoding, "
            "as in numpy.char.decode(values, 'latin-1')."
        ) from error


def _merge_spellings(names: Sequence[str], noun: str, spelling: Spelling, way_out: str) -> list[str]:
    """Return the names with one spelling of each number and truth value, or raise if there are several."""
    spellings: dict[tuple[str, object], set[str]] = {}
    for name in names:
        spellings.setdefault(_meaning(name), set()).add(name)
    for (kind, _), several in spellings.items():
        if spelling == "refuse" and len(several) > 1:
            first, second, *_ = sorted(several)
            raise InputError(
                f"The {noun}s {first!r} and {second!r} are two spellings of one {kind}. Write it in one way."
                + f" {way_out}".rstrip()
            )
    return [_merged_name(spellings[_meaning(name)]) for name in names]


def _meaning(name: str) -> tuple[str, object]:
    """Return the kind and the value of a name, which are equal for two spellings of one number or truth value."""
    truth = {"true": True, "false": False}.get(name.lower())
    if truth is not None:
        return "truth value", truth
    number = parse_number(name)
    return ("text", name) if number is None else ("number", number)


def _merged_name(spellings: set[str]) -> str:
    """Return the one spelling, or of several the number without leading zeros and exponent, else the shortest."""
    shortest = min(spellings, key=lambda name: (len(name), name))
    number = parse_number(shortest)
    if len(spellings) == 1 or number is None or number != number.to_integral_value() or number.adjusted() > MOST_DIGITS:
        return shortest
    return str(int(number))
