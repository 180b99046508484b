"""Tables of the replays in docs/history.md: what is chosen, with how much history, and how sure the forecasts are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from evidence.controls import right
from evidence.ranking_jobs import EPOCHS
from evidence.ranking_tables import BEST_PILOT, Truth
from evidence.replays import (
    after_more_pilots,
    calibrations,
    is_best,
    left_out_forecasts,
    new_source_regrets,
    pool_regrets,
    pools,
    record_against_controls,
    reliability,
    short_history_regrets,
)
from evidence.selection import ALONE, CONSTANT, HISTORY, Table, choices
from evidence.two_way import MeanInterval, seed_variance, target_interval
from modgap.ranking.history.model import transform_error

MOST_CHOSEN = "efficientnet-lite0@64px"
"""The source that is the best one on most targets."""
SHORT = "pilot of 3 epochs"
LENGTHS = (3, 5, 8, 15)
MORE = (1, 2, 3, 5)
BINS = (0, 0.02, 0.05, 0.1, 0.2, 0.4, 1)
BINS_OF_RECORDS = (0, 0.2, 0.4, 0.6, 0.8, 1)


@dataclass(frozen=True)
class PrintedTable:
    """A table of texts.

    Attributes:
        title: One line above it.
        heads: Heads of the columns.
        rows: Cells of each row.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def markdown(self) -> list[str]:
        """The lines of the table in a page."""
        head = [f"| {' | '.join(self.heads)} |", f"|{'---|' * len(self.heads)}"]
        title = self.title if self.title.endswith("?") else f"{self.title}:"
        return [title, "", *head, *(f"| {' | '.join(row)} |" for row in self.rows)]


def choice_table(table: Table) -> PrintedTable:
    """Return the regret of each way to choose among ten sources, nine of them, and five of them."""
    rest = np.array([number for number, name in enumerate(table.models) if name != MOST_CHOSEN])
    parts: list[Mapping[str, np.ndarray]] = [
        *({name: one.regrets for name, one in choices(part).items()} for part in (table, table.of(rest))),
        pool_regrets(table),
    ]
    rows = []
    for name in parts[0]:
        stage = next((one for one in table.seconds if name in (one, HISTORY.format(one))), None)
        seconds = f"{table.seconds[stage]:.0f}" if stage else "0" if name in (CONSTANT, ALONE) else ""
        rows.append([name, seconds, *(_regret(part[name], part[CONSTANT]) for part in parts)])
    heads = ["way to choose", "seconds", "ten sources", f"without {MOST_CHOSEN.partition('@')[0]}", "pools of five"]
    return PrintedTable("Regret in points (minus that of the constant answer, with its 95 % interval)", heads, rows)


def new_source_table(table: Table) -> PrintedTable:
    """Return what a history is worth that has none of five sources, and one that lacks the best of ten."""
    of_pools = [new_source_regrets(table, pool, pool) for pool in pools(len(table.models))]
    five = {name: np.mean([part[name] for part in of_pools], axis=0) for name in of_pools[0]}
    ten = new_source_regrets(table, range(len(table.models)), [table.models.index(MOST_CHOSEN)])
    rows = []
    for stage in table.stages:
        pairs = ((one[stage], one[HISTORY.format(stage)]) for one in (five, ten))
        rows.append([stage, *(cell for alone, both in pairs for cell in (f"{alone.mean():.1f}", _regret(both, alone)))])
    new = f"ten, {MOST_CHOSEN.partition('@')[0]} new"
    heads = ["pilots", "five new sources", "with a history of five others", new, "with a history of nine others"]
    return PrintedTable("Regret of pilots of sources without history (minus that of the pilots alone)", heads, rows)


def more_pilots_table(table: Table) -> PrintedTable:
    """Return what three rates of the first few sources change after short pilots of all of them."""
    replays = after_more_pilots(table, SHORT, BEST_PILOT, (0, *MORE))
    rows = [[str(count), _regret(one.regrets, replays[0].regrets)] for count, one in replays.items() if count]
    heads = ["sources at three rates", f"regret (minus {replays[0].regrets.mean():.1f} after 3 epochs of all sources)"]
    return PrintedTable("Three rates of the first sources by history and a pilot of 3 epochs", heads, rows)


