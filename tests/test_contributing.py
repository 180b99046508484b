"""The worked examples of CONTRIBUTING.md do what they say."""

import json
import re
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch
from safetensors.torch import load_file

import modgap
from modgap.answers.figures.files import write_figures
from modgap.discrepancy import figures
from modgap.errors import InputError, UsageError
from modgap.ranking import scores
from modgap.sources import open_source
from modgap.targets import open_target, readers
from modgap.testing import check_method, check_score
from modgap.training import methods
from modgap.training.recipe import resolve_recipe
from modgap.training.train import build_model
from modgap.training.training_data import read_target_data
from tests.figure_checks import assert_readable
from tests.training import run, target_file

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(language, beginning=""):
    blocks = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return next(text for text in blocks if text.startswith(beginning))


def test_the_manifest_is_taken(tmp_path):
    rng = np.random.default_rng(0)
    walkers = np.repeat(np.arange(12), 5)
    np.savez(tmp_path / "gait.npz", x=rng.normal(size=(60, 3, 500)), y=np.arange(60) % 3, groups=walkers)
    (tmp_path / "gait.toml").write_text(block("toml"))
    target = open_target(str(tmp_path / "gait.toml"))
    table = target.read()
    assert list(table.classes) == ["level", "stairs up", "stairs down"]
    assert table.samples[0].shape == (3, 500)
    assert (table.groups["groups"] == walkers).all()


def test_the_reader_reads_what_its_manifest_lists(tmp_path, monkeypatch):
    """As if its file lay in the folder of readers."""
    (tmp_path / "readers").mkdir()
    (tmp_path / "readers" / "walks.py").write_text(block("python", '"""Recordings in JSON'))
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path / "readers")])
    (tmp_path / "walks").mkdir()
    for number, name in enumerate(("anna", "ben")):
        windows = [{"signal": [[0.0, 1.0], [2.0, 3.0]], "terrain": number}] * 2
        (tmp_path / "walks" / f"{name}.json").write_text(json.dumps(windows))
    gait = tomllib.loads(block("toml")) | {"input": {"kind": "series"}, "classes": ["level", "stairs"]}
    manifest = tmp_path / "walks.toml"
    manifest.write_text(tomli_w.dumps(gait | tomllib.loads(block("toml", "group"))))
    table = open_target(str(manifest)).read()
    assert table.labels.tolist() == [0, 0, 1, 1]
    assert table.groups["groups"].tolist() == [0, 0, 1, 1]
    assert table.samples[3].tolist() == [[0, 1], [2, 3]]
    folder = tomllib.loads(block("toml", "group")) | {"files": [{"role": "data", "path": "walks"}]}
    manifest.write_text(tomli_w.dumps(gait | folder))
    with pytest.raises(InputError, match=r"got the folder .*walks\. List each file in a \[\[files\]\] block"):
        open_target(str(manifest)).read()


def files_of(section):
    """Return the files that a section names: those that exist, and those that it creates."""
    files = set(re.findall(r"[` ]((?:modgap|docs|tests|zoo)/[a-z_/0-9]+\.(?:py|md))`", section))
    existing = {file for file in files if (ROOT / file).is_file()}
    return existing, files - existing


@pytest.fixture(autouse=True)
def forget_examples():
    """Let the registries look for everything again after a test, whose examples lie in a folder of its own."""
    yield
    scores.SCORES.forget()
    methods.METHODS.forget()


def add_method(folder, monkeypatch, file, beginning):
    """Put an example into a file as if it lay in the folder of methods."""
    (folder / "methods").mkdir()
    (folder / "methods" / file).write_text(block("python", beginning))
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder / "methods")])
    methods.METHODS.forget()


def test_the_method_trains(tmp_path, monkeypatch):
    add_method(tmp_path, monkeypatch, "bitfit.py", '"""BitFit')
    assert methods.method_names()[-1] == "bitfit"
    target, name = target_file(tmp_path, "classification"), "random:timm:test_vit"
    done = run(tmp_path / "run", "bitfit", name, target, tmp_path, input_size=32)
    source, data = open_source(name).load(32, head=False), read_target_data(open_target(str(target)))
    start = build_model(
        source, data, resolve_recipe(data.target.manifest), methods.get_method("bitfit"), seed=0
    ).state_dict()
    end = load_file(done.weights)
    still = {name for name in start if torch.equal(start[name], end[name])}
    assert still == {name for name in start if name.startswith("encoder.") and not name.endswith(".bias")}
    assert any(name.startswith("encoder.") for name in start.keys() - still)


