"""Objectives on labeled features, which measure how well an encoder separates the classes of a surrogate.

All take unit-normalized features z (n, d) and integer labels (n,), return a scalar to minimize, and are twice
differentiable in z. For a batch without the pairs that an objective needs the value is 0 with gradient 0, never NaN.
Memory grows as n x n and n x d, not as n x n x d. Half precision is converted to float32, also within autocast.
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
"""Function (z, labels) that returns a scalar; lower is better."""


def _without_autocast(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Disable autocast in a function, because it would round the products of features to half precision."""

    @functools.wraps(function)
    def wrapper(z: Tensor, labels: Tensor, *args: Any, **options: Any) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return function(to_single_precision(z), labels, *args, **options)

    return wrapper


@_without_autocast
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
    members, counts = _members(z, labels)
    # The squared distances of all pairs of a class sum to its size times the squared distances to its center. This
    # takes no difference of large numbers, so values are exact even for features that have collapsed.
    residuals = ((z - members @ _centers(z, members, counts)) ** 2).sum(1)
    pairs = (counts * (counts - 1)).sum() / 2
    return (residuals * (members @ counts)).sum() / pairs.clamp(min=1)


@_without_autocast
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
    _check_inputs(z, labels)
    excluded = _same_class(labels) if not all_pairs else torch.eye(len(z), dtype=torch.bool, device=z.device)
    pairs = (~excluded).sum()
    if not pairs:
        return _zero(z)
    norms = (z**2).sum(1)
    squares = norms[:, None] + norms - 2 * z @ z.T
    return (-2 * squares).masked_fill(excluded, -torch.inf).flatten().logsumexp(0) - pairs.to(z.dtype).log()


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


@_without_autocast
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
    _check_inputs(z, labels)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = _same_class(labels) & ~itself
    counts = positive.sum(1)
    anchors = counts > 0
    if not anchors.any():
        return _zero(z)
    logits = z @ z.T / temperature
    sums = logits.masked_fill(itself, -torch.inf).logsumexp(1)
    similarity = (logits * positive).sum(1) / counts.clamp(min=1)
    return (sums - similarity)[anchors].mean()


@_without_autocast
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
    members, counts = _members(z, labels)
    if len(counts) < 2:
        return _zero(z)
    centers = _centers(z, members, counts)
    distances = safe_sqrt(((z - members @ centers) ** 2).sum(1))
    spreads = members.T @ distances / counts
    first, second = torch.triu_indices(len(counts), len(counts), 1, device=z.device)
    apart = safe_sqrt(((centers[first] - centers[second]) ** 2).sum(1))
    ratios = z.new_zeros(len(counts), len(counts))
    ratios = ratios.index_put((first, second), safe_divide(spreads[first] + spreads[second], apart))
    return (ratios + ratios.T).max(1).values.mean()


def objective(name: str, **options: Any) -> Objective:
    """Return the objective of a name: a function (z, labels) that returns a scalar to minimize.

    Args:
        name: `alignment-uniformity` (option all_pairs), `supervised-contrastive` (temperature), `davies-bouldin`.
        **options: Options of the objective, named in parentheses above.

    Raises:
        UsageError: When there is no such objective or option.
    """
    return choose_function("objective", OBJECTIVES, name, options)


def _check_inputs(z: Tensor, labels: Tensor) -> None:
    if z.ndim != 2 or labels.shape != z.shape[:1] or labels.is_floating_point():
        raise InputError(
            f"The features have shape {tuple(z.shape)}, and the labels are {labels.dtype} of shape "
            f"{tuple(labels.shape)}. Expected features (n, d) and n integer labels."
        )


def _same_class(labels: Tensor) -> Tensor:
    """Return True for each pair of samples with the same label, (n, n)."""
    return labels[:, None] == labels


def _members(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the one-hot class of each sample (n, classes) and the class sizes (classes,), both in z's precision."""
    _check_inputs(z, labels)
    classes, numbers = torch.unique(labels, return_inverse=True)
    members = (numbers[:, None] == torch.arange(len(classes), device=z.device)).to(z.dtype)
    return members, members.sum(0)


def _centers(z: Tensor, members: Tensor, counts: Tensor) -> Tensor:
    return members.T @ z / counts[:, None]


def _zero(z: Tensor) -> Tensor:
    """Return a 0 that is in z's graph, with first and second derivative 0."""
    return (z**2 * 0).sum()


OBJECTIVES: Mapping[str, Callable[..., Tensor]] = {
    "alignment-uniformity": alignment_uniformity,
    "davies-bouldin": davies_bouldin,
    "supervised-contrastive": supervised_contrastive,
}
