"""Objectives on labeled features: how well an encoder separates the classes of a surrogate source set.

All take unit-normalized features z (n, d) and integer labels (n,), give a scalar to minimize, and are twice
differentiable in z. A batch that has none of the pairs an objective is of gives 0 with gradient 0, never NaN. Memory
grows as n x n and n x d, not as n x n x d. Half precision is taken as float32, also within autocast.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from modgap.errors import InputError, UsageError
from modgap.transfer.named_functions import choose_function
from modgap.transfer.numerics import safe_divide, safe_sqrt, to_single_precision

__all__ = [
    "OBJECTIVES",
    "Objective",
    "alignment",
    "alignment_uniformity",
    "davies_bouldin",
    "objective",
    "supervised_contrastive",
    "uniformity",
]

Objective = Callable[[Tensor, Tensor], Tensor]
"""(z, labels) -> scalar, lower is better."""


def _precise(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Without autocast, which would round the products of features to half precision."""

    @functools.wraps(function)
    def within(z: Tensor, labels: Tensor, *args: Any, **options: Any) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return function(to_single_precision(z), labels, *args, **options)

    return within


@_precise
def alignment(z: Tensor, labels: Tensor) -> Tensor:
    """How far features of one class lie apart: the mean of ||z - z'||^2 over all pairs with the same label.

    Wang and Isola (2020), with exponent 2. A class with one sample has no pair.

    Args:
        z: Unit-normalized features (n, d).
        labels: Classes (n,), integers.

    Returns:
        Scalar, 0 to 4 (2 n / (n - 1) at most in one class); 0 where there is no pair.

    Raises:
        InputError: When shapes do not fit or labels are no integers.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> alignment(z, torch.tensor([0, 0, 1])).item(), alignment(z, torch.tensor([0, 1, 1])).item()
        (2.0, 4.0)
    """
    members, counts = _members(z, labels)
    # The squared distances of all pairs of a class sum to its size times those to its center; no difference of large
    # numbers is taken, so that features that have fallen together still give exact values.
    residuals = ((z - members @ _centers(z, members, counts)) ** 2).sum(1)
    pairs = (counts * (counts - 1)).sum() / 2
    return (residuals * (members @ counts)).sum() / pairs.clamp(min=1)


@_precise
def uniformity(z: Tensor, labels: Tensor, all_pairs: bool = False) -> Tensor:
    """How evenly features spread: the logarithm of the mean over pairs of exp(-2 ||z - z'||^2).

    Wang and Isola (2020), with t = 2, over pairs of different classes.

    Args:
        z: Unit-normalized features (n, d).
        labels: Classes (n,), integers.
        all_pairs: Whether pairs of one class are among them, as in Wang and Isola's own.

    Returns:
        Scalar, -8 to 0; 0 where there is no pair.

    Raises:
        InputError: When shapes do not fit or labels are no integers.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> uniformity(z, torch.tensor([0, 1, 1])).item(), uniformity(z, torch.tensor([0, 0, 0])).item()
        (-4.0, 0.0)
    """
    _check(z, labels)
    excluded = _same(labels) if not all_pairs else torch.eye(len(z), dtype=torch.bool, device=z.device)
    pairs = (~excluded).sum()
    if not pairs:
        return _nothing(z)
    norms = (z**2).sum(1)
    squares = norms[:, None] + norms - 2 * z @ z.T
    return (-2 * squares).masked_fill(excluded, -torch.inf).flatten().logsumexp(0) - pairs.to(z.dtype).log()


def alignment_uniformity(z: Tensor, labels: Tensor, *, all_pairs: bool = False) -> Tensor:
    """MoNA's outer objective, the sum of `alignment` and `uniformity` (ICML 2024, equation 4).

    Args:
        z: Unit-normalized features (n, d).
        labels: Classes (n,), integers.
        all_pairs: As `uniformity` takes it.

    Returns:
        Scalar, -8 to 4.

    Raises:
        InputError: When shapes do not fit or labels are no integers.
    """
    return alignment(z, labels) + uniformity(z, labels, all_pairs)


