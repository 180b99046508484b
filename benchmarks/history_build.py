"""The worth of a history that `modgap history build` makes for two sources without one, and the order of its targets.

    python benchmarks/history_build.py orders      how well the first targets of an order tell the effect of a source
    python benchmarks/history_build.py replay [--sources A,B]    regret after 0, 3, 6 and 12 targets, the quickest first
    python benchmarks/history_build.py run --folder DIR --sources A,B [--targets A,B] [--jobs N]

The first two replay the history that ships: two of its sources lose their lines, and get them back target by target.
The target that is chosen for is in no history. The last one trains, as if the sources were not in the history that
ships, and compares the errors with those that ship. It can be killed and started again.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from evidence.two_way import target_interval

from modgap.cli.output import log_to_stderr, print_table
from modgap.errors import format_duration
from modgap.jobs import Backend
from modgap.ranking.history.build import complete_lines, plan_build, run_build
from modgap.ranking.history.lines import CONTROL, PILOT_OF_RATES, TRAINED, VARIABLES, HistoryTable, Setup, history_table
from modgap.ranking.history.measure import EPOCHS, LABELED, ONE_SEED, RATES
from modgap.ranking.history.model import fit_history, forecast
from modgap.ranking.history.store import History, shipped_history
from modgap.ranking.source_patterns import split_input_size

COUNTS = (1, 2, 3, 6, 9, 12)
STEPS = (0, 3, 6, 12)
RANDOM_ORDERS = 10
OBSERVED = ("pilot-1", "pilot-3")
"""Errors of a pilot of three epochs."""


def shipped_table() -> HistoryTable:
    """Return the errors of the history that ships, of sources and targets whose controls were trained too."""
    return history_table(complete_lines(), Setup(LABELED, EPOCHS[-1], RATES))


def pair_seconds(table: HistoryTable) -> np.ndarray:
    """Return the seconds of all trainings of each source and target, (S, n)."""
    rates, trained, control = (
        table.seconds[:, :, VARIABLES.index(name)] for name in (PILOT_OF_RATES, TRAINED, CONTROL)
    )
    seeds = np.array([1 if source in ONE_SEED else 2 for source in table.sources])
    seconds: np.ndarray = rates + seeds[:, None] * trained + control
    return seconds


# Orders


def orders(z: np.ndarray, seconds: np.ndarray, kinds: np.ndarray, seed: int) -> dict[str, list[np.ndarray]]:
    """Return orders of targets by what other sources did on them: z and seconds are (S, n)."""
    base = np.exp(np.log(seconds).mean(axis=0))
    effects = z - z.mean(axis=0)
    rest = effects - effects.mean(axis=1, keepdims=True)
    numbers = range(z.shape[1])
    correlations = np.array([np.corrcoef(z[:, one], np.delete(z, one, axis=1).mean(axis=1))[0, 1] for one in numbers])
    quickest = base.argsort()
    ranks = {
        number: sum(kinds[other] == kinds[number] for other in quickest[:at]) for at, number in enumerate(quickest)
    }
    rng = np.random.default_rng(seed)
    return {
        "quickest first": [quickest],
        "quickest of each kind in turn": [np.array(sorted(quickest, key=lambda one: (ranks[one], base[one])))],
        "most like the mean of the others": [(-correlations).argsort()],
        "the same per second": [(-correlations / base).argsort()],
        "greedy for the effects of other sources": [_greedy(effects, None)],
        "the same per second ": [_greedy(effects, base)],
        "smallest residuals": [(rest**2).sum(axis=0).argsort()],
        "largest differences of sources": [(-effects.var(axis=0)).argsort()],
        "at random": [rng.permutation(z.shape[1]) for _ in range(RANDOM_ORDERS)],
    }


def _greedy(effects: np.ndarray, base: np.ndarray | None) -> np.ndarray:
    """Return the order in which the mean effects over the first targets come closest to those over all, (n,)."""
    whole, chosen, left = effects.mean(axis=1), [], list(range(effects.shape[1]))
    error = float((whole**2).mean())
    while left:
        errors = np.array([((effects[:, [*chosen, one]].mean(axis=1) - whole) ** 2).mean() for one in left])
        gains = error - errors if base is None else (error - errors) / base[left]
        best = int(gains.argmax())
        error = errors[best]
        chosen.append(left.pop(best))
    return np.array(chosen)


def print_orders() -> None:
    """Print how far the effect of a source by the first targets of an order is from that on a target left out."""
    table = shipped_table()
    z, seconds, kinds = table.z[:, :, VARIABLES.index(TRAINED)], pair_seconds(table), np.array(table.kinds)
    squares: dict[str, dict[int, list[float]]] = {}
    costs: dict[str, dict[int, list[float]]] = {}
    for pair in itertools.combinations(range(len(z)), 2):
        others = np.delete(np.arange(len(z)), pair)
        for new in range(z.shape[1]):
            earlier = np.delete(np.arange(z.shape[1]), new)
            earlier_errors, cost = z[np.ix_(others, earlier)], seconds[np.ix_(others, earlier)]
            base = np.exp(np.log(cost).mean(axis=0))
            ratio = _noise_ratio(earlier_errors)
            for name, of_name in orders(earlier_errors, cost, kinds[earlier], new).items():
                for order, number in itertools.product(of_name, COUNTS):
                    first = order[:number]
                    effect = z[np.ix_(pair, earlier[first])] - earlier_errors[:, first].mean(axis=0)
                    shrunk = effect.mean(axis=1) / (1 + ratio / number)
                    truth = z[pair, new] - z[others, new].mean()
                    squares.setdefault(name, {}).setdefault(number, []).extend((shrunk - truth) ** 2)
                    costs.setdefault(name, {}).setdefault(number, []).append(base[first].sum())
    heads = ["order", *(f"{number} target{'s' if number > 1 else ''}" for number in COUNTS)]
    rows = [
        [name, *(f"{np.mean(of_name[k]) ** 0.5:.3f} ({np.mean(costs[name][k]):.0f} s)" for k in COUNTS)]
        for name, of_name in squares.items()
    ]
    print_table(heads, rows, "root mean squared error of the effect of a source on a new target, and seconds")


def _noise_ratio(z: np.ndarray) -> float:
    """Return the variance of residuals as a multiple of that of the effects of sources, by the method of moments."""
    n_sources, n_targets = z.shape
    effects = z - z.mean(axis=0)
    rest = effects - effects.mean(axis=1, keepdims=True)
    residual = (rest**2).sum() / ((n_sources - 1) * (n_targets - 1))
    return float(residual / max(1e-6, effects.mean(axis=1).var(ddof=1) - residual / n_targets))


# Regrets


def print_replay(names: Sequence[str]) -> None:
    """Print the regret of the choice of ten sources of which two have a history of few targets only.

    Args:
        names: Names of the two; empty for five pairs, each source in one of them.
    """
    table = shipped_table()
    steps, replays = (*STEPS, len(table.targets) - 1), []
    for pair in [[table.sources.index(name) for name in names]] if names else five_pairs(table):
        replays.append(replay(table, pair, steps))
        print(f"{' and '.join(table.sources[one] for one in pair)} are replayed", flush=True)
    title = f"pairs of sources: {len(replays)}; targets: {len(table.targets)}"
    print_table(HEADS, replay_rows(np.stack(replays), steps), title)


def five_pairs(table: HistoryTable) -> list[list[int]]:
    """Return pairs of the sources of a table, each source in one of them."""
    pairs: list[list[int]] = np.random.default_rng(0).permutation(len(table.sources)).reshape(-1, 2).tolist()
    return pairs


def replay(table: HistoryTable, pair: Sequence[int], steps: Sequence[int]) -> np.ndarray:
    """Return what the choice is worth on each target, if two sources have a history of the quickest targets alone.

    Args:
        table: The errors of all sources.
        pair: Numbers of the two sources.
        steps: Numbers of targets in their history.

    Returns:
        Regrets by history alone, regrets with pilots of three epochs, and seconds of training the two, (3, n, steps).
    """
    seconds, others = pair_seconds(table), np.delete(np.arange(len(table.sources)), pair)
    order = np.exp(np.log(seconds[others]).mean(axis=0)).argsort()
    costs = np.zeros((3, len(table.targets), len(steps)))
    for new in range(len(table.targets)):
        earlier = order[order != new]
        for column, number in enumerate(steps):
            spent = seconds[np.ix_(pair, earlier[:number])].sum()
            costs[:, new, column] = *_regrets(table, pair, earlier, number, new), spent
    return costs


HEADS = (
    *("targets", "training on one core", "history alone", "minus none"),
    *("with pilots of 3 epochs", "minus none"),
)


def replay_rows(replays: np.ndarray, steps: Sequence[int]) -> list[list[str]]:
    """Return the rows of the table of replays, with the difference of each step to the first one.

    Args:
        replays: What the choice is worth for each pair, target and step, (pairs, 3, n, steps).
        steps: Numbers of targets in the history of the pair.
    """
    means, rows = replays.mean(axis=0), []
    for column, number in enumerate(steps):
        cells = [str(number), format_duration(means[2, :, column].mean()) if number else ""]
        for found in means[:2]:
            one, more = target_interval(found[:, column]), target_interval(found[:, column] - found[:, 0])
            cells += [f"{one.mean:.2f}", f"{more.mean:+.2f} [{more.low:.2f}, {more.high:.2f}]" if column else ""]
        rows.append(cells)
    return rows


def _regrets(
    table: HistoryTable, pair: Sequence[int], earlier: np.ndarray, number: int, new: int
) -> tuple[float, float]:
    """Return the regrets in points by history alone and with pilots of three epochs."""
    z, held_out = table.z[:, earlier].copy(), table.held_out[:, earlier]
    z[list(pair), number:] = np.nan
    rows: list[int | None] = list(range(len(z)))
    if not number:
        others = [one for one in rows if one not in pair]
        rows = [others.index(one) if one in others else None for one in rows]
        z, held_out = z[others], held_out[others]
    model = fit_history(z, held_out)
    observed = np.full(table.z[:, new].shape, np.nan)
    columns = [VARIABLES.index(name) for name in OBSERVED]
    observed[:, columns] = table.z[:, new, columns]
    errors = 100 * table.errors[:, new, VARIABLES.index(TRAINED)]
    forecasts = forecast(model, rows), forecast(model, rows, observed, table.held_out[:, new])
    one, other = (float(errors[each.error.argmin()] - errors.min()) for each in forecasts)
    return one, other


# A run


def run(sources: Sequence[str], targets: Sequence[str], folder: Path, jobs: int | None) -> None:
    """Build the history of sources as if they were not in the one that ships, and compare their errors with it."""
    shipped, names = shipped_history(), {split_input_size(source)[0] for source in sources}
    history = History(tuple(line for line in shipped.lines if line.source not in names))
    plan = plan_build(sources, targets, history, Backend("loky", jobs))
    print(
        f"{len(plan.results)} trainings from the cache, about {format_duration(3600 * plan.hours())} left", flush=True
    )
    for source in plan.sources:
        print(f"{source}: about {format_duration(3600 * plan.hours(source=source))}")
    result = run_build(plan, folder)
    print(f"{result.n_trained} trainings in {format_duration(result.seconds)}; on one core {result.spent:.0f} s, and "
          f"{result.expected:.0f} s were expected; failures: {dict(result.failures)}")  # fmt: skip
    before = {(line.source, line.target): line for line in shipped.lines}
    for line in result.lines:
        earlier = before[line.source, line.target]
        others = [name for name in VARIABLES if line.errors.get(name) != earlier.errors.get(name)]
        changed = f"others: {', '.join(others)}" if others else "all errors are those that ship"
        same = "the same" if line.target_digest == earlier.target_digest else "another"
        print(f"{line.source} on {line.target}, {same} target: {changed}")


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["orders", "replay", "run"])
    parser.add_argument("--sources", default="", help="Two sources, such as crepe-tiny,vit-fashion.")
    parser.add_argument("--targets", default="basic-motions,gunpoint")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    if options.command == "orders":
        print_orders()
    elif options.command == "replay":
        print_replay(list(filter(None, options.sources.split(","))))
    elif options.folder is None or not options.sources:
        parser.error("run needs --folder and --sources")
    else:
        log_to_stderr(quiet=False)
        run(options.sources.split(","), options.targets.split(","), options.folder, options.jobs)


if __name__ == "__main__":
    main()
