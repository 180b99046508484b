"""The digest of a large file is noted, and the note is used until the file changes."""

import hashlib
import json
import os
import threading

import pytest

from modgap.errors import InputError
from modgap.storage import digests
from modgap.storage.digests import file_digest, folder_digest
from modgap.targets.download.data_directory import files_below

HOUR = 3600


@pytest.fixture
def large(tmp_path, monkeypatch):
    """Create a file above the threshold that was last changed an hour ago."""
    monkeypatch.setattr(digests, "MIN_BYTES_FOR_NOTE", 100)
    path = tmp_path / "weights.bin"
    write(path, b"a" * 200)
    return path


def write(path, content, age=HOUR):
    path.write_bytes(content)
    changed = path.stat().st_mtime - age
    os.utime(path, (changed, changed))


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def notes(cache):
    return sorted((cache / "digests").glob("*")) if (cache / "digests").exists() else []


@pytest.fixture
def hashed_files(monkeypatch):
    """Record the paths that are hashed, in order."""
    seen, real = [], digests._hash_file
    monkeypatch.setattr(digests, "_hash_file", lambda path: (seen.append(path), real(path))[1])
    return seen


def test_a_large_file_is_hashed_once(large, hashed_files, own_cache):
    assert [file_digest(large) for _ in range(3)] == [sha256(large)] * 3
    assert hashed_files == [large]
    assert len(notes(own_cache)) == 1


def test_a_link_is_the_same_file(large, hashed_files, tmp_path):
    (tmp_path / "link").symlink_to(large)
    assert file_digest(large) == file_digest(tmp_path / "link")
    assert len(hashed_files) == 1


@pytest.mark.parametrize("change", ["content", "length", "touched", "replaced", "restored-time"])
def test_any_change_is_detected(large, change, tmp_path):
    first = file_digest(large)
    before = large.stat()
    if change == "replaced":
        write(tmp_path / "other", b"b" * 200)
        os.utime(tmp_path / "other", ns=(before.st_mtime_ns, before.st_mtime_ns))
        os.replace(tmp_path / "other", large)
    elif change == "restored-time":
        large.write_bytes(b"b" * 200)
        os.utime(large, ns=(before.st_mtime_ns, before.st_mtime_ns))
    elif change == "touched":
        os.utime(large, (1, 1))
    else:
        write(large, b"b" * (200 if change == "content" else 300), age=10)
    assert file_digest(large) == sha256(large)
    assert (file_digest(large) == first) == (change == "touched")


def test_no_note_of_a_recently_changed_file(large, hashed_files, own_cache):
    for age in (0, -HOUR):
        write(large, b"c" * 200, age=age)
        assert file_digest(large) == file_digest(large) == sha256(large)
    assert len(hashed_files) == 4
    assert notes(own_cache) == []


def test_no_note_of_a_small_file(large, hashed_files, own_cache):
    write(large, b"d" * 99)
    assert file_digest(large) == file_digest(large)
    assert (len(hashed_files), notes(own_cache)) == (2, [])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"sha256": "0"}', "state only", "bad digest"]
)
def test_a_damaged_note_is_replaced(large, hashed_files, own_cache, content):
    file_digest(large)
    (note,) = notes(own_cache)
    record = json.loads(note.read_text())
    if content == "state only":
        del record["sha256"]
    elif content == "bad digest":
        record["sha256"] = "0" * 63 + "g"
    note.write_bytes(content if isinstance(content, bytes) else json.dumps(record).encode())
    assert file_digest(large) == sha256(large)
    assert json.loads(note.read_text())["sha256"] == sha256(large)
    assert len(hashed_files) == 2


def test_a_cache_that_cannot_be_written_is_no_error(large, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "file"))
    assert file_digest(large) == sha256(large)


def test_many_threads_write_one_complete_note(large, own_cache):
    digests_seen = []
    threads = [threading.Thread(target=lambda: digests_seen.append(file_digest(large))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(digests_seen) == {sha256(large)}
    assert len(notes(own_cache)) == 1


def test_unreadable_files_raise(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*gone: No such file"):
        file_digest(tmp_path / "gone")
    with pytest.raises(InputError, match="Is a directory"):
        file_digest(tmp_path)


def test_the_digest_of_a_folder_depends_on_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    files = [tmp_path / "a", tmp_path / "b"]
    first = folder_digest(tmp_path, files)
    assert folder_digest(tmp_path, files) == first
    (tmp_path / "b").write_text("3")
    assert folder_digest(tmp_path, files) != first
    (tmp_path / "b").rename(tmp_path / "c")
    (tmp_path / "c").write_text("2")
    assert folder_digest(tmp_path, [tmp_path / "a", tmp_path / "c"]) != first


def test_the_digest_of_a_large_folder_is_noted_until_a_file_changes(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    paths = [folder / f"{number}.bin" for number in range(20)]
    for number, path in enumerate(paths):
        write(path, bytes([number]) * 500_000)
    first = folder_digest(folder, paths)
    with monkeypatch.context() as within:
        within.setattr(digests, "_hash_folder", lambda *_: pytest.fail("it was read again"))
        assert folder_digest(folder, paths) == first
    before = paths[7].stat().st_mtime
    paths[7].write_bytes(b"x" * 500_000)
    os.utime(paths[7], (before, before))
    assert folder_digest(folder, paths) not in (first, folder_digest(folder, paths[:-1]))
    paths[3].unlink()
    with pytest.raises(InputError, match="cannot read"):
        folder_digest(folder, paths)


def test_hidden_files_and_folders_are_no_part_of_a_folder_of_data(tmp_path):
    for name in ("cat/1.png", "cat/.ipynb_checkpoints/1.png", ".git/config", "cat/.DS_Store", "b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert files_below(tmp_path) == [tmp_path / "b.txt", tmp_path / "cat" / "1.png"]
