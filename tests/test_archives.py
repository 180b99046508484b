"""Hostile archives: none writes outside its folder, fills the memory or the disk, or causes a traceback."""

import contextlib
import gzip
import hashlib
import io
import lzma
import os
import resource
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile

import pytest

from modgap.errors import InputError
from modgap.storage.paths import parse_relative_path
from modgap.targets.download import extraction
from modgap.targets.download.extraction import extract
from tests.memory import PEAK

CONTENT = b"a,b\n1,2\n"


def tar(path, *members, mode="w", **options):
    """Write a tar file of (name or TarInfo, content) pairs."""
    with tarfile.open(path, mode, **options) as archive:
        for member in members:
            info, content = (
                member if isinstance(member[0], tarfile.TarInfo) else (tarfile.TarInfo(member[0]), member[1])
            )
            if info.isreg() and not info.size:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def info(name, kind=tarfile.REGTYPE, **fields):
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def packed(path, *members):
    """Write a zip file of (name or ZipInfo, content) pairs."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def zip_info(name, mode):
    made = zipfile.ZipInfo(name)
    made.create_system, made.external_attr = 3, mode << 16
    return made


def tar_header(name, size_field, kind=b"0"):
    """Return a header block with this size field and a valid checksum."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157] = size_field, kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def negative(size):
    return b"\xff" + (-size).to_bytes(11, "big", signed=True)


def overlapping_zip(path):
    """Write a zip file with many names for one compressed file, as in a zip bomb without nesting."""
    packed(path, ("a", bytes(1 << 20)))
    whole = path.read_bytes()
    start = whole.index(b"PK\x01\x02")
    end = whole.index(b"PK\x05\x06")
    local, central = whole[:start], whole[start:end]
    count = 500
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(central) * count, len(local), 0)
    path.write_bytes(local + central * count + tail)
    return path


def zip_of_other_size(path):
    packed(path, ("a", bytes(1 << 20)))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<L", 10)
    path.write_bytes(data)
    return path


def zip_of_other_name(path):
    packed(path, ("abcd", CONTENT))
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02")
    path.write_bytes(data[:at] + data[at:].replace(b"abcd", b"evil", 1))
    return path


def zip_with_nul(path):
    packed(path, ("abcd", CONTENT))
    path.write_bytes(path.read_bytes().replace(b"abcd", b"a\0cd"))
    return path


def encrypted_zip(path):
    packed(path, ("a", CONTENT))
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    return path


