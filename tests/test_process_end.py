"""Signals end the command in one line, workers end with their parent, and streams may be closed or plain."""

import io
import os
import signal
import subprocess
import sys
import threading
from unittest import mock

import pytest

from modgap.errors import InputError
from modgap.jobs import Backend
from tests.backend_jobs import ThreadNames
from tests.commands import command_line

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]

AT_THE_START = """
import os, signal
from modgap.process.end import handle_signals
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler)
handle_signals()
os.kill(os.getpid(), {number})
"""
"""Code that sends a signal while the command imports its libraries."""
AT_THE_FIRST_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupt:
    def find_spec(self, name, *_):
        if name == "modgap.process.end":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
import modgap.__main__
"""
"""Code that sends Ctrl-C while the first module of the command is imported."""
AT_WORK = """
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler)
import modgap.__main__, modgap.cli.main, modgap.process.end
modgap.process.end.GRACE_SECONDS = 0.1
def work(**options):
    try:
        os.kill(os.getpid(), {number})
        time.sleep(600)
    finally:
        print("undone")
    {after}
modgap.cli.main.modgap = work
modgap.__main__.main()
"""


AT_THE_END = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler)
import modgap.__main__, modgap.cli.main
class Late:
    def __del__(self, kill=os.kill, own=os.getpid()):
        kill(own, {number})
late = Late()
modgap.cli.main.modgap = lambda **options: print("done")
modgap.__main__.main()
"""
"""Code that sends a signal when the work is done and the interpreter has dropped the handlers of signals."""


WHILE_IMPORTING = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import modgap.__main__, modgap.cli.main
sys.path.insert(0, {folder!r})
def work(**options):
    try:
        import slow_library
        time.sleep(600)
    finally:
        print("undone")
modgap.cli.main.modgap = work
modgap.__main__.main()
"""
"""Code that imports a library in whose middle a signal comes; the library must not be interrupted there."""


def run(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_during_imports_is_one_line(number, code):
    done = run(AT_THE_START.format(number=int(number)))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "modgap: interrupted\n")


def test_threads_of_libraries_that_fail_while_the_command_is_stopped_are_not_shown():
    failing = "import threading; threading.Thread(target=lambda: {}[5]).start()"
    script = AT_WORK.format(number=int(signal.SIGINT), after="")
    stopped = run(script.replace('        print("undone")', f"        {failing}; time.sleep(0.5)"))
    assert (stopped.returncode, stopped.stderr) == (130, "modgap: interrupted\n")
    # Without a signal, such an error is shown.
    assert "KeyError: 5" in run(f"from modgap.process.end import handle_signals; handle_signals(); {failing}").stderr


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_when_all_is_done_changes_nothing(number, code):
    done = run(AT_THE_END.format(number=int(number)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_ctrl_c_at_the_first_import_is_no_traceback():
    done = run(AT_THE_FIRST_IMPORT)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_at_work_undoes_it(number, code):
    done = run(AT_WORK.format(number=int(number), after=""))
    assert (done.returncode, done.stdout, done.stderr) == (code, "undone\n", "modgap: interrupted\n")


@pytest.mark.parametrize(
    ("times", "stdout"), [(1, "imported\nundone\n"), (2, "")], ids=["once", "by an impatient user"]
)
def test_a_signal_during_an_import_waits_for_its_end(tmp_path, times, stdout):
    send = "os.kill(os.getpid(), signal.SIGINT); time.sleep(0.01)\n" * times
    library = f"import os, signal, time\n{send}time.sleep(0.5)\nprint('imported')\n"
    (tmp_path / "slow_library.py").write_text(library)
    done = run(WHILE_IMPORTING.format(folder=str(tmp_path)))
    assert (done.returncode, done.stdout, done.stderr) == (130, stdout, "modgap: interrupted\n")


def test_a_library_that_swallows_the_interrupt_does_not_keep_the_command():
    script = AT_WORK.format(number=15, after="").replace("    finally:\n", "    except BaseException:\n        pass\n")
    done = run(script.replace('        print("undone")', "    time.sleep(600)"))
    assert (done.returncode, done.stderr) == (143, "modgap: interrupted\n")


def test_a_signal_that_is_ignored_stays_ignored():
    done = run(
        "import os, signal; signal.signal(1, signal.SIG_IGN); from modgap.process.end import handle_signals; "
        "handle_signals(); os.kill(os.getpid(), 1); print('works')"
    )
    assert (done.returncode, done.stdout) == (0, "works\n")


PARENT = """
import os, subprocess, sys
child = '''
import os, sys, time
from modgap.process.end import end_with_parent
parent = int(sys.argv[1])
if sys.argv[2] == "watches":
    end_with_parent(parent)
print("ready", flush=True)
while os.getppid() == parent:
    time.sleep(0.01)
# As in a worker that still imports its modules when its parent ends.
if sys.argv[2] == "imports":
    end_with_parent(parent)
time.sleep(600)
'''
subprocess.Popen([sys.executable, "-c", child, str(os.getpid()), sys.argv[1]]).wait()
"""


@pytest.mark.parametrize("stage", ["watches", "imports"])
def test_a_worker_ends_when_its_parent_is_killed(stage):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, stage], stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"ready\n"
    parent.kill()
    # The worker has the other end of the pipe, which closes when it ends.
    assert parent.communicate(timeout=120) == (b"", None)


def test_the_workers_of_a_ranking_watch_their_parent():
    results = dict(Backend(2).run([ThreadNames(), ThreadNames()]))
    assert all("modgap parent watch" in names for names in results.values())


def test_the_main_process_of_a_ranking_watches_nothing():
    assert "modgap parent watch" not in [thread.name for thread in threading.enumerate()]


def run_main(work, **environment):
    """Run `main` on a function in place of the command, and return the exit code and what it wrote to stderr."""
    from modgap.cli import main

    stderr = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with (
        mock.patch.object(main, "modgap", work),
        mock.patch.object(sys, "stderr", stderr),
        mock.patch.dict(os.environ, environment),
        pytest.raises(SystemExit) as stop,
    ):
        main.main()
    return stop.value.code, stderr.buffer.getvalue().decode("ascii")


class PanicError(BaseException):
    """As libraries in Rust raise."""


@pytest.mark.parametrize("kind", [TypeError, RecursionError, PanicError, AssertionError])
def test_an_unexpected_error_is_one_line(kind):
    def work(**_options):
        raise kind("first\nsecond")

    assert run_main(work, MODGAP_TRACEBACK="") == (
        1,
        f"modgap: unexpected {kind.__name__}: first. This is a fault of modgap. To report it, set MODGAP_TRACEBACK=1 "
        "and run the command again.\n",
    )
    with pytest.raises(kind):
        run_main(work, MODGAP_TRACEBACK="1")


def test_messages_are_printed_where_the_stream_is_ascii():
    def work(**_options):
        raise InputError("café − 日 \udcff")

    assert run_main(work) == (1, "modgap: caf\\xe9 - \\u65e5 <U+DCFF>\n")


@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        (">&-", "modgap: Standard output is closed, so that results cannot be printed. Redirect it to a file or to "),
        (">/dev/full", "modgap: No space left on device\n"),
    ],
)
def test_output_that_cannot_be_written_is_one_line(redirection, message):
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command_line("scores")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(message)
