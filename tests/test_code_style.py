"""The code reads as plain English: names say which thing, docstrings begin with a verb or noun, no line is a riddle."""

import ast
import functools
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("code_style", ROOT / "tools" / "code_style.py")
code_style = importlib.util.module_from_spec(SPEC)
sys.modules["code_style"] = code_style
SPEC.loader.exec_module(code_style)

FILES = code_style.python_files([ROOT / name for name in code_style.FOLDERS])
LIMITS = {
    "vague names": 0.005,
    "inverted docstrings": 0.0,
    "parallel assignments": 0.03,
    "functions over 50 lines": 0.0,
}
"""Largest share of the places where a habit could occur."""
PHRASES = re.compile(
    r"told apart|got wrong|gets? \S+ wrong|\bwhence\b|said aloud|found done|gone on with|goes on with|know nothing|"
    r"licence|\bits null\b(?! distribution)|passed over|a share of samples got",
    re.IGNORECASE,
)
WRITTEN = [
    path
    for folder, pattern in (
        ("modgap", "*.py"), ("modgap", "*.j2"), ("cli", "*.py"), ("benchmarks", "*.py"), ("tools", "*.py"),
        ("docs", "*.md"), ("data_manifests", "*.toml"), ("notebooks", "*.ipynb"), (".", "*.md"),
    )
    for path in sorted((ROOT / folder).glob(pattern) if folder == "." else (ROOT / folder).rglob(pattern))
]  # fmt: skip


@functools.cache
def counts():
    """Measure the habits when a test first asks, because each worker imports this file."""
    return code_style.measure(FILES)


@pytest.mark.parametrize("habit", LIMITS)
def test_habit_is_rare(habit):
    places, total = counts()[habit]
    assert len(places) <= LIMITS[habit] * total, "\n".join(places)


def test_no_sentence_has_a_phrase_that_readers_stumble_over():
    phrases = [
        f"{path.relative_to(ROOT)}:{number}: {line}"
        for path in WRITTEN
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if PHRASES.search(line)
    ]
    assert phrases == []


def test_files_are_short():
    longest = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in FILES}
    assert {name: length for name, length in longest.items() if length > 600} == {}


def test_bindings_of_every_kind_are_counted():
    code = "def f(a, *b, **c):\n    for d in e: g.h = d\n    with i as j: k: int = 1\nclass L: pass\nm, (n, *o) = p\n"
    names = {name for name, _ in code_style.bindings(ast.parse(code))}
    assert names == {"f", "a", "b", "c", "d", "h", "j", "k", "L", "m", "n", "o"}
