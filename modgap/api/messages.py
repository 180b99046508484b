"""The checks of a public function's arguments, and errors that name them instead of a command's options."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from modgap.api.arguments import check_arguments
from modgap.errors import InputError
from modgap.targets.custom import FIELD_OF_OPTION

__all__ = ["public_function"]

CHOICES = {
    "by": r"(?!is\b)[a-z][a-z0-9-]*",
    "fill": "drop|mean|median",
    "head": "own|auto|none",
    "kind": "image|series|sound|table|text",
    "label-type": "text|number",
    "permutations-by": "shuffle|shifts",
    "protocol": "orca|validation",
    "representation": "fold",
    "split": "all|train|val|test",
}
"""Patterns of the choices of options that a message may pass."""
FLAGS = ("allow-download", "resume")
"""Options without a value, which are True as arguments."""
VALUE = "|".join(
    [
        r"\d+(?:\.\d+)?|[A-Z][A-Z_]*|probe:[\w-]+",
        *(rf"(?<=--{name} )(?:{choices})(?![\w-])" for name, choices in CHOICES.items()),
    ]
)
OPTION = re.compile(rf"(?<![\w-])--(?P<name>[a-z][a-z-]*)(?: (?P<value>{VALUE}))?\b")
"""An option, with its value if that is a number, a placeholder such as COLUMN, or one of its choices."""
SETTING = re.compile(
    r"(?<![\w-])--(?P<name>set|sweep) '?(?P<key>[\w.]+)=(?P<value>\[[^\]]*\]|[\w-]+(?:\.\d+)?(?:,[\w-]+(?:\.\d+)?)*)'?"
)
"""A setting of a training as an option."""
COMMAND = re.compile(r"\bmodgap (?:[a-z]+)(?: [^.]*)?")

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


def public_function(
    options_of: Callable[..., Any] | None = None,
) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
    """Return a decorator with which a function checks its arguments, and its errors name them as Python does.

    An error says `input_size`, for instance, where that of the command says `--input-size`.

    Args:
        options_of: Function that takes the further keyword arguments; None if the function takes no others.
    """

    def decorate(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
        @wraps(function)
        def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
            try:
                checked_args, checked_kwargs = check_arguments(function, options_of, args, kwargs)
                return function(*checked_args, **checked_kwargs)
            except InputError as error:
                raise type(error)(_name_arguments(str(error))) from error

        return wrapper

    return decorate


def _name_arguments(message: str) -> str:
    """Replace options by argument names, except within a command to paste."""
    pieces = []
    end = 0
    for command in COMMAND.finditer(message):
        pieces += [_name_in_text(message[end : command.start()]), command.group()]
        end = command.end()
    return "".join([*pieces, _name_in_text(message[end:])])


def _name_in_text(text: str) -> str:
    return OPTION.sub(_argument, SETTING.sub(_setting, text))


def _setting(match: re.Match[str]) -> str:
    """Return the argument of a setting, such as `settings={"stage2.epochs": 5}`, or of the values of a sweep."""
    values = match["value"].split(",") if match["name"] == "sweep" else [match["value"]]
    shown = ", ".join(value if value == "VALUE" or value[0] in "0123456789[" else f'"{value}"' for value in values)
    if match["name"] == "sweep":
        return f'sweep={{"{match["key"]}": [{shown}]}}'
    return f'settings={{"{match["key"]}": {shown}}}'


def _argument(match: re.Match[str]) -> str:
    """Return the argument of an option, such as `pseudo_classes=10` or `custom_data={"kind": "table"}`."""
    value = match["value"]
    field = FIELD_OF_OPTION.get(match["name"])
    if field is not None:
        return f"{field} of custom_data" if value is None else f'custom_data={{"{field}": "{value}"}}'
    name = match["name"].replace("-", "_")
    if value is None:
        return f"{name}=True" if match["name"] in FLAGS else name
    return f"{name}={value}" if value[0].isdecimal() else f'{name}="{value}"'