@_precise
def supervised_contrastive(z: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss L_out (Khosla et al. 2020, equation 2), mean over the samples that have a positive.

    For each sample, the mean over the others of its class of the logarithm of softmax(z . z' / temperature) over all
    other samples, negated. A sample alone in its class is no anchor, but one of the others.

    Args:
        z: Unit-normalized features (n, d).
        labels: Classes (n,), integers.
        temperature: More than 0; 0.1 as in the paper.

    Returns:
        Scalar, 0 or more, in nats; 0 where no class has two samples.

    Raises:
        InputError: When shapes do not fit or labels are no integers.
        UsageError: When the temperature is not more than 0.
    """
    if not temperature > 0:
        raise UsageError(f"expected a temperature of more than 0, got {temperature}")
    _check(z, labels)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = _same(labels) & ~itself
    counts = positive.sum(1)
    anchors = counts > 0
    if not anchors.any():
        return _nothing(z)
    logits = z @ z.T / temperature
    sums = logits.masked_fill(itself, -torch.inf).logsumexp(1)
    nearness = (logits * positive).sum(1) / counts.clamp(min=1)
    return (sums - nearness)[anchors].mean()


@_precise
def davies_bouldin(z: Tensor, labels: Tensor) -> Tensor:
    """Davies-Bouldin index (1979): the mean over classes of the largest (s_i + s_j) / d_ij over the other classes.

    s is the mean distance of a class's features to their center, d that between centers. Classes with one sample have
    s = 0; two classes with the same center are passed over, as in scikit-learn.

    Args:
        z: Features (n, d); unit-normalized or not.
        labels: Classes (n,), integers.

    Returns:
        Scalar, 0 or more; 0 with fewer than two classes.

    Raises:
        InputError: When shapes do not fit or labels are no integers.
    """
    members, counts = _members(z, labels)
    if len(counts) < 2:
        return _nothing(z)
    centers = _centers(z, members, counts)
    distances = safe_sqrt(((z - members @ centers) ** 2).sum(1))
    spreads = members.T @ distances / counts
    first, second = torch.triu_indices(len(counts), len(counts), 1, device=z.device)
    apart = safe_sqrt(((centers[first] - centers[second]) ** 2).sum(1))
    ratios = z.new_zeros(len(counts), len(counts))
    ratios = ratios.index_put((first, second), safe_divide(spreads[first] + spreads[second], apart))
    return (ratios + ratios.T).max(1).values.mean()


def objective(name: str, **options: Any) -> Objective:
    """An objective by name, with its options: a function (z, labels) that gives a scalar to minimize.

    Args:
        name: `alignment-uniformity` (option all_pairs), `supervised-contrastive` (temperature), `davies-bouldin`.
        **options: As above.

    Raises:
        UsageError: When there is no such objective or option.
    """
    return choose_function("objective", OBJECTIVES, name, options)


def _check(z: Tensor, labels: Tensor) -> None:
    if z.ndim != 2 or labels.shape != z.shape[:1] or labels.is_floating_point():
        raise InputError(
            f"expected features (n, d) and n integer labels, got {tuple(z.shape)} and {labels.dtype} "
            f"{tuple(labels.shape)}"
        )


def _same(labels: Tensor) -> Tensor:
    """Whether two samples have one label, (n, n)."""
    return labels[:, None] == labels


def _members(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which class each sample is in, 0/1 (n, classes), and how many each has (classes,), both in z's precision."""
    _check(z, labels)
    found, numbers = labels.unique(return_inverse=True)
    members = (numbers[:, None] == torch.arange(len(found), device=z.device)).to(z.dtype)
    return members, members.sum(0)


def _centers(z: Tensor, members: Tensor, counts: Tensor) -> Tensor:
    return members.T @ z / counts[:, None]


def _nothing(z: Tensor) -> Tensor:
    """0 that is in z's graph, with derivatives 0 of both orders."""
    return (z**2 * 0).sum()


OBJECTIVES: Mapping[str, Callable[..., Tensor]] = {
    "alignment-uniformity": alignment_uniformity,
    "davies-bouldin": davies_bouldin,
    "supervised-contrastive": supervised_contrastive,
}
