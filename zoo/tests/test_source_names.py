"""The names of sources and prefixes that the core knows of the zoo are those that the zoo brings."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from modgap.sources import source_infos
from modgap.sources.source import find_prefix
from modgap.testing import check_source
from modgap.zoo import zoo_names

GROUPS = {"source": "modgap.sources", "prefix": "modgap.source_prefixes"}
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


@pytest.mark.parametrize("kind", GROUPS)
def test_the_core_has_the_names_of_the_zoo(kind):
    stated = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["entry-points"][GROUPS[kind]]
    assert sorted(zoo_names(kind)) == sorted(stated)
    installed = metadata.distribution("modgap-zoo").entry_points.select(group=GROUPS[kind])
    assert {entry.name: entry.value for entry in installed} == stated, "Run: pip install --no-deps --editable ./zoo"


def test_all_sources_of_the_zoo_are_listed_under_their_names():
    infos = {info.name: info for info in source_infos()}
    assert set(zoo_names("source")) <= set(infos)
    for entry in metadata.entry_points(group="modgap.sources"):
        if entry.module == "modgap_zoo.sources":
            assert entry.load().describe() == infos[entry.name]
    assert all(find_prefix(f"{prefix}:name") for prefix in zoo_names("prefix"))


@pytest.mark.bundle
@pytest.mark.parametrize(
    "name", ["rxnfp", "crepe-tiny", "eeg-seizure", "musicnn", "ppocr", "resemblyzer", "silero-vad"]
)
def test_sources_pass_the_checks_of_plug_ins(name):
    (info,) = (one for one in source_infos() if one.name == name)
    if not info.is_installed:
        pytest.skip(f"{name} needs: {info.weights}")
    check_source(name)
