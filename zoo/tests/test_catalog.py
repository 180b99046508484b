"""The list of targets with those of the zoo."""

from dataclasses import replace

import modgap as modgap_package
from modgap.targets.catalog import select, target_infos


def test_targets_of_the_zoo_are_listed_with_their_origin(modgap):
    done = modgap("targets", NO_COLOR="1")
    rows = {line.split()[0]: " ".join(line.split()) for line in done.stdout.splitlines() if line.strip()}
    assert "[modgap-zoo " in rows["crabs"]
    assert "fonts (glyphs); sentiment-source" in done.stdout
    names = [info.name for info in modgap_package.list_targets(kind="sound")]
    assert [name for name in names if name[:5] in ("notes", "spoke")] == [
        "notes", "spoken-digits", "spoken-languages", "spoken-stamps",
    ]  # fmt: skip


def test_the_pool_has_no_near_copies_of_the_zoo():
    names = {info.name for info in modgap_package.list_targets(diverse=True)}
    assert not {"fonts", "sentiment-source"} & names
    infos = [replace(info, is_installed=info.name != "glyphs") for info in target_infos()]
    assert "fonts" in [info.name for info in select(infos, "target", diverse=True)]


def test_sizes_and_selections_of_the_zoo_are_shown(modgap):
    assert {info.name: info for info in target_infos()}["spoken-digits"].size is None
    shown = modgap("targets", "anticancer-peptides", NO_COLOR="1").stdout
    assert "  selection  classes 0 = Random, 1 = ACP\n" in shown
