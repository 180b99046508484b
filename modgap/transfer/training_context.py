"""What makes a stage's updates: the task loss, equation (5), or the alignment of orca."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError
from modgap.forward.surrogate_target import default_surrogate
from modgap.label_space import pseudo_classes
from modgap.models import TargetModel
from modgap.sources import Parts, Source
from modgap.targets import manifest_names
from modgap.targets.samples import SelectedSamples, pool_targets
from modgap.transfer.batches import chunks
from modgap.transfer.gradients import VirtualSteps
from modgap.transfer.losses import task_loss
from modgap.transfer.method import Stage
from modgap.transfer.objectives import objective
from modgap.transfer.otdd import import_pot, prepare_source
from modgap.transfer.otdd_alignment import OtddStep
from modgap.transfer.processes import Processes
from modgap.transfer.recipe import Recipe
from modgap.transfer.surrogate import (
    Surrogate,
    SurrogateBatch,
    embedder_features,
    encoder_features,
    open_surrogate,
)
from modgap.transfer.training_data import TargetData
from modgap.transfer.training_steps import MonaStep, TaskStep, TrainingStep

__all__ = ["TrainingContext"]

CLUSTERS = 10
"""Pseudo-classes of real-valued targets, as in ORCA."""


@dataclass(frozen=True)
class TrainingContext:
    """All that a stage may need.

    Attributes:
        source: The source; its own embedder takes the surrogate.
        source_name: For the surrogate that goes with it.
        model: The model that is trained.
        data: The target.
        recipe: All settings.
        seed: Of everything random.
        processes: Who trains together.
        device: Where to run.
        dtype: Precision of the parameters.
        autocast: Precision of forward passes where it is reduced.
    """

    source: Source
    source_name: str
    model: TargetModel
    data: TargetData
    recipe: Recipe
    seed: int
    processes: Processes
    device: torch.device
    dtype: torch.dtype
    autocast: torch.dtype | None

    def training_step(self, number: int, stage: Stage) -> TrainingStep:
        """What makes the updates of a stage."""
        if stage.objective == "otdd":
            return self._alignment(number, stage)
        shared = self._task(number, stage)
        return shared if stage.objective == "task" else self._mona(shared)

    def prepare(self, stages: Sequence[Stage]) -> None:
        """Open what the stages need beside the target, so that what is missing is known at once.

        Raises:
            InputError: When the surrogate's data is missing.
            UsageError: When there is no such surrogate, or a package is missing.
        """
        objectives = {stage.objective for stage in stages}
        if "otdd" in objectives:
            import_pot()
        if "otdd" in objectives or ("mona" in objectives and not self._is_emb):
            assert len(self.surrogate)

    @property
    def _is_emb(self) -> bool:
        """Whether MoNA has no outer loss; it is then the method emb, to the last bit."""
        settings = self.recipe.stage1
        return settings.weight == 0 and settings.task_loss

    @functools.cached_property
    def surrogate(self) -> Surrogate:
        """The first half of the labeled source data; probes look at the second."""
        settings = self.recipe.stage1
        name, split = settings.surrogate, settings.surrogate_split
        if name is None:
            name, own = default_surrogate(self.source_name)
            return self._opened(name, split or own)
        return self._opened(name, split)

    def _opened(self, name: str, split: str | None) -> Surrogate:
        most = self.recipe.stage1.surrogate_samples
        try:
            return open_surrogate(name, self.source, split=split, half=0, limit=most, seed=self.seed)
        except InputError as error:
            # A --data-dir of this command would be the target's.
            place = f"modgap data path {name} --data-dir DIR says where it lies, " if name in manifest_names() else ""
            raise type(error)(
                f"{error}; {name} is the surrogate of stage 1: {place}--set stage1.surrogate=NAME takes another"
            ) from error

    @functools.cached_property
    def parts(self) -> Parts:
        """The source's own, on the device; not trained."""
        parts = self.source.split()
        for module in (parts.embedder, parts.encoder):
            module.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)
        return parts

    def _task(self, number: int, stage: Stage) -> TaskStep:
        settings = getattr(self.recipe, stage.recipe_section)
        return TaskStep(
            model=self.model,
            trained=tuple(stage.select_parameters(self.model)),
            loss=task_loss(self.data.target.manifest, self._scale()),
            rows=self.data.train,
            size=settings.batch_size * settings.gradient_accumulation,
            seed=self.seed,
            stage=number,
            processes=self.processes,
            autocast=self.autocast,
        )

    def _scale(self) -> tuple[Tensor, Tensor] | None:
        # Of values that were standardized here the loss is in that unit, which no learning rate has to follow.
        if self.data.scale is None or self.data.y_standardization is not None:
            return None
        mean, sd = (torch.from_numpy(each.copy()).to(self.device, self.dtype) for each in self.data.scale)
        return mean, sd

    def _mona(self, shared: TaskStep) -> TrainingStep:
        settings = self.recipe.stage1
        if self._is_emb:
            return shared
        how = VirtualSteps(
            settings.alpha, settings.weight, settings.inner_steps, settings.route or "exact", settings.task_loss
        )  # fmt: skip
        options = {"all_pairs": settings.uniform_pairs == "all"}
        loss = objective(settings.objective, **(options if settings.objective == "alignment-uniformity" else {}))
        return MonaStep(**_fields(shared), surrogate=self._surrogate_batch, objective=loss, how=how)

    def _surrogate_batch(self, step: int) -> tuple[Callable[[TargetModel], Tensor], Tensor]:
        rows = self.surrogate.draw_rows(step, self.recipe.stage1.surrogate_batch, self.seed)
        batch = self._batch(self.processes.interleaved_share(rows))
        labels = torch.from_numpy(self.surrogate.labels[rows]).to(self.device)
        return lambda model: encoder_features(self.parts, model.encoder, batch), labels

    def _batch(self, rows: np.ndarray) -> SurrogateBatch:
        found = self.surrogate.load(rows, self.device)
        return SurrogateBatch(_as_dtype(found.inputs, self.dtype), found.labels, found.word_positions)

    def _alignment(self, number: int, stage: Stage) -> OtddStep:
        size = self.recipe.stage1.surrogate_batch
        rows = chunks(np.arange(len(self.surrogate)), size)
        features = torch.cat([embedder_features(self.parts, self._batch(each)) for each in rows])
        return OtddStep(
            model=self.model,
            trained=tuple(stage.select_parameters(self.model)),
            source=prepare_source(features, torch.from_numpy(self.surrogate.labels).to(self.device)),
            rows=self.data.train,
            labels=target_classes(self.data),
            per_class=self.recipe.stage1.samples_per_class,
            seed=self.seed,
            stage=number,
            processes=self.processes,
        )


def target_classes(data: TargetData) -> np.ndarray:
    """A class of each training sample: its own, its first label, or a cluster of its values."""
    if data.output.task != "regression":
        labels = data.table.class_labels[data.train]
        return labels if labels.ndim == 1 else labels.argmax(axis=1)
    assert data.table.targets is not None
    values = pool_targets(SelectedSamples(data.table.targets, data.train))
    return pseudo_classes(values, n_classes=min(data.target.manifest.pseudo_classes or CLUSTERS, len(values)))


def _fields(training_step: TaskStep) -> dict[str, Any]:
    return {name: getattr(training_step, name) for name in training_step.__dataclass_fields__}


def _as_dtype(given: Any, dtype: torch.dtype) -> Any:
    """Values in the parameters' precision; whole numbers stay as they are."""
    if isinstance(given, Mapping):
        return {name: _as_dtype(value, dtype) for name, value in given.items()}
    return given.to(dtype) if given.is_floating_point() else given