def lzma_zip(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", CONTENT)
    return path


def wrong_crc(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", CONTENT)
    path.write_bytes(path.read_bytes().replace(CONTENT, CONTENT.upper(), 1))
    return path


def wide_zip_directory(path):
    """Write a small archive with a directory of 20 MB."""
    packed(path, *((f"{number:0200}", b"") for number in range(45_000)))
    whole = path.read_bytes()
    start = whole.index(b"PK\x01\x02")
    stop = whole.index(b"PK\x05\x06")
    central = whole[start:stop] * 2
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(central), start, 0)
    path.write_bytes(whole[:start] + central + tail)
    return path


def pax_chain(path, count=3000):
    """Write a tar file whose headers each announce another one, which tarfile reads recursively."""
    block = tar_header("x", b"%011o\0" % 12, b"x") + b"12 path=abc\n".ljust(512, b"\0")
    path.write_bytes(block * count + bytes(1024))
    return path


def many_globals(path):
    with gzip.open(path, "wb", 1) as out:
        for number in range(40):
            text = f" k{number}=" + "v" * 3_000
            record = f"{len(text) + 5}{text}\n".encode()
            header = tar_header("g", b"%011o\0" % len(record), b"g")
            out.write(header + record.ljust(-(-len(record) // 512) * 512, b"\0"))
            out.write(tar_header(f"f{number}", b"%011o\0" % 0))
        out.write(bytes(1024))
    return path


def sparse_headers(path):
    """Write GNU's old sparse format with a very long list of holes."""
    first = bytearray(tar_header("s", b"%011o\0" % 0, b"S"))
    first[257:265] = b"ustar  \0"
    first[482] = 1
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    hole = (b"%011o\0" % 1) * 42 + b"\1"
    with gzip.open(path, "wb", 1) as out:
        out.write(first)
        for _ in range(400):
            out.write(hole.ljust(512, b"\0") * 100)
    return path


def gzip_bomb(path, size=512 << 20):
    with gzip.open(path, "wb", 1) as out:
        for _ in range(size >> 20):
            out.write(bytes(1 << 20))
    return path


def tar_gz_bomb(path, size=512 << 20):
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.addfile(info("zeros", size=size), io.BufferedReader(Zeros(size)))
    return path


class Zeros(io.RawIOBase):
    def __init__(self, size):
        self.left = size

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(len(buffer), self.left)
        buffer[:size] = bytes(size)
        self.left -= size
        return size


def endless_tail(path):
    tar(path, ("a", CONTENT), mode="w:gz")
    with gzip.open(path, "ab", 1) as out:
        for _ in range(128):
            out.write(bytes(1 << 20))
    return path


def truncated(make, share=0.5):
    def made(path):
        make(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        return path

    return made


def written(content):
    def made(path):
        path.write_bytes(content)
        return path

    return made


def random_bytes(size):
    return hashlib.shake_256(b"seed").digest(size)


HOSTILE = {
    "tar-absolute": (lambda p: tar(p, ("/tmp/modgap-evil", CONTENT)), "is an absolute path"),
    "tar-traversal": (lambda p: tar(p, ("a/../../evil", CONTENT)), "leads out of its folder"),
    "tar-dots-alone": (lambda p: tar(p, ("..", CONTENT)), "leads out of its folder"),
    "tar-symlink": (lambda p: tar(p, (info("l", tarfile.SYMTYPE, linkname="/etc"), b"")), "is a symbolic link"),
    "tar-symlink-then-through": (
        lambda p: tar(p, (info("l", tarfile.SYMTYPE, linkname=".."), b""), ("l/evil", CONTENT)),
        "is a symbolic link",
    ),
    "tar-hard-link": (
        lambda p: tar(p, ("a", CONTENT), (info("b", tarfile.LNKTYPE, linkname="/etc/passwd"), b"")),
        "is a hard link",
    ),
    "tar-device": (lambda p: tar(p, (info("d", tarfile.CHRTYPE, devmajor=1, devminor=3), b"")), "special file"),
    "tar-fifo": (lambda p: tar(p, (info("f", tarfile.FIFOTYPE), b"")), "special file"),
    "tar-unknown-kind": (written(tar_header("x", b"%011o\0" % 0, b"Z") + bytes(1024)), "special file"),
    "tar-twice": (lambda p: tar(p, ("a", CONTENT), ("a", b"other")), "is in it twice"),
    "tar-twice-spelled-otherwise": (lambda p: tar(p, ("a/b", CONTENT), ("./a//b", b"other")), "is in it twice"),
    "tar-file-as-folder": (lambda p: tar(p, ("a", CONTENT), ("a/b", CONTENT)), "is in it twice"),
    "tar-folder-as-file": (lambda p: tar(p, ("a/b", CONTENT), ("a", CONTENT)), "is in it twice"),
    "tar-deep": (lambda p: tar(p, ("d/" * 33 + "f", CONTENT)), "34 folders deep, more than 32"),
    "tar-long-name": (lambda p: tar(p, ("n" * 300, CONTENT), format=tarfile.PAX_FORMAT), "longer than 255 bytes"),
    "tar-long-path": (lambda p: tar(p, (("n" * 200 + "/") * 6, CONTENT), format=tarfile.GNU_FORMAT), "or 1024 in all"),
    "tar-control-characters": (lambda p: tar(p, ("a\x1b[2Jb", CONTENT)), "control characters"),
    "tar-backslash": (lambda p: tar(p, ("..\\evil", CONTENT)), "backslash"),
    "tar-drive": (lambda p: tar(p, ("C:/evil", CONTENT)), "is an absolute path"),
    "tar-not-utf8": (lambda p: tar(p, ("a\udcff", CONTENT), format=tarfile.GNU_FORMAT), "not UTF-8"),
    "tar-own-names": (lambda p: tar(p, ("x/modgap-lock.json", CONTENT)), "reserved for modgap"),
    "tar-own-folder": (lambda p: tar(p, (".Modgap/unpacked/a.json", CONTENT)), "reserved for modgap"),
    "tar-no-name": (lambda p: tar(p, ("./", CONTENT)), "a file has the name"),
    "tar-negative-size": (written(tar_header("a", negative(1 << 40)) + bytes(1024)), "headers|claims|backwards"),
    "tar-negative-pax": (written(tar_header("a", negative(512), b"x") + bytes(1024)), "headers|backwards|refused"),
    "tar-huge-size": (written(tar_header("a", b"\x80" + (1 << 60).to_bytes(11, "big"))), "claims 1,152,9"),
    "tar-huge-header": (written(tar_header("a", b"\x80" + (1 << 40).to_bytes(11, "big"), b"x")), "of headers before"),
    "tar-huge-long-name": (written(tar_header("a", b"%011o\0" % 0o7777777777, b"L")), "of headers before"),
    "tar-pax-chain": (pax_chain, "headers|recursion"),
    "tar-globals": (many_globals, "global headers"),
    "tar-sparse-headers": (sparse_headers, "of headers before"),
    "tar-cut-in-header": (truncated(lambda p: tar(p, ("a", b""), ("b", b"")), 0.07), "broken or cut off"),
    "tar-cut-in-file": (truncated(lambda p: tar(p, ("a", bytes(50_000)))), "unexpected end"),
    "tar-broken-second-header": (
        written(tar_header("a", b"%011o\0" % 0) + random_bytes(512) + bytes(1024)),
        "broken or cut off",
    ),
    "tar-gz-cut": (truncated(lambda p: tar(p, ("a", random_bytes(50_000)), mode="w:gz")), "ended before"),
    "tar-gz-bomb": (tar_gz_bomb, "the limit for all files"),
    "tar-gz-endless-tail": (endless_tail, "after its end"),
    "tar-empty": (lambda p: tar(p), "not a tar"),
    "tar-folders-alone": (lambda p: tar(p, (info("d", tarfile.DIRTYPE), b"")), "contains no files"),
    "gzip-bomb": (gzip_bomb, "the most that an archive of its size may hold"),
    "zip-absolute": (lambda p: packed(p, ("/tmp/modgap-evil", CONTENT)), "is an absolute path"),
    "zip-traversal": (lambda p: packed(p, ("../evil", CONTENT)), "leads out of its folder"),
    "zip-backslash": (lambda p: packed(p, ("..\\evil", CONTENT)), "backslash"),
    "zip-symlink": (lambda p: packed(p, (zip_info("l", stat.S_IFLNK | 0o777), b"/etc")), "is a symbolic link"),
    "zip-device": (lambda p: packed(p, (zip_info("d", stat.S_IFBLK | 0o600), b"")), "special file"),
    "zip-overlap": (overlapping_zip, "overlaps another file"),
    "zip-bomb": (lambda p: packed(p, ("z", bytes(256 << 20))), "claims 268,435,456 bytes"),
    "zip-lies-about-size": (zip_of_other_size, "CRC|claims|bytes"),
    "zip-lies-about-name": (zip_of_other_name, "differ"),
    "zip-nul-in-name": (zip_with_nul, "control characters"),
    "zip-encrypted": (encrypted_zip, "is encrypted"),
    "zip-other-method": (lzma_zip, "compressed by method 14"),
    "zip-wrong-crc": (wrong_crc, "CRC"),
    "zip-wide-directory": (wide_zip_directory, "directory claims"),
    "zip-cut": (truncated(lambda p: packed(p, ("a", random_bytes(50_000)))), "not a zip file"),
    "zip-empty": (written(b"PK\x05\x06" + bytes(18)), "contains no files"),
    "empty": (written(b""), "not a tar, tar.gz, zip or gzip file"),
    "page": (written(b"<html>log in first</html>"), "not a tar, tar.gz, zip or gzip file"),
    "noise": (written(random_bytes(4096)), "not a tar, tar.gz, zip or gzip file"),
    "xz": (written(lzma.compress(CONTENT)), "not a tar, tar.gz, zip or gzip file"),
    "gzip-noise": (written(b"\x1f\x8b" + random_bytes(4096)), "cannot unpack"),
    "gzip-of-nothing-named": (written(gzip.compress(CONTENT)), "has a name that ends in .gz"),
}
SUFFIX = {"gzip-bomb": ".csv.gz"}


def snapshot(folder):
    return sorted((str(path), path.lstat().st_size) for path in folder.rglob("*"))


@contextlib.contextmanager
def little_memory(size=1 << 30):
    """Limit the memory of this process to this many bytes beyond its current memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as memory:
        used = int(memory.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_in_one_line_and_write_nothing_outside(name, tmp_path):
    make, message = HOSTILE[name]
    archive = make(tmp_path / f"archive{SUFFIX.get(name, '.bin')}")
    before = snapshot(tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    with little_memory(256 << 20), pytest.raises(InputError, match=message) as caught:
        list(extract(archive, folder))
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    outside = [(path, size) for path, size in snapshot(tmp_path) if not path.startswith(str(folder))]
    assert outside == before
    assert not os.path.exists("/tmp/modgap-evil")
    assert sum(size for path, size in snapshot(folder)) <= max(64 << 20, 100 * archive.stat().st_size)
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_there_are_enough_hostile_archives():
    assert len(HOSTILE) >= 25


def test_limits_of_entries_and_bytes(tmp_path, monkeypatch):
    archive = tar(tmp_path / "a.tar", *((f"{number}", CONTENT) for number in range(20)))
    for folder in ("few", "small"):
        (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match="8 bytes; the limit for all files is 150 bytes"):
        list(extract(archive, tmp_path / "small", 150))
    monkeypatch.setenv("MODGAP_MAX_ARCHIVE_ENTRIES", "19")
    with pytest.raises(InputError, match="more than 19 files"):
        list(extract(archive, tmp_path / "few"))


def test_a_known_size_allows_a_large_ratio(tmp_path):
    archive = packed(tmp_path / "a.zip", ("z", bytes(100 << 20)))
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="claims"):
        list(extract(archive, tmp_path / "out"))
    (done,) = extract(archive, tmp_path / "out", 100 << 20)
    assert done[1] == 100 << 20


MEMBERS = (("top.csv", CONTENT), ("deep/er/ü.bin", random_bytes(3_000_000)), ("deep/empty", b""))
GOOD = {
    "tar": lambda p: tar(p, *MEMBERS, (info("deep/folder", tarfile.DIRTYPE), b"")),
    "tar-gnu": lambda p: tar(p, *MEMBERS, format=tarfile.GNU_FORMAT),
    "tar-pax": lambda p: tar(p, *MEMBERS, format=tarfile.PAX_FORMAT, pax_headers={"comment": "made by a tool"}),
    "tar-gz": lambda p: tar(p, *MEMBERS, mode="w:gz"),
    "zip": lambda p: packed(p, *MEMBERS),
}


@pytest.mark.parametrize("kind", GOOD)
def test_valid_archives_are_extracted_completely(kind, tmp_path):
    archive = GOOD[kind](tmp_path / "archive")
    folder, shares = tmp_path / "out", []
    folder.mkdir()
    done = list(extract(archive, folder, advance=shares.append))
    assert {str(path): (size, sha256) for path, size, sha256 in done} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in MEMBERS
    }
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == dict(MEMBERS)
    assert 0.9 < sum(shares) <= 1.0


LINKS = (info("a/link", tarfile.SYMTYPE, linkname="/etc"), b""), (info("a/disk", tarfile.BLKTYPE), b"")
PACKAGED = (("./a/one.csv", CONTENT), ("./a/b/two.csv", b"2"), ("./a/b/three.csv", b"3"), ("./c.csv", b"c"))
PACKAGES = {
    "tar-gz": lambda p: tar(p, *PACKAGED, *LINKS, mode="w:gz"),
    "zip": lambda p: packed(p, *PACKAGED, (zip_info("a/link", stat.S_IFLNK | 0o777), b"/etc")),
}


@pytest.mark.parametrize("kind", PACKAGES)
@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["a/one.csv"], ["a/one.csv"]),
        (["a/b"], ["a/b/three.csv", "a/b/two.csv"]),
        (["a"], ["a/b/three.csv", "a/b/two.csv", "a/one.csv"]),
        (["a/b/two.csv", "c.csv"], ["a/b/two.csv", "c.csv"]),
    ],
)
def test_named_members_alone_are_extracted(kind, members, expected, tmp_path):
    archive = PACKAGES[kind](tmp_path / "archive")
    (tmp_path / "out").mkdir()
    done = list(extract(archive, tmp_path / "out", members=members))
    assert sorted(str(path) for path, _, _ in done) == expected
    files = [path for path in (tmp_path / "out").rglob("*") if not path.is_dir() or path.is_symlink()]
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in files) == expected


@pytest.mark.parametrize("kind", PACKAGES)
@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["a/link"], "'a/link' is a symbolic link"),
        (["a/one.csv", "a/absent.csv"], "it has no file 'a/absent.csv'"),
        (["one.csv"], "it has no file 'one.csv'"),
        (["a/one.csv/x"], "it has no file 'a/one.csv/x'"),
    ],
)
def test_members_that_are_links_or_absent_are_refused(kind, members, message, tmp_path):
    archive = PACKAGES[kind](tmp_path / "archive")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=message):
        list(extract(archive, tmp_path / "out", members=members))
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_skipped_content_counts_and_skipped_names_are_checked(tmp_path):
    for number, (name, content, message) in enumerate(
        [("z", bytes(100 << 20), "claims 104,857,600 bytes"), ("../evil", b"", "leads out of its folder")]
    ):
        archive = tar(tmp_path / f"{number}.tar.gz", (name, content), ("a", CONTENT), mode="w:gz")
        (tmp_path / f"{number}").mkdir()
        with pytest.raises(InputError, match=message):
            list(extract(archive, tmp_path / f"{number}", members=["a"]))


def test_old_tar_and_single_gzip(tmp_path):
    block = bytearray(tarfile.TarInfo("old").tobuf(tarfile.USTAR_FORMAT))
    block[257:265] = bytes(8)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (tmp_path / "old.tar").write_bytes(bytes(block) + bytes(1024))
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(CONTENT) + gzip.compress(CONTENT))
    (tmp_path / "out").mkdir()
    assert [str(path) for path, _, _ in extract(tmp_path / "old.tar", tmp_path / "out")] == ["old"]
    (table,) = extract(tmp_path / "table.csv.gz", tmp_path / "out")
    assert str(table[0]) == "table.csv"
    assert (tmp_path / "out" / "table.csv").read_bytes() == CONTENT * 2


def test_permissions_and_owners_are_not_extracted(tmp_path):
    archive = tar(tmp_path / "a.tar", (info("run", mode=0o6777, uid=12345), b"#!/bin/sh\n"))
    (tmp_path / "out").mkdir()
    list(extract(archive, tmp_path / "out"))
    state = (tmp_path / "out" / "run").stat()
    assert (state.st_mode & 0o7111, state.st_uid) == (0, os.getuid())


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "", ".", "con/../x/../../y"])
def test_names_of_paths(name):
    if name in ("", "."):
        assert parse_relative_path(name).parts == ()
    else:
        with pytest.raises(ValueError, match=r"control|leads out"):
            parse_relative_path(name)


def test_part_of_a_small_disk_stays_free(tmp_path, small_disk):
    archive = tar(tmp_path / "a.tar", ("a", bytes(8 << 20)))
    with pytest.raises((InputError, OSError), match=r"are free in|No space left"):
        list(extract(archive, small_disk("2m")))


@pytest.mark.long
def test_a_million_names_need_little_memory(tmp_path):
    """The tarfile module keeps a kilobyte per member. The reader drops it, so a long archive needs little memory."""
    code = (
        f"{PEAK}\nimport sys, tarfile\n"
        "from pathlib import Path\n"
        "from modgap.targets.download.archives import iterate_entries\n"
        "stream = open(sys.argv[1], 'rb'); before = peak()\n"
        "count = sum(1 for _ in iterate_entries(Path(sys.argv[1]), stream, 0)); print(count, peak() - before)\n"
    )
    header = tar_header("f", b"%011o\0" % 0)
    with gzip.open(tmp_path / "many.tar.gz", "wb", 1) as out:
        for _ in range(100):
            out.write(header * 1000)
        out.write(bytes(1024))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "many.tar.gz")], capture_output=True, text=True, check=True
    )
    count, kilobytes = map(int, done.stdout.split())
    assert count == 100_000
    assert kilobytes < 20_000


@pytest.mark.parametrize("locks_work", [True, False])
def test_a_new_folder_that_another_process_removes_before_it_is_locked_is_replaced(tmp_path, monkeypatch, locks_work):
    lock, seen = extraction.try_lock, []

    def lock_later(folder):
        if not seen:
            extraction.remove_abandoned_folders(tmp_path)
        seen.append(folder)
        return lock(folder) if locks_work else None

    monkeypatch.setattr(extraction, "try_lock", lock_later)
    with extraction.temporary_folder(tmp_path / "a.zip") as folder:
        assert list(tmp_path.iterdir()) == [folder]
        if locks_work:
            extraction.remove_abandoned_folders(tmp_path)
            assert folder.is_dir()
    assert len(seen) == (2 if locks_work else extraction.MAX_NEW_FOLDERS)
    assert list(tmp_path.iterdir()) == []
