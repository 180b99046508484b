"""Names that messages suggest, and nouns in the singular and plural."""

import tomllib
from pathlib import Path

import pytest

from modgap.errors import UsageError, unknown_name
from modgap.sources import open_source


@pytest.mark.parametrize(
    ("name", "suggestion"), [("resnet50", "timm:resnet50"), ("random:resnet50.a1_in1k", "random:timm:resnet50.a1_in1k")]
)
def test_the_name_of_a_timm_model_suggests_its_prefix(name, suggestion):
    with pytest.raises(UsageError, match=rf"Unknown source '{name}'. Did you mean {suggestion}\?"):
        open_source(name)


def test_a_name_that_timm_does_not_know_suggests_none_of_it():
    with pytest.raises(UsageError, match=r"Expected one of: .*minilm") as caught:
        open_source("zzqqxx50")
    assert "timm:zzqqxx50" not in str(caught.value)


def test_names_of_other_things_are_not_suggested(modgap):
    done = modgap("data", "fetch", "nosuch")
    assert done.returncode == 2
    assert "Did you mean" not in done.stderr
    assert "Did you mean cosmic?" in modgap("data", "fetch", "cosmik").stderr


def test_a_long_list_of_valid_names_is_cut():
    message = str(unknown_name("model", "x", [f"name{number:04}" for number in range(1300)]))
    assert message.endswith("name0099 and 1,200 more")


def test_one_entry_is_in_the_singular(modgap, own_cache):
    from modgap.storage.cache import entry_path

    assert modgap("cache", "ls").stdout.startswith("0 entries, 0 bytes in ")
    path = entry_path("logits", "a" * 64)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert "\n1 entry, 1 byte in " in modgap("cache", "ls").stdout
    assert "1 entry damaged." in modgap("cache", "verify").stdout
    assert modgap("cache", "prune", "--all").stdout == "deleted 1 file, 1 byte\n"


def test_the_demo_extra_reads_folders_of_sounds():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(extras["audio"]) <= set(extras["demo"])
