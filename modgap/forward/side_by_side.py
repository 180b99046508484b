"""Batches of one model in several threads, each with a copy of the model that shares its weights."""

import contextlib
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch

from modgap.forward.model_runner import ModelRunner, in_place

__all__ = ["outputs_side_by_side"]

log = logging.getLogger("modgap")

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
    known: Future[np.ndarray] = Future()
    known.set_result(runner.outputs_in_order(batch))
    free: SimpleQueue[ModelRunner] = SimpleQueue()
    for one in (runner, *_equal_copies(runner, size - 1, batch, known.result())):
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
        waiting: deque[tuple[Parts, np.ndarray]] = deque([([(order[: len(batch)], known), *rest], first[1])])
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
