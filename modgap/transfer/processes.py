"""Several processes, on one machine or many, that share each batch."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from modgap.errors import UsageError

__all__ = ["Processes", "processes"]


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; alone unless torchrun started several.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
        device: Where they exchange tensors.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    def share(self, rows):
        """What of a sequence falls to this process: every `size`-th, from `rank` on."""
        return rows[self.rank :: self.size]

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """Element-wise sums over all processes, in one exchange."""
        if self.size == 1 or not tensors:
            return tensors
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        pieces = flat.split([tensor.numel() for tensor in tensors])
        return [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]

    def gather(self, own: Tensor, total: int) -> Tensor:
        """Rows of all processes, (total, ...), in the order from which `share` took each one's `own`.

        Gradients flow through this process's own rows alone; summed over processes they are whole.
        """
        if self.size == 1:
            return own
        places = torch.arange(self.rank, total, self.size, device=own.device)
        whole = own.new_zeros((total, *own.shape[1:])).index_copy(0, places, own.detach())
        torch.distributed.all_reduce(whole)
        return whole.index_copy(0, places, own)

    def block(self, rows):
        """What of a sequence falls to this process when each takes neighbors, so that `join` keeps the order."""
        return rows[self.rank * len(rows) // self.size : (self.rank + 1) * len(rows) // self.size]

    def join(self, own: np.ndarray) -> np.ndarray:
        """Arrays of all processes one after the other; they may differ in length, and be of none."""
        if self.size == 1:
            return own
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(own)
        lengths = self._exchanged(lengths)
        first = int(lengths[: self.rank].sum())
        bytes_each = own.dtype.itemsize * int(np.prod(own.shape[1:], dtype=np.int64))
        whole = torch.zeros(int(lengths.sum()) * bytes_each, dtype=torch.uint8)
        data = np.frombuffer(np.ascontiguousarray(own).tobytes(), np.uint8)
        whole[first * bytes_each : first * bytes_each + len(data)] = torch.from_numpy(data.copy())
        return np.frombuffer(self._exchanged(whole).numpy().tobytes(), own.dtype).reshape(-1, *own.shape[1:])

    def _exchanged(self, tensor: Tensor) -> Tensor:
        """The sum over processes, by way of the device that they exchange on."""
        there = tensor.to(self.device)
        torch.distributed.all_reduce(there)
        return there.cpu()

    def average_batch_statistics(self, model: nn.Module) -> None:
        """Give the running statistics of batch normalization, which each process has of its own samples, their mean."""
        layers = [
            layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None
        ]
        own = [each for layer in layers for each in (layer.running_mean, layer.running_var) if each is not None]
        for each, whole in zip(own, self.sum(own), strict=True):
            if whole is not each:
                each.copy_(whole / self.size)

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            torch.distributed.barrier()


def processes(device: str = "auto") -> Processes:
    """The processes that torchrun or accelerate started; one process where neither did.

    Args:
        device: `cpu` keeps them from the accelerators; of several accelerators each process takes its own.

    Raises:
        UsageError: When there are several and accelerate, which joins them, is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise UsageError("several processes need accelerate: pip install 'modgap[distributed]'") from error
    state = PartialState(cpu=device == "cpu" or not torch.accelerator.is_available())
    return Processes(state.process_index, state.num_processes, str(state.device))
