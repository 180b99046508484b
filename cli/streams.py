"""The standard streams of the command: closed ones, and characters that they cannot encode."""

import codecs
import os
import sys

from modgap.cli.commands import name_options
from modgap.errors import InputError, printable

PLAIN_CHARACTERS = {
    "−": "-",
    "–": "-",
    "…": "...",
    "↑": "^",
    "↓": "v",
    "·": ".",
    "×": "x",
    "±": "+-",
    "≥": ">=",
    "≤": "<=",
    "‹": "<",
    "›": ">",
    "→": "->",
}
"""Characters of modgap's own texts, for streams without them."""
ENCODING_ERRORS = "modgap"
"""Name of the handler of characters that a stream cannot encode."""


def prepare_streams() -> None:
    """Make the standard streams safe to write to, whatever their encoding is.

    Raises:
        InputError: When standard output is closed.
    """
    codecs.register_error(ENCODING_ERRORS, _encode_plainly)
    is_closed = sys.stdout is None
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ENCODING_ERRORS)
    if is_closed:
        raise InputError(
            "Standard output is closed, so that results cannot be printed. Redirect it to a file or to /dev/null."
        )


def _encode_plainly(error: UnicodeError) -> tuple[str, int]:
    """Return plain characters or escapes for what a stream cannot encode."""
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    plain = "".join(PLAIN_CHARACTERS.get(one, one) for one in characters)
    return plain.encode("ascii", "backslashreplace").decode("ascii"), error.end


def _open_closed_streams() -> None:
    """Open the null device for closed streams; otherwise a file of results could become standard output."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor < 3:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def discard_output() -> None:
    """Discard what is still to be written to standard output, if that fails.

    Without this, Python reports the same error once more when it exits.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, sys.stdout.fileno())
        os.close(null_device)


def print_error(message: str) -> None:
    """Print a message as one line on stderr, with options in place of arguments."""
    try:
        sys.stderr.write(f"modgap: {printable(name_options(' '.join(message.split())))}\n")
        sys.stderr.flush()
    except OSError:
        # Nobody reads stderr. The exit code tells the rest.
        return
