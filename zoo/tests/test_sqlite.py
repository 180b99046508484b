"""Tables of SQLite databases: what is read, and what is refused."""

import contextlib
import sqlite3

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.targets.readers import get_reader
from modgap_zoo.readers import sqlite

STARS = [("star", 1.5, 3), ("galaxy", None, 7), ("star", 2.5, None), ("nebula", -1.0, 2)]
OPTIONS = {"table": "objects", "label_column": "type", "columns": ["size", "rank"]}


@pytest.fixture
def database(tmp_path):
    """Return a function that writes a database with the statements of SQL after those of the stars."""

    def write(*statements):
        path = tmp_path / "sky.db"
        path.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE objects(id INTEGER PRIMARY KEY, type TEXT, size REAL, rank INTEGER)")
            connection.executemany("INSERT INTO objects(type, size, rank) VALUES (?, ?, ?)", STARS)
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        return path

    return write


def read(path, **changes):
    return get_reader("sqlite")({"data": [path]}, **{**OPTIONS, **changes})


def test_columns_of_a_table_with_missing_values(database):
    path = database()
    content = path.read_bytes()
    table = read(path, missing_values="keep")
    np.testing.assert_array_equal(table.samples.array[:, 0], [[1.5, 3], [np.nan, 7], [2.5, np.nan], [-1, 2]])
    assert (list(table.classes), list(table.labels)) == (["galaxy", "nebula", "star"], [2, 0, 2, 1])
    assert table.columns == ("size", "rank")
    # Nothing is written, and no file of a journal is left.
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["sky.db"]
    assert len(read(path, missing_values="drop")) == 2


@pytest.mark.parametrize(
    ("statements", "changes", "message"),
    [
        ((), {"table": "nothing"}, "it has no table 'nothing'. Its tables are: objects"),
        ((), {"table": 'objects"; DROP TABLE objects; --'}, "it has no table"),
        ((), {"columns": ["size", "sizes"]}, "it has no column 'sizes'. Its columns are: id, type, size, rank"),
        ((), {"columns": ['size" FROM objects; --']}, "it has no column"),
        ((), {"label_column": "kind"}, "it has no column 'kind'"),
        ((), {}, "expected a finite number in every cell, 2 are missing or infinite"),
        (("UPDATE objects SET type = NULL WHERE id = 2",), {"missing_values": "keep"}, "1 are missing"),
        (
            ("UPDATE objects SET size = 'large'",),
            {},
            "expected numbers in every column but the label, got text in size",
        ),
        (("UPDATE objects SET type = CAST(x'ff' AS TEXT)",), {}, "Could not decode to UTF-8"),
        (("DELETE FROM objects",), {}, "The table 'objects' of .*sky.db has no rows"),
        (("CREATE VIEW v AS SELECT * FROM objects",), {"table": "v"}, "it has no table"),
        (("CREATE VIRTUAL TABLE f USING fts5(type, size)",), {"table": "f"}, "it has no table"),
        (
            ("CREATE TABLE g(type TEXT, rank INTEGER, size REAL AS (abs(rank)))",),
            {"table": "g"},
            "it has no column 'size'. Its columns are: type, rank",
        ),
    ],
)
def test_what_does_not_fit_or_is_hostile_raises_a_one_line_error(database, statements, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        read(database(*statements), **changes)
    assert "\n" not in str(caught.value)


def test_sizes_and_times_are_limited(database, monkeypatch):
    with pytest.raises(InputError, match="too big"):
        read(database("INSERT INTO objects(type, size, rank) VALUES (hex(zeroblob(600000)), 1, 2)"))
    path = database("INSERT INTO objects(type, size, rank) SELECT a.type, 1, 2 FROM objects a, objects b, objects c")
    monkeypatch.setattr(sqlite, "MAX_DATABASE_SECONDS", -1.0)
    monkeypatch.setattr(sqlite, "INSTRUCTIONS_PER_CHECK", 1)
    with pytest.raises(InputError, match="it takes longer than"):
        read(path)
    monkeypatch.undo()
    monkeypatch.setattr(sqlite.Path, "stat", lambda path, **_: type("Stat", (), {"st_size": 100})())
    with pytest.raises(InputError, match="its rows have more content than the file has bytes"):
        read(path)


def test_a_file_that_is_absent_or_no_database(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the table 'objects' of the SQLite database .*No such file"):
        read(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()
    (tmp_path / "text.db").write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match="file is not a database"):
        read(tmp_path / "text.db")


def test_damage_of_any_page_is_an_input_error_or_nothing(database):
    path = database()
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in [*range(110), *rng.integers(0, len(content), 150).tolist()]:
        damaged = bytearray(content)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged if position % 3 else damaged[: position * 7])
        with contextlib.suppress(InputError):
            read(path, missing_values="keep")
