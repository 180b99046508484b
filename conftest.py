"""Every test and every doctest has a cache of its own."""

import itertools
from pathlib import Path

import pytest

NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the test's cache, which `MODGAP_CACHE` names."""
    # A numbered folder of pytest would be slower with each test, because pytest lists all earlier ones for the number.
    folder = tmp_path_factory.getbasetemp() / "caches" / str(next(NUMBERS))
    folder.mkdir(parents=True)
    monkeypatch.setenv("MODGAP_CACHE", str(folder))
    return folder
