"""Layout, TF32 and compilation: which stage computes how, and that results stay the same."""

import contextlib
import functools

import pytest
import torch

from modgap.process.devices import tf32
from modgap.sources import open_source
from modgap.targets import open_target
from modgap.training.placement import call, forward_of, place
from modgap.training.recipe import Recipe
from modgap.training.task_loss import TaskLoss
from modgap.training.training_data import read_target_data
from tests.training import Problem, training_of


@pytest.mark.parametrize(
    ("method", "setting", "expected"),
    [
        ("emb", "stage1.route=finite-difference", (True, True)),
        ("mona", "stage1.route=finite-difference", (False, True)),
        ("mona", "stage1.route=exact", (True, True)),
        ("emb", "precision=float64", (False, False)),
        ("emb", "precision=bfloat16", (True, True)),
    ],
)
def test_tf32_is_off_where_it_would_do_harm(method, setting, expected):
    data = read_target_data(open_target("digits"), limit=60)
    source = open_source("vit-fashion").load(None, head=False)
    training = training_of(method, source, data, setting, "stage1.surrogate_samples=60")
    stages = training.method.stages_with_epochs(training.recipe)
    objectives = [stage.objective_class(training, stage, number) for number, stage in enumerate(stages)]
    assert tuple(objective.allows_tf32 for objective in objectives) == expected


def state() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("allowed", "expected"), [(True, ("high", True)), (False, ("highest", False))])
def test_tf32_is_set_within_the_block_alone(allowed, expected):
    before = state()
    with contextlib.suppress(KeyError), tf32(allowed):
        assert state() == expected
        raise KeyError
    assert state() == before


def gradients(problem: Problem, task: TaskLoss) -> torch.Tensor:
    found, _ = task.gradient(problem.parameters, list(problem.parameters))
    return torch.cat([value.reshape(-1) for value in found.values()])


def test_channels_last_changes_gradients_only_by_rounding():
    problem = Problem(open_source("random:timm:test_efficientnet").load(32), (3, 32, 32))
    before = gradients(problem, problem.task)
    weights = {name: value.clone() for name, value in problem.model.state_dict().items()}
    problem.model.to(memory_format=torch.channels_last)
    assert any(value.is_contiguous(memory_format=torch.channels_last) for value in problem.model.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in problem.model.state_dict().items())
    torch.testing.assert_close(gradients(problem, problem.task), before, rtol=1e-9, atol=1e-12)


def test_model_on_the_cpu_keeps_its_layout():
    problem = Problem(open_source("random:timm:test_efficientnet").load(32), (3, 32, 32))
    model = place(problem.model, torch.device("cpu"), torch.float32, convolutional=True)
    assert all(value.is_contiguous() for value in model.parameters())
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_convolutional_model_on_a_gpu_has_its_channels_last():
    problem = Problem(open_source("random:timm:test_efficientnet").load(32), (3, 32, 32))
    model = place(problem.model, torch.device("cuda"), torch.float32, convolutional=True)
    assert any(not value.is_contiguous() for value in model.parameters())


def test_only_stage_2_is_compiled():
    recipe = Recipe(compile_model=True)
    assert forward_of(recipe, "stage1") is call
    assert forward_of(recipe, "stage2") is not call
    assert forward_of(Recipe(), "stage2") is call


@pytest.mark.long
def test_compiled_model_has_the_same_gradients(monkeypatch):
    # The whole of the compilation but for the machine code, which takes a minute.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    problem = Problem(open_source("vit-fashion").load(None), (1, 8, 8), parts=2)
    compiled = TaskLoss(
        problem.model, problem.task.loss, problem.task.micro_batches, problem.task.count,
        forward=forward_of(Recipe(compile_model=True), "stage2"),
    )  # fmt: skip
    torch.testing.assert_close(gradients(problem, compiled), gradients(problem, problem.task), rtol=1e-9, atol=1e-12)
