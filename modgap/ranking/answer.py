"""The answer of a ranking: which source should be transferred, with its tables and what has no value."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from modgap.answers import Answer, Curve, Table
from modgap.formatting import count
from modgap.ranking.check_sentences import score_label
from modgap.ranking.layer_curves import LayerCurve
from modgap.ranking.layers import JUDGED_BY, LAYER_COLUMNS, layer_rows
from modgap.ranking.recommendation import judge, judgment_answer
from modgap.ranking.scores import PILOT, shown_score
from modgap.ranking.tables import failure_messages, ranking_table, scores_table
from modgap.ranking.types import SOURCE, Ranking

__all__ = ["ranking_answer"]

LAYERS = (
    "The layer is chosen on one half of the samples and judged on the other half, over 20 splits. p compares it with "
    "the last layer, corrected for the number of sources (Holm). The lowest error on all samples is too low an "
    "estimate for new samples. Curves go from the first layer to the last, and from an error of 0 to the highest."
)
OTHER_SCORES = "other scores (↑ higher is better, ↓ lower is better, * best source, no control above it)"


def ranking_answer(ranking: Ranking) -> Answer:
    """Return the answer of a ranking."""
    reasons = [f"{curve.source}: {curve.reason}" for curve in ranking.layers if curve.reason]
    answer = judgment_answer(judge(ranking), ranking.target.name if ranking.target else None)
    return replace(
        answer,
        facts=tuple(_facts(ranking)),
        tables=tuple(_tables(ranking)),
        notes=(*failure_messages(ranking), *reasons),
    )


def _facts(ranking: Ranking) -> Iterator[str]:
    target = ranking.target
    if target:
        yield f"{count(target.samples, 'sample')} ({ranking.request.samples.split_label})"
        yield f"{target.classes:,} classes"
        if target.groups:
            yield count(target.groups, "group")
        by = ranking.deciding_table.name
        yield f"ranked by {score_label(by) if by == PILOT.name else by} ({shown_score(by).direction})"
    yield count(sum(row.kind == SOURCE for row in ranking.rows), "source")


def _tables(ranking: Ranking) -> Iterator[Table]:
    if ranking.target:
        yield Table(*ranking_table(ranking))
        if len(ranking.tables) > 1:
            yield Table(*scores_table(ranking), OTHER_SCORES)
    if ranking.layers:
        drawn = [_layer_curve(curve, ranking.layers) for curve in ranking.layers]
        yield Table(LAYER_COLUMNS, layer_rows(ranking.layers), "Error of a linear probe by layer", LAYERS, curves=drawn)


def _layer_curve(curve: LayerCurve, curves: Sequence[LayerCurve]) -> Curve | None:
    """Return the errors of the layers of a source, on one axis for all sources; None if one is not known."""
    values = curve.values.get(JUDGED_BY, ())
    if not values or not np.isfinite(values).all():
        return None
    highest = np.nanmax([value for one in curves for value in one.values.get(JUDGED_BY, ())]) or 1.0
    return Curve([number / curve.n_layers for number in curve.numbers], [float(value / highest) for value in values])
