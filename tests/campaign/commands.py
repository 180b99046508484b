"""Attacks on whole commands: kills, signals, writers on one folder, streams, descriptors, a full disk and more."""

import functools
import io
import itertools
import os
import random
import resource
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.campaign.mutations import mutate
from tests.campaign.sandbox import HangError, Sandbox, Started, drop_right_to_write, template
from tests.campaign.types import Campaign
from tests.loopback import Host

SEARCH = "--estimator=search --splits=3 --permutations=0"
MODEL = "random:timm:test_vit"
RANK = f"rank --target=data.npz --sources={MODEL},random:timm:test_resnet --resamples=0 --out=out --input-size=32"
MATRIX = (
    f"rank --target=data.npz --target=other.npz --sources={MODEL},random:timm:test_resnet --input-size=32 --by=knn "
    "--score=knn --resamples=0 --no-controls --jobs=1 --out=matrix"
)
SERIAL = " in one process"
LONG_COMMANDS = {
    "discrepancy": (f"discrepancy --logits=logits.npz --out=out {SEARCH}", "work/out/samples.npz"),
    "rank": (f"{RANK} --jobs=2", "work/out/ranking.csv"),
    "rank in one process": (f"{RANK} --jobs=1", "work/out/ranking.csv"),
    "train": (
        f"train --method=finetune --source={MODEL} --target=data.npz --out=out --input-size=32 --set=stage2.epochs=3 "
        "--set=checkpoint_seconds=0",
        "work/out/model.safetensors",
    ),
    "train in a sweep": (
        f"train --method=finetune --source={MODEL} --target=data.npz --out=out --input-size=32 --set=stage2.epochs=2 "
        "--set=checkpoint_seconds=0 --set=loader_workers=1 --sweep=stage2.learning_rate=1e-4,1e-3",
        "work/out/model.safetensors",
    ),
    "distortion": (
        f"distortion --source={MODEL} --surrogate=data.npz --other={MODEL} --repeats=2 --out=out --input-size=32",
        "work/out/samples.npz",
    ),
    "data fetch": ("data fetch fetched.toml --data-dir=fetched", "work/fetched/large.bin"),
    "data convert": ("data convert data.csv --label=label --kind=table", "data/converted/*.safetensors"),
    "report": ("report done", "work/done/report.html"),
    "rank several": (MATRIX, "work/matrix/001-data.npz/samples.npz"),
}
"""Arguments of each long command, and the file whose bytes an interruption must not change."""
KILLED = [name for name in LONG_COMMANDS if not name.endswith(SERIAL)]
REAL_SHARE = 10
"""One of so many tries starts the command as a user does. The others fork it, which is faster."""
KILL_TRIES = 8
"""Most times that a command is started again where it ended before it was killed."""


def _arguments(name: str) -> list[str]:
    return LONG_COMMANDS[name][0].split()


def _is_forked(number: int) -> bool:
    return number % REAL_SHARE != 0


def _write_fetched_manifest(folder: Path, url: str) -> None:
    (folder / "fetched.toml").write_text(
        'schema = 1\nname = "fetched"\ntitle = "Fetched"\nmodality = "motion"\ntask = "classification"\nfiles = []\n'
        '[input]\nkind = "series"\n[reader]\nname = "arrays"\noptions = { kind = "series" }\n'
        f'[[downloads]]\npath = "large.bin"\nurls = ["{url}/large.bin"]\n'
    )


@functools.cache
def _host() -> Host:
    """Return the host of downloads, started once in a process."""
    return Host(template() / "host")


class _Try(Sandbox):
    """A sandbox with the manifest of a download."""

    def __init__(self) -> None:
        """Copy the data."""
        super().__init__()
        _write_fetched_manifest(self.folder, _host().url)


def _bad_output(code: int, err: str, allowed: tuple[int, ...]) -> str | None:
    """Return a failure if a command printed a traceback, or ended with another code, or without a message."""
    if "Traceback" in err or "panicked" in err or "unexpected" in err or "Exception ignored" in err:
        return f"traceback: {err[-1000:]}"
    if code not in allowed:
        return f"exit code {code}: {err[-1000:]}"
    if code and err.count("modgap: ") == 0:
        return f"exit code {code} without a message"
    return None


def _content(one: Sandbox, name: str) -> bytes | None:
    path = next(one.root.glob(LONG_COMMANDS[name][1]), None)
    return path.read_bytes() if path else None


@functools.cache
def _expected(name: str) -> tuple[float, bytes]:
    """Return the seconds that a command takes without interruption, and the content of its file."""
    with _Try() as one:
        began = time.monotonic()
        code, _, err = one.run(_arguments(name))
        seconds = time.monotonic() - began
        assert code == 0, f"{name}: {err}"
        content = _content(one, name)
        assert content is not None, f"{name} wrote no file"
        return seconds, content


def _again(one: Sandbox, name: str) -> str | None:
    """Run a command again after its interruption, and compare its file."""
    arguments = _arguments(name)
    trains = name.startswith("train")
    if trains and any((one.folder / "out" / record).exists() for record in ("run.json", "sweep.json")):
        arguments.append("--resume")
    if trains and (one.folder / "out").exists() and "--resume" not in arguments:
        shutil.rmtree(one.folder / "out")
    code, _, err = one.run(arguments)
    if failure := _bad_output(code, err, (0,)):
        return f"the next run: {failure}"
    content = _content(one, name)
    if content != _expected(name)[1]:
        return f"the next run has another result ({_difference(_expected(name)[1], content)}): {err[-500:]}"
    return None


