"""The `modgap` command: it loads the module of a sub-command, and prints errors as one line with an exit code."""

import importlib
import os
import sys

import click

from modgap import __version__
from modgap.errors import InputError

__all__ = ["main"]

COMMANDS = {
    "discrepancy": "Measure how much a source model's knowledge differs from target data.",
    "distortion": "Measure how fine-tuning changed a source model's knowledge.",
    "train": "Transfer a source model to target data with MoNA or a baseline method.",
    "rank": "Rank source models for target data.",
    "report": "Write a ranking as one self-contained HTML page.",
    "scores": "List the transferability scores, or show one.",
    "methods": "List the transfer methods, or show one.",
    "sources": "List the source models, or show one.",
    "targets": "List the targets, or show one.",
    "data": "Fetch, verify or convert the data of a target, or show where it is.",
    "cache": "List, verify or prune the cache of logits, features and scores.",
    "env": "Show versions and the machine, to paste into a bug report.",
}
INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group that imports a sub-command only when it is called, so that the help appears at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the documentation."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with this name, from the module with the same name; None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"modgap.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help of the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments start with.

        Raises:
            UsageError: When there is no such command; the message contains the most similar names.
        """
        if args and args[0] not in COMMANDS:
            from modgap.errors import unknown_name

            raise unknown_name("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="modgap")
def modgap() -> None:
    """Measure how well the knowledge of a pretrained model suits a new kind of data."""


def main() -> None:
    """Run the command line and exit: with 0 on success, 1 on failure, 2 on wrong usage, 130 when interrupted."""
    try:
        sys.exit(modgap(standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        _fail("interrupted", INTERRUPTED)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except InputError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The program that reads the output has ended. Without this, Python reports the error again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (MemoryError, OSError) as error:
        _fail(str(error) or "out of memory. Use fewer samples with --limit.", 1)


def _fail(message: str, code: int) -> None:
    click.echo(f"modgap: {' '.join(message.split())}", err=True)
    sys.exit(code)
