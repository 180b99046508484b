"""Choice of functions by name, with options that are checked before the first batch."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from modgap.errors import UsageError, unknown_name

__all__ = ["choose_function"]


def choose_function(
    kind: str, functions: Mapping[str, Callable[..., Any]], name: str, options: Mapping[str, Any]
) -> Callable[..., Any]:
    """Return a function with its options filled in. Options are its keyword-only parameters.

    Args:
        kind: Kind of the function for messages, such as `loss`.
        functions: Functions by name.
        name: Name of the function.
        options: Values of options by name.

    Raises:
        UsageError: When there is no such function (the message has the nearest names), or it has no such option.
    """
    if name not in functions:
        raise unknown_name(kind, name, functions)
    parameters = inspect.signature(functions[name]).parameters.values()
    accepted = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in accepted:
            names = ", ".join(accepted) or "none"
            raise UsageError(f"The {kind} {name} has no option {option!r}. Its options are: {names}.")
    return functools.partial(functions[name], **options)
