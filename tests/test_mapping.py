"""Releasing the pages of a memory-mapped array changes no value."""

import sys

import numpy as np
import pytest

from modgap.storage.memory_map import release_pages


def resident(path):
    """Return the kilobytes of a mapped file that are in the memory of this process."""
    with open("/proc/self/smaps", encoding="utf-8") as maps:
        lines = iter(maps)
        sizes = (next(line for line in lines if line.startswith("Rss")) for line in lines if str(path) in line)
        return sum(int(line.split()[1]) for line in sizes)


@pytest.mark.skipif(sys.platform != "linux", reason="told by Linux's /proc")
def test_pages_are_released_and_values_stay(tmp_path):
    values = np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024)
    values.tofile(tmp_path / "logits")
    mapped = np.memmap(tmp_path / "logits", np.float32, "r", shape=values.shape).view(np.ndarray)
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
