"""Is there anything to choose? What ways to choose a model are worth on tables of models and targets.

    python benchmarks/selection.py                         the tables that are in the repository
    python benchmarks/selection.py --csv errors.csv        a table of yours: errors in [0, 1], a row for each model
    python benchmarks/selection.py --lcdb lcdb-0.1.0.tar.gz

Each way chooses a model for one target, and everything that it uses is fitted on the other targets. Its regret is the
error of its choice minus the lowest error, in points.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from evidence.selection import CONSTANT, Table, choices
from evidence.selection_tables import fine_tuning_table, learning_curves, mteb_table, read_csv
from evidence.two_way import target_interval

from modgap.cli.output import print_table


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Yield the tables that the options name; those of the repository if they name none."""
    if options.csv:
        yield read_csv(options.csv)
    if options.lcdb:
        yield learning_curves(options.lcdb)
    if not options.csv and not options.lcdb:
        yield from (fine_tuning_table(), mteb_table("sound"), mteb_table("image"))


def print_choices(table: Table) -> None:
    """Print how much there is to choose, and what each way to choose is worth."""
    errors, found = 100 * table.errors, choices(table)
    print(f"\n{table.name}: {len(table.models)} models, {len(table.targets)} targets")
    if np.isfinite(errors).all():
        parts = _components(errors)
        print("standard deviations in points: " + ", ".join(f"{name} {value:.1f}" for name, value in parts.items()))
        best = errors == errors.min(axis=0)
        pairs = [(best[:, one] & best[:, two]).any() for one in range(best.shape[1]) for two in range(one)]
        print(f"pairs of targets with a best model in common: {100 * np.mean(pairs):.0f} %")
    constant = found[CONSTANT].regrets
    rows = []
    for name, choice in found.items():
        own, more = target_interval(choice.regrets), target_interval(choice.regrets - constant)
        of_model = [f"{100 * value:.0f} %" if np.isfinite(value) else "" for value in (choice.sure, choice.covered)]
        interval = f"{own.mean:.2f} [{max(own.low, 0):.2f}, {own.high:.2f}]"
        rows.append(
            [
                name,
                interval,
                f"{more.mean:+.2f} [{more.low:.2f}, {more.high:.2f}]",
                f"{100 * choice.right:.0f} %",
                *of_model,
            ]
        )
    heads = ["way to choose", "regret [95 %]", "minus the constant answer [95 %]", "right", "said", "80 % intervals"]
    print_table(heads, rows)


def _components(errors: np.ndarray) -> dict[str, float]:
    """Return the standard deviations of targets, models and their interaction by the method of moments."""
    n_models, n_targets = errors.shape
    of_models, of_targets = errors.mean(axis=1), errors.mean(axis=0)
    rest = errors - of_models[:, None] - of_targets + errors.mean()
    left = (rest**2).sum() / ((n_models - 1) * (n_targets - 1))
    model = max(0.0, of_models.var(ddof=1) - left / n_targets)
    target = max(0.0, of_targets.var(ddof=1) - left / n_models)
    return {"target": target**0.5, "model": model**0.5, "interaction and noise": left**0.5}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--lcdb", type=Path)
    for table in tables(parser.parse_args()):
        print_choices(table)


if __name__ == "__main__":
    main()
