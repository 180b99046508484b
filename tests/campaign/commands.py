"""Attacks on whole commands: kills, signals, writers on one folder, streams, descriptors, a full disk and more."""

import functools
import itertools
import os
import random
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from tests.campaign import seed_files
from tests.campaign.types import Campaign
from tests.commands import command_line

MARK = "MODGAP_CAMPAIGN"
"""Environment variable by which the processes of a try are found."""
LIMIT_SECONDS = 240
ORPHAN_SECONDS = 10
SEARCH = "--estimator=search --restarts=1 --splits=3 --permutations=0 --bound-seconds=0"
MODEL = "random:timm:test_vit"
LONG_COMMANDS = {
    "discrepancy": (f"discrepancy --logits=logits.npz --out=out {SEARCH}", "out/samples.npz"),
    "rank": (
        f"rank --target=data.npz --sources={MODEL},random:timm:test_resnet --jobs=2 --resamples=0 --out=out "
        "--input-size=32",
        "out/samples.npz",
    ),
    "train": (
        f"train --method=finetune --source={MODEL} --target=data.npz --out=out --input-size=32 --set=stage2.epochs=3 "
        "--set=checkpoint_seconds=0",
        "out/model.safetensors",
    ),
    "distortion": (
        f"distortion --source={MODEL} --surrogate=data.npz --other={MODEL} --repeats=2 --out=out --input-size=32",
        "out/samples.npz",
    ),
    "data fetch": ("data fetch fetched.toml --data-dir=fetched", "fetched/large.bin"),
    "data convert": ("data convert data.csv --label=label --kind=table", None),
    "report": ("report done", "done/report.html"),
}
"""Arguments of each long command, and the file whose bytes an interruption must not change."""


def _arguments(name: str) -> list[str]:
    return LONG_COMMANDS[name][0].split()


@functools.cache
def _template() -> Path:
    """Return a folder with the data of all commands, made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="modgap-campaign-"))
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    images = rng.random((60, 1, 12, 12), dtype=np.float32) + labels[:, None, None, None]
    np.savez(folder / "data.npz", x=images, y=labels)
    logits = rng.standard_normal((60, 8)).astype(np.float32)
    np.savez(folder / "logits.npz", logits=logits, labels=labels, class_names=np.array(["a", "b", "c"]))
    seed_files.csv(folder)
    seed_files.ranking(folder / "done")
    (folder / "host").mkdir()
    (folder / "host" / "large.bin").write_bytes(rng.bytes(3_000_000))
    return folder


def _write_fetched_manifest(folder: Path, url: str) -> None:
    (folder / "fetched.toml").write_text(
        'schema = 1\nname = "fetched"\ntitle = "Fetched"\nmodality = "motion"\ntask = "classification"\nfiles = []\n'
        '[input]\nkind = "series"\n[reader]\nname = "arrays"\noptions = { kind = "series" }\n'
        f'[[downloads]]\npath = "large.bin"\nurls = ["{url}/large.bin"]\n'
    )


class _Try:
    """A folder with the data of a try, and the processes that it starts."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.root = Path(tempfile.mkdtemp(prefix="modgap-try-"))
        self.folder = self.root / "work"
        shutil.copytree(_template(), self.folder)

    def __enter__(self) -> "_Try":
        from tests.loopback import Host

        self.host = Host(_template() / "host")
        _write_fetched_manifest(self.folder, self.host.url)
        return self

    def __exit__(self, *_error: object) -> None:
        self.host.close()
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self, arguments: list[str], launcher: list[str] | None = None, **options) -> subprocess.Popen:
        environment = {**os.environ, MARK: self.mark, "MODGAP_CACHE": str(self.root / "cache")}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        command = [*(launcher or command_line()), *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, errors="replace", **options)

    def finish(self, process: subprocess.Popen) -> tuple[int, str, str]:
        out, err = process.communicate(timeout=LIMIT_SECONDS)
        return process.returncode, out or "", err or ""

    def run(self, arguments: list[str], launcher: list[str] | None = None, **options) -> tuple[int, str, str]:
        return self.finish(self.start(arguments, launcher, **options))

    def processes(self) -> list[int]:
        """Return the living processes of this try."""
        wanted = f"{MARK}={self.mark}".encode()
        living = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (
                    wanted in (folder / "environ").read_bytes()
                    and b"\nState:\tZ" not in (folder / "status").read_bytes()
                ):
                    living.append(int(folder.name))
            except OSError:
                continue
        return living

    def orphans(self) -> str | None:
        """Return a failure if processes of the try still live after some seconds."""
        until = time.monotonic() + ORPHAN_SECONDS
        while self.processes() and time.monotonic() < until:
            time.sleep(0.2)
        return f"{len(self.processes())} orphans" if self.processes() else None


