"""Count how often a short fine-tuning, a comparison over targets, and repeated samples lead to false statements.

    python benchmarks/false_statements.py [pilot] [targets] [copies]       about six minutes on one core

- pilot: all sources are as good as their controls. Trainings differ by a standard deviation, and the first training
  chooses one of three rates. How often is the best source significantly better than its control, by one training and by
  three with the variance between them?
- targets: sources on few targets. How often is the first one called equal to others, though the sign test could not
  reject at all?
- copies: the logits do not depend on the labels, and each sample is there ten times. How often is p <= .05, with copies
  taken for independent samples (as modgap did before) and kept together?

Each rate has its standard error in brackets. Expected result: no rate of modgap's rule is above .05 by more than two
standard errors. Without its rule, pilots are at .04 to .25 and copies above .9.
"""

import argparse
import logging

import numpy as np
from scipy.stats import rankdata

import modgap
from modgap.ranking.matrix.over_targets import compare_over_targets, targets_needed
from modgap.ranking.scores import PILOT
from modgap.ranking.standings import compute_error_standings
from modgap.statistics.intervals import SampleErrors

LEVEL = 0.05
RATES, SEEDS, JUDGED = 3, 3, 128


def shown(count: int, n: int) -> str:
    """Return a rate with its standard error."""
    rate = count / n
    return f"{rate:.3f} ({np.sqrt(rate * (1 - rate) / n):.3f})"


def trainings(rng: np.random.Generator, sd: float, difficulty: np.ndarray) -> np.ndarray:
    """Return the errors of the trainings of one source at its chosen rate, shape (seeds, samples)."""
    chances = 0.3 + sd * rng.standard_normal((RATES, SEEDS, 1)) + difficulty
    errors = rng.random((RATES, SEEDS, JUDGED)) < chances
    return errors[errors[:, 0].mean(axis=1).argmin()].astype(float)


def pilot_p_values(sources: list[np.ndarray], controls: list[np.ndarray]) -> np.ndarray:
    """Return the p-values of the best source against its control, by the first training and by all of them."""
    p_values = []
    for used in (1, SEEDS):
        means = [one[:used].mean(axis=0) for one in (*sources, *controls)]
        best = int(np.argmin([mean.mean() for mean in means[: len(sources)]]))
        errors = [
            SampleErrors(mean, np.full(JUDGED, 1 / JUDGED), np.arange(JUDGED), np.array([mean.mean()]), None, 0)
            for mean in (means[best], means[len(sources) + best])
        ]
        pair = (sources[best], controls[best])
        more = {i: (one.mean(axis=1).var(ddof=1) / SEEDS, SEEDS - 1) for i, one in enumerate(pair)}
        standings = compute_error_standings(PILOT, errors, more if used > 1 else None)
        is_better = standings.values[0] < standings.values[1]
        p_values.append(min(1.0, standings.p_values[0, 1] * len(sources)) if is_better else 1.0)
    return np.array(p_values)


def simulate_pilots(runs: int = 2000) -> None:
    """Print how often the best of equal sources is better than its control."""
    print("\n| sd of trainings | sources | one training | three trainings |\n|---|---|---|---|")
    for sd in (0.04, 0.09):
        for n_sources in (1, 3):
            rng = np.random.default_rng([n_sources, round(100 * sd)])
            counts = np.zeros(2, int)
            for _ in range(runs):
                difficulty = 0.4 * (rng.beta(0.5, 0.5, JUDGED) - 0.5)
                drawn = [trainings(rng, sd, difficulty) for _ in range(2 * n_sources)]
                counts += pilot_p_values(drawn[:n_sources], drawn[n_sources:]) <= LEVEL
            print(f"| {sd} | {n_sources} | {shown(counts[0], runs)} | {shown(counts[1], runs)} |", flush=True)


def simulate_targets(runs: int = 1000) -> None:
    """Print what is said of the first source against the others, and how often equal sources differ."""
    print("\n| sources | targets | gap in sd | needed | not significantly better | unknown | clear | any differ |")
    print("|---|---|---|---|---|---|---|---|")
    for n_sources, n_targets, gap in ((10, 10, 0), (10, 10, 9), (10, 11, 0), (10, 11, 9), (10, 20, 0), (5, 9, 0)):
        rng = np.random.default_rng([n_sources, n_targets, gap])
        counts = np.zeros(4, int)
        for _ in range(runs):
            values = rng.standard_normal((n_sources, n_targets)) + gap * np.arange(n_sources)[:, None]
            names = [str(index) for index in range(n_sources)]
            _, standings = compare_over_targets(names, rankdata(-values, axis=0))
            others = [one.p_value for one in standings[1:]]
            is_tied = any(p_value is not None and p_value > LEVEL for p_value in others)
            is_unknown = not is_tied and any(p_value is None for p_value in others)
            letters = [set(one.letters) for one in standings if one.letters]
            differ = any(not one & other for one in letters for other in letters)
            counts += [is_tied, is_unknown, not is_tied and not is_unknown, differ]
        needed = targets_needed(n_sources)
        cells = " | ".join(shown(count, runs) for count in counts)
        print(f"| {n_sources} | {n_targets} | {gap} | {needed} | {cells} |", flush=True)


def p_value_of_independent_copies(logits: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> float:
    """Return the p-value of copies whose logits differ by a change that means nothing."""
    changed = logits * (1 + 1e-9 * rng.standard_normal((len(logits), 1)))
    return p_value_of(changed, labels)


def p_value_of(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the p-value of the permutation test."""
    result = modgap.estimate(logits, labels, estimators=["soft"], permutations=19)
    return float(result.result.null.p_value)


def simulate_copies(draws: int = 1000) -> None:
    """Print how often repeated samples without signal are significant."""
    print("\n| copies | independent | kept together |\n|---|---|---|")
    for name in ("of all samples", "of one class"):
        counts = np.zeros(2, int)
        for seed in range(draws):
            rng = np.random.default_rng(seed)
            labels = rng.permutation(np.arange(30) % 3)
            times = np.where((labels == 0) | (name == "of all samples"), 10, 1)
            rows = rng.permutation(np.repeat(np.arange(30), times))
            logits, repeated = rng.standard_normal((30, 10))[rows], labels[rows]
            p_values = (p_value_of_independent_copies(logits, repeated, rng), p_value_of(logits, repeated))
            counts += np.array(p_values) <= LEVEL
        print(f"| {name} | {shown(counts[0], draws)} | {shown(counts[1], draws)} |", flush=True)


SIMULATIONS = {"pilot": simulate_pilots, "targets": simulate_targets, "copies": simulate_copies}


def main() -> None:
    """Run the simulations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("simulations", nargs="*", help="some of pilot, targets, copies; all by default")
    logging.getLogger("modgap").setLevel(logging.ERROR)
    for name in parser.parse_args().simulations or SIMULATIONS:
        SIMULATIONS[name]()


if __name__ == "__main__":
    main()
