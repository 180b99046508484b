"""Cache entries are complete and verified, or they are not read."""

import errno
import multiprocessing
import os

import numpy as np
import pytest
from safetensors.numpy import load_file

from modgap.storage.cache import (
    CacheEntry,
    CorruptEntryError,
    begin_entry,
    cache_key,
    entry_path,
    entry_paths,
    read_entry,
    unfinished_paths,
)

RECORD = {"names": ["a", "ü"], "number": 1.5}


def write(path, value=1.0, rows=5):
    writer = begin_entry(path, CacheEntry({"labels": np.arange(rows)}, RECORD), 4 * rows * 3)
    writer.begin_array("logits", np.float32)
    for _ in range(rows):
        writer.append(np.full((1, 3), value, np.float32))
    writer.end_array((rows, 3))
    writer.commit()


def test_an_entry_is_read_back_and_is_a_valid_safetensors_file():
    path = entry_path("logits", cache_key(RECORD))
    assert read_entry(path) is None
    write(path)
    entry = read_entry(path)
    assert entry.metadata == RECORD
    np.testing.assert_array_equal(entry.arrays["labels"], np.arange(5))
    np.testing.assert_array_equal(entry.arrays["logits"], np.ones((5, 3)))
    np.testing.assert_array_equal(load_file(path)["logits"], np.ones((5, 3)))
    assert list(entry_paths()) == [path]


def test_the_key_depends_on_content_not_on_order():
    assert cache_key({"a": 1, "b": [2]}) == cache_key({"b": [2], "a": 1}) != cache_key({"a": 1, "b": [3]})


@pytest.mark.parametrize("position", [0, 4, 40, -1])
def test_every_flipped_byte_is_detected(position):
    path = entry_path("logits", "0" * 64)
    write(path)
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CorruptEntryError):
        read_entry(path)


@pytest.mark.parametrize("size", [0, 3, 8, 60, 400])
def test_every_truncation_is_detected(size):
    path = entry_path("logits", "0" * 64)
    write(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CorruptEntryError):
        read_entry(path)


def test_an_unfinished_entry_is_not_read_and_can_be_discarded():
    path = entry_path("logits", "1" * 64)
    writer = begin_entry(path, CacheEntry({}, RECORD))
    writer.begin_array("logits", np.float32)
    writer.append(np.zeros((1, 3), np.float32))
    assert read_entry(path) is None
    assert len(list(unfinished_paths())) == 1
    writer.discard()
    assert list(unfinished_paths()) == []


def test_many_writers_of_one_key_leave_one_valid_entry():
    path = entry_path("logits", "2" * 64)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.starmap(write, [(path, 7.0, 2000)] * 8)
    np.testing.assert_array_equal(read_entry(path).arrays["logits"], np.full((2000, 3), 7.0))
    assert list(unfinished_paths()) == []


def test_too_little_space_is_an_error_before_writing(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(OSError, match="100 bytes needed") as caught:
        write(entry_path("logits", "3" * 64))
    assert caught.value.errno == errno.ENOSPC
    assert list(unfinished_paths()) == []


def test_a_disk_that_fills_up_leaves_no_file(small_disk, monkeypatch):
    full_disk = small_disk("64k")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 40}))
    with pytest.raises(OSError) as caught:
        write(full_disk / "entry.safetensors", rows=20_000)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(full_disk) == []
