"""Run a source model over samples: preprocessing on the device, batches prepared ahead, memory respected."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from modgap.errors import InputError, UsageError
from modgap.inputs.native_embedding import Embedding
from modgap.sources import ImageInput, Source
from modgap.targets import Samples

__all__ = ["DTYPES", "choose_device", "output_batches"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BATCH_IN_CACHE = 16
"""On a CPU larger batches only push the activations out of the caches (measured in benchmarks/logits.py)."""
LARGEST_BATCH, PROBE_BATCH, MEMORY_SHARE = 512, 8, 0.6
AHEAD = 2

log = logging.getLogger("modgap")


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, else MPS, else the CPU.

    Raises:
        UsageError: When the named device is not there.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if present[kind])
    if not present.get(name.split(":")[0], False):
        there = ", ".join(kind for kind, found in present.items() if found)
        raise UsageError(f"device {name!r} is not there; this machine has: {there}")
    return torch.device(name)


@dataclass
class _Pass:
    """The model on its device, with the number of samples that fit."""

    source: Source
    device: torch.device
    dtype: torch.dtype
    limit: int
    layout: torch.memory_format = field(init=False)

    def __post_init__(self) -> None:
        self.layout = torch.channels_last if self.source.convolutional else torch.contiguous_format
        self.source.model.to(self.device).to(memory_format=self.layout)  # type: ignore[call-overload]

    def logits(self, pieces: Sequence[Any]) -> np.ndarray:
        """Logits of pieces (P, classes), in as many batches as the memory asks for."""
        parts, done = [], 0
        while done < len(pieces):
            part = pieces[done : done + self.limit]
            try:
                parts.append(self._forward(part))
                done += len(part)
            except RuntimeError as error:
                if len(part) == 1 or not _out_of_memory(error):
                    raise InputError(self._failure(error)) from error
                self.limit = len(part) // 2
                log.warning("out of memory at %d samples a batch; going on with %d", len(part), self.limit)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
        return np.concatenate(parts)

    def _failure(self, error: RuntimeError) -> str:
        reason = str(error).strip().splitlines()[-1]
        own = self.source.input
        if isinstance(own, ImageInput):
            height, width = own.size
            return f"the source fails on one image of {height} x {width} pixels ({reason}); try another --input-size"
        return f"the source fails on one piece of {own.kind} ({reason})"

    def _forward(self, pieces: Sequence[Any]) -> np.ndarray:
        autocast: contextlib.AbstractContextManager = contextlib.nullcontext()
        if self.dtype != torch.float32:
            autocast = torch.autocast(self.device.type, self.dtype)
        with torch.inference_mode(), autocast:
            batch = self.source.input.batch(pieces, self.device)
            if isinstance(batch, torch.Tensor) and batch.ndim == 4:
                batch = batch.contiguous(memory_format=self.layout)
            return self.source.model(batch).float().cpu().numpy()

    def fit_to_memory(self, pieces: Sequence[Any]) -> None:
        """On CUDA, set the largest batch that the free memory holds, from the peak of a small one."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.logits(pieces)
        each = (torch.cuda.max_memory_allocated(self.device) - before) / len(pieces)
        free, _ = torch.cuda.mem_get_info(self.device)
        fits = max(1, int(MEMORY_SHARE * free / max(each, 1)))
        self.limit = min(LARGEST_BATCH, 1 << (fits.bit_length() - 1))


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def _pieces(samples: Samples, rows: np.ndarray, embedding: Embedding) -> tuple[list[Any], np.ndarray]:
    """All pieces of these samples in order, and how many each sample has."""
    found = [embedding.pieces(samples[int(i)]) for i in rows]
    return [piece for pieces in found for piece in pieces], np.array([len(pieces) for pieces in found])


def _prepared(
    samples: Samples, rows: np.ndarray, embedding: Embedding, size: Callable[[], int]
) -> Iterator[tuple[list[Any], np.ndarray]]:
    """Batches of pieces, made in a thread while the model works on the ones before."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future] = []
        start = 0
        while start < len(rows) or waiting:
            while start < len(rows) and len(waiting) < AHEAD:
                cut = rows[start : start + size()]
                waiting.append(pool.submit(_pieces, samples, cut, embedding))
                start += len(cut)
            yield waiting.pop(0).result()


def _means(logits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean logits of each sample's pieces."""
    if (counts == 1).all():
        return logits
    firsts = np.cumsum(counts) - counts
    return (np.add.reduceat(logits.astype(np.float64), firsts) / counts[:, None]).astype(np.float32)


def output_batches(
    source: Source,
    samples: Samples,
    rows: np.ndarray,
    embedding: Embedding,
    *,
    device: torch.device,
    batch_size: int | None = None,
    dtype: str = "float32",
) -> Iterator[np.ndarray]:
    """Logits of the samples with these numbers, batch by batch, float32 (B, classes).

    A sample of several pieces (chunks of a clip, frames of a video) has their mean logits.

    Args:
        source: The model.
        samples: Where the samples come from.
        rows: Numbers of the samples wanted.
        embedding: How samples become pieces of the source's input.
        device: Where to run.
        batch_size: Pieces at a time; None finds it. Halved when the memory does not suffice.
        dtype: float32, or bfloat16 or float16 for mixed precision.
    """
    run = _Pass(source, device, DTYPES[dtype], batch_size or BATCH_IN_CACHE)
    if batch_size is None and device.type == "cuda":
        run.fit_to_memory(_pieces(samples, rows[:PROBE_BATCH], embedding)[0])
    for pieces, counts in _prepared(samples, rows, embedding, lambda: run.limit):
        yield _means(run.logits(pieces), counts)
