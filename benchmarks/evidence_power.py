"""Simulate what the design of the ranking benchmark can detect, without a look at any result.

    python benchmarks/evidence_power.py

Errors are a sum of effects of target, source, their interaction and the seed, all normal. A score is the negative true
error with noise added to the interaction, so that its quality goes from useless to perfect. The constant answer is the
best source of the development targets. For each quality the tables have the mean regrets, how often the interval of
their difference excludes 0 (power), and how often it covers the mean difference: over targets and sources, and over
targets alone, for these sources.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from evidence.two_way import MeanInterval, regrets, target_interval, two_way_interval

from modgap.cli.output import print_table

FURTHER = 400
"""Further targets that show what is true of the sources of a benchmark."""
COLUMNS = (
    "noise of the score",
    "its regret",
    "constant answer's",
    "difference",
    "power",
    "coverage",
    "power, these sources",
    "coverage, these sources",
)


@dataclass(frozen=True)
class Design:
    """Sizes and standard deviations of a simulated benchmark, in percentage points.

    Attributes:
        sources: Number of sources.
        targets: Number of test targets.
        development: Number of development targets, which choose the constant answer.
        source_sd: Standard deviation of the sources' effects.
        interaction_sd: Standard deviation of the interaction.
        seed_sd: Standard deviation of the mean over seeds.
    """

    sources: int = 10
    targets: int = 14
    development: int = 10
    source_sd: float = 6.0
    interaction_sd: float = 6.0
    seed_sd: float = 1.5


def simulate(design: Design, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a benchmark.

    Args:
        design: Sizes and standard deviations.
        noise: Standard deviation of the score's noise, relative to that of the true errors.
        rng: Random generator.

    Returns:
        Errors, scores and the constant answer as scores, each (S, T + 400): those of the test targets T come first, and
        the further ones show what is true of these sources.
    """
    shape = (design.sources, design.development)
    further = (design.sources, design.targets + FURTHER)
    source = rng.normal(0, design.source_sd, (design.sources, 1))
    development = source + rng.normal(0, design.interaction_sd, shape) + rng.normal(0, design.seed_sd, shape)
    true = source + rng.normal(0, design.interaction_sd, further)
    measured = true + rng.normal(0, design.seed_sd, further)
    spread = np.hypot(design.source_sd, design.interaction_sd)
    scores = -true + rng.normal(0, noise * spread, further)
    constant = np.broadcast_to(-development.mean(axis=1, keepdims=True), further)
    return measured, scores, constant


@dataclass(frozen=True)
class Detected:
    """Findings of many simulated benchmarks.

    Attributes:
        score: Mean regret of the score.
        constant: Mean regret of the constant answer.
        power: Share of benchmarks whose interval of the difference excludes 0, over targets and sources.
        coverage: Share of those whose interval covers the mean difference.
        power_here: The power of intervals over targets alone.
        coverage_here: Their coverage.
    """

    score: float
    constant: float
    power: float
    coverage: float
    power_here: float
    coverage_here: float

    @property
    def difference(self) -> float:
        """Regret of the score minus that of the constant answer."""
        return self.score - self.constant


def run(design: Design, noise: float, repeats: int, resamples: int) -> Detected:
    """Simulate benchmarks, and return what their intervals find."""
    rng = np.random.default_rng(0)
    intervals: dict[bool, list[MeanInterval]] = {True: [], False: []}
    means = []
    true_here = []
    for repeat in range(repeats):
        measured, scores, constant = simulate(design, noise, rng)

        def difference(
            sources: np.ndarray,
            targets: np.ndarray,
            measured: np.ndarray = measured,
            scores: np.ndarray = scores,
            constant: np.ndarray = constant,
        ) -> np.ndarray:
            return regrets(scores, measured, sources, targets) - regrets(constant, measured, sources, targets)

        sources = np.arange(design.sources)
        every = sources, np.arange(design.targets)
        true_here.append(difference(sources, np.arange(design.targets, design.targets + FURTHER)).mean())
        means.append([regrets(scores, measured, *every).mean(), regrets(constant, measured, *every).mean()])
        both = two_way_interval(difference, design.sources, design.targets, resamples=resamples, seed=repeat)
        intervals[True].append(both)
        intervals[False].append(target_interval(difference(*every)))
    score, constant_regret = (float(value) for value in np.mean(means, axis=0))
    truths = {True: [score - constant_regret] * repeats, False: true_here}
    shares = []
    for vary, intervals_of_size in intervals.items():
        shares.append(float(np.mean([one.low > 0 or one.high < 0 for one in intervals_of_size])))
        covered = [one.low <= true <= one.high for one, true in zip(intervals_of_size, truths[vary], strict=True)]
        shares.append(float(np.mean(covered)))
    return Detected(score, constant_regret, *shares)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=400)
    options = parser.parse_args()
    for interaction in (3.0, 6.0, 9.0):
        design = Design(interaction_sd=interaction)
        rows = []
        for noise in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 3.0):
            one = run(design, noise, options.repeats, options.resamples)
            values = (f"{value:.1f}" for value in (one.score, one.constant, one.difference))
            shares = (f"{value:.0%}" for value in (one.power, one.coverage, one.power_here, one.coverage_here))
            rows.append([f"{noise:g}", *values, *shares])
        title = f"{design.sources} sources, {design.targets} targets, sd {design.source_sd:g} and {interaction:g}"
        print_table(COLUMNS, rows, title)


if __name__ == "__main__":
    main()
