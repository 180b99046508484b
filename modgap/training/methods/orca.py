"""ORCA: the embedder is aligned to the surrogate by optimal transport, then everything is fine-tuned.

Stage 1 minimizes the optimal transport dataset distance (OTDD), by the package POT. Between labeled sets a point is its
features and its label, a label is the cloud of its class's features (Alvarez-Melis and Fusi 2020), and ORCA takes the
target class by class (Shen et al. 2023):

    cost((x, y), (x', y')) = (||x - x'||^2 + W(y, y')) / 2      W: exact squared 2-Wasserstein distance of two classes
    OT(A, B) = min over P of <P, cost> + regularization * KL(P | uniform)
    distance(A, B) = OT(A, B) - OT(A, A) / 2 - OT(B, B) / 2     debiased, the Sinkhorn divergence

The last term, of the source B, is left out: it is a constant, and takes minutes for thousands of samples.
The half in the cost is that of p = 2 in ORCA's code. There, W has this factor a second time, and W is a constant to the
gradient; here the gradient includes W. Everything is computed in double precision, on the features' device if that is
a CPU or a GPU of CUDA and else on the CPU; POT computes the transport plans of W on the CPU.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError
from modgap.labels.label_space import pseudo_classes
from modgap.models import TargetModel
from modgap.process.devices import number_of, precise_type
from modgap.process.installed_packages import import_optional
from modgap.targets import Manifest
from modgap.targets.samples import pool_targets
from modgap.training.batches import generator
from modgap.training.method import Method, Objective, Stage, Training, two_stages
from modgap.training.recipe import FullStage, Recipe
from modgap.training.surrogate_loss import SURROGATE_SETTINGS, SurrogateFeatures
from modgap.training.task_loss import LossGradient, MicroBatch, call_with_parameters, plain_gradients
from modgap.training.training_data import TargetData

# The distance

ITERATIONS = 1000
"""Largest number of Sinkhorn iterations for the entropic plan."""
TOLERANCE = 1e-9
"""Error of the entropic plan's marginals at which the iterations stop; the gradient is as exact as they are."""
EXACT_ITERATIONS = 1_000_000
"""Largest number of iterations of the exact solver for W."""


REGULARIZATION = 0.1
"""Weight of the entropic term, in the unit of the cost."""

LabeledSource = tuple[Tensor, Tensor]
"""A labeled set of the source's modality: features (n, d) in double precision, and the index of each sample's class
among the classes that occur (n,)."""


def prepare_source(features: Tensor, labels: Tensor) -> LabeledSource:
    """Prepare a source set once, to compute many distances to it.

    Args:
        features: Token means (n, d) at the embedder's output; no gradient flows back to them.
        labels: Integer classes (n,).

    Raises:
        InputError: When shapes do not match, or features are not finite.
        UsageError: When POT is not installed.
    """
    import_pot()
    features = _check_features(features.detach(), labels)
    indices = torch.unique(labels, return_inverse=True)[1]
    return features, indices.to(features.device)


def class_distance(features: Tensor, source: LabeledSource) -> Tensor:
    """Compute the distance of one target class to the source, differentiable (once) in the class's features.

    Args:
        features: Token means (m, d) of the class's samples at the target embedder's output.
        source: The source set, with features of the same d.

    Returns:
        Scalar in the features' precision; lower is nearer. For a set that equals the source it is half of OT of the
        source and itself.

    Raises:
        InputError: When shapes do not match, or features are not finite.
        UsageError: When POT is not installed.
    """
    points = _check_features(features, None)
    source_points, labels = source
    width = source_points.shape[1]
    if points.shape[1] != width:
        raise InputError(f"The target has {points.shape[1]} features per sample. Expected {width}, as the source has.")
    clouds = [source_points[labels == k] for k in range(int(labels.max()) + 1)]
    class_costs = torch.stack([_wasserstein(points, cloud) for cloud in clouds])
    cost = (_squared_distances(points, source_points) + class_costs[labels]) / 2
    distance = _entropic(cost)
    self_distance = _entropic(_squared_distances(points, points) / 2)
    return (distance - self_distance / 2).to(features.dtype)


