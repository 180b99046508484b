"""Each script of the benchmarks can be imported; what it measures is not repeated here."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if path.name != "test_speed.py"
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_imported(name, monkeypatch):
    # A script finds its neighbors as modules of their own, as when it is run.
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    importlib.import_module(name)
