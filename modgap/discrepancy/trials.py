"""Number of samples that each random map classifies correctly: the sufficient statistics of Algorithm 2."""

import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np

from modgap.discrepancy.kernels.random_maps import draw_maps
from modgap.discrepancy.kernels.rank_order import code_block, new_items
from modgap.discrepancy.kernels.simd import LANES, aligned
from modgap.discrepancy.kernels.trials_by_bits import N_WORDS, PLANES, STRIDE, count_batch
from modgap.discrepancy.kernels.trials_by_columns import count_codes
from modgap.discrepancy.problem import Problem, class_dtype, smallest_width
from modgap.discrepancy.ranks import rank_leading
from modgap.discrepancy.threads import share_work
from modgap.discrepancy.trial_costs import cheapest_kernel, n_leading_ranks
from modgap.errors import unknown_name
from modgap.storage.memory_map import release_pages

KERNELS = ("columns", "bits")
"""Names of the ways to count the matches of random maps, which give the same counts."""
TRIALS_AT_A_TIME = 1 << 17
MAPS_AT_A_TIME = 4096
WIDE, NARROW = 64, 32
"""Largest numbers of samples in a block: the lanes of a wide vector, and of a narrow one, which small blocks use."""


def count_trials(
    problem: Problem,
    *,
    seed: int = 0,
    trials: int = 100_000,
    threads: int = 1,
    kernel: str = "auto",
    progress: Callable[[float], None] | None = None,
) -> tuple[np.ndarray, dict[str, float]]:
    """Count the matches of trials 0, 1, ..., each with a map drawn uniformly among the injective ones.

    The map of trial t depends only on (seed, t), and not on the number of threads.

    Args:
        problem: Logits and labels.
        seed: Seed of the maps, a non-negative integer.
        trials: Number of trials.
        threads: Number of worker threads.
        kernel: `columns`, `bits`, or `auto` for the one that the cost model expects to be the fastest.
        progress: Called with the share of the work done since the last call.

    Returns:
        Total weight of the correct entries, by trial and by part, shape (trials, parts), and the wall time of the
        stages `ranks` and `montecarlo`, without compilation, in seconds.

    Raises:
        UsageError: If there is no such kernel.

    References:
        MoNA (ICML 2024), Algorithm 2.
    """
    if kernel not in (*KERNELS, "auto"):
        raise unknown_name("kernel", kernel, (*KERNELS, "auto"))
    kernel = cheapest_kernel(problem.n_source_classes, problem.n_classes, trials) if kernel == "auto" else kernel
    counter = np.int32 if problem.weights is None else np.int64
    matches: np.ndarray = np.zeros((trials, problem.n_parts), counter)
    report = progress or (lambda _share: None)
    if kernel == "bits":
        return matches, _count_by_bits(problem, seed, matches, threads, report)
    return matches, _count_by_columns(problem, seed, matches, threads, report)


def random_maps(seed: int, first: int, n_maps: int, n_classes: int, n_source_classes: int) -> np.ndarray:
    """Return the injective maps of trials first, first + 1, ...: different numbers below C, shape (n_maps, K)."""
    return _draw_maps(seed, first, (n_maps, n_classes), n_source_classes, 1).astype(np.int64)


def random_map(problem: Problem, seed: int, trial: int) -> np.ndarray:
    """Return the injective map of one trial: the source class of each target class, shape (K,)."""
    return np.asarray(random_maps(seed, trial, 1, problem.n_classes, problem.n_source_classes)[0])


def _draw_maps(seed: int, start: int, shape: tuple[int, int], n_source_classes: int, threads: int) -> np.ndarray:
    """Return the maps of trials start, start + 1, ..., of a shape (trials, K), in the type of classes."""
    maps: np.ndarray = np.empty(shape, class_dtype(n_source_classes))

    def work(queue: Iterator[int]) -> None:
        pool = np.arange(n_source_classes)
        for first in queue:
            part = maps[first : first + MAPS_AT_A_TIME]
            draw_maps(np.uint64(seed), start + first, *part.shape, part.shape[1], 1, part.reshape(-1), pool)

    share_work(range(0, shape[0], MAPS_AT_A_TIME), threads, work)
    return maps


def _blocks(problem: Problem) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """Cut the entries into blocks of up to 64 entries of one label and weight.

    Returns:
        For each block the target class and the weight of its entries, their rows of the logits, shape (E,), and the
        number of each part with a bit mask of its entries, uint64, shape (parts, 2).
    """
    weights = problem.entry_weights
    blocks = []
    order = np.lexsort((problem.parts, weights, problem.labels))
    for first, last in itertools.pairwise(_run_bounds(problem.labels[order], weights[order])):
        for cut in range(first, last, WIDE):
            members = order[cut : min(cut + WIDE, last)]
            parts, positions = problem.parts[members], np.arange(len(members), dtype=np.uint64)
            masks = [(int(part), int(((parts == part) << positions).sum())) for part in np.unique(parts)]
            label, weight = int(problem.labels[members[0]]), int(weights[members[0]])
            blocks.append((label, weight, problem.rows[members], np.array(masks, np.uint64)))
    return blocks


