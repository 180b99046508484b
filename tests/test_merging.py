"""Merging of caches: entries are copied if they are whole, and two half runs become the same results as one."""

import shutil

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.storage.cache import CacheEntry, entry_paths, merge_cache, read_entry, store
from tests.commands import run_in_process
from tests.matrices import file_contents
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_matrix import CHEAP, CNN, VIT, job_counts, run, small_sources, small_target  # noqa: F401 - fixture

KEYS = [f"{number:064x}" for number in range(4)]


@pytest.fixture(name="other")
def other_cache(tmp_path, monkeypatch):
    """A cache of four entries; the process uses another, empty one."""
    other = tmp_path / "other"
    monkeypatch.setenv("MODGAP_CACHE", str(other))
    for number, key in enumerate(KEYS):
        store("scores", key, CacheEntry({"values": np.full(3, number)}, {"number": number}))
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "own"))
    return other


def test_entries_that_are_missing_are_copied(other):
    store("scores", KEYS[1], CacheEntry({"values": np.full(3, 7)}, {"number": 7}))
    merged = list(merge_cache(other))
    assert [bool(size) for _, size, _ in merged] == [True, False, True, True]
    assert not any(fault for _, _, fault in merged)
    values = [int(read_entry(path).arrays["values"][0]) for path in entry_paths()]
    assert values == [0, 7, 2, 3]
    assert all(size == 0 for _, size, _ in merge_cache(other))


def test_what_is_no_whole_entry_of_its_key_is_left_out(other, tmp_path):
    paths = sorted(other.glob("*/??/*.safetensors"))
    content = bytearray(paths[0].read_bytes())
    content[len(content) // 2] ^= 1
    paths[0].write_bytes(content)
    shutil.copyfile(paths[2], paths[1])
    secret = tmp_path / "secret"
    secret.write_text("secret")
    paths[3].unlink()
    paths[3].symlink_to(secret)
    for name in ("Scores", "..", "sc ores"):
        odd = other / "x" / name
        odd.mkdir(parents=True, exist_ok=True)
    odd = other / "scores" / "zz" / f"{'z' * 64}.safetensors"
    odd.parent.mkdir()
    odd.write_bytes(paths[2].read_bytes())
    merged = list(merge_cache(other))
    assert [bool(fault) for _, _, fault in merged] == [True, True, False, True]
    assert [path.stem for path in entry_paths()] == [KEYS[2]]
    assert len(list((tmp_path / "own").rglob("*"))) == 3
    done = run_in_process("cache", "merge", str(other))
    assert done.returncode == 1
    assert "copied 0 entries" in done.stdout
    assert "1 were there before, 3 damaged." in done.stdout


def test_a_missing_folder_is_a_message(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        list(merge_cache(tmp_path / "nothing"))


def test_two_half_runs_give_the_results_of_one(sources, tmp_path, monkeypatch):
    targets = [small_target(tmp_path, number) for number in range(2)]

    def rank(names, cache, *arguments):
        monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / cache))
        return run(targets, "--sources", names, *CHEAP, *arguments).stdout

    rank(VIT, "a")
    rank(CNN, "b")
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "a"))
    merged = run_in_process("cache", "merge", tmp_path / "b")
    assert "0 damaged" in merged.stdout
    # Everything was in one of the two caches.
    assert job_counts(rank(f"{VIT},{CNN}", "a", "--out", tmp_path / "merged")) == (0, 4, 0)
    rank(f"{VIT},{CNN}", "c", "--out", tmp_path / "whole")
    assert file_contents(tmp_path / "merged") == file_contents(tmp_path / "whole")
    assert "matrix.json" in file_contents(tmp_path / "whole")
