"""`modgap targets`: the list of targets, and one manifest in full."""

import itertools
from dataclasses import replace
from importlib import resources

import pytest

import modgap as modgap_package
from modgap.errors import CUSTOM_DATA_FORMATS, UsageError
from modgap.ranking.source_patterns import parse_target_names
from modgap.sources import source_infos
from modgap.targets import manifest_names, named_manifest
from modgap.targets.catalog import has_license, is_open, select, target_infos

SECTIONS = [
    "description", "input", "output", "benchmark", "files", "downloads", "training",
    "published results (1 - F1, lower is better)", "unknown",
]  # fmt: skip


def test_the_list_has_task_classes_and_download_sizes(modgap):
    done = modgap("targets", NO_COLOR="1")
    assert done.returncode == 0
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert set(manifest_names()) <= set(rows)
    assert rows["target"] == ["target", "kind", "predicts", "size", "license", "here", "title"]
    title = named_manifest("cifar100").title.split()
    assert rows["cifar100"][1:] == ["image", "100", "classes", "169", "MB", "CC", "BY", "4.0", "no", *title]
    assert rows["deepsea"][2:4] == ["36", "labels"]
    assert rows["psicov"][2:7] == ["10", "clusters", "~", "1.1", "GB"]
    assert rows["ninapro"][4:7] == [">", "15", "MB"]
    assert rows["digits"][4:10] == ["57.5", "kB", "CC", "BY", "4.0", "yes"]
    assert rows["wine"][1:8] == ["table", "3", "classes", "11.2", "kB", "not", "stated"]
    assert rows["esc50"][1] == "sound"
    assert "covid-3month-levels (covid-3month)" in done.stdout
    assert CUSTOM_DATA_FORMATS in done.stdout


def names_of(done):
    """Names in the first column of a list."""
    assert (done.returncode, done.stderr) == (0, "")
    lines = itertools.takewhile(lambda line: not line.startswith(("Near copies", "Show")), done.stdout.splitlines()[3:])
    return [line.split()[0] for line in lines]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--kind", "sound"], ["audioset-20k", "esc50", "fsd50k"]),
        (["--kind", "SOUND", "--license", "nc"], ["esc50"]),
        (["--kind", "handwriting"], ["digits", "mnist5k"]),
        (["--kind", "video", "--license", "not stated"], ["ucf101"]),
        (["--kind", "image", "--license", "open"], [
            "cifar100", "cosmic", "darcy-flow", "digits", "fashion-mnist", "mnist5k", "spherical",
        ]),
    ],
)  # fmt: skip
def test_the_list_is_filtered_by_kind_and_license(modgap, arguments, names):
    shown = names_of(modgap("targets", *arguments))
    # Targets that are added later may have these kinds and licenses, too.
    assert [name for name in shown if name in names] == names
    infos = {info.name: info for info in target_infos()}
    kind = arguments[1].lower()
    assert all(kind in (infos[name].kind, *infos[name].modality.split()) for name in shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--kind", "smell"],
            "No target has the kind 'smell'. The kinds are image, series, sound, table, text, video.",
        ),
        (["--license", "beer"], "No target has the license 'beer'. Expected open, or words of a license such as mit"),
        (["--kind", "video", "--diverse"], "No target has the kind 'video' and is in @diverse."),
        (["wine", "--kind", "table"], "--kind, --license and --diverse filter the list."),
        (["wine", "--diverse"], "Leave them out, or leave out wine."),
    ],
)
def test_filters_that_leave_nothing_say_so(modgap, arguments, message):
    done = modgap("targets", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_pool_has_open_licenses_and_no_near_copies(modgap):
    shown = names_of(modgap("targets", "--diverse"))
    infos = {info.name: info for info in target_infos()}
    assert (
        shown == [info.name for info in modgap_package.list_targets(diverse=True)] == parse_target_names(["@diverse"])
    )
    assert "digits" in shown
    assert not {"wine", "esc50"} & set(shown)
    for name in shown:
        assert infos[name].is_installed
        assert is_open(infos[name].license)
        assert not set(infos[name].near_copies) & set(shown)


def test_a_near_copy_stays_where_the_pool_has_not_the_one_that_it_names():
    open_copies = {"license": "MIT", "is_installed": True}
    infos = [replace(info, **open_copies) if info.name.startswith("covid") else info for info in target_infos()]
    names = [info.name for info in select(infos, "target", diverse=True)]
    assert ("covid-3month" in names, "covid-3month-levels" in names) == (True, False)
    infos = [replace(info, is_installed=info.name != "covid-3month" and info.is_installed) for info in infos]
    assert "covid-3month-levels" in [info.name for info in select(infos, "target", diverse=True)]
    with pytest.raises(UsageError, match="No target is in @diverse"):
        select([replace(info, is_installed=False) for info in infos], "target", diverse=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MIT", True),
        ("MIT, for the package that contains the files", True),
        ("CC BY 4.0", True),
        ("CC BY-SA 3.0", True),
        ("GPL-3 or later (program)", True),
        ("ODC-BY 1.0", True),
        ("LGPL-3", True),
        ("CC0 and LGPL", True),
        ("CC BY-NC 3.0", False),
        ("CC BY-ND", False),
        ("Apache-2.0; models NC", False),
        ("GPL-3; terms of the weights unclear", False),
        ("MIT, for non-commercial use", False),
        ("not stated", False),
        ("not stated on its card", False),
        ("none, because the weights are random", False),
        ("Reuters Corpus: by agreement", False),
        ("", False),
    ],
)
def test_open_licenses(text, expected):
    assert is_open(text) is expected
    assert has_license(text, "open") is expected


