"""One update's gradient: of the task loss alone, or with MoNA's outer loss after virtual steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from modgap.errors import UsageError
from modgap.models import TargetModel
from modgap.transfer.mixed_product import derivative_along, first_pass
from modgap.transfer.processes import Processes
from modgap.transfer.task_loss import TaskLoss, call_with_parameters

__all__ = ["LossGradient", "OuterLoss", "VirtualSteps", "mona_gradient", "task_gradient"]

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class LossGradient:
    """What the optimizer gets.

    Attributes:
        gradient: By name of the trained parameters.
        loss: L_t of the batch.
        scalars: What else is logged, by name.
    """

    gradient: Tensors
    loss: float
    scalars: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class VirtualSteps:
    """The inner loop of Algorithm 1.

    Attributes:
        alpha: Learning rate of the virtual steps, equations (2) and (3).
        weight: Lambda of equation (5).
        steps: How many; more than one by the exact route only.
        route: How the mixed product is taken, one of `mixed.ROUTES`.
        task_loss: Whether L_t itself is part of the combined loss (5); without it is an ablation of Table 6.
    """

    alpha: float
    weight: float
    steps: int = 1
    route: str = "finite-difference"
    task_loss: bool = True

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.steps > 1 and self.route != "exact":
            raise UsageError(
                f"stage1.inner_steps = {self.steps} needs stage1.route=exact; the finite difference is of one step"
            )


@dataclass(frozen=True)
class OuterLoss:
    """L_outer (4) of one batch of the surrogate.

    Attributes:
        features: The model, at whatever parameters, to features (n, D) of this process's samples.
        labels: Classes of the samples of all processes, shape (N,).
        objective: Unit-normalized features (N, D) and classes to a loss.
        processes: Who shares the samples; pairs are of all.
    """

    features: Callable[[TargetModel], Tensor]
    labels: Tensor
    objective: Callable[[Tensor, Tensor], Tensor]
    processes: Processes = field(default_factory=Processes)

    def gradient(
        self, model: TargetModel, parameters: Mapping[str, Tensor], of: Sequence[str]
    ) -> tuple[Tensors, float]:
        """Gradient of the loss at these parameters, and the loss."""
        value, gradients = call_with_parameters(
            model, parameters, lambda held: self._backward(held, [parameters[n] for n in of])
        )
        return dict(zip(of, self.processes.sum(list(gradients)), strict=True)), float(value)

    def _backward(self, model: TargetModel, by: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        own = normalize(self.features(model), dim=-1)
        value = self.objective(self.processes.gather(own, len(self.labels)), self.labels)
        return value.detach(), torch.autograd.grad(value, by, allow_unused=True, materialize_grads=True)


def task_gradient(task: TaskLoss, parameters: Mapping[str, Tensor], trained: Sequence[str]) -> LossGradient:
    """The gradient of L_t, equation (1)."""
    return LossGradient(*task.gradient(parameters, trained))


def mona_gradient(
    task: TaskLoss,
    outer: OuterLoss,
    parameters: Mapping[str, Tensor],
    embedder: Sequence[str],
    inner: Sequence[str],
    how: VirtualSteps,
) -> LossGradient:
    """Gradient of equation (5) by the embedder, `L_t + lambda L_outer(theta'(omega))`.

    Args:
        task: L_t of one batch.
        outer: L_outer of one surrogate batch.
        parameters: All of the model's parameters; they are left as they are.
        embedder: Names of omega.
        inner: Names of (theta, psi), which take the virtual steps.
        how: The inner loop.

    Returns:
        The gradient; `outer` is L_outer after the virtual steps, `mixed_share` is
        `||lambda * its gradient|| / ||gradient of L_t||` by the embedder.
    """
    first = first_pass(task, parameters, [*embedder, *inner], inner, how.route)
    points: list[Mapping[str, Tensor]] = [parameters]
    gradient = first.gradient
    for step in range(how.steps):
        if step:
            gradient, _ = task.gradient(points[-1], inner, precise=True)
        points.append(_moved(points[-1], gradient, inner, how.alpha))
    adjoint, value = outer.gradient(task.model, points[-1], inner)
    through = {name: torch.zeros_like(parameters[name]) for name in embedder}
    for step in reversed(range(how.steps)):
        of = [*embedder, *inner] if step else list(embedder)
        along = derivative_along(task, points[step], adjoint, of, how.route, first if step == 0 else None)
        through = {name: total - how.alpha * along[name] for name, total in through.items()}
        if step:
            adjoint = {name: value - how.alpha * along[name] for name, value in adjoint.items()}
    own = {name: first.gradient[name] for name in embedder}
    scalars = {"outer": value, "mixed_share": how.weight * _ratio(through, own)}
    combined = {name: how.weight * through[name] + (own[name] if how.task_loss else 0) for name in embedder}
    return LossGradient(combined, first.loss, scalars)


def _moved(parameters: Mapping[str, Tensor], gradient: Tensors, names: Sequence[str], alpha: float) -> Tensors:
    """After one virtual step; leaves of their own, so that gradients can be taken by them."""
    moved = {name: (parameters[name].detach() - alpha * gradient[name]).requires_grad_() for name in names}
    return {**parameters, **moved}


def _ratio(above: Tensors, below: Tensors) -> float:
    norms = [torch.linalg.vector_norm(torch.cat([t.reshape(-1) for t in each.values()])) for each in (above, below)]
    return float(norms[0] / norms[1]) if norms[1] > 0 else float("nan")