def import_pot() -> ModuleType:
    """Import and return the package POT (`ot`).

    Raises:
        UsageError: When it is not installed.
    """
    return import_optional("ot", "Optimal transport needs the package POT", "ot")


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
    device = features.device if precise_type(features.device) == torch.float64 else torch.device("cpu")
    return features.to(device).double()


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared distances of all pairs (n, m)."""
    return (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T


def _wasserstein(x: Tensor, y: Tensor) -> Tensor:
    """Return the exact squared 2-Wasserstein distance of two clouds.

    The plan is a constant to the gradient; by the envelope theorem the gradient is still exact.
    """
    costs = _squared_distances(x, y)
    masses = [np.full(len(cloud), 1 / len(cloud)) for cloud in (x, y)]
    plan = import_pot().emd(*masses, costs.detach().cpu().numpy(), numItermax=EXACT_ITERATIONS)
    return (torch.as_tensor(plan).to(costs) * costs).sum()


def _entropic(cost: Tensor) -> Tensor:
    """Return the least <P, cost> + REGULARIZATION * KL(P | uniform); its gradient in the cost is the plan P."""
    masses = [cost.new_full((n,), 1 / n) for n in cost.shape]
    plan: Tensor = import_pot().bregman.sinkhorn_log(
        *masses, cost.detach(), REGULARIZATION, numItermax=ITERATIONS, stopThr=TOLERANCE, warn=False
    )
    divergence = torch.xlogy(plan, plan).sum() + plan.sum() * math.log(cost.numel())
    return (plan * cost).sum() + REGULARIZATION * divergence


# Stage 1

CLUSTERS = 10
"""Number of pseudo-classes of regression targets, as in ORCA."""


class AlignmentObjective(Objective):
    """The distance of the target's token means at the embedder to the surrogate, with one update per epoch.

    It is the mean of the distances of the target's classes, weighted by their shares of all training samples. An update
    uses at most `stage1.samples_per_class` samples of each class, which changes no weight.

    Attributes:
        source: The surrogate's features at the source's embedder.
        rows: Rows to train on in ascending order, shape (n,).
        labels: Class, or pseudo-class, of each of these rows, shape (n,).
    """

    settings = ("stage1.samples_per_class", *SURROGATE_SETTINGS)
    # The distance of a class is no sum over its samples.
    divides = False

    def __init__(self, training: Training, stage: Stage, number: int) -> None:
        """Compute the features of the surrogate."""
        super().__init__(training, stage, number)
        surrogate = SurrogateFeatures(training)
        classes = torch.from_numpy(surrogate.labels).to(training.device)
        self.source = prepare_source(surrogate.of_embedder(), classes)
        self.rows = training.data.train
        self.labels = alignment_classes(training.data)

    @classmethod
    def needs_surrogate(cls, recipe: Recipe) -> bool:  # noqa: ARG003
        """Return True.

        Raises:
            UsageError: When POT is not installed.
        """
        import_pot()
        return True

    def plan_epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the rows of the epoch's single update: of each class in turn, at most `samples_per_class`."""
        limit = self.training.recipe.stage1.samples_per_class
        order = generator(self.training.seed, 0, self.number, epoch).permutation(len(self.rows))
        n_classes = int(self.labels.max()) + 1
        samples = [order[self.labels[order] == k][:limit] for k in range(n_classes)]
        return [self.rows[np.concatenate(samples)]]

    def split(self, rows: np.ndarray, size: int) -> list[np.ndarray]:  # noqa: ARG002
        """Return the rows of each of this process's classes. A class is one micro-batch, whatever the size."""
        classes = self._classes(rows)
        return [rows[classes == k] for k in self._classes_of_process(rows)]

    def gradient(
        self,
        parts: Sequence[MicroBatch],
        rows: np.ndarray,
        step: int,  # noqa: ARG002
        part_size: int | None = None,  # noqa: ARG002
    ) -> LossGradient:
        """Return the gradient of the distance by the embedder."""
        all_parameters = dict(self.model.named_parameters())
        embedder = {name: all_parameters[name] for name in self.trained}
        tensors: list[Tensor] = list(embedder.values())
        sums = [torch.zeros_like(tensor) for tensor in tensors]
        class_weights = np.bincount(self.labels) / len(self.labels)
        loss = torch.zeros((), dtype=torch.float64, device=self.source[0].device)
        for part, k in zip(parts, self._classes_of_process(rows), strict=True):
            weight = float(class_weights[k])
            backward = functools.partial(self._backward, part, tensors)
            value, gradients = call_with_parameters(self.model, embedder, backward)
            loss += weight * value
            sums = [total + weight * gradient for total, gradient in zip(sums, gradients, strict=True)]
        processes = self.training.processes
        sums = processes.sum(sums)
        (loss,) = processes.sum([loss])
        return LossGradient(dict(zip(embedder, sums, strict=True)), number_of(loss))

    def _backward(
        self, part: MicroBatch, tensors: list[Tensor], model: TargetModel
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the distance of the class in a micro-batch, and its gradients by the tensors."""
        tokens = model.embed(part.x)
        # The feature map of a convolutional stem has its channels on the second axis.
        features = tokens.mean(dim=1) if tokens.ndim == 3 else tokens.flatten(2).mean(dim=2)
        value = class_distance(features, self.source)
        return value.detach(), plain_gradients(value, tensors)

    def _classes(self, rows: np.ndarray) -> np.ndarray:
        """Return the class of each row, shape (n,)."""
        return np.asarray(self.labels[np.searchsorted(self.rows, rows)])

    def _classes_of_process(self, rows: np.ndarray) -> list[int]:
        """Return the classes of these rows that this process computes."""
        return [int(k) for k in self.training.processes.interleaved_share(np.unique(self._classes(rows)))]


def alignment_classes(data: TargetData) -> np.ndarray:
    """Return a class for each training sample: its class, or a cluster of its labels or of its regression values."""
    if data.output.task != "regression":
        labels = np.asarray(data.table.class_labels[data.train])
        if labels.ndim == 1:
            return labels
        return pseudo_classes(labels.astype(np.float64), n_classes=min(CLUSTERS, len(np.unique(labels, axis=0))))
    assert data.table.targets is not None
    selected = data.table.select(data.train)
    values = pool_targets(selected.targets, selected.masks)  # type: ignore[arg-type]
    return pseudo_classes(values, n_classes=min(data.target.manifest.pseudo_classes or CLUSTERS, len(values)))


# The method

EPOCHS = 60
"""Number of epochs of stage 1 for targets whose recipe has none."""
LOW_LEARNING_RATE = 1e-3
LEARNING_RATE_FACTOR = 10
"""Stage 1 has the learning rate of stage 2, times this factor if it is at most LOW_LEARNING_RATE."""
DROP_EPOCHS = (21, 41, 61)
"""Numbers of epochs of stage 1 after which the learning rate drops to a fifth.

ORCA's code lowers it after the epochs 20, 40 and 60, and numbers them from 0.
"""


def _stage1_defaults(manifest: Manifest) -> Mapping[str, object]:
    """Return the settings of stage 1 in ORCA's code: those of stage 2's optimizer, with a low learning rate raised."""
    training = manifest.training
    recipe = FullStage().model_dump() if training is None else training.model_dump(exclude_none=True)
    settings: dict[str, object] = {"epochs": recipe.get("stage1_epochs", EPOCHS), "drop_epochs": DROP_EPOCHS}
    settings |= {name: recipe[name] for name in ("optimizer", "weight_decay", "momentum", "betas") if name in recipe}
    if "learning_rate" in recipe:
        rate = recipe["learning_rate"]
        settings["learning_rate"] = rate * LEARNING_RATE_FACTOR if rate <= LOW_LEARNING_RATE else rate
    if "stage1_samples_per_class" in recipe:
        settings["samples_per_class"] = recipe["stage1_samples_per_class"]
    return settings


METHOD = Method(
    name="orca",
    title="the source's embedder is aligned to the surrogate class by class (OTDD), then everything is trained",
    reference="Shen et al. (2023), Cross-modal fine-tuning: align then refine",
    stages=two_stages(AlignmentObjective),
    embedder_start="source",
    stage1_defaults=_stage1_defaults,
)
