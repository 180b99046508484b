"""The choice of a source by what earlier targets and pilots on a new one tell."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from modgap.ranking.history.lines import (
    CONTROL,
    OBSERVED,
    TRAINED,
    VARIABLES,
    HistoryTable,
    Setup,
    history_digest,
    history_table,
)
from modgap.ranking.history.model import (
    Components,
    Forecast,
    HistoryModel,
    fit_history,
    forecast,
    portfolio,
    transform_error,
)
from modgap.ranking.history.sketches import TargetSketch, matching_targets
from modgap.ranking.history.store import History
from modgap.ranking.source_patterns import split_input_size
from modgap.storage.cache import CacheEntry, Codec, cache_key, cached

FEWEST_TARGETS = 10
"""Targets from which on history and pilots choose better than the history alone, by simulation (docs/history.md)."""
FIRST_PILOTS = 5
"""Sources of a portfolio that come before those without history; so many were enough on tables of others."""
LEVEL = 0.8
"""Level of the intervals of expected errors."""
MODEL_VERSION = 1
"""Version of the fit, which must be raised when its numbers change."""
COMPONENTS = ("mean", "source", "target", "residual")
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
        known: Whether each has an error after a whole training on an earlier target, (P,).
        status: `decides` if expected errors can be told; `other-setup` if the history was measured in another one, so
            that it tells an order alone; `too-short` if it has fewer than ten targets, so that pilots do not count.
        n_targets: Number of targets on which one of the sources has such an error.
        kinds: Kinds of these targets.
        before: Forecasts of the errors by history alone.
        after: Forecasts with the pilots.
        records: For each source, on how many targets its error was lower than that of its random-weights control, and
            on how many both are known.
        pilots_first: Numbers of the sources in the order in which few pilots tell most: a portfolio of which one was
            good on each earlier target, with the sources without history after its first five.
        digest: Checksum of the lines of the history that count.
        left_out: Names of other targets of the history that are left out, because they have samples of this one.
        uncounted: Names of the errors of pilots that no earlier target has, so that those on this target do not count.
    """

    sources: tuple[str, ...]
    known: np.ndarray
    status: str
    n_targets: int
    kinds: frozenset[str]
    before: Forecast
    after: Forecast
    records: tuple[tuple[int, int], ...]
    pilots_first: tuple[int, ...]
    digest: str
    left_out: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()

    @property
    def tells_errors(self) -> bool:
        """True if the expected errors are those of the setup that was asked for."""
        return self.status == DECIDES

    @property
    def decisive(self) -> Forecast:
        """The forecasts that decide: those with the pilots, but those without them where the history is too short."""
        return self.before if self.status == TOO_SHORT else self.after

    @property
    def order_before(self) -> list[int]:
        """Numbers of the sources by their expected errors before the pilots, the lowest first."""
        order: list[int] = np.argsort(self.before.error, kind="stable").tolist()
        return order

    @property
    def order(self) -> list[int]:
        """Numbers of the sources by their expected errors, the lowest first; by chance where errors are not told."""
        values = self.decisive.error if self.tells_errors else -self.decisive.best
        order: list[int] = np.argsort(values, kind="stable").tolist()
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
        sources: Names of the sources, each perhaps with the size of its input, as in `vit-b@64px`.
        setup: How the errors of the new target are measured.
        pilots: Errors of pilots on it, by source.
        target: Name of the target, whose lines without a checksum are left out.
        sketch: Sketch of its samples; None to leave no other target out.
        seed: Seed of the probabilities of being best.

    Returns:
        The choice; None if the history has fewer than two sources or targets, or none of these sources.
    """
    same = {target} | (matching_targets(sketch, history.sketches) if sketch else set())
    names = {split_input_size(name)[0] for name in sources}
    table, status = _table(history, setup, same, names)
    if table is None:
        return None
    has_error = np.isfinite(table.errors[:, :, VARIABLES.index(TRAINED)])
    if has_error.any(axis=1).sum() < 2 or has_error.any(axis=0).sum() < 2:
        return None
    numbers = {name: number for number, name in enumerate(table.sources)}
    rows = [numbers.get(split_input_size(name)[0]) for name in sources]
    known = np.array([row is not None and bool(has_error[row].any()) for row in rows])
    if not known.any():
        return None
    model, variables = _fit(table)
    pilots = pilots or {}
    z, held_out = _observed(sources, pilots, variables)
    measured = {name for one in pilots.values() for name in one.errors}
    counted = {VARIABLES[number] for number in variables}
    trained = has_error[[row for row in rows if row is not None]].any(axis=0)
    return HistoryChoice(
        tuple(sources),
        known,
        TOO_SHORT if trained.sum() < FEWEST_TARGETS else status,
        int(trained.sum()),
        frozenset(kind for kind, is_known in zip(table.kinds, trained, strict=True) if is_known),
        forecast(model, rows, seed=seed),
        forecast(model, rows, z, held_out, seed),
        tuple(_record(table, row) for row in rows),
        _pilots_first(table, rows),
        history_digest(line for line in history.lines if line.target_key not in same),
        tuple({line.target: None for line in history.lines if line.target_key in same and line.target != target}),
        tuple(name for name in OBSERVED if name in measured - counted),
    )


def _record(table: HistoryTable, row: int | None) -> tuple[int, int]:
    """Return on how many targets a source beat its control, and on how many both errors are known."""
    if row is None:
        return 0, 0
    trained, control = (table.errors[row, :, VARIABLES.index(name)] for name in (TRAINED, CONTROL))
    return int((trained < control).sum()), int((np.isfinite(trained) & np.isfinite(control)).sum())


def _pilots_first(table: HistoryTable, rows: Sequence[int | None]) -> tuple[int, ...]:
    in_history = {number: row for number, row in enumerate(rows) if row is not None}
    known = list(in_history)
    errors = table.errors[list(in_history.values()), :, VARIABLES.index(TRAINED)]
    chosen = [known[number] for number in portfolio(errors, len(known))]
    first, others = chosen[:FIRST_PILOTS], chosen[FIRST_PILOTS:]
    return tuple(dict.fromkeys([*first, *(n for n in range(len(rows)) if n not in known), *others, *known]))


def _table(history: History, setup: Setup, same: set[str], names: set[str]) -> tuple[HistoryTable | None, str]:
    """Return the errors of the setup, and what they can tell.

    If it has none of these sources, they are those of the setup that has the most errors of them.
    """

    def known(one: HistoryTable) -> int:
        rows = [number for number, name in enumerate(one.sources) if name in names]
        return int(np.isfinite(one.errors[rows, :, VARIABLES.index(TRAINED)]).sum())

    table = history_table(history.lines, setup, same)
    if known(table):
        return table, DECIDES
    setups = {replace(line.setup, input_size=None) for line in history.lines if line.source in names}
    others = [history_table(history.lines, other, same) for other in sorted(setups, key=repr)]
    return max(others, key=known, default=None), OTHER_SETUP


def _fit(table: HistoryTable) -> tuple[HistoryModel, list[int]]:
    """Return the model of the variables that have values, the first of which is the error after the whole training.

    It is fitted once for each table, and kept in the cache.
    """
    variables = [number for number in range(len(VARIABLES)) if np.isfinite(table.errors[:, :, number]).any()]
    z, held_out = table.z[:, :, variables], table.held_out[:, :, variables]
    digest = hashlib.sha256(repr(z.shape).encode() + z.tobytes() + held_out.tobytes()).hexdigest()
    key = cache_key({"table": digest, "version": MODEL_VERSION})
    return cached("history_models", key, lambda: fit_history(z, held_out), Codec(_encode, _decode)), variables


def _encode(model: HistoryModel) -> CacheEntry:
    components = {name: getattr(model.components, name) for name in COMPONENTS}
    arrays = {"effects": model.effects, "covariances": model.covariances, "noise": model.noise}
    return CacheEntry(components | arrays, {"targets": model.n_targets})


def _decode(entry: CacheEntry) -> HistoryModel:
    components = Components(*(np.array(entry.arrays[name]) for name in COMPONENTS))
    effects, covariances, noise = (np.array(entry.arrays[name]) for name in ("effects", "covariances", "noise"))
    return HistoryModel(components, effects, covariances, int(entry.metadata["targets"]), noise)


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
