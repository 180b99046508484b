"""Effect of half precision on the scores of a ranking, in the unit of each score and in ranks.

    python benchmarks/precision.py                     three sources on three targets, some minutes on two cores
    python benchmarks/precision.py --dtypes bfloat16,float16      on a GPU; float16 takes hours on most processors
    python benchmarks/precision.py --targets digits,italy-power --sources vit-fashion,efficientnet-lite0@64px

Each pair of a source and a target passes in float32 and in each of the others. For each score it prints the largest
difference to float32, this difference as a share of the width of the 95 % interval, and how often the order of two
sources changes.
"""

import argparse
import itertools

import numpy as np

import modgap

TARGETS = "digits,mnist5k,italy-power"
SOURCES = "vit-fashion,efficientnet-lite0@64px,minilm"


def scores(target: str, sources: list[str], dtype: str, limit: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the values and the widths of the intervals of each score, both of shape (sources,)."""
    ranking = modgap.rank(target, sources, dtype=dtype, split="all", limit=limit, controls=False, baselines="none")
    n = len(sources)
    return {
        name: (table.standings.values[:n], np.diff(table.standings.intervals[:n], axis=1)[:, 0])
        for name, table in ranking.tables.items()
        if name != "size" and np.isfinite(table.standings.values[:n]).any()
    }


def main() -> None:
    """Print the differences of each precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default=TARGETS)
    parser.add_argument("--sources", default=SOURCES)
    parser.add_argument("--dtypes", default="bfloat16")
    parser.add_argument("--limit", type=int, default=200)
    options = parser.parse_args()
    targets, sources = options.targets.split(","), options.sources.split(",")
    exact = {target: scores(target, sources, "float32", options.limit) for target in targets}
    print(f"{'score':24}{'dtype':10}{'largest difference':>20}{'share of interval':>20}{'changed orders':>16}")
    for dtype in options.dtypes.split(","):
        scores_by_target = {target: scores(target, sources, dtype, options.limit) for target in targets}
        for name in dict.fromkeys(name for of_target in exact.values() for name in of_target):
            differences, shares, changed, pairs = [0.0], [0.0], 0, 0
            for target in targets:
                if name not in exact[target] or name not in scores_by_target[target]:
                    continue
                (values, widths), (others, _) = exact[target][name], scores_by_target[target][name]
                difference = np.abs(values - others)
                differences.append(float(np.nanmax(difference)))
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratios = difference / widths
                shares.append(float(np.max(ratios[np.isfinite(ratios)], initial=0.0)))
                for one, other in itertools.combinations(range(len(sources)), 2):
                    pairs += 1
                    changed += np.sign(values[one] - values[other]) != np.sign(others[one] - others[other])
            print(f"{name:24}{dtype:10}{max(differences):20.2g}{max(shares):20.3f}{changed:10} of {pairs}")


if __name__ == "__main__":
    main()
