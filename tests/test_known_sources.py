"""Sources that are known for a kind of target: their order, what it rests on, and what a target does not judge."""

import json
import tomllib
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from modgap.jobs import Backend
from modgap.ranking import known_sources as module
from modgap.ranking.known_sources import FEWEST_TARGETS, KnownSources, known_sources, known_sources_of, text_kind
from modgap.ranking.rank import rank
from modgap.ranking.types import RankRequest
from modgap.sources import source_infos
from modgap.targets import TargetRequest
from modgap.targets.custom import CustomData
from tests.commands import run_in_process
from tests.ranking_records import make_ranking

LISTS = tomllib.loads(resources.files("modgap.ranking").joinpath("known_sources.toml").read_text("utf-8"))
OF_KIND = [(method, kind) for method, lists in LISTS.items() for kind in lists]


def known_of(path, name=None, **custom):
    request = TargetRequest(str(path), CustomData.of(custom) if custom else None)
    target = request.open()
    manifest = target.manifest.model_copy(update={"name": name}) if name else target.manifest
    return known_sources_of(request, target.read(), manifest, "fine_tuned")


@pytest.mark.parametrize(("method", "kind"), OF_KIND)
def test_lists_are_in_the_order_of_their_errors(method, kind):
    of_kind = LISTS[method][kind]
    errors = list(of_kind["sources"].values())
    assert errors == sorted(errors)
    assert all(len(set(names)) == len(names) for names in of_kind["without"].values())
    assert of_kind["targets"] >= len(of_kind["without"])


@pytest.mark.parametrize("method", LISTS)
def test_a_recorded_target_is_judged_by_the_others_alone(method):
    for kind, of_kind in LISTS[method].items():
        if kind == module.ALL_KINDS:
            continue
        for target, names in of_kind["without"].items():
            known = known_sources(kind, target, method)
            assert known.targets == of_kind["targets"] - 1
            if not known.has_few_targets:
                assert list(known.names) == names
            else:
                everywhere = LISTS[method][module.ALL_KINDS]
                assert list(known.names) == (names if kind in ("text", "string") else everywhere["without"][target])


@pytest.mark.parametrize("kind", ["sound", "video", "field"])
def test_of_few_recorded_targets_sources_of_the_same_modality_come_first(kind):
    known = known_sources(kind)
    assert known.targets < FEWEST_TARGETS
    infos = source_infos()
    own = {info.name for info in infos if info.kind == {"video": "image"}.get(kind, kind)}
    order = known.order([info.name for info in infos])
    places = [name in own for name in order]
    assert places == sorted(places, reverse=True)
    # Within both parts the order is that over all kinds.
    everywhere = [*LISTS["fine_tuned"][module.ALL_KINDS]["sources"]]
    for part in (True, False):
        listed = [name for name in order if (name in own) == part and name in everywhere]
        assert listed == [name for name in everywhere if name in listed]
    assert known.origin.startswith(f"Only {known.targets or 'no'} target")


def test_the_order_does_not_depend_on_the_order_of_the_names():
    names = [info.name for info in source_infos()]
    known = known_sources("table")
    # Names that no list has keep their order, after the others.
    expected = [*known.names, *(name for name in names if name not in known.names)]
    assert known.order([*known.names[::-1], *(name for name in names if name not in known.names)]) == expected
    assert known.order(["unknown", "vit-fashion@64px"]) == ["vit-fashion@64px", "unknown"]


def texts_file(folder, values):
    path = folder / "texts.csv"
    path.write_text("\n".join(["text,label", *(f"{value},{number % 2}" for number, value in enumerate(values))]))
    return path


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["the film was dull"] * 40, "text"),
        (["MKTAYIAKQRQISFVKSHFSRQ"] * 40, "string"),
        (["C1=CC=CC=C1"] * 40, "string"),
        (["a b"] * 40, "string"),
        ([*["the film was dull"] * 20, *["MKTAYIAKQRQISFVKSHFSRQ"] * 20], "text"),
    ],
)
def test_texts_are_told_from_strings_by_spaces_and_length(values, kind):
    found, why = text_kind(values)
    assert found == kind
    assert f"count as {kind}s" in why
    assert text_kind(values[::-1])[0] == kind


def test_the_rule_is_shown_and_the_user_overrides_it(tmp_path):
    rng = np.random.default_rng(0)
    path = texts_file(tmp_path, ["".join(rng.choice([*"ACDEFGHIKL"], 20)) for _ in range(40)])
    known = known_of(path)
    assert known.kind == "string"
    assert known.why == (
        "The samples count as strings: 0 % of them have a space, and their median length is 20 characters. "
        'If they are texts, pass `custom_data={"kind": "text"}`.'
    )
    assert known.names == known_sources("string").names
    for told in ("text", "string"):
        assert known_of(path, kind=told) == known_sources(told)
    done = run_in_process("rank", "--target", str(path), "--kind", "field", "--sources", "minilm")
    assert done.returncode == 2
    assert "'string'" in done.stderr


@pytest.mark.parametrize(("kind", "value"), [("text", "MKTAYIAKQRQISFVKSHFSRQ"), ("string", "the film was dull")])
def test_recorded_texts_and_strings_have_the_kind_of_the_record(tmp_path, kind, value):
    path = texts_file(tmp_path, [value] * 40)
    for name in LISTS["fine_tuned"][kind]["without"]:
        known = known_of(path, name)
        assert (known.kind, known.why) == (kind, "")
        assert known == known_sources(kind, name)


def test_known_sources_that_are_not_on_this_machine_have_their_install_command():
    known = KnownSources("table", 9, ("not-a-source", "vit-fashion", "minilm"))
    ((name, command),) = [one for one in known.missing() if one[0] == "not-a-source"]
    assert name not in {info.name for info in source_infos()}
    assert command.startswith("pip install")
    assert known.known(["minilm", "other"]) == ["minilm"]


def test_the_answer_names_the_constant_answer_and_what_is_missing():
    known = KnownSources("table", 33, ("not-a-source", "vit-1", "vit-0"))
    ranking = replace(make_ranking(), known=known, constant="vit-1")
    record = json.loads(json.dumps(ranking.to_dict()))
    assert record["known_sources"]["constant_answer"] == "vit-1"
    (check,) = [one for one in record["verdict"]["checks"] if one["id"] == "known-sources"]
    assert check["values"]["missing"][0]["source"] == "not-a-source"


@pytest.mark.usefixtures("own_cache")
def test_a_ranking_of_a_shipped_target_names_the_first_known_source_that_could_be_run():
    request = RankRequest(by="size", scores=("size",), resamples=0, baselines="none", controls=False)
    ranking = rank("digits", ["vit-fashion", "efficientnet-lite0@64px"], request, Backend(1))
    names = known_sources("image", "digits").names
    expected = min(("vit-fashion", "efficientnet-lite0"), key=names.index)
    assert ranking.constant.startswith(expected)
    assert ranking.known.kind == "image"
