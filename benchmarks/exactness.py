"""Does the search find the optimum? Against enumeration, and against a branch and bound that proves it.

    python benchmarks/exactness.py [--problems 50]    about five minutes on two cores

200 problems of 12 source and 4 target classes (half noise, half signal) by enumeration, with the
search's own enumeration and the Monte-Carlo start switched off. Then problems of 30 source and 8 target
classes (a third noise, two thirds with signal) at 24, 60 and 200 samples, each optimum proved. Last, one
restart instead of ten, as `estimate` takes by default. And whether a whole estimate has the same bytes for
1, 2 and 4 threads.
"""

import argparse
import time

import numpy as np
from branch_and_bound import most_matches

from modgap.discrepancy import estimate, search

SIGNALS = (0.0, 1.0, 2.0)


def problem(seed: int, n: int, c: int, k: int, signal: float) -> tuple[np.ndarray, np.ndarray]:
    """Random logits, with a random profile of each class added where there is signal."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % k)
    logits = rng.standard_normal((n, c)) + signal * rng.standard_normal((k, c))[labels]
    return logits.astype(np.float32), labels


def enumerated() -> int:
    """Problems of 200 in which the search's value is the enumerated optimum's."""
    equal = 0
    for seed in range(200):
        logits, labels = problem(seed, 200, 12, 4, 0.7 * (seed % 2))
        exact = search(logits, labels, 4, threads=2)
        equal += exact.exact and search(logits, labels, 4, enumerable=0, seed=seed, threads=2).value == exact.value
    return equal


def proved(problems: int, samples: int) -> tuple[int, int, float, float]:
    """(equal with ten restarts, with one, seconds a search, seconds a proof) over these problems."""
    equal, spent = [0, 0], [0.0, 0.0]
    for seed in range(problems):
        logits, labels = problem(seed, samples, 30, 8, SIGNALS[seed % 3])
        began = time.perf_counter()
        matches = [
            round((1 - search(logits, labels, 8, seed=seed, restarts=restarts, threads=2).value) * samples)
            for restarts in (10, 1)
        ]
        middle = time.perf_counter()
        optimum = most_matches(logits, labels, 8, matches[0])
        spent = [spent[0] + middle - began, spent[1] + time.perf_counter() - middle]
        equal = [count + (found == optimum) for count, found in zip(equal, matches, strict=True)]
    return (*equal, *(seconds / problems for seconds in spent))


def threads_agree(c: int, k: int, n: int) -> bool:
    """Whether everything `estimate` finds has the same representation for 1, 2 and 4 threads."""
    logits, labels = problem(0, n, c, k, 1.0)
    found = [estimate(logits, labels, trials=5000, null=3, restarts=3, classes=k // 2, threads=t) for t in (1, 2, 4)]
    told = {repr((r.estimates, r.upper_bound, r.k_way)) for r in found}
    return len(told) == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=50)
    given = parser.parse_args()
    print(f"12 source and 4 target classes: the search equals the enumerated optimum in {enumerated()} of 200")
    for c, k, n in ((30, 8, 300), (1000, 20, 2000), (22_000, 10, 500)):
        agree = "the same bytes" if threads_agree(c, k, n) else "DIFFERENT bytes"
        print(f"{c} source and {k} target classes, {n} samples, all estimators: {agree} for 1, 2 and 4 threads")
    most_matches(*problem(0, 16, 5, 2, 0.0), 2, 0)
    for samples in (24, 60, 200):
        ten, one, search_seconds, proof_seconds = proved(given.problems, samples)
        print(
            f"30 source and 8 target classes, {samples} samples: the proved optimum in {ten} of {given.problems} "
            f"({one} with one restart); {search_seconds:.2f} s both searches, {proof_seconds:.2f} s a proof"
        )


if __name__ == "__main__":
    main()
