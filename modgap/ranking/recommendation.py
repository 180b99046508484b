"""A ranking in words: what it recommends, on what grounds, and what it does not tell."""

from collections.abc import Iterator

import numpy as np

from modgap.ranking.half_samples import LEAST_GROUPS
from modgap.ranking.scores import score
from modgap.ranking.source_outputs import CLASSIFICATION
from modgap.ranking.standings import LEAST_HALVES
from modgap.ranking.types import CONTROL, NO_MODEL, SOURCE, Ranking, ScoreTable

__all__ = ["recommendation"]

SHARES_WRONG = ("knn", "linear-probe", "discrepancy")
"""Scores that are a share of samples got wrong; the first is there unless raw values are not wanted."""
FEW = 100
"""Samples below which hardly any two sources can be told apart."""


def recommendation(ranking: Ranking) -> list[str]:
    """Sentences, the most important first."""
    table = ranking.tables[ranking.by]
    if not (table.sources > 0).any():
        return [f"No source could be scored by {ranking.by}; the reasons stand beside their names."]
    return list(_sentences(ranking, table))


def _sentences(ranking: Ranking, table: ScoreTable) -> Iterator[str]:
    first = int(np.flatnonzero(table.sources == 1)[0])
    doubts = [*_control(ranking, table, first), *_largest_class(ranking, table, first)]
    yield _choice(ranking, table, first, sure=not doubts)
    yield from doubts
    if not doubts and np.isfinite(_control_is_worse(ranking, table, first)):
        yield "The same architecture with random weights scores worse: the score sees what the source has learned."
    yield from _no_model(ranking, first)
    yield from _size(ranking, first)
    yield from _others(ranking, first)
    yield from _caveats(ranking)


def _choice(ranking: Ranking, table: ScoreTable, first: int, *, sure: bool) -> str:
    name, count = ranking.rows[first].name, int((table.sources > 0).sum())
    if count == 1:
        return f"{name} is the only source that could be scored by {ranking.by}; nothing is compared."
    equal = [ranking.rows[n].name for n in np.flatnonzero(table.sources == 1)[1:]]
    if equal:
        return f"{name} and {', '.join(equal)} are equal by {ranking.by}, the first of {count}: it does not choose."
    if not np.isfinite(np.delete(table.all.beats[first], first)[np.delete(table.sources, first) > 0]).all():
        return f"{name} is the first of {count} by {ranking.by}; nothing says how sure that is{_why_unsure(ranking)}."
    tied = [int(n) for n in table.all.tied_with(first) if table.sources[n]]
    second = ranking.rows[int(np.flatnonzero(table.sources > 1)[np.argmin(table.sources[table.sources > 1])])].name
    if not tied:
        told = f"{name} is the first of {count} by {ranking.by}, told apart from the other sources at 95 %"
        return f"{told}: transfer from it." if sure else (
            f"{told}, but what follows makes that doubtful: fine-tune {name}, {second} and a model from scratch, and "
            "compare."
        )  # fmt: skip
    closest = sorted(tied, key=lambda n: int(table.sources[n]))
    told = ", ".join(f"{ranking.rows[n].name} ({table.all.beats[n, first]:.2f})" for n in closest[:4])
    more = f" and {len(closest) - 4} more" if len(closest) > 4 else ""
    return (
        f"{name} is the first of {count} by {ranking.by}, but this data does not tell it apart from {told}{more} (in "
        "brackets the probability of being better): collect more samples, or fine-tune "
        f"{name} and {ranking.rows[closest[0]].name} and compare."
    )


def _why_unsure(ranking: Ranking) -> str:
    if not score(ranking.by).resampled:
        return ", since it does not look at the samples"
    if ranking.request.resamples < LEAST_HALVES:
        return f" without {LEAST_HALVES} resamples or more"
    return ": too few samples or groups to take halves of"


def _control_of(ranking: Ranking, first: int) -> int | None:
    """Number of the row of the same architecture with random weights."""
    name = f"random:{ranking.rows[first].name}"
    return next((n for n, row in enumerate(ranking.rows) if row.name == name and row.kind == CONTROL), None)


