"""`modgap targets`: the list of targets, and one manifest in full."""

import pytest

from modgap.errors import CUSTOM_DATA_FORMATS
from modgap.targets import manifest_names, named_manifest

SECTIONS = [
    "description", "input", "output", "benchmark", "files", "downloads", "training",
    "published results (1 - F1, lower is better)", "unknown",
]  # fmt: skip


def test_the_list_has_task_classes_and_download_sizes(modgap):
    done = modgap("targets", NO_COLOR="1")
    assert done.returncode == 0
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert set(manifest_names()) <= set(rows)
    assert rows["target"] == ["target", "predicts", "download", "available", "title"]
    title = named_manifest("cifar100").title.split()
    assert rows["cifar100"][1:] == ["100", "classes", "169", "MB", "no", *title]
    assert rows["deepsea"][1:3] == ["36", "labels"]
    assert rows["psicov"][1:6] == ["10", "clusters", "~", "1.1", "GB"]
    assert rows["ninapro"][3:6] == [">", "15", "MB"]
    assert rows["digits"][3] == "yes"
    assert CUSTOM_DATA_FORMATS in done.stdout


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


def test_the_selection_of_samples_is_shown(capsys):
    from modgap.cli.targets import targets

    targets.main(["anticancer-peptides"], standalone_mode=False)
    assert "  selection  classes 0 = Random, 1 = ACP\n" in capsys.readouterr().out


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
