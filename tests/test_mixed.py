"""MoNA's update: both routes against each other, against brute differences, and against equation (9)."""

import pytest
import torch

from modgap.errors import UsageError
from modgap.transfer.gradients import VirtualSteps, mona_gradient, task_gradient
from modgap.transfer.mixed_product import ROUTES, derivative_along, first_pass
from tests.small_hub import loaded, small_hub  # noqa: F401 - fixture
from tests.training import Problem

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


def combined_loss(problem, embedder, how):
    """Equation (5) at given embedder parameters, by its definition; gradients by theta only, steps by hand."""
    parameters = problem.at(**embedder)
    value = problem.task.gradient(parameters, problem.inner)[1] if how.task_loss else 0.0
    for _ in range(how.steps):
        gradient, _ = problem.task.gradient(parameters, problem.inner)
        moved = {name: parameters[name] - how.alpha * gradient[name] for name in problem.inner}
        parameters = problem.at(**{**embedder, **moved})
    return value + how.weight * problem.outer.gradient(problem.model, parameters, problem.inner)[1]


def brute(problem, how, direction, step=1e-5):
    """Derivative of equation (5) along a direction in the embedder's parameters."""
    sides = [
        combined_loss(problem, {n: problem.parameters[n] + s * direction[n] for n in direction}, how)
        for s in (step, -step)
    ]
    return (sides[0] - sides[1]) / (2 * step)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("parts", [1, 3])
def test_routes_agree(problem, name, parts):
    given = problem(name, parts=parts)
    direction = {n: torch.randn_like(given.parameters[n]) for n in given.inner}
    names = [*given.embedder, *given.inner]
    first = first_pass(given.task, given.parameters, names, given.inner, "exact")
    exact = derivative_along(given.task, given.parameters, direction, given.embedder, "exact", first)
    without = derivative_along(given.task, given.parameters, direction, given.embedder, "exact")
    finite = derivative_along(given.task, given.parameters, direction, given.embedder, "finite-difference")
    assert relative(without, exact) < 1e-12
    assert relative(finite, exact) < 1e-5


@pytest.mark.parametrize("name", ["vit", "bert-mlm"])
@pytest.mark.parametrize(("steps", "route"), [(1, "exact"), (1, "finite-difference"), (2, "exact"), (3, "exact")])
@pytest.mark.parametrize("task_loss", [True, False])
def test_update_is_the_gradient_of_equation_5(problem, name, steps, route, task_loss):
    given = problem(name)
    how = VirtualSteps(alpha=0.1, weight=0.7, steps=steps, route=route, task_loss=task_loss)
    found = mona_gradient(given.task, given.outer, given.parameters, given.embedder, given.inner, how)
    torch.manual_seed(1)
    direction = {n: torch.randn_like(given.parameters[n]) for n in given.embedder}
    along = sum(float((found.gradient[n] * direction[n]).sum()) for n in direction)
    assert along == pytest.approx(brute(given, how, direction), rel=1e-5)


@pytest.mark.parametrize("name", ["vit", "bert-mlm"])
def test_equation_9_is_approached_as_alpha_vanishes(problem, name):
    """The mixed term over alpha tends to the gradient of -<grad L_outer, grad L_t>, linearly in alpha."""
    given = problem(name)
    adjoint, _ = given.outer.gradient(given.model, given.parameters, given.inner)
    limit = derivative_along(given.task, given.parameters, adjoint, given.embedder, "exact")
    errors = []
    for alpha in (1e-1, 1e-2, 1e-3, 1e-4):
        how = VirtualSteps(alpha, 1.0, route="exact", task_loss=False)
        found = mona_gradient(given.task, given.outer, given.parameters, given.embedder, given.inner, how).gradient
        errors.append(relative({n: found[n] / -alpha for n in found}, limit))
    assert errors == sorted(errors, reverse=True)
    assert errors[3] / errors[2] == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("route", ROUTES)
def test_weight_zero_leaves_the_task_gradient(problem, route):
    given = problem("vit")
    how = VirtualSteps(alpha=0.1, weight=0.0, route=route)
    found = mona_gradient(given.task, given.outer, given.parameters, given.embedder, given.inner, how)
    alone = task_gradient(given.task, given.parameters, given.embedder)
    assert relative(found.gradient, alone.gradient) < 1e-12
    assert found.scalars["mixed_share"] == 0


@pytest.mark.parametrize("route", ROUTES)
def test_parameters_stay_as_they_are(problem, route):
    given = problem("vit")
    before = {name: value.clone() for name, value in given.parameters.items()}
    how = VirtualSteps(alpha=0.5, weight=1.0, route=route)
    mona_gradient(given.task, given.outer, given.parameters, given.embedder, given.inner, how)
    assert all(torch.equal(before[name], value) for name, value in given.parameters.items())


def test_share_of_the_mixed_product_is_logged(problem):
    given = problem("vit")
    how = VirtualSteps(alpha=0.1, weight=0.5, route="exact")
    found = mona_gradient(given.task, given.outer, given.parameters, given.embedder, given.inner, how)
    alone = task_gradient(given.task, given.parameters, given.embedder).gradient
    mixed = flat(found.gradient) - flat(alone)
    expected = torch.linalg.vector_norm(mixed) / torch.linalg.vector_norm(flat(alone))
    assert found.scalars["mixed_share"] == pytest.approx(float(expected), rel=1e-9)


def test_more_steps_need_the_exact_route():
    with pytest.raises(UsageError, match=r"stage1\.route=exact"):
        VirtualSteps(alpha=0.1, weight=0.5, steps=2, route="finite-difference")
