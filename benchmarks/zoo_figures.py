"""Figures of the matrix of packaged sources and targets (zoo_matrix.py), for the notebook of the gallery.

python benchmarks/zoo_figures.py FOLDER        write both figures
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from result_log import ResultLog
from zoo_matrix import BASELINE, PROBE, RESULTS, SOURCE, best_sources, name_counts, scores_frame

MOST_REGRET = 50
"""Regret in points from which on a cell is white."""


def class_scores(results: Path = RESULTS) -> pd.DataFrame:
    """Return the scores on targets with classes; errors of values are of another unit."""
    scores = scores_frame(ResultLog(results).results())
    return scores[scores["kind"] != "values"]


def differences_figure(scores: pd.DataFrame) -> Figure:
    """Draw the error of the best linear probe minus that of the best baseline, one dot for each target.

    Args:
        scores: Scores on targets with classes.
    """
    best = best_sources(scores)
    best["difference"] = 100 * (best[f"{SOURCE} error"] - best[f"{BASELINE} error"])
    both = best.dropna(subset="difference")
    order = both.groupby("kind")["difference"].median().sort_values().index
    n_better = int((both["difference"] < 0).sum())
    figure, ax = plt.subplots(figsize=(8, 0.5 * len(order) + 1.6), layout="constrained")
    sns.stripplot(both, x="difference", y="kind", order=order, color="#0b5a9e", size=7, alpha=0.8, jitter=0.15, ax=ax)
    ax.axvline(0, color="0.4", linewidth=1)
    ax.set(xlabel="error of the best linear probe minus that of the best baseline, in points", ylabel="")
    title = f"The best linear probe has a lower error than the best baseline on {n_better} of {len(both)} targets"
    ax.set_title(title, loc="left", weight="bold")
    sns.despine(ax=ax, left=True)
    return figure


def regrets_figure(scores: pd.DataFrame) -> Figure:
    """Draw the mean regret of each source on each kind of target, in points.

    The regret is the error of the source's linear probe minus the lowest of all sources that read the target. A cell is
    empty if the source reads no target of the kind.

    Args:
        scores: Scores on targets with classes.
    """
    sources = scores[scores["role"] == SOURCE].dropna(subset=PROBE)
    lowest = sources.groupby("target")[PROBE].transform("min")
    regrets = sources.assign(regret=100 * (sources[PROBE] - lowest))
    table = regrets.pivot_table(index="source", columns="kind", values="regret", aggfunc="mean")
    table = table.loc[regrets.groupby("source")["regret"].mean().sort_values().index]
    counts = name_counts(best_sources(scores)[SOURCE])
    figure, ax = plt.subplots(figsize=(8, 0.28 * len(table) + 1.4), layout="constrained")
    style = {"fmt": ".0f", "cmap": "Blues_r", "vmin": 0, "vmax": MOST_REGRET, "cbar": False, "linewidths": 1}
    sns.heatmap(table, annot=True, ax=ax, **style)
    ax.set(xlabel="", ylabel="")
    n_targets = sources["target"].nunique()
    title = f"No source has the lowest error on more than {counts.iloc[0]} of {n_targets} targets"
    ax.set_title(title, loc="left", weight="bold")
    return figure


def main() -> None:
    """Write both figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    scores = class_scores()
    differences_figure(scores).savefig(folder / "zoo-differences.png", dpi=200)
    regrets_figure(scores).savefig(folder / "zoo-regrets.png", dpi=200)


if __name__ == "__main__":
    main()
