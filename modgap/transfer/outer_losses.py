"""Losses that measure how badly features separate labeled classes: those that can replace MoNA's outer loss.

All take unit-normalized features z (n, d) and integer labels (n,), return a scalar to minimize, and are twice
differentiable in z. For a batch without the pairs that a loss needs the value is 0 with gradient 0, never NaN. Memory
grows as n x n and n x d, not as n x n x d. Half precision is converted to float32, also within autocast.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from modgap.errors import InputError, UsageError
from modgap.transfer.numerics import safe_divide, safe_sqrt, to_single_precision

__all__ = [
    "check_features",
    "class_centers",
    "class_members",
    "davies_bouldin",
    "same_class",
    "supervised_contrastive",
    "without_autocast",
    "zero",
]


def without_autocast(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Disable autocast in a function, because it would round the products of features to half precision."""

    @functools.wraps(function)
    def wrapper(z: Tensor, labels: Tensor, *args: Any, **options: Any) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return function(to_single_precision(z), labels, *args, **options)

    return wrapper


@without_autocast
def supervised_contrastive(z: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Compute the supervised contrastive loss L_out (Khosla et al. 2020, equation 2), averaged over the anchors.

    For each anchor it is the negative mean, over the other samples of its class, of the logarithm of
    softmax(z . z' / temperature) over all other samples. A sample that is alone in its class is not an anchor, but is
    among the other samples.

    Args:
        z: Unit-normalized features (n, d).
        labels: Classes (n,), integers.
        temperature: Temperature of the softmax, more than 0. The default is that of the paper.

    Returns:
        Scalar, 0 or more, in nats; 0 if no class has two samples.

    Raises:
        InputError: When the shapes do not fit or the labels are not integers.
        UsageError: When the temperature is not more than 0.
    """
    if not temperature > 0:
        raise UsageError(f"The temperature is {temperature}, but it must be more than 0.")
    check_features(z, labels)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = same_class(labels) & ~itself
    counts = positive.sum(1)
    anchors = counts > 0
    if not anchors.any():
        return zero(z)
    logits = z @ z.T / temperature
    sums = logits.masked_fill(itself, -torch.inf).logsumexp(1)
    similarity = (logits * positive).sum(1) / counts.clamp(min=1)
    return (sums - similarity)[anchors].mean()


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
    centers = class_centers(z, members, counts)
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


def same_class(labels: Tensor) -> Tensor:
    """Return True for each pair of samples with the same label, (n, n)."""
    return labels[:, None] == labels


def class_members(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the one-hot class of each sample (n, classes) and the class sizes (classes,), both in z's precision."""
    check_features(z, labels)
    classes, numbers = torch.unique(labels, return_inverse=True)
    members = (numbers[:, None] == torch.arange(len(classes), device=z.device)).to(z.dtype)
    return members, members.sum(0)


def class_centers(z: Tensor, members: Tensor, counts: Tensor) -> Tensor:
    """Return the mean feature of each class (classes, d), given what `class_members` returns."""
    return members.T @ z / counts[:, None]


def zero(z: Tensor) -> Tensor:
    """Return a 0 that is in z's graph, with first and second derivative 0."""
    return (z**2 * 0).sum()
