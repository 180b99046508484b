"""Is there anything to choose? What ways to choose a model are worth on tables of models and targets.

    python benchmarks/selection.py                         the tables that are in the repository
    python benchmarks/selection.py --csv errors.csv        a table of yours: errors in [0, 1], a row for each model
    python benchmarks/selection.py --lcdb lcdb-0.1.0.tar.gz --page      all tables, and write them into docs/history.md
    python benchmarks/selection.py --replays --page        how the history model would have chosen, and how sure it was

Each way chooses a model for one target, and everything that it uses is fitted on the other targets. Its regret is the
error of its choice minus the lowest error, in points.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from evidence.page import replace_section
from evidence.ranking_jobs import DEVELOPMENT, TEST
from evidence.ranking_tables import read_truth
from evidence.replay_tables import REPLAYS, PrintedTable, seed_table
from evidence.selection import CONSTANT, Table, choices
from evidence.selection_tables import TRUTH, fine_tuning_table, learning_curves, mteb_table, read_csv, shipped_table
from evidence.two_way import target_interval
from result_log import ResultLog

from modgap.cli.output import print_table

PAGE = Path(__file__).parent.parent / "docs" / "history.md"
SECTION = ("<!-- ways to choose: written by selection.py --page -->", "<!-- end of the ways to choose -->")
REPLAY_SECTION = ("<!-- replays: written by selection.py --replays --page -->", "<!-- end of the replays -->")
HEADS = ["way to choose", "regret [95 %]", "minus the constant answer [95 %]", "right", "said", "80 % intervals"]


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Yield the tables that the options name, and those of the repository unless there is a file of yours."""
    if options.csv:
        yield read_csv(options.csv)
        return
    yield from (fine_tuning_table(), shipped_table(), mteb_table("sound"), mteb_table("image"))
    if options.lcdb:
        yield learning_curves(options.lcdb)


def summary(table: Table) -> str:
    """Return how many models and targets a table has, and how much there is to choose."""
    parts = [f"{table.name}: {len(table.models)} models, {len(table.targets)} targets"]
    errors = 100 * table.errors
    if np.isfinite(errors).all():
        sizes = ", ".join(f"{name} {value:.1f}" for name, value in _components(errors).items())
        best = errors == errors.min(axis=0)
        pairs = [(best[:, one] & best[:, two]).any() for one in range(best.shape[1]) for two in range(one)]
        parts.append(f"standard deviations in points: {sizes}")
        parts.append(f"{100 * np.mean(pairs):.0f} % of the pairs of targets have a best model in common")
    return "; ".join(parts)


def choice_rows(table: Table) -> list[list[str]]:
    """Return a row for each way to choose: regret, difference to the constant answer, and how often it is right."""
    by_choice = choices(table)
    constant = by_choice[CONSTANT].regrets
    rows = []
    for name, choice in by_choice.items():
        own, more = target_interval(choice.regrets), target_interval(choice.regrets - constant)
        stated = [f"{100 * value:.0f} %" if np.isfinite(value) else "" for value in (choice.sure, choice.covered)]
        interval = f"{own.mean:.2f} [{max(own.low, 0):.2f}, {own.high:.2f}]"
        difference = f"{more.mean:+.2f} [{more.low:.2f}, {more.high:.2f}]" if name != CONSTANT else ""
        rows.append([name, interval, difference, f"{100 * choice.right:.0f} %", *stated])
    return rows


def _components(errors: np.ndarray) -> dict[str, float]:
    """Return the standard deviations of targets, models and their interaction by the method of moments."""
    n_models, n_targets = errors.shape
    of_models, of_targets = errors.mean(axis=1), errors.mean(axis=0)
    rest = errors - of_models[:, None] - of_targets + errors.mean()
    left = (rest**2).sum() / ((n_models - 1) * (n_targets - 1))
    model = max(0.0, of_models.var(ddof=1) - left / n_targets)
    target = max(0.0, of_targets.var(ddof=1) - left / n_models)
    return {"target": target**0.5, "model": model**0.5, "interaction and noise": left**0.5}


def replays() -> Iterator[PrintedTable]:
    """Yield what the history model would have chosen on the recorded targets, and how sure it was."""
    table = fine_tuning_table()
    for make in REPLAYS.values():
        yield make(table)
    yield seed_table(read_truth(ResultLog(TRUTH), (*DEVELOPMENT, *TEST)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--lcdb", type=Path)
    parser.add_argument("--replays", action="store_true")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    if options.page and not (options.replays or options.lcdb):
        parser.error("The page has the table of LCDB too. Pass --lcdb FILE.")
    lines = []
    ways = (PrintedTable(summary(table), HEADS, choice_rows(table)) for table in tables(options))
    for printed in replays() if options.replays else ways:
        print_table(printed.heads, printed.rows, printed.title)
        lines += [*printed.markdown, ""]
    if options.page:
        replace_section(PAGE, REPLAY_SECTION if options.replays else SECTION, lines[:-1])


if __name__ == "__main__":
    main()
