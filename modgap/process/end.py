"""The end of a process: in one line when a signal stops the command, and of a worker together with its parent."""

import os
import sys
import time

# Python has loaded `_signal`, unlike `signal` and `threading`, whose import takes time in which Ctrl-C is a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import threading
    from types import FrameType
else:
    import _signal as signal

GRACE_SECONDS = 5.0
"""Longest time that a stopped command may spend on removing temporary files and ending its workers."""
IMPORT_CHECK_SECONDS = 0.05
"""Time after which a signal that came during an import is sent again."""
PARENT_CHECK_SECONDS = 1.0
"""Interval at which a worker checks that its parent lives."""
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """A signal asked the command to stop; libraries treat it like Ctrl-C.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        """Keep the number of the signal."""
        super().__init__()
        self.number = number


class _State:
    """The signals of this process: what handles them, which one came first, and whether the user was told.

    A signal is deferred while a module is imported, and then sent again.
    """

    process = 0
    raises = False
    received = 0
    deferred = False
    sent_again = False
    announced = False


def handle_signals() -> None:
    """End this process in one line on Ctrl-C, SIGTERM and SIGHUP, from now on.

    Until `raise_on_signals` is called, as while libraries are imported, the process ends at once. Signals that are
    ignored, such as SIGHUP under nohup, stay ignored.
    """
    _State.process = os.getpid()
    handled = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, _on_signal)
    sys.unraisablehook = _on_unraisable
    import atexit
    import threading

    threading.excepthook = _on_thread_error
    # Registered first, so it is called last.
    atexit.register(_ignore_signals, handled)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_after_grace, args=(reader, handled), daemon=True).start()


def raise_on_signals(enabled: bool) -> None:
    """Let the first signal raise `Stopped` in the main thread, so that work is undone, or end the process at once."""
    _State.raises = enabled


def stop_signal() -> int:
    """Return the number of the first signal that asked this process to stop; 0 if none did."""
    return _State.received


def mark_announced() -> None:
    """Record that the user was told that the command was stopped."""
    _State.announced = True


def _ignore_signals(handled: list[int]) -> None:
    """Ignore signals while the interpreter ends; it drops the handlers, and a signal would change the exit code."""
    if os.getpid() == _State.process:
        for number in handled:
            signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, frame: "FrameType | None") -> None:
    if os.getpid() != _State.process:
        # A forked process has no use for the handlers of its parent.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    is_repeated = _State.received or (_State.deferred and not _State.sent_again)
    _State.sent_again = False
    if is_repeated or not _State.raises:
        _end_at_once(_State.received or number)
    if _is_importing(frame):
        _State.deferred = True
        _send_again(number)
        return
    _State.received = number
    raise Stopped(number)


def _is_importing(frame: "FrameType | None") -> bool:
    """Return True within an import; an exception while a library in C++ starts would abort the process."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    import threading

    def send() -> None:
        time.sleep(IMPORT_CHECK_SECONDS)
        _State.sent_again = True
        os.kill(_State.process, number)

    threading.Thread(target=send, daemon=True, name="modgap deferred signal").start()


def _on_unraisable(problem: "sys.UnraisableHookArgs") -> None:
    """Hide what libraries do when they are interrupted; Python would print a traceback and go on."""
    if not isinstance(problem.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(problem)
    elif _State.received:
        _end_at_once(_State.received)


def _on_thread_error(problem: "threading.ExceptHookArgs") -> None:
    """Hide what threads of libraries raise while the command is stopped, because their work is taken from them."""
    import threading

    if not _State.received:
        threading.__excepthook__(problem)


def _end_after_grace(reader: int, handled: list[int]) -> None:
    """End the process if it still runs some time after a signal, as within a long call of a library."""
    while not (numbers := set(os.read(reader, 16)) & set(handled)):
        pass
    time.sleep(GRACE_SECONDS)
    _end_at_once(min(numbers))


def _end_at_once(number: int) -> None:
    if not _State.announced:
        _State.announced = True
        os.write(2, b"modgap: interrupted\n")
    os._exit(128 + number)


def end_with_parent(parent: int) -> None:
    """End this process when its parent ends, however that ends; a thread checks it.

    A worker process calls it when it starts. Without it, the workers of a command that is killed wait for minutes.

    Args:
        parent: Number of the parent process. The worker cannot ask for it, because the parent may have ended while the
            worker imported its modules.
    """
    import threading

    threading.Thread(target=_watch_parent, args=(parent,), daemon=True, name="modgap parent watch").start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)
