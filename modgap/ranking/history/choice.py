"""The choice of a source by what earlier targets and pilots on a new one tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from modgap.ranking.history.lines import OBSERVED, TRAINED, VARIABLES, HistoryTable, Setup, history_table
from modgap.ranking.history.model import Forecast, HistoryModel, fit_history, forecast, transform_error
from modgap.ranking.history.sketches import TargetSketch, matching_targets
from modgap.ranking.history.store import History

__all__ = ["FEWEST_TARGETS", "HistoryChoice", "PilotError", "choose_source"]

FEWEST_TARGETS = 10
"""Targets from which on history and pilots choose better than the history alone, by simulation (docs/history.md)."""
TOO_SHORT = "too-short"
OTHER_SETUP = "other-setup"
DECIDES = "decides"
"""Statuses of a choice: the history has too few targets, it tells only an order, or it tells expected errors."""


@dataclass(frozen=True)
class PilotError:
    """Errors of the pilots of one source.

    Attributes:
        errors: 0-1 errors in [0, 1] by the names of `modgap.ranking.history.lines.OBSERVED`.
        held_out: Number of samples on which they were measured.
    """

    errors: Mapping[str, float]
    held_out: int


@dataclass(frozen=True)
class HistoryChoice:
    """Forecasts of the errors of a ranking's sources by history alone, and with pilots.

    Attributes:
        sources: Names of the sources P.
        known: Whether each has a history, (P,).
        status: `decides` if expected errors can be told; `other-setup` if the history was measured in another one, so
            that it tells an order alone; `too-short` if it has fewer than ten targets.
        n_targets: Number of targets of the history.
        kinds: Kinds of these targets.
        before: Forecasts of the errors by history alone.
        after: Forecasts with the pilots.
        left_out: Names of targets of the history that are left out, because they have samples of this one.
    """

    sources: tuple[str, ...]
    known: np.ndarray
    status: str
    n_targets: int
    kinds: frozenset[str]
    before: Forecast
    after: Forecast
    left_out: tuple[str, ...] = ()

    @property
    def order(self) -> list[int]:
        """Numbers of the sources by their expected errors, the lowest first."""
        order: list[int] = np.argsort(self.after.error, kind="stable").tolist()
        return order

    @property
    def first(self) -> str:
        """Name of the source with the lowest expected error."""
        return self.sources[self.order[0]]


def choose_source(
    history: History,
    sources: Sequence[str],
    setup: Setup,
    pilots: Mapping[str, PilotError] | None = None,
    target: str = "",
    sketch: TargetSketch | None = None,
    seed: int = 0,
) -> HistoryChoice | None:
    """Return what history and pilots tell about sources on a new target.

    Args:
        history: The history, of which targets with samples of this one are left out.
        sources: Names of the sources.
        setup: How the errors of the new target are measured.
        pilots: Errors of pilots on it, by source.
        target: Name of the target, whose lines without a checksum are left out.
        sketch: Sketch of its samples; None to leave no other target out.
        seed: Seed of the probabilities of being best.

    Returns:
        The choice; None if the history has fewer than two sources or targets.
    """
    same = {target} | (matching_targets(sketch, history.sketches or {}) if sketch else set())
    table, status = _table(history, setup, same)
    if table is None or not _can_fit(table):
        return None
    model, variables = _fit(table)
    numbers = {name: number for number, name in enumerate(table.sources)}
    rows = [numbers.get(name) for name in sources]
    z, held_out = _observed(sources, pilots or {}, variables)
    left_out = tuple(dict.fromkeys(line.target for line in history.lines if line.target_key in same))
    if len(table.targets) < FEWEST_TARGETS:
        status = TOO_SHORT
    return HistoryChoice(
        tuple(sources),
        np.array([row is not None for row in rows]),
        status,
        len(table.targets),
        frozenset(table.kinds),
        forecast(model, rows, seed=seed),
        forecast(model, rows, z, held_out, seed),
        left_out,
    )


def _table(history: History, setup: Setup, same: set[str]) -> tuple[HistoryTable | None, str]:
    """Return the errors of the setup, or of the one with the most lines if there are none; and what they can tell."""
    table = history_table(history.lines, setup, same)
    if table.targets:
        return table, DECIDES
    setups = {replace(line.setup, input_size=None) for line in history.lines}
    others = [history_table(history.lines, other, same) for other in sorted(setups, key=repr)]
    return max(others, key=lambda one: np.isfinite(one.errors[:, :, 0]).sum(), default=None), OTHER_SETUP


def _can_fit(table: HistoryTable) -> bool:
    trained = np.isfinite(table.errors[:, :, VARIABLES.index(TRAINED)])
    return bool(trained.any(axis=1).sum() >= 2 and trained.any(axis=0).sum() >= 2)


def _fit(table: HistoryTable) -> tuple[HistoryModel, list[int]]:
    """Fit the model to the variables that have values, of which the first is the error after the whole training."""
    variables = [number for number in range(len(VARIABLES)) if np.isfinite(table.errors[:, :, number]).any()]
    return fit_history(table.z[:, :, variables], table.held_out[:, :, variables]), variables


def _observed(
    sources: Sequence[str], pilots: Mapping[str, PilotError], variables: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the transformed errors of the pilots, and on how many samples they were measured, each (P, F)."""
    errors, held_out = (np.full((len(sources), len(variables)), np.nan) for _ in range(2))
    for row, name in enumerate(sources):
        for column, number in enumerate(variables):
            variable = VARIABLES[number]
            if name in pilots and variable in OBSERVED and variable in pilots[name].errors:
                errors[row, column] = pilots[name].errors[variable]
                held_out[row, column] = pilots[name].held_out
    return transform_error(errors), held_out
