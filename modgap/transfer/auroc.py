"""Metrics of how scores rank positions: area under the ROC curve, average precision."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn.functional import one_hot

from modgap.errors import InputError
from modgap.transfer.numerics import counting

__all__ = ["ranked", "scores_of"]


def scores_of(outputs: Tensor, y: Tensor, mask: Tensor | None) -> dict[str, np.ndarray]:
    """All scores of a batch that count, one entry each.

    Args:
        outputs: Scores (n, K, ...), larger for yes.
        y: 0/1 of the same shape, or classes (n, ...).
        mask: 0/1 of y's shape or (n,); None where all count.

    Returns:
        `scores` float32, `positive`, `classes` (the axis after samples) and `rows` (the sample), all (entries,), and
        `n_classes` ().
    """
    valid = counting(mask, y.shape)
    if y.ndim == outputs.ndim - 1:
        y, valid = _by_class(outputs, y, valid)
    if outputs.ndim < 2 or outputs.shape != y.shape:
        raise InputError(f"expected y of the scores' shape {tuple(outputs.shape)}, or classes, got {tuple(y.shape)}")
    entries = torch.ones_like(y, dtype=torch.bool) if valid is None else valid
    rows, classes = np.nonzero(entries.cpu().numpy())[:2]
    return {
        "scores": outputs[entries].float().cpu().numpy(),
        "positive": (y[entries] > 0.5).cpu().numpy(),
        "classes": classes.astype(np.int32),
        "rows": rows,
        "n_classes": np.array(outputs.shape[1]),
    }


def _by_class(outputs: Tensor, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """One class a position as 0/1 for each class; with one output y is 0/1 already."""
    n_classes = outputs.shape[1]
    if n_classes > 1:
        if y.is_floating_point():
            raise InputError(f"expected classes as integers for {n_classes} scores a position, got {y.dtype}")
        counted = y if valid is None else y * valid
        y = one_hot(counted.long(), n_classes).movedim(-1, 1)
    else:
        y = y.unsqueeze(1)
    return y, None if valid is None else valid.unsqueeze(1).expand(y.shape)


def ranked(state: Mapping[str, np.ndarray], kind: str) -> Callable[[np.ndarray], tuple[float, int]]:
    """1 - the mean over classes of what `kind` says, as a function of the samples' weights; sorts once.

    Args:
        state: As `scores_of` gives it.
        kind: `AUROC`, of classes with both positive and negative entries, or `mAP`, average precision (the sum of
            precisions at each score, times the recall gained there), of classes with positive ones.

    Returns:
        A function of weights (n,) that gives the value, NaN where no class is left, and how many classes were left
        out.
    """
    order = np.argsort(-state["scores"])
    # Small integers are sorted by radix.
    order = order[np.argsort(state["classes"][order].astype(np.uint16), kind="stable")]
    scores, classes = state["scores"][order], state["classes"][order]
    rows, positive = state["rows"][order].astype(np.int32), state["positive"][order]
    n_classes = int(state["n_classes"])
    starts = np.searchsorted(classes, np.arange(n_classes + 1))
    last = np.append((np.diff(scores) != 0) | (np.diff(classes) != 0), True)[: len(scores)]
    broken = bool(np.isnan(scores).any())

    def value(weights: np.ndarray) -> tuple[float, int]:
        areas, precisions = np.full((2, n_classes), np.nan)
        walk(starts, rows, positive, last, weights, areas, precisions)
        found = areas if kind == "AUROC" else precisions
        known = ~np.isnan(found)
        left_out = n_classes - int(known.sum())
        return (float("nan") if broken or left_out == n_classes else 1 - float(found[known].mean())), left_out

    return value


@njit(cache=True, nogil=True)
def walk(starts, rows, positive, last, weights, areas, precisions):
    """Area under the ROC curve and average precision of each class, ties taken together.

    starts (K + 1,) where classes start among the entries, each class's from the largest score down; rows (entries,)
    sample of each, positive (entries,), last (entries,) whether it is the last of its score; weights (n,) of samples.
    Into areas (K,) and precisions (K,), left as they are where they are not defined.
    """
    for k in range(len(starts) - 1):
        above, below, area, precision = 0.0, 0.0, 0.0, 0.0
        tied_above, tied_below = 0.0, 0.0
        for e in range(starts[k], starts[k + 1]):
            if positive[e]:
                tied_above += weights[rows[e]]
            else:
                tied_below += weights[rows[e]]
            if last[e]:
                area += tied_below * (above + tied_above / 2)
                above += tied_above
                below += tied_below
                if tied_above > 0:
                    precision += tied_above * above / (above + below)
                tied_above, tied_below = 0.0, 0.0
        if above > 0:
            precisions[k] = precision / above
            if below > 0:
                areas[k] = area / (above * below)
