"""MoNA's update: both routes against each other, against brute differences, and against equation (9)."""

import pytest
import torch

from modgap.errors import UsageError
from modgap.targets import named_manifest
from modgap.training.methods.mona import mixed_product, mona_gradient, task_gradient_with_graph
from modgap.training.recipe import EmbedderStage, resolve_recipe
from tests.small_hub import loaded, small_hub  # noqa: F401 - fixture
from tests.training import Problem

ROUTES = ("exact", "finite-difference")
KINDS = {"vit": (1, 12, 10), "bert-mlm": (2, 24), "swin": (1, 12, 10), "resnet": (1, 12, 10)}


@pytest.fixture(scope="module", name="problem")
def small_problem(hub):
    def make(name, **options):
        hub(name)
        return Problem(loaded(name), KINDS[name], **options)

    return make


def flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()])


def relative(first, second):
    return float(torch.linalg.vector_norm(flat(first) - flat(second)) / torch.linalg.vector_norm(flat(second)))


def combined_loss(problem, embedder, settings):
    """Equation (5) at given embedder parameters, by its definition; gradients by theta only, steps by hand."""
    parameters = problem.at(**embedder)
    value = problem.task.gradient(parameters, problem.inner)[1] if settings.task_loss else 0.0
    for _ in range(settings.inner_steps):
        gradient, _ = problem.task.gradient(parameters, problem.inner)
        moved = {name: parameters[name] - settings.alpha * gradient[name] for name in problem.inner}
        parameters = problem.at(**{**embedder, **moved})
    return value + settings.weight * problem.outer.gradient(problem.model, parameters, problem.inner)[1]


def brute(problem, settings, direction, step=1e-5):
    """Derivative of equation (5) along a direction in the embedder's parameters."""
    sides = [
        combined_loss(problem, {n: problem.parameters[n] + s * direction[n] for n in direction}, settings)
        for s in (step, -step)
    ]
    return (sides[0] - sides[1]) / (2 * step)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("parts", [1, 3])
def test_routes_agree(problem, name, parts):
    case = problem(name, parts=parts)
    direction = {n: torch.randn_like(case.parameters[n]) for n in case.inner}
    names = [*case.embedder, *case.inner]
    _, _, graph = task_gradient_with_graph(case.task, case.parameters, names, case.inner, "exact")
    exact = mixed_product(case.task, case.parameters, direction, case.embedder, "exact", graph)
    without = mixed_product(case.task, case.parameters, direction, case.embedder, "exact")
    finite = mixed_product(case.task, case.parameters, direction, case.embedder, "finite-difference")
    assert relative(without, exact) < 1e-12
    assert relative(finite, exact) < 1e-5


@pytest.mark.parametrize("name", ["vit", "bert-mlm"])
@pytest.mark.parametrize(("steps", "route"), [(1, "exact"), (1, "finite-difference"), (2, "exact"), (3, "exact")])
@pytest.mark.parametrize("task_loss", [True, False])
def test_update_is_the_gradient_of_equation_5(problem, name, steps, route, task_loss):
    case = problem(name)
    settings = EmbedderStage(alpha=0.1, weight=0.7, inner_steps=steps, route=route, task_loss=task_loss)
    result = mona_gradient(case.task, case.outer, case.embedder, settings)
    torch.manual_seed(1)
    direction = {n: torch.randn_like(case.parameters[n]) for n in case.embedder}
    along = sum(float((result.gradient[n] * direction[n]).sum()) for n in direction)
    assert along == pytest.approx(brute(case, settings, direction), rel=1e-5)


@pytest.mark.parametrize("name", ["vit", "bert-mlm"])
def test_equation_9_is_approached_as_alpha_vanishes(problem, name):
    """The mixed term over alpha tends to the gradient of -<grad L_outer, grad L_t>, linearly in alpha."""
    case = problem(name)
    adjoint, _ = case.outer.gradient(case.model, case.parameters, case.inner)
    limit = mixed_product(case.task, case.parameters, adjoint, case.embedder, "exact")
    errors = []
    for alpha in (1e-1, 1e-2, 1e-3, 1e-4):
        settings = EmbedderStage(alpha=alpha, weight=1.0, route="exact", task_loss=False)
        result = mona_gradient(case.task, case.outer, case.embedder, settings).gradient
        errors.append(relative({n: result[n] / -alpha for n in result}, limit))
    assert errors == sorted(errors, reverse=True)
    assert errors[3] / errors[2] == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("route", ROUTES)
def test_weight_zero_leaves_the_task_gradient(problem, route):
    case = problem("vit")
    settings = EmbedderStage(alpha=0.1, weight=0.0, route=route)
    result = mona_gradient(case.task, case.outer, case.embedder, settings)
    alone, _ = case.task.gradient(case.parameters, case.embedder)
    assert relative(result.gradient, alone) < 1e-12
    assert result.scalars["mixed_share"] == 0


@pytest.mark.parametrize("route", ROUTES)
def test_parameters_stay_as_they_are(problem, route):
    case = problem("vit")
    before = {name: value.clone() for name, value in case.parameters.items()}
    settings = EmbedderStage(alpha=0.5, weight=1.0, route=route)
    mona_gradient(case.task, case.outer, case.embedder, settings)
    assert all(torch.equal(before[name], value) for name, value in case.parameters.items())


def test_share_of_the_mixed_product_is_logged(problem):
    case = problem("vit")
    settings = EmbedderStage(alpha=0.1, weight=0.5, route="exact")
    result = mona_gradient(case.task, case.outer, case.embedder, settings)
    alone, _ = case.task.gradient(case.parameters, case.embedder)
    mixed = flat(result.gradient) - flat(alone)
    expected = torch.linalg.vector_norm(mixed) / torch.linalg.vector_norm(flat(alone))
    assert result.scalars["mixed_share"] == pytest.approx(float(expected), rel=1e-9)


def test_more_steps_need_the_exact_route():
    overrides = ("stage1.inner_steps=2", "stage1.route=finite-difference")
    with pytest.raises(UsageError, match=r"stage1\.route=exact"):
        resolve_recipe(named_manifest("digits"), {}, overrides)
