"""The matrix as CSV, JSON and LaTeX, in a result folder, and as the public function returns it."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.answers import Answer, Answered, Table
from modgap.answers.formatting import csv_text, plain_text
from modgap.answers.latex import latex_table
from modgap.ranking.matrix.answer import cell_text, judge_matrix, matrix_answer, measure_label, score_note
from modgap.ranking.matrix.over_targets import compare_over_targets, ranks_of
from modgap.ranking.matrix.result import Matrix, Measure, Row, Standing
from modgap.ranking.report import RECORD as RANKING_RECORD
from modgap.ranking.report import RankingResult
from modgap.statistics.sample_file import SAMPLES_FILE
from modgap.storage.algorithms import installed_version
from modgap.storage.atomic_files import write_texts, writing
from modgap.storage.json_records import format_json, plain_values, with_digest

if TYPE_CHECKING:
    import pandas as pd

RECORD = "matrix.json"
SCHEMA = 2
LONGEST_NAME = 60
"""Most characters of the name of a target in that of its folder."""


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


def to_latex(matrix: "MatrixResult") -> str:
    """Return the scores with the mean ranks as a table for LaTeX with booktabs; a star marks the best of a column."""
    rows = [
        [
            standing.source,
            f"{standing.mean_rank:.1f}",
            standing.letters,
            *(cell_text(matrix, number, column, "") for column in range(len(matrix.columns))),
        ]
        for number, standing in enumerate(matrix.standings)
    ]
    names = [column.name for column in matrix.columns]
    table = Table(["source", "mean rank", "letters", *names], rows)
    return latex_table(table, f"{matrix.answer.headline} {score_note(matrix)}", "matrix") + "\n"


@dataclass(frozen=True, repr=False)
class MatrixResult(Answered, Matrix):
    """Sources ranked for several targets, as `modgap.rank` returns them.

    `print(matrix)` shows the answer and the table of the command. The attributes are those of
    `modgap.ranking.matrix.result.Matrix`, and the ranking of each target.

    Attributes:
        rankings: Ranking of each target by its name or absolute path.
    """

    rankings: Mapping[str, RankingResult] = field(default_factory=dict)

    @cached_property
    def answer(self) -> Answer:
        """The answer, with its verdicts, checks and table."""
        return matrix_answer(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values."""
        n_sources = len(self.standings)
        record = {
            "schema": SCHEMA,
            "kind": "matrix",
            "verdict": judge_matrix(self).to_dict(),
            "answer": self.answer.to_dict(),
            "targets": [vars(column) for column in self.columns],
            "sources": [
                *map(_source_record, self.rows, self.standings, self.ranks),
                *(_source_record(row) for row in self.rows[n_sources:]),
            ],
            "measures": [_measure_record(measure, n_sources) for measure in self.measures.values()],
            "agreement": [vars(one) for one in self.agreement],
            "reasons": [
                {"source": source, "target": target, "reason": reason}
                for (source, target), reason in self.reasons.items()
            ],
            "failed_jobs": self.failed,
            "request": self.request,
            "options": self.options,
            "provenance": {"modgap": installed_version()},
        }
        return dict(plain_values(record))

    def to_frame(self) -> "pd.DataFrame":
        """Return a data frame with one row per source and the columns of matrix.csv."""
        import pandas as pd

        return pd.read_csv(io.StringIO(to_csv(self)), converters={"source": plain_text})


def write_results(matrix: MatrixResult, targets: Sequence[str], folder: Path) -> list[Path]:
    """Write matrix.json, matrix.csv and matrix.tex, and each ranking to a folder of its own.

    Args:
        matrix: The matrix.
        targets: Names of all requested targets, whose order numbers the folders.
        folder: An existing folder.

    Returns:
        Paths of the written files.

    Raises:
        InputError: If a file cannot be written.
    """
    record = with_digest(format_json(matrix.to_dict()))
    with writing(folder):
        # Files of an earlier ranking of one target would be read as parts of this one.
        for name in (SAMPLES_FILE, RANKING_RECORD):
            (folder / name).unlink(missing_ok=True)
        written = write_texts(folder, {RECORD: record, "matrix.csv": to_csv(matrix), "matrix.tex": to_latex(matrix)})
        for number, target in enumerate(targets, start=1):
            if target not in matrix.rankings:
                continue
            # The last part of a target's name or path in letters that every file system has.
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(target).name)[:LONGEST_NAME].strip("-.") or "target"
            subfolder = folder / f"{number:03}-{name}"
            subfolder.mkdir(exist_ok=True)
            written += matrix.rankings[target].write(subfolder)
    return written
