"""Keep the transformers library quiet, and its errors to one line."""

import contextlib
from collections.abc import Iterator

import transformers

from modgap.errors import InputError

__all__ = ["one_line_errors", "quiet_library"]


@contextlib.contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Turn whatever a foreign file makes the library raise into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the library meets files that do not fit it with any error at all
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{what}: {lines[0]}") from error


@contextlib.contextmanager
def quiet_library() -> Iterator[None]:
    """Keep the library's advice and progress bars off stderr, and set it back as it was."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
