"""Compare Algorithm 2 (100,000 random maps) with a NumPy loop over the trials and with a batched gather in torch.

    python benchmarks/montecarlo.py               five problems, about 4 minutes on two cores
    python benchmarks/montecarlo.py --quick       run NumPy and torch for 1 s instead of 10 s each
    python benchmarks/montecarlo.py --calibrate   measure the constants of the cost model in trial_costs.py

Everything runs in one process and on the same logits. Every count is checked against NumPy's count for the trials that
NumPy ran. The goals are speed-ups over NumPy of 500, 600, 700, 4,000 and 15,000 for the trials alone, and of 10,000 at
K = 200 for the total: from float32 logits in memory to the result, ranking included.
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
CLASSES = 1_000
TRIALS = 100_000
VECTOR_BYTES = 64


def random_problem(n: int, k: int, seed: int = 0) -> Problem:
    """Return standard normal logits with uniform labels, the hardest case for early exits."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((n, CLASSES), dtype=np.float32)
    return Problem(logits, np.arange(n), rng.integers(0, k, n), np.zeros(n, np.int64), k, 1)


def numpy_loop(problem: Problem, seconds: float) -> tuple[float, list[int]]:
    """Return the seconds per trial of the plain loop, and the matches of each trial."""
    labels = problem.labels
    matches: list[int] = []
    maps = [trials.random_map(problem, 0, t) for t in range(20_000)]
    began = time.perf_counter()
    while time.perf_counter() - began < seconds and len(matches) < len(maps):
        cols = maps[len(matches)]
        predicted = np.argsort(cols)[problem.logits[:, np.sort(cols)].argmax(1)]
        matches.append(int((predicted == labels).sum()))
    return (time.perf_counter() - began) / len(matches), matches


def torch_gather(problem: Problem, seconds: float, batch: int = 8) -> float:
    """Return the seconds per trial of gathering the columns of several trials at once and taking the arg-max."""
    logits = torch.from_numpy(problem.logits)
    labels = torch.from_numpy(problem.labels)
    maps = torch.from_numpy(np.array([trials.random_map(problem, 0, t) for t in range(1_000)]))
    done = 0
    began = time.perf_counter()
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
        # Without the alternating start the compiler would keep some of the vectors in registers.
        for c in range((r & 1) * 4096, (r & 1) * 4096 + 4096, 512):
            for step in range(0, 512, 64):
                best = highest(best, load_64(codes, c + step))
    return popcount(equal_lanes(best, load_64(codes, 0)))


def peak_load_rate(threads: int) -> float:
    """Measure the vector loads per second of all threads from the first-level cache."""
    codes = aligned(8192, np.uint16)
    rounds = 400_000
    _stream(codes, 1)
    best = min(_timed(lambda: share_work(range(threads), threads, lambda q: _stream(codes, rounds))) for _ in range(3))
    return threads * rounds * 64 * 2 / best


def _timed(action) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def loads_needed(problem: Problem, kernel: str) -> float:
    """Return the smallest number of vector loads that the kernel needs for a problem of this size."""
    n = len(problem.rows)
    k = problem.n_classes
    if kernel == "columns":
        return TRIALS * n / (VECTOR_BYTES / 2) * (k + 1)
    return TRIALS / 1024 * n * walk_length(CLASSES, k) * 2 * 1024 / 8 / VECTOR_BYTES


def run_case(n: int, k: int, goal: int, seconds: float, threads: int, peak: float) -> dict:
    """Measure one problem, and return its record.

    Args:
        n: Number of samples.
        k: Number of target classes.
        goal: Speed-up over NumPy that the trials alone should reach.
        seconds: Time for which NumPy and torch run, each.
        threads: Number of threads.
        peak: Vector loads per second that `peak_load_rate` measured.
    """
    problem = random_problem(n, k)
    kernel = cheapest_kernel(CLASSES, k, TRIALS)
    runs = []
    for _ in range(5):
        began = time.perf_counter()
        counts, stages = trials.count_trials(problem, trials=TRIALS, threads=threads)
        runs.append({**stages, "total": time.perf_counter() - began})
    numpy_seconds, matches = numpy_loop(problem, seconds)
    assert counts[: len(matches), 0].tolist() == matches, "The counts differ from NumPy's."
    drawing = min(_timed(lambda: trials._draw_maps(0, 0, (TRIALS, k), CLASSES, threads)) for _ in range(3))
    tracemalloc.start()
    trials.count_trials(problem, trials=TRIALS, threads=threads)
    memory = tracemalloc.get_traced_memory()[1] / problem.logits.nbytes
    tracemalloc.stop()
    best = {key: min(run[key] for run in runs) for key in runs[0]}
    counting = best["montecarlo"] - drawing
    return {
        "n": n,
        "k": k,
        "kernel": kernel,
        "threads": threads,
        "numpy_trials": len(matches),
        "numpy_ms": 1e3 * numpy_seconds,
        "torch_ms": 1e3 * torch_gather(problem, seconds),
        "ranks_s": best["ranks"],
        "drawing_s": drawing,
        "trials_s": counting,
        "total_s": best["total"],
        "goal": goal,
        "ratio_trials": TRIALS * numpy_seconds / counting,
        "ratio_total": TRIALS * numpy_seconds / best["total"],
        "extra_memory": memory,
        "share_of_limit": loads_needed(problem, kernel) / peak / counting,
    }


