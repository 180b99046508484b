"""A head for a bare encoder: a linear probe on a labeled surrogate, whose classes become the source's."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from modgap.errors import InputError
from modgap.forward.batched_inference import output_batches
from modgap.inputs.native_embedding import native_embedding
from modgap.sources import Batch, Source
from modgap.targets import SPLITS, Target
from modgap.targets.splits import stratified_subset

__all__ = ["ProbeHead", "fit_probe_head"]

MOST_SAMPLES = 5000
INVERSE_L2 = 1.0


@dataclass(frozen=True)
class ProbeHead:
    """What is recorded of a fitted head.

    Attributes:
        surrogate: Name of the surrogate.
        trained_on: Samples of its training split that were used.
        test_error: Share of its test split that the probe gets wrong; None where there is none.
    """

    surrogate: str
    trained_on: int
    test_error: float | None


class _Features(nn.Module):
    """A model up to its pooled features (B, D)."""

    def __init__(self, features: Callable[[Batch], torch.Tensor], model: nn.Module):
        super().__init__()
        self.model, self._features = model, features

    def forward(self, batch: Batch) -> torch.Tensor:
        return self._features(batch)


class _Headed(nn.Module):
    """Features and the fitted layer on them; `fitted_head` can be put on the same features from elsewhere."""

    def __init__(self, features: nn.Module, layer: nn.Linear):
        super().__init__()
        self.features, self.fitted_head = features, layer

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.fitted_head(self.features(batch))


def fit_probe_head(
    source: Source, surrogate: Target, *, device: torch.device, batch_size: int | None, dtype: str
) -> tuple[Source, ProbeHead]:
    """Replace the source's head by multinomial logistic regression on standardized features.

    Args:
        source: The encoder; its own head, if any, is not used.
        surrogate: Labeled data of the source's modality.
        device: Where to run.
        batch_size: Samples at a time; None finds it.
        dtype: Precision of the encoder.

    Raises:
        InputError: When the surrogate's labels are not single classes.
    """
    table = surrogate.read()
    if table.class_labels.ndim != 1:
        raise InputError(f"expected a surrogate with one label a sample, {surrogate.name} has several")
    bare = replace(source, model=_Features(source.features, source.model))
    embedding = native_embedding(surrogate.manifest.input, table, source.input)

    def read(split: str) -> tuple[np.ndarray, np.ndarray]:
        rows = np.flatnonzero(table.splits == SPLITS.index(split))
        if len(rows) == 0:
            return np.empty((0, 0)), np.empty(0)
        if len(rows) > MOST_SAMPLES:
            rows = rows[stratified_subset(table.class_labels[rows], MOST_SAMPLES, 0)]
        batches = output_batches(
            bare, table.samples, rows, embedding, device=device, batch_size=batch_size, dtype=dtype
        )  # fmt: skip
        return np.concatenate(list(batches)), table.class_labels[rows]

    (features, labels), (unseen, truth) = read("train"), read("test")
    if len(np.unique(labels)) < max(2, len(np.unique(table.class_labels))):
        raise InputError(f"expected training samples of every class, at least two, in surrogate {surrogate.name}")
    scaler = StandardScaler().fit(features)
    probe = LogisticRegression(C=INVERSE_L2, max_iter=1000).fit(scaler.transform(features), labels)
    error = float((probe.predict(scaler.transform(unseen)) != truth).mean()) if len(truth) else None
    head = _Headed(bare.model, _linear(scaler, probe)).eval()
    names = tuple(str(name) for name in table.classes or ())
    return replace(source, model=head, class_names=names), ProbeHead(surrogate.name, len(labels), error)


def _linear(scaler: StandardScaler, probe: LogisticRegression) -> nn.Linear:
    """Scaling and regression in one layer, one output a class."""
    weight, bias = probe.coef_ / scaler.scale_, probe.intercept_ - (probe.coef_ * scaler.mean_ / scaler.scale_).sum(1)
    if len(weight) == 1:
        # Two classes share one logit, which is their difference.
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    layer = nn.Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer
