"""The matrix that `modgap.rank` returns for several targets: it prints, and converts to a data frame."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from modgap.display.displayed_result import DisplayedResult
from modgap.display.text_table import format_table
from modgap.formatting import count, format_value, plain_text
from modgap.matrix.formats import score_note, to_csv, to_dict
from modgap.matrix.result import Matrix
from modgap.matrix.sentences import matrix_sentences
from modgap.matrix.verdict import judge_matrix
from modgap.ranking.displayed import RankingResult
from modgap.ranking.types import Ranking

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MatrixResult", "matrix_table", "matrix_title"]

MOST_COLUMNS = 8
"""Most targets whose scores are printed; files have all of them."""


@dataclass(frozen=True, repr=False)
class MatrixResult(DisplayedResult, Matrix):
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

    def summary(self) -> str:
        """Return heading, answer and table as text."""
        heading, sentences, lines = self.summary_sentences()
        return "\n\n".join(["\n".join([heading, *sentences]), format_table(*self.summary_table()), *lines])

    def summary_table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Return the headings and the rows of the table as text."""
        return matrix_table(self)

    def summary_sentences(self) -> tuple[str, Sequence[str], Sequence[str]]:
        """Return the heading, the sentences of the answer, and what the values of the table are."""
        return matrix_title(self), matrix_sentences(judge_matrix(self)), [score_note(self)]

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values."""
        return to_dict(self)

    def to_frame(self) -> "pd.DataFrame":
        """Return a data frame with one row per source and the columns of matrix.csv."""
        import pandas as pd

        return pd.read_csv(io.StringIO(to_csv(self)), converters={"source": plain_text})


def matrix_title(matrix: Matrix) -> str:
    """Return the numbers of sources and targets."""
    return f"{count(len(matrix.standings), 'source')} on {count(len(matrix.columns), 'target')}"


def matrix_table(matrix: Matrix) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of the table of the sources, with the scores of at most eight targets."""
    targets = [column.name for column in matrix.columns] if len(matrix.columns) <= MOST_COLUMNS else []
    is_tested = any(one.p_value is not None for one in matrix.standings)
    rows = [
        [
            standing.source,
            f"{standing.mean_rank:.1f}",
            *([standing.letters, _p_value(standing.p_value)] if is_tested else []),
            *(_cell(matrix, number, column) for column in range(len(targets))),
        ]
        for number, standing in enumerate(matrix.standings)
    ]
    return ["source", "mean rank", *(["letters", "p to first"] if is_tested else []), *targets], rows


def _p_value(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _cell(matrix: Matrix, number: int, column: int) -> str:
    value = float(matrix.values[number, column])
    if value != value:
        return "-"
    return f"{format_value(value)}{'*' if matrix.best[number, column] else ''}"
