"""How many samples each random map gets right: the sufficient statistics of Algorithm 2."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from modgap.discrepancy.kernels.random_maps import draw_maps
from modgap.discrepancy.kernels.rank_order import code_block, leading_classes
from modgap.discrepancy.kernels.simd import aligned
from modgap.discrepancy.kernels.trials_by_bits import LANES, PLANES, STEP, STRIDE, WORDS, count_batch
from modgap.discrepancy.kernels.trials_by_columns import (
    BYTES,
    LEADING,
    byte_table,
    coarsen,
    count_narrow,
    count_narrow_bytes,
    count_wide,
    count_wide_bytes,
)
from modgap.discrepancy.problem import Problem, class_dtype
from modgap.discrepancy.threads import share_work
from modgap.storage.memory_map import release_pages

__all__ = ["TrialCounts", "cheapest_kernel", "count_trials", "merge_counts", "random_map", "warm_up"]

CHUNK = 1 << 17
RANKED_ROWS = 512

# Nanoseconds of one thread, measured by benchmarks/montecarlo.py --calibrate (AMD Zen 5, C = 1,000). The
# choice of a kernel needs only their ratios. COLUMN and BYTE: one sample's visit of one chosen column in
# one trial; TIE: settling one sample whose largest bytes tie. BATCH and STEP: one sample's start, and its
# visit of one class, for 1,024 trials. CODE and LEADING: ranking one value, and one of which only the
# leading ones are wanted.
COLUMN_NS = 0.0105
BYTE_NS = 0.0078
TIE_NS = 30.0
BATCH_NS = 90.0
STEP_NS = 1.13
CODE_NS = 5.5
LEADING_NS = 2.9


@dataclass(frozen=True)
class TrialCounts:
    """Matches of trials start, start + 1, ... of one seed.

    Attributes:
        matches: Weight of the entries got right, by trial and by part, shape (trials, parts).
        start: Number of the first trial.
        seed: What the maps were drawn from.
        seconds: Wall time of the stages `ranks` and `montecarlo`, without compilation.
    """

    matches: np.ndarray
    start: int
    seed: int
    seconds: dict[str, float]

    @property
    def stop(self) -> int:
        """Number after the last trial's."""
        return self.start + len(self.matches)


def count_trials(
    problem: Problem,
    *,
    seed: int = 0,
    start: int = 0,
    stop: int = 100_000,
    threads: int = 1,
    kernel: str = "auto",
    progress: Callable[[float], None] | None = None,
) -> TrialCounts:
    """Count the matches of trials start..stop, each a map drawn uniformly among injective ones.

    Trial t's map depends on (seed, t) alone, so shards of the range, in any order and on any number
    of threads, hold the same numbers as one run.

    Args:
        problem: Logits and labels.
        seed: Non-negative integer.
        start: First trial.
        stop: Trial after the last.
        threads: Worker threads.
        kernel: `columns`, `bytes`, `bits`, or `auto` for the one that the cost model expects to be faster.
        progress: Called with the share of the work done since the last call.

    Returns:
        Counts for stop - start trials.

    References:
        MoNA (ICML 2024), Algorithm 2.
    """
    kernel = cheapest_kernel(problem, stop - start) if kernel == "auto" else kernel
    count = {"columns": _count_by_columns, "bytes": _count_by_bytes, "bits": _count_by_bits}[kernel]
    counter = np.int32 if problem.weights is None else np.int64
    matches = np.zeros((stop - start, problem.n_parts), counter)
    seconds = count(problem, seed, start, matches, threads, progress or (lambda share: None))
    return TrialCounts(matches, start, seed, seconds)


def merge_counts(shards: Iterable[TrialCounts]) -> TrialCounts:
    """Join shards of one range of trials.

    Raises:
        ValueError: When the shards' seeds differ or the shards leave gaps or overlap.
    """
    shards = sorted(shards, key=lambda shard: shard.start)
    for left, right in itertools.pairwise(shards):
        if right.start != left.stop or right.seed != left.seed:
            raise ValueError(
                f"expected shards of one seed without gaps, got trials {left.start}-{left.stop} of seed "
                f"{left.seed} before {right.start}-{right.stop} of seed {right.seed}"
            )
    seconds = {key: sum(shard.seconds[key] for shard in shards) for key in shards[0].seconds}
    matches = np.concatenate([shard.matches for shard in shards])
    return TrialCounts(matches, shards[0].start, shards[0].seed, seconds)


