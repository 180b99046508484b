"""Atomic writes, strict JSON and locks between processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.storage.array_formats import read_safetensors_header
from modgap.storage.atomic_files import atomic_path, temporary_path, write_text_atomically
from modgap.storage.json_records import format_json, parse_json, plain_values, read_json, write_json
from modgap.storage.locks import locked, try_lock, unlock


def test_a_failed_write_keeps_the_previous_file(tmp_path):
    path = tmp_path / "folder" / "record.txt"
    write_text_atomically(path, "first")
    with pytest.raises(FileNotFoundError), atomic_path(path) as temporary:
        temporary.rename(tmp_path / "elsewhere")
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["record.txt"]


def test_undecodable_names_are_written_as_escapes(tmp_path):
    write_text_atomically(tmp_path / "classes.csv", "caf\udce9")
    assert (tmp_path / "classes.csv").read_bytes() == rb"caf\udce9"


def test_a_published_file_has_the_permissions_of_the_umask(tmp_path):
    previous = os.umask(0o027)
    try:
        write_text_atomically(tmp_path / "a", "text")
    finally:
        os.umask(previous)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_temporary_names_are_hidden_different_and_not_too_long(tmp_path):
    names = {temporary_path(tmp_path / ("n" * 255)).name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".") and name.endswith(".part") and len(name) < 100 for name in names)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_numbers_that_are_not_finite(tmp_path, value):
    with pytest.raises(ValueError, match="Out of range"):
        format_json({"value": value})
    with pytest.raises(ValueError, match="not allowed"):
        parse_json(json.dumps({"value": value}))
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"value": value})
    assert os.listdir(tmp_path) == []
    assert plain_values({"value": np.float64(value), "list": np.array([value, 1])}) == {
        "value": None,
        "list": [None, 1],
    }


def test_json_objects_are_read_back(tmp_path):
    record = {"name": "ü", "values": [1, 2.5, None, True]}
    write_json(tmp_path / "a.json", record)
    assert read_json(tmp_path / "a.json") == record
    assert read_json(tmp_path / "b.json") == {}


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON"), ("[]", "not a JSON object but list")])
def test_a_damaged_json_file_is_an_input_error(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "a.json")


def test_a_locked_file_cannot_be_locked_by_another_process(tmp_path):
    path = tmp_path / "a"
    path.touch()
    code = "import sys; from pathlib import Path; from modgap.storage.locks import try_lock\n"
    code += "print(try_lock(Path(sys.argv[1])) is None)"
    command = [sys.executable, "-c", code, str(path)]
    with locked(path) as obtained:
        assert obtained
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_missing_file_is_not_locked(tmp_path):
    assert try_lock(tmp_path / "missing") is None
    unlock(None)
    with locked(tmp_path / "missing") as obtained:
        assert not obtained


def test_a_damaged_safetensors_header_is_a_value_error(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="header"):
        read_safetensors_header(tmp_path / "a.safetensors")
