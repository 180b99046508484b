"""Inputs that were tracebacks once: names of users, numerals, deep nesting, and answers of broken hosts."""

import json

import pytest

from modgap.errors import InputError
from modgap.storage.damaged_files import convert_read_errors
from modgap.storage.json_records import parse_json, with_digest
from modgap.targets.manifest import load_manifest
from modgap.training.run_folder import open_run
from tests.loopback import Fault


@pytest.mark.parametrize(
    "arguments",
    [("discrepancy", "--logits", "~no-such-user/x.npz"), ("report", "~no-such-user/x"), ("compare", "~no-such-user/a")],
)
def test_the_home_of_an_unknown_user_is_named(modgap, arguments):
    done = modgap(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "~no-such-user" in done.stderr
    assert "a user that is not known here" in done.stderr


@pytest.mark.parametrize("numeral", ["²", "①", "½"])
def test_numerals_that_are_no_number_are_refused(modgap, own_logits, numeral):
    done = modgap("discrepancy", "--logits", own_logits, "--batch-size", numeral)
    assert (done.returncode, done.stderr) == (
        2,
        f"modgap: --batch-size is {numeral!r}, but it must be auto or a number of samples.\n",
    )


def test_nesting_that_is_too_deep_is_an_error_of_the_file(tmp_path):
    path = tmp_path / "deep.toml"
    path.write_text("a = " + "[" * 50_000)
    with pytest.raises(InputError, match="is not valid TOML"):
        load_manifest(path)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)


@pytest.mark.parametrize(
    ("name", "value"), [("provenance", []), ("provenance", {"source": "x", "target": {}}), ("seed", "0"), ("result", 1)]
)
def test_a_run_with_values_of_another_type_is_refused(tmp_path, name, value):
    record = {"schema": 1, "kind": "run", "seed": 0, "limit": None, "input_size": None, "result": None}
    record |= {"method": "m", "source": "s", "target": "t", "protocol": "orca", "recipe": {}, "inputs": {}}
    record |= {"provenance": {"source": {}, "target": {}}}
    (tmp_path / "run.json").write_text(with_digest(json.dumps(record)))
    assert not open_run(tmp_path).finished
    (tmp_path / "run.json").write_text(with_digest(json.dumps(record | {name: value})))
    with pytest.raises(InputError, match=f"values of another type for {name}"):
        open_run(tmp_path)


class PanicException(BaseException):
    """As pyo3 raises it."""


def test_panics_of_libraries_in_rust_are_errors_of_the_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot read arrays from .*x: overflow"), convert_read_errors(tmp_path / "x"):
        raise PanicException("overflow")
    with pytest.raises(KeyboardInterrupt), convert_read_errors(tmp_path / "x"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "fault",
    [
        Fault(redirect="http://[::1"),
        Fault(redirect="//"),
        Fault(headers={"Content-Length": "-5"}),
        Fault(headers={"Content-Length": "²"}),
    ],
    ids=["address", "empty", "negative", "numeral"],
)
def test_a_broken_answer_of_a_host_is_one_line(modgap, serve, tmp_path, fault, monkeypatch):
    monkeypatch.setattr("modgap.targets.download.http.FIRST_RETRY_DELAY", 0.0)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.bin").write_bytes(b"content")
    host = serve(tmp_path / "files")
    host.faults["a.bin"] = fault
    (tmp_path / "mine.toml").write_text(
        'schema = 1\nname = "mine"\ntitle = "Mine"\nmodality = "motion"\ntask = "classification"\nfiles = []\n'
        '[input]\nkind = "series"\n[reader]\nname = "arrays"\noptions = { kind = "series" }\n'
        f'[[downloads]]\npath = "a.bin"\nurls = ["{host.url}/a.bin"]\n'
    )
    done = modgap(
        "data", "fetch", tmp_path / "mine.toml", "--data-dir", tmp_path / "data", "--quiet", "--timeout", "0.2"
    )
    assert "unexpected" not in done.stderr
    assert all(line.startswith("modgap: ") for line in done.stderr.splitlines())
    assert done.returncode == 1
    assert "no host provides a.bin" in done.stderr.splitlines()[-1]
