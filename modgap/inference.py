"""Run a source model over samples: preprocessing on the device, batches prepared ahead, memory respected."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from modgap.embedding import Embedding
from modgap.errors import InputError, UsageError
from modgap.sources import ImageInput, Source
from modgap.targets import Samples

__all__ = ["DTYPES", "choose_device", "logit_batches", "to_input"]

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


def to_input(images: torch.Tensor, own: ImageInput) -> torch.Tensor:
    """Images (B, C, H, W) as the source's input: three channels, its size, its mean and sd.

    One channel is repeated, more than three are averaged in three neighbouring groups; resizing is
    antialiased, and the whole image is kept.
    """
    batch, channels, height, width = images.shape
    if channels != len(own.mean):
        flat = images.reshape(batch, channels, -1).transpose(1, 2)
        images = functional.adaptive_avg_pool1d(flat, len(own.mean)).transpose(1, 2)
        images = images.reshape(batch, len(own.mean), height, width)
    if (height, width) != own.size:
        smooth = own.interpolation in ("bilinear", "bicubic")
        how = {"mode": own.interpolation, "antialias": True} if smooth else {"mode": "nearest"}
        images = functional.interpolate(images, own.size, **how)
    mean = torch.tensor(own.mean, device=images.device).view(1, -1, 1, 1)
    return (images - mean) / torch.tensor(own.sd, device=images.device).view(1, -1, 1, 1)


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

    def logits(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Logits of a batch, in as many pieces as the memory asks for."""
        pieces, done = [], 0
        while done < len(images):
            piece = images[done : done + self.limit]
            try:
                pieces.append(self._forward(piece))
                done += len(piece)
            except RuntimeError as error:
                if len(piece) == 1 or not _out_of_memory(error):
                    raise InputError(self._failure(error)) from error
                self.limit = len(piece) // 2
                log.warning("out of memory at %d samples a batch; going on with %d", len(piece), self.limit)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
        return np.concatenate(pieces)

    def _failure(self, error: RuntimeError) -> str:
        height, width = self.source.input.size
        reason = str(error).strip().splitlines()[-1]
        return f"the source fails on one image of {height} x {width} pixels ({reason}); try another --input-size"

    def _forward(self, images: Sequence[np.ndarray]) -> np.ndarray:
        autocast: contextlib.AbstractContextManager = contextlib.nullcontext()
        if self.dtype != torch.float32:
            autocast = torch.autocast(self.device.type, self.dtype)
        with torch.inference_mode(), autocast:
            batch = self._batch(images).contiguous(memory_format=self.layout)
            return self.source.model(batch).float().cpu().numpy()

    def _batch(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        own = self.source.input
        if len({image.shape for image in images}) == 1:
            return to_input(torch.from_numpy(np.stack(images)).to(self.device), own)
        return torch.cat([to_input(torch.from_numpy(image)[None].to(self.device), own) for image in images])

    def fit_to_memory(self, images: Sequence[np.ndarray]) -> None:
        """On CUDA, set the largest batch that the free memory holds, from the peak of a small one."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.logits(images)
        each = (torch.cuda.max_memory_allocated(self.device) - before) / len(images)
        free, _ = torch.cuda.mem_get_info(self.device)
        fits = max(1, int(MEMORY_SHARE * free / max(each, 1)))
        self.limit = min(LARGEST_BATCH, 1 << (fits.bit_length() - 1))


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def _images(samples: Samples, rows: np.ndarray, embedding: Embedding) -> list[np.ndarray]:
    return [embedding.image(samples[i]) for i in rows]


def _prepared(
    samples: Samples, rows: np.ndarray, embedding: Embedding, size: Callable[[], int]
) -> Iterator[list[np.ndarray]]:
    """Batches of images, made in a thread while the model works on the ones before."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future] = []
        start = 0
        while start < len(rows) or waiting:
            while start < len(rows) and len(waiting) < AHEAD:
                cut = rows[start : start + size()]
                waiting.append(pool.submit(_images, samples, cut, embedding))
                start += len(cut)
            yield waiting.pop(0).result()


def logit_batches(
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

    Args:
        source: The model.
        samples: Where the samples come from.
        rows: Numbers of the samples wanted.
        embedding: How samples become images.
        device: Where to run.
        batch_size: Samples at a time; None finds it. Halved when the memory does not suffice.
        dtype: float32, or bfloat16 or float16 for mixed precision.
    """
    run = _Pass(source, device, DTYPES[dtype], batch_size or BATCH_IN_CACHE)
    if batch_size is None and device.type == "cuda":
        run.fit_to_memory([embedding.image(samples[i]) for i in rows[:PROBE_BATCH]])
    for images in _prepared(samples, rows, embedding, lambda: run.limit):
        yield run.logits(images)