def short_history_table(table: Table) -> PrintedTable:
    """Return the regrets with histories of few targets."""
    rows = []
    pilot = choices(table)[BEST_PILOT].regrets
    for length in LENGTHS:
        mean_regrets = short_history_regrets(table, length, (SHORT, BEST_PILOT))
        constant, short, rates = (mean_regrets[name] for name in (CONSTANT, *map(HISTORY.format, (SHORT, BEST_PILOT))))
        difference = _difference(target_interval(rates - pilot))
        cells = f"{constant.mean():.1f}", _regret(short, constant), _regret(rates, constant), difference
        rows.append([str(length), *cells])
    heads = ["targets", CONSTANT, "history and 3 epochs", "history and three rates", "minus pilots alone"]
    title = "Regret with short histories (minus that of the constant answer)"
    return PrintedTable(title, heads, rows)


def calibration_table(table: Table) -> PrintedTable:
    """Return how often the 80 % intervals hold the errors."""
    rows = []
    for name, one in calibrations(table).items():
        shares = (_percent(share.mean, (share.low, share.high)) for share in (one.covered, one.corrected))
        covered, corrected = shares
        rows.append([name, covered, f"{one.width:.0f}", f"{one.factor:.2f}", corrected, _difference(one.gain)])
    heads = ["known", "errors inside", "mean width", "factor", "inside with the factor", "change of the interval score"]
    return PrintedTable("80 % intervals of expected errors, in points", heads, rows)


def best_table(table: Table) -> PrintedTable:
    """Return how often sources are the best ones, by the probability that was forecast."""
    best, forecasts = is_best(table.errors), left_out_forecasts(table)
    shown = (ALONE, *map(HISTORY.format, (SHORT, BEST_PILOT)))
    columns = []
    for name in shown:
        bins = reliability(np.stack([one.best for one in forecasts[name]], axis=1), best, BINS)
        columns.append({one.low: f"{_percent(one.share, one.interval)} of {one.count}" for one in bins})
    rows = [
        [f"{100 * low:.0f} to {100 * high:.0f} %", *(column.get(low, "") for column in columns)]
        for low, high in pairwise(BINS)
    ]
    title = "Share of the sources that were the best one, by the probability that was said"
    return PrintedTable(title, ["said", *shown], rows)


def record_table(table: Table) -> PrintedTable:
    """Return how often pretraining helped, by how often it had helped on other targets."""
    (controls,) = table.others.values()
    record, lower = record_against_controls(table.errors, controls), controls - table.errors
    rows = [
        [f"{100 * one.low:.0f} to {100 * one.high:.0f} %", _percent(one.share, one.interval), str(one.count)]
        for one in reliability(record, lower > 0, BINS_OF_RECORDS)
    ]
    of_targets = target_interval(right(record - 0.5, lower).mean(axis=0))
    said = _percent(of_targets.mean, (of_targets.low, of_targets.high))
    always = 100 * right(np.ones_like(record), lower).mean()
    title = f"Does pretraining help? The record is right in {said} of the pairs, always yes in {always:.0f} %"
    return PrintedTable(title, ["helped on other targets", "helped on this one", "pairs"], rows)


REPLAYS: dict[str, Callable[[Table], PrintedTable]] = {
    "choice": choice_table,
    "new": new_source_table,
    "more": more_pilots_table,
    "short": short_history_table,
    "calibration": calibration_table,
    "best": best_table,
    "record": record_table,
}
"""Functions that make the tables of the page, in its order."""


def seed_table(truth: Truth) -> PrintedTable:
    """Return how much the errors of one source on one target differ between seeds, by epochs."""
    rows = []
    for epochs in EPOCHS:
        errors = truth.errors[epochs]
        sizes = seed_variance(transform_error(errors / 100)) ** 0.5, seed_variance(errors) ** 0.5
        rows.append([str(epochs), f"{sizes[0]:.3f}", f"{sizes[1]:.1f}"])
    return PrintedTable("Standard deviation between seeds", ["epochs", "of z", "of the error in points"], rows)


def _regret(values: np.ndarray, reference: np.ndarray) -> str:
    text = f"{values.mean():.1f}"
    return text if values is reference else f"{text} ({_difference(target_interval(values - reference))})"


def _difference(one: MeanInterval) -> str:
    # Without the sign of a zero.
    return f"{round(one.mean, 1) + 0.0:+.1f} [{round(one.low, 1) + 0.0:.1f}, {round(one.high, 1) + 0.0:.1f}]"


def _percent(share: float, interval: tuple[float, float]) -> str:
    low, high = np.clip(interval, 0, 1)
    return f"{100 * share:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