def _bad_output(code: int, err: str, allowed: tuple[int, ...]) -> str | None:
    """Return a failure if a command printed a traceback, or ended with another code, or without a message."""
    if "Traceback" in err or "panicked" in err or "unexpected" in err or "Exception ignored" in err:
        return f"traceback: {err[-300:]}"
    if code not in allowed:
        return f"exit code {code}: {err[-300:]}"
    if code and err.count("modgap: ") == 0:
        return f"exit code {code} without a message"
    return None


def _content(one: _Try, name: str) -> bytes | None:
    path = LONG_COMMANDS[name][1]
    if path is None:
        path = next((str(file) for file in one.folder.rglob(".*converted*/*") if file.is_file()), None)
    return (one.folder / path).read_bytes() if path and (one.folder / path).exists() else None


@functools.cache
def _expected(name: str) -> tuple[float, bytes | None]:
    """Return the seconds that a command takes without interruption, and the content of its file."""
    with _Try() as one:
        one.run(_arguments(name))
    with _Try() as one:
        began = time.monotonic()
        code, _, err = one.run(_arguments(name))
        assert code == 0, f"{name}: {err}"
        return time.monotonic() - began, _content(one, name)


def _again(one: _Try, name: str) -> str | None:
    """Run a command again after its interruption, and compare its file."""
    arguments = _arguments(name)
    if name == "train" and (one.folder / "out" / "run.json").exists():
        arguments.append("--resume")
    if name == "train" and (one.folder / "out").exists() and "--resume" not in arguments:
        shutil.rmtree(one.folder / "out")
    code, _, err = one.run(arguments)
    if failure := _bad_output(code, err, (0,)):
        return f"the next run: {failure}"
    if _content(one, name) != _expected(name)[1]:
        return "the next run has another result"
    return None


def _kill(name: str, number: int) -> str | None:
    seconds, _ = _expected(name)
    with _Try() as one:
        process = one.start(_arguments(name))
        time.sleep(random.Random(number).uniform(0, seconds))
        process.kill()
        one.finish(process)
        return one.orphans() or _again(one, name)