def test_a_method_with_a_new_objective_is_one_file_and_a_row_of_the_documentation(tmp_path, monkeypatch):
    section = TEXT[TEXT.index("### With a new objective") : TEXT.index("## Add a score")]
    existing, new = files_of(section)
    assert new == {"modgap/training/methods/confidence_penalty.py"}
    assert [file for file in existing if f"a row in the table of `{file}`" in section] == ["docs/training.md"]
    # Nothing but this file is needed: the method is listed, checked, trained, and its setting has an effect.
    add_method(tmp_path, monkeypatch, "confidence_penalty.py", '"""Confidence penalty')
    method = methods.get_method("confidence-penalty")
    check_method(method)
    assert methods.method_settings(method)["method"] == {"strength": (0.1, "Weight of the entropy of the outputs.")}
    assert methods.find_unused_settings(["method.strength=1", "stage1.epochs=1"], method) == ["stage1.epochs"]
    target, losses = target_file(tmp_path, "classification"), {}
    for strength in ("0", "0.3"):
        settings = (f"method.strength={strength}", "stage2.learning_rate=1e-3")
        done = run(tmp_path / strength, "confidence-penalty", "vit-fashion", target, tmp_path, *settings)
        losses[strength] = json.loads((done.folder / "metrics.jsonl").read_text().splitlines()[0])["loss"]
        assert done.record["recipe"]["method"] == {"strength": float(strength)}
    assert losses["0.3"] < losses["0"]
    plain = run(tmp_path / "plain", "finetune", "vit-fashion", target, tmp_path, "stage2.learning_rate=1e-3")
    assert json.loads((plain.folder / "metrics.jsonl").read_text().splitlines()[0])["loss"] == losses["0"]
    assert "method" not in plain.record["recipe"]
    with pytest.raises(UsageError, match=r"method\.strength: Input should be greater than or equal to 0"):
        run(tmp_path / "invalid", "confidence-penalty", "vit-fashion", target, tmp_path, "method.strength=-1")
    with pytest.raises(UsageError, match=r"Unknown setting 'method\.strength'"):
        run(tmp_path / "unknown", "finetune", "vit-fashion", target, tmp_path, "method.strength=1")
    again = run(tmp_path / "0", "confidence-penalty", "vit-fashion", target, tmp_path,
                "method.strength=0", "stage2.learning_rate=1e-3", resume=True)  # fmt: skip
    assert again.finished


def test_the_figure_is_written_by_one_file(tmp_path, monkeypatch):
    """As if the functions and the line of the recipe were in the one file that it names."""
    section = TEXT.partition("## Add a figure\n")[2].partition("\n## ")[0]
    functions, line = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert set(re.findall(r"modgap/[a-z_/]+\.py", section)) == {"modgap/discrepancy/figures.py"}
    source = Path(figures.__file__).read_text(encoding="utf-8")
    source = source.replace("def planned_figures(", f"{functions}\n\ndef planned_figures(") + line
    changed = types.ModuleType(figures.__name__)
    exec(compile(source, figures.__file__, "exec"), vars(changed))
    monkeypatch.setitem(sys.modules, figures.__name__, changed)
    result = modgap.estimate(np.eye(40, 4)[np.arange(40) % 4], np.arange(40) % 4)
    assert_readable(result.plot("samples"))
    assert result.to_frame("samples")["value"].tolist() == [10] * 4
    assert "samples.png" in [path.name for path in write_figures(changed.planned_figures(result), tmp_path)]
    assert "Number of tested samples of each class" in (tmp_path / "samples.txt").read_text()


def test_a_score_is_one_file_and_a_row_of_the_documentation(tmp_path, monkeypatch):
    assert files_of(TEXT.partition("## Add a score\n")[2].partition("\n## ")[0]) == (
        {"docs/ranking.md"},
        {"modgap/ranking/scores/silhouette.py"},
    )
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "silhouette.py").write_text(block("python", '"""Silhouette'))
    monkeypatch.setattr(scores, "__path__", [*scores.__path__, str(tmp_path / "scores")])
    scores.SCORES.forget()
    assert scores.score_names()[-1] == "silhouette"
    check_score("silhouette")
    target = str(target_file(tmp_path, "classification"))
    options = {
        "scores": ("silhouette",),
        "resamples": 20,
        "controls": False,
        "baselines": "none",
        "jobs": 1,
    }
    ranking = modgap.rank(target, ["random:vit-fashion"], by="silhouette", **options)
    score = ranking.to_dict()["sources"][0]["scores"]["silhouette"]
    assert -1 <= score["interval"][0] <= score["value"] <= score["interval"][1] <= 1
