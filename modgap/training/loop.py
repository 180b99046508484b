"""The training loop of all methods: updates, the log, the choice of the best epoch, checkpoints and resumption."""

import copy
import functools
import logging
import math
import operator
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from modgap.errors import InputError, count
from modgap.models import TargetModel
from modgap.models.normalization import hold_running_statistics, uses_batch_statistics
from modgap.process.devices import Number, is_out_of_memory, number_of, read_numbers, seeded, tf32, upload
from modgap.process.installed_packages import import_optional
from modgap.process.resources import reused_memory
from modgap.storage.json_records import Record, format_json, plain_values
from modgap.training.batches import MicroBatches, generator, join_short_end
from modgap.training.checkpoint import AVERAGE, MODEL, OPTIMIZER, BestEpoch, Position, restore_model, restore_optimizer
from modgap.training.method import Stage, Training
from modgap.training.native_inputs import text_input
from modgap.training.placement import BatchSizes, fitting_batch, merges_batches
from modgap.training.recipe import FullStage, OptimizerSettings
from modgap.training.task_loss import LossGradient

UPDATES_READ_TOGETHER = 10
"""Number of updates whose losses are read together from a device that is not the CPU, because reading waits for it."""
NORM = "norm of the gradient"
"""Name of the norm among the numbers of an update."""
DROPOUT_STREAM = 9
"""First integer of the position that `generator` takes for seeds of dropout. Lower ones are those of samples."""

log = logging.getLogger("modgap")


class NotFiniteError(InputError):
    """The loss or the gradient became NaN or infinite."""


def run_training_loop(training: Training) -> Position:
    """Train through all stages, starting from the newest checkpoint if there is one.

    Afterwards the model has the chosen weights.

    Returns:
        The final position, with the best epoch.

    Raises:
        NotFiniteError: When the loss becomes NaN or infinite.
        InputError: When the disk cannot be written.
    """
    position, states = training.files.latest_checkpoint() or (Position(), {})
    if states:
        restore_model(training.model, states[MODEL])
    run_log = RunLog(training.files.log, position.log_bytes, training.tensorboard_folder)
    stages = training.method.stages_with_epochs(training.recipe)
    for number in range(position.stage, len(stages)):
        stage = stages[number]
        if training.processes.is_main:
            _announce_stage(training, stage)
        stage_loop = _StageLoop(training, stage, number, run_log, states)
        if position.stage < number:
            position = Position(number, total_updates=position.total_updates, log_bytes=run_log.size)
        with reused_memory(), tf32(stage_loop.objective.allows_tf32):
            position = stage_loop.run(position)
        states = {}
        if stage.recipe_section == "stage1" and stage.epochs_setting == "epochs":
            training.files.save_embedder(training.model.embedder)
    training.processes.barrier()
    if position.best is not None and training.recipe.stage2.choose == "best":
        training.model.load_state_dict(training.files.best_weights(position.best.epoch))
    return position


