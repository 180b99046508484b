"""The training context: everything that the stages of a run share, and the training step that it builds for each."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from modgap.label_space import pseudo_classes
from modgap.models import TargetModel
from modgap.probes.linear_probe import DEFAULT_STRENGTH, fit_linear_probe
from modgap.sources import Parts, Source
from modgap.targets.samples import SelectedSamples, pool_targets
from modgap.transfer.batches import chunks
from modgap.transfer.gradients import VirtualSteps
from modgap.transfer.losses import task_loss
from modgap.transfer.method import Stage
from modgap.transfer.numerics import to_single_precision
from modgap.transfer.objectives import objective
from modgap.transfer.otdd import prepare_source
from modgap.transfer.otdd_alignment import OtddStep
from modgap.transfer.placement import forward_of
from modgap.transfer.processes import Processes
from modgap.transfer.recipe import Recipe
from modgap.transfer.stage_surrogate import has_outer_loss
from modgap.transfer.surrogate import (
    Surrogate,
    SurrogateBatch,
    embedder_features,
    encoder_features,
)
from modgap.transfer.training_data import TargetData
from modgap.transfer.training_steps import AnchoredStep, MonaStep, ReplayStep, TaskStep, TrainingStep

__all__ = ["TrainingContext"]

CLUSTERS = 10
"""Number of pseudo-classes of regression targets, as in ORCA."""


@dataclass(frozen=True)
class TrainingContext:
    """Everything that the stages of a run share.

    Attributes:
        source: The source, whose own embedder takes the surrogate.
        model: The model to train.
        data: The target.
        recipe: All settings.
        seed: Seed of everything random.
        processes: Processes that train together.
        device: Device to train on.
        dtype: Precision of the parameters.
        autocast: Reduced precision of forward passes; None for the parameters' precision.
        given_surrogate: The surrogate, if a stage needs one.
    """

    source: Source
    model: TargetModel
    data: TargetData
    recipe: Recipe
    seed: int
    processes: Processes
    device: torch.device
    dtype: torch.dtype
    autocast: torch.dtype | None
    given_surrogate: Surrogate | None = None

    @property
    def surrogate(self) -> Surrogate:
        """The first half of the labeled surrogate data; linear probes use the second half."""
        assert self.given_surrogate is not None
        return self.given_surrogate

    def training_step(self, number: int, stage: Stage) -> TrainingStep:
        """Build the training step of a stage.

        Args:
            number: Number of the stage among those of the run.
            stage: The stage.
        """
        if stage.objective == "otdd":
            return self._otdd_step(number, stage)
        task_step = self._task_step(number, stage)
        if stage.objective == "anchored":
            return self._anchored_step(task_step)
        if stage.objective == "replay":
            return self._replay_step(task_step)
        # With lambda = 0 and L_t, MoNA is the method emb, and must be so bit for bit.
        return self._mona_step(task_step) if stage.objective == "mona" and has_outer_loss(self.recipe) else task_step

    @functools.cached_property
    def source_parts(self) -> Parts:
        """The source's own embedder and encoder, frozen, in evaluation mode, on the device."""
        parts = self.source.split()
        for module in (parts.embedder, parts.encoder):
            module.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)
        return parts

    def _task_step(self, number: int, stage: Stage) -> TaskStep:
        settings = getattr(self.recipe, stage.recipe_section)
        return TaskStep(
            model=self.model,
            trained=tuple(stage.select_parameters(self.model)),
            loss=task_loss(self.data.target.manifest, self._loss_scale()),
            rows=self.data.train,
            size=settings.batch_size * settings.gradient_accumulation,
            seed=self.seed,
            stage=number,
            processes=self.processes,
            autocast=self.autocast,
            forward=forward_of(self.recipe, stage.recipe_section),
        )

    def _loss_scale(self) -> tuple[Tensor, Tensor] | None:
        """Return mean and sd of the loss's unit, or None where the loss is computed on standardized values.

        Values that the trainer standardized keep that unit in the loss, so the learning rate does not depend on the
        unit of the data.
        """
        if self.data.scale is None or self.data.y_standardization is not None:
            return None
        mean, sd = (torch.from_numpy(array.copy()).to(self.device, self.dtype) for array in self.data.scale)
        return mean, sd

    def _mona_step(self, task_step: TaskStep) -> MonaStep:
        settings = self.recipe.stage1
        virtual_steps = VirtualSteps(
            alpha=settings.alpha,
            weight=settings.weight,
            steps=settings.inner_steps,
            route=settings.route or "exact",
            task_loss=settings.task_loss,
        )
        options = {}
        if settings.objective == "alignment-uniformity":
            options["all_pairs"] = settings.uniform_pairs == "all"
        return MonaStep(
            **{item.name: getattr(task_step, item.name) for item in fields(task_step)},
            surrogate=self._surrogate_features,
            objective=objective(settings.objective, **options),
            virtual_steps=virtual_steps,
        )

    def _anchored_step(self, task_step: TaskStep) -> AnchoredStep:
        return AnchoredStep(
            **{item.name: getattr(task_step, item.name) for item in fields(task_step)},
            anchors={name: value for name, value in self._source_weights() if name in task_step.trained},
            weight=self.recipe.stage2.anchor,
        )

    def _replay_step(self, task_step: TaskStep) -> ReplayStep:
        return ReplayStep(
            **{item.name: getattr(task_step, item.name) for item in fields(task_step)},
            surrogate=self._surrogate_features,
            probe_loss=self._source_probe_loss(),
            weight=self.recipe.stage2.replay,
        )

    def _source_probe_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the mean cross-entropy of a linear probe that is fitted on the source's features of the surrogate."""
        features = torch.cat(
            [
                encoder_features(self.source_parts, self.source_parts.encoder, self._load_surrogate(rows)).cpu()
                for rows in chunks(np.arange(len(self.surrogate)), self.recipe.stage1.surrogate_batch)
            ]
        )
        probe = fit_linear_probe(features.double().numpy(), self.surrogate.labels, [DEFAULT_STRENGTH])
        weights, biases = (torch.from_numpy(part).to(self.device, self.dtype) for part in probe.affine())
        codes = torch.from_numpy(np.searchsorted(probe.path.classes, np.arange(self.surrogate.labels.max() + 1)))

        def loss(z: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(z.to(weights.dtype) @ weights.T + biases, codes.to(labels.device)[labels])

        return loss

    def _source_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the source's encoder parameters under their names in the model; those of the model may be trained."""
        for name, value in self.source_parts.encoder.named_parameters():
            yield f"encoder.{name}", value

    def _surrogate_features(
        self, step: int, part_size: int | None = None
    ) -> tuple[list[Callable[[TargetModel], Tensor]], Tensor]:
        """Return functions from the model to parts of this process's surrogate features, and all processes' classes."""
        rows = self.surrogate.draw_rows(step, self.recipe.stage1.surrogate_batch, self.seed)
        share = self.processes.interleaved_share(rows)
        batches = [self._load_surrogate(part) for part in chunks(share, part_size or len(rows))]
        labels = torch.from_numpy(self.surrogate.labels[rows]).to(self.device)
        return [functools.partial(self._features_of_batch, batch) for batch in batches], labels

    def _features_of_batch(self, batch: SurrogateBatch, model: TargetModel) -> Tensor:
        """Return the features of a surrogate batch, computed in reduced precision if that is asked for."""
        precision: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if self.autocast is not None:
            precision = torch.autocast(self.device.type, self.autocast)
        with precision:
            features = encoder_features(self.source_parts, model.encoder, batch)
        return to_single_precision(features)

    def _load_surrogate(self, rows: np.ndarray) -> SurrogateBatch:
        batch = self.surrogate.load(rows, self.device)
        return SurrogateBatch(_convert_floats(batch.inputs, self.dtype), batch.labels, batch.word_positions)

    def _otdd_step(self, number: int, stage: Stage) -> OtddStep:
        batches = chunks(np.arange(len(self.surrogate)), self.recipe.stage1.surrogate_batch)
        features = torch.cat([embedder_features(self.source_parts, self._load_surrogate(rows)) for rows in batches])
        return OtddStep(
            model=self.model,
            trained=tuple(stage.select_parameters(self.model)),
            source=prepare_source(
                features, torch.from_numpy(self.surrogate.labels).to(self.device), with_self_distance=False
            ),
            rows=self.data.train,
            labels=_alignment_classes(self.data),
            per_class=self.recipe.stage1.samples_per_class,
            seed=self.seed,
            stage=number,
            processes=self.processes,
        )


def _alignment_classes(data: TargetData) -> np.ndarray:
    """Return a class for each training sample: its class, or a cluster of its labels or of its regression values."""
    if data.output.task != "regression":
        labels = np.asarray(data.table.class_labels[data.train])
        if labels.ndim == 1:
            return labels
        return pseudo_classes(labels.astype(np.float64), n_classes=min(CLUSTERS, len(np.unique(labels, axis=0))))
    assert data.table.targets is not None
    values = pool_targets(SelectedSamples(data.table.targets, data.train))
    return pseudo_classes(values, n_classes=min(data.target.manifest.pseudo_classes or CLUSTERS, len(values)))


def _convert_floats(value: Any, dtype: torch.dtype) -> Any:
    """Convert floating-point tensors, also those in mappings, to a precision; integers stay as they are."""
    if isinstance(value, Mapping):
        return {name: _convert_floats(item, dtype) for name, item in value.items()}
    return value.to(dtype) if value.is_floating_point() else value
