"""The one loop of all methods: updates, the epoch's log, the choice of the best, checkpoints, and going on from one."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modgap.errors import InputError
from modgap.models import TargetModel
from modgap.progress import Progress
from modgap.transfer.batches import BatchFeed, generator
from modgap.transfer.checkpoint import (
    BestEpoch,
    Position,
    best_epochs,
    latest_checkpoint,
    load_tensors,
    restore_optimizer,
    save_checkpoint,
    write_tensors,
)
from modgap.transfer.evaluation import Evaluator
from modgap.transfer.gradients import LossGradient
from modgap.transfer.method import Stage
from modgap.transfer.optimization import build_optimizer, learning_rate_factor
from modgap.transfer.processes import Processes
from modgap.transfer.recipe import FullStage, OptimizerSettings, Recipe
from modgap.transfer.run_folder import epoch_file
from modgap.transfer.run_log import RunLog
from modgap.transfer.training_steps import TrainingStep

__all__ = ["STAGE1_FILE", "TrainingLoop", "run_training_loop"]

STAGE1_FILE = "stage1.safetensors"
DROPOUT = 9
"""First number of the positions at which dropout's seeds are drawn; stages and pieces have those below."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class TrainingLoop:
    """What stays the same while a run goes on.

    Attributes:
        model: Trained in place.
        stages: In order, those without epochs left out.
        recipe: All settings.
        feed: Makes batches.
        judge: Applies the metric.
        updater: Number and stage to what makes its updates.
        folder: Of the run.
        seed: Of everything random.
        processes: Who trains together.
        progress: Called with a stage's name and the share done since the last call.
        board: Folder for TensorBoard, or None.
    """

    model: TargetModel
    stages: tuple[Stage, ...]
    recipe: Recipe
    feed: BatchFeed
    evaluator: Evaluator
    training_step: Callable[[int, Stage], TrainingStep]
    folder: Path
    seed: int
    processes: Processes = field(default_factory=Processes)
    progress: Progress | None = None
    board: Path | None = None

    def settings(self, stage: Stage) -> OptimizerSettings:
        """The recipe's part for a stage."""
        return getattr(self.recipe, stage.recipe_section)

    def epochs(self, stage: Stage) -> int:
        """How many a stage has."""
        return getattr(self.settings(stage), stage.epochs_setting)

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.processes.rank == 0


def run_training_loop(loop: TrainingLoop) -> Position:
    """Train through all stages, from the newest checkpoint if there is one.

    The model is left with the chosen weights.

    Returns:
        Where it ended, with the epoch that was chosen.

    Raises:
        InputError: When the loss is no longer a number, or the disk refuses.
    """
    start, state, moments = latest_checkpoint(loop.folder) or (Position(), None, {})
    if state is not None:
        loop.model.load_state_dict(state)
    kept = RunLog(loop.folder / "metrics.jsonl" if loop.leads else None, start.logged, loop.board)
    position = start
    for number in range(start.stage, len(loop.stages)):
        stage = _StageRun(loop, number, kept, moments if number == start.stage else {})
        if position.stage < number:
            position = Position(number, total=position.total, logged=kept.size)
        position = stage.run(position)
        _end_of_stage(loop, loop.stages[number])
    _choose(loop, position.best)
    return position


def _end_of_stage(loop: TrainingLoop, stage: Stage) -> None:
    if stage.recipe_section == "stage1" and stage.epochs_setting == "epochs" and loop.leads:
        write_tensors(loop.folder / STAGE1_FILE, loop.model.embedder.state_dict())


def _choose(loop: TrainingLoop, best: BestEpoch | None) -> None:
    """Load the weights of the best epoch, where the recipe asks for it."""
    loop.processes.barrier()
    if best is not None and loop.recipe.stage2.choose == "best":
        loop.model.load_state_dict(load_tensors(_best_file(loop.folder, best.epoch)))


def _best_file(folder: Path, epoch: int) -> Path:
    return folder / f"best-{epoch:05d}.safetensors"


