"""The training loop of all methods: updates, the log, the choice of the best epoch, checkpoints and resumption."""

import copy
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modgap.errors import InputError
from modgap.models import TargetModel
from modgap.models.normalization import hold_running_statistics, uses_batch_statistics
from modgap.progress import Progress
from modgap.resources import reused_memory
from modgap.transfer.batch_sizes import BatchSizes, is_out_of_memory, merges_batches
from modgap.transfer.batches import BatchFeed, MicroBatches, generator, join_short_end
from modgap.transfer.checkpoint import BestEpoch, Position, restore_model, restore_optimizer
from modgap.transfer.evaluation import Evaluator
from modgap.transfer.gradients import LossGradient
from modgap.transfer.method import Stage
from modgap.transfer.optimization import build_optimizer, learning_rate_factor
from modgap.transfer.placement import allows_tf32, tf32
from modgap.transfer.processes import Processes
from modgap.transfer.recipe import FullStage, OptimizerSettings, Recipe
from modgap.transfer.run_files import RunFiles
from modgap.transfer.run_log import RunLog, announce_stage
from modgap.transfer.training_steps import TrainingStep

__all__ = ["NotFiniteError", "TrainingLoop", "run_training_loop"]

DROPOUT_STREAM = 9
"""First number of the random positions of dropout seeds; lower numbers belong to the order and choice of samples."""

log = logging.getLogger("modgap")


class NotFiniteError(InputError):
    """The loss or the gradient became NaN or infinite."""


@dataclass(frozen=True)
class TrainingLoop:
    """Everything that is constant during a run.

    Attributes:
        model: The model, which is trained in place.
        stages: Stages in order, without those that have no epochs.
        recipe: All settings.
        feed: Loader of the batches.
        evaluator: Evaluator of the task's metric.
        training_step: Function from the number of a stage and the stage to its training step.
        files: Files of the run.
        seed: Seed of everything random.
        processes: Processes that train together.
        merge: Function that merges the changes of an adapter into the model; None if there is no adapter.
        progress: Callback that is called with a stage's name and the share done since the last call; None for none.
        tensorboard_folder: Folder of the TensorBoard log; None for no such log.
    """

    model: TargetModel
    stages: tuple[Stage, ...]
    recipe: Recipe
    feed: BatchFeed
    evaluator: Evaluator
    training_step: Callable[[int, Stage], TrainingStep]
    files: RunFiles
    seed: int
    processes: Processes = field(default_factory=Processes)
    merge: Callable[[TargetModel], None] | None = None
    progress: Progress | None = None
    tensorboard_folder: Path | None = None

    def settings(self, stage: Stage) -> OptimizerSettings:
        """Return the settings of a stage."""
        settings: OptimizerSettings = getattr(self.recipe, stage.recipe_section)
        return settings

    def n_epochs(self, stage: Stage) -> int:
        """Return the number of epochs of a stage."""
        epochs: int = getattr(self.settings(stage), stage.epochs_setting)
        return epochs


def run_training_loop(loop: TrainingLoop) -> Position:
    """Train through all stages, starting from the newest checkpoint if there is one.

    Afterwards the model has the chosen weights.

    Returns:
        The final position, with the best epoch.

    Raises:
        NotFiniteError: When the loss becomes NaN or infinite.
        InputError: When the disk cannot be written.
    """
    position = Position()
    optimizer_state: dict[str, torch.Tensor] = {}
    checkpoint = loop.files.latest_checkpoint()
    if checkpoint is not None:
        position = checkpoint.position
        optimizer_state = checkpoint.optimizer
        restore_model(loop.model, checkpoint)
    run_log = RunLog(loop.files.log, position.log_bytes, loop.tensorboard_folder)
    for number in range(position.stage, len(loop.stages)):
        stage = loop.stages[number]
        if loop.processes.is_main:
            announce_stage(stage.name, loop.n_epochs(stage), loop.model, stage.select_parameters(loop.model))
        stage_loop = _StageLoop(loop, number, run_log, optimizer_state)
        if position.stage < number:
            position = Position(number, total_updates=position.total_updates, log_bytes=run_log.size)
        with reused_memory(), tf32(allows_tf32(loop.recipe, stage.recipe_section, stage.objective)):
            position = stage_loop.run(position)
        optimizer_state = {}
        if stage.recipe_section == "stage1" and stage.epochs_setting == "epochs":
            loop.files.save_embedder(loop.model.embedder)
    _load_best_weights(loop, position.best)
    return position


def _load_best_weights(loop: TrainingLoop, best: BestEpoch | None) -> None:
    """Load the weights of the best epoch, if the recipe asks for them."""
    loop.processes.barrier()
    if best is not None and loop.recipe.stage2.choose == "best":
        loop.model.load_state_dict(loop.files.best_weights(best.epoch))


