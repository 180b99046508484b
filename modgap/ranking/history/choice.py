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
from modgap.storage.cache import CacheEntry, cache_key, cached

FEWEST_TARGETS = 10
"""Targets from which on history and pilots choose better than the history alone, by simulation (docs/history.md)."""
FIRST_PILOTS = 5
"""Number of sources of a portfolio that come before those without history.

On published tables of errors, a portfolio of this size was enough.
"""
LEVEL = 0.8
"""Level of the intervals of expected errors."""
MODEL_VERSION = 1
"""Version of the fit, a part of the key of its cache. It must be raised when the fit returns other numbers."""
TOO_SHORT = "too-short"
OTHER_SETUP = "other-setup"
DECIDES = "decides"
"""Status of a choice: the history has too few targets, it tells only an order, or it tells expected errors."""


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
        known: True for each source that has an error after a whole training on an earlier target, (P,).
        status: `decides` if expected errors can be told; `other-setup` if the history was measured in another setup, so
            that it tells an order alone; `too-short` if `n_targets` is less than ten, so that pilots do not count.
        n_targets: Number of targets on which at least one of the sources has such an error.
        labeled: Largest number of labeled samples of the fine-tunings of the history whose errors are expected.
        kinds: Kinds of these targets.
        before: Forecasts of the errors by history alone.
        after: Forecasts with the pilots.
        records: For each source, on how many targets its error was lower than that of its random-weights control, and
            on how many both are known.
        pilots_first: Indices of all sources in the order in which pilots should run, so that the first few tell most.
            First come five sources of a portfolio in which one was good on each earlier target, then the sources
            without history, then the rest.
        digest: Checksum of the lines of the history that count.
        left_out: Names of other targets of the history that are left out, because they have samples of this one.
        uncounted: Names of the errors of pilots that were measured on this target but on no earlier one, so that they
            do not count.
    """

    sources: tuple[str, ...]
    known: np.ndarray
    status: str
    n_targets: int
    labeled: int
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
        """Indices of the sources by their expected errors before the pilots, the lowest first."""
        return list(map(int, np.argsort(self.before.error, kind="stable")))

    @property
    def order(self) -> list[int]:
        """Indices of the sources, the best first.

        They are in the order of their expected errors, or of their probability of being best where these are not told.
        """
        values = self.decisive.error if self.tells_errors else -self.decisive.best
        return list(map(int, np.argsort(values, kind="stable")))

    @property
    def first(self) -> str:
        """Name of the best source by `order`."""
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
        sketch: Sketch of its samples, by which targets with the same samples are left out; None to leave none out.
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
    row_of_source = {name: row for row, name in enumerate(table.sources)}
    rows = [row_of_source.get(split_input_size(name)[0]) for name in sources]
    known = np.array([row is not None and bool(has_error[row].any()) for row in rows])
    if not known.any():
        return None
    model, variables = _fit(table)
    pilots = pilots or {}
    z, held_out = _observed(sources, pilots, variables)
    measured = {name for one in pilots.values() for name in one.errors}
    counted = {VARIABLES[number] for number in variables}
    # One value for each target: True if at least one of the sources was trained on it.
    has_trained = has_error[[row for row in rows if row is not None]].any(axis=0)
    left_out = {line.target: None for line in history.lines if line.target_key in same and line.target != target}
    return HistoryChoice(
        sources=tuple(sources),
        known=known,
        status=TOO_SHORT if has_trained.sum() < FEWEST_TARGETS else status,
        n_targets=int(has_trained.sum()),
        labeled=table.labeled,
        kinds=frozenset(kind for kind, counts in zip(table.kinds, has_trained, strict=True) if counts),
        before=forecast(model, rows, seed=seed),
        after=forecast(model, rows, z, held_out, seed),
        records=tuple(_record(table, row) for row in rows),
        pilots_first=_pilots_first(table, rows),
        digest=history_digest(line for line in history.lines if line.target_key not in same),
        left_out=tuple(left_out),
        uncounted=tuple(name for name in OBSERVED if name in measured - counted),
    )


def constant_answer(
    history: History,
    sources: Sequence[str],
    usable: Sequence[str],
    target: str = "",
    sketch: TargetSketch | None = None,
) -> str:
    """Return the source that was the best on earlier targets, which a way to choose has to beat.

    It is the one with the lowest mean of its errors minus those of all sources of the history on the same target. If it
    cannot be used on the new target, the earlier targets on which it has no error count alone, if there are any.

    Args:
        history: The history, of which targets with samples of this one are left out.
        sources: Names of the sources, each perhaps with the size of its input.
        usable: Those of them that read the new target.
        target: Name of the target.
        sketch: Sketch of its samples; None to leave out the target of this name alone.

    Returns:
        The name as it is in `sources`, of several sizes the first usable one; empty if the history has none of the
        usable ones.
    """
    names = {name: split_input_size(name)[0] for name in sources}
    same = {target} | (matching_targets(sketch, history.sketches) if sketch else set())
    table, _ = _table(history, None, same, set(names.values()))
    if table is None:
        return ""
    errors = table.errors[:, :, VARIABLES.index(TRAINED)]
    errors = errors[:, np.isfinite(errors).any(axis=0)]
    errors = errors - np.nanmean(errors, axis=0)
    row_of_source = {name: row for row, name in enumerate(table.sources)}
    of_sources = {name: errors[row_of_source[of]] for name, of in names.items() if of in row_of_source}

    def best(candidates: Sequence[str], targets: np.ndarray) -> str:
        errors_by_source = {name: of_sources[name][targets] for name in candidates if name in of_sources}
        means = {name: float(np.nanmean(one)) for name, one in errors_by_source.items() if np.isfinite(one).any()}
        return min(means, key=lambda name: means[name], default="")

    everywhere = np.ones(errors.shape[1], dtype=bool)
    # A source with two sizes of its input has equal errors, of which the usable one comes first.
    first = best([*usable, *sources], everywhere)
    if first in ("", *usable):
        return first
    return best(usable, ~np.isfinite(of_sources[first])) or best(usable, everywhere)


def _table(history: History, setup: Setup | None, same: set[str], names: set[str]) -> tuple[HistoryTable | None, str]:
    """Return the table of earlier errors, and the status `decides` or `other-setup`.

    The table is that of the setup of the new target if it has a trained source among the names. Otherwise it is that of
    the setup in which most errors of these sources were measured; None if there is no such setup.

    Args:
        history: The history.
        setup: How the errors of the new target are measured; None if that is not known.
        same: Keys of the targets to leave out.
        names: Names of the sources, without sizes of inputs.
    """

    def count_trained(one: HistoryTable) -> int:
        rows = [row for row, name in enumerate(one.sources) if name in names]
        return int(np.isfinite(one.errors[rows, :, VARIABLES.index(TRAINED)]).sum())

    if setup is not None and count_trained(table := history_table(history.lines, setup, same)):
        return table, DECIDES
    setups = {replace(line.setup, input_size=None) for line in history.lines if line.source in names}
    others = [history_table(history.lines, other, same) for other in sorted(setups, key=repr)]
    return max(others, key=count_trained, default=None), OTHER_SETUP


def _fit(table: HistoryTable) -> tuple[HistoryModel, list[int]]:
    """Return the fitted model, and the indices into VARIABLES of its variables, which are those that have values.

    The first variable is the error after the whole training. The model of a table is fitted once and kept in the cache.
    """
    variables = [number for number in range(len(VARIABLES)) if np.isfinite(table.errors[:, :, number]).any()]
    z, held_out = table.z[:, :, variables], table.held_out[:, :, variables]
    digest = hashlib.sha256(repr(z.shape).encode() + z.tobytes() + held_out.tobytes()).hexdigest()
    key = cache_key({"table": digest, "version": MODEL_VERSION})
    return cached("history_models", key, lambda: fit_history(z, held_out), _encode, _decode), variables


def _encode(model: HistoryModel) -> CacheEntry:
    arrays = {"effects": model.effects, "covariances": model.covariances, "noise": model.noise}
    return CacheEntry(vars(model.components) | arrays, {"targets": model.n_targets})


def _decode(entry: CacheEntry) -> HistoryModel:
    components = Components(*(np.array(entry.arrays[name]) for name in ("mean", "source", "target", "residual")))
    effects, covariances, noise = (np.array(entry.arrays[name]) for name in ("effects", "covariances", "noise"))
    return HistoryModel(components, effects, covariances, int(entry.metadata["targets"]), noise)


def _observed(
    sources: Sequence[str], pilots: Mapping[str, PilotError], variables: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the transformed errors of the pilots, and on how many samples they were measured, each (P, F).

    Both are NaN for a source without a pilot, and for a variable that pilots do not measure.
    """
    errors, held_out = (np.full((len(sources), len(variables)), np.nan) for _ in range(2))
    for row, name in enumerate(sources):
        pilot = pilots.get(name, PilotError({}, 0))
        for column, number in enumerate(variables):
            variable = VARIABLES[number]
            if variable in OBSERVED and variable in pilot.errors:
                errors[row, column], held_out[row, column] = pilot.errors[variable], pilot.held_out
    return transform_error(errors), held_out


def _record(table: HistoryTable, row: int | None) -> tuple[int, int]:
    """Return on how many targets a source beat its control, and on how many both errors are known."""
    if row is None:
        return 0, 0
    trained, control = (table.errors[row, :, VARIABLES.index(name)] for name in (TRAINED, CONTROL))
    return int((trained < control).sum()), int((np.isfinite(trained) & np.isfinite(control)).sum())


def _pilots_first(table: HistoryTable, rows: Sequence[int | None]) -> tuple[int, ...]:
    """Return the indices of all sources in the order of `HistoryChoice.pilots_first`.

    Args:
        table: The history.
        rows: Row of each source in the table; None for a source without history.
    """
    in_history = [index for index, row in enumerate(rows) if row is not None]
    without_history = [index for index, row in enumerate(rows) if row is None]
    errors = table.errors[[row for row in rows if row is not None], :, VARIABLES.index(TRAINED)]
    chosen = [in_history[index] for index in portfolio(errors, len(in_history))]
    # The portfolio lacks sources of the history that were never trained, which come last.
    order = [*chosen[:FIRST_PILOTS], *without_history, *chosen[FIRST_PILOTS:], *in_history]
    return tuple(dict.fromkeys(order))