def _control_is_worse(ranking: Ranking, table: ScoreTable, first: int) -> float:
    """Probability that the first is better than its control; NaN where nothing is known of it."""
    number = _control_of(ranking, first)
    if number is None or not table.all.ranks[number]:
        return np.nan
    chance = table.all.beats[first, number]
    if np.isfinite(chance) or not score(ranking.by).resampled:
        return float(chance)
    # Without halves the values alone say that it is not better, but never how sure it is that it is.
    one, two = table.all.ranks[[first, number]]
    return 0.5 if one == two else 0.0 if two < one else np.nan


def _no_worse(table: ScoreTable, number: int, other: int) -> bool:
    return bool(0 < table.all.ranks[number] <= table.all.ranks[other])


def _control(ranking: Ranking, table: ScoreTable, first: int) -> Iterator[str]:
    worse = _control_is_worse(ranking, table, first)
    if worse <= 0.025:
        yield (
            "The same architecture with random weights scores better: by this score its pretraining does not help on "
            "this target, and its place says nothing."
        )
    elif worse < 0.975:
        yield (
            "It is not told apart from the same architecture with random weights: by this score its pretraining counts "
            "for nothing on this target, and its place says little."
        )


def _largest_class(ranking: Ranking, table: ScoreTable, first: int) -> Iterator[str]:
    """Whether the first does any better than naming the largest class always, by what is a share got wrong."""
    name = ranking.by if ranking.by in SHARES_WRONG else SHARES_WRONG[0]
    shares = ranking.tables.get(name)
    if shares is None or not ranking.target or ranking.target.task != CLASSIFICATION:
        return
    value, high = float(shares.all.values[first]), shares.all.intervals[first, 1]
    chance = 1 - ranking.target.largest
    if value >= chance:
        yield f"By {name} it gets {value:.3f} wrong, and who names the largest class always {chance:.3f}."
    elif high >= chance:
        yield (
            f"By {name} it gets {value:.3f} wrong, not told apart from who names the largest class always "
            f"({chance:.3f})."
        )


def _no_model(ranking: Ranking, first: int) -> Iterator[str]:
    number = next((n for n, row in enumerate(ranking.rows) if row.kind == NO_MODEL), None)
    if number is None:
        return
    for name in ("linear-probe", "knn"):
        table = ranking.tables.get(name)
        if table is None or not np.isfinite(table.all.values[[number, first]]).all():
            continue
        raw, best = table.all.values[number], np.nanmin(np.where(table.sources > 0, table.all.values, np.nan))
        if raw <= best:
            yield (
                f"By {name} the samples' own values do as well as any source's features ({raw:.3f}, {best:.3f}): "
                "train a model from scratch beside the transfer (modgap train --method scratch)."
            )
            return


def _size(ranking: Ranking, first: int) -> Iterator[str]:
    parameters = [row.facts.get("parameters") or 0 if row.kind == SOURCE else 0 for row in ranking.rows]
    largest = int(np.argmax(parameters))
    if sum(value > 0 for value in parameters) > 1 and largest != first:
        yield f"By number of parameters alone the first would be {ranking.rows[largest].name}."


def _others(ranking: Ranking, first: int) -> Iterator[str]:
    """Which other scores put the same source first, and which of these its random weights content as well."""
    agree: list[str] = []
    differ: list[str] = []
    control = _control_of(ranking, first)
    blind = []
    for name, table in ranking.tables.items():
        if name in (ranking.by, "size", "source-error") or not (table.sources > 0).sum() > 1:
            continue
        (agree if table.sources[first] == 1 else differ).append(name)
        if control is not None and table.sources[first] == 1 and _no_worse(table, control, first):
            blind.append(name)
    if agree or differ:
        yield (
            f"Of {len(agree) + len(differ)} other scores {len(agree)} put it first"
            + (f"; not {', '.join(differ)}" if differ else "")
            + (f"; random weights are no worse by {', '.join(blind)}" if blind else "")
            + "."
        )


def _caveats(ranking: Ranking) -> Iterator[str]:
    target, failed = ranking.target, ranking.failed
    if failed:
        yield f"{len(failed)} of the sources could not be scored: {', '.join(row.name for row in failed)}."
    if target and target.samples < FEW:
        yield f"{target.samples} samples tell few sources apart."
    if target and target.groups and target.groups < LEAST_GROUPS:
        yield f"{target.groups} groups are too few to tell how sure this is: there are no intervals."
    if target and target.smallest < 5:
        yield f"The smallest class has {target.smallest} samples; what is said of it is little."
