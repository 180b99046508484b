"""Algorithm 2, 100,000 random maps, beside the per-trial NumPy loop and a batched torch gather.

    python benchmarks/montecarlo.py               five problems, about 4 minutes on two cores
    python benchmarks/montecarlo.py --quick       the peers for 1 s instead of 10 s each
    python benchmarks/montecarlo.py --calibrate   the constants of the cost model in trial_costs.py

All in one process and on the same logits; every count is checked against NumPy's on the trials that
NumPy ran. Wanted against NumPy, for the trials alone: 500, 600, 700, 4,000 and 15,000 times, and
10,000 times at K = 200 from float32 logits in memory to the result, ranking included.
"""

import argparse
import json
import os
import platform
import time
import tracemalloc
from pathlib import Path

import numpy as np
import torch
from numba import njit

from modgap.cli.output import print_table
from modgap.discrepancy import trials
from modgap.discrepancy.kernels.simd import aligned, equal_lanes, highest, load_64, popcount
from modgap.discrepancy.problem import Problem
from modgap.discrepancy.threads import share_work
from modgap.discrepancy.trial_costs import cheapest_kernel, walk_length

CASES = ((10_000, 4, 500), (10_000, 10, 600), (3_956, 18, 700), (10_000, 100, 4_000), (51_197, 200, 15_000))
CLASSES, TRIALS = 1_000, 100_000
VECTOR_BYTES = 64


def problem_of(n: int, k: int, seed: int = 0) -> Problem:
    """Standard normal logits and uniform labels: the hardest case for early exits."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((n, CLASSES), dtype=np.float32)
    return Problem(logits, np.arange(n), rng.integers(0, k, n), np.zeros(n, np.int64), k, 1)


def numpy_loop(problem: Problem, seconds: float) -> tuple[float, list[int]]:
    """(seconds a trial, matches) of the plain loop."""
    labels, matches = problem.labels, []
    maps = [trials.random_map(problem, 0, t) for t in range(20_000)]
    began = time.perf_counter()
    while time.perf_counter() - began < seconds and len(matches) < len(maps):
        cols = maps[len(matches)]
        predicted = np.argsort(cols)[problem.logits[:, np.sort(cols)].argmax(1)]
        matches.append(int((predicted == labels).sum()))
    return (time.perf_counter() - began) / len(matches), matches


def torch_gather(problem: Problem, seconds: float, batch: int = 8) -> float:
    """Seconds a trial of gathering the columns of several trials at once and taking the arg-max."""
    logits, labels = torch.from_numpy(problem.logits), torch.from_numpy(problem.labels)
    maps = torch.from_numpy(np.array([trials.random_map(problem, 0, t) for t in range(1_000)]))
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        cols = maps[done % 1_000 : done % 1_000 + batch].reshape(-1)
        predicted = logits[:, cols].view(len(labels), -1, problem.n_classes).argmax(2)
        (predicted == labels[:, None]).sum(0)
        done += batch
    return (time.perf_counter() - began) / done


@njit(nogil=True)
def _stream(codes, rounds):
    best = load_64(codes, 0)
    for r in range(rounds):
        # The start alternates, or the compiler keeps some of the vectors in registers.
        for c in range((r & 1) * 4096, (r & 1) * 4096 + 4096, 512):
            for step in range(0, 512, 64):
                best = highest(best, load_64(codes, c + step))
    return popcount(equal_lanes(best, load_64(codes, 0)))


def peak_load_rate(threads: int) -> float:
    """Vector loads a second of all threads from the first-level cache, as measured."""
    codes, rounds = aligned(8192, np.uint16), 400_000
    _stream(codes, 1)
    best = min(_timed(lambda: share_work(range(threads), threads, lambda q: _stream(codes, rounds))) for _ in range(3))
    return threads * rounds * 64 * 2 / best


def _timed(action) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def loads_needed(problem: Problem, kernel: str) -> float:
    """Vector loads that the kernel cannot do without, from the problem's size alone."""
    n, k = len(problem.rows), problem.n_classes
    if kernel in ("columns", "bytes"):
        return TRIALS * n / (VECTOR_BYTES / (2 if kernel == "columns" else 1)) * (k + 1)
    return TRIALS / 1024 * n * walk_length(CLASSES, k) * 2 * 1024 / 8 / VECTOR_BYTES


