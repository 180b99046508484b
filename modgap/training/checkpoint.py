"""Files that a training writes: checkpoints and weights, in safetensors and strict JSON, complete or absent."""

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modgap.errors import InputError, first_line
from modgap.models import TargetModel
from modgap.storage.atomic_files import TEMPORARY_SUFFIX, atomic_path, temporary_path, writing
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS
from modgap.storage.digests import FILES, check_named_file, named_digests
from modgap.storage.json_records import format_json, parse_record, plain_values, with_digest
from modgap.training.run_folder import LOG, STAGE1_FILE, best_file, epoch_file

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints in that of the run."""
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
AVERAGE = "average.safetensors"
POSITION = "position.json"
NEWEST = 2
"""Number of checkpoints that are kept, in case the disk damages the last one."""


@dataclass(frozen=True)
class BestEpoch:
    """The epoch with the lowest validation error so far.

    Attributes:
        epoch: Number of the epoch, from 1.
        error: Its validation error; None where the metric is not defined.
    """

    epoch: int
    error: float | None


@dataclass(frozen=True)
class Position:
    """Progress of a run.

    Attributes:
        stage: Number of the current stage, from 0.
        epoch: Number of completed epochs of the stage.
        update: Number of completed updates of the current epoch.
        total_updates: Number of completed updates of the whole run.
        log_bytes: Size of the log file up to here.
        sums: Sums of the logged numbers over the updates of the current epoch, by name.
        best: Best epoch of stage 2 so far; None before its first epoch is complete.
    """

    stage: int = 0
    epoch: int = 0
    update: int = 0
    total_updates: int = 0
    log_bytes: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: BestEpoch | None = None


Checkpoint = tuple[Position, dict[str, dict[str, Tensor]]]
"""A checkpoint that was read from disk: progress of the run, and the tensors of each file by its name. They are the
states of the model and of the average of its weights, by name, and those of the optimizer, by number of the parameter
and name."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, complete or not at all.

    Raises:
        InputError: When the file cannot be written.
    """
    try:
        with atomic_path(path) as temporary:
            save_file(cpu_copies(tensors), temporary)
            _flush_to_disk(temporary)
    except (OSError, SafetensorError) as error:
        raise InputError(f"Cannot write {path}: {getattr(error, 'strerror', None) or error}.") from error


def cpu_copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU, each with memory of its own, because safetensors refuses views of one storage."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        InputError: When it is missing or damaged.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise InputError(f"The weights file {path} does not exist.") from error
    except (SafetensorError, *DAMAGED_FILE_ERRORS) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}.") from error


def part_of(weights: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the tensors of a part among those of a whole, such as the embedder of a model, by their names in it."""
    return {name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")}


def remove_checkpoints(folder: Path, *, keep: int) -> None:
    """Remove the checkpoints of a run's folder except the newest ones, and those that were not completed."""
    complete = sorted(_complete(folder))
    for outdated in [*complete[: len(complete) - keep], *(folder / CHECKPOINTS).glob(f".*{TEMPORARY_SUFFIX}")]:
        shutil.rmtree(outdated, ignore_errors=True)
    if not keep:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint of a run's folder that can be read; damaged ones are skipped."""
    for path in sorted(_complete(folder), reverse=True):
        with contextlib.suppress(InputError, *DAMAGED_FILE_ERRORS):
            position, files = _read_position(path)
            names = [name for name in (MODEL, OPTIMIZER, AVERAGE) if name != AVERAGE or AVERAGE in files]
            for name in files:
                # The other file has the weights of the best epoch, which a finished run has as those that it chose.
                base = path if name in names else folder
                if base == path or (base / name).exists():
                    check_named_file(base, {FILES: files}, base / name)
            return position, {name: load_tensors(path / name) for name in names}
    return None


def best_epochs(folder: Path) -> set[int]:
    """Return the best epochs that the checkpoints of a run's folder refer to."""
    epochs = set()
    for path in _complete(folder):
        with contextlib.suppress(*DAMAGED_FILE_ERRORS):
            if (best := _read_position(path)[0].best) is not None:
                epochs.add(best.epoch)
    return epochs


def _read_position(path: Path) -> tuple[Position, dict[str, str]]:
    """Return the position of a checkpoint and the checksums of its files, or raise if it is damaged."""
    record, has_digest = parse_record((path / POSITION).read_text(encoding="utf-8"))
    if not has_digest:
        raise ValueError("it has no checksum")
    files: dict[str, str] = record.pop(FILES)
    best = record.pop("best")
    # Strict JSON stores NaN as null.
    sums = {name: math.nan if value is None else value for name, value in record.pop("sums").items()}
    position = Position(**record, sums=sums, best=None if best is None else BestEpoch(**best))
    # The file may have been changed.
    counts = [*record.values(), *([] if best is None else [best["epoch"]])]
    if not all(type(number) is int and number >= 0 for number in counts):
        raise ValueError("a count is not a whole number from 0 on")
    errors = [] if best is None or best["error"] is None else [best["error"]]
    if not all(isinstance(value, int | float) for value in [*sums.values(), *errors]):
        raise ValueError("a sum or an error is not a number")
    return position, files


def restore_model(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Restore the state of a model, or of an average of its weights, from that in a checkpoint.

    Raises:
        InputError: When the checkpoint is not one of this model.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"The checkpoint is not one of this model: {first_line(error)} Remove the folder {CHECKPOINTS} to train "
            "from the start."
        ) from error


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state of an optimizer over the same parameters.

    Args:
        optimizer: A new optimizer.
        tensors: Tensors of a checkpoint, by number of the parameter and name.

    Raises:
        InputError: When the tensors are not those of this optimizer.
    """
    record = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number) if number.isdecimal() else -1, {})[name] = tensor
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    expected = {number: parameter.shape for number, parameter in enumerate(parameters)}
    # A tensor of the state is a number, or has the shape of its parameter.
    shapes = {number: {value.shape for value in values.values() if value.dim()} for number, values in state.items()}
    if any(number not in expected or not sizes <= {expected[number]} for number, sizes in shapes.items()):
        raise InputError(
            f"The checkpoint is not one of this optimizer. Remove the folder {CHECKPOINTS} to train from the start."
        )
    optimizer.load_state_dict({"state": state, "param_groups": record["param_groups"]})


def _complete(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run's folder; a partial one still has its hidden name."""
    return [path for path in (folder / CHECKPOINTS).glob("[0-9]*") if path.is_dir()]


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


# Files of a training


class RunFiles:
    """Files of a run in its folder. The main process writes them, and all processes read them.

    A run without a folder keeps the weights of the best epoch in memory, and nothing else.

    Attributes:
        folder: The folder; None for none.
        written: The same in the process that writes; None in others.
        log: File of the log in the process that writes; None for no log.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        writes: bool = True,
        watch: Callable[[int, TargetModel], None] | None = None,
    ) -> None:
        """Keep the folder.

        Args:
            folder: The folder; None for none.
            writes: True in the process that writes.
            watch: Function that looks at the model after each epoch that the recipe names; None for none.
        """
        self.folder = folder
        self.written = folder if writes else None
        self.log = None if self.written is None else self.written / LOG
        self._watch = watch
        self._best: dict[str, Tensor] = {}

    def latest_checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint that can be read; None if there is none."""
        return None if self.folder is None else latest_checkpoint(self.folder)

    def save_checkpoint(
        self, position: Position, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None = None
    ) -> None:
        """Write a checkpoint, with the checksums of its files and of the weights of the best epoch.

        Older checkpoints are removed, and so are the weights that no checkpoint refers to.

        Args:
            position: Progress of the run.
            model: The model.
            optimizer: The optimizer of the current stage.
            average: The average of the model's weights; None if there is none.

        Raises:
            InputError: When it cannot be written.
        """
        if (folder := self.written) is None:
            return
        path = folder / CHECKPOINTS / f"{position.total_updates:09d}-{position.stage}-{position.epoch:05d}"
        temporary = temporary_path(path)
        with writing(path.parent):
            temporary.mkdir(parents=True)
            states = {MODEL: model.state_dict(), OPTIMIZER: {}}
            for number, values in optimizer.state_dict()["state"].items():
                tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
                states[OPTIMIZER] |= {f"{number}.{name}": value for name, value in tensors.items()}
            states |= {} if average is None else {AVERAGE: average.state_dict()}
            for name, state in states.items():
                write_tensors(temporary / name, state)
            files = named_digests(temporary, [temporary / name for name in states])
            if position.best is not None and (best := best_file(folder, position.best.epoch)).exists():
                files |= named_digests(folder, [best])
            record = format_json({**plain_values(asdict(position)), FILES: files})
            (temporary / POSITION).write_text(with_digest(record), encoding="utf-8")
            _flush_to_disk(temporary / POSITION)
            if path.exists():
                shutil.rmtree(path)
            os.rename(temporary, path)
        remove_checkpoints(folder, keep=NEWEST)
        _remove_outdated_weights(folder, best_epochs(folder))

    def save_embedder(self, embedder: nn.Module) -> None:
        """Write the embedder after the stage that trains it."""
        if self.written is not None:
            write_tensors(self.written / STAGE1_FILE, embedder.state_dict())

    def save_epoch(self, epoch: int, model: TargetModel) -> None:
        """Write the weights of an epoch that the recipe asks for, and let a function look at the model."""
        if self._watch is not None:
            self._watch(epoch, model)
        if self.written is not None:
            write_tensors(epoch_file(self.written, epoch), model.state_dict())

    def save_best(self, epoch: int, model: nn.Module) -> None:
        """Save the weights of the best epoch so far, and remove those of former ones."""
        if self.folder is None:
            self._best = {name: value.detach().clone() for name, value in model.state_dict().items()}
        elif self.written is not None:
            write_tensors(best_file(self.written, epoch), model.state_dict())
            _remove_outdated_weights(self.written, {epoch, *best_epochs(self.written)})

    def best_weights(self, epoch: int) -> dict[str, Tensor]:
        """Return the weights of the best epoch."""
        return self._best if self.folder is None else load_tensors(best_file(self.folder, epoch))

    def checkpoint_sentence(self) -> str:
        """Return a sentence that says which checkpoint is the last one."""
        if self.folder is None:
            return "There is no checkpoint."
        checkpoints = sorted((self.folder / CHECKPOINTS).glob("[0-9]*"))
        return f"The last checkpoint is {checkpoints[-1]}." if checkpoints else "There is no checkpoint yet."


def _remove_outdated_weights(folder: Path, needed_epochs: set[int]) -> None:
    """Remove the weights of former best epochs, which no checkpoint refers to."""
    for path in set(folder.glob("best-*.safetensors")) - {best_file(folder, epoch) for epoch in needed_epochs}:
        path.unlink()
