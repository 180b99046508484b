"""Text from outside reaches the terminal without control characters: class names, paths, errors, and hosts' words."""

import io
import logging
import re
import sys
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
import tomli_w

from modgap.cli import output
from tests.loopback import Fault, write_manifest_of_download

CLEAR, TITLE, CLIPBOARD = "\x1b[2J", "\x1b]0;owned\x07", "\x1b]52;c;bWFs\x07"
BIDI, C1 = "\u202egnp.\u202c", "\x9b31m"
HOSTILE = CLEAR + TITLE + CLIPBOARD + BIDI + C1
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def assert_clean(done):
    for stream in (done.stdout, done.stderr):
        assert CONTROL.findall(stream) == []


@pytest.fixture
def hostile_logits(tmp_path):
    """Logits of three classes whose names have control characters, in a file whose name has them, too."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 30)
    logits = rng.standard_normal((90, 12)).astype(np.float32)
    names = np.array([f"{HOSTILE}{number}" for number in range(3)])
    sources = np.array([f"{HOSTILE}s{number}" for number in range(12)])
    path = tmp_path / f"{CLEAR}{BIDI}.npz"
    np.savez(path, logits=logits, labels=labels, class_names=names, source_class_names=sources)
    return path


def test_class_names_and_paths_in_the_results(modgap, hostile_logits):
    done = modgap("discrepancy", "--logits", hostile_logits, "--permutations", "0")
    assert done.returncode == 0, done.stderr
    assert "‹U+001B›[2J" in done.stdout
    assert "‹U+202E›gnp." in done.stdout
    assert_clean(done)


@pytest.mark.parametrize(
    "arguments",
    [
        ("discrepancy", "--logits", f"no{HOSTILE}.npz"),
        ("discrepancy", "--source", f"no{HOSTILE}", "--target", "digits"),
        ("targets", f"no{HOSTILE}"),
        (f"no{HOSTILE}",),
        ("report", f"no{HOSTILE}"),
        ("data", "path", f"no{HOSTILE}"),
    ],
)
def test_errors(modgap, arguments):
    done = modgap(*arguments)
    assert done.returncode in (1, 2)
    # A quoted name is escaped as in Python already.
    assert "‹U+001B›[2J" in done.stderr or "\\x1b[2J" in done.stderr
    assert_clean(done)


def test_a_manifest_in_lists_and_the_log(modgap, tmp_path):
    record = {
        "schema": 1, "name": "mine", "title": f"A{HOSTILE}", "modality": f"b{HOSTILE}", "task": "classification",
        "license": HOSTILE, "notes": HOSTILE, "classes": [f"a{HOSTILE}", f"b{HOSTILE}", f"c{HOSTILE}"],
        "input": {"kind": "series", "unit": HOSTILE}, "reader": {"name": "arrays", "options": {"kind": "series"}},
        "files": [{"role": "data", "path": "x.npz"}],
    }  # fmt: skip
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(record))
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((20, 1, 30)), y=np.arange(20) % 2)
    done = modgap("targets", tmp_path / "mine.toml")
    assert (done.returncode, "‹U+001B›[2J" in done.stdout) == (0, True)
    assert_clean(done)
    done = modgap("discrepancy", "--source", "vit-fashion", "--target", tmp_path / "mine.toml", "--permutations", "0")
    assert "names 3 classes" in done.stderr
    assert_clean(done)


@pytest.fixture
def log():
    """Return modgap's logger, whose handlers and level are restored."""
    logger = logging.getLogger("modgap")
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.parametrize("quiet", [True, False])
def test_log_messages(capsys, log, quiet):
    output.log_to_stderr(quiet)
    log.warning("the file %s is odd", f"a{HOSTILE}")
    text = capsys.readouterr().err
    assert "the file a‹U+001B›[2J" in text
    assert CONTROL.findall(text) == []


def test_a_warning_is_written_once(capsys, log):
    output.log_to_stderr(False)
    for name in ("A", "A", "B"):
        log.warning("1 class has few samples: %s", name)
        log.info("at work")
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "class" in line] == [f"modgap: 1 class has few samples: {n}" for n in "AB"]
    assert lines.count("modgap: at work") == 3


def test_the_reason_of_a_host(modgap, serve, tmp_path, monkeypatch):
    monkeypatch.setenv("MODGAP_DATA", str(tmp_path / "data"))
    (tmp_path / "origin").mkdir()
    host = serve(tmp_path / "origin")
    host.faults["x.npz"] = Fault(status=404)
    monkeypatch.setitem(BaseHTTPRequestHandler.responses, 404, ("Gone\x1b]0;owned\x07", ""))
    write_manifest_of_download(tmp_path / "mine.toml", f"{host.url}/x.npz")
    done = modgap("data", "fetch", tmp_path / "mine.toml")
    assert done.returncode == 1
    assert "404 Gone‹U+001B›]0;owned‹U+0007›" in done.stderr
    assert_clean(done)


def test_results_print_names_without_control_characters():
    import modgap

    rng = np.random.default_rng(0)
    names = ["cat\x1b[2J", "dog\u202e"]
    logits = rng.standard_normal((40, 4)).astype(np.float32)
    result = modgap.estimate(logits, np.arange(40) % 2, target_classes=names, estimators="search", permutations=0)
    for text in (str(result), repr(result)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "\n" in str(result)


def test_progress_bars_vanish_from_a_terminal_and_leave_the_cursor_at_the_start_of_a_line(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with output.progress_bars(quiet=False) as progress:
        for stage in ("search", "permutations"):
            progress(stage, 0.4)
            progress(stage, 0.6)
        shown = terminal.getvalue()
    assert "search:" in shown
    assert "permutations:" in shown
    cleared = terminal.getvalue()[len(shown) :]
    assert cleared.replace("\x1b[A", "").strip() == ""
    assert cleared.endswith("\r")
