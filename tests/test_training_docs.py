"""docs/training.md names all methods and settings, with the defaults that they have."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from modgap.forward.sample_request import SampleRequest
from modgap.targets import TargetRequest
from modgap.training.methods import get_method, method_names
from modgap.training.recipe import EmbedderStage, FullStage, OptimizerSettings, Recipe
from modgap.training.run_folder import SETTINGS
from modgap.training.train import TrainRequest

TEXT = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
ROWS = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if "|" in line]
STAGES = {"stage1": EmbedderStage, "stage2": FullStage}


def shown(value):
    """As a user writes it after --set."""
    return "[]" if value == () else str(value).lower()


def default(model, name):
    field = next(field for field_name, field in model.model_fields.items() if (field.alias or field_name) == name)
    value = field.get_default(call_default_factory=True)
    return shown(list(value) if value and isinstance(value, tuple) else value)


def documented():
    """Names of settings as --set takes them, and their defaults."""
    for row in ROWS:
        if row[0] in OptimizerSettings.model_fields or row[0] == "epochs":
            yield f"stage1.{row[0]}", row[1]
            yield f"stage2.{row[0]}", row[2]
        elif row[0].startswith(("stage1.", "stage2.")) or row[0] in Recipe.model_fields:
            yield row[0], row[1]


def test_all_settings_are_there_with_their_defaults():
    documented_defaults = dict(documented())
    wanted = {
        f"{stage}.{field.alias or name}": default(model, field.alias or name)
        for stage, model in STAGES.items()
        for name, field in model.model_fields.items()
    }
    wanted |= {name: default(Recipe, name) for name in Recipe.model_fields if name not in (*STAGES, "method")}
    assert {name: documented_defaults.get(name) for name in wanted} == wanted


def test_all_methods_are_there():
    table = [row for row in ROWS if row[0] in method_names()]
    assert [row[0] for row in table] == method_names()
    for row in table:
        assert ("stage 1" in row[1]) == get_method(row[0]).has_embedder_stage


@pytest.mark.parametrize("part", ["model.safetensors", "stage1.safetensors", "metrics.jsonl", "run.json"])
def test_files_of_a_run_are_there(part):
    assert any(row[0] == part for row in ROWS)


def test_example_in_python_is_a_request():
    code = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    made: dict = {}
    exec(
        re.search(r"TrainRequest\(.*?\)(?=, Path)", code)[0].join(("found = ", "")),
        {"TrainRequest": TrainRequest, "target": TargetRequest("digits"), "samples": SampleRequest(limit=500)},
        made,
    )
    assert made["found"].overrides == ("stage1.alpha=0.1",)
    assert set(SETTINGS) >= {"method", "recipe"}


def test_examples_log_every_epoch(monkeypatch):
    """The packages need not be installed: modules in their place note what they are called with."""
    logged = {"wandb": [], "mlflow": []}
    wandb = SimpleNamespace(init=lambda project: None, log=logged["wandb"].append)
    mlflow = SimpleNamespace(log_metrics=lambda numbers, step: logged["mlflow"].append((numbers, step)))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    line = {"stage": "stage2", "epoch": 1, "loss": 0.5, "total_updates": 7}
    api = SimpleNamespace(train=lambda *arguments, on_epoch_end: on_epoch_end(line))
    examples = re.findall(r"```python\n(import (?:wandb|mlflow)\n.*?)```", TEXT, re.DOTALL)
    assert len(examples) == 2
    for code in examples:
        exec(code, {"modgap": api})
    assert logged == {"wandb": [line], "mlflow": [({"loss": 0.5}, 7)]}
