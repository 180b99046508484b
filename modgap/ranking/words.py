"""A ranking in words: what it recommends, on what grounds, and what it does not tell."""

from collections.abc import Iterator

import numpy as np

from modgap.ranking.halves import LEAST_GROUPS
from modgap.ranking.rank import CONTROL, NO_MODEL, SOURCE, Ranking, ScoreTable
from modgap.ranking.scores import score
from modgap.ranking.standings import LEAST_HALVES

__all__ = ["recommendation"]

FEW = 100
"""Samples below which hardly any two sources can be told apart."""


def recommendation(ranking: Ranking) -> list[str]:
    """Sentences, the most important first."""
    table = ranking.tables[ranking.by]
    if not (table.sources > 0).any():
        return [f"No source could be scored by {ranking.by}; the reasons stand in their rows."]
    return list(_sentences(ranking, table))


def _sentences(ranking: Ranking, table: ScoreTable) -> Iterator[str]:
    first = int(np.flatnonzero(table.sources == 1)[0])
    yield _choice(ranking, table, first)
    yield from _control(ranking, table, first)
    yield from _no_model(ranking, first)
    yield from _size(ranking, first)
    yield from _others(ranking, first)
    yield from _caveats(ranking)


def _choice(ranking: Ranking, table: ScoreTable, first: int) -> str:
    name, count = ranking.rows[first].name, int((table.sources > 0).sum())
    if count == 1:
        return f"{name} is the only source that could be scored by {ranking.by}; nothing is compared."
    equal = [ranking.rows[n].name for n in np.flatnonzero(table.sources == 1)[1:]]
    if equal:
        return f"{name} and {', '.join(equal)} are equal by {ranking.by}, the first of {count}: it does not choose."
    if not np.isfinite(np.delete(table.all.beats[first], first)[np.delete(table.sources, first) > 0]).all():
        return f"{name} is the first of {count} by {ranking.by}; nothing says how sure that is{_why_unsure(ranking)}."
    tied = [int(n) for n in table.all.tied_with(first) if table.sources[n]]
    if not tied:
        return f"{name} is the first of {count} by {ranking.by}, told apart from all others at 95 %: transfer from it."
    closest = sorted(tied, key=lambda n: int(table.sources[n]))
    told = ", ".join(f"{ranking.rows[n].name} ({table.all.beats[n, first]:.2f})" for n in closest[:4])
    more = f" and {len(closest) - 4} more" if len(closest) > 4 else ""
    second = ranking.rows[closest[0]].name
    return (
        f"{name} is the first of {count} by {ranking.by}, but this data does not tell it apart from {told}{more} (in "
        "brackets the probability of being better): collect more samples, or fine-tune "
        f"{name} and {second} and compare."
    )


def _why_unsure(ranking: Ranking) -> str:
    if not score(ranking.by).resampled:
        return ", since it does not look at the samples"
    if ranking.request.resamples < LEAST_HALVES:
        return f" without {LEAST_HALVES} resamples or more"
    return ": too few samples or groups to take halves of"


def _control(ranking: Ranking, table: ScoreTable, first: int) -> Iterator[str]:
    name = f"random:{ranking.rows[first].name}"
    number = next((n for n, row in enumerate(ranking.rows) if row.name == name and row.kind == CONTROL), None)
    if number is None or not np.isfinite(table.all.values[number]):
        return
    chance = table.all.beats[first, number]
    if not np.isfinite(chance):
        worse = table.all.values[number] >= table.all.values[first]
        chance = 0.0 if worse == table.higher_is_better and score(ranking.by).resampled else np.nan
    if chance >= 0.975:
        yield "The same architecture with random weights scores worse: the score sees what the source has learned."
    elif chance <= 0.025:
        yield (
            "The same architecture with random weights scores better: by this score its pretraining does not help on "
            "this target, and its place says nothing."
        )
    elif np.isfinite(chance):
        yield (
            "It is not told apart from the same architecture with random weights: by this score its pretraining counts "
            "for nothing on this target, and its place says little."
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
    """Which other scores put the same source first."""
    agree: list[str] = []
    differ: list[str] = []
    for name, table in ranking.tables.items():
        if name in (ranking.by, "size", "source-error") or not (table.sources > 0).sum() > 1:
            continue
        (agree if table.sources[first] == 1 else differ).append(name)
    if agree or differ:
        yield f"Of {len(agree) + len(differ)} other scores {len(agree)} put it first" + (
            f"; not {', '.join(differ)}." if differ else "."
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
