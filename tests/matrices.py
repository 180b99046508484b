"""A matrix made from values, and the files of one."""

from pathlib import Path

import numpy as np

from modgap.ranking.matrix.formats import MatrixResult
from modgap.ranking.matrix.over_targets import compare_over_targets, compare_scores, ranks_of
from modgap.ranking.matrix.result import Column, Measure, Row

KINDS = ("image", "text", "audio", "series")


def make_measure(name, values, *, higher_is_better=True, margin=0.3):
    values = np.asarray(values, float)
    better = np.where(np.isfinite(values), values if higher_is_better else -values, -np.inf)
    return Measure(
        name,
        np.full(values.shape[1], higher_is_better),
        values,
        np.stack([values - 0.1, values + 0.1], axis=2),
        np.isfinite(values) & (better > better.max(axis=0) - margin),
    )


def make_matrix(measures, names, targets, n_sources=None, reasons=None, failed=0, help_="likely"):
    """Rows after the first n_sources are controls; the sources are put into the order of their mean ranks."""
    deciding, *others = measures
    n_sources = n_sources or len(names)
    ranks = ranks_of(deciding.values[:n_sources], deciding.higher_is_better)
    order, standings = compare_over_targets(names[:n_sources], ranks)
    rows = [*order, *range(n_sources, len(names))]
    kinds = ["source"] * n_sources + ["random-weights control"] * (len(names) - n_sources)
    return MatrixResult(
        tuple(Row(names[i], kinds[i], KINDS[i % 4], 3 * 10 ** (5 + i % 4)) for i in rows),
        tuple(Column(name, KINDS[i % 4], 300 + i, deciding.name, "tie", help_) for i, name in enumerate(targets)),
        {
            one.name: Measure(one.name, one.higher_is_better, one.values[rows], one.intervals[rows], one.similar[rows])
            for one in measures
        },
        ranks[order],
        standings,
        compare_scores(deciding, others, n_sources),
        reasons or {},
        failed,
        {"seed": 0},
    )


def file_contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a folder by their names."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
