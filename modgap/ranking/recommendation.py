"""Sentences of a ranking, all made from its verdict: headline, two confidences, checks and next step."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from modgap.answers import Answer, Verdict
from modgap.formatting import visible_name
from modgap.ranking import verdict as v
from modgap.ranking.baseline_checks import CONTROL_BETTER, CONTROL_SIMILAR, CONTROL_WORSE, neighbors_result
from modgap.ranking.check_sentences import (
    CHECK_TEXTS,
    CHECK_TITLES,
    first_place,
    join_names,
    score_label,
    smallest_difference,
    value_with_interval,
)
from modgap.ranking.verdict import Judgment

__all__ = [
    "BY_SCORES",
    "CHOICE_LABELS",
    "HELP_LABELS",
    "check_statements",
    "choice_statement",
    "headline",
    "help_statement",
    "judgment_answer",
    "next_step",
    "target_question",
]

NEIGHBORS = "nearest neighbors of the raw values"
ONLY_FINE_TUNED = "the only source that was fine-tuned"
WHICH = "Which source is best?"
HELPS = "Does pretraining help?"
CHOICE_LABELS = {
    v.CLEAR: ("Clear", v.PASS),
    v.TIE: ("Tied", v.WARN),
    v.UNKNOWN: ("Unknown", v.INFO),
    v.SINGLE: ("One source", v.INFO),
    v.NONE: ("No value", v.FAIL),
}
HELP_LABELS = {
    v.LIKELY: ("Likely", v.PASS),
    v.DOUBTFUL: ("Doubtful", v.WARN),
    v.UNKNOWN: ("Unknown", v.INFO),
    v.NOT_TESTED: ("Not tested", v.INFO),
    v.NO: ("No", v.FAIL),
}
"""Label and status of each answer."""
BY_SCORES = ("By scores, yes", v.INFO)
"""Label and status of `likely` without a short fine-tuning: scores hardly tell it (docs/evidence.md)."""
FINE_TUNED_LABELS = {v.LIKELY: ("Shown", v.PASS), v.DOUBTFUL: ("Not shown", v.WARN)}
"""Labels and statuses after a short fine-tuning of the source and its control."""


def target_question(target: str | None) -> str:
    """Return the question of a ranking for a target.

    Args:
        target: Name of a target or path of custom data. None if no source could be run.
    """
    name = visible_name(PurePath(target).name or target) if target else "this target"
    return f"Which source should be transferred to {name}?"


def judgment_answer(verdict: Judgment, target: str | None = None) -> Answer:
    """Return the answer that a judgment gives, without facts, tables and notes.

    Args:
        verdict: The judgment.
        target: Name of the target or path of custom data. None if no source could be run.
    """
    return Answer(
        question=target_question(target),
        facts=(),
        headline=headline(verdict),
        verdicts=(choice_statement(verdict), help_statement(verdict)),
        checks=tuple(check_statements(verdict)),
        next_step=next_step(verdict),
        commands=tuple(shlex.join(command) for command in verdict.commands),
    )


def headline(verdict: Judgment) -> str:
    """Return the headline, which depends only on the choice, on whether transfer helps, and on what they come from.

    Scores do not choose reliably (docs/evidence.md), so that only a short fine-tuning says to transfer or not to.
    """
    if verdict.choice == v.NONE or verdict.first is None:
        return "No source has a value; the reasons are below."
    first = visible_name(verdict.first)
    neighbors = neighbors_result(verdict.check("raw-values"))
    if neighbors == CONTROL_BETTER and verdict.help != v.NO:
        return f"After a short fine-tuning, {NEIGHBORS} are better than {first}. See whether a longer one beats them."
    are_as_good = neighbors not in (None, CONTROL_WORSE)
    baseline = NEIGHBORS if are_as_good else "a model trained from scratch"
    if verdict.help == v.NO and verdict.is_fine_tuned:
        sources = "this source" if verdict.choice == v.SINGLE else "these sources"
        return f"Do not transfer from {sources}; train from scratch."
    if verdict.help == v.NO:
        score = score_label(verdict.by)
        return f"By {score}, random weights are better than {first}: compare it with a model trained from scratch."
    by = _decided_by(verdict)
    if verdict.choice == v.CLEAR:
        if verdict.help == v.LIKELY:
            return (
                f"Transfer from {first}."
                if verdict.is_fine_tuned
                else f"{by}, start with {first}{_agreement(verdict)}, and compare the next ones."
            )
        if are_as_good:
            return f"If you transfer, use {first}. It is not shown to beat {NEIGHBORS}."
        check = "First check that it beats training from scratch."
        if _by_fine_tuning(verdict):
            return f"If you transfer, use {first}. {check}"
        return (
            f"If you transfer, use {first}, which is first by {score_label(verdict.by)}{_agreement(verdict)}. {check}"
        )
    if verdict.choice == v.TIE and verdict.help == v.LIKELY:
        them = "both" if len(verdict.tied) == 1 else "them"
        return f"{by}, {join_names([verdict.first, *verdict.tied])} are tied: fine-tune {them} and compare."
    if verdict.choice == v.TIE:
        return f"{by}, no source stands out. Compare {first} with {baseline}."
    if verdict.choice == v.UNKNOWN:
        return f"{by}, {first} is first, but this run does not show how certain that is."
    if verdict.is_fine_tuned and verdict.help == v.LIKELY:
        return f"Transfer from {first}, the only source that was fine-tuned."
    only = "the only source with a value" if verdict.check("failed-sources") else "the only source"
    only = ONLY_FINE_TUNED if _by_fine_tuning(verdict) else only
    return f"{first} is {only}; compare it with {baseline}."


def _decided_by(verdict: Judgment) -> str:
    """Return the start of a headline that says what it comes from."""
    return "After a short fine-tuning" if _by_fine_tuning(verdict) else f"By {score_label(verdict.by)}"


def _agreement(verdict: Judgment) -> str:
    """Return how many other scores put the first source first, in parentheses; empty if there are none."""
    check = verdict.check("other-scores")
    if check is None:
        return ""
    verb = "puts" if check.values["agreeing"] == 1 else "put"
    return f" ({check.values['agreeing']} of {check.values['compared']} other scores {verb} it first)"


def _by_fine_tuning(verdict: Judgment) -> bool:
    check = verdict.check("other-sources")
    return check is not None and check.values["score"] == v.PILOT_NAME


def _is_judged_by_fine_tuning(verdict: Judgment) -> bool:
    """Return True if no score decides whether pretraining helps: the control, if there is one, was fine-tuned too."""
    control = verdict.check("control")
    return _by_fine_tuning(verdict) and (control is None or control.values["score"] == v.PILOT_NAME)


def choice_statement(verdict: Judgment) -> Verdict:
    """Return the answer to the question of which source is best."""
    label, status = CHOICE_LABELS[verdict.choice]
    check = verdict.check("other-sources")
    if verdict.choice == v.CLEAR and not _by_fine_tuning(verdict):
        others = verdict.check("other-scores")
        label = f"Clear by {score_label(verdict.by)}"
        status = v.PASS if others is None else others.status
    return Verdict(WHICH, label, status, _choice_text(verdict.choice, check.values) if check else _no_value(verdict))


def _no_value(verdict: Judgment) -> str:
    return f"No source has a value by {score_label(verdict.by)}."


def _choice_text(choice: str, values: Mapping[str, Any]) -> str:
    if choice == v.SINGLE:
        value = f"{score_label(values['score'])} {value_with_interval(values)}"
        only = ONLY_FINE_TUNED if values["score"] == v.PILOT_NAME else "the only source with a value"
        return f"{visible_name(values['first'])} is {only}, {value}."
    start = first_place(values)
    if values["equal"]:
        verb = "has" if len(values["equal"]) == 1 else "have"
        return f"{start}, and {join_names(values['equal'])} {verb} the same value."
    if choice == v.UNKNOWN:
        return f"{start}. It is not known whether the difference is significant, because {values['reason']}."
    if choice == v.TIE:
        names = join_names([entry["source"] for entry in values["tied"]])
        return f"{start}, but it is not significantly better than {names}.{smallest_difference(values)}"
    return CHECK_TEXTS["other-sources"](values)


def help_statement(verdict: Judgment) -> Verdict:
    """Return the answer to the question of whether pretraining helps."""
    label, status = HELP_LABELS[verdict.help]
    if _is_judged_by_fine_tuning(verdict):
        label, status = FINE_TUNED_LABELS.get(verdict.help, (label, status))
    elif verdict.help == v.LIKELY:
        label, status = BY_SCORES
    return Verdict(HELPS, label, status, " ".join(_help_sentences(verdict)))


def _help_sentences(verdict: Judgment) -> Iterator[str]:
    if verdict.first is None:
        yield "There is nothing to compare."
        return
    first = visible_name(verdict.first)
    control = verdict.check("control")
    score = score_label(control.values["score"] if control else verdict.by)
    if verdict.help == v.NO:
        yield f"The same architecture as {first} with random weights is significantly better by {score}."
        raw = verdict.check("raw-values")
        if raw is not None and raw.status == v.FAIL and neighbors_result(raw):
            yield _doubt_by_raw_values(raw.values)
    elif verdict.help == v.DOUBTFUL:
        yield from _doubts(verdict)
    elif verdict.help == v.NOT_TESTED:
        yield f"By {score}, {first} was not compared with the same architecture with random weights."
    elif verdict.help == v.UNKNOWN:
        yield (
            f"{first} is better than the same architecture with random weights, but without intervals it is not known "
            "whether the difference is significant."
        )
    else:
        than_neighbors = verdict.is_fine_tuned and neighbors_result(verdict.check("raw-values")) == CONTROL_WORSE
        neighbors = f", and than {NEIGHBORS}" if than_neighbors else ""
        yield (
            f"By {score}, {first} is significantly better than the same architecture with random weights{neighbors}."
        )


def _doubts(verdict: Judgment) -> Iterator[str]:
    """Yield one short sentence for each check that makes the help of a transfer doubtful."""
    failed = {check.id: check for check in verdict.checks if check.status in (v.FAIL, v.WARN)}
    if _is_judged_by_fine_tuning(verdict):
        # Scores decide nothing then.
        failed = {name: check for name, check in failed.items() if name in ("raw-values", "control")}
    if check := failed.get("raw-values"):
        yield _doubt_by_raw_values(check.values)
    if check := failed.get("control"):
        yield _doubt_by_control(check.values)
    if check := failed.get("majority-class"):
        yield f"The {score_label(check.values['score'])} is no better than always predicting the largest class."
    if check := failed.get("controls-above"):
        names = join_names([score_label(one["score"]) for one in check.values["above"]])
        yield f"By {names}, a random-weights control ranks above {visible_name(check.values['first'])}."
    check = failed.get("control-by-other-scores")
    if check and check.status == v.FAIL:
        yield "By most other scores, pretraining makes no significant difference."


def _doubt_by_control(values: Mapping[str, Any]) -> str:
    start = f"By {score_label(values['score'])}, {visible_name(values['first'])}"
    if values["result"] == CONTROL_SIMILAR:
        return f"{start} is not shown to be better than its random-weights control.{smallest_difference(values)}"
    return f"{start} is no better than its random-weights control."


def _doubt_by_raw_values(values: Mapping[str, Any]) -> str:
    if values["score"] == v.PILOT_NAME:
        is_worse = values["result"] == CONTROL_BETTER
        comparison = "significantly worse" if is_worse else "not shown to be better"
        smallest = smallest_difference(values) if values["result"] == CONTROL_SIMILAR else ""
        return f"After a short fine-tuning {visible_name(values['first'])} is {comparison} than {NEIGHBORS}.{smallest}"
    error = score_label(values["score"])
    return f"By {error}, the raw values, without any model, do better than the features of every source."


def check_statements(verdict: Judgment) -> list[Verdict]:
    """Return the checks with their sentences, failed ones first.

    The check of the other sources is not among them unless it passed, because the first confidence says its sentence.
    """
    return [
        Verdict(CHECK_TITLES[check.id], "", check.status, CHECK_TEXTS[check.id](check.values))
        for check in verdict.checks
        if check.id != "other-sources" or check.status == v.PASS
    ]


def next_step(verdict: Judgment) -> str:
    """Return what to do with the commands. Empty if there are none."""
    if not verdict.commands:
        return ""
    if "--pilot" in verdict.commands[0][-2:]:
        return "Fine-tune the first sources briefly, and let their errors decide."
    if verdict.commands[0][1] == "rank" and "--resamples" in verdict.commands[0][-2:]:
        return "Repeat the ranking with intervals."
    if verdict.commands[0][1] == "rank":
        return "Training does not support texts. Rank by the error of a linear probe of the sources' features."
    if verdict.commands[0][1] == "discrepancy":
        return "Training does not support texts. Measure the first source beside more random-weights controls."
    if len(verdict.commands) == 1:
        return "Run this command."
    comparative = "lower" if len(verdict.commands) == 2 else "lowest"
    return f"Run these commands and keep the model with the {comparative} validation error."
