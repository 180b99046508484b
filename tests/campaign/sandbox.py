"""Folders and processes of tries on whole commands."""

import atexit
import ctypes
import functools
import os
import secrets
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tests.campaign import seed_files
from tests.campaign.folders import temporary_folder
from tests.commands import command_line

MARK = "MODGAP_CAMPAIGN"
"""Environment variable by which the processes of a try are found."""
LIMIT_SECONDS = 240
ORPHAN_SECONDS = 15
LIBRARIES = ("torch", "timm", "pandas", "matplotlib.pyplot", "modgap.cli.main", "modgap.training.train",
             "modgap.ranking.rank")  # fmt: skip
CAPABILITIES = struct.Struct("=6I")
"""Effective, permitted and inheritable rights of a process, the first 32 and the others."""
CAPABILITY_VERSION = 0x20080522
WRITE_ANYWHERE = 1
"""Number of the right CAP_DAC_OVERRIDE."""
DROP_FROM_BOUNDING_SET = 24
Prepare = Callable[[], object]


class HangError(Exception):
    """A command that did not end in time."""


def import_libraries() -> None:
    """Import what commands need, so that forked ones start fast."""
    for name in LIBRARIES:
        __import__(name)


@functools.cache
def template() -> Path:
    """Return a folder with the data of all commands, made once in a process."""
    folder = temporary_folder()
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    images = rng.random((60, 1, 12, 12), dtype=np.float32) + labels[:, None, None, None]
    np.savez(folder / "data.npz", x=images, y=labels)
    logits = rng.standard_normal((60, 8)).astype(np.float32)
    np.savez(folder / "logits.npz", logits=logits, labels=labels, class_names=np.array(["a", "b", "c"]))
    seed_files.csv(folder)
    seed_files.ranking(folder / "done")
    np.savez(folder / "other.npz", x=images[::2], y=labels[::2])
    (folder / "host").mkdir()
    (folder / "host" / "large.bin").write_bytes(rng.bytes(3_000_000))
    return folder


def drop_right_to_write() -> None:
    """Let the permissions of folders apply to root as to everyone, in this process and those that it starts."""
    if os.getuid() != 0:
        return
    library = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    rights = ctypes.create_string_buffer(CAPABILITIES.size)
    assert library.capget(header, rights) == 0
    values = list(CAPABILITIES.unpack(rights.raw))
    values[0] &= ~(1 << WRITE_ANYWHERE)
    values[1] &= ~(1 << WRITE_ANYWHERE)
    assert library.prctl(DROP_FROM_BOUNDING_SET, WRITE_ANYWHERE, 0, 0, 0) == 0
    assert library.capset(header, CAPABILITIES.pack(*values)) == 0


