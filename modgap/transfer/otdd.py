"""Optimal transport dataset distance (OTDD), which ORCA minimizes to warm up an embedder. It needs the package POT.

Between labeled sets a point is its features and its label, a label is the cloud of its class's features
(Alvarez-Melis and Fusi 2020), and ORCA takes the target class by class (Shen et al. 2023):

    cost((x, y), (x', y')) = (||x - x'||^2 + W(y, y')) / 2      W: exact squared 2-Wasserstein distance of two classes
    OT(A, B) = min over P of <P, cost> + regularization * KL(P | uniform)
    distance(A, B) = OT(A, B) - OT(A, A) / 2 - OT(B, B) / 2     debiased, the Sinkhorn divergence

The half in the cost is that of p = 2 in ORCA's code. There, W has this factor a second time, and W is a constant to the
gradient; here the gradient includes W. Everything is computed in double precision on the features' device, except the
transport plans of W, which POT computes on the CPU.
"""

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError, UsageError

__all__ = ["LabeledSource", "class_distance", "import_pot", "prepare_source"]

ITERATIONS = 1000
TOLERANCE = 1e-9
"""Largest error of the entropic plan's marginals; the gradient is as exact as they are."""
EXACT_ITERATIONS = 1_000_000


@dataclass(frozen=True)
class LabeledSource:
    """Features of a labeled source set, with the terms of the distance that depend on the source alone.

    Attributes:
        features: Features (n, d) in double precision.
        labels: Index of each sample's class among the classes that occur, shape (n,).
        regularization: Weight of the entropic term, in the unit of the cost.
        debiased: True if the distance of each set to itself is subtracted.
        self_distance: OT of the source and itself; 0 if not debiased, or if it was left out.
    """

    features: Tensor
    labels: Tensor
    regularization: float
    debiased: bool
    self_distance: float

    def class_features(self, index: int) -> Tensor:
        """Return the features (m, d) of one class."""
        return self.features[self.labels == index]

    @property
    def n_classes(self) -> int:
        """Number of classes that occur."""
        return int(self.labels.max()) + 1


def prepare_source(
    features: Tensor,
    labels: Tensor,
    regularization: float = 0.1,
    debiased: bool = True,
    with_self_distance: bool = True,
) -> LabeledSource:
    """Prepare a source set once, to compute many distances to it.

    Args:
        features: Token means (n, d) at the embedder's output; no gradient flows back to them.
        labels: Integer classes (n,).
        regularization: Weight of the entropic term, in the unit of the cost; greater than 0.
        debiased: Subtract the distance of each set to itself, so that equal sets have distance 0.
        with_self_distance: Compute the source's distance to itself. It is a constant of all distances to the source, so
            gradients do not need it, and it takes minutes for thousands of samples.

    Raises:
        InputError: When shapes do not match, or features are not finite.
        UsageError: When POT is not installed, or the regularization is not greater than 0.
    """
    import_pot()
    if not regularization > 0:
        raise UsageError(f"The regularization is {regularization}. Expected a number greater than 0.")
    features = _check_features(features.detach(), labels)
    classes, indices = torch.unique(labels, return_inverse=True)
    source = LabeledSource(features, indices.to(features.device), regularization, debiased, 0.0)
    if not debiased or not with_self_distance:
        return source
    class_costs = torch.zeros(len(classes), len(classes), dtype=torch.float64, device=features.device)
    for i in range(len(classes)):
        for j in range(i):
            distance = _wasserstein(source.class_features(i), source.class_features(j))
            class_costs[i, j] = distance
            class_costs[j, i] = distance
    cost = (_squared_distances(features, features) + class_costs[source.labels][:, source.labels]) / 2
    return LabeledSource(features, source.labels, regularization, True, _entropic(cost, regularization).item())


def class_distance(features: Tensor, source: LabeledSource) -> Tensor:
    """Compute the distance of one target class to the source, differentiable (once) in the class's features.

    Args:
        features: Token means (m, d) of the class's samples at the target embedder's output.
        source: The source set, with features of the same d.

    Returns:
        Scalar in the features' precision; lower is nearer. If debiased, it is 0 or more up to rounding.

    Raises:
        InputError: When shapes do not match, or features are not finite.
        UsageError: When POT is not installed.
    """
    points = _check_features(features, None)
    width = source.features.shape[1]
    if points.shape[1] != width:
        raise InputError(f"The target has {points.shape[1]} features per sample. Expected {width}, as the source has.")
    class_costs = torch.stack([_wasserstein(points, source.class_features(k)) for k in range(source.n_classes)])
    cost = (_squared_distances(points, source.features) + class_costs[source.labels]) / 2
    distance = _entropic(cost, source.regularization)
    if source.debiased:
        self_distance = _entropic(_squared_distances(points, points) / 2, source.regularization)
        distance = distance - self_distance / 2 - source.self_distance / 2
    return distance.to(features.dtype)


def import_pot() -> ModuleType:
    """Import and return the package POT (`ot`).

    Raises:
        UsageError: When it is not installed.
    """
    try:
        import ot
    except ImportError as error:
        raise UsageError(
            "Optimal transport needs the package POT, which is not installed. Run: pip install 'modgap[ot]'"
        ) from error
    package: ModuleType = ot
    return package


def _check_features(features: Tensor, labels: Tensor | None) -> Tensor:
    """Return the features in double precision, or raise an InputError if they or the labels are invalid."""
    if features.ndim != 2 or not len(features):
        raise InputError(f"The features have shape {tuple(features.shape)}. Expected (n, d) with at least one sample.")
    if labels is not None and (labels.shape != features.shape[:1] or labels.is_floating_point()):
        raise InputError(
            f"The labels have shape {tuple(labels.shape)} and type {labels.dtype}. "
            f"Expected {len(features)} integer labels."
        )
    if not torch.isfinite(features).all():
        raise InputError("The features contain NaN or infinity. Optimal transport needs finite features.")
    return features.double()


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared distances of all pairs (n, m)."""
    return (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T


def _wasserstein(x: Tensor, y: Tensor) -> Tensor:
    """Return the exact squared 2-Wasserstein distance of two clouds.

    The plan is a constant to the gradient; by the envelope theorem the gradient is still exact.
    """
    costs = _squared_distances(x, y)
    x_masses = np.full(len(x), 1 / len(x))
    y_masses = np.full(len(y), 1 / len(y))
    plan = import_pot().emd(x_masses, y_masses, costs.detach().cpu().numpy(), numItermax=EXACT_ITERATIONS)
    return (torch.as_tensor(plan).to(costs) * costs).sum()


def _entropic(cost: Tensor, regularization: float) -> Tensor:
    """Return the least <P, cost> + regularization * KL(P | uniform); its gradient in the cost is the plan P."""
    n, m = cost.shape
    row_masses = cost.new_full((n,), 1 / n)
    column_masses = cost.new_full((m,), 1 / m)
    plan: Tensor = import_pot().bregman.sinkhorn_log(
        row_masses,
        column_masses,
        cost.detach(),
        regularization,
        numItermax=ITERATIONS,
        stopThr=TOLERANCE,
        warn=False,
    )
    divergence = torch.xlogy(plan, plan).sum() + plan.sum() * math.log(n * m)
    return (plan * cost).sum() + regularization * divergence
