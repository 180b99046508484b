"""Time and quality of the search, the assignment and the lower bound on synthetic logits.

    python benchmarks/search.py [--skip-large]

Takes about three minutes on two cores, most of it the lower bounds' minute each. Prints the best of
three timings, ranking included and compilation not. Results are the same for any number of threads.
"""

import argparse
import os
import time

import numpy as np

from modgap.discrepancy.assignment import assignment
from modgap.discrepancy.bounds import lower_bound, upper_bound
from modgap.discrepancy.montecarlo import summarize
from modgap.discrepancy.problem import Problem
from modgap.discrepancy.ranks import rank_samples
from modgap.discrepancy.search import search
from modgap.discrepancy.trials import count_trials, warm_up

THREADS = min(2, os.cpu_count() or 1)


def random_logits(rng, size, sources, classes, signal):
    """Noise, plus `signal` times a profile of each class."""
    labels = np.arange(size) % classes
    profiles = rng.standard_normal((classes, sources), dtype=np.float32)
    return rng.standard_normal((size, sources), dtype=np.float32) + np.float32(signal) * profiles[labels], labels


def embedded_logits(rng, size, sources, classes, width=32):
    """A linear head on class-wise shifted features, with biases: classes correlate as real ones do."""
    labels = np.arange(size) % classes
    features = rng.standard_normal((size, width)) + 0.8 * rng.standard_normal((classes, width))[labels]
    logits = features @ rng.standard_normal((width, sources)) + 2 * rng.standard_normal(sources)
    return logits.astype(np.float32), labels


def planted_logits(rng, size, sources, classes, share=0.6):
    """Each class's planted source class is on top of the planted ones with this probability."""
    hidden = rng.permutation(sources)[:classes]
    labels, rows = np.arange(size) % classes, np.arange(size)
    logits = rng.standard_normal((size, sources), dtype=np.float32)
    rivals = logits[:, hidden].argmax(axis=1)
    wanted = np.where(rng.random(size) < share, labels, rng.integers(0, classes, size))
    top, own = hidden[rivals], hidden[wanted]
    logits[rows, top], logits[rows, own] = logits[rows, own], logits[rows, top]
    return logits, labels, hidden


def best_of(repeats, function):
    """(shortest wall time, last result)."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - began)
    return min(seconds), result


def compare(name, logits, labels, classes, wanted=None):
    """Ten restarts against 100,000 trials and 1,000 subsets."""
    rows, one = np.arange(len(labels)), np.zeros(len(labels), np.int64)
    problem = Problem(logits, rows, labels, one, classes, 1)
    trials = summarize(problem, count_trials(problem, threads=THREADS))
    subsets_s, subsets = best_of(1, lambda: assignment(logits, labels, classes, extra=[trials.map], threads=THREADS))
    ranks_s, ranking = best_of(3, lambda: rank_samples(logits, classes, threads=THREADS))
    seconds, found = best_of(3, lambda: search(logits, labels, classes, threads=THREADS))
    again_s, _ = best_of(3, lambda: search(logits, labels, classes, threads=THREADS, ranking=ranking))
    low, high = min(found.restart_values), max(found.restart_values)
    print(
        f"{name} N={len(labels)} C={logits.shape[1]} K={classes}: search {seconds:.2f} s"
        f"{f' (wanted {wanted})' if wanted else ''}, ranking {ranks_s:.3f} s, "
        f"ranked before {again_s:.2f} s | "
        f"D: search {found.value:.4f} (restarts {low:.4f}-{high:.4f}), assignment {subsets.value:.4f} "
        f"({subsets_s:.2f} s), trials {trials.value:.4f}, "
        f"upper bound {upper_bound(logits, labels):.4f}",
        flush=True,
    )
    return found


def compare_bounds(name, logits, labels, classes=10):
    """The lower bound within a minute against the best map."""
    seconds, low = best_of(1, lambda: lower_bound(logits, labels, classes, seconds=60, threads=THREADS))
    value = search(logits, labels, classes, threads=THREADS).value
    print(
        f"lower bound, {name} N={len(labels)} C={logits.shape[1]} K={classes}: {low.value:.4f} "
        f"in {seconds:.1f} s, best map {value:.4f}, exact {low.exact}, groups {low.groups}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skip-large", action="store_true", help="leave out N=51,197")
    options = parser.parse_args()
    warm_up(1000, "bytes")
    warm_up(1000, "bits")
    rng = np.random.default_rng(0)
    for sources, classes in ((40, 8), (40, 39)):
        logits, labels = random_logits(rng, 200, sources, classes, 0.5)
        search(logits, labels, classes, threads=THREADS)
        assignment(logits, labels, classes, threads=THREADS)
    lower_bound(*random_logits(rng, 60, 12, 4, 0.5), 4)
    sizes = [(500, 8, None), (10_000, 10, None), (10_000, 100, 0.7)]
    sizes += [] if options.skip_large else [(51_197, 200, 4)]
    for size, classes, wanted in sizes:
        compare("noise   ", *random_logits(rng, size, 1000, classes, 0), classes, wanted)
        compare("signal  ", *random_logits(rng, size, 1000, classes, 0.5), classes, wanted)
        compare("embedded", *embedded_logits(rng, size, 1000, classes), classes, wanted)
    logits, labels, hidden = planted_logits(rng, 10_000, 1000, 100)
    found = compare("planted ", logits, labels, 100, 0.7)
    right = int((np.array(found.map) == hidden).sum())
    print(f"planted map recovered: {right} of 100 classes")
    compare_bounds("noise", *random_logits(rng, 2000, 1000, 10, 0))
    compare_bounds("signal", *random_logits(rng, 2000, 1000, 10, 0.5))
    compare_bounds("embedded", *embedded_logits(rng, 2000, 1000, 10))


if __name__ == "__main__":
    main()
