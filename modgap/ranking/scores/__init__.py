"""Transferability scores. Each module defines one as SCORE or several as SCORES; other packages bring more.

The entry points of the group `modgap.scores` refer to objects of the class Score, under their names.
"""

import importlib
import pkgutil
from functools import partial

from modgap.process.registry import Registry
from modgap.ranking.score import ERROR_RATE, Score
from modgap.ranking.score_order import SCORE_ORDER
from modgap.ranking.source_outputs import CLASSIFICATION, MULTI_LABEL, REGRESSION

DEFAULT_RANKING_SCORES = {CLASSIFICATION: "transrate", MULTI_LABEL: "discrepancy", REGRESSION: "discrepancy"}
"""The score that sources are ranked by if --by is not given, for each task.

For classification it is the score that ten development targets chose. Neither it nor any other score is shown to choose
better than always naming the same good source (docs/evidence.md). No benchmark has targets of other tasks.
"""

_rate = partial(Score, unit="error rate", reference="", higher_is_better=False, bounds=ERROR_RATE)
PILOT = _rate(name="pilot", title="error after a short fine-tuning on other samples", error_tasks=(CLASSIFICATION,))
"""The error after a short fine-tuning, which is shown as scores are, but is none that `--by` or `--score` takes."""


def _load() -> tuple[type[Score], list[Score]]:
    modules = (importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__))
    return Score, [score for module in modules for score in getattr(module, "SCORES", None) or (module.SCORE,)]


SCORES = Registry("modgap.scores", "Score", SCORE_ORDER, _load)
get_score, score_names, score_origin = SCORES.get, SCORES.names, SCORES.origin


def default_scores() -> list[str]:
    """Return the names of the scores that are computed when none are named.

    They are scores of each kind, with the error of a linear probe among them. No evidence supports this choice:
    no score is shown to be better than always naming the same good source (docs/evidence.md).
    """
    return [score.name for score in map(get_score, score_names()) if score.default]


def shown_score(name: str) -> Score:
    """Return the score of a name, or the error of pilots, as a ranking shows them."""
    return PILOT if name == PILOT.name else get_score(name)
