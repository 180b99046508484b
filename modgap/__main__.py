"""The start of the `modgap` command and of `python -m modgap`: signals are handled before large imports."""

from modgap.process_end import handle_signals, raise_on_signals

__all__ = ["main"]


def main() -> None:
    """Run the command line, and end the process in one line whenever a signal stops it."""
    handle_signals()
    from modgap.cli.main import main as run_command

    raise_on_signals(True)
    try:
        run_command()
    finally:
        # Nothing is left to undo while the interpreter ends.
        raise_on_signals(False)


if __name__ == "__main__":
    main()
