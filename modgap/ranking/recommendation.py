"""Recommendation of a ranking: two answers, a headline by one table, and the next step, from its judgment."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import NamedTuple

from modgap.answers import FAIL, INFO, PASS, WARN, Answer, Verdict
from modgap.errors import visible_name
from modgap.ranking.check_sentences import (
    check_verdict,
    first_place,
    join_names,
    score_label,
    smallest_difference,
    texts_of,
)
from modgap.ranking.checks import (
    CONTROL_AS_GOOD,
    CONTROL_BETTER,
    CONTROL_SIMILAR,
    CONTROL_UNKNOWN,
    CONTROL_WORSE,
    Check,
)
from modgap.ranking.judgment import (
    BOTH,
    CLEAR,
    DOUBTFUL,
    LIKELY,
    NO,
    NONE,
    NOT_TESTED,
    NOTHING,
    SINGLE,
    SOURCES,
    TIE,
    UNKNOWN,
    WITHOUT_CONTROL,
    Judgment,
)

WHICH = "Which source is best?"
HELPS = "Does a transfer help?"
CHOICE_LABELS = {
    CLEAR: ("Clear", PASS),
    TIE: ("Tied", WARN),
    UNKNOWN: ("Unknown", INFO),
    SINGLE: ("One source", INFO),
    NONE: ("No value", FAIL),
}
HELP_LABELS = {
    LIKELY: ("By scores, yes", INFO),
    DOUBTFUL: ("Doubtful", WARN),
    UNKNOWN: ("Unknown", INFO),
    NOT_TESTED: ("Not tested", INFO),
    NO: ("No", FAIL),
}
"""Label and status of each answer by scores, which hardly tell whether pretraining helps (docs/evidence.md)."""
FINE_TUNED_LABELS = {**HELP_LABELS, LIKELY: ("Shown", PASS), DOUBTFUL: ("Not shown", WARN)}
"""Label and status of each answer after a short fine-tuning of the source and its control."""


class Rule(NamedTuple):
    """A row of the decision table: a headline, and the conditions that a judgment has to fulfill for it.

    Attributes:
        headline: The headline; names in braces are replaced.
        choice: The choice. Empty for any.
        help: The value of `help`. Empty for any.
        tuned: The rows that were fine-tuned, one of these. Empty for any.
        baseline: Results of the best baseline. Empty for any, and for none.
        majority: Statuses of the comparison with always predicting the largest class. Empty for any, and for none.
    """

    headline: str
    choice: str = ""
    help: str = ""
    tuned: tuple[str, ...] = ()
    baseline: tuple[str, ...] = ()
    majority: tuple[str, ...] = ()

    def applies(self, judgment: Judgment) -> bool:
        """Return True if the judgment fulfills all conditions."""
        return (
            self.choice in ("", judgment.choice)
            and self.help in ("", judgment.help)
            and (not self.tuned or judgment.tuned in self.tuned)
            and (not self.baseline or judgment.beside_baseline in self.baseline)
            and (not self.majority or judgment.beside_majority in self.majority)
        )


HEADLINES = (
    Rule("No source has a value; the reasons are below.", NONE),
    Rule("{judged}, {baseline} has a lower error than {beaten}. Train it first.", baseline=(CONTROL_BETTER,)),
    Rule("Do not transfer from this source; train from scratch.", SINGLE, NO, (BOTH,)),
    Rule("Do not transfer from these sources; train from scratch.", "", NO, (BOTH,)),
    Rule("By {score}, random weights are better than {first}: compare it with a model trained from scratch.", help=NO),
    Rule("Transfer from {first}, the only source that was fine-tuned.", SINGLE, LIKELY, (BOTH,)),
    Rule("{first} is {only}; compare it with {rival}.", SINGLE),
    Rule("{no_better}. Fine-tune several sources briefly, and compare.", tuned=(NOTHING,), majority=(FAIL,)),
    Rule("Transfer from {first}.", CLEAR, LIKELY, (BOTH,)),
    Rule("{by}, start with {first}{agreement}, and compare the next ones.", CLEAR, LIKELY),
    Rule("If you transfer, use {first}. First check that it beats {rival}.", CLEAR, "", SOURCES),
    Rule(
        "If you transfer, use {first}, which is first by {score}{agreement}. First check that it beats {rival}.",
        CLEAR,
    ),
    Rule("{by}, {all} are tied: fine-tune {them} and compare.", TIE, LIKELY),
    Rule("{by}, no source stands out. Compare {first} with {rival}.", TIE),
    Rule("{by}, {first} is first, but this run does not show how certain that is.", UNKNOWN),
)
"""The headlines, of which the first that applies is taken.

