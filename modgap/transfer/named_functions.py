"""Functions chosen by name, with options that are checked before the first batch."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from modgap.errors import UsageError, unknown_name

__all__ = ["choose_function"]


def choose_function(kind: str, known: Mapping[str, Callable], name: str, options: Mapping[str, Any]) -> Callable:
    """The function of this name with its options filled in; options are its keyword-only parameters.

    Raises:
        UsageError: When there is no such function, with the nearest names, or it has no such option.
    """
    if name not in known:
        raise unknown_name(kind, name, known)
    parameters = inspect.signature(known[name]).parameters.values()
    accepted = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in accepted:
            raise UsageError(f"{kind} {name} has no option {option!r}; it has: {', '.join(accepted) or 'none'}")
    return functools.partial(known[name], **options)
