"""Verdict of a matrix: how clear the first source is over the targets, on how many transfer helps, and checks."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modgap.answers import INFO, PASS, WARN
from modgap.forward.sample_request import SampleRequest
from modgap.matrix.comparison import targets_needed
from modgap.matrix.result import Matrix
from modgap.ranking.checks import Check
from modgap.ranking.recommendation import CLEAR, NONE, SINGLE, TIE, UNKNOWN
from modgap.ranking.standings import SIGNIFICANCE
from modgap.storage.json_records import plain_values

__all__ = ["MatrixVerdict", "judge_matrix"]

MOST_SIMILAR = 0.5
"""A target does not separate the sources if more than this share of them is not different from its first."""


@dataclass(frozen=True)
class MatrixVerdict:
    """Verdict of a matrix, from which the terminal, the page and the record make all their sentences.

    Attributes:
        choice: `clear` (the first source is significantly better than each other over the targets), `tie`, `unknown`
            (there are too few targets, or it or another source lacks values), `single` (there is one source) or `none`
            (no source has a value).
        help: Number of targets by the answer of their ranking to whether transfer helps at all.
        first: Names of the sources with the lowest mean rank.
        mean_rank: This mean rank. None without a value.
        sources: Number of sources.
        targets: Number of targets.
        compared: Number of targets on which differences between sources could be tested.
        among_best: Number of these on which the first source is not significantly different from the best.
        tied: Names of the sources that are not significantly different from the first over the targets, by mean rank.
        ahead: Names of the sources that are significantly better than the first over the targets, because they are
            better on most of them, although their mean rank is higher.
        untested: Names of the sources whose comparison with the first is unknown: they lack values, or differ from it
            on too few targets.
        needed: Number of targets from which the sources can differ significantly.
        favorites: Names of the sources that are first on a target, and on how many, most frequent first.
        checks: The checks, failed ones first.
    """

    choice: str
    help: Mapping[str, int]
    first: tuple[str, ...]
    mean_rank: float | None
    sources: int
    targets: int
    compared: int
    among_best: int
    tied: tuple[str, ...]
    ahead: tuple[str, ...]
    untested: tuple[str, ...]
    favorites: tuple[tuple[str, int], ...]
    needed: int
    checks: tuple[Check, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values for the record of the matrix."""
        record: dict[str, Any] = plain_values(asdict(self))
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "MatrixVerdict":
        """Return the verdict that `to_dict` made a record of. Unknown fields are ignored."""
        return cls(
            choice=record["choice"],
            help=dict(record["help"]),
            first=tuple(record["first"]),
            mean_rank=record["mean_rank"],
            sources=record["sources"],
            targets=record["targets"],
            compared=record.get("compared", record["targets"]),
            among_best=record["among_best"],
            tied=tuple(record["tied"]),
            ahead=tuple(record.get("ahead", ())),
            untested=tuple(record.get("untested", ())),
            favorites=tuple((name, number) for name, number in record["favorites"]),
            needed=record.get("needed", targets_needed(record["sources"])),
            checks=tuple(Check(check["id"], check["status"], check["values"]) for check in record["checks"]),
        )


def judge_matrix(matrix: Matrix) -> MatrixVerdict:
    """Judge how clear the first source of a matrix is, and on how many targets transfer helps."""
    lowest = matrix.standings[0].mean_rank
    has_values = bool(np.isfinite(matrix.values).any())
    first = tuple(one.source for one in matrix.standings if one.mean_rank == lowest) if has_values else ()
    firsts = Counter(
        matrix.standings[row].source
        for ranks in matrix.ranks.T
        if np.isfinite(ranks).any()
        for row in np.flatnonzero(ranks == np.nanmin(ranks))
    )
    compared = _compared(matrix)
    order = {"pass": 3, "info": 2, "warn": 1, "fail": 0}
    return MatrixVerdict(
        choice=_choice(matrix, has_values=has_values),
        help=dict(Counter(column.help for column in matrix.columns)),
        first=first,
        mean_rank=lowest if has_values else None,
        sources=len(matrix.standings),
        targets=len(matrix.columns),
        compared=int(compared.sum()),
        among_best=int(matrix.best[0, compared].sum()),
        tied=tuple(one.source for one in matrix.standings[1:] if _is_tied(one.p_value)),
        ahead=tuple(one.source for one in matrix.standings if one.is_ahead),
        untested=tuple(one.source for one in matrix.standings[1:] if one.p_value is None and one.n_targets),
        favorites=tuple(firsts.most_common()),
        needed=_needed(matrix),
        checks=tuple(sorted(_checks(matrix), key=lambda check: order[check.status])),
    )


def _compared(matrix: Matrix) -> np.ndarray:
    """Return True for the targets on which differences between sources could be tested, shape (T,)."""
    return np.array([column.choice != UNKNOWN for column in matrix.columns], bool)


def _split_label(matrix: Matrix) -> str | None:
    """Return the split of the samples in a few words. None if the matrix has no record of them."""
    samples = matrix.request.get("samples")
    return SampleRequest(samples["split"]).split_label if samples else None


def _needed(matrix: Matrix) -> int:
    """Return the number of targets from which the sources with all values, at least two, can differ significantly."""
    complete = sum(one.n_targets == len(matrix.columns) for one in matrix.standings)
    return targets_needed(max(2, complete)) if len(matrix.standings) > 1 else 1


def _is_tied(p_value: float | None) -> bool:
    return p_value is not None and p_value > SIGNIFICANCE


def _choice(matrix: Matrix, *, has_values: bool) -> str:
    if not has_values:
        return NONE
    if len(matrix.standings) == 1:
        return SINGLE
    rivals = [one for one in matrix.standings[1:] if one.n_targets]
    if any(one.is_ahead or _is_tied(one.p_value) for one in rivals):
        return TIE
    return UNKNOWN if not rivals or any(one.p_value is None for one in rivals) else CLEAR


def _checks(matrix: Matrix) -> Iterator[Check]:
    if matrix.missing:
        yield Check("missing-jobs", WARN, {"jobs": matrix.missing})
    if matrix.failed:
        yield Check("failed-jobs", WARN, {"jobs": matrix.failed, "reason": matrix.failure})
    if matrix.unreadable:
        reason = next(iter(matrix.unreadable.values()))
        yield Check("unreadable-targets", WARN, {"targets": list(matrix.unreadable), "reason": reason})
    if matrix.without_source:
        yield Check("failed-targets", WARN, {"targets": list(matrix.without_source)})
    n_targets = len(matrix.columns)
    needed = _needed(matrix)
    if n_targets < needed:
        yield Check("few-targets", WARN, {"targets": n_targets, "needed": needed, "sources": len(matrix.standings)})
    incomplete = [one.source for one in matrix.standings if one.n_targets < n_targets]
    if incomplete:
        yield Check("incomplete-sources", INFO, {"sources": incomplete, "targets": n_targets})
    if len(matrix.standings) > 2:
        compared = _compared(matrix)
        n_known = np.isfinite(matrix.values).sum(axis=0)
        is_unclear = (matrix.best.sum(axis=0) > MOST_SIMILAR * n_known) & (n_known > 1) & compared
        unclear = [column.name for column, one in zip(matrix.columns, is_unclear, strict=True) if one]
        if unclear or compared.all():
            status = WARN if unclear else PASS
            yield Check("targets-that-do-not-separate", status, {"targets": unclear, "of": n_targets})
    scores = list(dict.fromkeys(column.score for column in matrix.columns))
    yield Check("scope", INFO, {"scores": scores, "split": _split_label(matrix)})
