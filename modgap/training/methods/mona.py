"""MoNA: the embedder is meta-learned so that a step of fine-tuning is to preserve the source knowledge (ICML 2024).

Stage 1 is Algorithm 1. For each batch of the target and each batch of labeled data of the source's modality, with
embedder e (parameters omega), encoder f (theta) and predictor h (psi):

    (2), (3)  theta', psi' = theta, psi - alpha * gradient of L_t by theta and psi      a virtual step, then undone
    (4)       L_outer = alignment + uniformity of the surrogate's features               through f at theta'
    (5)       L(omega) = L_t(omega) + lambda * L_outer(theta'(omega))
    (6)       omega <- omega - beta * gradient of L by omega                             the optimizer's step

The surrogate passes through the source's own embedder, so that L_outer depends on omega through theta' alone. With one
virtual step its gradient is therefore a mixed product: `-alpha * d/d omega <gradient of L_t by theta, v>`, where v is
the gradient of L_outer at theta'. Equation (9) is this product at the limit of a small alpha. Stage 2 is fine-tuning.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from modgap.models import TargetModel
from modgap.process.devices import Number, number_of, precise_type, upload
from modgap.training.losses import norm_of_all
from modgap.training.method import Method, Objective, Stage, Training, two_stages
from modgap.training.recipe import EmbedderStage, Recipe
from modgap.training.surrogate_loss import (
    SURROGATE_SETTINGS,
    FeatureLoss,
    OuterLoss,
    SurrogateFeatures,
    check_features,
    class_members,
    davies_bouldin,
    supervised_contrastive,
    without_autocast,
    zero,
)
from modgap.training.task_loss import LossGradient, MicroBatch, TaskLoss, call_with_parameters, plain_gradients

Tensors = dict[str, Tensor]
Parameters = Mapping[str, Tensor]


# The outer loss, equation (4)


@without_autocast
def alignment(z: Tensor, labels: Tensor) -> Tensor:
    """Compute the alignment loss: the mean of ||z - z'||^2 over all pairs with the same label.

    Wang and Isola (2020), with exponent 2. A class with one sample has no pair.

    Args:
        z: Unit-normalized features (n, d).
        labels: Classes (n,), integers.

    Returns:
        Scalar, 0 to 4 (at most 2 n / (n - 1) for a single class); 0 if there is no pair.

    Raises:
        InputError: When the shapes do not fit or the labels are not integers.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> alignment(z, torch.tensor([0, 0, 1])).item(), alignment(z, torch.tensor([0, 1, 1])).item()
        (2.0, 4.0)
    """
    members, counts = class_members(z, labels)
    # The squared distances of all pairs of a class sum to its size times the squared distances to its center. This
    # takes no difference of large numbers, so values are exact even for features that have collapsed.
    residuals = ((z - members @ (members.T @ z / counts[:, None])) ** 2).sum(1)
    pairs = (counts * (counts - 1)).sum() / 2
    return (residuals * (members @ counts)).sum() / pairs.clamp(min=1)


@without_autocast
def uniformity(z: Tensor, labels: Tensor, all_pairs: bool = False) -> Tensor:
    """Compute the uniformity loss: the logarithm of the mean over pairs of exp(-2 ||z - z'||^2).

    Wang and Isola (2020), with t = 2, over pairs of different classes.

    Args:
        z: Unit-normalized features (n, d).
        labels: Classes (n,), integers.
        all_pairs: True to include pairs of the same class, as Wang and Isola do.

    Returns:
        Scalar, -8 to 0; 0 if there is no pair.

    Raises:
        InputError: When the shapes do not fit or the labels are not integers.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> uniformity(z, torch.tensor([0, 1, 1])).item(), uniformity(z, torch.tensor([0, 0, 0])).item()
        (-4.0, 0.0)
    """
    check_features(z, labels)
    itself = torch.eye(len(z), dtype=torch.bool, device=labels.device)
    excluded = itself if all_pairs else labels[:, None] == labels
    # Where the labels are on the CPU, so is this number, and the test below does not wait for the device.
    pairs = (~excluded).sum()
    if not pairs:
        return zero(z)
    norms = (z**2).sum(1)
    squares = norms[:, None] + norms - 2 * z @ z.T
    kernel = (-2 * squares).masked_fill(upload(excluded, z.device), -torch.inf)
    return kernel.flatten().logsumexp(0) - pairs.to(z.dtype).log()


def alignment_uniformity(z: Tensor, labels: Tensor, *, all_pairs: bool = False) -> Tensor:
    """Compute MoNA's outer objective, the sum of `alignment` and `uniformity` (ICML 2024, equation 4).

    Args:
        z: Unit-normalized features (n, d).
        labels: Classes (n,), integers.
        all_pairs: True to include pairs of the same class in `uniformity`.

    Returns:
        Scalar, -8 to 4.

    Raises:
        InputError: When the shapes do not fit or the labels are not integers.
    """
    return alignment(z, labels) + uniformity(z, labels, all_pairs)


OUTER_LOSSES: Mapping[str, FeatureLoss] = {
    "alignment-uniformity": alignment_uniformity,
    "davies-bouldin": davies_bouldin,
    "supervised-contrastive": supervised_contrastive,
}
"""Outer losses by the value of `stage1.objective`: that of the method, and two ablations."""


def outer_loss(settings: EmbedderStage) -> FeatureLoss:
    """Return the outer loss of the settings: a function of unit-normalized features and labels."""
    if settings.objective == "alignment-uniformity":
        return functools.partial(alignment_uniformity, all_pairs=settings.uniform_pairs == "all")
    return OUTER_LOSSES[settings.objective]


# Algorithm 1


class MonaObjective(Objective):
    """The combined loss of equation (5). The stage trains omega, and all other parameters take the virtual steps.

    With lambda = 0 it is the task loss alone, as in the method `emb`, bit for bit.
    """

    settings = (
        "stage1.lambda", "stage1.alpha", "stage1.inner_steps", "stage1.route", "stage1.objective",
        "stage1.uniform_pairs", "stage1.task_loss", *SURROGATE_SETTINGS,
    )  # fmt: skip
    surrogate: SurrogateFeatures | None

    def __init__(self, training: Training, stage: Stage, number: int) -> None:
        """Prepare the features of the surrogate."""
        super().__init__(training, stage, number)
        self._settings = training.recipe.stage1
        self.surrogate = SurrogateFeatures(training) if self.needs_surrogate(training.recipe) else None
        self._outer_loss = outer_loss(self._settings)

    @classmethod
    def needs_surrogate(cls, recipe: Recipe) -> bool:
        """Return False where equation (5) is L_t alone: for lambda = 0."""
        return recipe.stage1.weight != 0 or not recipe.stage1.task_loss

    @property
    def allows_tf32(self) -> bool:
        """False for finite differences, because the rounding of TF32 is larger than they are."""
        return super().allows_tf32 and self._settings.route != "finite-difference"

    def pass_one(self, part: MicroBatch) -> object:
        """Pass one sample through the model, and return the graph of its gradient if the exact route keeps it."""
        if self.surrogate is None or self._settings.route != "exact":
            return super().pass_one(part)
        parameters = dict(self.model.named_parameters())
        names = [name for name in parameters if name not in self.trained]
        task = self.task_loss([part], np.zeros(1))
        return task_gradient_with_graph(task, parameters, names, names, self._settings.route)

    def gradient(
        self, parts: Sequence[MicroBatch], rows: np.ndarray, step: int, part_size: int | None = None
    ) -> LossGradient:
        """Return the gradient of the combined loss by the embedder."""
        if self.surrogate is None:
            return super().gradient(parts, rows, step, part_size)
        outer = self.surrogate.loss(self._outer_loss, step, part_size)
        return mona_gradient(self.task_loss(parts, rows), outer, self.trained, self._settings)


def mona_gradient(task: TaskLoss, outer: OuterLoss, embedder: Sequence[str], settings: EmbedderStage) -> LossGradient:
    """Return the gradient of equation (5), `L_t + lambda L_outer(theta'(omega))`, by the embedder.

    The gradient of L_outer goes back through the virtual steps from the last to the first. Step i is
    `p_i = p_(i-1) - alpha g(omega, p_(i-1))` for the inner parameters p = (theta, psi) and the gradient g of L_t by p.
    For the gradient v of L_outer by p_i it adds `-alpha d<g, v> / d omega` to the result, and turns v into
    `v - alpha d<g, v> / d p_(i-1)`.

    Args:
        task: L_t of one batch, with the model, whose parameters are not changed.
        outer: L_outer of one surrogate batch.
        embedder: Names of omega, the embedder's parameters. All others, (theta, psi), take the virtual steps.
        settings: Settings of the stage, with lambda (`weight`), alpha, the number of virtual steps and the route.

    Returns:
        The gradient. Its scalar `outer` is L_outer after the virtual steps. Its scalar `mixed_share` is
        `||lambda * gradient of L_outer|| / ||gradient of L_t||`, both by the embedder.
    """
    alpha, route = settings.alpha, settings.route
    parameters = dict(task.model.named_parameters())
    inner = [name for name in parameters if name not in embedder]
    first_gradient, loss, graph = task_gradient_with_graph(task, parameters, [*embedder, *inner], inner, route)
    # Equations (2) and (3).
    points: list[Parameters] = [parameters]
    gradient = first_gradient
    for step in range(settings.inner_steps):
        if step:
            gradient, _ = task.gradient(points[-1], inner, precise=True)
        # The moved parameters are leaves of the graph, so that gradients by them can be computed.
        start = points[-1]
        moved = {name: (start[name].detach() - alpha * gradient[name]).requires_grad_() for name in inner}
        points.append({**start, **moved})
    # Equation (4), and v. Then go back through the steps.
    adjoint, outer_value = outer.gradient(task.model, points[-1], inner)
    outer_gradient = {name: torch.zeros_like(parameters[name]) for name in embedder}
    for step in reversed(range(settings.inner_steps)):
        names = [*embedder, *inner] if step else list(embedder)
        product = mixed_product(task, points[step], adjoint, names, route, None if step else graph)
        outer_gradient = {name: total - alpha * product[name] for name, total in outer_gradient.items()}
        if step:
            adjoint = {name: value - alpha * product[name] for name, value in adjoint.items()}
    # Equation (5).
    weight = settings.weight
    task_gradient = {name: first_gradient[name] for name in embedder}
    of_outer, of_task = (
        torch.linalg.vector_norm(torch.cat([tensor.reshape(-1) for tensor in gradients.values()]))
        for gradients in (outer_gradient, task_gradient)
    )
    share = number_of(torch.where(of_task > 0, of_outer / of_task, torch.nan))
    scalars = {"outer": outer_value, "mixed_share": weight * share}
    combined = {
        name: weight * outer_gradient[name] + (task_part if settings.task_loss else 0)
        for name, task_part in task_gradient.items()
    }
    return LossGradient(combined, loss, scalars)


# The mixed product: how the gradient by some parameters changes along a direction in others

STEPS = {torch.float64: 1e-7, torch.float32: 5e-6}
"""Step of the finite difference, relative to the norm of the parameters.

The truncation error falls with the square of the step, and the rounding error rises as the step shrinks. The best step,
where the two meet, depends on the model. Measured in float32 on five models, these steps leave an error of 0.05 to
0.6 % of the product's norm. Networks of ReLUs have kinks instead of a second derivative, and there the two routes
differ."""


def task_gradient_with_graph(
    task: TaskLoss, parameters: Parameters, names: Iterable[str], inner: Iterable[str], route: str
) -> tuple[Tensors, Number, Tensors | None]:
    """Return the gradients of L_t, its value, and the gradients with their graph for `mixed_product`.

    The graph is kept for the exact route where the batch is a single micro-batch. With several, all graphs would have
    to be in memory at once, so `mixed_product` computes them again.

    Args:
        task: L_t of one batch.
        parameters: Parameters at which to differentiate, by name.
        names: Names of the parameters to differentiate by.
        inner: Names of the parameters whose gradients keep their graph; they must be among `names`.
        route: How the mixed product will be computed, `exact` or `finite-difference`.

    Returns:
        The gradients, detached, summed over all processes; the loss; and those of this process with their graph, or
        None.
    """
    names = list(names)
    if route != "exact" or len(task.micro_batches) != 1:
        return *task.gradient(parameters, names), None
    backward = functools.partial(_backward_with_graph, task, task.micro_batches[0], parameters, names)
    with sdpa_kernel(SDPBackend.MATH):
        value, gradients = call_with_parameters(task.model, parameters, backward)
    graph = dict(zip(names, gradients, strict=True))
    sums = task.processes.sum([gradient.detach() for gradient in gradients])
    loss = task.processes.sum([value.detach().to(precise_type(value.device))])[0]
    return dict(zip(names, sums, strict=True)), number_of(loss), {name: graph[name] for name in inner}


def _backward_with_graph(
    task: TaskLoss, part: MicroBatch, parameters: Parameters, names: list[str], model: TargetModel
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the loss of a micro-batch and its gradients by the names, which can be differentiated again."""
    value = task.value(model, part)
    tensors = [parameters[name] for name in names]
    return value, torch.autograd.grad(value, tensors, create_graph=True, allow_unused=True, materialize_grads=True)


def mixed_product(
    task: TaskLoss,
    parameters: Parameters,
    direction: Tensors,
    names: Iterable[str],
    route: str,
    graph: Tensors | None = None,
) -> Tensors:
    """Compute `d / d names <gradient of L_t by the direction's parameters, direction>`, over all processes.

    Args:
        task: L_t of one batch.
        parameters: Parameters at which to differentiate, by name.
        direction: v, by name of the parameters that it moves.
        names: Names of the parameters to differentiate by.
        route: `exact` goes backward twice, with unfused attention, because fused attention has no second
            derivative. `finite-difference` computes two more gradients, at `parameters` moved by a small step
            along v to either side, in the parameters' own precision; attention stays fused.
        graph: Gradients of this process with their graph, which is used up; None computes them again.
    """
    names = list(names)
    function = _exact_product if route == "exact" else _finite_difference
    return dict(zip(names, function(task, parameters, direction, names, graph), strict=True))


def _exact_product(
    task: TaskLoss, parameters: Parameters, direction: Tensors, names: list[str], graph: Tensors | None
) -> list[Tensor]:
    """Compute the mixed product by a second backward pass, one micro-batch after the other."""
    tensors = [parameters[name] for name in names]
    if graph is not None:
        return task.processes.sum(list(_differentiate_along(graph, direction, tensors)))
    sums = [torch.zeros_like(tensor) for tensor in tensors]

    def backward_twice(part: MicroBatch, model: TargetModel) -> tuple[Tensor, ...]:
        _, gradients = _backward_with_graph(task, part, parameters, list(direction), model)
        return _differentiate_along(dict(zip(direction, gradients, strict=True)), direction, tensors)

    with sdpa_kernel(SDPBackend.MATH):
        for part in task.micro_batches:
            products = call_with_parameters(task.model, parameters, functools.partial(backward_twice, part))
            sums = [total + product for total, product in zip(sums, products, strict=True)]
    return task.processes.sum(sums)


def _differentiate_along(gradients: Tensors, direction: Tensors, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients of <gradients, direction> by the tensors."""
    differentiable = [name for name in direction if gradients[name].requires_grad]
    with sdpa_kernel(SDPBackend.MATH):
        return plain_gradients(
            [gradients[name] for name in differentiable], tensors, [direction[name] for name in differentiable]
        )


def _finite_difference(
    task: TaskLoss, parameters: Parameters, direction: Tensors, names: list[str], _graph: Tensors | None
) -> list[Tensor]:
    """Compute the mixed product by the central difference of two gradients, at points moved along the direction."""
    start = [parameters[name].detach() for name in direction]
    norms = torch.stack([norm_of_all(list(direction.values())), norm_of_all(start)])
    direction_norm, start_norm = norms.cpu().tolist()
    if direction_norm == 0:
        return [torch.zeros_like(parameters[name]) for name in names]
    step = STEPS[start[0].dtype] * start_norm / direction_norm
    sides = []
    for signed in (step, -step):
        moved = {name: value + signed * direction[name] for name, value in zip(direction, start, strict=True)}
        sides.append(task.gradient({**parameters, **moved}, names, precise=True)[0])
    return [(sides[0][name] - sides[1][name]) / (2 * step) for name in names]


METHOD = Method(
    name="mona",
    title="the embedder is meta-learned to make fine-tuning keep the source knowledge, then everything is trained",
    reference="MoNA (ICML 2024), Algorithm 1, equations (2) to (9)",
    stages=two_stages(MonaObjective),
)
