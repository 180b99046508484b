"""Check MoNA's mixed product: both routes against each other, against central differences, and equation (9) as a limit.

    python benchmarks/mixed_product.py    about two minutes on two cores

The models are a small vision transformer and a BERT (6 x 384) with random weights, in float64. The script prints
relative differences in the norm of the embedder's gradient. The derivative by central differences is of equation (5)
itself, along one random direction, with a relative step of 1e-6.
"""

import torch

from modgap.models import Output, target_model
from modgap.sources import open_source
from modgap.training.losses import loss
from modgap.training.methods import get_method
from modgap.training.methods.mona import alignment_uniformity, mixed_product, mona_gradient
from modgap.training.recipe import EmbedderStage
from modgap.training.surrogate_loss import OuterLoss
from modgap.training.task_loss import MicroBatch, TaskLoss

MODELS = {
    "ViT (test_vit, 64 px)": ("random:timm:test_vit", 64, (1, 12, 10)),
    "BERT (6 x 384)": ("random:minilm", None, (2, 24)),
}
ALPHA = 1e-2
SAMPLES = 6
CLASSES = 3


def problem(name: str):
    """Return L_t, L_outer, all parameters, the names of the embedder's parameters and the names of the others."""
    torch.manual_seed(0)
    source, size, shape = MODELS[name]
    output = Output("classification", (CLASSES,))
    model = target_model(open_source(source).load(size, head=False), torch.zeros(shape), output)
    model.double().eval()
    x = torch.randn(SAMPLES, *shape, dtype=torch.float64)
    y = torch.arange(SAMPLES) % CLASSES
    task = TaskLoss(model, loss("cross-entropy"), (MicroBatch(x, y),), SAMPLES)
    tokens = model.embed(x).detach()
    noisy = tokens + 0.3 * torch.randn_like(tokens)
    outer = OuterLoss([lambda model: model.encode(noisy).mean(1)], y, alignment_uniformity)
    parameters = dict(model.named_parameters())
    embedder = get_method("mona").stages[1].select_parameters(model)
    return task, outer, parameters, embedder, [n for n in parameters if n not in embedder]


def relative_difference(term: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the norm of the difference, divided by the norm of the reference."""
    return float((term - reference).norm() / reference.norm())


def flat(tensors: dict) -> torch.Tensor:
    """Return all tensors in one vector."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()])


def mixed_term(task, outer, embedder, alpha: float, route: str) -> torch.Tensor:
    """Return the mixed term of the embedder's gradient alone, without lambda."""
    settings = EmbedderStage(alpha=alpha, weight=1.0, route=route, task_loss=False)
    return flat(mona_gradient(task, outer, embedder, settings).gradient)


def outer_after_step(task, outer, parameters, inner, alpha: float) -> float:
    """Return L_outer after the virtual step, by its definition."""
    gradient, _ = task.gradient(parameters, inner)
    moved = {n: (parameters[n] - alpha * gradient[n]).detach().requires_grad_() for n in inner}
    return outer.gradient(task.model, {**parameters, **moved}, inner)[1]


def central_difference(task, outer, parameters, embedder, inner, direction: dict, alpha: float) -> float:
    """Return the derivative of `outer_after_step` along a direction of the embedder's parameters."""
    size = torch.linalg.vector_norm(flat({n: parameters[n] for n in embedder}))
    step = float(1e-6 * size / torch.linalg.vector_norm(flat(direction)))
    losses = []
    for signed_step in (step, -step):
        moved = {n: (parameters[n] + signed_step * direction[n]).detach() for n in embedder}
        losses.append(outer_after_step(task, outer, {**parameters, **moved}, inner, alpha))
    return (losses[0] - losses[1]) / (2 * step)


def main() -> None:
    """Print the relative differences for each model."""
    for name in MODELS:
        arguments = problem(name)
        task, outer, parameters, embedder, inner = arguments
        exact, finite = (mixed_term(task, outer, embedder, ALPHA, route) for route in ("exact", "finite-difference"))
        direction = {n: torch.randn_like(parameters[n]) for n in embedder}
        slope = central_difference(*arguments, direction, ALPHA)
        print(f"{name}: finite-difference route against the exact one {relative_difference(finite, exact):.1e}")
        for route, term in (("exact", exact), ("finite-difference", finite)):
            difference = abs(float(term @ flat(direction)) / slope - 1)
            print(f"  {route} route against central differences along one direction: {difference:.1e}")
        adjoint, _ = outer.gradient(task.model, parameters, inner)
        limit = flat(mixed_product(task, parameters, adjoint, embedder, "exact"))
        for alpha in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
            difference = relative_difference(mixed_term(task, outer, embedder, alpha, "exact") / -alpha, limit)
            print(f"  alpha {alpha:.0e}: mixed term / -alpha against equation (9): {difference:.2e}")


if __name__ == "__main__":
    main()
