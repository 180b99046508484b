"""Arguments of the public functions, compared with their annotations before anything is computed."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from modgap.errors import UsageError, unknown_name

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

LONGEST_SHOWN = 60
"""Most characters of a value that a message shows."""
NAMED_TYPES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path",
    Any: "any value",
    type(None): "None",
}
PLURALS = {str: "strings", Any: "values"}
MODEL_HINT = (
    " A model in memory has no name: save it, and pass the path as the guide to a model of your own shows "
    "(docs/guides/private_model.md), or pass its logits to modgap.estimate."
)


def public_function(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Return a function that checks its arguments before it is run, and converts them to the types of its annotations.

    NumPy's numbers become Python's, one value becomes a tuple where several are expected, and a path becomes a string
    where a name is expected. Errors that Python has messages for, such as a missing argument, are left to the call. The
    function raises a UsageError if there is no argument of a name, or an argument is of another type.

    Args:
        function: A function whose parameters have annotations. Those of `**options` are the fields of a TypedDict.
    """

    @wraps(function)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        parameters = inspect.signature(function).parameters
        hints: dict[str, object] = {}
        for name, one in parameters.items():
            if one.kind is one.VAR_KEYWORD:
                (fields,) = get_args(one.annotation)
                hints |= get_type_hints(fields)
            elif one.kind is not one.VAR_POSITIONAL:
                hints[name] = one.annotation
        for name in kwargs:
            if name not in hints:
                raise unknown_name(f"argument of modgap.{function.__name__}", name, hints)
        positional = [name for name, one in parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
        values: list[Any] = [_convert(name, value, hints[name]) for name, value in zip(positional, args, strict=False)]
        values += args[len(values) :]
        keywords: dict[str, Any] = {name: _convert(name, value, hints[name]) for name, value in kwargs.items()}
        return function(*values, **keywords)

    return wrapper


def _convert(name: str, value: object, hint: object) -> Any:
    """Return a value as a type of an annotation, or raise if it is of another type."""
    choices = _alternatives(hint)
    for choice in choices:
        if _is_of(value, choice):
            return _converted(name, value, choice)
    if _is_name(value, choices):
        return _checked_text(name, str(value).removeprefix("torch."))
    element = next((get_args(choice)[0] for choice in choices if get_origin(choice) in (Sequence, Iterable)), None)
    if element is not None:
        if (
            isinstance(value, Iterable)
            and not isinstance(value, Mapping | str | bytes)
            and getattr(value, "ndim", 1) != 0
        ):
            return tuple(_convert(f"{name}[{number}]", one, element) for number, one in enumerate(value))
        of_one = _alternatives(element)
        if _is_name(value, of_one) or any(_is_of(value, choice) for choice in of_one):
            return (_convert(name, value, element),)
    way_out = MODEL_HINT if hasattr(value, "state_dict") else ""
    *types, last = dict.fromkeys(_type_name(choice) for choice in choices)
    expected = f"{', '.join(types)} or {last}" if types else last
    raise UsageError(f"`{name}` is {_shown(value)}. Expected {expected}.{way_out}")


def _alternatives(hint: object) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _is_of(value: object, choice: Any) -> bool:
    """Return True if a value is of a type; sequences are no type of their own, because one value stands for them."""
    origin = get_origin(choice)
    if choice is Any:
        return True
    if origin in (Sequence, Iterable):
        return False
    if origin is Literal:
        return isinstance(value, str)
    if origin is tuple:
        # A list of two names is no pair of arrays.
        is_names = isinstance(value, list) and all(isinstance(one, str | PathLike) for one in value)
        return isinstance(value, tuple | list) and len(value) == len(get_args(choice)) and not is_names
    if choice in (int, float):
        return isinstance(value, Integral if choice is int else Real) and not isinstance(value, bool | np.bool_)
    if choice is bool:
        return isinstance(value, bool | np.bool_)
    return isinstance(value, PathLike if choice is Path else origin or choice)


def _is_name(value: object, choices: Iterable[object]) -> bool:
    """Return True for a value whose text is meant where a text is expected: a path, or a device or type of torch."""
    kind = (type(value).__module__, type(value).__name__)
    return str in choices and (isinstance(value, PathLike) or kind in (("torch", "device"), ("torch", "dtype")))


def _converted(name: str, value: Any, choice: Any) -> Any:
    """Return a value as Python's type, after the checks that a type alone does not make."""
    origin = get_origin(choice)
    if origin is Literal and value not in get_args(choice):
        raise unknown_name(name, value, get_args(choice))
    if choice in (str, Path):
        _checked_text(name, str(value))
    if choice is float and math.isnan(value):
        raise UsageError(f"`{name}` is nan. Expected a number.")
    if origin is Mapping:
        of_values = get_args(choice)[1]
        return {
            _convert(f"{name}.keys()", key, str): one if one is None else _convert(f"{name}[{key!r}]", one, of_values)
            for key, one in value.items()
        }
    if choice is float and isinstance(value, np.generic):
        return value.item()
    convert = tuple if origin is tuple else choice
    return convert(value) if convert in (int, bool, str, tuple) else value


def _checked_text(name: str, text: str) -> str:
    if not text:
        raise UsageError(f"`{name}` is an empty string. Expected a name or a path.")
    if "\0" in text:
        raise UsageError(f"`{name}` is {text!r}, which has a null character. Names and paths have none.")
    return text


def _shown(value: object) -> str:
    """Return a short value with its type, or the type alone."""
    if value is None:
        return "None"
    kind = f"of type {type(value).__name__}"
    is_short = isinstance(value, str | bytes | Real) and len(repr(value)) <= LONGEST_SHOWN
    return f"{value!r}, {kind}" if is_short else kind


def _type_name(choice: Any) -> str:
    origin = get_origin(choice)
    if origin in (Sequence, Iterable):
        elements = _alternatives(get_args(choice)[0])
        return f"a list of {' or '.join(PLURALS.get(one) or f'{one.__name__}s' for one in elements)}"
    if origin is Mapping:
        return "a mapping of names to values"
    if origin is tuple:
        return "a pair of arrays (x, y)"
    if origin is Literal:
        return " or ".join(map(repr, get_args(choice)))
    return "a function" if origin else NAMED_TYPES.get(choice) or f"a {choice.__name__}"
