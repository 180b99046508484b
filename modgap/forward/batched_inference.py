"""Running a source model over samples in batches, with preprocessing ahead of the model, in one or several threads.

`output_batches` at the end is the main function. It uses three units:

- A piece is one input of the model. A sample becomes one or several pieces, such as the chunks of a clip, and gets the
  mean of their outputs.
- A block is the pieces of consecutive samples. A `Loader` reads blocks while the model runs.
- A batch is the pieces that pass through the model together. A `ModelRunner` sorts the pieces of a block by length and
  cuts them into batches.
"""

import contextlib
import copy
import functools
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import torch

from modgap.errors import InputError
from modgap.forward.reading_ahead import Loader
from modgap.inputs.native_embedding import Embedding
from modgap.process.devices import copies_freely, download, is_out_of_memory, read_late, tf32, upload
from modgap.process.resources import available_cores, choose_device, reused_memory
from modgap.sources import AudioInput, Batch, ImageInput, Source, TextInput, WaveformInput
from modgap.targets import Samples

log = logging.getLogger("modgap")

T = TypeVar("T")


# Batches on a device


LARGEST_BATCH = 512
"""Largest number of pieces in a batch that is chosen automatically on CUDA."""
MEMORY_FRACTION = 0.6
"""Fraction of the free GPU memory that a batch may use."""
Stacked = ImageInput | WaveformInput
"""Inputs whose `stack` makes one tensor of pieces on the CPU, which their `finish` completes on the device."""
Pieces = Sequence[Any] | torch.Tensor
"""Pieces, or one tensor of them that a loader has made, with a row for each piece."""
PADDED = (TextInput, AudioInput)
"""Inputs whose pieces may have different lengths."""


