"""Releasing the pages of a memory-mapped array changes no value."""

import sys

import numpy as np
import pytest

from modgap.discrepancy.kernels import mapped_rows
from modgap.discrepancy.search import search
from modgap.storage.memory_map import release_pages
from tests import naive_search as naive


def map_array(path, values):
    """Write an array to a file, and return it mapped from there."""
    values.tofile(path)
    return np.memmap(path, values.dtype, "r", shape=values.shape).view(np.ndarray)


def resident(path):
    """Return the kilobytes of a mapped file that are in the memory of this process."""
    with open("/proc/self/smaps", encoding="utf-8") as maps:
        lines = iter(maps)
        sizes = (next(line for line in lines if line.startswith("Rss")) for line in lines if str(path) in line)
        return sum(int(line.split()[1]) for line in sizes)


@pytest.mark.skipif(sys.platform != "linux", reason="told by Linux's /proc")
def test_pages_are_released_and_values_stay(tmp_path):
    values = np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024)
    mapped = map_array(tmp_path / "logits", values)
    assert (mapped == values).all()
    assert resident(tmp_path / "logits") == 4096
    release_pages(mapped[10:])
    assert resident(tmp_path / "logits") == 0
    assert (mapped == values).all()


@pytest.mark.parametrize("mode", ["c", "r+", None])
def test_changes_in_memory_are_kept(tmp_path, mode):
    np.zeros(4096, np.float32).tofile(tmp_path / "own")
    array = np.zeros(4096, np.float32) if mode is None else np.memmap(tmp_path / "own", np.float32, mode)
    array[7] = 1
    view = array.view(np.ndarray)
    view.flags.writeable = False
    release_pages(view)
    assert view[7] == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_search_that_releases_pages_finds_the_same(tmp_path, monkeypatch, threads):
    logits, labels = naive.problem(np.random.default_rng(0), 3000, 40, 8, 0.4)
    kept = search(logits, labels, 8)
    monkeypatch.setattr(mapped_rows, "LARGEST_RESIDENT", 0)
    monkeypatch.setattr(mapped_rows, "RELEASED_BYTES", 1 << 14)
    mapped = map_array(tmp_path / "logits", logits)
    assert mapped_rows.pages_of(mapped, 3000).entries == 102
    assert search(mapped, labels, 8, threads=threads) == kept


@pytest.mark.skipif(sys.platform != "linux", reason="told by Linux's /proc")
def test_few_rows_of_a_large_file_are_copied(tmp_path, monkeypatch):
    values = np.random.default_rng(0).standard_normal((1200, 1024)).astype(np.float32)
    mapped = map_array(tmp_path / "logits", values)
    rows = np.arange(0, 1200, 5)
    assert mapped_rows.rows_of(mapped, rows).logits is mapped
    monkeypatch.setattr(mapped_rows, "LARGEST_RESIDENT", 0)
    copied = mapped_rows.rows_of(mapped, rows)
    assert (copied.logits[copied.rows] == values[rows]).all()
    assert resident(tmp_path / "logits") == 0