def _signal(number: int) -> str | None:
    name = list(LONG_COMMANDS)[number % len(LONG_COMMANDS)]
    sent = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[number // len(LONG_COMMANDS) % 3]
    with _Try() as one:
        restore = functools.partial(signal.signal, sent, signal.SIG_DFL)
        process = one.start(_arguments(name), preexec_fn=restore)
        # Before that the interpreter itself starts, which prints what it likes.
        time.sleep(0.3 + random.Random(number).uniform(0, _expected(name)[0]))
        process.send_signal(sent)
        code, _, err = one.finish(process)
        return _bad_output(code, err, (0, 128 + sent)) or one.orphans() or _again(one, name)


def _writers(number: int) -> str | None:
    name = ("discrepancy", "train")[number % 2]
    with _Try() as one:
        ended = [one.finish(process) for process in [one.start(_arguments(name)) for _ in range(2)]]
        codes = sorted(code for code, _, _ in ended)
        if codes[0] != 0 or any(
            code and "Another modgap" not in err and "already contains" not in err for code, _, err in ended
        ):
            return f"two writers: {[(code, err[-200:]) for code, _, err in ended]}"
        return None if _content(one, name) == _expected(name)[1] else "two writers have another result"


def _streams(number: int) -> str | None:
    closed = list(itertools.product((False, True), repeat=3))[number % 8]
    files = (None, 8, 16, 24, 40)[number // 8 % 5]

    def prepare() -> None:
        for descriptor, is_closed in enumerate(closed):
            if is_closed:
                os.close(descriptor)
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    with _Try() as one:
        code, _, err = one.run(_arguments("discrepancy"), preexec_fn=prepare)
        return _bad_output(code, err, (0, 1)) if not closed[2] else (None if code in (0, 1) else f"exit code {code}")


def _full_disk(number: int) -> str | None:
    name = ("discrepancy", "train", "rank", "data convert", "report")[number % 5]
    size = int(10 ** random.Random(number).uniform(0, 5.5))
    with _Try() as one:
        limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
        code, _, err = one.run(_arguments(name), preexec_fn=limit)
        return _bad_output(code, err, (0, 1)) or _again(one, name)


def _read_only(number: int) -> str | None:
    name = ("discrepancy", "rank", "distortion", "report")[number % 4]
    with _Try() as one:
        for folder, is_writable in ((one.root / "cache", number % 8 < 4), (one.folder, False)):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777 if is_writable else 0o555)
        one.root.chmod(0o755)
        other = {"user": 65534, "group": 65534} if os.getuid() == 0 else {}
        arguments = [text for text in _arguments(name) if name == "report" or number % 3 or "--out" not in text]
        code, _, err = one.run(arguments, **other)
        return _bad_output(code, err, (0, 1))


NAMES = [
    r"$\frac$", "caf\udce9", "\x1b]0;title\x07\x1b[31m", "\u202egpj", "日本", "😀", "../../x", "a\nb", "_", "", " ",
    "x" * 5000,
    "<script>", "=1+1", "%s", "{0}", "NaN", "null", "\\", "'\"",
]  # fmt: skip


def _names(number: int) -> str | None:
    rng = random.Random(number)
    names = [f"{rng.choice(NAMES)}{rng.choice(['', number, rng.choice(NAMES)])}" for _ in range(3)]
    names = [f"{name}{position}" if names.count(name) > 1 else name for position, name in enumerate(names)]
    with _Try() as one:
        with np.load(one.folder / "logits.npz") as arrays:
            content = {name: arrays[name] for name in ("logits", "labels")}
        np.savez(one.folder / "logits.npz", **content, class_names=np.array(names))
        code, out, err = one.run(_arguments("discrepancy"))
        failure = _bad_output(code, err, (0, 1))
        if failure or code:
            return failure
        if "\x1b" in out + err or "not drawn" in err or "Glyph" in err:
            return f"{names}: raw escapes, or no figure: {err[-300:]}"
        code, _, err = one.run(["report", "out"])
        return _bad_output(code, err, (0,))


RESPONSES = [
    b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n", b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe/\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", b"HTTP/1.1 302 Found\r\nLocation: //\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:99999/\r\n\r\n", b"HTTP/1.1 302 Found\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc", b"HTTP/1.1 999 \x1b[31mred\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"garbage", b"", b"HTTP/1.1 206 Partial\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" * 3 + b"\r\n",
]  # fmt: skip


def _hosts(number: int) -> str | None:
    from tests.campaign.mutations import mutate

    response = RESPONSES[number % len(RESPONSES)]
    response = response if number < len(RESPONSES) else mutate(response, number)
    with socket.create_server(("127.0.0.1", 0)) as server, _Try() as one:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(response)

        threading.Thread(target=answer, daemon=True).start()
        _write_fetched_manifest(one.folder, f"http://127.0.0.1:{server.getsockname()[1]}")
        code, out, err = one.run([*_arguments("data fetch"), "--timeout=2"])
        return _bad_output(code, err, (0, 1)) or ("a raw escape" if "\x1b" in out + err else None)


BLOCKED = "import socket\ndef refuse(*_):\n    raise AssertionError('a connection')\n"
BLOCKED += "socket.socket.connect = socket.socket.connect_ex = refuse\nfrom modgap.__main__ import main; main()"


def _blocked(number: int) -> str | None:
    name = ("discrepancy", "rank", "train", "distortion", "data convert", "report")[number % 6]
    with _Try() as one:
        code, _, err = one.run(_arguments(name), [sys.executable, "-c", BLOCKED])
        return _bad_output(code, err, (0,))


def _command(name: str, tries: int, attempt, quick: int = 0) -> Campaign:
    return Campaign(name, tries, quick, attempt, seconds=4 * LIMIT_SECONDS, chunk=15)


COMMAND_CAMPAIGNS = [
    *(_command(f"kill {name}", 30, functools.partial(_kill, name)) for name in LONG_COMMANDS),
    _command("signals", 105, _signal),
    _command("two writers", 16, _writers),
    _command("streams and descriptors", 40, _streams),
    _command("full disk", 40, _full_disk),
    _command("read-only folders", 24, _read_only),
    _command("hostile names", 60, _names),
    _command("hostile hosts", 200, _hosts),
    _command("blocked sockets", 12, _blocked),
]
