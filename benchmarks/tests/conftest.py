"""Import the scripts of the benchmarks, and share fixtures with the tests of modgap."""

import importlib
import sys
from pathlib import Path

import pytest

from tests.conftest import default_log_level, skip_what_needs_absent_packages  # noqa: F401 - fixture

BENCHMARKS = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    """Skip the tests that need absent packages."""
    skip_what_needs_absent_packages([item for item in items if BENCHMARKS in item.path.parents])


@pytest.fixture
def import_benchmark(monkeypatch):
    """Import a script, whose folder is not a package; it is forgotten at the end of the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(BENCHMARKS):
            del sys.modules[name]
