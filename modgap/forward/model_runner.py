"""A model on its device: batches that fit the memory, and pieces of similar length together."""

import contextlib
import copy
import itertools
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from modgap.errors import InputError
from modgap.sources import AudioInput, ImageInput, Source, TextInput

__all__ = ["PADDED", "ModelRunner", "in_place"]

LARGEST_BATCH = 512
MEMORY_FRACTION = 0.6
"""Fraction of the free GPU memory that a batch may use."""
PADDED = (TextInput, AudioInput)
"""Inputs whose pieces may have different lengths."""

log = logging.getLogger("modgap")


@dataclass
class ModelRunner:
    """A model on its device.

    Attributes:
        source: The source, whose model runs.
        device: Device on which it runs.
        dtype: Precision of the forward pass; other than float32 it is mixed.
        limit: Largest number of pieces in a batch.
        preparation: Lock of the source's input, whose tokenizer serves one thread at a time.
        layout: Memory layout of image batches.
    """

    source: Source
    device: torch.device
    dtype: torch.dtype
    limit: int
    preparation: threading.Lock = field(default_factory=threading.Lock)
    layout: torch.memory_format = field(init=False)

    def __post_init__(self) -> None:
        """Move the model to the device."""
        self.layout = torch.channels_last if self.source.convolutional else torch.contiguous_format
        self.source.model.to(self.device).to(memory_format=self.layout)  # type: ignore[call-overload]

    def outputs(self, pieces: Sequence[Any]) -> np.ndarray:
        """Return the outputs of pieces (P, outputs), which pass through the model in the order of their lengths."""
        order = self.order(pieces)
        return in_place([order], [self.outputs_in_order([pieces[number] for number in order])])

    def order(self, pieces: Sequence[Any]) -> np.ndarray:
        """Return the numbers of pieces in the order in which they pass through the model: by length, if they differ."""
        source_input = self.source.input
        lengths = source_input.padded_lengths(pieces) if isinstance(source_input, PADDED) else None
        return np.arange(len(pieces)) if lengths is None else np.argsort(lengths, kind="stable")

    def outputs_in_order(self, pieces: Sequence[Any]) -> np.ndarray:
        """Return the outputs of pieces in as many batches as the memory requires."""
        parts: list[np.ndarray] = []
        n_done = 0
        while n_done < len(pieces):
            part = pieces[n_done : n_done + self.limit]
            try:
                parts.append(self._forward(part))
            except RuntimeError as error:
                self._shrink_batches(len(part), error)
            else:
                n_done += len(part)
        return np.concatenate(parts)

    def _shrink_batches(self, batch_size: int, error: RuntimeError) -> None:
        """Halve the batch size after an error of this batch size; raise if the batch size is not the cause."""
        if batch_size == 1 or not _is_out_of_memory(error):
            raise InputError(self._failure(error)) from error
        self.limit = batch_size // 2
        log.warning("Out of memory with batches of %d samples. Continuing with %d.", batch_size, self.limit)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _failure(self, error: RuntimeError) -> str:
        reason = str(error).strip().splitlines()[-1]
        source_input = self.source.input
        if isinstance(source_input, ImageInput):
            height, width = source_input.size
            return f"The source fails on one image of {height} x {width} pixels ({reason}). Try another --input-size."
        return f"The source fails on one piece of {source_input.kind} ({reason})."

    def _forward(self, pieces: Sequence[Any]) -> np.ndarray:
        autocast: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if self.dtype != torch.float32:
            autocast = torch.autocast(self.device.type, self.dtype)
        with torch.inference_mode(), autocast:
            with self.preparation:
                batch = self.source.input.batch(pieces, self.device)
            if isinstance(batch, torch.Tensor) and batch.ndim == 4:
                batch = batch.contiguous(memory_format=self.layout)
            outputs: torch.Tensor = self.source.model(batch)
            return outputs.float().cpu().numpy()

    def copy(self) -> "ModelRunner":
        """Return a runner of a copy of the model, which has the same weights in memory and runs in another thread."""
        model = self.source.model
        shared = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
        return replace(self, source=replace(self.source, model=copy.deepcopy(model, shared)))

    def fit_to_memory(self, pieces: Sequence[Any]) -> None:
        """Set the largest batch that the free CUDA memory holds, from the peak memory of a small batch."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.outputs(pieces)
        bytes_per_piece = (torch.cuda.max_memory_allocated(self.device) - before) / len(pieces)
        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        n_fitting = max(1, int(MEMORY_FRACTION * free_bytes / max(bytes_per_piece, 1)))
        self.limit = min(LARGEST_BATCH, 1 << (n_fitting.bit_length() - 1))


def in_place(parts: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the outputs of parts of the pieces in the order of the pieces, whose numbers the parts have."""
    ordered = np.concatenate(outputs)
    placed: np.ndarray = np.empty_like(ordered)
    placed[np.concatenate(parts)] = ordered
    return placed


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
