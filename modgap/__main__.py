"""The start of the `modgap` command and of `python -m modgap`: signals are handled before large imports."""

import _signal

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    # Until signals are handled, Ctrl-C ends the process at once. Python's handler would print a traceback.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import os

from modgap.process.end import handle_signals, raise_on_signals


def main() -> None:
    """Run the command line, and end the process in one line whenever a signal stops it."""
    handle_signals()
    # Waiting threads of OpenMP otherwise keep their cores busy, and stop each other where other programs run.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from modgap.cli.main import main as run_command

    raise_on_signals(True)
    try:
        run_command()
    finally:
        # Nothing is left to undo while the interpreter ends.
        raise_on_signals(False)


if __name__ == "__main__":
    main()
