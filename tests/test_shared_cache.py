"""A cache that several users share: permissions, unreadable and unwritable entries, and what is removed."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import modgap as package
from modgap.storage.cache import CacheEntry, entry_path, entry_paths, find_cached, store
from modgap.training.checkpoint import write_tensors

OTHER_USER = 65_534
KEY = "d" * 64


@pytest.fixture
def umask():
    """Set the umask of a group that shares files, and restore it."""
    before = os.umask(0o002)
    yield
    os.umask(before)


def run_as_other_user(function):
    """Return the exit code of a function that runs in a child process of another user."""
    if os.getuid() != 0:
        pytest.skip("becoming another user needs root")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(OTHER_USER)
            os.setuid(OTHER_USER)
            code = function()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write(key=KEY):
    store("scores", key, CacheEntry({"values": np.arange(3.0)}, {"reason": ""}))
    return entry_path("scores", key)


def total():
    """Sum of the values of the entry."""
    return find_cached("scores", KEY, lambda entry: entry.arrays["values"].sum())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_entries_and_weights_follow_the_umask(umask, tmp_path):
    write_tensors(tmp_path / "model.safetensors", {"a": torch.zeros(3)})
    assert mode(tmp_path / "model.safetensors") == 0o664
    assert mode(write()) == 0o664


@pytest.fixture
def open_cache(tmp_path, monkeypatch):
    """A cache below folders that every user may enter."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.name.startswith(("pytest-", "popen-", "test_")):
            folder.chmod(folder.stat().st_mode | 0o055)
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_another_user_reads_an_entry(open_cache):
    write()
    assert (
        run_as_other_user(lambda: int(find_cached("scores", KEY, lambda entry: entry.arrays["values"].sum()) != 3)) == 0
    )


def test_an_entry_that_another_user_may_not_read_is_absent(open_cache, tmp_path):
    path = write()
    path.chmod(0o600)
    lines = tmp_path / "lines"
    lines.touch()
    lines.chmod(0o666)

    def read():
        import logging

        logging.getLogger("modgap").addHandler(logging.FileHandler(lines))
        return 0 if find_cached("scores", KEY, lambda entry: entry) is None else 2

    assert run_as_other_user(read) == 0
    assert "is not used (it cannot be read: Permission denied). It is computed again." in lines.read_text()


def test_prune_without_options_deletes_nothing(modgap):
    write()
    done = modgap("cache", "prune")
    assert done.returncode == 2
    assert "modgap cache prune --older-than 30, or all with: modgap cache prune --all" in done.stderr
    assert len(list(entry_paths())) == 1
    assert modgap("cache", "prune", "--older-than", "1").stdout.startswith("deleted 0 files")
    assert modgap("cache", "prune", "--all").stdout.startswith("deleted 1 file,")


def test_a_ranking_with_a_cache_that_cannot_be_written_says_so_and_gives_results(modgap, tmp_path, monkeypatch):
    from modgap.storage import writable_cache

    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).random((60, 1, 12, 12)), y=np.arange(60) % 3)
    monkeypatch.setattr(writable_cache, "_write_error", lambda folder: "Permission denied")
    arguments = ("rank", "--sources", "vit-fashion", "--target", tmp_path / "a.npz", "--backend", "serial")
    done = modgap(*arguments, "--resamples", "0")
    assert done.returncode == 0, done.stderr
    assert "cannot be written (Permission denied). Its entries are used" in done.stderr
    assert "vit-fashion" in done.stdout
    assert list(entry_paths()) == []
    assert "MODGAP_SHARED_CACHE" not in os.environ


def test_entries_of_a_cache_that_is_only_read_are_used(tmp_path, monkeypatch):
    from modgap.storage import writable_cache

    path = write()
    shared = os.environ["MODGAP_CACHE"]
    monkeypatch.setattr(writable_cache, "_write_error", lambda folder: "Read-only file system")
    with writable_cache.writable_cache(on_this_machine=True):
        assert os.environ["MODGAP_CACHE"] != shared
        assert entry_path("scores", KEY) != path
        assert total() == 3
        write("e" * 64)
    assert os.environ["MODGAP_CACHE"] == shared
    assert list(entry_paths()) == [path]


def test_the_shared_cache_is_read_where_the_entry_of_this_one_is_damaged(tmp_path, monkeypatch, caplog):
    path = write()
    monkeypatch.setenv("MODGAP_SHARED_CACHE", os.environ["MODGAP_CACHE"])
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "of-this-command"))
    damaged = write()
    damaged.write_bytes(b"damaged")
    assert total() == 3
    assert f"{damaged} is not used" in caplog.text
    path.write_bytes(b"damaged")
    assert total() is None
    assert f"{path} is not used" in caplog.text


def test_a_cache_of_another_user_cannot_be_written(open_cache):
    from modgap.storage.writable_cache import _write_error

    write()
    assert _write_error(open_cache) is None
    assert run_as_other_user(lambda: int(_write_error(open_cache) != "Permission denied")) == 0


@pytest.fixture(scope="module")
def users():
    """Results of three users with one cache, from a discrepancy and a ranking, and the entries after each."""
    if os.getuid() != 0:
        pytest.skip("becoming another user needs root")
    with tempfile.TemporaryDirectory(prefix="modgap-users-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        labels = np.arange(45) % 5
        images = np.random.default_rng(0).random((45, 1, 12, 12), dtype=np.float32) + labels[:, None, None, None]
        np.savez(folder / "data.npz", x=images, y=labels)
        command = [sys.executable, "-m", "tests.two_users", name]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.parametrize("user", ["ada", "ben", "eve"])
def test_users_who_share_a_cache_get_the_results_of_one_alone(users, user):
    assert [one["code"] for one in users[user]] == [0, 0]
    assert [one["answer"] for one in users[user]] == [one["answer"] for one in users["alone"]]


@pytest.mark.long
def test_the_second_user_takes_the_entries_of_the_first(users):
    assert users["written"]
    assert users["read"] == users["written"]
    assert "cannot be written" not in users["ben"][1]["stderr"]


@pytest.mark.long
def test_a_user_who_may_only_read_the_cache_uses_it_and_is_told(users):
    assert users["unchanged"] == users["written"]
    assert "cannot be written (Permission denied). Its entries are used" in users["eve"][1]["stderr"]
    told = "".join(one["stderr"] for one in users["eve"])
    assert f"{users['hidden']} is not used (it cannot be read: Permission denied)" in told


def test_old_partial_downloads_of_any_file_are_removed(tmp_path):
    from modgap.targets.download.http import open_partial_download

    for name, days in ((".a.npz-1-2.part", 31), (".b.npz-1-2.part", 29)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - days * 86_400,) * 2)
    with open_partial_download(tmp_path / "c.npz"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".b.npz-1-2.part"]


def test_arrays_of_targets_are_listed_and_pruned(modgap, own_cache):
    images = np.zeros((6, 1, 8, 8))
    (path,) = package.open_target((images, [0, 1] * 3)).files["data"]
    assert path.is_relative_to(own_cache)
    assert "arrays" in modgap("cache", "ls").stdout
    assert modgap("cache", "prune", "--all").stdout.startswith("deleted 1 file")
    assert not path.exists()
