"""Gradients of one batch: of the task loss alone, or of MoNA's combined loss after virtual steps.

The functions here know neither stages nor epochs; `training_steps` calls them with the batches of a stage.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from modgap.errors import UsageError
from modgap.models import TargetModel
from modgap.transfer.mixed_product import derivative_along, first_pass
from modgap.transfer.processes import Processes
from modgap.transfer.task_loss import TaskLoss, call_with_parameters, plain_gradients

__all__ = ["LossGradient", "OuterLoss", "VirtualSteps", "mona_gradient", "task_gradient"]

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class LossGradient:
    """The gradient of one batch, which the optimizer applies.

    Attributes:
        gradient: Gradient by the name of each trained parameter.
        loss: L_t of the batch.
        scalars: Other numbers for the log, by name.
    """

    gradient: Tensors
    loss: float
    scalars: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class VirtualSteps:
    """Settings of the inner loop of Algorithm 1.

    Attributes:
        alpha: Learning rate of the virtual steps, equations (2) and (3).
        weight: Lambda of equation (5).
        steps: Number of virtual steps; more than one needs the exact route.
        route: How the mixed product is computed, one of `mixed_product.ROUTES`.
        task_loss: True if L_t is part of the combined loss (5); False is an ablation of Table 6.
    """

    alpha: float
    weight: float
    steps: int = 1
    route: str = "finite-difference"
    task_loss: bool = True

    def __post_init__(self) -> None:
        """Raise an error if the route cannot differentiate through the number of steps.

        Raises:
            UsageError: When there are several steps and the route is not exact.
        """
        if self.steps > 1 and self.route != "exact":
            raise UsageError(
                f"stage1.inner_steps={self.steps} does not work with stage1.route={self.route}, "
                "which differentiates a single step. Pass --set stage1.route=exact."
            )


@dataclass(frozen=True)
class OuterLoss:
    """L_outer (4) of one batch of the surrogate.

    Attributes:
        features: Functions from a model, at any parameters, to the features (n, D) of parts of this process's samples.
            Of several parts, each passes through the model on its own, twice, so that less memory is needed.
        labels: Classes of the samples of all processes, shape (N,).
        objective: Function from features (N, D) and classes (N,) to a scalar loss.
        processes: Processes that share the samples; the objective's pairs are formed over all of them.
        normalizes: True to bring features to unit length.
    """

    features: Sequence[Callable[[TargetModel], Tensor]]
    labels: Tensor
    objective: Callable[[Tensor, Tensor], Tensor]
    processes: Processes = field(default_factory=Processes)
    normalizes: bool = True

    def gradient(
        self, model: TargetModel, parameters: Mapping[str, Tensor], names: Sequence[str]
    ) -> tuple[Tensors, float]:
        """Return the gradient of the loss by the named parameters, and the loss.

        Args:
            model: The model.
            parameters: Parameters at which to evaluate the loss, by name.
            names: Names of the parameters to differentiate by.
        """
        tensors = [parameters[name] for name in names]
        value, gradients = call_with_parameters(
            model, parameters, lambda changed_model: self._backward(changed_model, tensors)
        )
        return dict(zip(names, self.processes.sum(list(gradients)), strict=True)), float(value)

    def _backward(self, model: TargetModel, tensors: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        if len(self.features) == 1:
            value = self._value(self.features[0](model))
            return value.detach(), plain_gradients(value, tensors)
        with torch.no_grad():
            parts = [features(model) for features in self.features]
        share = torch.cat(parts).requires_grad_()
        value = self._value(share)
        (by_features,) = torch.autograd.grad(value, share)
        sums = [torch.zeros_like(tensor) for tensor in tensors]
        shares = torch.split(by_features, [len(part) for part in parts])
        for features, gradient in zip(self.features, shares, strict=True):
            found = plain_gradients(features(model), tensors, gradient)
            sums = [total + part for total, part in zip(sums, found, strict=True)]
        return value.detach(), tuple(sums)

    def _value(self, share: Tensor) -> Tensor:
        if self.normalizes:
            share = normalize(share, dim=-1)
        return self.objective(self.processes.gather(share, len(self.labels)), self.labels)


def task_gradient(task: TaskLoss, parameters: Mapping[str, Tensor], trained: Sequence[str]) -> LossGradient:
    """Return the gradient of L_t, equation (1), by the trained parameters."""
    return LossGradient(*task.gradient(parameters, trained))


def mona_gradient(
    task: TaskLoss,
    outer: OuterLoss,
    parameters: Mapping[str, Tensor],
    embedder: Sequence[str],
    inner: Sequence[str],
    virtual_steps: VirtualSteps,
) -> LossGradient:
    """Return the gradient of equation (5), `L_t + lambda L_outer(theta'(omega))`, by the embedder.

    Args:
        task: L_t of one batch.
        outer: L_outer of one surrogate batch.
        parameters: All parameters of the model by name; they are not changed.
        embedder: Names of omega, the embedder's parameters.
        inner: Names of (theta, psi), which take the virtual steps.
        virtual_steps: Settings of the inner loop.

    Returns:
        The gradient. Its scalar `outer` is L_outer after the virtual steps. Its scalar `mixed_share` is
        `||lambda * gradient of L_outer|| / ||gradient of L_t||`, both by the embedder.
    """
    alpha = virtual_steps.alpha
    route = virtual_steps.route
    first = first_pass(task, parameters, [*embedder, *inner], inner, route)
    points: list[Mapping[str, Tensor]] = [parameters]
    gradient = first.gradient
    for step in range(virtual_steps.steps):
        if step:
            gradient, _ = task.gradient(points[-1], inner, precise=True)
        points.append(_take_virtual_step(points[-1], gradient, inner, alpha))
    adjoint, outer_value = outer.gradient(task.model, points[-1], inner)
    # Go back through the steps, from the last to the first.
    outer_gradient = {name: torch.zeros_like(parameters[name]) for name in embedder}
    for step in reversed(range(virtual_steps.steps)):
        names = [*embedder, *inner] if step else list(embedder)
        product = derivative_along(task, points[step], adjoint, names, route, first if step == 0 else None)
        outer_gradient = {name: total - alpha * product[name] for name, total in outer_gradient.items()}
        if step:
            adjoint = {name: value - alpha * product[name] for name, value in adjoint.items()}
    return _combine(first.gradient, outer_gradient, first.loss, outer_value, virtual_steps)


def _combine(
    task_gradients: Tensors, outer_gradients: Tensors, loss: float, outer_value: float, virtual_steps: VirtualSteps
) -> LossGradient:
    """Return equation (5)'s gradient by the embedder from those of L_t and L_outer."""
    weight = virtual_steps.weight
    embedder_gradients = {name: task_gradients[name] for name in outer_gradients}
    scalars = {"outer": outer_value, "mixed_share": weight * _norm_ratio(outer_gradients, embedder_gradients)}
    combined = {
        name: weight * outer_gradients[name] + (task_part if virtual_steps.task_loss else 0)
        for name, task_part in embedder_gradients.items()
    }
    return LossGradient(combined, loss, scalars)


def _take_virtual_step(
    parameters: Mapping[str, Tensor], gradient: Tensors, names: Sequence[str], alpha: float
) -> Mapping[str, Tensor]:
    """Return the parameters after one virtual step; the moved ones are leaves, so they can be differentiated by."""
    moved = {name: (parameters[name].detach() - alpha * gradient[name]).requires_grad_() for name in names}
    return {**parameters, **moved}


def _norm_ratio(numerator: Tensors, denominator: Tensors) -> float:
    upper = _norm(numerator)
    lower = _norm(denominator)
    return float(upper / lower) if lower > 0 else float("nan")


def _norm(tensors: Tensors) -> Tensor:
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors.values()])
    norm: Tensor = torch.linalg.vector_norm(flat)
    return norm
