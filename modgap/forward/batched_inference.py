"""Running a source model over samples in batches, with preprocessing ahead of the model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from modgap.cores import available_cores
from modgap.errors import UsageError
from modgap.forward.loading import load_ahead
from modgap.forward.model_runner import PADDED, ModelRunner
from modgap.forward.side_by_side import outputs_side_by_side
from modgap.freed_memory import reused_memory
from modgap.inputs.native_embedding import Embedding
from modgap.sources import Source
from modgap.targets import Samples

__all__ = ["DTYPES", "choose_device", "output_batches"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU_BATCH = 16
"""On a CPU, larger batches only push the activations out of its caches (measured in benchmarks/logits.py)."""
TRIAL_BATCH = 8
"""Samples whose peak memory decides the batch size on CUDA."""
BATCHES_SORTED = 16
"""Number of batches whose pieces are sorted by length together, so that a batch has little padding."""
MOST_LOADER_WORKERS = 4
"""Most processes that prepare samples if no number is asked for."""


def choose_device(name: str) -> torch.device:
    """Return the device of this name; `auto` stands for CUDA, else MPS, else the CPU.

    Raises:
        UsageError: When this machine does not have the device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available.get(name.split(":")[0], False):
        kinds = ", ".join(kind for kind, is_available in available.items() if is_available)
        raise UsageError(f"Device {name!r} is not available on this machine. Available devices: {kinds}.")
    return torch.device(name)


def _pieces_of_samples(samples: Samples, rows: np.ndarray, embedding: Embedding) -> tuple[list[Any], np.ndarray]:
    """Return all pieces of these samples in order, and the number of pieces of each sample."""
    pieces_by_sample = [embedding.pieces(samples[int(row)]) for row in rows]
    counts = np.array([len(pieces) for pieces in pieces_by_sample])
    return [piece for pieces in pieces_by_sample for piece in pieces], counts


@dataclass(frozen=True)
class _Blocks:
    """Blocks of samples, read by number; a worker process gets all that it needs at its start."""

    samples: Samples
    rows: np.ndarray
    embedding: Embedding
    size: int

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __call__(self, number: int) -> tuple[list[Any], np.ndarray]:
        """Return all pieces of the samples of a block, and the number of pieces of each."""
        return _pieces_of_samples(self.samples, self.rows[number * self.size :][: self.size], self.embedding)


def _choose_loader_workers(device: torch.device) -> int:
    """Return the number of processes that prepare samples, if none is asked for.

    On the CPU the model has work for all cores. A GPU is so fast that one thread cannot decode enough for it.
    """
    return 0 if device.type == "cpu" else min(MOST_LOADER_WORKERS, available_cores())


def _sample_means(outputs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean output of each sample's pieces."""
    if (counts == 1).all():
        return outputs
    firsts = np.cumsum(counts) - counts
    means: np.ndarray = np.add.reduceat(outputs.astype(np.float64), firsts) / counts[:, None]
    return means.astype(np.float32)


def output_batches(
    source: Source,
    samples: Samples,
    rows: np.ndarray,
    embedding: Embedding,
    *,
    device: torch.device,
    batch_size: int | None = None,
    dtype: str = "float32",
    side_by_side: int = 1,
    loader_workers: int | None = None,
) -> Iterator[np.ndarray]:
    """Yield the model's outputs for the samples with these numbers, in their order, float32 (B, outputs).

    The outputs are logits, or features if the source's model has no head. A sample of several pieces (chunks of a
    clip, frames of a video) gets the mean of their outputs. Texts and sounds of different lengths pass through the
    model with others of about their length.

    Args:
        source: The source whose model runs.
        samples: The samples, addressed by number.
        rows: Numbers of the requested samples, shape (N,).
        embedding: Rule by which samples become pieces of the source's input.
        device: Device on which the model runs.
        batch_size: Number of pieces in a batch, halved when the memory does not suffice; None for an automatic choice.
        dtype: float32, or bfloat16 or float16 for mixed precision.
        side_by_side: Number of threads, each of which runs a batch of its own on the CPU. The outputs do not depend on
            it as long as the number of threads of PyTorch stays the same.
        loader_workers: Number of processes that read and prepare samples ahead of the model; 0 for a thread. None for
            an automatic choice. The outputs do not depend on it.
    """
    runner = ModelRunner(source, device, DTYPES[dtype], batch_size or CPU_BATCH)
    if batch_size is None and device.type == "cuda":
        runner.fit_to_memory(_pieces_of_samples(samples, rows[:TRIAL_BATCH], embedding)[0])
    together = BATCHES_SORTED if isinstance(source.input, PADDED) else 1
    to_read = _Blocks(samples, rows, embedding, together * runner.limit)
    workers = _choose_loader_workers(device) if loader_workers is None else loader_workers
    blocks = load_ahead(to_read, len(to_read), workers)
    with reused_memory():
        if side_by_side > 1 and device.type == "cpu":
            for outputs, counts in outputs_side_by_side(runner, blocks, side_by_side):
                yield _sample_means(outputs, counts)
            return
        for pieces, counts in blocks:
            yield _sample_means(runner.outputs(pieces), counts)