class _StageRun:
    """One stage under way."""

    def __init__(self, loop: TrainingLoop, number: int, kept: RunLog, moments: dict[str, torch.Tensor]):
        self.loop, self.number, self.kept = loop, number, kept
        self.stage = loop.stages[number]
        self.settings = loop.settings(self.stage)
        self.feed = replace(loop.feed, augmentation=getattr(self.settings, "augmentation", "none"))
        self.training_step = loop.training_step(number, self.stage)
        named = dict(loop.model.named_parameters())
        self.trained = self.stage.select_parameters(loop.model)
        self.parameters = {name: named[name] for name in self.trained}
        self.optimizer = build_optimizer(self.parameters.values(), self.settings)
        if moments:
            restore_optimizer(self.optimizer, moments)
        self.size = self.settings.batch_size
        self.saved = time.monotonic()

    def run(self, position: Position) -> Position:
        """All epochs that are left."""
        epochs = self.loop.epochs(self.stage)
        if self.loop.progress:
            self.loop.progress(self.stage.name, position.epoch / epochs)
        while position.epoch < epochs and not self._exhausted(position):
            position = self._epoch(position, epochs)
        self._save(position)
        return position

    def _epoch(self, position: Position, epochs: int) -> Position:
        plan, began = self.training_step.plan_epoch(position.epoch), time.monotonic()
        self._set_mode()
        for rows, parts in self._updates(plan, position):
            update = self._safely(parts, rows, position)
            self._step(update, position, len(plan))
            position = self._counted(position, update)
            if self.loop.progress:
                self.loop.progress(self.stage.name, 1 / (len(plan) * epochs))
            if time.monotonic() - self.saved > self.loop.recipe.checkpoint_seconds:
                self._save(position)
        return self._end_of_epoch(position, time.monotonic() - began)

    def _updates(self, plan: Sequence[np.ndarray], position: Position) -> Iterator[tuple[np.ndarray, Any]]:
        left = list(plan[position.update :])
        shares = [self.training_step.split(rows, self.size) for rows in left]
        yield from zip(left, self.feed.prefetch(shares, self.number, position.epoch), strict=True)

    def _set_mode(self) -> None:
        """Stage 2 with dropout and batch statistics, but for an encoder that is not trained; stage 1 without."""
        model = self.loop.model
        model.train(self.stage.recipe_section == "stage2")
        if not any(name.startswith("encoder.") for name in self.trained):
            model.encoder.eval()

    def _safely(self, parts: Any, rows: np.ndarray, position: Position) -> LossGradient:
        """An update; with smaller parts where the memory does not suffice."""
        while True:
            try:
                return self._update(parts, rows, position)
            except RuntimeError as error:
                out = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
                # Processes that have exchanged a part of an update cannot begin it again one by one.
                if not out or self.size == 1 or self.loop.processes.size > 1:
                    raise InputError(f"an update failed: {str(error).strip().splitlines()[-1]}") from error
                self.size = max(1, self.size // 2)
                log.warning("out of memory; going on with %d samples at a time", self.size)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                parts = self.feed.load(self.training_step.split(rows, self.size), self.number, position.epoch)

    def _update(self, parts: Any, rows: np.ndarray, position: Position) -> LossGradient:
        # Dropout depends on where in the run it happens, not on what was drawn before.
        step = position.total
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            draws = generator(self.loop.seed, DROPOUT, self.number, step, self.loop.processes.rank)
            torch.manual_seed(int(draws.integers(1 << 62)))
            return self.training_step.gradient(parts, rows, step)

    def _step(self, update: LossGradient, position: Position, updates: int) -> None:
        for name, parameter in self.parameters.items():
            parameter.grad = update.gradient[name]
        limit = self.settings.gradient_clip
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), limit or math.inf)
        if not math.isfinite(update.loss) or not math.isfinite(float(norm)):
            self._refuse(position, update)
        share = learning_rate_factor(self.settings, position.epoch + (position.update + 1) / updates)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * share
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _refuse(self, position: Position, update: LossGradient) -> None:
        what = "loss" if not math.isfinite(update.loss) else "gradient"
        place = self.loop.folder / "checkpoints"
        last = sorted(path.name for path in place.glob("[0-9]*"))
        there = f"the last good checkpoint is {place / last[-1]}" if last else "no checkpoint was written yet"
        raise InputError(
            f"the {what} is no finite number in {self.stage.name}, epoch {position.epoch + 1}, update "
            f"{position.update + 1}; {there}; try a smaller --set {self.stage.recipe_section}.learning_rate "
            f"(now {self.settings.learning_rate:g})"
        )

    def _counted(self, position: Position, update: LossGradient) -> Position:
        sums = dict(position.sums)
        for name, value in {"loss": update.loss, **update.scalars}.items():
            sums[name] = sums.get(name, 0.0) + value
        return replace(position, update=position.update + 1, total=position.total + 1, sums=sums)

    def _end_of_epoch(self, position: Position, seconds: float) -> Position:
        means = {name: value / max(1, position.update) for name, value in position.sums.items()}
        epoch = position.epoch + 1
        record = {"stage": self.stage.name, "epoch": epoch, "updates": position.update, **means}
        record["learning_rate"] = float(self.optimizer.param_groups[0]["lr"])
        best = position.best
        self.loop.processes.average_batch_statistics(self.loop.model)
        if self.stage.recipe_section == "stage2":
            error = self.loop.evaluator.error(self.loop.model, self.loop.evaluator.data.validation)
            record["validation_error"] = error
            best = self._best(epoch, error, best)
            self._keep(epoch)
        self._tell(record)
        self.kept.add({**record, "seconds": round(seconds, 3)}, position.total)
        return Position(self.number, epoch, 0, position.total, self.kept.size, {}, best)

    def _best(self, epoch: int, error: float, best: BestEpoch | None) -> BestEpoch:
        """The first epoch of the lowest error; the last one as long as the error is no number."""
        if best is not None and best.error is not None and not error < best.error:
            return best
        if not math.isfinite(error) and best is None:
            log.warning("the metric is not defined on the validation samples; the last epoch stands for the best")
        if self.loop.leads and self.loop.recipe.stage2.choose == "best":
            write_tensors(_best_file(self.loop.folder, epoch), self.loop.model.state_dict())
            self._remove_weights({epoch})
        return BestEpoch(epoch, error if math.isfinite(error) else None)

    def _remove_weights(self, but: set[int]) -> None:
        """Those of former best epochs, but for what a checkpoint goes on from."""
        needed = {_best_file(self.loop.folder, epoch) for epoch in but | best_epochs(self.loop.folder)}
        for path in set(self.loop.folder.glob("best-*.safetensors")) - needed:
            path.unlink()

    def _tell(self, record: dict[str, Any]) -> None:
        """A line an epoch where no progress is shown."""
        if self.loop.progress is None and self.loop.leads:
            error = f", validation error {record['validation_error']:.4g}" if "validation_error" in record else ""
            log.info(
                "%s epoch %d of %d: loss %.4g%s", record["stage"], record["epoch"], self.loop.epochs(self.stage),
                record.get("loss", math.nan), error,
            )  # fmt: skip

    def _keep(self, epoch: int) -> None:
        if self.loop.leads and epoch in self.loop.recipe.stage2.keep_epochs:
            path = epoch_file(self.loop.folder, epoch)
            path.parent.mkdir(exist_ok=True)
            write_tensors(path, self.loop.model.state_dict())

    def _exhausted(self, position: Position) -> bool:
        settings = self.settings
        if not isinstance(settings, FullStage) or settings.patience is None or position.best is None:
            return False
        return position.epoch - position.best.epoch >= settings.patience

    def _save(self, position: Position) -> None:
        self.saved = time.monotonic()
        if not self.loop.leads:
            return
        save_checkpoint(self.loop.folder, replace(position, logged=self.kept.size), self.loop.model, self.optimizer)
        self._remove_weights(set())