class Started:
    """A process of a try with the output that it has written so far."""

    def __init__(self, pid: int, descriptors: Mapping[str, int]) -> None:
        """Read the ends of the pipes in threads, so that a process never waits for a reader."""
        self.pid = pid
        self.code: int | None = None
        self._parts: dict[str, list[bytes]] = {name: [] for name in descriptors}
        self._readers = [
            threading.Thread(target=self._read, args=(name, descriptor), daemon=True)
            for name, descriptor in descriptors.items()
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, descriptor: int) -> None:
        while data := os.read(descriptor, 1 << 16):
            self._parts[name].append(data)
        os.close(descriptor)

    def is_running(self) -> bool:
        """Return True until the process has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is None

    def send(self, number: int) -> bool:
        """Send a signal; return False when the process had ended."""
        if not self.is_running():
            return False
        os.kill(self.pid, number)
        return True

    def finish(self) -> tuple[int, str, str]:
        """Return the exit code (negative for a signal), and the output.

        Raises:
            HangError: When the process does not end.
        """
        until = time.monotonic() + LIMIT_SECONDS
        while self.is_running():
            if time.monotonic() > until:
                raise HangError(f"no end after {LIMIT_SECONDS} s, stderr: {self._text('stderr')[-300:]}")
            time.sleep(0.01)
        for reader in self._readers:
            # Orphans keep the pipes open.
            reader.join(1)
        assert self.code is not None
        return self.code, self._text("stdout"), self._text("stderr")

    def _text(self, name: str) -> str:
        return b"".join(self._parts[name]).decode(errors="replace")


class Sandbox:
    """A folder with the data of a try, and the processes that it starts.

    Attributes:
        root: Folder of the cache, of converted data and of the work.
        folder: Current folder of the commands.
    """

    def __init__(self) -> None:
        """Copy the data."""
        self.mark = secrets.token_hex(8)
        self.root = Path(tempfile.mkdtemp(prefix="modgap-try-"))
        self.root.chmod(0o755)
        self.folder = self.root / "work"
        self._sessions: set[int] = set()
        shutil.copytree(template(), self.folder)

    def __enter__(self) -> "Sandbox":
        """Return the sandbox."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Kill what still runs, and remove the folder."""
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the commands."""
        folders = {"MODGAP_CACHE": str(self.root / "cache"), "MODGAP_DATA": str(self.root / "data")}
        return {**os.environ, MARK: self.mark, **folders}

    def start(
        self,
        arguments: list[str],
        *,
        launcher: list[str] | None = None,
        forked: bool = True,
        prepare: Prepare | None = None,
    ) -> Started:
        """Start a command.

        Args:
            arguments: Its arguments.
            launcher: Command line before the arguments; None for modgap.
            forked: True to fork it from this process, which has imported the libraries.
            prepare: Function that is called in the new process.
        """
        pipes = {"stdout": os.pipe(), "stderr": os.pipe()}
        pid = os.fork()
        if not pid:
            self._enter(pipes, prepare, arguments, None if forked else launcher or command_line())
        self._sessions.add(pid)
        for _, writer in pipes.values():
            os.close(writer)
        return Started(pid, {name: reader for name, (reader, _) in pipes.items()})

    def _enter(
        self,
        pipes: Mapping[str, tuple[int, int]],
        prepare: Prepare | None,
        arguments: list[str],
        launcher: list[str] | None,
    ) -> None:
        """Become the command in a forked process; never return."""
        try:
            os.setsid()
            os.chdir(self.folder)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for descriptor, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(pipes[name][1], descriptor)
            os.closerange(3, 256)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            os.environ.update(self.environment())
            if prepare:
                prepare()
            if launcher:
                os.execve(launcher[0], [*launcher, *arguments], self.environment())
            _run_here(arguments)
        except BaseException:
            traceback.print_exc()
        os._exit(99)

    def run(self, arguments: list[str], **options) -> tuple[int, str, str]:
        """Run a command to its end."""
        return self.start(arguments, **options).finish()

    def processes(self) -> list[int]:
        """Return the living processes of this try."""
        return [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if int(folder.name) != os.getpid() and self._owns(folder)
        ]

    def _owns(self, folder: Path) -> bool:
        try:
            state, *others = (folder / "stat").read_text().rpartition(")")[2].split()
            is_ours = int(others[2]) in self._sessions or (
                f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes()
            )
        except OSError:
            return False
        return state not in "ZX" and is_ours

    def orphans(self) -> str | None:
        """Return a failure if processes of the try still live after some seconds."""
        until = time.monotonic() + ORPHAN_SECONDS
        while self.processes() and time.monotonic() < until:
            time.sleep(0.2)
        return f"{len(self.processes())} orphans" if self.processes() else None


def _run_here(arguments: list[str]) -> None:
    """Run the command in this forked process as an interpreter does, and end the process."""
    from modgap.__main__ import main

    sys.argv = ["modgap", *arguments]
    # Workers of a command import its main module, which is not this one.
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.stdin = os.fdopen(0)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) for descriptor in (1, 2))
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