def table_row(record: dict) -> dict[str, str]:
    """Return the row of one problem, by column."""
    return {
        "N": f"{record['n']:,}",
        "K": str(record["k"]),
        "kernel": record["kernel"],
        "NumPy, ms per trial": f"{record['numpy_ms']:.4f}",
        "torch, ms per trial": f"{record['torch_ms']:.4f}",
        "ranking, s": f"{record['ranks_s']:.4f}",
        "drawing, s": f"{record['drawing_s']:.4f}",
        "trials, s": f"{record['trials_s']:.4f}",
        "total, s": f"{record['total_s']:.4f}",
        "trials: speed-up over NumPy": f"{record['ratio_trials']:,.0f}",
        "goal": f"{record['goal']:,}",
        "total: speed-up over NumPy": f"{record['ratio_total']:,.0f}",
        "trials: speed-up over torch": f"{TRIALS * record['torch_ms'] / 1e3 / record['trials_s']:,.0f}",
        "extra memory / logits": f"{record['extra_memory']:.2f}",
        "share of the load limit": f"{record['share_of_limit']:.0%}",
    }


def calibrate(threads: int) -> None:
    """Time all kernels over a range of K, and fit the constants of the cost model."""
    fits: dict[str, list[tuple[float, float, float]]] = {"columns": [], "bits": []}
    for k in (4, 10, 18, 40, 100):
        problem = random_problem(10_000, k)
        for kernel, fit in fits.items():
            options = {"trials": TRIALS, "threads": threads, "kernel": kernel}
            runs = [trials.count_trials(problem, **options)[1] for _ in range(3)]
            seconds = {key: min(run[key] for run in runs) for key in runs[0]}
            ranks, counting = (seconds[key] * threads * 1e9 / 10_000 for key in ("ranks", "montecarlo"))
            visits = walk_length(CLASSES, k) if kernel == "bits" else k + 1
            fit.append((visits, counting / (TRIALS / 1024 if kernel == "bits" else TRIALS), ranks / CLASSES))
            print(f"K = {k:3d} {kernel:8s} {visits:5.0f} visits in {fit[-1][1]:9.3f} ns, ranking {fit[-1][2]:.2f} ns")
    for kernel, fit in fits.items():
        visits, nanoseconds, ranks = np.array(fit).T
        slope, start = np.polyfit(visits, nanoseconds, 1)
        print(f"{kernel}: {start:.3f} ns + {slope:.4f} ns per visit, ranking {np.median(ranks):.1f} ns per value")


def main() -> None:
    """Print the table, or the constants of the cost model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="run NumPy and torch for 1 s instead of 10 s each")
    parser.add_argument("--calibrate", action="store_true", help="measure the constants of the cost model instead")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", default=None, help="also write the numbers to this JSON file")
    options = parser.parse_args()
    for kernel in trials.KERNELS:
        trials.warm_up(CLASSES, kernel)
    if options.calibrate:
        calibrate(options.threads)
        return
    peak = peak_load_rate(options.threads)
    print(f"{options.threads} threads, C = {CLASSES:,}, {TRIALS:,} trials")
    print(f"load limit: {peak / 1e9:.1f} G loads of {VECTOR_BYTES} bytes per second from the first-level cache")
    results = [run_case(*case, 1.0 if options.quick else 10.0, options.threads, peak) for case in CASES]
    rows = [table_row(record) for record in results]
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    if options.out:
        record = {"machine": platform.processor() or platform.machine(), "peak_loads": peak, "results": results}
        Path(options.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
