"""Context managers that keep the transformers library quiet, and its errors to one line."""

import contextlib
from collections.abc import Iterator

import transformers

from modgap.errors import InputError, first_line

__all__ = ["one_line_errors", "quiet_library"]


@contextlib.contextmanager
def one_line_errors(problem: str) -> Iterator[None]:
    """Turn any error that the library raises for a user's file into an InputError of one line.

    Args:
        problem: First part of the message, which says what failed.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the library can raise any error for files that do not fit
        raise InputError(f"{problem}: {first_line(error)}") from error


@contextlib.contextmanager
def quiet_library() -> Iterator[None]:
    """Hide the library's advice and progress bars within the context."""
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    shows_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
