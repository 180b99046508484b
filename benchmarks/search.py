"""Measure time and quality of the search on synthetic logits.

    python benchmarks/search.py [--skip-large]    about a minute on two cores

It prints the best of three timings, which include ranking but not compilation. The results do not depend on the number
of threads.
"""

import argparse
import os
import time

import numpy as np

from modgap.discrepancy.montecarlo import summarize
from modgap.discrepancy.problem import Problem
from modgap.discrepancy.ranks import rank_samples
from modgap.discrepancy.search import search
from modgap.discrepancy.trials import count_trials, warm_up

THREADS = min(2, os.cpu_count() or 1)


def random_logits(rng, size, sources, classes, signal):
    """Return noise, plus `signal` times a profile of each class, and the labels."""
    labels = np.arange(size) % classes
    profiles = rng.standard_normal((classes, sources), dtype=np.float32)
    return rng.standard_normal((size, sources), dtype=np.float32) + np.float32(signal) * profiles[labels], labels


def embedded_logits(rng, size, sources, classes, width=32):
    """Return the logits of a linear head with biases on features shifted by class, and the labels.

    The source classes correlate, as those of real models do.
    """
    labels = np.arange(size) % classes
    features = rng.standard_normal((size, width)) + 0.8 * rng.standard_normal((classes, width))[labels]
    logits = features @ rng.standard_normal((width, sources)) + 2 * rng.standard_normal(sources)
    return logits.astype(np.float32), labels


def planted_logits(rng, size, sources, classes, share=0.6):
    """Return logits with a planted map, the labels, and the map.

    Args:
        rng: Random generator.
        size: Number of samples.
        sources: Number of source classes.
        classes: Number of target classes.
        share: Probability that the planted source class of a sample's class has the largest of the planted logits.
    """
    planted_map = rng.permutation(sources)[:classes]
    labels = np.arange(size) % classes
    rows = np.arange(size)
    logits = rng.standard_normal((size, sources), dtype=np.float32)
    largest = planted_map[logits[:, planted_map].argmax(axis=1)]
    predicted = planted_map[np.where(rng.random(size) < share, labels, rng.integers(0, classes, size))]
    logits[rows, largest], logits[rows, predicted] = logits[rows, predicted], logits[rows, largest]
    return logits, labels, planted_map


def best_of(repeats, function):
    """Call a function several times, and return the shortest wall time and the last result."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - began)
    return min(seconds), result


def compare(name, logits, labels, classes, goal=None):
    """Compare the search to 100,000 trials, print the line, and return the search.

    Args:
        name: Name of the problem.
        logits: Source logits, shape (N, C).
        labels: Target classes, shape (N,).
        classes: Number of target classes.
        goal: Seconds that the search should take at most; None for no goal.
    """
    parts = np.zeros(len(labels), np.int64)
    problem = Problem(logits, np.arange(len(labels)), labels, parts, classes, 1)
    trials = summarize(problem, count_trials(problem, threads=THREADS)[0])
    ranks_s, ranking = best_of(3, lambda: rank_samples(logits, classes, threads=THREADS))
    search_s, solution = best_of(3, lambda: search(logits, labels, classes, threads=THREADS))
    ranked_s, _ = best_of(3, lambda: search(logits, labels, classes, threads=THREADS, ranking=ranking))
    goal_note = f" (goal {goal})" if goal else ""
    print(
        f"{name} N={len(labels)} C={logits.shape[1]} K={classes}: search {search_s:.2f} s{goal_note}, "
        f"ranking {ranks_s:.3f} s, search of ranked logits {ranked_s:.2f} s | "
        f"discrepancy: search {solution.value:.4f}, trials {trials.value:.4f}",
        flush=True,
    )
    return solution


def main():
    """Compare on all problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-large", action="store_true", help="leave out the problems of N = 51,197 samples")
    options = parser.parse_args()
    warm_up(1000, "columns")
    warm_up(1000, "bits")
    rng = np.random.default_rng(0)
    for sources, classes in ((40, 8), (40, 39)):
        logits, labels = random_logits(rng, 200, sources, classes, 0.5)
        search(logits, labels, classes, threads=THREADS)
    sizes = [(500, 8, None), (10_000, 10, None), (10_000, 100, 0.7)]
    sizes += [] if options.skip_large else [(51_197, 200, 4)]
    for size, classes, goal in sizes:
        compare("noise   ", *random_logits(rng, size, 1000, classes, 0), classes, goal)
        compare("signal  ", *random_logits(rng, size, 1000, classes, 0.5), classes, goal)
        compare("embedded", *embedded_logits(rng, size, 1000, classes), classes, goal)
    logits, labels, planted_map = planted_logits(rng, 10_000, 1000, 100)
    solution = compare("planted ", logits, labels, 100, 0.7)
    recovered = int((np.array(solution.map) == planted_map).sum())
    print(f"planted map: the search recovers {recovered} of 100 classes")


if __name__ == "__main__":
    main()
