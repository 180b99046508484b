"""Messages of errors that name the arguments of a Python function instead of a command's options."""

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from modgap.errors import InputError

__all__ = ["with_python_messages"]

OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]+)")
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
        pieces += [OPTION.sub(_argument_name, message[end : command.start()]), command.group()]
        end = command.end()
    return "".join([*pieces, OPTION.sub(_argument_name, message[end:])])


def _argument_name(match: re.Match[str]) -> str:
    return match[1].replace("-", "_")
