"""Losses on labeled surrogate data: features through the source's embedder and the encoder, and their gradients."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from modgap.errors import InputError, UsageError
from modgap.models import TargetModel
from modgap.process.devices import Number, map_tensors, number_of, upload
from modgap.training.batches import chunks
from modgap.training.losses import safe_divide, safe_sqrt, to_single_precision
from modgap.training.method import Training
from modgap.training.placement import Processes, reduced_precision
from modgap.training.surrogate import Surrogate, SurrogateBatch, balanced_rows, embedder_features, encoder_features
from modgap.training.task_loss import call_with_parameters, plain_gradients

SURROGATE_SETTINGS = (
    "stage1.surrogate", "stage1.surrogate_split", "stage1.surrogate_batch", "stage1.surrogate_samples",
)  # fmt: skip
"""Settings of objectives that use the surrogate, also in stage 2."""

TEMPERATURE = 0.1
"""Temperature of the softmax of the supervised contrastive loss, which is that of the paper."""

Options = ParamSpec("Options")
FeatureLoss = Callable[[Tensor, Tensor], Tensor]
"""Function of features (N, D) and classes (N,) that returns a scalar; lower is better."""
SurrogateUpdate = tuple[int, SurrogateBatch, Tensor]
"""Number of an update in the whole run, its samples of this process, and the classes (N,) of those of all processes."""


@dataclass(frozen=True)
class OuterLoss:
    """A loss of one batch of the surrogate.

    Attributes:
        features: Functions from a model, at any parameters, to the features (n, D) of parts of this process's samples.
            Of several parts, each passes through the model on its own, twice, so that less memory is needed.
        labels: Classes of the samples of all processes, shape (N,).
        function: Function from features (N, D) and classes (N,) to a scalar loss.
        processes: Processes that share the samples; the function gets the features of all of them.
        normalizes: True to bring features to unit length.
    """

    features: Sequence[Callable[[TargetModel], Tensor]]
    labels: Tensor
    function: FeatureLoss
    processes: Processes = field(default_factory=Processes)
    normalizes: bool = True

    def gradient(
        self, model: TargetModel, parameters: Mapping[str, Tensor], names: Sequence[str]
    ) -> tuple[dict[str, Tensor], Number]:
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
        return dict(zip(names, self.processes.sum(list(gradients)), strict=True)), number_of(value)

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
            of_part = plain_gradients(features(model), tensors, gradient)
            sums = [total + part for total, part in zip(sums, of_part, strict=True)]
        return value.detach(), tuple(sums)

    def _value(self, share: Tensor) -> Tensor:
        if self.normalizes:
            share = normalize(share, dim=-1)
        return self.function(self.processes.gather(share, len(self.labels)), self.labels)


class SurrogateFeatures:
    """Features of a run's surrogate, through the source's own embedder and an encoder.

    Attributes:
        labels: Class of each sample, shape (n,).
        reader: Function that reads what an update takes of the surrogate, by the number of the update in the whole run.
    """

    def __init__(self, training: Training) -> None:
        """Move the source's parts to the device, frozen, in evaluation mode."""
        assert training.surrogate is not None
        self._training = training
        self._size, dtype = training.recipe.stage1.surrogate_batch, training.dtype
        self._load = functools.partial(_load_samples, training.surrogate, dtype)
        self.reader = functools.partial(
            _read_update, training.surrogate, self._size, training.seed, dtype, training.processes
        )
        self._read_ahead: SurrogateUpdate | None = None
        self._parts = training.source.split()
        for module in (self._parts.embedder, self._parts.encoder):
            module.to(device=training.device, dtype=dtype).eval().requires_grad_(False)
        self.labels = training.surrogate.labels

    def of_embedder(self) -> Tensor:
        """Return the features (n, D) of all samples at the source's embedder."""
        return torch.cat([embedder_features(self._parts, batch) for batch in self._all_batches()])

    def of_source(self) -> Tensor:
        """Return the features (n, D) of all samples through the source's encoder before training, on the CPU."""
        encoder = self._parts.encoder
        return torch.cat([encoder_features(self._parts, encoder, batch).cpu() for batch in self._all_batches()])

    def receive(self, update: SurrogateUpdate) -> None:
        """Take over what was read for the next update; `loss` reads what nobody has read before."""
        self._read_ahead = update

    def loss(
        self, function: FeatureLoss, step: int, part_size: int | None = None, *, normalizes: bool = True
    ) -> OuterLoss:
        """Return a loss of the features of the batch of an update, through the encoder that is trained.

        Args:
            function: Function of the features and of the classes, which stay on the CPU, so that nothing waits for the
                device where they are read.
            step: Number of the update in the whole run.
            part_size: Largest number of samples that pass through the model together; None for all.
            normalizes: True to bring features to unit length.

        Raises:
            UsageError: When the encoder has no parameters, as that of a bag of words.
        """
        if next(self._parts.encoder.parameters(), None) is None:
            raise UsageError(
                "The source's encoder has no parameters, so training cannot change what it knows of a surrogate. "
                "Choose a method without a surrogate, such as finetune, or another source."
            )
        update = self._read_ahead
        if update is None or update[0] != step:
            update = self.reader(step)
        _, batch, labels = update
        batch = upload(batch, self._training.device)
        batches = [batch] if part_size is None else batch.divide(part_size)
        features = [functools.partial(self._features_of_batch, part) for part in batches]
        return OuterLoss(features, labels, function, self._training.processes, normalizes)

    def pass_one(self, model: TargetModel) -> Tensor:
        """Return the features of one sample of the first batch, which may be padded to the longest."""
        _, batch, _ = self.reader(0)
        return self._features_of_batch(upload(batch.divide(1)[0], self._training.device), model)

    def _features_of_batch(self, batch: SurrogateBatch, model: TargetModel) -> Tensor:
        """Return the features of a surrogate batch, computed in reduced precision if that is asked for."""
        with reduced_precision(self._training.device, self._training.autocast):
            features = encoder_features(self._parts, model.encoder, batch)
        return to_single_precision(features)

    def _all_batches(self) -> Iterator[SurrogateBatch]:
        for rows in chunks(np.arange(len(self.labels)), self._size):
            yield upload(self._load(rows), self._training.device)


