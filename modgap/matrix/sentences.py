"""Sentences of a matrix, all made from its verdict: headline, two confidences and checks."""

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from modgap.answers import FAIL, INFO, PASS, WARN, Answer, Verdict
from modgap.formatting import count, visible_name
from modgap.matrix.verdict import MatrixVerdict
from modgap.ranking.check_sentences import join_names, score_label
from modgap.ranking.recommendation import CLEAR, DOUBTFUL, LIKELY, NO, NONE, SINGLE, TIE, UNKNOWN

__all__ = ["TITLE", "check_statements", "choice_statement", "headline", "help_statement", "verdict_answer"]

TITLE = "Which sources suit these targets?"
WHICH = "Which source is best overall?"
HELPS = "Does pretraining help?"
CHOICE_LABELS = {
    CLEAR: ("Clear", PASS),
    TIE: ("First, with ties", WARN),
    UNKNOWN: ("Unknown", INFO),
    SINGLE: ("One source", INFO),
    NONE: ("No value", FAIL),
}
MOST_FAVORITES = 3


def verdict_answer(verdict: MatrixVerdict) -> Answer:
    """Return the answer that a verdict gives, without facts, tables and notes."""
    return Answer(
        question=TITLE,
        facts=(),
        headline=headline(verdict),
        verdicts=(choice_statement(verdict), help_statement(verdict)),
        checks=tuple(check_statements(verdict)),
    )


def headline(verdict: MatrixVerdict) -> str:
    """Return the headline, which depends on the choice and on the number of targets where the first is among the best.

    Args:
        verdict: The verdict.
    """
    if verdict.choice == NONE:
        return "No source has a value."
    if verdict.help.get(NO, 0) == verdict.targets:
        return "By the score, random weights are better on every target: compare with models trained from scratch."
    first = join_names(verdict.first)
    if verdict.choice == SINGLE:
        return f"{first} is the only source."
    if verdict.ahead:
        verb = "is" if len(verdict.ahead) == 1 else "are"
        others = f"{join_names(verdict.ahead)} {verb} better on most"
        return f"No single source suits all targets: {others}, but {first} has the lowest mean rank."
    if verdict.choice == CLEAR:
        return f"Over these targets, {first} is significantly better than each other source{_by_score(verdict)}."
    if len(verdict.first) > 1:
        return f"No source stands out: {first} share the lowest mean rank."
    if verdict.among_best == verdict.targets == verdict.compared:
        use = f"Start with {first}" if verdict.help.get(LIKELY) else f"If you transfer, use {first}"
        return f"{use}: no source is significantly better on any of the {verdict.targets} targets."
    if verdict.choice == UNKNOWN:
        return f"{first} has the lowest mean rank, but it is not known how certain that is."
    return f"No single source suits all targets; {first} has the lowest mean rank."


def _by_score(verdict: MatrixVerdict) -> str:
    """Return the scores that the answer comes from, which no other scores have to agree with."""
    scope = next((check for check in verdict.checks if check.id == "scope"), None)
    return f" by {join_names([score_label(name) for name in scope.values['scores']])}" if scope else ""


def choice_statement(verdict: MatrixVerdict) -> Verdict:
    """Return the answer to the question of which source is best over all targets."""
    label, status = CHOICE_LABELS[verdict.choice]
    return Verdict(WHICH, label, status, " ".join(_choice_sentences(verdict)))


def _choice_sentences(verdict: MatrixVerdict) -> list[str]:
    if verdict.choice == NONE or verdict.mean_rank is None:
        return ["No source has a value."]
    verb = "has" if len(verdict.first) == 1 else "have"
    start = f"{join_names(verdict.first)} {verb} the lowest mean rank, {verdict.mean_rank:.1f} of {verdict.sources}"
    if verdict.choice == SINGLE:
        return ["There is no other source to compare it with."]
    sentences = [f"{start}."]
    if verdict.choice == TIE:
        sentences = [f"{start}.", *_ties(verdict)]
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


def _ties(verdict: MatrixVerdict) -> list[str]:
    sentences = []
    if verdict.tied:
        sentences.append(f"It is not significantly better than {join_names(verdict.tied)}.")
    if verdict.ahead:
        verb = "is" if len(verdict.ahead) == 1 else "are"
        sentences.append(f"{join_names(verdict.ahead)} {verb} better on significantly more targets.")
    return sentences


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
    elif not likely:
        label, status = ("Not shown", FAIL if no else WARN)
    parts = [
        (likely, "the first source is significantly better than its random-weights control, and than raw "
         "values where these were compared"),
        (doubtful, "it is doubtful: the control, the raw values or the largest class does as well"),
        (no, "the control is significantly better"),
        (unknown, "it is not known, because there is no control or no interval"),
    ]  # fmt: skip
    texts = [f"on {count(number, 'target')} {text}" for number, text in parts if number]
    joined = "; ".join(texts)
    return Verdict(HELPS, label, status, f"{joined[:1].upper()}{joined[1:]}.")


def check_statements(verdict: MatrixVerdict) -> list[Verdict]:
    """Return the checks with their sentences, failed ones first."""
    return [Verdict(TITLES[check.id], "", check.status, TEXTS[check.id](check.values)) for check in verdict.checks]


def _short(targets: list[str]) -> str:
    return join_names([PurePath(target).name or target for target in targets])


def _scope(values: Mapping[str, Any]) -> str:
    """Return the names of the scores, and the split of the samples if it is known."""
    scores = join_names([score_label(name) for name in values["scores"]])
    return f"{scores}; {values['split']} of the samples" if values.get("split") else scores


def _separation(values: Mapping[str, Any]) -> str:
    if not values["targets"]:
        return "On every target, at most half of the sources are as good as the first."
    return (
        f"On {_short(values['targets'])}, more than half of the sources are not significantly different from the best."
    )


TITLES = {
    "missing-jobs": "Unfinished",
    "failed-jobs": "Failed jobs",
    "failed-targets": "Targets without a source",
    "absent-results": "Absent results",
    "unreadable-targets": "Targets that cannot be read",
    "few-targets": "Few targets",
    "incomplete-sources": "Missing values",
    "targets-that-do-not-separate": "Targets that do not separate",
    "scope": "Scope",
}
TEXTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing-jobs": lambda values: (
        f"Not in the cache: {count(values['jobs'], 'job')}. To compute what is absent, run the command without "
        "--cached."
    ),
    "failed-jobs": lambda values: (
        f"{count(values['jobs'], 'job')} failed. To repeat what failed, run the command again."
        + (f" The first reason: {values['reason']}" if values.get("reason") else "")
    ),
    "failed-targets": lambda values: f"On {_short(values['targets'])} all sources failed, so there is no column.",
    "absent-results": lambda values: f"The outputs of {count(values['jobs'], 'finished job')} were not in the cache.",
    "unreadable-targets": lambda values: (
        f"{_short(values['targets'])} cannot be ranked. The first reason: {values['reason']}"
    ),
    "few-targets": lambda values: (
        f"No difference over targets can be significant: {_targets_needed(values['needed'], values['targets'])}."
    ),
    "incomplete-sources": lambda values: (
        f"Without a value on some targets: {join_names(values['sources'])}. There, the mean of the ranks that are left "
        "counts, and differences are not tested."
    ),
    "targets-that-do-not-separate": _separation,
    "scope": lambda values: (
        f"The values ({_scope(values)}) are estimates without fine-tuning, not errors of fine-tuned models."
    ),
}
