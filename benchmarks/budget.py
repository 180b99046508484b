"""Agreement of rankings within a budget with the full ranking, against the share of the work that they do.

    python benchmarks/budget.py --target digits --target wine --sources vit-fashion,minilm
    python benchmarks/budget.py --target digits --target wine --sources vit-fashion,minilm --shares 0.1,0.2,0.4,0.8

The clock is simulated, so that the result does not depend on the machine's load: a pass costs its samples times the
parameters of the source, with at least a million, and a budget is a share of the cost of the full ranking with its
controls. Everything else is real: the rounds rank the sources on their samples, and their passes go into the cache. For
each target and budget it prints the share of the work that was done, whether the first source is that of the full
ranking, the regret (value of the best source minus value of the chosen one, both in the full ranking, as a share of the
range of all values), and Kendall's tau between both orders, in which sources that were left out earlier come later.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from modgap.jobs import Backend
from modgap.ranking.halving import SMALLEST_MODEL, rank_within
from modgap.ranking.rank import rank
from modgap.ranking.source_patterns import parse_source_names
from modgap.ranking.types import Ranking, RankRequest


def order_of(ranking: Ranking) -> list[str]:
    """Return the sources of a ranking, best first; of one within a budget, those that were left out come last."""
    table = ranking.tables[ranking.by]
    names = [ranking.rows[index].name for index in ranking.order() if table.source_ranks[index]]
    rounds = ranking.halving.rounds if ranking.halving else ()
    return [*names, *(name for one in reversed(rounds) for name in one.left_out if name not in names)]


@dataclass
class SimulatedClock:
    """Ranks sources, and moves a clock by what their passes cost."""

    target: str
    sizes: dict[str, float]
    n_samples: int
    backend: Backend
    now: float = 0.0

    def __call__(self, sources: list[str], request: RankRequest, _prefix: str) -> Ranking:
        """Rank the sources."""
        samples = min(request.samples.limit or self.n_samples, self.n_samples)
        self.now += samples * sum(self.sizes[name] for name in sources) * (2 if request.controls else 1)
        # All passes count on this clock, those from the cache too.
        return replace(rank(self.target, sources, request, self.backend), cached_seconds=0.0)


def compare(target: str, sources: list[str], request: RankRequest, shares: list[float], backend: Backend) -> list[dict]:
    """Return the figures of each budget for one target."""
    full = rank(target, sources, replace(request, report_details=False), backend)
    table = full.tables[full.by]
    rows = {row.name: number for number, row in enumerate(full.rows)}
    values = {name: float(table.standings.values[rows[name]]) for name in order_of(full)}
    signed = {name: value if table.higher_is_better else -value for name, value in values.items()}
    sizes = {row.name: max(float(row.properties.get("parameters") or 0), SMALLEST_MODEL) for row in full.rows}
    n_samples = full.target.samples if full.target else 0
    cost = n_samples * sum(sizes[name] for name in values) * (2 if request.controls else 1)
    figures = []
    for share in shares:
        clock = SimulatedClock(target, sizes, n_samples, backend)
        limited = rank_within(share * cost, list(values), request, {"name": target}, clock, lambda c=clock: c.now)
        order = order_of(limited)
        places = {name: place for place, name in enumerate(order)}
        common = [name for name in values if name in places]
        tau = kendalltau([places[name] for name in common], [-signed[name] for name in common]).statistic
        spread = max(signed.values()) - min(signed.values())
        figures.append(
            {
                "target": target,
                "budget": share,
                "spent": clock.now / cost,
                "same_first": order[0] == order_of(full)[0],
                "regret": (max(signed.values()) - signed[order[0]]) / spread if spread else 0.0,
                "tau": float(tau),
                "rounds": [(one.samples, len(one.sources)) for one in limited.halving.rounds],  # type: ignore[union-attr]
            }
        )
    return figures


def main() -> None:
    """Print a line for each target and budget, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", required=True)
    parser.add_argument("--sources", required=True)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--shares", default="0.1,0.2,0.4,0.8")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    request = RankRequest(samples=replace(RankRequest().samples, limit=options.limit))
    sources = parse_source_names([options.sources])
    shares = [float(part) for part in options.shares.split(",")]
    backend = Backend("loky", options.workers)
    figures = []
    heads = f"{'target':18}{'budget':>8}{'spent':>8}{'same first':>12}{'regret':>8}{'tau':>8}"
    print(f"{heads}  rounds (samples x sources)")
    for target in options.target:
        for one in compare(target, sources, request, shares, backend):
            figures.append(one)
            rounds = ", ".join(f"{samples} x {number}" for samples, number in one["rounds"])
            print(
                f"{Path(target).name:18}{one['budget']:8.2f}{one['spent']:8.2f}{one['same_first']!s:>12}"
                f"{one['regret']:8.3f}{one['tau']:8.2f}  {rounds}",
                flush=True,
            )
    for share in shares:
        part = [one for one in figures if one["budget"] == share]
        means = [float(np.mean([one[name] for one in part])) for name in ("spent", "same_first", "regret", "tau")]
        print(f"{'mean':18}{share:8.2f}{means[0]:8.2f}{means[1]:12.2f}{means[2]:8.3f}{means[3]:8.2f}")


if __name__ == "__main__":
    main()
