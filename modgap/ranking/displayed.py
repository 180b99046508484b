"""The ranking that `modgap.rank` returns: it prints, plots and converts to a data frame."""

import io
from collections.abc import Iterator
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modgap.answers import Answer, Plotted
from modgap.formatting import plain_text
from modgap.ranking.answer import ranking_answer
from modgap.ranking.report import to_csv, to_dict
from modgap.ranking.types import Ranking

if TYPE_CHECKING:
    import pandas as pd

    from modgap.figures.files import ResultFigure

__all__ = ["RankingResult"]


class RankingResult(Plotted, Ranking):
    """A ranking of sources for one target, as `modgap.rank` returns it.

    `print(ranking)` shows the recommendation and the table of the command. The attributes are those of
    `modgap.ranking.types.Ranking`.
    """

    @classmethod
    def from_ranking(cls, ranking: Ranking) -> "RankingResult":
        """Return a ranking with the methods that display it."""
        return cls(**{field.name: getattr(ranking, field.name) for field in fields(Ranking)})

    @cached_property
    def answer(self) -> Answer:
        """The answer, with its verdicts, checks, tables and next step."""
        return ranking_answer(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values."""
        return to_dict(self)

    def to_frame(self, figure: str | None = None) -> "pd.DataFrame":
        """Return a data frame with one row per source and the columns of ranking.csv, or the one that a figure draws.

        Args:
            figure: Name of a figure: `ranking` or `layers`. None for the table.

        Raises:
            UsageError: If the ranking has no figure with this name.
        """
        if figure is not None:
            return self._figure(figure).frame()
        import pandas as pd

        return pd.read_csv(io.StringIO(to_csv(self)), converters={"source": plain_text})

    def _figures(self) -> "Iterator[ResultFigure]":
        from modgap.ranking.figures import planned_figures

        return planned_figures(self)
