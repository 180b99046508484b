"""The answer of a matrix: which sources suit its targets, on how many transfer helps, checks, and its table."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from modgap.answers import FAIL, INFO, PASS, WARN, Answer, Table, Verdict
from modgap.answers.answer import ORDER
from modgap.answers.formatting import format_value
from modgap.errors import count, visible_name
from modgap.forward.sample_request import SampleRequest
from modgap.ranking.check_sentences import CheckTexts, Values, check_verdict, join_names, score_label
from modgap.ranking.checks import Check
from modgap.ranking.judgment import CLEAR, DOUBTFUL, LIKELY, NO, NONE, SINGLE, TIE, UNKNOWN
from modgap.ranking.matrix.over_targets import targets_needed
from modgap.ranking.matrix.result import DECIDING, Matrix
from modgap.ranking.scores import get_score
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL
from modgap.storage.json_records import plain_values

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
        return dict(plain_values(asdict(self)))


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
        checks=tuple(sorted(_checks(matrix), key=lambda check: ORDER.index(check.status))),
    )


def _compared(matrix: Matrix) -> np.ndarray:
    """Return True for the targets on which differences between sources could be tested, shape (T,)."""
    return np.array([column.choice != UNKNOWN for column in matrix.columns], bool)


def _needed(matrix: Matrix) -> int:
    """Return the number of targets from which the sources with all values, at least two, can differ significantly."""
    complete = sum(one.n_targets == len(matrix.columns) for one in matrix.standings)
    return targets_needed(max(2, complete)) if len(matrix.standings) > 1 else 1


def _is_tied(p_value: float | None) -> bool:
    return p_value is not None and p_value > SIGNIFICANCE_LEVEL


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
    samples = matrix.request.get("samples")
    split = SampleRequest(samples["split"]).split_label if samples else None
    yield Check("scope", INFO, {"scores": scores, "split": split})


TITLE = "Which sources suit these targets?"
WHICH = "Which source is best overall?"
HELPS = "Does a transfer help?"
CHOICE_LABELS = {
    CLEAR: ("Clear", PASS),
    TIE: ("First, with ties", WARN),
    UNKNOWN: ("Unknown", INFO),
    SINGLE: ("One source", INFO),
    NONE: ("No value", FAIL),
}
MOST_FAVORITES = 3


def headline(verdict: MatrixVerdict) -> str:
    """Return the headline, which depends on the choice and on the number of targets where the first is among the best.

    Args:
        verdict: The verdict.
    """
    if verdict.choice == NONE:
        return "No source has a value."
    if verdict.help.get(NO, 0) == verdict.targets:
        return "Random weights or a baseline of the field are better on every target: compare with these first."
    first = join_names(verdict.first)
    if verdict.choice == SINGLE:
        return f"{first} is the only source."
    if verdict.ahead:
        verb = "is" if len(verdict.ahead) == 1 else "are"
        others = f"{join_names(verdict.ahead)} {verb} better on most"
        return f"No single source suits all targets: {others}, but {first} has the lowest mean rank."
    if verdict.choice == CLEAR:
        # No other scores have to agree with those that the answer comes from.
        scope = next((check for check in verdict.checks if check.id == "scope"), None)
        by = f" by {join_names([score_label(name) for name in scope.values['scores']])}" if scope else ""
        return f"Over these targets, {first} is significantly better than each other source{by}."
    if len(verdict.first) > 1:
        return f"No source stands out: {first} share the lowest mean rank."
    if verdict.among_best == verdict.targets == verdict.compared:
        use = f"Start with {first}" if verdict.help.get(LIKELY) else f"If you transfer, use {first}"
        return f"{use}: no other source is significantly better on any of the {verdict.targets} targets."
    if verdict.choice == UNKNOWN:
        return f"{first} has the lowest mean rank, but it is not known how certain that is."
    return f"No single source suits all targets; {first} has the lowest mean rank."


def choice_statement(verdict: MatrixVerdict) -> Verdict:
    """Return the answer to the question of which source is best over all targets."""
    return Verdict(WHICH, *CHOICE_LABELS[verdict.choice], " ".join(_choice_sentences(verdict)))


def _choice_sentences(verdict: MatrixVerdict) -> list[str]:
    if verdict.choice == NONE or verdict.mean_rank is None:
        return ["No source has a value."]
    verb = "has" if len(verdict.first) == 1 else "have"
    start = f"{join_names(verdict.first)} {verb} the lowest mean rank, {verdict.mean_rank:.1f} of {verdict.sources}"
    if verdict.choice == SINGLE:
        return ["There is no other source to compare it with."]
    sentences = [f"{start}."]
    if verdict.choice == TIE and verdict.tied:
        sentences.append(f"It is not significantly better than {join_names(verdict.tied)}.")
    if verdict.choice == TIE and verdict.ahead:
        verb = "is" if len(verdict.ahead) == 1 else "are"
        sentences.append(f"{join_names(verdict.ahead)} {verb} better on significantly more targets.")
    if verdict.choice == UNKNOWN and verdict.targets < verdict.needed:
        sentences.append(f"It is unknown how certain that is: {_targets_needed(verdict.needed, verdict.targets)}.")
    elif verdict.choice in (UNKNOWN, TIE) and verdict.untested:
        sentences.append(
            f"It is unknown whether it is better than {join_names(verdict.untested)}, because values are missing, or "
            "equal, on too many targets."
        )
    if verdict.choice == CLEAR:
        sentences = [f"{start}, and is significantly better than each of the others."]
    if verdict.compared:
        among = f"is among the best on {verdict.among_best} of {count(verdict.compared, 'target')}"
        where = "" if verdict.compared == verdict.targets else " whose sources have intervals"
        sentences.append(f"{visible_name(verdict.first[0])} {among}{where}.")
    names = [f"{visible_name(name)} on {number}" for name, number in verdict.favorites[:MOST_FAVORITES]]
    others = len(verdict.favorites) - MOST_FAVORITES
    more = f", and {count(others, 'other source')}" if others > 0 else ""
    return [*sentences, f"First on a target: {', '.join(names)}{more}."]


def _targets_needed(needed: int, targets: int) -> str:
    verb = "is" if targets == 1 else "are"
    return f"{needed} targets are needed for so many sources, and there {verb} {targets}"


def help_statement(verdict: MatrixVerdict) -> Verdict:
    """Return the answer to the question of whether pretraining helps, from the rankings of the targets."""
    likely, no = verdict.help.get(LIKELY, 0), verdict.help.get(NO, 0)
    doubtful = verdict.help.get(DOUBTFUL, 0)
    unknown = verdict.targets - likely - no - doubtful
    label, status = ("On some targets", WARN)
    if unknown == verdict.targets:
        label, status = ("Not tested", INFO)
    elif 2 * likely > verdict.targets:
        label, status = ("By scores, on most targets", INFO)
    elif 2 * no > verdict.targets:
        label, status = ("No, on most targets", FAIL)
    elif not likely:
        label, status = ("Not shown", WARN)
    parts = [
        (likely, "the first source is significantly better than its random-weights control, and where baselines of "
         "the field were compared, the best linear probe than the best of them"),
        (doubtful, "it is doubtful: the control, a baseline or the largest class does as well"),
        (no, "the control or a baseline is significantly better"),
        (unknown, "it is not known, because there is no control or no interval"),
    ]  # fmt: skip
    texts = [f"on {count(number, 'target')} {text}" for number, text in parts if number]
    joined = "; ".join(texts)
    return Verdict(HELPS, label, status, f"{joined[:1].upper()}{joined[1:]}.")


def _short(targets: list[str]) -> str:
    return join_names([PurePath(target).name or target for target in targets])


def _scope(values: Values) -> str:
    scores = join_names([score_label(name) for name in values["scores"]])
    split = f"; {values['split']} of the samples" if values.get("split") else ""
    return f"The values ({scores}{split}) are estimates without fine-tuning, not errors of fine-tuned models."


def _separation(values: Values) -> str:
    if not values["targets"]:
        return "On every target, at most half of the sources are as good as the first."
    return (
        f"On {_short(values['targets'])}, more than half of the sources are not significantly different from the best."
    )


CHECKS: CheckTexts = {
    "failed-jobs": (
        "Failed jobs",
        lambda values: (
            f"{count(values['jobs'], 'job')} failed. To repeat what failed, run the command again."
            + (f" The first reason: {values['reason']}" if values.get("reason") else "")
        ),
    ),
    "failed-targets": (
        "Targets without a source",
        lambda values: f"On {_short(values['targets'])} all sources failed, so there is no column.",
    ),
    "unreadable-targets": (
        "Targets that cannot be read",
        lambda values: f"{_short(values['targets'])} cannot be ranked. The first reason: {values['reason']}",
    ),
    "few-targets": (
        "Few targets",
        lambda values: (
            f"No difference over targets can be significant: {_targets_needed(values['needed'], values['targets'])}."
        ),
    ),
    "incomplete-sources": (
        "Missing values",
        lambda values: (
            f"Without a value on some targets: {join_names(values['sources'])}. There, the mean of the ranks that are "
            "left counts, and differences are not tested."
        ),
    ),
    "targets-that-do-not-separate": ("Targets that do not separate", _separation),
    "scope": ("Scope", _scope),
}
"""Title of each check, and its sentence as a function of the values of the check."""


MOST_COLUMNS = 8
"""Most targets whose scores are in the table; files have all of them."""


def matrix_answer(matrix: Matrix) -> Answer:
    """Return the answer of a matrix."""
    n_controls, verdict = len(matrix.rows) - len(matrix.standings), judge_matrix(matrix)
    return Answer(
        question=TITLE,
        facts=(
            count(len(matrix.standings), "source"),
            *([count(n_controls, "random-weights control")] if n_controls else []),
            count(len(matrix.columns), "target"),
            f"ranked by {measure_label(matrix.first_measure.name)}",
        ),
        headline=headline(verdict),
        verdicts=(choice_statement(verdict), help_statement(verdict)),
        checks=tuple(check_verdict(check, CHECKS) for check in verdict.checks),
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
            *([standing.letters, "" if standing.p_value is None else f"{standing.p_value:.3f}"] if is_tested else []),
            *(cell_text(matrix, number, column) for column in range(len(targets))),
        ]
        for number, standing in enumerate(matrix.standings)
    ]
    return Table(["source", "mean rank", *(["letters", "p to first"] if is_tested else []), *targets], rows)


def cell_text(matrix: Matrix, number: int, column: int, missing: str = "-") -> str:
    """Return the value of a source on a target, with a star if it is among the best."""
    value = float(matrix.values[number, column])
    return missing if math.isnan(value) else f"{format_value(value)}{'*' if matrix.best[number, column] else ''}"
