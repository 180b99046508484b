"""Files of the cache: permissions, entries that cannot be read or written, and what is removed."""

import os
import stat
import time

import numpy as np
import pytest
import torch

import modgap as package
from modgap.errors import InputError
from modgap.storage.cache import CacheEntry, check_cache_is_writable, entry_path, entry_paths, find_cached, store
from modgap.training.checkpoint import write_tensors

OTHER_USER = 65_534
KEY = "d" * 64


@pytest.fixture
def umask():
    """Set a umask that leaves a group the right to write, and restore it."""
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


def write():
    store("scores", KEY, CacheEntry({"values": np.arange(3.0)}, {"reason": ""}))
    return entry_path("scores", KEY)


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


def test_an_entry_that_may_not_be_read_is_absent(open_cache, tmp_path):
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


def test_a_ranking_with_a_cache_that_cannot_be_written_is_refused(modgap, tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).random((60, 1, 12, 12)), y=np.arange(60) % 3)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MODGAP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "file" / "cache"))
    for more in ((), ("--target", "digits")):
        done = modgap("rank", "--sources", "vit-fashion", "--target", tmp_path / "a.npz", *more, "--jobs", "1")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert f"The cache {tmp_path}/file/cache cannot be written (Not a directory), but jobs" in done.stderr
        assert "Set the environment variable MODGAP_CACHE to a folder that can be written." in done.stderr


def test_a_cache_with_folders_of_another_user_cannot_be_written(open_cache):
    write()
    check_cache_is_writable()
    open_cache.chmod(0o777)

    def check():
        try:
            check_cache_is_writable()
        except InputError as error:
            return int("cannot be written (Permission denied)" not in str(error))
        return 2

    assert run_as_other_user(check) == 0


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
