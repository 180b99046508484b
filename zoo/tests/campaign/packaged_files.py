"""Small valid files of the formats of packaged targets: databases, molecules, texts and data of R."""

import contextlib
import gzip
import io
import sqlite3
import tarfile
from pathlib import Path

import numpy as np

from tests.campaign.reader_files import Maker, Reader, beside, read_with
from tests.campaign.seed_files import make_file
from zoo.tests.r_data_files import call, factor, frame, s4, vector, write_rda, write_store

FRAME = frame(
    kind=factor([2, 1, 2, 1], ["a", "b"]),
    height=vector(np.arange(4, dtype=np.int32)),
    matrix=vector(np.arange(8) / 3, dim=vector(np.array([4, 2], np.int32))),
)
CATEGORIES = frame(
    kind=factor([2, 1, 2, 1], ["a", "b"]),
    sex=factor([1, 1, 2, -(2**31)], ["f", "m"]),
    height=vector(np.array([1, 2, -(2**31), 4], np.int32)),
    site=vector(["n", "s", "n", "e"]),
)
LANDMARKS = frame(kind=factor([2, 1], ["a", "b"]), x=vector(np.arange(12.0), dim=vector(np.array([3, 2, 2], np.int32))))
TEXT = b"1_1\t1.5\tgood\r\n1_2\t-2\tbad\r\n2_1\t0.25\tnot bad\r\n"
INNER, MEMBER = "package-1/data.tar.gz", "rated/tweets.txt"


def database(folder: Path) -> Path:
    path = make_file(folder, "data.db")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, kind TEXT, size REAL, rank INTEGER)")
        rows = [("ab"[number % 2], number / 7, number if number % 3 else None) for number in range(40)]
        connection.executemany("INSERT INTO t(kind, size, rank) VALUES (?, ?, ?)", rows)
        connection.commit()
    return path


def molecules(folder: Path) -> Path:
    path = make_file(folder, "data.sdf")
    record = "name\n\n\n  0  0  0  0  0  0            999 V2000\nM  END\n>  <smiles>  (1)\n{0}\n\n>  <y>\n{1}\n\n$$$$\n"
    path.write_text("".join(record.format("C" * number, number / 3) for number in range(1, 5)))
    return path


def _tar(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def rated_texts(compressed: bool) -> Maker:
    def make(folder: Path) -> Path:
        content = _tar(INNER, gzip.compress(_tar(MEMBER, TEXT), mtime=0))
        path = make_file(folder, "package-1.tar.gz")
        path.write_bytes(gzip.compress(content, mtime=0) if compressed else content)
        return path

    return make


def rda(compression: str) -> Maker:
    return lambda folder: write_rda(make_file(folder, "data.rda"), {"t": FRAME}, compression)


def rda_of(value: bytes) -> Maker:
    return lambda folder: write_rda(make_file(folder, "data.rda"), {"t": value}, "none")


def genotypes(folder: Path) -> Path:
    value = s4(
        tab=vector(np.array([1, 0, 0, 1], np.int32), dim=vector(np.array([2, 2], np.int32))),
        loc__fac=factor([1, 1], ["1"]),
        all__names=vector([vector(["a", "g"])]),
        pop=factor([1, 2], ["x", "y"]),
        call=call("new", a=vector(np.arange(2, dtype=np.int32))),
    )
    return write_rda(make_file(folder, "data.rda"), {"g": value}, "none")


def store(suffix: str, compression: str) -> Maker:
    def make(folder: Path) -> Path:
        write_store(make_file(folder, "data").parent, {"t": FRAME}, compression)
        return folder / f"data.{suffix}"

    return make


def written(name: str, content: str) -> Maker:
    def make(folder: Path) -> Path:
        path = make_file(folder, name)
        path.write_text(content)
        return path

    return make


MAIL = """From a Thu Aug 22 12:36:23 2002
Subject: x
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

caf=C3=A9
--b
Content-Type: text/html
Content-Transfer-Encoding: base64

PHA+eDwvcD4=
--b--
"""
CHAT = "conversations:\n- - Hi\n  - 'Hello: you'\n- &a [x, y]\n- *a\n"
_ENTRIES = read_with("text_files", beside(data="words"), entries="(?m)^(?P<label>.) (?P<text>.+)$")
_MAIL = read_with("text_files", beside(data="mail"), entries="mail")
_CONVERSATIONS = read_with("text_files", beside(data="chat.yml"), entries="conversations")
_DATABASE = read_with(
    "sqlite", beside(data="data.db"), table="t", label_column="kind", columns=["size", "rank"], missing_values="keep"
)  # fmt: skip
_MOLECULES = read_with("sdf", beside(data="data.sdf"), label_item="y", regression=True)
_RATED = read_with("rated_texts", beside(data="package-1.tar.gz"), archive=INNER, texts={"tweet": MEMBER}, label="sign")
_RDA = read_with("r_data", beside(data="data.rda"), object_name="t", label="kind")
_RDA_CATEGORIES = read_with(
    "r_data", beside(data="data.rda"), object_name="t", label="kind", categories=["sex"], group="site",
    missing_values="drop",
)  # fmt: skip
_RDA_ARRAY = read_with("r_data", beside(data="data.rda"), object_name="t", label="kind", array="x")
_GENOTYPES = read_with("r_data", beside(data="data.rda"), object_name="g", label="pop", text=True)
_STORE = read_with("r_data", beside(data="data.rdb", index="data.rdx"), object_name="t", label="kind")
READERS: list[tuple[str, Maker, Reader]] = [
    ("sqlite", database, _DATABASE),
    ("sdf", molecules, _MOLECULES),
    ("rated_texts", rated_texts(False), _RATED),
    ("rated_texts gz", rated_texts(True), _RATED),
    ("text_files", written("words", "a one\nb two\nc été\n"), _ENTRIES),
    ("text_files mail", written("mail", MAIL), _MAIL),
    ("text_files yaml", written("chat.yml", CHAT), _CONVERSATIONS),
    ("rda", rda("none"), _RDA),
    ("rda of categories", rda_of(CATEGORIES), _RDA_CATEGORIES),
    ("rda of an array", rda_of(LANDMARKS), _RDA_ARRAY),
    ("rda gzip", rda("gzip"), _RDA),
    ("rda bzip2", rda("bzip2"), _RDA),
    ("rda xz", rda("xz"), _RDA),
    ("rda genotypes", genotypes, _GENOTYPES),
    ("rdb zlib", store("rdb", "zlib"), _STORE),
    ("rdb bzip2", store("rdb", "bzip2"), _STORE),
    ("rdb lzma", store("rdb", "lzma"), _STORE),
    ("rdx", store("rdx", "zlib"), _STORE),
]
"""Name of the campaign, maker and reader of each format."""
