"""Ranking within a budget of time: successive halving on samples and sources.

All sources are scored on few samples, the better half of them on more samples, and so on. The last round has the
complete request. The sizes of the samples are a ladder of halves, so that a repeated ranking finds its passes in the
cache.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import nnls

from modgap.errors import UsageError
from modgap.forward.inference_setup import LogitsRequest, select_samples
from modgap.ranking.report import RankingResult
from modgap.ranking.types import Halving, HalvingRound, Ranking, RankRequest
from modgap.targets import TargetRequest

FEWEST_SAMPLES = 100
SAMPLES_PER_CLASS = 8
"""Fewest samples of the first round, and fewest for each class."""
FINALISTS = 2
"""Fewest sources of a round, so that the last round compares."""
SMALLEST_MODEL = 1e6
"""Number of parameters below which a pass is not expected to be faster."""

RankRound = Callable[[Sequence[str], RankRequest, str], RankingResult]
"""Function that ranks some sources: of their names, the request, and a name for the stages of its progress."""


def rank_within(
    seconds: float,
    sources: Sequence[str],
    request: RankRequest,
    target: TargetRequest,
    rank_round: RankRound,
    clock: Callable[[], float] = time.perf_counter,
) -> RankingResult:
    """Rank sources within a budget of time.

    Args:
        seconds: The budget. The first round is completed in any case.
        sources: Names of the sources.
        request: The complete request, which the last round has if the budget suffices for all samples.
        target: The target as the user names it.
        rank_round: Function that ranks some sources.
        clock: Function that returns the time in seconds.

    Returns:
        The ranking of the last round, with the rounds before it.

    Raises:
        UsageError: If the budget is not positive.

    References:
        Karnin, Koren and Somekh, "Almost optimal exploration in multi-armed bandits", ICML 2013; Jamieson and
        Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
    """
    if not seconds > 0:
        raise UsageError(f"The budget is {seconds / 60:g} minutes, but it must be positive.")
    sizes = _ladder(target, request)
    names, size = list(dict.fromkeys(sources)), sizes[0]
    began = clock()
    rounds: list[HalvingRound] = []
    costs = _Costs(2.0 if request.controls else 1.0)
    while True:
        is_last = size == sizes[-1]
        part = request if is_last else _cheap(request, size)
        round_began = clock()
        ranking = rank_round(names, part, "" if is_last and not rounds else f"round {len(rounds) + 1}: ")
        now = clock()
        following = None
        if not is_last:
            # Passes from the cache count with their time too, since those of the next round may have to be computed.
            costs.add(ranking, size, now - round_began + ranking.cached_seconds)
            following = _following(_in_order(ranking), size, sizes, seconds - (now - began), costs)
        # Sources that failed stay: the last ranking says why, and on more samples they may succeed.
        failed = [name for name in names if name not in _in_order(ranking)]
        next_sources = [*(following[0] if following else _in_order(ranking)), *failed]
        rounds.append(_record(ranking, names, next_sources, size, now - round_began))
        if following is None:
            complete = replace(request, by=ranking.by)
            return replace(ranking, request=complete, halving=Halving(seconds, tuple(rounds), sizes[-1]))
        names, size = next_sources, following[1]


def _ladder(target: TargetRequest, request: RankRequest) -> list[int]:
    """Return the numbers of samples of possible rounds, smallest first: all, half of them, and so on."""
    _, rows, labels, _ = select_samples(target.open(), LogitsRequest(request.samples, "none"))
    n_classes = int(labels.max()) + 1 if labels.ndim == 1 else labels.shape[1]
    fewest = max(FEWEST_SAMPLES, SAMPLES_PER_CLASS * n_classes)
    sizes = [len(rows)]
    while sizes[0] / 2 >= fewest:
        sizes.insert(0, -(-sizes[0] // 2))
    return sizes


def _cheap(request: RankRequest, size: int) -> RankRequest:
    """Return the request of a round that only decides who goes on: the score that decides, on some samples."""
    samples = replace(request.samples, limit=size)
    return replace(
        request,
        samples=samples,
        scores=(request.by,) if request.by else ("size",),
        controls=False,
        baselines="none",
        report_details=False,
        layers=None,
        pilot=0,
        pilot_epochs=None,
        minutes=None,
    )


def _in_order(ranking: Ranking) -> list[str]:
    """Return the names of the sources that have a value, best first."""
    return [ranking.rows[index].name for index in ranking.tables[ranking.by].source_order]


@dataclass
class _Costs:
    """Expected seconds of rounds: a part for each source, and a part for its samples and parameters.

    Attributes:
        factor: Factor of the last round, which has controls too.
        weights: Relative size of each source by name.
        rounds: For each round so far, its number of sources, its work, and its seconds.
    """

    factor: float
    weights: dict[str, float] = field(default_factory=dict)
    rounds: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, ranking: Ranking, samples: int, seconds: float) -> None:
        """Learn from a round."""
        for row in ranking.rows:
            self.weights[row.name] = max(float(row.properties.get("parameters") or 0), SMALLEST_MODEL)
        names = [row.name for row in ranking.rows]
        self.rounds.append((len(names), self._work(names, samples), seconds))

    def expected(self, sources: Sequence[str], samples: int, *, is_last: bool) -> float:
        """Return the seconds of a round of some sources on a number of samples."""
        observed = np.array(self.rounds)
        # One round cannot tell the two parts apart, so that all of it counts for the samples.
        used = [1] if len(observed) == 1 else [0, 1]
        parts, _ = nnls(observed[:, used], observed[:, 2])
        amounts = np.array([len(sources), self._work(sources, samples)])[used]
        return float(amounts @ parts) * (self.factor if is_last else 1.0)

    def _work(self, names: Sequence[str], samples: int) -> float:
        return samples * sum(self.weights[name] for name in names)


def _following(
    ordered: list[str], size: int, sizes: Sequence[int], left: float, costs: _Costs
) -> tuple[list[str], int] | None:
    """Return the sources and the samples of the next round; None if the budget is spent."""
    if left <= 0:
        return None
    larger = [one for one in sizes if one > size]
    if costs.expected(ordered, larger[-1], is_last=True) <= left:
        return ordered, larger[-1]
    if len(ordered) < FINALISTS:
        fitting = [one for one in larger[:-1] if costs.expected(ordered, one, is_last=False) <= left]
        return (ordered, fitting[-1]) if fitting else None
    n_kept = -(-len(ordered) // 2)
    while True:
        n_kept = max(FINALISTS, n_kept)
        best = ordered[:n_kept]
        # The round of all samples is the last, and may take all of the time that is left.
        if costs.expected(best, larger[-1], is_last=True) <= left:
            return best, larger[-1]
        n_rounds = 1 + int(np.ceil(np.log2(n_kept / FINALISTS)))
        fitting = [one for one in larger[:-1] if costs.expected(best, one, is_last=False) <= left / n_rounds]
        if fitting:
            return best, fitting[-1]
        if n_kept == FINALISTS:
            return None
        n_kept //= 2


def _record(ranking: Ranking, sources: Sequence[str], later: Sequence[str], size: int, seconds: float) -> HalvingRound:
    table = ranking.tables[ranking.by]
    ordered = _in_order(ranking)
    left_out = [name for name in ordered if name not in later]
    rows = {row.name: number for number, row in enumerate(ranking.rows)}
    first = table.first_source
    chances = {
        name: float(table.standings.win_probabilities[rows[name], first])
        for name in left_out
        if name in rows and first is not None
    }
    finite_chances = {name: chance for name, chance in chances.items() if np.isfinite(chance)}
    closest = max(finite_chances, key=lambda name: finite_chances[name], default=None)
    samples = ranking.target.samples if ranking.target else size
    chance = None if closest is None else finite_chances[closest]
    return HalvingRound(samples, tuple(sources), tuple(left_out), seconds, closest, chance)
