"""The matrix as CSV, JSON and LaTeX."""

from typing import Any

import numpy as np

from modgap.answers import Table
from modgap.answers.latex import latex_table
from modgap.formatting import csv_text, format_value
from modgap.matrix.answer import matrix_answer, measure_label, score_note
from modgap.matrix.comparison import compare_over_targets, ranks_of
from modgap.matrix.result import Matrix, Measure, Row, Standing
from modgap.matrix.sentences import headline
from modgap.matrix.verdict import judge_matrix
from modgap.storage.json_records import format_json, plain_values
from modgap.version import installed_version

__all__ = ["SCHEMA", "to_csv", "to_dict", "to_json", "to_latex"]

SCHEMA = 2


def to_csv(matrix: Matrix) -> str:
    """Return a row for each source: its standing, its scores and its ranks."""
    names = [column.name for column in matrix.columns]
    head = ["source", "mean_rank", "targets", "p_value_to_first", "letters", *names, *(f"rank {n}" for n in names)]
    rows = [
        [
            standing.source,
            f"{standing.mean_rank:.4g}",
            standing.n_targets,
            "" if standing.p_value is None else f"{standing.p_value:.4g}",
            standing.letters,
            *("" if np.isnan(value) else repr(float(value)) for value in matrix.values[number]),
            *("" if np.isnan(rank) else f"{rank:g}" for rank in matrix.ranks[number]),
        ]
        for number, standing in enumerate(matrix.standings)
    ]
    return csv_text([head, *rows])


def to_json(matrix: Matrix) -> str:
    """Return the record of a matrix."""
    return format_json(to_dict(matrix))


def to_dict(matrix: Matrix) -> dict[str, Any]:
    """Return the record of a matrix as plain values."""
    n_sources = len(matrix.standings)
    record: dict[str, Any] = plain_values(
        {
            "schema": SCHEMA,
            "kind": "matrix",
            "verdict": judge_matrix(matrix).to_dict(),
            "answer": matrix_answer(matrix).to_dict(),
            "targets": [vars(column) for column in matrix.columns],
            "sources": [
                *map(_source_record, matrix.rows, matrix.standings, matrix.ranks),
                *(_source_record(row) for row in matrix.rows[n_sources:]),
            ],
            "measures": [_measure_record(measure, n_sources) for measure in matrix.measures.values()],
            "agreement": [vars(one) for one in matrix.agreement],
            "reasons": [
                {"source": source, "target": target, "reason": reason}
                for (source, target), reason in matrix.reasons.items()
            ],
            "missing_jobs": matrix.missing,
            "failed_jobs": matrix.failed,
            "request": matrix.request,
            "provenance": {"modgap": installed_version()},
        }
    )
    return record


def _source_record(row: Row, standing: Standing | None = None, ranks: np.ndarray | None = None) -> dict[str, Any]:
    """Return the record of a source; a control has no standing and no ranks."""
    return {
        **vars(row),
        "mean_rank": standing.mean_rank if standing else None,
        "p_value_to_first": standing.p_value if standing else None,
        "letters": standing.letters if standing else "",
        "ranks": ranks,
    }


def _measure_record(measure: Measure, n_sources: int) -> dict[str, Any]:
    """Return the record of a measure, with the mean ranks and the letters of the sources by it."""
    ranks = ranks_of(measure.values[:n_sources], measure.higher_is_better)
    order, standings = compare_over_targets([""] * n_sources, ranks)
    by_row = dict(zip(order, standings, strict=True))
    return {
        "id": measure.name,
        "label": measure_label(measure.name),
        "higher_is_better": measure.higher_is_better,
        "values": measure.values,
        "intervals": measure.intervals,
        "best_group": measure.similar,
        "mean_ranks": [by_row[row].mean_rank for row in range(n_sources)],
        "letters": [by_row[row].letters for row in range(n_sources)],
    }


def to_latex(matrix: Matrix) -> str:
    """Return the scores with the mean ranks as a table for LaTeX with booktabs; a star marks the best of a column."""
    rows = [
        [
            standing.source,
            f"{standing.mean_rank:.1f}",
            standing.letters,
            *(_cell(value, best) for value, best in zip(matrix.values[number], matrix.best[number], strict=True)),
        ]
        for number, standing in enumerate(matrix.standings)
    ]
    names = [column.name for column in matrix.columns]
    table = Table(["source", "mean rank", "letters", *names], rows)
    return latex_table(table, f"{headline(judge_matrix(matrix))} {score_note(matrix)}", "matrix") + "\n"


def _cell(value: float, best: bool) -> str:
    return "" if np.isnan(value) else f"{format_value(float(value))}{'*' if best else ''}"