def random_map(problem: Problem, seed: int, trial: int) -> np.ndarray:
    """The injective map of one trial: the source class of each target class, shape (K,)."""
    maps = np.empty((1, problem.n_classes), np.int64)
    draw_maps(np.uint64(seed), trial, maps, np.arange(problem.n_source_classes))
    return maps[0]


def walk_length(n_source_classes: int, n_classes: int) -> float:
    """Leading classes that 1,024 trials need until the last of them meets a chosen class."""
    if n_classes == n_source_classes:
        return 1.0
    steps = (math.log(LANES) + 0.58) / -math.log1p(-n_classes / n_source_classes)
    return min(steps, n_source_classes)


def n_leading_ranks(n_source_classes: int, n_classes: int) -> int:
    """Smallest R, a multiple of STEP, that leaves 1,024 trials of a sample undecided in under 1 %.

    A map misses a sample's R leading classes with probability C(C-R, K) / C(C, K).
    """
    open_share = float(LANES)
    kept = 0
    while open_share > 0.01 and kept < n_source_classes:
        open_share *= max(0, n_source_classes - n_classes - kept) / (n_source_classes - kept)
        kept += 1
    return -(-kept // STEP) * STEP


def tied_share(n_source_classes: int, n_classes: int) -> float:
    """Share of samples and trials whose label's byte is the largest and another's too, by chance labels.

    The largest of K columns is below the leading ranks with probability (1 - LEADING / C)**K; then it
    shares its step with the next one in about (K + 1) of 32 cases.
    """
    deep = max(0.0, 1 - LEADING / n_source_classes) ** n_classes
    return deep * min(1.0, (n_classes + 1) / (BYTES - LEADING)) / n_classes


def cheapest_kernel(problem: Problem, trials: int) -> str:
    """`columns`, `bytes` or `bits`, by the measured costs of counting and of ranking."""
    classes = problem.n_source_classes
    chosen = problem.n_classes
    by_bytes = (chosen + 1) * BYTE_NS + TIE_NS * tied_share(classes, chosen)
    costs = {
        "columns": trials * (chosen + 1) * COLUMN_NS + classes * CODE_NS,
        "bytes": trials * by_bytes + classes * CODE_NS,
        "bits": trials / LANES * (BATCH_NS + walk_length(classes, chosen) * STEP_NS) + classes * LEADING_NS,
    }
    return min(costs, key=lambda kernel: costs[kernel])


def _draw_all(problem: Problem, seed: int, start: int, trials: int, threads: int) -> np.ndarray:
    maps: np.ndarray = np.empty((trials, problem.n_classes), class_dtype(problem.n_source_classes))

    def draw(firsts: Iterator[int]) -> None:
        pool = np.arange(problem.n_source_classes)
        for first in firsts:
            draw_maps(np.uint64(seed), start + first, maps[first : first + 4096], pool)

    share_work(range(0, trials, 4096), threads, draw)
    return maps


def _blocks(problem: Problem) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """Cut the entries into blocks of one label and weight: (label, weight, rows, segments of lanes by part)."""
    weights = problem.entry_weights
    blocks = []
    order = np.lexsort((problem.parts, weights, problem.labels))
    for first, last in itertools.pairwise(_run_bounds(problem.labels[order], weights[order])):
        for cut in range(first, last, 64):
            members = order[cut : min(cut + 64, last)]
            segments = np.array(_segments(problem.parts[members]), np.uint64)
            label = int(problem.labels[members[0]])
            weight = int(weights[members[0]])
            blocks.append((label, weight, problem.rows[members], segments))
    return blocks


def _run_bounds(*keys: np.ndarray) -> np.ndarray:
    """Where runs of equal keys start, and the end."""
    changes = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.concatenate([[0], np.flatnonzero(changes) + 1, [len(keys[0])]])


def _segments(parts: np.ndarray) -> list[tuple[int, int]]:
    """(part, mask of the lanes that are of it) for each part there is."""
    lanes = np.arange(len(parts), dtype=np.uint64)
    return [(int(part), int(((parts == part) << lanes).sum())) for part in np.unique(parts)]


def _count_by_bytes(problem, seed, start, matches, threads, progress) -> dict[str, float]:
    return _count_by_columns(problem, seed, start, matches, threads, progress, in_bytes=problem.n_classes > 1)


def _count_by_columns(problem, seed, start, matches, threads, progress, in_bytes=False) -> dict[str, float]:
    """Rank one block of samples and run a chunk of trials on it while it is in the cache."""
    blocks = _blocks(problem)
    seconds = {"ranks": 0.0, "montecarlo": 0.0}
    for first in range(0, len(matches), CHUNK):
        chunk = matches[first : first + CHUNK]
        began = time.perf_counter()
        maps = _draw_all(problem, seed, start + first, len(chunk), threads)
        seconds["montecarlo"] += time.perf_counter() - began

        def work(queue: Iterator, maps=maps, chunk=chunk) -> tuple[float, float, np.ndarray]:
            ranks = counting = 0.0
            own = np.zeros_like(chunk)
            codes = aligned(problem.n_source_classes * 64, class_dtype(problem.n_source_classes))
            coarse = aligned(len(codes), np.uint8)
            table = byte_table(problem.n_source_classes)
            for label, weight, rows, segments in queue:
                width = 64 if len(rows) > 32 else 32
                began = time.perf_counter()
                code_block(problem.logits, rows, width, codes)
                if in_bytes:
                    coarsen(codes, table, coarse)
                ranked = time.perf_counter()
                if in_bytes:
                    count = count_wide_bytes if width == 64 else count_narrow_bytes
                    count(codes, coarse, label, weight, segments, maps, own)
                else:
                    count = count_wide if width == 64 else count_narrow
                    count(codes, label, weight, segments, maps, own)
                ranks = ranks + ranked - began
                counting = counting + time.perf_counter() - ranked
                progress(len(rows) / len(problem.rows) * len(chunk) / len(matches))
            return ranks, counting, own

        for ranks, counting, own in share_work(blocks, threads, work):
            seconds["ranks"] += ranks / threads
            seconds["montecarlo"] += counting / threads
            chunk += own
    return seconds


def rank_leading(problem: Problem, kept: int, threads: int) -> np.ndarray:
    """Each sample's `kept` classes of largest logit, largest first, shape (N, kept)."""
    leading: np.ndarray = np.empty((len(problem.logits), kept), class_dtype(problem.n_source_classes))

    def rank(firsts: Iterator[int]) -> None:
        for first in firsts:
            leading_classes(problem.logits, first, min(first + RANKED_ROWS, len(leading)), leading)

    share_work(range(0, len(leading), RANKED_ROWS), threads, rank)
    release_pages(problem.logits)
    return leading


def _groups(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Rows ordered by part, weight and label, and (label, part, weight, first, last) of each run of them."""
    keys = np.stack([problem.labels, problem.parts, problem.entry_weights], axis=1).astype(np.int64)
    order = np.lexsort((problem.labels, problem.entry_weights, problem.parts))
    bounds = _run_bounds(*keys[order].T)
    runs = [keys[order][bounds[:-1]], bounds[:-1, None], bounds[1:, None]]
    return problem.rows[order], np.hstack(runs).astype(np.int64)


def _count_by_bits(problem, seed, start, matches, threads, progress) -> dict[str, float]:
    """Rank the leading classes of all samples, then run 1,024 trials at a time on all samples."""
    classes = problem.n_source_classes
    chosen = problem.n_classes
    began = time.perf_counter()
    leading = rank_leading(problem, n_leading_ranks(classes, chosen), threads)
    ranked = time.perf_counter()
    rows, groups = _groups(problem)
    leading = leading[rows]

    def work(firsts: Iterator[int]) -> None:
        table = aligned((classes + 1) * STRIDE, np.uint64)
        planes = aligned(PLANES * WORDS, np.uint64)
        scratch = aligned(3 * WORDS, np.uint64)
        pool = np.arange(classes)
        # The padded row length keeps the K rows that a trial writes out of one cache set.
        maps = np.empty((chosen, LANES + 32), class_dtype(problem.n_source_classes))
        for first in firsts:
            batch = matches[first : first + LANES]
            drawn = maps[:, : len(batch)]
            draw_maps(np.uint64(seed), start + first, drawn.T, pool)
            count_batch(problem.logits, rows, leading, groups, drawn, table, planes, scratch, batch)
            progress(len(batch) / len(matches))

    share_work(range(0, len(matches), LANES), threads, work)
    return {"ranks": ranked - began, "montecarlo": time.perf_counter() - ranked}


def warm_up() -> None:
    """Compile the kernels, or load them from numba's cache, so that timings are without it."""
    for entries in (20, 40):
        nobody = np.zeros(entries, np.int64)
        logits = np.zeros((entries, 3), np.float32)
        logits.flags.writeable = False
        tiny = Problem(logits, np.arange(entries), nobody, nobody, 2, 1)
        for kernel in ("columns", "bytes", "bits"):
            count_trials(tiny, stop=2, kernel=kernel)
