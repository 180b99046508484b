"""MoNA's mixed product: both routes against each other and against brute differences, and equation (9) as a limit.

    python benchmarks/mixed_product.py    about two minutes on two cores

A small vision transformer and a BERT (6 x 384), random weights, float64. Printed are relative differences in the
norm of the embedder's gradient; the brute derivative is of equation (5) itself along one random direction, by central
differences with a relative step of 1e-6.
"""

import torch

from modgap.models import Output, target_model
from modgap.sources import open_source
from modgap.transfer.gradients import OuterLoss, VirtualSteps, mona_gradient
from modgap.transfer.losses import loss
from modgap.transfer.methods import get_method
from modgap.transfer.mixed_product import derivative_along
from modgap.transfer.objectives import objective
from modgap.transfer.task_loss import MicroBatch, TaskLoss

MODELS = {
    "ViT (test_vit, 64 px)": ("random:timm:test_vit", 64, (1, 12, 10)),
    "BERT (6 x 384)": ("random:minilm", None, (2, 24)),
}
ALPHA, SAMPLES, CLASSES = 1e-2, 6, 3


def problem(name: str):
    """L_t, L_outer, all parameters, names of the embedder's and of the rest."""
    torch.manual_seed(0)
    source, size, shape = MODELS[name]
    output = Output("classification", (CLASSES,))
    model = target_model(open_source(source).load(size, head=False), torch.zeros(shape), output)
    model.double().eval()
    x, y = torch.randn(SAMPLES, *shape, dtype=torch.float64), torch.arange(SAMPLES) % CLASSES
    task = TaskLoss(model, loss("cross-entropy"), (MicroBatch(x, y),), SAMPLES)
    tokens = model.embed(x).detach()
    entering = tokens + 0.3 * torch.randn_like(tokens)
    outer = OuterLoss(lambda held: held.encode(entering).mean(1), y, objective("alignment-uniformity"))
    parameters = dict(model.named_parameters())
    embedder = get_method("mona").stages[1].select_parameters(model)
    return task, outer, parameters, embedder, [n for n in parameters if n not in embedder]


def flat(tensors: dict) -> torch.Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()])


def mixed(task, outer, parameters, embedder, inner, alpha: float, route: str) -> torch.Tensor:
    """The embedder's mixed term alone, without lambda."""
    how = VirtualSteps(alpha, 1.0, route=route, task_loss=False)
    return flat(mona_gradient(task, outer, parameters, embedder, inner, how).gradient)


def outer_after_step(task, outer, parameters, inner, alpha: float) -> float:
    """L_outer after the virtual step, by its definition."""
    gradient, _ = task.gradient(parameters, inner)
    moved = {n: (parameters[n] - alpha * gradient[n]).detach().requires_grad_() for n in inner}
    return outer.gradient(task.model, {**parameters, **moved}, inner)[1]


def brute(task, outer, parameters, embedder, inner, direction: dict, alpha: float) -> float:
    size = torch.linalg.vector_norm(flat({n: parameters[n] for n in embedder}))
    step = float(1e-6 * size / torch.linalg.vector_norm(flat(direction)))
    sides = []
    for signed in (step, -step):
        there = {n: (parameters[n] + signed * direction[n]).detach() for n in embedder}
        sides.append(outer_after_step(task, outer, {**parameters, **there}, inner, alpha))
    return (sides[0] - sides[1]) / (2 * step)


def main() -> None:
    for name in MODELS:
        given = problem(name)
        task, outer, parameters, embedder, inner = given
        exact, finite = (mixed(*given, ALPHA, route) for route in ("exact", "finite-difference"))
        direction = {n: torch.randn_like(parameters[n]) for n in embedder}
        slope, along = brute(*given, direction, ALPHA), flat(direction)
        print(f"{name}: finite difference against exact {float((finite - exact).norm() / exact.norm()):.1e}")
        for route, found in (("exact", exact), ("finite difference", finite)):
            off = abs(float(found @ along) / slope - 1)
            print(f"  {route} against the brute derivative along one direction: {off:.1e}")
        adjoint, _ = outer.gradient(task.model, parameters, inner)
        limit = flat(derivative_along(task, parameters, adjoint, embedder, "exact"))
        for alpha in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
            off = float((mixed(*given, alpha, "exact") / -alpha - limit).norm() / limit.norm())
            print(f"  alpha {alpha:.0e}: mixed term / -alpha against equation (9): {off:.2e}")


if __name__ == "__main__":
    main()