def _difference(expected: bytes, content: bytes | None) -> str:
    """Return the names of arrays that differ between two contents of a file, or else their sizes."""
    if content is None or not expected.startswith(b"PK"):
        return f"{len(expected):,} bytes expected, got {len(content or b''):,}"
    with np.load(io.BytesIO(expected)) as one, np.load(io.BytesIO(content)) as other:
        names = [name for name in {*one, *other} if name not in one or name not in other]
        common = [name for name in one if name in other]
        return ", ".join(names + [name for name in common if not np.array_equal(one[name], other[name])])


def _stop(one: Sandbox, name: str, number: int, sent: int, again: int) -> Started | None:
    """Start a command, and send it a signal at a random time; return None where it ended before.

    The expected time may come from a moment at which the machine was busier, so each further start is stopped earlier.
    """
    rng = random.Random(1000 * again + number)
    process = one.start(_arguments(name), forked=_is_forked(number))
    # In the first moments the interpreter itself starts, which prints what it likes.
    first = 0.0 if sent == signal.SIGKILL else 0.05 if _is_forked(number) else 0.3
    time.sleep(first + rng.uniform(0, 0.9 * 0.6**again * _expected(name)[0]))
    if process.send(sent):
        return process
    process.finish()
    return None


def _interrupt(name: str, number: int, sent: int) -> str | None:
    for again in range(KILL_TRIES):
        with _Try() as one:
            process = _stop(one, name, number, sent, again)
            if process is None:
                continue
            code, _, err = process.finish()
            failure = None if sent == signal.SIGKILL else _bad_output(code, err, (0, 128 + sent))
            return failure or one.orphans() or _again(one, name)
    return f"it ended {KILL_TRIES} times before it was stopped"


def _variant(name: str, number: int) -> str:
    """Return the name of the command for every second try, where there are two."""
    return f"{name}{SERIAL}" if number % 2 and f"{name}{SERIAL}" in LONG_COMMANDS else name


def _kill(name: str, number: int) -> str | None:
    return _interrupt(_variant(name, number), number, signal.SIGKILL)


def _signal(number: int) -> str | None:
    again, position = divmod(number, len(KILLED))
    sent = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[again % 3]
    return _interrupt(_variant(KILLED[position], again), number, sent)


def _writers(number: int) -> str | None:
    name = ("discrepancy", "train", "rank several")[number % 3]
    # Two rankings share the cache alone, and the other commands the folder of the results too.
    others = ["--out=other"] if name == "rank several" else []
    with _Try() as one:
        started = [one.start([*_arguments(name), *more]) for more in ([], others)]
        ended = [process.finish() for process in started]
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
        code, _, err = one.run(_arguments("discrepancy"), forked=False, prepare=prepare)
        return _bad_output(code, err, (0, 1)) if not closed[2] else (None if code in (0, 1) else f"exit code {code}")


def _full_disk(number: int) -> str | None:
    name = ("discrepancy", "train", "rank", "data convert", "report")[number % 5]
    size = int(10 ** random.Random(number).uniform(0, 5.5))
    with _Try() as one:
        limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
        code, _, err = one.run(_arguments(name), forked=_is_forked(number), prepare=limit)
        return _bad_output(code, err, (0, 1)) or _again(one, name)


def _read_only(number: int) -> str | None:
    again, position = divmod(number, len(KILLED))
    name = _variant(KILLED[position], again)
    with _Try() as one:
        folders = [one.root / "cache", one.root / "data", one.folder, one.folder / "done"]
        for folder, is_writable in zip(folders, (again % 2, again % 3 == 0, again == 0, False), strict=True):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755 if is_writable else 0o555)
        arguments = [
            text for text in _arguments(name) if name.startswith("train") or again % 3 == 0 or "--out" not in text
        ]
        code, _, err = one.run(arguments, prepare=drop_right_to_write)
        writes = "--out=out" in arguments or name.startswith(("report", "data", "rank"))
        return _bad_output(code, err, (0, 1) if writes else (0,))


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
        code, _, err = one.run(_arguments(name), forked=False, launcher=[sys.executable, "-c", BLOCKED])
        return _bad_output(code, err, (0,))


def _without_hang(attempt: Callable[[int], str | None], number: int) -> str | None:
    try:
        return attempt(number)
    except HangError as error:
        return f"hang: {error}"


def _command(name: str, tries: int, attempt: Callable[[int], str | None], chunk: int = 15) -> Campaign:
    return Campaign(name, tries, 0, functools.partial(_without_hang, attempt), seconds=1200, chunk=chunk)


COMMAND_CAMPAIGNS = [
    *(_command(f"kill {name}", 30, functools.partial(_kill, name)) for name in KILLED),
    _command("signals", 105, _signal, chunk=35),
    _command("two writers", 16, _writers),
    _command("streams and descriptors", 40, _streams, chunk=20),
    _command("full disk", 40, _full_disk, chunk=20),
    _command("read-only folders", 42, _read_only, chunk=21),
    _command("hostile names", 60, _names, chunk=30),
    _command("hostile hosts", 200, _hosts, chunk=100),
    _command("blocked sockets", 12, _blocked),
]
