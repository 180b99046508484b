"""The files of a release agree with pyproject.toml: the conda recipe, the constraints, the groups, the citation."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OTHER_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "seaborn": "seaborn-base",
    "huggingface-hub": "huggingface_hub",
}
"""Names of packages in conda-forge, where they differ."""


def requirements(texts):
    """Return the ranges of versions by name."""
    found = [Requirement(text) for text in texts if isinstance(text, str)]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def ranges(lines):
    """Return the ranges of versions by name from lines of the conda recipe such as `click >=8.1`."""
    return {line.partition(" ")[0]: SpecifierSet(line.partition(" ")[2]) for line in lines}


DEPENDENCIES = requirements(PROJECT["project"]["dependencies"])


def test_the_conda_recipe_has_the_requirements_of_the_package():
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())
    python = {"python": SpecifierSet(PROJECT["project"]["requires-python"])}
    expected = {OTHER_NAMES.get(name, name): needed.specifier for name, needed in DEPENDENCIES.items()}
    assert ranges(recipe["requirements"]["run"]) == expected | python
    build = requirements(PROJECT["build-system"]["requires"])
    expected = {name: needed.specifier for name, needed in build.items()}
    assert ranges(recipe["requirements"]["host"]) == expected | python | {"pip": SpecifierSet()}
    scripts = [f"{name} = {target}" for name, target in PROJECT["project"]["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    assert recipe["about"]["summary"] == PROJECT["project"]["description"]


def test_the_constraints_name_tested_versions_within_the_ranges():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    needed = dict(DEPENDENCIES)
    for extra in ("audio", "baselines", "demo", "ot", "parquet", "tensorboard", "video"):
        needed |= requirements(PROJECT["project"]["optional-dependencies"][extra])
    assert [name for name in needed if name not in tested] == []
    outside = [name for name, requirement in needed.items() if tested[name] not in requirement.specifier]
    assert outside == []
    assert not re.search(r"\+|@|://", "".join(tested.values()))


@pytest.mark.parametrize("group", ["bench", "docs", "lint", "release", "test"])
def test_the_group_for_development_includes_the_others(group):
    assert {"include-group": group} in PROJECT["dependency-groups"]["dev"]


def test_the_citation_names_the_license_and_the_authors():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["authors"] == [{"name": "The modgap authors"}]


def test_the_paper_is_short_fits_the_citation_and_has_its_references_and_figure():
    _, head, text = (ROOT / "paper" / "paper.md").read_text().split("---\n", 2)
    paper, citation = yaml.safe_load(head), yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert paper["title"] == citation["title"]
    assert [author["name"] for author in paper["authors"]] == [author["name"] for author in citation["authors"]]
    assert len(text.split()) <= 1500
    entries = re.findall(r"^@\w+\{(\w+),", (ROOT / "paper" / paper["bibliography"]).read_text(), re.MULTILINE)
    assert sorted(set(re.findall(r"@(\w+)", text))) == sorted(entries)
    (figure,) = re.findall(r"!\[[^\]]+\]\((\S+)\)", text)
    assert (ROOT / "paper" / figure).is_file()


def test_the_metadata_of_the_code_are_those_of_the_package():
    metadata = json.loads((ROOT / "codemeta.json").read_text())
    project = PROJECT["project"]
    assert {name: metadata[name] for name in ("name", "description", "keywords")} == {
        name: project[name] for name in ("name", "description", "keywords")
    }
    assert metadata["license"].endswith(f"/{project['license']}")
    assert metadata["runtimePlatform"] == f"Python {project['requires-python']}"
