"""Does the search find the optimum? Against enumeration, and against an integer programme where it is proved.

    python benchmarks/exactness.py [--seconds 15] [--problems 50]    up to seven minutes on two cores

200 problems of 12 source and 4 target classes (half noise, half signal) by enumeration, with the
search's own enumeration and the Monte-Carlo start switched off. Then 50 problems of 30 source and 8
target classes by scipy's milp (HiGHS) with a time limit each: where it proves the optimum
the search must equal it, elsewhere its bound and its best map are printed beside the search's.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from modgap.discrepancy import search


def problem(seed: int, n: int, c: int, k: int, signal: float) -> tuple[np.ndarray, np.ndarray]:
    """Random logits, with a random profile of each class added where there is signal."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % k)
    logits = rng.standard_normal((n, c)) + signal * rng.standard_normal((k, c))[labels]
    return logits.astype(np.float32), labels


def programme(logits: np.ndarray, labels: np.ndarray, k: int, seconds: float) -> tuple[int, int, bool]:
    """(most matches found, upper bound on them, proved) of the integer programme.

    x[j, c] says that target class j has source class c, z[i] that sample i is right. For every class c
    that another target class may have: z[i] + sum over j != y of x[j, c] <= 1 + sum of x[y, d] over the
    classes d that beat c in sample i.
    """
    n, c = logits.shape
    entries: list[tuple[int, int, float]] = []
    order = np.argsort(-logits, axis=1, kind="stable")
    row = 0
    for i in range(n):
        for r in range(c):
            own, rivals = labels[i], [j for j in range(k) if j != labels[i]]
            entries.append((row, k * c + i, 1.0))
            entries += [(row, j * c + order[i, r], 1.0) for j in rivals]
            entries += [(row, own * c + d, -1.0) for d in order[i, :r]]
            row += 1
    upper = np.ones(row)
    once = [(row + j, j * c + d, 1.0) for j in range(k) for d in range(c)]
    apart = [(row + k + d, j * c + d, 1.0) for j in range(k) for d in range(c)]
    rows, columns, values = zip(*entries, *once, *apart, strict=True)
    matrix = coo_array((values, (rows, columns)), shape=(row + k + c, k * c + n)).tocsr()
    low = np.concatenate([np.full(row, -np.inf), np.ones(k), np.full(c, -np.inf)])
    result = milp(
        np.concatenate([np.zeros(k * c), -np.ones(n)]),
        constraints=LinearConstraint(matrix, low, np.concatenate([upper, np.ones(k + c)])),
        integrality=np.concatenate([np.ones(k * c), np.zeros(n)]),
        bounds=Bounds(0, 1),
        options={"time_limit": seconds},
    )
    most = int(np.floor(-result.mip_dual_bound + 1e-6)) if result.mip_dual_bound is not None else n
    found = round(-result.fun) if result.x is not None else -1
    return found, most, found == most


def one(task: tuple[int, int, float, float]) -> tuple[int, int, int, bool]:
    """(matches of the search, of the programme, its bound, proved) for one problem."""
    seed, samples, signal, seconds = task
    logits, labels = problem(seed, samples, 30, 8, signal)
    found = search(logits, labels, 8, seed=seed)
    return round((1 - found.value) * samples), *programme(logits, labels, 8, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="time limit of each integer programme")
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--samples", type=int, default=60, help="of each of these problems; fewer are proved sooner")
    given = parser.parse_args()
    equal = 0
    for seed in range(200):
        logits, labels = problem(seed, 200, 12, 4, 0.7 * (seed % 2))
        exact = search(logits, labels, 4, threads=2)
        equal += exact.exact and search(logits, labels, 4, enumerable=0, seed=seed, threads=2).value == exact.value
    print(f"12 source and 4 target classes: the search equals the enumerated optimum in {equal} of 200")
    tasks = [(seed, given.samples, (0.0, 1.0, 2.0)[seed % 3], given.seconds) for seed in range(given.problems)]
    with ProcessPoolExecutor(2) as pool:
        results = list(pool.map(one, tasks))
    proved = [r for r in results if r[3]]
    agreed = sum(r[0] == r[1] for r in proved)
    print(f"30 source and 8 target classes, {given.samples} samples, {given.problems} problems:")
    print(
        f"  proved by the programme within {given.seconds:.0f} s: {len(proved)}; search equals it in {agreed} of these"
    )
    rest = [r for r in results if not r[3]]
    if rest:
        ahead, level = sum(r[0] > r[1] for r in rest), sum(r[0] == r[1] for r in rest)
        gap = np.mean([r[2] - r[0] for r in rest])
        print(f"  not proved: {len(rest)}; search better than its best map in {ahead}, equal in {level}, ", end="")
        print(f"worse in {len(rest) - ahead - level}; its bound lies {gap:.1f} samples above the search on average")


if __name__ == "__main__":
    main()
