"""Data-parallel training: several processes, on one machine or many, that share each batch."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from modgap.errors import UsageError

__all__ = ["Processes", "current_processes"]


@dataclass(frozen=True)
class Processes:
    """The processes that train together, as seen by one of them; a single one unless torchrun started several.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        device: Device on which the processes exchange tensors.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """True for the one process that writes files and prints."""
        return self.rank == 0

    def interleaved_share(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's share of rows (n, ...): every `size`-th row, from `rank` on."""
        return rows[self.rank :: self.size]

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """Return the element-wise sums over all processes, from one exchange."""
        if self.size == 1 or not tensors:
            return tensors
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        sums = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [total.view_as(tensor) for total, tensor in zip(sums, tensors, strict=True)]

    def gather(self, share: Tensor, total: int) -> Tensor:
        """Return the rows of all processes (total, ...), in the order before `interleaved_share` divided them.

        Gradients flow only through this process's rows; their sum over all processes is the complete gradient.

        Args:
            share: Rows of this process (n, ...).
            total: Number of rows of all processes.
        """
        if self.size == 1:
            return share
        positions = torch.arange(self.rank, total, self.size, device=share.device)
        rows = share.new_zeros((total, *share.shape[1:])).index_copy(0, positions, share.detach())
        torch.distributed.all_reduce(rows)
        return rows.index_copy(0, positions, share)

    def contiguous_share(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's share of rows (n, ...): neighboring rows, so that `concatenate` keeps the order."""
        first = self.rank * len(rows) // self.size
        end = (self.rank + 1) * len(rows) // self.size
        return rows[first:end]

    def concatenate(self, share: np.ndarray) -> np.ndarray:
        """Return the arrays of all processes one after the other; their lengths may differ and may be 0.

        Args:
            share: Array of this process (n, ...).
        """
        if self.size == 1:
            return share
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(share)
        lengths = self._all_reduced(lengths)
        row_bytes = share.dtype.itemsize * int(np.prod(share.shape[1:], dtype=np.int64))
        start = int(lengths[: self.rank].sum()) * row_bytes
        data = np.frombuffer(np.ascontiguousarray(share).tobytes(), np.uint8)
        buffer = torch.zeros(int(lengths.sum()) * row_bytes, dtype=torch.uint8)
        buffer[start : start + len(data)] = torch.from_numpy(data.copy())
        joined = self._all_reduced(buffer).numpy().tobytes()
        return np.frombuffer(joined, share.dtype).reshape(-1, *share.shape[1:])

    def _all_reduced(self, tensor: Tensor) -> Tensor:
        """Return the sum over the processes, computed on the device on which they exchange tensors."""
        exchanged = tensor.to(self.device)
        torch.distributed.all_reduce(exchanged)
        return exchanged.cpu()

    def average_batch_statistics(self, model: nn.Module) -> None:
        """Replace the running statistics of batch normalization, which differ by process, by their mean."""
        layers = [
            layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None
        ]
        statistics = [
            values for layer in layers for values in (layer.running_mean, layer.running_var) if values is not None
        ]
        for values, total in zip(statistics, self.sum(statistics), strict=True):
            if total is not values:
                values.copy_(total / self.size)

    def barrier(self) -> None:
        """Wait until all processes have reached this call."""
        if self.size > 1:
            torch.distributed.barrier()


def current_processes(device: str = "auto") -> Processes:
    """Return the processes that torchrun or accelerate started, or a single one if neither did.

    Args:
        device: `cpu` makes the processes exchange tensors on the CPU. Otherwise each process has an accelerator of
            its own, if there are any.

    Raises:
        UsageError: When there are several processes, but accelerate, which connects them, is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise UsageError(
            "Training in several processes needs accelerate, which is not installed. "
            "Run: pip install 'modgap[distributed]'"
        ) from error
    state = PartialState(cpu=device == "cpu" or not torch.accelerator.is_available())
    return Processes(state.process_index, state.num_processes, str(state.device))
