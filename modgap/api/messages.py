"""Messages of errors that name the arguments of a Python function instead of a command's options."""

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from modgap.errors import InputError
from modgap.targets.custom_description import FIELD_OF_OPTION

__all__ = ["with_python_messages"]

VALUE = r"\d+(?:\.\d+)?|[A-Z][A-Z_]*|(?<=--kind )(?:image|series|table|text)|(?<=--label-type )(?:text|number)"
OPTION = re.compile(rf"(?<![\w-])--(?P<name>[a-z][a-z-]*)(?: (?P<value>{VALUE}))?\b")
"""An option, with its value if that is a number, a placeholder such as COLUMN, or a kind or type of custom data."""
COMMAND = re.compile(r"\bmodgap (?:[a-z]+)(?: [^.]*)?")

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


def with_python_messages(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Make the errors of a function name its arguments, such as `input_size`, instead of a command's options."""

    @wraps(function)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        try:
            return function(*args, **kwargs)
        except InputError as error:
            raise type(error)(_name_arguments(str(error))) from error

    return wrapper


def _name_arguments(message: str) -> str:
    """Replace options by argument names, except within a command to paste."""
    pieces = []
    end = 0
    for command in COMMAND.finditer(message):
        pieces += [OPTION.sub(_argument, message[end : command.start()]), command.group()]
        end = command.end()
    return "".join([*pieces, OPTION.sub(_argument, message[end:])])


def _argument(match: re.Match[str]) -> str:
    """Return the argument of an option, such as `pseudo_classes=10` or `custom_data={"kind": "table"}`."""
    value = match["value"]
    field = FIELD_OF_OPTION.get(match["name"])
    if field is not None:
        return f"{field} of custom_data" if value is None else f'custom_data={{"{field}": "{value}"}}'
    name = match["name"].replace("-", "_")
    if value is None:
        return name
    return f"{name}={value}" if value[0].isdecimal() else f'{name}="{value}"'
