"""The choice at the end of a race: the simplest model whose error is within one standard error of the lowest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from modgap.answers.formatting import format_value
from modgap.race.steps import BASELINE, TRAINING, Outcome
from modgap.sources import control_name, is_control
from modgap.statistics.intervals import independent_errors
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL
from modgap.statistics.paired import PairedDifference, paired_difference
from modgap.training.linear_probe import LINEAR_PROBE

KINDS = ("baseline", "linear probe, random weights", "linear probe", "training", "from scratch")
"""Kinds of models, the simplest first."""
FIELD = KINDS[0]
PRETRAINED = (KINDS[2], KINDS[3])
"""Kinds of models that use what a source learned."""
CONTROL = "random-weights control"
"""Kind of the control of the chosen source, where the control of another one had a lower error."""
REFERENCES = (FIELD, KINDS[1], KINDS[4], CONTROL)
"""Kinds of models that pages and figures draw as squares: baselines and networks with random weights."""


def kind_of(outcome: Outcome) -> str:
    """Return the kind of a model, one of `KINDS`."""
    step = outcome.step
    if step.kind == BASELINE:
        return KINDS[0]
    is_random = is_control(step.name)
    if step.kind == LINEAR_PROBE:
        return KINDS[1] if is_random else KINDS[2]
    return KINDS[4] if is_random or step.method == "scratch" else KINDS[3]


def transfer_helps(difference: PairedDifference | None) -> Literal["yes", "no", "not shown"]:
    """Return whether a transfer helps, by the difference of its test error to that of the field's baseline.

    Args:
        difference: Error of the transfer minus that of the baseline; None where it has no significance.
    """
    if difference is None or difference.p_value is None or difference.p_value > SIGNIFICANCE_LEVEL:
        return "not shown"
    return "yes" if difference.value < 0 else "no"


def shown_loss(loss: float, task: str) -> str:
    """Return a mean loss as text: in percent, but for values, whose squared error is in units of their variance."""
    return format_value(loss) if task == "regression" else f"{100 * loss:.3g} %"


@dataclass(frozen=True)
class Chosen:
    """The choice of a race.

    Attributes:
        winner: The chosen model.
        lowest: The model with the lowest error among the finalists.
        best: The best model of each kind that has one, by its name in `KINDS`.
        judged: Numbers of the labeled samples on which all finalists were judged, (m,).
    """

    winner: Outcome
    lowest: Outcome
    best: dict[str, Outcome]
    judged: np.ndarray


def choose_model(outcomes: Sequence[Outcome], groups: np.ndarray | None) -> Chosen | None:
    """Choose among the results of all steps; None if none has an error.

    Finalists are the models of all labeled samples that were judged on the most folds, and of the others the best of
    each kind. All are compared on the samples on which each of them was judged. Of those whose error exceeds the lowest
    by no more than the standard error of the paired difference, the simplest kind is chosen, and within it the lowest
    error (the rule of one standard error; Breiman et al., Classification and Regression Trees, 1984).

    Args:
        outcomes: Results of all steps.
        groups: Group of each labeled sample, (n,); None if they are independent.
    """
    finalists = finalists_of(outcomes)
    if not finalists:
        return None
    judged = np.flatnonzero(np.isfinite(np.stack([one.losses for one in finalists])).all(axis=0))
    errors = [float(one.losses[judged].mean()) for one in finalists]
    lowest = finalists[int(np.argmin(errors))]
    best: dict[str, Outcome] = {}
    for kind in KINDS:
        of_kind = [(error, n) for n, error in enumerate(errors) if kind_of(finalists[n]) == kind]
        if of_kind:
            best[kind] = finalists[min(of_kind)[1]]
    within = [one for one in best.values() if _is_within(one, lowest, judged, groups)]
    return Chosen(within[0], lowest, best, judged)


def is_preliminary(outcome: Outcome, chosen: Chosen) -> bool:
    """Return True if a model was judged on fewer folds or fewer labeled samples than the chosen one."""
    one, winner = outcome.step, chosen.winner.step
    return one.folds < winner.folds or (one.labeled or np.inf) < (winner.labeled or np.inf)


def control_kind(chosen: Chosen) -> str | None:
    """Return the kind of the final model that shows what pretraining adds to the chosen one; None if it uses none."""
    step, control = chosen.winner.step, chosen.best.get(KINDS[1])
    if kind_of(chosen.winner) == KINDS[3]:
        return KINDS[4]
    if kind_of(chosen.winner) != KINDS[2]:
        return None
    return KINDS[1] if control is not None and control.step.name == control_name(step.name) else CONTROL


def first_of_kinds(chosen: Chosen, kinds: Sequence[str]) -> str | None:
    """Return that of some kinds whose best model has the lowest error on the judged samples; None if there is none."""
    best = {kind: float(one.losses[chosen.judged].mean()) for kind, one in chosen.best.items() if kind in kinds}
    return min(best, key=lambda kind: best[kind], default=None)


def finalists_of(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return of each model the result on the most samples; of the trainings those that were among the last.

    Models of a part of the samples are finalists only if none had all. Other results are preliminary.
    """
    largest: dict[tuple[object, ...], Outcome] = {}
    for one in [one for one in outcomes if not one.reason]:
        largest_so_far = largest.get(one.step.model)
        if largest_so_far is None or _extent(one) >= _extent(largest_so_far):
            largest[one.step.model] = one
    finalists = []
    is_complete = any(one.step.labeled is None for one in largest.values())
    for kind in KINDS:
        of_kind = [one for one in largest.values() if kind_of(one) == kind]
        complete = [one for one in of_kind if one.step.labeled is None or not is_complete]
        most = max((one.step.folds for one in complete), default=1)
        finalists += [one for one in complete if one.step.kind != TRAINING or one.step.folds == most]
    return finalists


def _extent(one: Outcome) -> tuple[bool, int]:
    """Return whether a model had all labeled samples, and on how many it was judged."""
    return one.step.labeled is None, int(np.isfinite(one.losses).sum())


def _is_within(one: Outcome, lowest: Outcome, judged: np.ndarray, groups: np.ndarray | None) -> bool:
    """Return True if an error exceeds the lowest by no more than the standard error of the paired difference."""
    if one is lowest:
        return True
    units = np.arange(len(judged)) if groups is None else np.unique(groups[judged], return_inverse=True)[1].ravel()
    first, second = (independent_errors(outcome.losses[judged], units) for outcome in (one, lowest))
    difference = paired_difference(first, second, largest=float("inf"))
    return bool(difference.value <= difference.standard_error)
