"""The `modgap` command: it loads the module of a sub-command, and prints errors as one line with an exit code."""

import codecs
import os
import signal
import sys
import warnings

import click
import cloup
from click.shell_completion import CompletionItem
from cloup.formatting import HelpSection, ensure_is_cloup_formatter

from modgap.cli.commands import COMMANDS, SECTIONS, load_command, name_options
from modgap.cli.groups import HelpGroup, example
from modgap.cli.removed import removed_command, removed_option, removed_value
from modgap.errors import InputError, first_line, printable
from modgap.process.end import mark_announced, stop_signal
from modgap.process.resources import share_heap

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


class LazyGroup(HelpGroup):
    """A group that imports a sub-command only when it is called, so that the help appears at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the documentation."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with this name, from the module with the same name; None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        # The command imports libraries that start threads, and the heap has to be shared before.
        share_heap()
        return load_command(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments start with; one that was removed is refused with what replaces it."""
        if args and (gone := removed_command(args[0])):
            raise click.UsageError(gone)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help of the commands by section, without importing them."""
        sections = [HelpSection(title, list(commands.items())) for title, commands in SECTIONS.items()]
        ensure_is_cloup_formatter(formatter).write_many_sections(sections, aligned=True)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command without importing it, or an option."""
        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


def _print_version(context: click.Context, _option: click.Parameter, value: bool) -> None:
    """Print the version and exit if `--version` was passed."""
    if value and not context.resilient_parsing:
        from modgap.storage.algorithms import installed_version

        click.echo(f"modgap, version {installed_version()}")
        context.exit()


@cloup.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "formatter_settings": {"theme": cloup.HelpTheme(heading=cloup.Style(bold=True))},
    },
    epilog=example("modgap discrepancy --source vit-fashion --target digits")
    + "\n\nmodgap COMMAND --help explains a command, with an example.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def modgap() -> None:
    """Measure how well the knowledge of a pretrained model suits a new kind of data, and transfer it."""


def main() -> None:
    """Run the command line and exit.

    The exit code is 0 on success, 1 on failure, 2 on wrong usage, and 128 plus the number of the signal, such as 130
    after Ctrl-C, when a signal stopped the command. `MODGAP_TRACEBACK=1` shows where an unexpected error comes from.
    """
    # Users of the command can do nothing about the coming changes that torch warns of.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch(vision)?\.")
    # With None, click uses colors if the output is a terminal.
    color = False if os.environ.get("NO_COLOR") else None
    try:
        prepare_streams()
        code = modgap(prog_name="modgap", standalone_mode=False, color=color) or 0
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except SystemExit:
        raise
    except BaseException as error:  # Also panics of libraries in Rust, which are no Exception.
        code = _handle_error(error)
    sys.exit(code)


def _handle_error(error: BaseException) -> int:
    """Print an error as one line, and return the exit code.

    An unexpected error is raised again if `MODGAP_TRACEBACK` is set.
    """
    # After a signal, libraries may raise any error, so the signal decides and not the error.
    if stop_signal() or isinstance(error, click.Abort | KeyboardInterrupt):
        mark_announced()
        print_error("interrupted")
        return 128 + (stop_signal() or signal.SIGINT)
    if isinstance(error, click.ClickException):
        print_error(_usage_message(error))
        return error.exit_code
    if isinstance(error, InputError):
        print_error(str(error))
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        discard_output()
        return 1
    if os.environ.get("MODGAP_TRACEBACK", "") not in ("", "0"):
        raise error
    discard_output()
    print_error(_failure_message(error))
    return 1


def _failure_message(error: BaseException) -> str:
    """Return the message of an error that no part of modgap expected."""
    if isinstance(error, MemoryError):
        return "out of memory. Use fewer samples with --limit."
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    if isinstance(error, ImportError):
        return f"a library cannot be loaded ({first_line(error)}). Is it installed, and is there enough memory?"
    return (
        f"unexpected {type(error).__name__}: {first_line(error)}. This is a fault of modgap. To report it, set "
        "MODGAP_TRACEBACK=1 and run the command again."
    )


def _usage_message(error: click.ClickException) -> str:
    """Return the message of click's error, with the most similar options or else the command that shows the help."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption):
        if context and (gone := removed_option(context.info_name or "", error.option_name)):
            return gone
        if error.possibilities:
            return f"{error.message.rstrip('.')}. Did you mean {' or '.join(error.possibilities)}?"
    if isinstance(error, click.BadParameter) and context and error.param and error.message.startswith("'"):
        value = error.message[1:].partition("'")[0]
        if gone := removed_value(context.info_name or "", error.param.opts[0], value):
            return gone
    # Versions of click differ in whether the message ends with a period.
    message = f"{error.format_message().rstrip('.')}."
    return f"{message} See {context.command_path} --help." if context else message


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
