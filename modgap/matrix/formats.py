"""The matrix as CSV, JSON and LaTeX."""

import csv
import io

import numpy as np

from modgap.comparison.latex import latex_table
from modgap.comparison.summary import TextTable
from modgap.formatting import count, format_value, spreadsheet_text
from modgap.matrix.result import MIN_TARGETS, Matrix
from modgap.ranking.check_sentences import join_names
from modgap.ranking.scores import get_score
from modgap.storage.json_records import format_json, plain_values

__all__ = ["describe", "score_note", "to_csv", "to_json", "to_latex"]

SCHEMA = 1


def describe(matrix: Matrix) -> str:
    """Return what the ranks say, in sentences."""
    first = matrix.standings[0]
    equal = [one.source for one in matrix.standings if one.mean_rank == first.mean_rank]
    verb = "has" if len(equal) == 1 else "have"
    start = f"{join_names(equal)} {verb} the lowest mean rank, {first.mean_rank:.1f} of {len(matrix.sources)}"
    if len(matrix.targets) < MIN_TARGETS:
        return f"{start}. Differences are tested from {MIN_TARGETS} targets on; there are {len(matrix.targets)}."
    tested = [one for one in matrix.standings[1:] if one.p_value is not None]
    similar = [one for one in tested if one.p_value is not None and one.p_value >= 0.05]
    if not tested:
        return f"{start}. It lacks a value on some targets, so differences are not tested."
    if not similar:
        return f"{start}, and is significantly better than each of {count(len(tested), 'other source')}."
    return f"{start}. It is not significantly better than {len(similar)} of {count(len(tested), 'other source')}."


def score_note(matrix: Matrix) -> str:
    """Return which scores the values are, and what the star means."""
    names = dict.fromkeys(matrix.scores)
    scores = " and ".join(f"{name} ({get_score(name).direction})" for name in names)
    return f"The values are {scores}. A star marks sources that are not significantly different from the first."


def to_csv(matrix: Matrix) -> str:
    """Return a row for each source: its standing, its scores and its ranks."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [spreadsheet_text(target) for target in matrix.targets]
    writer.writerow(
        ["source", "mean_rank", "targets", "p_value_to_first", "letters", *names, *(f"rank {name}" for name in names)]
    )
    for number, standing in enumerate(matrix.standings):
        writer.writerow(
            [
                spreadsheet_text(standing.source),
                f"{standing.mean_rank:.4g}",
                standing.n_targets,
                "" if standing.p_value is None else f"{standing.p_value:.4g}",
                standing.letters,
                *("" if np.isnan(value) else repr(float(value)) for value in matrix.values[number]),
                *("" if np.isnan(rank) else f"{rank:g}" for rank in matrix.ranks[number]),
            ]
        )
    return stream.getvalue()


def to_json(matrix: Matrix) -> str:
    """Return the record of a matrix."""
    record = {
        "schema": SCHEMA,
        "kind": "matrix",
        "targets": [{"name": name, "score": score} for name, score in zip(matrix.targets, matrix.scores, strict=True)],
        "sources": [
            {
                "name": standing.source,
                "mean_rank": standing.mean_rank,
                "p_value_to_first": standing.p_value,
                "letters": standing.letters,
                "values": matrix.values[number],
                "ranks": matrix.ranks[number],
                "not_different_from_first": matrix.best[number],
            }
            for number, standing in enumerate(matrix.standings)
        ],
        "reasons": [
            {"source": source, "target": target, "reason": reason}
            for (source, target), reason in matrix.reasons.items()
        ],
        "missing_jobs": matrix.missing,
        "request": matrix.request,
    }
    return format_json(plain_values(record))


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
    table = TextTable(["source", "mean rank", "letters", *matrix.targets], rows)
    return latex_table(table, f"{describe(matrix)} {score_note(matrix)}", "matrix") + "\n"


def _cell(value: float, best: bool) -> str:
    return "" if np.isnan(value) else f"{format_value(float(value))}{'*' if best else ''}"