Scores do not choose reliably (docs/evidence.md), so that only a short fine-tuning says to transfer or not to.
"""


def judgment_answer(judgment: Judgment, target: str | None = None) -> Answer:
    """Return the answer that a judgment gives, without facts, tables and notes.

    Args:
        judgment: The judgment.
        target: Name of the target or path of custom data. None if no source could be run.
    """
    name = visible_name(PurePath(target).name or target) if target else "this target"
    return Answer(
        question=f"Which source should be transferred to {name}?",
        facts=(),
        headline=headline(judgment),
        verdicts=(choice_statement(judgment), help_statement(judgment)),
        # The answer to the first question says the sentence of the other sources, unless that check passed.
        checks=tuple(
            check_verdict(check) for check in judgment.checks if check.id != "other-sources" or check.status == PASS
        ),
        next_step=next_step(judgment),
        commands=tuple(shlex.join(command) for command in judgment.commands),
    )


def headline(judgment: Judgment, shown_name: Callable[[str], str] = visible_name) -> str:
    """Return the headline: that of the first rule of the decision table that applies.

    Args:
        judgment: The judgment.
        shown_name: Function that returns a name of a source as it is shown.
    """
    rule = next(rule for rule in HEADLINES if rule.applies(judgment))
    score = score_label(judgment.by)
    check = judgment.check("baseline")
    is_tuned = check is not None and check.is_fine_tuned
    baseline = f"the baseline {visible_name(check.values['baseline'])}" if check else ""
    only = "the only source with a value" if judgment.check("failed-sources") else "the only source"
    return rule.headline.format(
        score=score,
        by="After a short fine-tuning" if judgment.tuned in SOURCES else f"By {score}",
        first=shown_name(judgment.first or ""),
        all=join_names([judgment.first or "", *judgment.tied], shown_name),
        them="both" if len(judgment.tied) == 1 else "them",
        agreement=_agreement(judgment.check("other-scores")),
        judged="After a short fine-tuning" if is_tuned else "In cross-validation",
        beaten="every source that was fine-tuned" if is_tuned else "the linear probe of every source",
        baseline=baseline,
        rival=_rival(judgment, baseline),
        no_better=_no_better(judgment, shown_name),
        only="the only source that was fine-tuned" if judgment.tuned in SOURCES else only,
    )


def _no_better(judgment: Judgment, shown_name: Callable[[str], str]) -> str:
    """Return that the first source is no better than always predicting the largest class, by the score that tells."""
    check = judgment.check("majority-class")
    by = check.values["score"] if check else judgment.by
    if by == judgment.by:
        return f"By {score_label(by)}, no source is better than always predicting the largest class"
    first = f"{shown_name(judgment.first or '')} is first by {score_label(judgment.by)}"
    return f"{first}, but its {score_label(by)} is no lower than that of always predicting the largest class"


def _rival(judgment: Judgment, baseline: str) -> str:
    """Return what the first source has to be compared with: the baseline, training from scratch, or both."""
    scratch = "a model trained from scratch"
    control = judgment.check("control")
    if judgment.beside_baseline in ("", CONTROL_WORSE):
        return scratch
    return baseline if control and control.result == CONTROL_WORSE else f"{baseline} and {scratch}"


def _agreement(check: Check | None) -> str:
    """Return how many other scores put the first source first, in parentheses; empty if there are none."""
    if check is None:
        return ""
    verb = "puts" if check.values["agreeing"] == 1 else "put"
    return f" ({check.values['agreeing']} of {check.values['compared']} other scores {verb} it first)"


def choice_statement(judgment: Judgment) -> Verdict:
    """Return the answer to the question of which source is best."""
    label, status = CHOICE_LABELS[judgment.choice]
    check = judgment.check("other-sources")
    if judgment.choice == CLEAR and judgment.tuned == NOTHING:
        others = judgment.check("other-scores")
        label = f"Clear by {score_label(judgment.by)}"
        status = PASS if others is None else others.status
    no_value = f"No source has a value by {score_label(judgment.by)}."
    return Verdict(WHICH, label, status, _choice_text(judgment, check) if check else no_value)


def _choice_text(judgment: Judgment, check: Check) -> str:
    values = check.values
    if judgment.choice == SINGLE:
        only = "the only source that was fine-tuned" if judgment.tuned in SOURCES else "the only source with a value"
        return f"{{first}} is {only}, {{score}} {{value}}.".format(**texts_of(values))
    if values["equal"]:
        verb = "has" if len(values["equal"]) == 1 else "have"
        return f"{first_place(values)}, and {join_names(values['equal'])} {verb} the same value."
    if judgment.choice == UNKNOWN:
        reason = values["reason"]
        return f"{first_place(values)}. It is not known whether the difference is significant, because {reason}."
    if judgment.choice == TIE:
        names = join_names([entry["source"] for entry in values["tied"]])
        return f"{first_place(values)}, but it is not significantly better than {names}.{smallest_difference(values)}"
    return check_verdict(check).sentence


NO_BETTER = "By {score}, {first} is not shown to be better than the same architecture with random weights."
HELP_SENTENCES = {
    CONTROL_WORSE: "By {score}, {first} is significantly better than the same architecture with random weights.",
    CONTROL_BETTER: "The same architecture as {first} with random weights is significantly better by {score}.",
    CONTROL_SIMILAR: NO_BETTER,
    CONTROL_AS_GOOD: NO_BETTER,
    CONTROL_UNKNOWN: "{first} is better than the same architecture with random weights, but without intervals it is "
    "not known whether the difference is significant.",
    NOT_TESTED: "By {score}, {first} was not compared with the same architecture with random weights.",
}
"""Sentence of each result of the control."""


BESIDE_BASELINE = {
    CONTROL_WORSE: ("Shown", PASS, "significantly better than"),
    CONTROL_BETTER: ("No", FAIL, "significantly worse than"),
    CONTROL_SIMILAR: ("Not shown", WARN, "not shown to be better than"),
    CONTROL_AS_GOOD: ("Not shown", WARN, "no better than"),
    CONTROL_UNKNOWN: ("Unknown", INFO, "better than"),
}
"""Label and status of the answer to whether a transfer helps, and how the best source compares with the best baseline.