def _run_bounds(*keys: np.ndarray) -> np.ndarray:
    """Return the first position of each run of equal keys, and the length of the keys."""
    changes = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.concatenate([[0], np.flatnonzero(changes) + 1, [len(keys[0])]])


def _count_by_columns(
    problem: Problem, seed: int, matches: np.ndarray, threads: int, report: Callable[[float], None]
) -> dict[str, float]:
    """Rank one block of samples at a time, and run a chunk of trials on it while it is in the cache."""
    blocks = _blocks(problem)
    n_source_classes = problem.n_source_classes
    seconds = {"ranks": 0.0, "montecarlo": 0.0}
    for start in range(0, len(matches), TRIALS_AT_A_TIME):
        chunk = matches[start : start + TRIALS_AT_A_TIME]
        began = time.perf_counter()
        maps = _draw_maps(seed, start, (len(chunk), problem.n_classes), n_source_classes, threads)
        seconds["montecarlo"] += time.perf_counter() - began

        def work(
            queue: Iterator[tuple[int, int, np.ndarray, np.ndarray]], maps: np.ndarray = maps, chunk: np.ndarray = chunk
        ) -> tuple[float, float, np.ndarray]:
            rank_seconds = count_seconds = 0.0
            counts = np.zeros_like(chunk)
            codes = aligned(n_source_classes * WIDE, class_dtype(n_source_classes))
            items, spare, starts, _ = new_items(n_source_classes)
            for label, weight, rows, segments in queue:
                width = WIDE if len(rows) > NARROW else NARROW
                began = time.perf_counter()
                code_block(problem.logits, rows, width, codes, items, spare, starts)
                ranked = time.perf_counter()
                count_codes(codes, width, label, weight, segments, maps, counts)
                rank_seconds += ranked - began
                count_seconds += time.perf_counter() - ranked
                report(len(rows) / len(problem.rows) * len(maps) / len(matches))
                release_pages(problem.logits)
            return rank_seconds, count_seconds, counts

        for rank_seconds, count_seconds, counts in share_work(blocks, threads, work):
            seconds["ranks"] += rank_seconds / threads
            seconds["montecarlo"] += count_seconds / threads
            chunk += counts
    return seconds


def _entry_runs(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Sort the entries by part, weight and label.

    Returns:
        Row of each entry, shape (E,), and (label, part, weight, first, last) of each run of equal keys, shape (G, 5).
    """
    keys = np.stack([problem.labels, problem.parts, problem.entry_weights], axis=1).astype(np.int64)
    order = np.lexsort((problem.labels, problem.entry_weights, problem.parts))
    bounds = _run_bounds(*keys[order].T)
    columns = [keys[order][bounds[:-1]], bounds[:-1, None], bounds[1:, None]]
    return problem.rows[order], np.hstack(columns).astype(np.int64)


def _count_by_bits(
    problem: Problem, seed: int, matches: np.ndarray, threads: int, report: Callable[[float], None]
) -> dict[str, float]:
    """Rank the leading classes of all samples, then run 1,024 trials at a time on all samples."""
    n_source_classes = problem.n_source_classes
    began = time.perf_counter()
    leading = rank_leading(problem.logits, n_leading_ranks(n_source_classes, problem.n_classes), threads)
    ranked = time.perf_counter()
    rows, groups = _entry_runs(problem)
    leading = leading[rows]

    def work(queue: Iterator[int]) -> None:
        table = aligned((n_source_classes + 1) * STRIDE, np.uint64)
        planes = aligned(PLANES * N_WORDS, np.uint64)
        scratch = aligned(3 * N_WORDS, np.uint64)
        pool = np.arange(n_source_classes)
        # The padded row length keeps the K rows that a trial writes out of one cache set.
        padded_maps: np.ndarray = np.empty((problem.n_classes, LANES + 32), class_dtype(n_source_classes))
        for first in queue:
            batch = matches[first : first + LANES]
            maps = padded_maps[:, : len(batch)]
            steps = (1, padded_maps.shape[1])
            draw_maps(np.uint64(seed), first, len(batch), problem.n_classes, *steps, padded_maps.reshape(-1), pool)
            count_batch(problem.logits, rows, leading, groups, maps, table, planes, scratch, batch)
            report(len(batch) / len(matches))
            release_pages(problem.logits)

    share_work(range(0, len(matches), LANES), threads, work)
    return {"ranks": ranked - began, "montecarlo": time.perf_counter() - ranked}


def warm_up(n_source_classes: int, kernel: str, weighted: bool = False) -> None:
    """Compile the kernels that `count_trials` needs, or load them from Numba's cache, so that no timing includes it.

    Args:
        n_source_classes: Number C of source classes.
        kernel: `columns` or `bits`.
        weighted: True if the entries have weights.
    """
    zeros = np.zeros(4, np.int64)
    logits = np.zeros((4, smallest_width(n_source_classes)), np.float32)
    logits.flags.writeable = False
    weights = np.ones(4, np.int64) if weighted else None
    problem = Problem(logits, np.arange(4), zeros, zeros, 2, 1, weights)
    count_trials(problem, trials=2, kernel=kernel)
    random_map(problem, 0, 0)