class _StageLoop:
    """The loop over the epochs of one stage."""

    def __init__(
        self, loop: TrainingLoop, number: int, run_log: RunLog, optimizer_state: dict[str, torch.Tensor]
    ) -> None:
        self.loop = loop
        self.number = number
        self.run_log = run_log
        self.stage = loop.stages[number]
        self.settings = loop.settings(self.stage)
        self.feed = replace(loop.feed, augmentation=getattr(self.settings, "augmentation", "none"))
        self.training_step = loop.training_step(number, self.stage)
        self.trained = self.stage.select_parameters(loop.model)
        all_parameters = dict(loop.model.named_parameters())
        self.parameters = {name: all_parameters[name] for name in self.trained}
        # A penalty on the distance to the source takes the place of the encoder's decay towards zero.
        is_anchored = self.stage.objective == "anchored"
        held = [value for name, value in self.parameters.items() if is_anchored and name.startswith("encoder.")]
        others = [
            value for name, value in self.parameters.items() if not is_anchored or not name.startswith("encoder.")
        ]
        self.optimizer = build_optimizer(others, self.settings, held)
        if optimizer_state:
            restore_optimizer(self.optimizer, optimizer_state)
        trains_all = self.stage.recipe_section == "stage2"
        merged = merges_batches(loop.recipe, loop.model, loop.feed.device, trains_all)
        divides = self.stage.objective != "otdd"
        self.sizes = BatchSizes(self.settings, loop.recipe.stage1.surrogate_batch, merged, divides)
        self.last_checkpoint = time.monotonic()

    def run(self, position: Position) -> Position:
        """Train the remaining epochs, and return the position after them."""
        epochs = self.loop.n_epochs(self.stage)
        if self.loop.progress:
            self.loop.progress(self.stage.name, position.epoch / epochs)
        while position.epoch < epochs and not self._out_of_patience(position):
            position = self._run_epoch(position, epochs)
        self._save_checkpoint(position)
        return position

    def _run_epoch(self, position: Position, epochs: int) -> Position:
        self._set_mode()
        plan = self.training_step.plan_epoch(position.epoch)
        if uses_batch_statistics(self.loop.model):
            # A single sample has no variance, where the map has a single pixel.
            plan = join_short_end(plan, 2 * self.loop.processes.size)
        start = time.monotonic()
        for rows, parts in self._load_updates(plan, position):
            gradient = self._compute_gradient(parts, rows, position)
            self._apply(gradient, position, len(plan))
            position = _count_update(position, gradient)
            if self.loop.progress:
                self.loop.progress(self.stage.name, 1 / (len(plan) * epochs))
            if time.monotonic() - self.last_checkpoint > self.loop.recipe.checkpoint_seconds:
                self._save_checkpoint(position)
        return self._finish_epoch(position, time.monotonic() - start)

    def _load_updates(
        self, plan: Sequence[np.ndarray], position: Position
    ) -> Iterator[tuple[np.ndarray, MicroBatches]]:
        """Yield the rows and batches of each remaining update of an epoch."""
        remaining = list(plan[position.update :])
        shares = [self.training_step.split(rows, self.sizes.target) for rows in remaining]
        if uses_batch_statistics(self.loop.model):
            shares = [join_short_end(parts, 2) for parts in shares]
        yield from zip(remaining, self.feed.prefetch(shares, self.number, position.epoch), strict=True)

    def _set_mode(self) -> None:
        """Use dropout and batch statistics in stage 2 alone, and never in an encoder that is not trained.

        In a stage that holds the source, the encoder's batch normalization keeps the source's statistics.
        """
        model = self.loop.model
        model.train(self.stage.recipe_section == "stage2")
        if not any(name.startswith("encoder.") for name in self.trained):
            model.encoder.eval()
        elif self.stage.holds_statistics:
            hold_running_statistics(model.encoder)

    def _compute_gradient(self, parts: MicroBatches, rows: np.ndarray, position: Position) -> LossGradient:
        """Compute the gradient of an update, with smaller batches if the memory does not suffice."""
        while True:
            if self.sizes.halvings:
                # The batches that were read ahead have the size from before.
                parts = tuple(piece for part in parts for piece in part.divide(self.sizes.target))
            try:
                return self._seeded_gradient(parts, rows, position)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise InputError(
                    "Batch normalization needs more than one sample in each batch, and a batch of "
                    f"{self.stage.name} has one. Pass a larger --set {self.stage.recipe_section}.batch_size; here it "
                    f"is {self.settings.batch_size}."
                ) from error
            except RuntimeError as error:
                # Processes that have exchanged a part of an update cannot begin it again one by one.
                if not is_out_of_memory(error) or not self.sizes.can_halve or self.loop.processes.size > 1:
                    raise InputError(
                        f"The update {position.update + 1} of epoch {position.epoch + 1} of {self.stage.name} failed: "
                        f"{str(error).strip().splitlines()[-1]}"
                    ) from error
            # Until here, the traceback of the error held the tensors of the failed pass.
            self.sizes.halve()

    def _seeded_gradient(self, parts: MicroBatches, rows: np.ndarray, position: Position) -> LossGradient:
        # The dropout masks depend on the position in the run, not on earlier random numbers.
        step = position.total_updates
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            random = generator(self.loop.seed, DROPOUT_STREAM, self.number, step, self.loop.processes.rank)
            _seed_devices(int(random.integers(1 << 62)))
            return self.training_step.gradient(parts, rows, step, self.sizes.surrogate)

    def _apply(self, gradient: LossGradient, position: Position, updates_per_epoch: int) -> None:
        """Clip the gradient and let the optimizer apply it."""
        for name, parameter in self.parameters.items():
            parameter.grad = gradient.gradient[name]
        limit = self.settings.gradient_clip
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), limit or math.inf)
        if not math.isfinite(gradient.loss) or not math.isfinite(float(norm)):
            self._raise_not_finite(position, gradient)
        epoch = position.epoch + (position.update + 1) / updates_per_epoch
        factor = learning_rate_factor(self.settings, epoch)
        rate = self.settings.learning_rate * factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.training_step.regularize(rate)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _raise_not_finite(self, position: Position, gradient: LossGradient) -> None:
        quantity = "loss" if not math.isfinite(gradient.loss) else "gradient"
        rate = self.settings.learning_rate
        raise NotFiniteError(
            f"The {quantity} is NaN or infinite in {self.stage.name}, epoch {position.epoch + 1}, update "
            f"{position.update + 1}. {self.loop.files.checkpoint_sentence()} The learning rate is {rate:g}. "
            f"Try a smaller one: --set {self.stage.recipe_section}.learning_rate={rate / 10:g}"
        )

    def _finish_epoch(self, position: Position, seconds: float) -> Position:
        """Validate, log and save an epoch, and return the position at the start of the next one."""
        means = {name: value / max(1, position.update) for name, value in position.sums.items()}
        epoch = position.epoch + 1
        record = {"stage": self.stage.name, "epoch": epoch, "updates": position.update, **means}
        # After a checkpoint at the end of the epoch, the optimizer has made no update at this rate.
        record["learning_rate"] = self.settings.learning_rate * learning_rate_factor(self.settings, epoch)
        best = position.best
        self.loop.processes.average_batch_statistics(self.loop.model)
        if self.stage.recipe_section == "stage2":
            error = self.loop.evaluator.error(self.loop.model, self.loop.evaluator.data.validation)
            record["validation_error"] = error
            best = self._update_best(epoch, error, best)
            self._save_epoch(epoch)
        self._log_epoch(record)
        self.run_log.add({**record, "seconds": round(seconds, 3)}, position.total_updates)
        return Position(self.number, epoch, 0, position.total_updates, self.run_log.size, {}, best)

    def _update_best(self, epoch: int, error: float, best: BestEpoch | None) -> BestEpoch:
        """Return the first epoch with the lowest error, or the last epoch while the error is not defined."""
        if best is not None and best.error is not None and not error < best.error:
            return best
        if not math.isfinite(error) and best is None:
            log.warning("The metric is not defined on the validation samples. The last epoch is taken as the best.")
        if self.loop.recipe.stage2.choose == "best":
            self.loop.files.save_best(epoch, self.loop.model)
        return BestEpoch(epoch, error if math.isfinite(error) else None)

    def _log_epoch(self, record: dict[str, Any]) -> None:
        """Log a line per epoch where no progress bar is shown."""
        if (self.loop.progress is not None and sys.stderr.isatty()) or not self.loop.processes.is_main:
            return
        epochs = self.loop.n_epochs(self.stage)
        error = ""
        if "validation_error" in record:
            error = f", validation error {record['validation_error']:.4g} {self.loop.evaluator.unit}".rstrip()
        loss = record.get("loss", math.nan)
        log.info("%s epoch %d of %d: loss %.4g%s", record["stage"], record["epoch"], epochs, loss, error)

    def _save_epoch(self, epoch: int) -> None:
        """Save the weights of an epoch, if the recipe asks for it."""
        if self.loop.processes.is_main and epoch in self.loop.recipe.stage2.keep_epochs:
            model = self.loop.model
            if self.loop.merge is not None:
                model = copy.deepcopy(model)
                self.loop.merge(model)
            self.loop.files.save_epoch(epoch, model)

    def _out_of_patience(self, position: Position) -> bool:
        settings = self.settings
        if not isinstance(settings, FullStage) or settings.patience is None or position.best is None:
            return False
        return position.epoch - position.best.epoch >= settings.patience

    def _save_checkpoint(self, position: Position) -> None:
        self.last_checkpoint = time.monotonic()
        position = replace(position, log_bytes=self.run_log.size)
        self.loop.files.save_checkpoint(position, self.loop.model, self.optimizer)


def _seed_devices(seed: int) -> None:
    """Seed the random numbers of the CPU, and of the GPUs if any is in use.

    `torch.manual_seed` takes a millisecond where no GPU is in use, because it notes who asked for the seed of each.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


def _count_update(position: Position, gradient: LossGradient) -> Position:
    """Return the position after an update, with its loss and scalars added to the sums."""
    sums = dict(position.sums)
    for name, value in {"loss": gradient.loss, **gradient.scalars}.items():
        sums[name] = sums.get(name, 0.0) + value
    return replace(position, update=position.update + 1, total_updates=position.total_updates + 1, sums=sums)
