"""The answer of a matrix: which sources suit its targets, with the table of scores."""

import math
from dataclasses import replace

from modgap.answers import Answer, Table
from modgap.formatting import count, format_value
from modgap.matrix.result import DECIDING, Matrix
from modgap.matrix.sentences import verdict_answer
from modgap.matrix.verdict import judge_matrix
from modgap.ranking.check_sentences import score_label
from modgap.ranking.scores import get_score

__all__ = ["matrix_answer", "measure_label", "score_note"]

MOST_COLUMNS = 8
"""Most targets whose scores are in the table; files have all of them."""


def matrix_answer(matrix: Matrix) -> Answer:
    """Return the answer of a matrix."""
    n_controls = len(matrix.rows) - len(matrix.standings)
    return replace(
        verdict_answer(judge_matrix(matrix)),
        facts=(
            count(len(matrix.standings), "source"),
            *([count(n_controls, "random-weights control")] if n_controls else []),
            count(len(matrix.columns), "target"),
            f"ranked by {measure_label(matrix.first_measure.name)}",
        ),
        tables=(_table(matrix),),
        notes=(score_note(matrix),),
    )


def score_note(matrix: Matrix) -> str:
    """Return which scores the values are, and what the star means."""
    names = dict.fromkeys(column.score for column in matrix.columns)
    scores = " and ".join(f"{name} ({get_score(name).direction})" for name in names)
    return f"The values are {scores}. A star marks sources that are not significantly different from the first."


def measure_label(name: str) -> str:
    """Return the name of a measure in sentences and heads."""
    return "score that decides each target" if name == DECIDING else score_label(name)


def _table(matrix: Matrix) -> Table:
    """Return the mean rank of each source, its letters if anything was tested, and its scores on few targets."""
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
    return Table(["source", "mean rank", *(["letters", "p to first"] if is_tested else []), *targets], rows)


def _p_value(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _cell(matrix: Matrix, number: int, column: int) -> str:
    value = float(matrix.values[number, column])
    return "-" if math.isnan(value) else f"{format_value(value)}{'*' if matrix.best[number, column] else ''}"
