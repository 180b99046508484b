"""Losses on labeled surrogate data: features through the source's embedder and the encoder, and their gradients."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from modgap.models import TargetModel
from modgap.transfer.batches import chunks
from modgap.transfer.method import Training
from modgap.transfer.numerics import to_single_precision
from modgap.transfer.processes import Processes
from modgap.transfer.surrogate import SurrogateBatch, embedder_features, encoder_features
from modgap.transfer.task_loss import call_with_parameters, plain_gradients

__all__ = ["SURROGATE_SETTINGS", "FeatureLoss", "OuterLoss", "SurrogateFeatures"]

SURROGATE_SETTINGS = (
    "stage1.surrogate", "stage1.surrogate_split", "stage1.surrogate_batch", "stage1.surrogate_samples",
)  # fmt: skip
"""Settings of objectives that use the surrogate, also in stage 2."""

FeatureLoss = Callable[[Tensor, Tensor], Tensor]
"""Function of features (N, D) and classes (N,) that returns a scalar; lower is better."""


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
    ) -> tuple[dict[str, Tensor], float]:
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
        return dict(zip(names, self.processes.sum(list(gradients)), strict=True)), float(value)

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
    """

    def __init__(self, training: Training) -> None:
        """Move the source's parts to the device, frozen, in evaluation mode."""
        assert training.surrogate is not None
        self._training = training
        self._surrogate = training.surrogate
        self._size = training.recipe.stage1.surrogate_batch
        self._parts = training.source.split()
        for module in (self._parts.embedder, self._parts.encoder):
            module.to(device=training.device, dtype=training.dtype).eval().requires_grad_(False)
        self.labels = training.surrogate.labels

    def of_embedder(self) -> Tensor:
        """Return the features (n, D) of all samples at the source's embedder."""
        return torch.cat([embedder_features(self._parts, batch) for batch in self._all_batches()])

    def of_source(self) -> Tensor:
        """Return the features (n, D) of all samples through the source's encoder before training, on the CPU."""
        encoder = self._parts.encoder
        return torch.cat([encoder_features(self._parts, encoder, batch).cpu() for batch in self._all_batches()])

    def loss(
        self, function: FeatureLoss, step: int, part_size: int | None = None, *, normalizes: bool = True
    ) -> OuterLoss:
        """Return a loss of the features of the batch of an update, through the encoder that is trained.

        Args:
            function: Function of the features and classes.
            step: Number of the update in the whole run.
            part_size: Largest number of samples that pass through the model together; None for all.
            normalizes: True to bring features to unit length.
        """
        processes = self._training.processes
        rows = self._surrogate.draw_rows(step, self._size, self._training.seed)
        share = processes.interleaved_share(rows)
        batches = [self._load(part) for part in chunks(share, part_size or len(rows))]
        labels = torch.from_numpy(self.labels[rows]).to(self._training.device)
        features = [functools.partial(self._features_of_batch, batch) for batch in batches]
        return OuterLoss(features, labels, function, processes, normalizes)

    def _features_of_batch(self, batch: SurrogateBatch, model: TargetModel) -> Tensor:
        """Return the features of a surrogate batch, computed in reduced precision if that is asked for."""
        training = self._training
        precision: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if training.autocast is not None:
            precision = torch.autocast(training.device.type, training.autocast)
        with precision:
            features = encoder_features(self._parts, model.encoder, batch)
        return to_single_precision(features)

    def _all_batches(self) -> list[SurrogateBatch]:
        return [self._load(rows) for rows in chunks(np.arange(len(self._surrogate)), self._size)]

    def _load(self, rows: np.ndarray) -> SurrogateBatch:
        batch = self._surrogate.load(rows, self._training.device)
        return SurrogateBatch(_convert_floats(batch.inputs, self._training.dtype), batch.labels, batch.word_positions)


def _convert_floats(value: Any, dtype: torch.dtype) -> Any:
    """Convert floating-point tensors, also those in mappings, to a precision; integers stay as they are."""
    if isinstance(value, Mapping):
        return {name: _convert_floats(item, dtype) for name, item in value.items()}
    return value.to(dtype) if value.is_floating_point() else value