class _StageLoop:
    """The loop over the epochs of one stage.

    An update is one step of the optimizer. Its rows are a batch, which passes through the model in one or several
    micro-batches. Gradients, losses and the order of samples belong to the objective of the stage.
    """

    def __init__(
        self, training: Training, stage: Stage, number: int, run_log: "RunLog", states: dict[str, dict[str, Tensor]]
    ) -> None:
        self.training = training
        self.model = training.model
        self.stage = stage
        self.number = number
        self.run_log = run_log
        self.epochs = stage.n_epochs(training.recipe)
        self.settings = stage.settings(training.recipe)
        self.feed = replace(training.feed, augmentation=getattr(self.settings, "augmentation", "none"))
        self.objective = stage.objective_class(training, stage, number)
        all_parameters = dict(training.model.named_parameters())
        self.parameters = {name: all_parameters[name] for name in stage.select_parameters(training.model)}
        self.optimizer = build_optimizer(self.parameters, self.settings, self.objective.without_decay)
        decay: float | None = getattr(self.settings, "ema_decay", None)
        self.average = None if decay is None else average_weights(training.model, decay)
        if states:
            restore_optimizer(self.optimizer, states[OPTIMIZER])
            if self.average is not None:
                restore_model(self.average, states.get(AVERAGE, {}))
        trains_all = stage.recipe_section == "stage2"
        merged = merges_batches(training.recipe, training.model, training.device, trains_all)
        surrogate_batch = training.recipe.stage1.surrogate_batch
        self.sizes = BatchSizes(self.settings, surrogate_batch, merged, self._fitting_batches(), self.objective.divides)
        reader = None if self.objective.surrogate is None else self.objective.surrogate.reader
        self.loader = self.feed.updates(number, reader)
        self.last_checkpoint = time.monotonic()
        self.unread: dict[int, dict[str, Number]] = {}
        """Loss, norm of the gradient and other scalars of updates that no position contains yet, by their number.

        The values may still be on the device.
        """

    def _fitting_batches(self) -> list[int]:
        """Return how many samples of the target and of the surrogate may pass together; empty for no limit.

        Texts differ in length, so the longest of the training samples tells it.
        """
        training = self.training
        self._set_mode()
        if training.device.type != "cpu" or uses_batch_statistics(self.model):
            return []
        rows, samples = training.data.train, training.data.table.samples
        if text_input(training.data.transform) is not None:
            rows = rows[[int(np.argmax([len(samples[int(row)]) for row in rows]))]]
        (part,) = self.feed.load([rows[:1]], self.number, 0)
        passes: list[Callable[[], object]] = [functools.partial(self.objective.pass_one, part)]
        if self.objective.surrogate is not None:
            passes.append(functools.partial(self.objective.surrogate.pass_one, self.model))
        try:
            return [fitting_batch(self.model, one) for one in passes]
        except (RuntimeError, ValueError):
            # The first update fails too, and says where.
            return []

    def run(self, position: Position) -> Position:
        """Train the remaining epochs, and return the position after them.

        The model then has the averaged weights, if the stage averages them.
        """
        if self.training.progress:
            self.training.progress(self.stage.name, position.epoch / self.epochs)
        with self.loader:
            while position.epoch < self.epochs and not self._out_of_patience(position):
                position = self._run_epoch(position)
        self._save_checkpoint(position)
        if self.average is not None:
            self.model.load_state_dict(self._evaluated_model.state_dict())
        return position

    @property
    def _evaluated_model(self) -> TargetModel:
        """The model that is validated and saved after an epoch: that with the averaged weights, if there is one."""
        return self.model if self.average is None else cast(TargetModel, self.average.module)

    def _run_epoch(self, position: Position) -> Position:
        """Train from a position to the end of its epoch, and return the position at the start of the next one."""
        self._set_mode()
        plan = self.objective.plan_epoch(position.epoch)
        if uses_batch_statistics(self.model):
            # Each process needs two samples, because one has no variance where its feature map has a single pixel.
            plan = join_short_end(plan, 2 * self.training.processes.size)
        start = time.monotonic()
        for rows, parts in self._load_updates(plan, position):
            gradient = self._compute_gradient(parts, rows, position)
            for name, parameter in self.parameters.items():
                parameter.grad = gradient.gradient[name]
            limit = self.settings.gradient_clip or math.inf
            norm = number_of(torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), limit))
            self.unread[position.update + 1] = {"loss": gradient.loss, NORM: norm, **gradient.scalars}
            if self.training.device.type == "cpu" or len(self.unread) == UPDATES_READ_TOGETHER:
                position = self._read_numbers(position)
            self._step(position, len(plan))
            position = replace(position, update=position.update + 1, total_updates=position.total_updates + 1)
            if self.training.progress:
                self.training.progress(self.stage.name, 1 / (len(plan) * self.epochs))
            if time.monotonic() - self.last_checkpoint > self.training.recipe.checkpoint_seconds:
                position = self._read_numbers(position)
                self._save_checkpoint(position)
        return self._finish_epoch(self._read_numbers(position), time.monotonic() - start)

    def _load_updates(
        self, plan: Sequence[np.ndarray], position: Position
    ) -> Iterator[tuple[np.ndarray, MicroBatches]]:
        """Yield the rows of each remaining update of an epoch, and the micro-batches of this process.

        A batch of the surrogate that was read with an update goes to the objective first.
        """
        remaining = list(plan[position.update :])
        parts_of_updates = [self.objective.split(rows, self.sizes.target) for rows in remaining]
        if uses_batch_statistics(self.model):
            parts_of_updates = [join_short_end(parts, 2) for parts in parts_of_updates]
        numbered = enumerate(parts_of_updates, position.total_updates)
        updates = [(position.epoch, number, parts) for number, parts in numbered]
        for rows, (batches, surrogate) in zip(remaining, self.loader.load(updates), strict=True):
            if surrogate is not None and self.objective.surrogate is not None:
                self.objective.surrogate.receive(surrogate)
            yield rows, upload(batches, self.training.device)

    def _set_mode(self) -> None:
        """Use dropout and batch statistics in stage 2 alone, and never in an encoder that is not trained.

        In a stage that holds the source, the encoder's batch normalization keeps the source's statistics.
        """
        model = self.model
        model.train(self.stage.recipe_section == "stage2")
        if not any(name.startswith("encoder.") for name in self.parameters):
            model.encoder.eval()
        elif self.stage.holds_statistics:
            hold_running_statistics(model.encoder)
            if self.training.method.embedder_start == "native":
                hold_running_statistics(model.embedder)

    def _compute_gradient(self, parts: MicroBatches, rows: np.ndarray, position: Position) -> LossGradient:
        """Compute the gradient of an update, with smaller micro-batches if the memory does not suffice."""
        while True:
            if self.sizes.halvings:
                # Micro-batches that were read ahead still have the size from before the halving.
                parts = tuple(piece for part in parts for piece in part.divide(self.sizes.target))
            # The dropout masks depend on the position in the run, not on earlier random numbers.
            step = position.total_updates
            random = generator(self.training.seed, DROPOUT_STREAM, self.number, step, self.training.processes.rank)
            try:
                with seeded(self.training.device, int(random.integers(1 << 62))):
                    return self.objective.gradient(parts, rows, step, self.sizes.surrogate)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise InputError(
                    "Batch normalization needs more than one sample in each batch, and a batch of "
                    f"{self.stage.name} has one. Pass a larger "
                    f'`settings["{self.stage.recipe_section}.batch_size"]`; here it is '
                    f"{self.settings.batch_size}."
                ) from error
            except RuntimeError as error:
                # Processes that have exchanged a part of an update cannot begin it again one by one.
                if not is_out_of_memory(error) or not self.sizes.can_halve or self.training.processes.size > 1:
                    reason = str(error).strip().splitlines()[-1]
                    if "is not implemented" in reason and self.stage.recipe_section == "stage1":
                        # Some layers have no second derivative.
                        reason += ' Pass `settings={"stage1.route": "finite-difference"}`.'
                    raise InputError(
                        f"The update {position.update + 1} of epoch {position.epoch + 1} of {self.stage.name} failed: "
                        f"{reason}"
                    ) from error
            # Until here, the traceback of the error held the tensors of the failed pass.
            self.sizes.halve()

    def _read_numbers(self, position: Position) -> Position:
        """Add the numbers of the unread updates to the sums of the position, or raise if a loss or norm is not finite.

        On a device that is not the CPU, the optimizer may already have used such a gradient. Checkpoints and weights
        are saved only after this method, so they never contain it.
        """
        sums = dict(position.sums)
        for update, numbers in zip(self.unread, read_numbers(list(self.unread.values())), strict=True):
            norm = numbers.pop(NORM)
            if not math.isfinite(numbers["loss"]) or not math.isfinite(norm):
                quantity = "gradient" if math.isfinite(numbers["loss"]) else "loss"
                rate = self.settings.learning_rate
                raise NotFiniteError(
                    f"The {quantity} is NaN or infinite in {self.stage.name}, epoch {position.epoch + 1}, update "
                    f"{update}. {self.training.files.checkpoint_sentence()} The learning rate is {rate:g}. "
                    f'Try a smaller one: `settings={{"{self.stage.recipe_section}.learning_rate": {rate / 10:g}}}`'
                )
            for name, value in numbers.items():
                sums[name] = sums.get(name, 0.0) + value
        self.unread.clear()
        return replace(position, sums=sums)

    def _step(self, position: Position, updates_per_epoch: int) -> None:
        """Set the learning rate of the update, let the optimizer apply the gradient, and average the weights."""
        epoch = position.epoch + (position.update + 1) / updates_per_epoch
        factor = learning_rate_factor(self.settings, epoch)
        rate = self.settings.learning_rate * factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self.objective.before_step(rate)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _finish_epoch(self, position: Position, seconds: float) -> Position:
        """Validate, save, log and report an epoch, and return the position at the start of the next one."""
        means = {name: value / max(1, position.update) for name, value in position.sums.items()}
        epoch = position.epoch + 1
        record = {"stage": self.stage.name, "epoch": epoch, "updates": position.update, **means}
        # After a checkpoint at the end of the epoch, the optimizer has made no update at this rate.
        record["learning_rate"] = self.settings.learning_rate * learning_rate_factor(self.settings, epoch)
        best = position.best
        for model in dict.fromkeys((self.model, self._evaluated_model)):
            self.training.processes.average_batch_statistics(model)
        if self.stage.recipe_section == "stage2":
            if len(validation := self.training.evaluator.data.validation):
                error = self.training.evaluator.error(self._evaluated_model, validation)
                record["validation_error"] = error
                best = self._update_best(epoch, error, best)
            if self.training.processes.is_main and epoch in self.training.recipe.stage2.keep_epochs:
                model = self._evaluated_model
                if self.training.method.adapter is not None:
                    model = copy.deepcopy(model)
                    self.training.merge_adapter(model)
                self.training.files.save_epoch(epoch, model)
        self._log_epoch(record)
        record["seconds"] = round(seconds, 3)
        self.run_log.add(record, position.total_updates)
        position = Position(self.number, epoch, 0, position.total_updates, self.run_log.size, {}, best)
        if self.training.on_epoch_end is not None and self.training.processes.is_main:
            try:
                self.training.on_epoch_end({**record, "total_updates": position.total_updates})
            except BaseException:
                # The run can be resumed after the epoch, which is not repeated.
                self._save_checkpoint(position)
                raise
        return position

    def _update_best(self, epoch: int, error: float, best: BestEpoch | None) -> BestEpoch:
        """Return the first epoch with the lowest error, or the last epoch while the error is not defined."""
        if best is not None and best.error is not None and not error < best.error:
            return best
        if not math.isfinite(error) and best is None:
            log.warning("The metric is not defined on the validation samples. The last epoch is taken as the best.")
        if self.training.recipe.stage2.choose == "best":
            self.training.files.save_best(epoch, self._evaluated_model)
        return BestEpoch(epoch, error if math.isfinite(error) else None)

    def _log_epoch(self, record: Record) -> None:
        """Log a line per epoch where no progress bar is shown."""
        if (self.training.progress is not None and sys.stderr.isatty()) or not self.training.processes.is_main:
            return
        error = ""
        if "validation_error" in record:
            error = f", validation error {record['validation_error']:.4g} {self.training.evaluator.unit}".rstrip()
        loss = record.get("loss", math.nan)
        log.info("%s epoch %d of %d: loss %.4g%s", record["stage"], record["epoch"], self.epochs, loss, error)

    def _out_of_patience(self, position: Position) -> bool:
        """Return True if the last `patience` epochs of stage 2 were no better than the best one."""
        settings = self.settings
        if not isinstance(settings, FullStage) or settings.patience is None or position.best is None:
            return False
        return position.epoch - position.best.epoch >= settings.patience

    def _save_checkpoint(self, position: Position) -> None:
        self.last_checkpoint = time.monotonic()
        position = replace(position, log_bytes=self.run_log.size)
        self.training.files.save_checkpoint(position, self.model, self.optimizer, self.average)


