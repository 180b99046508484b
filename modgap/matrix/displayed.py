"""The matrix that `modgap.rank` returns for several targets: it prints, and converts to a data frame."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modgap.answers import Answer, Answered
from modgap.formatting import plain_text
from modgap.matrix.answer import matrix_answer
from modgap.matrix.formats import to_csv, to_dict
from modgap.matrix.result import Matrix
from modgap.ranking.displayed import RankingResult
from modgap.ranking.types import Ranking

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MatrixResult"]


@dataclass(frozen=True, repr=False)
class MatrixResult(Answered, Matrix):
    """Sources ranked for several targets, as `modgap.rank` returns them.

    `print(matrix)` shows the answer and the table of the command. The attributes are those of
    `modgap.matrix.result.Matrix`, and the ranking of each target.

    Attributes:
        rankings: Ranking of each target by its name or absolute path.
    """

    rankings: Mapping[str, RankingResult] = field(default_factory=dict)

    @classmethod
    def from_matrix(cls, matrix: Matrix, rankings: Mapping[str, Ranking]) -> "MatrixResult":
        """Return a matrix and its rankings with the methods that display them."""
        values = {one.name: getattr(matrix, one.name) for one in fields(Matrix)}
        return cls(**values, rankings={name: RankingResult.from_ranking(one) for name, one in rankings.items()})

    @cached_property
    def answer(self) -> Answer:
        """The answer, with its verdicts, checks and table."""
        return matrix_answer(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values."""
        return to_dict(self)

    def to_frame(self) -> "pd.DataFrame":
        """Return a data frame with one row per source and the columns of matrix.csv."""
        import pandas as pd

        return pd.read_csv(io.StringIO(to_csv(self)), converters={"source": plain_text})
