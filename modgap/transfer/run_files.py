"""Files of a training run in its folder; a run in memory has none."""

from pathlib import Path

import torch
from torch import Tensor, nn

from modgap.models import TargetModel
from modgap.transfer.checkpoint import (
    CHECKPOINTS,
    Checkpoint,
    Position,
    best_epochs,
    latest_checkpoint,
    load_tensors,
    save_checkpoint,
    write_tensors,
)
from modgap.transfer.run_folder import LOG, STAGE1_FILE, best_file, epoch_file

__all__ = ["FolderFiles", "RunFiles"]


class RunFiles:
    """Files of a run that has none: the weights of the best epoch stay in memory, and nothing else is kept."""

    log: Path | None = None
    """File of the log; None for no log."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._best: dict[int, dict[str, Tensor]] = {}

    def latest_checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint; None if there is none."""
        return None

    def save_checkpoint(self, position: Position, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Save a checkpoint.

        Args:
            position: Progress of the run.
            model: The model.
            optimizer: The optimizer of the current stage.

        Raises:
            InputError: When it cannot be written.
        """

    def save_embedder(self, embedder: nn.Module) -> None:
        """Save the embedder after the stage that trains it."""

    def save_epoch(self, epoch: int, model: TargetModel) -> None:
        """Save the weights of an epoch that the recipe asks for."""

    def save_best(self, epoch: int, model: nn.Module) -> None:
        """Save the weights of the best epoch so far."""
        self._best = {epoch: {name: value.detach().clone() for name, value in model.state_dict().items()}}

    def best_weights(self, epoch: int) -> dict[str, Tensor]:
        """Return the weights of the best epoch."""
        return self._best[epoch]

    def checkpoint_sentence(self) -> str:
        """Return a sentence that says which checkpoint is the last one."""
        return "There is no checkpoint."


class FolderFiles(RunFiles):
    """Files of a run in its folder. The main process writes them, and all processes read them.

    Attributes:
        folder: The folder.
        writes: True in the process that writes.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        """Keep the folder."""
        self.folder = folder
        self.writes = writes
        self.log = folder / LOG if writes else None

    def latest_checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint that can be read; None if there is none."""
        return latest_checkpoint(self.folder)

    def save_checkpoint(self, position: Position, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint, and remove older ones and the weights that no checkpoint refers to."""
        if self.writes:
            best = None if position.best is None else best_file(self.folder, position.best.epoch)
            save_checkpoint(self.folder, position, model, optimizer, best if best and best.exists() else None)
            self._remove_outdated_weights(set())

    def save_embedder(self, embedder: nn.Module) -> None:
        """Write the embedder after the stage that trains it."""
        if self.writes:
            write_tensors(self.folder / STAGE1_FILE, embedder.state_dict())

    def save_epoch(self, epoch: int, model: TargetModel) -> None:
        """Write the weights of an epoch that the recipe asks for."""
        if self.writes:
            write_tensors(epoch_file(self.folder, epoch), model.state_dict())

    def save_best(self, epoch: int, model: nn.Module) -> None:
        """Write the weights of the best epoch so far, and remove those of former ones."""
        if self.writes:
            write_tensors(best_file(self.folder, epoch), model.state_dict())
            self._remove_outdated_weights({epoch})

    def best_weights(self, epoch: int) -> dict[str, Tensor]:
        """Read the weights of the best epoch."""
        return load_tensors(best_file(self.folder, epoch))

    def checkpoint_sentence(self) -> str:
        """Return a sentence that says which checkpoint is the last one."""
        checkpoints = sorted((self.folder / CHECKPOINTS).glob("[0-9]*"))
        return f"The last checkpoint is {checkpoints[-1]}." if checkpoints else "There is no checkpoint yet."

    def _remove_outdated_weights(self, needed_epochs: set[int]) -> None:
        """Remove the weights of former best epochs, except those that a checkpoint refers to."""
        needed = {best_file(self.folder, epoch) for epoch in needed_epochs | best_epochs(self.folder)}
        for path in set(self.folder.glob("best-*.safetensors")) - needed:
            path.unlink()