@dataclass
class BatchLimit:
    """Largest number of pieces that pass through a model together, which is halved where the memory does not suffice.

    Attributes:
        size: Number of pieces.
    """

    size: int

    def run(self, n: int, forward: Callable[[slice], T]) -> list[T]:
        """Return what a function returns for consecutive batches of n pieces, halving the batches when memory runs out.

        Args:
            n: Number of pieces.
            forward: Function of the slice of the pieces that are in a batch.

        Raises:
            RuntimeError: When the function raises it for another reason than memory, or for a single piece.
        """
        parts: list[T] = []
        n_done = 0
        while n_done < n:
            end = min(n_done + self.size, n)
            try:
                parts.append(forward(slice(n_done, end)))
            except RuntimeError as error:
                if end - n_done == 1 or not is_out_of_memory(error):
                    raise
                self._halve(end - n_done)
            else:
                n_done = end
        return parts

    def _halve(self, batch_size: int) -> None:
        # A batch of another thread, which began before the last halving, may be larger.
        self.size = min(self.size, batch_size // 2)
        log.warning("Out of memory with batches of %d samples. Continuing with %d.", batch_size, self.size)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


@dataclass
class ModelRunner:
    """A model on its device.

    Attributes:
        source: The source, whose model runs.
        device: Device on which it runs.
        dtype: Precision of the forward pass. Types other than float32 mean mixed precision.
        limit: Largest number of pieces in a batch; copies of the runner share it.
        preparation: Lock of the source's input, whose tokenizer serves one thread at a time.
        layout: Memory layout of image batches.
    """

    source: Source
    device: torch.device
    dtype: torch.dtype
    limit: BatchLimit
    preparation: threading.Lock = field(default_factory=threading.Lock)
    layout: torch.memory_format = field(init=False)

    def __post_init__(self) -> None:
        """Move the model to the device."""
        self.layout = torch.channels_last if self.source.convolutional else torch.contiguous_format
        self.source.model.to(self.device).to(memory_format=self.layout)  # type: ignore[call-overload]

    def launch(self, pieces: Pieces) -> Callable[[], np.ndarray]:
        """Begin to compute the outputs of P pieces, which pass through the model sorted by length.

        The function that is returned waits for the outputs, and returns them in the order of the pieces, (P, outputs).
        """
        order = self.order(pieces)
        parts = self._launch_in_order(take_pieces(pieces, order))
        return lambda: in_place([order], [read() for read in parts])

    def order(self, pieces: Pieces) -> np.ndarray:
        """Return the numbers of pieces in the order in which they pass through the model: by length, if they differ."""
        source_input = self.source.input
        lengths = None
        if isinstance(source_input, PADDED) and not isinstance(pieces, torch.Tensor):
            lengths = source_input.padded_lengths(pieces)
        return np.arange(len(pieces)) if lengths is None else np.argsort(lengths, kind="stable")

    def outputs_in_order(self, pieces: Pieces) -> np.ndarray:
        """Return the outputs of pieces, (P, outputs), which pass through the model in the order that they have."""
        return np.concatenate([read() for read in self._launch_in_order(pieces)])

    def _launch_in_order(self, pieces: Pieces) -> list[Callable[[], np.ndarray]]:
        """Begin to compute the outputs of pieces, and return a function for each batch that returns its outputs."""
        try:
            return self.limit.run(len(pieces), lambda part: self._forward(pieces[part]))
        except RuntimeError as error:
            raise InputError(self._failure(error)) from error

    def _failure(self, error: RuntimeError) -> str:
        reason = str(error).strip().splitlines()[-1]
        source_input = self.source.input
        if isinstance(source_input, ImageInput):
            height, width = source_input.size
            return f"The source fails on one image of {height} x {width} pixels ({reason}). Try another `input_size`."
        return f"The source fails on one piece of {source_input.kind} ({reason})."

    def _forward(self, pieces: Pieces) -> Callable[[], np.ndarray]:
        """Begin to compute the outputs of one batch, and return the function that returns them."""
        autocast: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if self.dtype != torch.float32:
            autocast = torch.autocast(self.device.type, self.dtype)
        # On the GPUs that have TF32 it is forbidden, so that devices differ by rounding alone.
        full_precision = contextlib.nullcontext() if self.device.type == "cpu" else tf32(False)
        with torch.inference_mode(), autocast, full_precision:
            batch = self._on_device(pieces)
            if isinstance(batch, torch.Tensor) and batch.ndim == 4:
                batch = batch.contiguous(memory_format=self.layout)
            outputs: torch.Tensor = self.source.model(batch)
            read = download(outputs.float())
        return lambda: read().numpy()

    def _on_device(self, pieces: Pieces) -> Batch:
        """Return pieces as the model takes them.

        A tensor that a loader has made is complete for the CPU. For another device it is that of the input's `stack`.
        """
        source_input = self.source.input
        if isinstance(pieces, torch.Tensor):
            assert isinstance(source_input, Stacked)
            return pieces if self.device.type == "cpu" else source_input.finish(upload(pieces, self.device))
        with self.preparation:
            if isinstance(source_input, Stacked):
                return source_input.batch(pieces, self.device)
            return upload(source_input.batch(pieces, torch.device("cpu")), self.device)

    def copy(self) -> "ModelRunner":
        """Return a runner of a copy of the model that can run in another thread. Both share the weights in memory."""
        model = self.source.model
        shared = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
        return replace(self, source=replace(self.source, model=copy.deepcopy(model, shared)))

    def fit_to_memory(self, pieces: Sequence[Any]) -> None:
        """Set the largest batch to the power of two that the free CUDA memory holds, at most `LARGEST_BATCH`.

        Args:
            pieces: A few pieces, whose peak memory shows how much a piece takes.
        """
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.launch(pieces)()
        bytes_per_piece = (torch.cuda.max_memory_allocated(self.device) - before) / len(pieces)
        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        n_fitting = max(1, int(MEMORY_FRACTION * free_bytes / max(bytes_per_piece, 1)))
        self.limit.size = min(LARGEST_BATCH, 1 << (n_fitting.bit_length() - 1))


def in_place(parts: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the outputs of all pieces in the order of the pieces, (P, outputs).

    Args:
        parts: Numbers of the pieces in each part, which together are 0..P-1.
        outputs: Outputs of the pieces in each part, (pieces of the part, outputs).
    """
    ordered = np.concatenate(outputs)
    placed: np.ndarray = np.empty_like(ordered)
    placed[np.concatenate(parts)] = ordered
    return placed


def take_pieces(pieces: Pieces, numbers: np.ndarray) -> Pieces:
    """Return the pieces with these numbers. Those of a tensor are never sorted, so their numbers are consecutive."""
    if isinstance(pieces, torch.Tensor):
        return pieces[int(numbers[0]) : int(numbers[-1]) + 1] if len(numbers) else pieces[:0]
    return [pieces[number] for number in numbers]


# Several threads


Parts = list[tuple[np.ndarray, Future[np.ndarray]]]
"""Parts of a block: for each, the numbers of its pieces in the block, and the future of their outputs."""


def outputs_side_by_side(
    runner: ModelRunner, blocks: Iterator[tuple[Pieces, np.ndarray]], size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Run blocks of pieces in threads, which share the batches of each block.

    Args:
        runner: The model. It runs in one thread if it cannot be copied.
        blocks: The pieces of each block, and an array that is passed on.
        size: Number of threads, at least 2.

    Yields:
        The outputs of each block, (P, outputs), in the order of the blocks, and the array that came with it. The
        outputs have the bits of those of one thread, because each batch has the same pieces.
    """
    first = next(blocks, None)
    if first is None:
        return
    order = runner.order(first[0])
    # The first batch runs before the copies are made, and shows whether a copy has the same outputs.
    batch = take_pieces(first[0], order[: runner.limit.size])
    finished: Future[np.ndarray] = Future()
    finished.set_result(runner.outputs_in_order(batch))
    free: SimpleQueue[ModelRunner] = SimpleQueue()
    for one in (runner, *_equal_copies(runner, size - 1, batch, finished.result())):
        free.put(one)

    def run(pieces: Pieces) -> np.ndarray:
        one = free.get()
        try:
            return one.outputs_in_order(pieces)
        finally:
            free.put(one)

    with ThreadPoolExecutor(free.qsize()) as pool:

        def begin(pieces: Pieces, order: np.ndarray) -> Parts:
            # A part has whole batches, so that each batch has the pieces that it has in one thread.
            limit = runner.limit.size
            length = limit * -(-len(order) // (limit * size))
            parts = [order[start : start + length] for start in range(0, len(order), max(1, length))]
            return [(part, pool.submit(run, take_pieces(pieces, part))) for part in parts]

        rest = begin(first[0], order[len(batch) :])
        waiting: deque[tuple[Parts, np.ndarray]] = deque([([(order[: len(batch)], finished), *rest], first[1])])
        for pieces, passed_on in blocks:
            waiting.append((begin(pieces, runner.order(pieces)), passed_on))
            if len(waiting) > size:
                yield _collect(*waiting.popleft())
        while waiting:
            yield _collect(*waiting.popleft())


def _collect(parts: Parts, passed_on: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the outputs of a block when all of its parts have run."""
    numbers, futures = zip(*parts, strict=True)
    return in_place(numbers, [future.result() for future in futures]), passed_on


@contextlib.contextmanager
def _refusing_calls(model: torch.nn.Module) -> Iterator[None]:
    """Raise an error within a block where the model or a part of it is called."""

    def refuse(module: torch.nn.Module, _inputs: object) -> None:
        raise RuntimeError(f"the copy calls the original's {type(module).__name__}")

    handles = [module.register_forward_pre_hook(refuse) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _equal_copies(runner: ModelRunner, size: int, pieces: Pieces, expected: np.ndarray) -> Iterator[ModelRunner]:
    """Yield copies of a runner, or none if its model cannot be copied, or a copy calls it or has other outputs.

    Args:
        runner: The runner.
        size: Number of copies, at least 1.
        pieces: Pieces of one batch, on which a copy is tested.
        expected: Outputs of the runner for this batch.
    """
    try:
        if any(module._forward_hooks or module._forward_pre_hooks for module in runner.source.model.modules()):
            raise RuntimeError("it has hooks, which its copy would share")
        one = runner.copy()
        with _refusing_calls(runner.source.model):
            outputs = one.outputs_in_order(pieces)
        if not np.array_equal(outputs, expected, equal_nan=True):
            raise RuntimeError("its copy has other outputs")
    except Exception as error:  # third-party models may refuse to be copied in any way
        log.debug("The model runs in one thread: %s", error)
        return
    yield one
    yield from (runner.copy() for _ in range(size - 1))


# Outputs of samples


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU_BATCH = 16
"""Number of pieces in a batch on a CPU, where larger batches only push the activations out of its caches (measured in
benchmarks/logits.py). On other devices than CUDA it is the number too."""
TRIAL_BATCH = 8
"""Number of samples whose peak memory decides the batch size on CUDA."""
BATCHES_SORTED = 16
"""Number of batches whose pieces are sorted by length together, so that a batch has little padding."""
MOST_LOADER_WORKERS = 4
"""Most processes that prepare samples if no number is asked for."""


def _pieces_of_samples(samples: Samples, rows: np.ndarray, embedding: Embedding) -> tuple[list[Any], np.ndarray]:
    """Return all pieces of these samples in order, and the number of pieces of each sample."""
    pieces_by_sample = [embedding.pieces(samples[int(row)]) for row in rows]
    counts = np.array([len(pieces) for pieces in pieces_by_sample])
    return [piece for pieces in pieces_by_sample for piece in pieces], counts


Stack = Callable[[Sequence[Any]], torch.Tensor] | None
"""Function that makes one tensor of the pieces of a block; None to leave them as they are."""


def _read_block(
    samples: Samples, rows: np.ndarray, embedding: Embedding, size: int, stack: Stack, number: int
) -> tuple[Pieces, np.ndarray]:
    """Return all pieces of the samples of a block of `size` samples, and the number of pieces of each."""
    pieces, counts = _pieces_of_samples(samples, rows[number * size :][:size], embedding)
    return pieces if stack is None else stack(pieces), counts


def _stacking(runner: ModelRunner, workers: int) -> Stack:
    """Return the function by which a loader makes one tensor of pieces, which is faster to copy than many arrays.

    For the CPU, the tensor is the complete input of the model. For another device it is what `finish` of the input
    completes there. The function is None for inputs of other kinds, and if a thread reads for a model on the CPU,
    because the thread would only take cores from the model.

    Args:
        runner: The model on its device.
        workers: Number of worker processes that read; 0 for a thread.
    """
    source_input = runner.source.input
    if not isinstance(source_input, Stacked) or (runner.device.type == "cpu" and not workers):
        return None
    if runner.device.type == "cpu":
        return functools.partial(_complete, source_input, runner.layout)
    return source_input.stack


def _complete(source_input: Stacked, layout: torch.memory_format, pieces: Sequence[Any]) -> torch.Tensor:
    """Return pieces as the complete input of a model on the CPU, images in the layout of the model."""
    batch = source_input.batch(pieces, torch.device("cpu"))
    return batch.contiguous(memory_format=layout) if batch.ndim == 4 else batch


def _sample_means(outputs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean output of each sample's pieces, float32 (samples, outputs).

    Args:
        outputs: Outputs of the pieces, sample after sample, (P, outputs).
        counts: Number of pieces of each sample, at least 1, (samples,).
    """
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
    device: torch.device | str,
    batch_size: int | None = None,
    dtype: str = "float32",
    side_by_side: int = 1,
    loader_workers: int | None = None,
) -> Iterator[np.ndarray]:
    """Yield the model's outputs for the samples with these numbers, in their order, block by block.

    A block of B samples has outputs of shape (B, outputs), float32. The outputs are logits, or features if the source's
    model has no head. A sample of several pieces (chunks of a clip, frames of a video) gets the mean of their outputs.
    Texts and sounds of different lengths pass through the model with others of about their length.

    Args:
        source: The source whose model runs.
        samples: The samples, addressed by number.
        rows: Numbers of the requested samples, shape (N,).
        embedding: Rule by which samples become pieces of the source's input.
        device: Device on which the model runs, or its name, as for `choose_device`.
        batch_size: Number of pieces in a batch, halved when the memory does not suffice; None for an automatic choice.
        dtype: float32, or bfloat16 or float16 for mixed precision.
        side_by_side: Number of threads, each of which runs a batch of its own on the CPU. The outputs do not depend on
            it as long as the number of threads of PyTorch stays the same.
        loader_workers: Number of processes that read and prepare samples ahead of the model; 0 for a thread. None for
            an automatic choice. The outputs do not depend on it.
    """
    device = choose_device(device) if isinstance(device, str) else device
    runner = ModelRunner(source, device, DTYPES[dtype], BatchLimit(batch_size or CPU_BATCH))
    if batch_size is None and device.type == "cuda":
        runner.fit_to_memory(_pieces_of_samples(samples, rows[:TRIAL_BATCH], embedding)[0])
    batches_in_block = BATCHES_SORTED if isinstance(source.input, PADDED) else 1
    workers = loader_workers
    if workers is None:
        # On the CPU the model has work for all cores. A GPU is so fast that one thread cannot decode enough for it.
        workers = 0 if device.type == "cpu" else min(MOST_LOADER_WORKERS, available_cores())
    size = batches_in_block * runner.limit.size
    n_blocks = -(-len(rows) // size)
    read_block = functools.partial(_read_block, samples, rows, embedding, size, _stacking(runner, workers))
    with reused_memory(), Loader(read_block, min(workers, n_blocks), pin=copies_freely(device)) as loader:
        blocks = loader.load(range(n_blocks))
        if side_by_side > 1 and device.type == "cpu":
            for outputs, counts in outputs_side_by_side(runner, blocks, side_by_side):
                yield _sample_means(outputs, counts)
            return
        launched = (_launch_means(runner, pieces, counts) for pieces, counts in blocks)
        yield from (read() for read in launched) if device.type == "cpu" else read_late(launched)


def _launch_means(runner: ModelRunner, pieces: Pieces, counts: np.ndarray) -> Callable[[], np.ndarray]:
    """Begin to compute the outputs of the samples of a block, and return the function that returns them."""
    read = runner.launch(pieces)
    return lambda: _sample_means(read(), counts)
