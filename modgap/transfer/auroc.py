"""Ranking metrics of scores: area under the ROC curve and average precision."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn.functional import one_hot

from modgap.errors import InputError
from modgap.transfer.numerics import valid_positions

__all__ = ["collect_scores", "ranking_error"]


def collect_scores(outputs: Tensor, y: Tensor, mask: Tensor | None) -> dict[str, np.ndarray]:
    """Collect all valid scores of a batch, one entry for each.

    Args:
        outputs: Scores (n, K, ...), larger for positive.
        y: 0/1 of the same shape, or classes (n, ...).
        mask: 0/1 of y's shape, or of shape (n,) to mask complete samples. None if all positions are valid.

    Returns:
        `scores` (float32), `positive`, `classes` (index on the axis after the samples) and `rows` (index of the
        sample), all of shape (entries,), and `n_classes`, a scalar.

    Raises:
        InputError: When the shapes do not fit.
    """
    valid = valid_positions(mask, y.shape)
    if y.ndim == outputs.ndim - 1:
        y, valid = _one_hot(outputs, y, valid)
    if outputs.ndim < 2 or outputs.shape != y.shape:
        raise InputError(
            f"y has shape {tuple(y.shape)}. Expected the shape of the scores, {tuple(outputs.shape)}, or classes."
        )
    entries = torch.ones_like(y, dtype=torch.bool) if valid is None else valid
    rows, classes = np.nonzero(entries.cpu().numpy())[:2]
    return {
        "scores": outputs[entries].float().cpu().numpy(),
        "positive": (y[entries] > 0.5).cpu().numpy(),
        "classes": classes.astype(np.int32),
        "rows": rows,
        "n_classes": np.array(outputs.shape[1]),
    }


def _one_hot(outputs: Tensor, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the class of each position as 0/1 for each class. With one output y is 0/1 already."""
    n_classes = outputs.shape[1]
    if n_classes > 1:
        if y.is_floating_point():
            raise InputError(f"y is {y.dtype}. Expected classes as integers for {n_classes} scores at each position.")
        valid_classes = y if valid is None else y * valid
        y = one_hot(valid_classes.long(), n_classes).movedim(-1, 1)
    else:
        y = y.unsqueeze(1)
    return y, None if valid is None else valid.unsqueeze(1).expand(y.shape)


def ranking_error(state: Mapping[str, np.ndarray], kind: str) -> Callable[[np.ndarray], tuple[float, int]]:
    """Return 1 - the mean over classes of a ranking metric, as a function of the samples' weights. Sorts only once.

    Args:
        state: Result of `collect_scores`.
        kind: `AUROC`, over classes with both positive and negative entries, or `mAP`, average precision (the sum over
            scores of the precision times the gain in recall), over classes with positive entries.

    Returns:
        A function of weights (n,) that returns the value, NaN if no class is left, and the number of classes that were
        left out.
    """
    order = np.argsort(-state["scores"])
    # NumPy sorts small integers by radix.
    order = order[np.argsort(state["classes"][order].astype(np.uint16), kind="stable")]
    scores = state["scores"][order]
    classes = state["classes"][order]
    rows = state["rows"][order].astype(np.int32)
    positive = state["positive"][order]
    n_classes = int(state["n_classes"])
    starts = np.searchsorted(classes, np.arange(n_classes + 1))
    is_last = np.append((np.diff(scores) != 0) | (np.diff(classes) != 0), True)[: len(scores)]
    has_nan = bool(np.isnan(scores).any())

    def value(weights: np.ndarray) -> tuple[float, int]:
        areas, precisions = np.full((2, n_classes), np.nan)
        accumulate_areas(starts, rows, positive, is_last, weights, areas, precisions)
        values = areas if kind == "AUROC" else precisions
        defined = ~np.isnan(values)
        left_out = n_classes - int(defined.sum())
        if has_nan or left_out == n_classes:
            return float("nan"), left_out
        return 1 - float(values[defined].mean()), left_out

    return value


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
def accumulate_areas(
    starts: np.ndarray,
    rows: np.ndarray,
    positive: np.ndarray,
    is_last: np.ndarray,
    weights: np.ndarray,
    areas: np.ndarray,
    precisions: np.ndarray,
) -> None:
    """Compute the area under the ROC curve and the average precision of each class. Ties are handled together.

    Args:
        starts: Index of the first entry of each class, and the number of entries, shape (K + 1,). The entries of a
            class are sorted from the largest score down.
        rows: Index of the sample of each entry, shape (entries,).
        positive: True for positive entries, shape (entries,).
        is_last: True for the last entry with the same score in its class, shape (entries,).
        weights: Weight of each sample, shape (n,).
        areas: Result, shape (K,). Values are not changed where they are not defined.
        precisions: Result, shape (K,). Values are not changed where they are not defined.
    """
    for k in range(len(starts) - 1):
        above = 0.0
        below = 0.0
        area = 0.0
        precision = 0.0
        tied_above = 0.0
        tied_below = 0.0
        for e in range(starts[k], starts[k + 1]):
            if positive[e]:
                tied_above += weights[rows[e]]
            else:
                tied_below += weights[rows[e]]
            if is_last[e]:
                area += tied_below * (above + tied_above / 2)
                above += tied_above
                below += tied_below
                if tied_above > 0:
                    precision += tied_above * above / (above + below)
                tied_above = 0.0
                tied_below = 0.0
        if above > 0:
            precisions[k] = precision / above
            if below > 0:
                areas[k] = area / (above * below)
