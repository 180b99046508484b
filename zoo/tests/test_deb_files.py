"""Packages of Debian: valid ones are extracted, and hostile ones write nothing outside, and fill no memory."""

import gzip
import hashlib
import lzma
import struct
import sys
import tarfile
import zlib

import pytest

from modgap.errors import InputError
from modgap.targets.download.extraction import extract
from modgap_zoo.deb_files import deb_entries
from tests.test_archives import (
    CONTENT,
    LINKS,
    MEMBERS,
    PACKAGED,
    info,
    little_memory,
    random_bytes,
    snapshot,
    tar,
    truncated,
    written,
)
from zoo.tests.deb_writers import ar_member, deb


def deb_of(make, name="data.tar.xz", pack=lzma.compress):
    """Return the function that writes a .deb with the tar file that another function writes."""

    def made(path):
        path.write_bytes(deb(pack(make(path.with_suffix(".tar")).read_bytes()), name))
        path.with_suffix(".tar").unlink()
        return path

    return made


def xz_of_large_dictionary(content):
    """Return an xz file whose header asks for 3 GiB of memory."""
    packed = bytearray(lzma.compress(content, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]))
    end = 12 + 4 * (packed[12] + 1)
    packed[16] = 39
    packed[end - 4 : end] = struct.pack("<I", zlib.crc32(packed[12 : end - 4]))
    return bytes(packed)


def zstd(content):
    return pytest.importorskip("pyarrow").compress(content, "zstd", asbytes=True)


HOSTILE = {
    "deb-traversal": (deb_of(lambda p: tar(p, ("./../../evil", CONTENT))), "leads out of its folder"),
    "deb-symlink": (deb_of(lambda p: tar(p, (info("l", tarfile.SYMTYPE, linkname="/etc"), b""))), "is a symbolic link"),
    "deb-bomb": (deb_of(lambda p: tar(p, ("z", bytes(100 << 20)))), "claims 104,857,600 bytes"),
    "deb-memory": (deb_of(lambda p: tar(p, ("a", CONTENT)), pack=xz_of_large_dictionary), "Memory usage limit"),
    "deb-cut": (truncated(deb_of(lambda p: tar(p, ("a", random_bytes(50_000))))), "ends within data.tar"),
    "deb-cut-xz": (deb_of(lambda p: tar(p, ("a", CONTENT)), pack=lambda tar: lzma.compress(tar)[:-40]), "its xz data"),
    "deb-cut-header": (written(b"!<arch>\n" + ar_member("debian-binary", b"2.0\n") + b"data"), "broken or cut off"),
    "deb-negative-size": (written(b"!<arch>\n" + ar_member("debian-binary", b"2.0\n", "-60")), "broken or cut off"),
    "deb-huge-size": (written(b"!<arch>\n" + ar_member("debian-binary", b"2.0\n", "9999999999")), "no data.tar"),
    "deb-no-data": (written(b"!<arch>\n" + ar_member("debian-binary", b"2.0\n") * 9), "no data.tar"),
    "deb-endless-members": (written(b"!<arch>\n" + ar_member("debian-binary", b"2.0\n") * 99), "no data.tar"),
    "deb-other-method": (deb_of(lambda p: tar(p, ("a", CONTENT)), "data.tar.lzma"), "neither by xz, gzip nor zstd"),
    "deb-noise": (deb_of(lambda p: tar(p, ("a", CONTENT)), pack=lambda _: random_bytes(4096)), "cannot unpack"),
    "ar-of-programs": (written(deb(b"", first="main.o")), "not a .deb"),
    "tar": (lambda p: tar(p, ("a", CONTENT)), "it is not a .deb file"),
    "empty": (written(b""), "it is not a .deb file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_packages_are_refused_in_one_line_and_write_nothing_outside(name, tmp_path):
    make, message = HOSTILE[name]
    archive = make(tmp_path / "archive.bin")
    before = snapshot(tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    with little_memory(256 << 20), pytest.raises(InputError, match=message) as caught:
        list(extract(archive, folder, entries=deb_entries))
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    outside = [(path, size) for path, size in snapshot(tmp_path) if not path.startswith(str(folder))]
    assert outside == before
    assert not any(path.is_symlink() for path in folder.rglob("*"))


GOOD = {
    "deb": deb_of(lambda p: tar(p, *MEMBERS)),
    "deb-gz": deb_of(lambda p: tar(p, *MEMBERS), "data.tar.gz", gzip.compress),
    "deb-plain": deb_of(lambda p: tar(p, *MEMBERS), "data.tar", bytes),
    "deb-zstd": deb_of(lambda p: tar(p, *MEMBERS), "data.tar.zst", zstd),
}


@pytest.mark.parametrize("kind", GOOD)
def test_valid_packages_are_extracted_completely(kind, tmp_path):
    archive = GOOD[kind](tmp_path / "archive")
    folder, shares = tmp_path / "out", []
    folder.mkdir()
    done = list(extract(archive, folder, advance=shares.append, entries=deb_entries))
    assert {str(path): (size, sha256) for path, size, sha256 in done} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in MEMBERS
    }
    assert 0.9 < sum(shares) <= 1.0


def test_named_members_alone_are_extracted_and_links_are_refused(tmp_path):
    archive = deb_of(lambda p: tar(p, *PACKAGED, *LINKS))(tmp_path / "archive")
    (tmp_path / "out").mkdir()
    done = list(extract(archive, tmp_path / "out", members=["a"], entries=deb_entries))
    assert sorted(str(path) for path, _, _ in done) == ["a/b/three.csv", "a/b/two.csv", "a/one.csv"]
    with pytest.raises(InputError, match="'a/link' is a symbolic link"):
        list(extract(archive, tmp_path / "out", members=["a/link"], entries=deb_entries))


def test_zstd_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    archive = GOOD["deb-zstd"](tmp_path / "archive")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"needs pyarrow\. Install it with: pip install 'modgap\[parquet\]'"):
        list(extract(archive, tmp_path / "out", entries=deb_entries))
