"""A linear probe on a labeled surrogate as the head of a bare encoder; its classes become the source's."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from modgap.errors import InputError
from modgap.forward.batched_inference import output_batches
from modgap.inputs.native_embedding import native_embedding
from modgap.probes.linear_probe import DEFAULT_STRENGTH, LinearProbe, fit_linear_probe
from modgap.sources import Batch, Source
from modgap.targets import SPLITS, Table, Target
from modgap.targets.splits import stratified_subset

__all__ = ["ProbeHead", "fit_probe_head"]

MOST_SAMPLES = 5000


@dataclass(frozen=True)
class ProbeHead:
    """The record of a fitted probe head.

    Attributes:
        surrogate: Name of the surrogate.
        trained_on: Number of samples of its training split that were used.
        test_error: Error rate of the probe on the surrogate's test split; None if there is no test split.
    """

    surrogate: str
    trained_on: int
    test_error: float | None


class _FeatureModel(nn.Module):
    """A model from its input to its pooled features (B, D)."""

    def __init__(self, features: Callable[[Batch], torch.Tensor], model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._features = features

    def forward(self, batch: Batch) -> torch.Tensor:
        return self._features(batch)


class _ModelWithHead(nn.Module):
    """A feature model with a fitted layer; `fitted_head` can be put on the same features from elsewhere."""

    def __init__(self, features: nn.Module, layer: nn.Linear) -> None:
        super().__init__()
        self.features = features
        self.fitted_head = layer

    def forward(self, batch: Batch) -> torch.Tensor:
        logits: torch.Tensor = self.fitted_head(self.features(batch))
        return logits


def fit_probe_head(
    source: Source, surrogate: Target, *, device: torch.device, batch_size: int | None, dtype: str
) -> tuple[Source, ProbeHead]:
    """Replace the source's head by multinomial logistic regression on standardized features.

    Args:
        source: The encoder. If it has a head, the head is not used.
        surrogate: Labeled data of the source's modality.
        device: Device on which the encoder runs.
        batch_size: Number of samples in a batch; None for an automatic choice.
        dtype: Precision of the encoder.

    Returns:
        The source with the new head, and the head's record.

    Raises:
        InputError: When the surrogate is multi-label, or lacks training samples of a class.
    """
    table = surrogate.read()
    if table.class_labels.ndim != 1:
        raise InputError(f"Surrogate {surrogate.name} is multi-label. A surrogate needs one label per sample.")
    feature_source = replace(source, model=_FeatureModel(source.features, source.model))
    embedding = native_embedding(surrogate.manifest.input, table, source.input)

    def split_features(split: str) -> tuple[np.ndarray, np.ndarray]:
        rows = _split_rows(table, split)
        if len(rows) == 0:
            return np.empty((0, 0)), np.empty(0)
        batches = output_batches(
            feature_source, table.samples, rows, embedding, device=device, batch_size=batch_size, dtype=dtype
        )
        return np.concatenate(list(batches)), table.class_labels[rows]

    features, labels = split_features("train")
    test_features, test_labels = split_features("test")
    if len(np.unique(labels)) < max(2, len(np.unique(table.class_labels))):
        raise InputError(
            f"The training split of surrogate {surrogate.name} does not have samples of every class. "
            "It needs samples of every class, and at least two classes."
        )
    probe = fit_linear_probe(features, labels, [DEFAULT_STRENGTH])
    error = float((probe.predict(test_features) != test_labels).mean()) if len(test_labels) else None
    model = _ModelWithHead(feature_source.model, _linear_layer(probe)).eval()
    names = tuple(str(name) for name in table.classes or ())
    return replace(source, model=model, class_names=names), ProbeHead(surrogate.name, len(labels), error)


def _split_rows(table: Table, split: str) -> np.ndarray:
    """Return the numbers of at most `MOST_SAMPLES` samples of a split."""
    rows = np.flatnonzero(table.splits == SPLITS.index(split))
    if len(rows) > MOST_SAMPLES:
        rows = rows[stratified_subset(table.class_labels[rows], MOST_SAMPLES, 0)]
    return rows


def _linear_layer(probe: LinearProbe) -> nn.Linear:
    """Return standardization and regression as one layer with one output per class."""
    weights, biases = probe.affine()
    layer = nn.Linear(weights.shape[1], len(weights))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
        layer.bias.copy_(torch.from_numpy(biases))
    return layer