def run_case(n: int, k: int, wanted: int, seconds: float, threads: int, peak: float) -> dict:
    problem = problem_of(n, k)
    kernel = cheapest_kernel(CLASSES, k, TRIALS)
    runs = []
    for _ in range(5):
        began = time.perf_counter()
        counts = trials.count_trials(problem, stop=TRIALS, threads=threads)
        runs.append({**counts.seconds, "whole": time.perf_counter() - began})
    each, matches = numpy_loop(problem, seconds)
    assert counts.matches[: len(matches), 0].tolist() == matches, "counts differ from NumPy's"
    drawing = min(_timed(lambda: trials._draw_all(problem, 0, 0, TRIALS, threads)) for _ in range(3))
    tracemalloc.start()
    trials.count_trials(problem, stop=TRIALS, threads=threads)
    memory = tracemalloc.get_traced_memory()[1] / problem.logits.nbytes
    tracemalloc.stop()
    best = {key: min(run[key] for run in runs) for key in runs[0]}
    alone = best["montecarlo"] - drawing
    return {
        "n": n, "k": k, "kernel": kernel, "threads": threads, "numpy_trials": len(matches), "numpy_ms": 1e3 * each,
        "torch_ms": 1e3 * torch_gather(problem, seconds), "ranks_s": best["ranks"], "drawing_s": drawing,
        "trials_s": alone, "whole_s": best["whole"], "wanted": wanted, "ratio_trials": TRIALS * each / alone,
        "ratio_whole": TRIALS * each / best["whole"], "extra_memory": memory,
        "of_limit": loads_needed(problem, kernel) / peak / alone,
    }  # fmt: skip


COLUMNS = (
    "N", "K", "kernel", "NumPy ms", "torch ms", "ranking s", "drawing s", "trials s", "whole s", "x NumPy", "wanted",
    "whole x NumPy", "x torch", "memory / logits", "of the load limit",
)  # fmt: skip


def row(r: dict) -> list[str]:
    numbers = [f"{r[key]:.4f}" for key in ("numpy_ms", "torch_ms", "ranks_s", "drawing_s", "trials_s", "whole_s")]
    ratio_torch = TRIALS * r["torch_ms"] / 1e3 / r["trials_s"]
    return [
        f"{r['n']:,}", str(r["k"]), r["kernel"], *numbers, f"{r['ratio_trials']:,.0f}", f"{r['wanted']:,}",
        f"{r['ratio_whole']:,.0f}", f"{ratio_torch:,.0f}", f"{r['extra_memory']:.2f}", f"{r['of_limit']:.0%}",
    ]  # fmt: skip


def calibrate(threads: int) -> None:
    """Time both kernels over a range of K and fit the constants of the cost model."""
    fits: dict[str, list[tuple[float, float, float]]] = {"columns": [], "bytes": [], "bits": []}
    for k in (4, 10, 18, 40, 100):
        problem = problem_of(10_000, k)
        for kernel, fit in fits.items():
            runs = [trials.count_trials(problem, stop=TRIALS, threads=threads, kernel=kernel) for _ in range(3)]
            seconds = {key: min(run.seconds[key] for run in runs) for key in runs[0].seconds}
            ranks, counting = (seconds[key] * threads * 1e9 / 10_000 for key in ("ranks", "montecarlo"))
            visits = walk_length(CLASSES, k) if kernel == "bits" else k + 1
            fit.append((visits, counting / (TRIALS / 1024 if kernel == "bits" else TRIALS), ranks / CLASSES))
            print(f"K = {k:3d} {kernel:8s} {visits:5.0f} visits in {fit[-1][1]:9.3f} ns, ranking {fit[-1][2]:.2f} ns")
    for kernel, fit in fits.items():
        visits, spent, ranks = np.array(fit).T
        slope, start = np.polyfit(visits, spent, 1)
        print(f"{kernel}: {start:.3f} ns + {slope:.4f} ns a visit; ranking {np.median(ranks):.1f} ns a value")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", default=None, help="also write the figures to this JSON file")
    options = parser.parse_args()
    for kernel in ("columns", "bytes", "bits"):
        trials.warm_up(CLASSES, kernel)
    if options.calibrate:
        calibrate(options.threads)
        return
    peak = peak_load_rate(options.threads)
    print(f"{options.threads} threads, C = {CLASSES:,}, {TRIALS:,} trials")
    print(f"limit measured here: {peak / 1e9:.1f} G loads of {VECTOR_BYTES} bytes a second from the first-level cache")
    results = [run_case(*case, 1.0 if options.quick else 10.0, options.threads, peak) for case in CASES]
    print_table(COLUMNS, [row(r) for r in results])
    if options.out:
        record = {"machine": platform.processor() or platform.machine(), "peak_loads": peak, "results": results}
        Path(options.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