They are those of each result of the baseline, or of the control.
"""


def help_statement(judgment: Judgment) -> Verdict:
    """Return the answer to the question of whether pretraining helps."""
    by_errors = judgment.tuned in (BOTH, WITHOUT_CONTROL)
    label, status = (FINE_TUNED_LABELS if by_errors else HELP_LABELS)[judgment.help]
    if judgment.first is None:
        return Verdict(HELPS, label, status, "There is nothing to compare.")
    if judgment.help == DOUBTFUL:
        return Verdict(HELPS, label, status, " ".join(_doubts(judgment, by_errors)))
    control, baseline = judgment.check("control"), judgment.check("baseline")
    sentence = HELP_SENTENCES[control.result if control else NOT_TESTED].format(
        first=visible_name(judgment.first), score=score_label(control.values["score"] if control else judgment.by)
    )
    return Verdict(HELPS, label, status, " ".join([sentence, *([_beside_baseline(baseline)] if baseline else [])]))


def _doubts(judgment: Judgment, by_errors: bool) -> Iterator[str]:
    """Yield one short sentence for each check that makes the help of a transfer doubtful."""
    failed = {check.id: check for check in judgment.checks if check.status in (FAIL, WARN)}
    if check := failed.get("baseline"):
        yield _beside_baseline(check)
    if check := failed.get("control"):
        comparison = "not shown to be better" if check.result == CONTROL_SIMILAR else "no better"
        start = f"By {{score}}, {{first}} is {comparison} than its random-weights control."
        yield f"{start.format(**texts_of(check.values))}{smallest_difference(check.values)}"
    if by_errors:
        # Scores decide nothing then.
        return
    if check := failed.get("majority-class"):
        comparison = "no better" if check.status == FAIL else "not shown to be better"
        yield f"The {score_label(check.values['score'])} is {comparison} than always predicting the largest class."
    if check := failed.get("controls-above"):
        names = join_names([score_label(one["score"]) for one in check.values["above"]])
        yield f"By {names}, a random-weights control ranks above {visible_name(check.first)}."
    if (check := failed.get("control-by-other-scores")) and check.status == FAIL:
        yield "By most other scores, pretraining makes no significant difference."


def _beside_baseline(check: Check) -> str:
    """Return how the best source compares with the best baseline."""
    judged = "After a short fine-tuning {best_source}"
    if not check.is_fine_tuned:
        judged = "In cross-validation the linear probe of {best_source}, the best one,"
    end = ", but without intervals it is not known whether significantly" if check.result == CONTROL_UNKNOWN else ""
    start = f"{judged} is {BESIDE_BASELINE[check.result][2]} the baseline {{baseline}}{end}."
    return f"{start.format(**texts_of(check.values))}{smallest_difference(check.values)}"


NEXT_STEPS = {
    "--pilot": "Fine-tune the first known sources briefly, and let their errors decide.",
    "--resamples": "Repeat the ranking with intervals.",
}
"""Purpose of a command by its last option."""


def next_step(judgment: Judgment) -> str:
    """Return what to do with the commands. Empty if there are none."""
    if not judgment.commands:
        return ""
    *_, before, _last = judgment.commands[0]
    if step := NEXT_STEPS.get(before):
        return step
    if len(judgment.commands) == 1:
        return "Run this command."
    comparative = "lower" if len(judgment.commands) == 2 else "lowest"
    return f"Run these commands and keep the model with the {comparative} validation error."
