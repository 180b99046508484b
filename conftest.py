"""Every test and every doctest has a cache of its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the test's cache, which `MODGAP_CACHE` names."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MODGAP_CACHE", str(folder))
    return folder