# The optimizer and the learning rate

DROP_FACTOR = 0.2
"""Factor of the learning rate at each of the epochs `drop_epochs`."""


def build_optimizer(
    parameters: Mapping[str, Tensor], settings: OptimizerSettings, without_decay: Collection[str] = ()
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over some parameters, at its full learning rate.

    Parameters with the same weight decay and the same factor of the learning rate form a group, with the factor as
    `rate_factor`. Groups with weight decay come first.

    Args:
        parameters: Parameters by name.
        settings: Settings of the stage.
        without_decay: Names of parameters without weight decay.
    """
    members: dict[tuple[bool, float], list[Tensor]] = {(False, 1.0): []}
    for name, parameter in parameters.items():
        # A bias, or a scale or shift of a normalization layer, by the rule of timm.
        is_norm_or_bias = parameter.ndim <= 1 or name.endswith(".bias")
        undecayed = name in without_decay or (not settings.decay_norms and is_norm_or_bias)
        factor = float(getattr(settings, f"{name.partition('.')[0]}_rate_factor", 1))
        members.setdefault((undecayed, factor), []).append(parameter)
    rate = settings.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": values, "lr": rate * factor, "rate_factor": factor} | ({"weight_decay": 0.0} if undecayed else {})
        for (undecayed, factor), values in sorted(members.items(), key=operator.itemgetter(0))
    ]
    decay = settings.weight_decay
    # On CUDA one kernel updates all parameters. Elsewhere PyTorch chooses.
    fused = True if {value.device.type for value in parameters.values()} == {"cuda"} else None
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=settings.momentum, weight_decay=decay, fused=fused)
    optimizer = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return optimizer(groups, rate, settings.betas, weight_decay=decay, fused=fused)


def learning_rate_factor(settings: OptimizerSettings, epoch: float) -> float:
    """Return the factor of the learning rate in [0, 1]: a linear warm-up, then a decay and drops, where set.

    Args:
        settings: Settings with warmup_epochs, decay_epochs, decay and drop_epochs.
        epoch: Number of completed epochs, as a fraction; it includes the current update.

    Example:
        >>> from modgap.training.recipe import FullStage
        >>> settings = FullStage(warmup_epochs=2, decay_epochs=10)
        >>> [learning_rate_factor(settings, epoch) for epoch in (1, 2, 6, 10, 11)]
        [0.5, 1.0, 0.5, 0.0, 0.0]
        >>> settings = FullStage(warmup_epochs=0, drop_epochs=[2])
        >>> [learning_rate_factor(settings, epoch) for epoch in (1, 2, 2.1, 3)]
        [1.0, 1.0, 0.2, 0.2]
    """
    if epoch < settings.warmup_epochs:
        return epoch / settings.warmup_epochs
    decay = 1.0
    if settings.decay_epochs is not None and settings.decay_epochs > settings.warmup_epochs:
        left = (settings.decay_epochs - epoch) / (settings.decay_epochs - settings.warmup_epochs)
        left = min(1.0, max(0.0, left))
        decay = left if settings.decay == "linear" else (1 - math.cos(math.pi * left)) / 2
    # The update that ends an epoch still belongs to it.
    completed = math.ceil(epoch) - 1
    return decay * DROP_FACTOR ** sum(drop <= completed for drop in settings.drop_epochs)


# The average of the weights


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a model for an exponential moving average of its weights, which begins with the first update.

    After n updates the decay is at most n / (n + 9), as in TensorFlow, so that a short training forgets its first
    weights too. The running statistics of batch normalization are averaged as the weights are. Counters and indices
    are those of the model.

    Args:
        model: The model, whose weights are copied.
        decay: Weight of the average so far, in (0, 1); that of the new weights is 1 - decay.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], _n_updates: Tensor | int) -> None:
        n_updates = int(average_model.n_averaged)
        share = 1 - min(decay, (n_updates + 1) / (n_updates + 10))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)

    average_model = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    # PyTorch reads the counter in each update, for which it would wait for the device.
    average_model.n_averaged = average_model.n_averaged.cpu()
    return average_model


# The log


class RunLog:
    """The log of a run: a file with one line of JSON for each epoch. The numbers can also go to TensorBoard.

    Attributes:
        size: Size of the file in bytes.
    """

    def __init__(self, path: Path | None, size: int = 0, tensorboard_folder: Path | None = None) -> None:
        """Open the log.

        Args:
            path: The file; None in a process that writes no files.
            size: Size in bytes to which the file is cut back. The lines after it are from epochs that run again.
            tensorboard_folder: Folder of the TensorBoard log; None for no such log.
        """
        self._path = path
        if path:
            with path.open("ab") as stream:
                stream.truncate(size)
        self.size = size
        self._tensorboard = summary_writer()(str(tensorboard_folder)) if path and tensorboard_folder else None

    def add(self, record: Mapping[str, object], step: int) -> None:
        """Append a line; NaN and infinities become null.

        Args:
            record: Values by name; `stage` is the name of the stage.
            step: Number of updates so far, which TensorBoard shows as the x-axis.
        """
        if self._path is None:
            return
        line = format_json(plain_values(record), indent=None).encode() + b"\n"
        with self._path.open("ab") as stream:
            stream.write(line)
        self.size += len(line)
        if self._tensorboard:
            for name, value in record.items():
                if isinstance(value, float) and math.isfinite(value):
                    self._tensorboard.add_scalar(f"{record['stage']}/{name}", value, step)


def summary_writer() -> Any:
    """Return the class that writes a TensorBoard log to a folder.

    Raises:
        UsageError: When the package is not installed.
    """
    purpose = "`tensorboard` needs the package tensorboard"
    return import_optional("torch.utils.tensorboard", purpose, "tensorboard").SummaryWriter


def _announce_stage(training: Training, stage: Stage) -> None:
    """Log that a stage begins, because its preparation and its first epoch may take long.

    A warning names the rates of parts of the model that the stage does not train.
    """
    names = set(stage.select_parameters(training.model))
    n = sum(value.numel() for name, value in training.model.named_parameters() if name in names)
    epochs = stage.n_epochs(training.recipe)
    log.info("%s begins: %s, %s.", stage.name, count(epochs, "epoch"), count(n, "trained parameter"))
    for part in ("embedder", "encoder", "predictor"):
        is_trained = any(name.startswith(f"{part}.") for name in names)
        if not is_trained and getattr(stage.settings(training.recipe), f"{part}_rate_factor", 1) != 1:
            log.warning("%s trains no parameter of the %s, so its rate factor changes nothing.", stage.name, part)
