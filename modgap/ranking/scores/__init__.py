"""Scores of transferability; one file each, found by its SCORE or SCORES."""

import functools
import importlib
import pkgutil
from collections.abc import Iterator

from modgap.errors import unknown_name
from modgap.ranking.score import CLASSIFICATION, MULTI_LABEL, REGRESSION, Score

__all__ = ["DEFAULTS", "score", "score_names", "usual_scores"]

DEFAULTS = {CLASSIFICATION: "leep", MULTI_LABEL: "discrepancy", REGRESSION: "discrepancy"}
"""By task, what sources are ranked by unless told otherwise.

In the benchmark of choice (benchmarks/ranking.py, docs/ranking.md) LEEP's first choice was at most 3.3 points of error
above the best on every target, with and without random weights among the sources; it is not defined for multi-label
and regression targets.
"""
ORDER = (
    "discrepancy", "discrepancy-ratio", "discrepancy-montecarlo", "leep", "nce", "n-leep", "logme", "h-score",
    "h-score-shrunk", "transrate", "gbc", "parc", "linear-probe", "knn", "otdd", "size", "source-error",
)  # fmt: skip
"""As they are shown; others follow by name."""


@functools.cache
def _scores() -> dict[str, Score]:
    found = {each.name: each for each in _declared()}
    return dict(sorted(found.items(), key=lambda item: (ORDER.index(item[0]) if item[0] in ORDER else 99, item[0])))


def _declared() -> Iterator[Score]:
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        yield from getattr(module, "SCORES", None) or (module.SCORE,)


def score_names() -> list[str]:
    """Names of all scores."""
    return list(_scores())


def usual_scores() -> list[str]:
    """Names of the scores that are taken when none are named.

    Those whose first choice beats that by the sources' size among the pretrained of the benchmark of choice, one of
    each kind, and the two that compare features with the samples' own values.
    """
    return [each.name for each in _scores().values() if each.usual]


def score(name: str) -> Score:
    """The score of this name.

    Raises:
        UsageError: When there is none, with the nearest names.
    """
    if name not in _scores():
        raise unknown_name("score", name, _scores())
    return _scores()[name]
