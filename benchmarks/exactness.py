"""Compare the search with the optimum, which enumeration or a branch and bound proves.

    python benchmarks/exactness.py [--problems 50]    about five minutes on two cores

First come 200 problems of 12 source and 4 target classes (half of them noise, half with signal), whose optimum is
enumerated. The search runs without the Monte-Carlo start. Then come problems of 30 source and 8 target classes (a third
noise, two thirds with signal) of 24, 60 and 200 samples, whose optimum the branch and bound proves. The script also
checks that all results of `estimate` are equal for 1, 2 and 4 threads.
"""

import argparse
import itertools
import time

import numpy as np
from branch_and_bound import most_matches

from modgap.discrepancy import estimate, search

SIGNALS = (0.0, 1.0, 2.0)


def problem(seed: int, n: int, c: int, k: int, signal: float) -> tuple[np.ndarray, np.ndarray]:
    """Return random logits, plus a random profile of each class times the signal, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % k)
    logits = rng.standard_normal((n, c)) + signal * rng.standard_normal((k, c))[labels]
    return logits.astype(np.float32), labels


def count_enumerated_optima() -> int:
    """Return in how many of 200 problems the search finds the enumerated optimum."""
    equal = 0
    maps = np.array(list(itertools.permutations(range(12), 4)))
    for seed in range(200):
        logits, labels = problem(seed, 200, 12, 4, 0.7 * (seed % 2))
        matches = np.zeros(len(maps), np.int64)
        for row, label in zip(logits, labels, strict=True):
            matches += row[maps].argmax(axis=1) == label
        equal += round((1 - search(logits, labels, 4, seed=seed, threads=2).value) * 200) == matches.max()
    return equal


def count_proved_optima(problems: int, samples: int) -> tuple[int, float, float]:
    """Count the problems in which the search finds the proved optimum.

    Returns:
        The number, mean seconds of a search, mean seconds of a proof.
    """
    equal = 0
    search_seconds = proof_seconds = 0.0
    for seed in range(problems):
        logits, labels = problem(seed, samples, 30, 8, SIGNALS[seed % 3])
        began = time.perf_counter()
        matches = round((1 - search(logits, labels, 8, seed=seed, threads=2).value) * samples)
        search_seconds += time.perf_counter() - began
        began = time.perf_counter()
        optimum = most_matches(logits, labels, 8, matches)
        proof_seconds += time.perf_counter() - began
        equal += matches == optimum
    return equal, search_seconds / problems, proof_seconds / problems


def threads_agree(c: int, k: int, n: int) -> bool:
    """Return if all results of `estimate` have the same representation for 1, 2 and 4 threads."""
    logits, labels = problem(0, n, c, k, 1.0)
    results = [estimate(logits, labels, trials=5000, permutations=3, classes=k // 2, threads=t) for t in (1, 2, 4)]
    representations = {repr((result.estimates, result.k_way)) for result in results}
    return len(representations) == 1


def main() -> None:
    """Print in how many problems the search finds the optimum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=50)
    options = parser.parse_args()
    optima = count_enumerated_optima()
    print(f"12 source and 4 target classes: the search finds the enumerated optimum in {optima} of 200 problems")
    for c, k, n in ((30, 8, 300), (1000, 20, 2000), (22_000, 10, 500)):
        agree = "equal results" if threads_agree(c, k, n) else "DIFFERENT results"
        print(f"{c} source and {k} target classes, {n} samples, all estimators: {agree} for 1, 2 and 4 threads")
    most_matches(*problem(0, 16, 5, 2, 0.0), 2, 0)
    for samples in (24, 60, 200):
        found, search_seconds, proof_seconds = count_proved_optima(options.problems, samples)
        print(
            f"30 source and 8 target classes, {samples} samples: the search finds the proved optimum in {found} of "
            f"{options.problems} problems. A search takes {search_seconds:.2f} s and a proof takes "
            f"{proof_seconds:.2f} s on average."
        )


if __name__ == "__main__":
    main()