def test_licenses_of_the_sources_and_targets_are_judged_as_they_are_read():
    """A new license is open, and then in `OPEN_LICENSE`, or it is named here."""
    closed = {info.license for info in (*target_infos(), *source_infos()) if not is_open(info.license)}
    known = {"not stated", "not stated on its card", "CC BY-ND", "CC BY-NC 3.0"}
    assert {text for text in closed - known if "NC" not in text and "unclear" not in text} == {
        named_manifest("conll2003").license
    }


def test_the_size_of_rounded_and_unknown_downloads_is_marked():
    infos = {info.name: info for info in target_infos()}
    assert (infos["psicov"].size_is, infos["ninapro"].size_is, infos["digits"].size_is) == (
        "rounded", "at least", "exact",
    )  # fmt: skip
    assert infos["audioset-20k"].size is None


def test_a_manifest_is_shown_by_section(modgap):
    done = modgap("targets", "ecg", NO_COLOR="1")
    lines = done.stdout.splitlines()
    assert lines[0] == f"ecg: {named_manifest('ecg').title}"
    assert [line for line in lines[1:] if line and not line.startswith(" ")] == SECTIONS
    shown = [" ".join(line.split()) for line in lines]
    for expected in (
        "classes 4: normal rhythm, atrial fibrillation, other rhythm, too noisy",
        "samples 260,000 train, 33,000 val, 33,000 test",
        "step windows (length = 1000, strides = 500, 83, 250, 25)",
        "data challenge2017.pkl",
        "challenge2017.pkl ~ 150 MB no checksum https://pde-xd.s3.amazonaws.com/ECG/challenge2017.pkl",
        "learning rate 1e-06",
        "MoNA 0.27 RoBERTa MoNA (ICML 2024), Tables 1 and 2",
        "Hand-designed 0.28 MoNA (ICML 2024), Table 1",
        "split_sizes The published numbers are rounded to thousands of windows.",
    ):
        assert expected in shown


def test_loss_and_metric_are_shown_with_their_options(capsys):
    from modgap.cli.targets import targets

    targets.main(["deepsea"], standalone_mode=False)
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "loss binary cross-entropy (positive_weight = 4)" in shown
    assert "metric 1 - AUROC" in shown


def test_the_selection_of_samples_is_shown(capsys, tmp_path):
    from modgap.cli.targets import targets

    manifest = resources.files("modgap.data_manifests").joinpath("wine.toml").read_text("utf-8")
    (tmp_path / "wine.toml").write_text(f'{manifest}\n[selection]\nclasses = {{ 0 = "red", 1 = "white" }}\n')
    targets.main([str(tmp_path / "wine.toml")], standalone_mode=False)
    assert "  selection  classes 0 = red, 1 = white\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", manifest_names())
def test_every_manifest_can_be_shown(name, capsys):
    from modgap.cli.targets import targets

    targets.main([name], standalone_mode=False)
    shown = capsys.readouterr().out
    manifest = named_manifest(name)
    assert shown.startswith(f"{name}: {manifest.title}\n")
    assert "None" not in shown.replace("None:", "")
    assert all(reason in shown for reason in manifest.unknown.values())
    assert all(url in shown for download in manifest.downloads for url in download.urls)


def test_long_texts_are_wrapped_and_indented_on_a_terminal(capsys, monkeypatch):
    import shutil
    import sys

    from modgap.cli.output import print_sections

    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **_options: type("Size", (), {"columns": 60})())
    print_sections("title", [("none", []), ("some", [("a", "word " * 20), ("long", "b")])])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "title"
    assert "none" not in lines
    assert all(len(line) <= 60 for line in lines)
    starts = [len(line) - len(line.lstrip()) for line in lines if "word" in line and not line.startswith("  a")]
    assert starts
    assert set(starts) == {8}
