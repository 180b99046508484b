"""Optimal transport dataset distance, by whose decrease ORCA warms up an embedder (needs POT).

Between labeled sets a point is its features and its label, a label is the cloud of its class's features
(Alvarez-Melis and Fusi 2020), and ORCA takes the target class by class (Shen et al. 2023):

    cost((x, y), (x', y')) = (||x - x'||^2 + W(y, y')) / 2      W: exact squared 2-Wasserstein distance of two classes
    OT(A, B) = min over P of <P, cost> + regularization * KL(P | uniform)
    distance(A, B) = OT(A, B) - OT(A, A) / 2 - OT(B, B) / 2     debiased, the Sinkhorn divergence

The half is that of p = 2 in ORCA's code, where W has it once more, and is a constant to the gradient; here the
gradient takes it along. Everything is computed in double precision on the features' device, but W's plans on the CPU.
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
"""Of the entropic plan's marginals; the gradient is exact as far as they are."""
EXACT_ITERATIONS = 1_000_000


@dataclass(frozen=True)
class LabeledSource:
    """Features of a labeled source set, and what the distance to it needs of it alone.

    Attributes:
        features: (n, d), double precision.
        labels: Place of each sample's class among those that occur, (n,).
        regularization: Weight of the entropic term.
        debiased: Whether each set's distance to itself is taken off.
        self_distance: OT of the source and itself; 0 if not debiased.
    """

    features: Tensor
    labels: Tensor
    regularization: float
    debiased: bool
    self_distance: float

    def of_class(self, number: int) -> Tensor:
        """Features of one class (m, d)."""
        return self.features[self.labels == number]

    @property
    def n_classes(self) -> int:
        """How many classes occur."""
        return int(self.labels.max()) + 1


def prepare_source(
    features: Tensor, labels: Tensor, regularization: float = 0.1, debiased: bool = True
) -> LabeledSource:
    """Prepare a source set once, to take distances to it many times.

    Args:
        features: Token means at the embedder's output (n, d); gradients do not reach them.
        labels: Classes (n,), integers.
        regularization: Weight of the entropic term, in the unit of the cost; more than 0.
        debiased: Whether each set's distance to itself is taken off, so that equal sets are at 0.

    Raises:
        InputError: When shapes do not fit, or features are not finite.
        UsageError: When POT is not installed, or the regularization is not more than 0.
    """
    import_pot()
    if not regularization > 0:
        raise UsageError(f"expected a regularization of more than 0, got {regularization}")
    features = _checked(features.detach(), labels)
    found, numbers = labels.unique(return_inverse=True)
    source = LabeledSource(features, numbers.to(features.device), regularization, debiased, 0.0)
    if not debiased:
        return source
    between = torch.zeros(len(found), len(found), dtype=torch.float64, device=features.device)
    for i in range(len(found)):
        for j in range(i):
            between[i, j] = between[j, i] = _wasserstein(source.of_class(i), source.of_class(j))
    cost = (_squares(features, features) + between[source.labels][:, source.labels]) / 2
    return LabeledSource(features, source.labels, regularization, True, _entropic(cost, regularization).item())


def class_distance(features: Tensor, source: LabeledSource) -> Tensor:
    """Distance of one target class to the source, differentiable (once) in the class's features.

    Args:
        features: Token means of the class's samples at the target embedder's output (m, d).
        source: The source set, in the same d.

    Returns:
        Scalar in the features' precision, lower is nearer; 0 or more up to rounding if debiased.

    Raises:
        InputError: When shapes do not fit, or features are not finite.
        UsageError: When POT is not installed.
    """
    points = _checked(features, None)
    if points.shape[1] != source.features.shape[1]:
        raise InputError(
            f"expected features of {source.features.shape[1]} values as the source's, got {points.shape[1]}"
        )
    between = torch.stack([_wasserstein(points, source.of_class(number)) for number in range(source.n_classes)])
    cost = (_squares(points, source.features) + between[source.labels]) / 2
    distance = _entropic(cost, source.regularization)
    if source.debiased:
        own = _entropic(_squares(points, points) / 2, source.regularization)
        distance = distance - own / 2 - source.self_distance / 2
    return distance.to(features.dtype)


def import_pot() -> ModuleType:
    """The package POT.

    Raises:
        UsageError: When it is not installed.
    """
    try:
        import ot
    except ImportError as error:
        raise UsageError("optimal transport needs POT, which is not installed: pip install 'modgap[ot]'") from error
    return ot


def _checked(features: Tensor, labels: Tensor | None) -> Tensor:
    """Features in double precision."""
    if features.ndim != 2 or not len(features):
        raise InputError(f"expected features (n, d) of one sample or more, got {tuple(features.shape)}")
    if labels is not None and (labels.shape != features.shape[:1] or labels.is_floating_point()):
        raise InputError(f"expected {len(features)} integer labels, got {labels.dtype} {tuple(labels.shape)}")
    if not torch.isfinite(features).all():
        raise InputError("expected finite features for optimal transport, got NaN or infinity")
    return features.double()


def _squares(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances of all pairs (n, m)."""
    return (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T


def _wasserstein(x: Tensor, y: Tensor) -> Tensor:
    """Exact squared 2-Wasserstein distance of two clouds; the plan is a constant to the gradient, as it may be."""
    costs = _squares(x, y)
    masses = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    plan = import_pot().emd(*masses, costs.detach().cpu().numpy(), numItermax=EXACT_ITERATIONS)
    return (torch.as_tensor(plan).to(costs) * costs).sum()


def _entropic(cost: Tensor, regularization: float) -> Tensor:
    """Least <P, cost> + regularization * KL(P | uniform); its gradient in the cost is the plan P."""
    n, m = cost.shape
    masses = cost.new_full((n,), 1 / n), cost.new_full((m,), 1 / m)
    plan = import_pot().bregman.sinkhorn_log(
        *masses, cost.detach(), regularization, numItermax=ITERATIONS, stopThr=TOLERANCE, warn=False
    )
    divergence = torch.xlogy(plan, plan).sum() + plan.sum() * math.log(n * m)
    return (plan * cost).sum() + regularization * divergence