def _load_samples(surrogate: Surrogate, dtype: torch.dtype, rows: np.ndarray) -> SurrogateBatch:
    """Read samples on the CPU, with floating-point tensors of a precision."""
    batch = surrogate.load(rows, torch.device("cpu"))
    return map_tensors(batch, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def _read_update(
    surrogate: Surrogate, size: int, seed: int, dtype: torch.dtype, processes: Processes, step: int
) -> SurrogateUpdate:
    """Read the samples of an update on the CPU, of which there are `size` over all processes; a worker can call it."""
    rows = balanced_rows(surrogate.labels, step, size, seed)
    batch = _load_samples(surrogate, dtype, processes.interleaved_share(rows))
    return step, batch, torch.from_numpy(surrogate.labels[rows])


# Losses of features


def without_autocast(
    function: Callable[Concatenate[Tensor, Tensor, Options], Tensor],
) -> Callable[Concatenate[Tensor, Tensor, Options], Tensor]:
    """Disable autocast in a function, because it would round the products of features to half precision."""

    @functools.wraps(function)
    def wrapper(z: Tensor, labels: Tensor, /, *args: Options.args, **options: Options.kwargs) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return function(to_single_precision(z), labels, *args, **options)

    return wrapper


@without_autocast
def supervised_contrastive(z: Tensor, labels: Tensor) -> Tensor:
    """Compute the supervised contrastive loss L_out (Khosla et al. 2020, equation 2), averaged over the anchors.

    For each anchor it is the negative mean, over the other samples of its class, of the logarithm of
    softmax(z . z' / TEMPERATURE) over all other samples. A sample that is alone in its class is not an anchor, but is
    among the other samples.

    Args:
        z: Unit-normalized features (n, d).
        labels: Classes (n,), integers.

    Returns:
        Scalar, 0 or more, in nats; 0 if no class has two samples.

    Raises:
        InputError: When the shapes do not fit or the labels are not integers.
    """
    check_features(z, labels)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    same = labels[:, None] == labels
    # The labels may be on the CPU, where nothing waits for their counts.
    anchors = (same.sum(1) > 1).nonzero().squeeze(1)
    if not len(anchors):
        return zero(z)
    positive = upload(same, z.device) & ~itself
    counts = positive.sum(1)
    logits = z @ z.T / TEMPERATURE
    sums = logits.masked_fill(itself, -torch.inf).logsumexp(1)
    similarity = (logits * positive).sum(1) / counts.clamp(min=1)
    return (sums - similarity)[upload(anchors, z.device)].mean()


@without_autocast
def davies_bouldin(z: Tensor, labels: Tensor) -> Tensor:
    """Compute the Davies-Bouldin index (1979): the mean over classes of the largest (s_i + s_j) / d_ij over the others.

    s is the mean distance of the features of a class to their center, d the distance between two centers. Classes with
    one sample have s = 0. Pairs of classes with the same center are skipped, as in scikit-learn.

    Args:
        z: Features (n, d), unit-normalized or not.
        labels: Classes (n,), integers.

    Returns:
        Scalar, 0 or more; 0 with fewer than two classes.

    Raises:
        InputError: When the shapes do not fit or the labels are not integers.
    """
    members, counts = class_members(z, labels)
    if len(counts) < 2:
        return zero(z)
    centers = members.T @ z / counts[:, None]
    distances = safe_sqrt(((z - members @ centers) ** 2).sum(1))
    spreads = members.T @ distances / counts
    first, second = torch.triu_indices(len(counts), len(counts), 1, device=z.device)
    apart = safe_sqrt(((centers[first] - centers[second]) ** 2).sum(1))
    ratios = z.new_zeros(len(counts), len(counts))
    ratios = ratios.index_put((first, second), safe_divide(spreads[first] + spreads[second], apart))
    return (ratios + ratios.T).max(1).values.mean()


def check_features(z: Tensor, labels: Tensor) -> None:
    """Raise an InputError if the shapes of features and labels do not fit, or the labels are not integers."""
    if z.ndim != 2 or labels.shape != z.shape[:1] or labels.is_floating_point():
        raise InputError(
            f"The features have shape {tuple(z.shape)}, and the labels are {labels.dtype} of shape "
            f"{tuple(labels.shape)}. Expected features (n, d) and n integer labels."
        )


def class_members(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the one-hot class of each sample (n, classes) and the class sizes (classes,), both in z's precision."""
    check_features(z, labels)
    classes, numbers = torch.unique(labels, return_inverse=True)
    members = upload((numbers[:, None] == torch.arange(len(classes), device=labels.device)).to(z.dtype), z.device)
    return members, members.sum(0)


def zero(z: Tensor) -> Tensor:
    """Return a 0 that is in z's graph, with first and second derivative 0."""
    return (z**2 * 0).sum()
