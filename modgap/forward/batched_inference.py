"""Running a source model over samples in batches, with preprocessing ahead of the model, in one or several threads."""

import contextlib
import copy
import itertools
import logging
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.multiprocessing.reductions import shared_cache
from torch.utils.data import DataLoader, Dataset

from modgap.errors import InputError
from modgap.inputs.native_embedding import Embedding
from modgap.process.resources import available_cores, choose_device, reused_memory
from modgap.sources import AudioInput, ImageInput, Source, TextInput
from modgap.targets import Samples

__all__ = [
    "DTYPES",
    "PADDED",
    "PREFETCHED",
    "ModelRunner",
    "in_place",
    "load_ahead",
    "output_batches",
    "outputs_side_by_side",
]

log = logging.getLogger("modgap")

PREFETCHED = 2
"""Number of items that are read in advance, by the thread or by each worker."""

T = TypeVar("T")


def load_ahead(read: Callable[[int], T], n: int, workers: int = 0, *, pin: bool = False) -> Iterator[T]:
    """Yield read(0), ..., read(n - 1) in this order; the next ones are read while the caller works.

    Args:
        read: Function of the number of an item alone, so that the items do not depend on the number of workers.
        n: Number of items.
        workers: Number of worker processes; with 0, a thread of this process reads.
        pin: True to have the workers' tensors in page-locked memory, from which a GPU copies without waiting.

    Raises:
        InputError: When `read` raises it, also in a worker.
    """
    yield from _from_workers(read, n, workers, pin) if workers and n else _from_thread(read, n)


def _from_thread(read: Callable[[int], T], n: int) -> Iterator[T]:
    waiting: list[Future[T]] = []
    with ThreadPoolExecutor(1) as pool:
        for number in range(n):
            waiting.append(pool.submit(read, number))
            if len(waiting) > PREFETCHED:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _from_workers(read: Callable[[int], T], n: int, workers: int, pin: bool) -> Iterator[T]:
    with warnings.catch_warnings():
        # PyTorch advises against more workers than cores. The user chose the number.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        loader: DataLoader[T | InputError] = DataLoader(
            _Items(read, n),
            batch_size=None,
            num_workers=min(workers, n),
            prefetch_factor=PREFETCHED,
            pin_memory=pin,
            collate_fn=_unchanged,
        )
        items = iter(loader)
    try:
        for item in items:
            if isinstance(item, InputError):
                raise item
            yield item
    finally:
        # PyTorch's references to shared memory print errors if they are still there when the interpreter ends.
        shared_cache.clear()


def _unchanged(item: T) -> T:
    return item


@dataclass(frozen=True)
class _Items(Dataset[T | InputError], Generic[T]):
    """The items as a data set, with errors in place of items, because a worker would add its traceback to a message."""

    read: Callable[[int], T]
    n: int

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, number: int) -> T | InputError:
        try:
            return self.read(number)
        except InputError as error:
            return error


LARGEST_BATCH = 512
MEMORY_FRACTION = 0.6
"""Fraction of the free GPU memory that a batch may use."""
PADDED = (TextInput, AudioInput)
"""Inputs whose pieces may have different lengths."""


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
            return f"The source fails on one image of {height} x {width} pixels ({reason}). Try another `input_size`."
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


Parts = list[tuple[np.ndarray, Future[np.ndarray]]]
"""Parts of a block: the numbers of their pieces, and what will return their outputs."""


def outputs_side_by_side(
    runner: ModelRunner, blocks: Iterator[tuple[Sequence[Any], np.ndarray]], size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Run blocks of pieces in threads, which share the batches of each block.

    Args:
        runner: The model. It runs in one thread if it cannot be copied.
        blocks: The pieces of each block, and a value that is passed on.
        size: Number of threads.

    Yields:
        The outputs of each block (P, outputs), in their order, and the value that came with it. The outputs have the
        bits of those of one thread, because each batch has the same pieces.
    """
    first = next(blocks, None)
    if first is None:
        return
    order = runner.order(first[0])
    batch = [first[0][number] for number in order[: runner.limit]]
    finished: Future[np.ndarray] = Future()
    finished.set_result(runner.outputs_in_order(batch))
    free: SimpleQueue[ModelRunner] = SimpleQueue()
    for one in (runner, *_equal_copies(runner, size - 1, batch, finished.result())):
        free.put(one)

    def run(pieces: Sequence[Any]) -> np.ndarray:
        one = free.get()
        try:
            return one.outputs_in_order(pieces)
        finally:
            free.put(one)

    with ThreadPoolExecutor(free.qsize()) as pool:

        def begin(pieces: Sequence[Any], order: np.ndarray) -> Parts:
            parts = _whole_batches(order, runner.limit, size)
            return [(part, pool.submit(run, [pieces[number] for number in part])) for part in parts]

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


def _whole_batches(order: np.ndarray, limit: int, most: int) -> list[np.ndarray]:
    """Cut the order of pieces into at most so many parts, between batches, so that each batch keeps its pieces."""
    size = limit * -(-len(order) // (limit * most))
    return [order[start : start + size] for start in range(0, len(order), max(1, size))]


@contextlib.contextmanager
def _refusing_calls(model: torch.nn.Module) -> Iterator[None]:
    """Raise an error within a block where the model or a part of it is called."""

    def refuse(module: torch.nn.Module, _inputs: Any) -> None:
        raise RuntimeError(f"the copy calls the original's {type(module).__name__}")

    handles = [module.register_forward_pre_hook(refuse) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _equal_copies(runner: ModelRunner, size: int, pieces: Sequence[Any], expected: np.ndarray) -> Iterator[ModelRunner]:
    """Yield copies of a runner, or none if its model cannot be copied, or the copy is not independent of it."""
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


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU_BATCH = 16
"""On a CPU, larger batches only push the activations out of its caches (measured in benchmarks/logits.py)."""
TRIAL_BATCH = 8
"""Samples whose peak memory decides the batch size on CUDA."""
BATCHES_SORTED = 16
"""Number of batches whose pieces are sorted by length together, so that a batch has little padding."""
MOST_LOADER_WORKERS = 4
"""Most processes that prepare samples if no number is asked for."""


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
    device: torch.device | str,
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
        device: Device on which the model runs, or its name, as for `choose_device`.
        batch_size: Number of pieces in a batch, halved when the memory does not suffice; None for an automatic choice.
        dtype: float32, or bfloat16 or float16 for mixed precision.
        side_by_side: Number of threads, each of which runs a batch of its own on the CPU. The outputs do not depend on
            it as long as the number of threads of PyTorch stays the same.
        loader_workers: Number of processes that read and prepare samples ahead of the model; 0 for a thread. None for
            an automatic choice. The outputs do not depend on it.
    """
    device = choose_device(device) if isinstance(device, str) else device
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
