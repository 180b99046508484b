"""The `modgap` command: finds the sub-command's file, and turns errors into one line and an exit code."""

import importlib
import os
import sys

import click

from modgap import __version__
from modgap.errors import InputError

__all__ = ["main"]

COMMANDS = {
    "discrepancy": "How far a source model's knowledge is from target data.",
    "distortion": "What fine-tuning did to the source's knowledge.",
    "train": "Transfer a source model to target data by MoNA or one of its baselines.",
    "rank": "Which source to transfer from.",
    "report": "One self-contained HTML page of a ranking.",
    "scores": "Scores of transferability there are; one shown whole.",
    "methods": "Methods of transfer there are; one shown whole.",
    "sources": "Source models there are; one shown whole.",
    "targets": "Target data there are; one shown whole.",
    "data": "A target's data: fetch, verify, convert, or tell where it lies.",
    "cache": "List, verify or prune the cache.",
    "env": "Versions and machine, to paste into a bug report.",
}
INTERRUPTED = 130


class LazyGroup(click.Group):
    """Imports a sub-command only when it is called, so that help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the documentation."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, from the module of this name."""
        if cmd_name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f"modgap.cli.{cmd_name}"), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help of the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]):
        """An unknown command gets the nearest names."""
        if args and args[0] not in COMMANDS:
            from modgap.errors import unknown_name

            raise unknown_name("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="modgap")
def modgap() -> None:
    """Tell how far a pretrained model's knowledge is from a new kind of data."""


def main() -> None:
    """Run the command line; exits 0 when done, 1 when it failed, 2 on wrong usage."""
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
        # The reader of our output is gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (MemoryError, OSError) as error:
        _fail(str(error) or "out of memory; try --limit", 1)


def _fail(message: str, code: int) -> None:
    click.echo(f"modgap: {' '.join(message.split())}", err=True)
    sys.exit(code)
