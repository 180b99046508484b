"""Merging of caches: entries are copied if they are whole, and two half runs become the same results as one."""

import json
import shutil

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.storage.cache import CacheEntry, entry_paths, merge_cache, read_entry, store
from tests.commands import run_in_process
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_matrix import CHEAP, CNN, VIT, run, small_sources, small_target  # noqa: F401 - fixture

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
    assert [bool(one.size) for one in merged] == [True, False, True, True]
    assert not any(one.reason for one in merged)
    values = [int(read_entry(path).arrays["values"][0]) for path in entry_paths()]
    assert values == [0, 7, 2, 3]
    assert all(one.size == 0 for one in merge_cache(other))


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
    assert [bool(one.reason) for one in merged] == [True, True, False, True]
    assert [path.stem for path in entry_paths()] == [KEYS[2]]
    assert len(list((tmp_path / "own").rglob("*"))) == 3
    done = run_in_process("cache", "merge", str(other))
    assert done.returncode == 1
    assert "copied 0 entries" in done.stdout
    assert "1 were there before, 3 damaged." in done.stdout


def test_a_missing_folder_is_a_message(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        list(merge_cache(tmp_path / "nothing"))


def results(folder):
    """Contents of all result files by their names, without what tells when and how fast they were made."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "ranking.json":
            record = json.loads(path.read_text())
            contents[str(path.relative_to(folder))] = {
                name: value for name, value in record.items() if name not in ("seconds", "jobs", "digest")
            }
        elif path.is_file():
            contents[str(path.relative_to(folder))] = path.read_bytes()
    return contents


def test_two_half_runs_give_the_results_of_one(sources, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    targets = ",".join(small_target(tmp_path, number) for number in range(2))

    def plan_and_work(name, names, cache):
        monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / cache))
        run("plan", "--targets", targets, "--sources", names, *CHEAP, "--out", f"{name}.jsonl")
        return run("worker", f"{name}.jsonl").stdout

    plan_and_work("first", VIT, "a")
    plan_and_work("second", CNN, "b")
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "a"))
    assert "0 damaged" in run("cache", "merge", str(tmp_path / "b")).stdout
    plan_and_work("merged", f"{VIT},{CNN}", "a")
    status = run("plan", "--status", "merged.jsonl").stdout.split("\n")
    # Everything was in one of the two caches.
    assert status[4].split() == ["0", "6", "0", "0", "0", "0"]
    run("plan", "--gather", "merged.jsonl", "--results", "merged")
    plan_and_work("whole", f"{VIT},{CNN}", "c")
    run("plan", "--gather", "whole.jsonl", "--results", "whole")
    assert results(tmp_path / "merged") == results(tmp_path / "whole")
    assert "matrix.json" in results(tmp_path / "whole")
