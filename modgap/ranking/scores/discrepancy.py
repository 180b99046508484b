"""Knowledge discrepancy (MoNA, ICML 2024, section 2.3) as a score: held out, as a ratio to the null, by random maps."""

from modgap.discrepancy import Estimate, estimate
from modgap.ranking.held_out import check_class_counts, held_out_errors
from modgap.ranking.score import ALL_TASKS, ERROR_RATE, NON_NEGATIVE, Score
from modgap.ranking.source_outputs import SourceOutputs

__all__ = ["SCORES"]

PERMUTATIONS = 19
"""Permutations of the labels for the null distribution of `discrepancy-ratio`."""
RANDOM_MAPS = 100_000
"""Random maps of `discrepancy-montecarlo`."""


def _estimate(outputs: SourceOutputs, estimator: str, permutations: int, seed: int) -> Estimate:
    result = estimate(
        check_class_counts(outputs),
        outputs.labels,
        groups=outputs.groups,
        estimators=[estimator],
        trials=RANDOM_MAPS,
        splits=1,
        curve=False,
        restarts=1,
        permutations=permutations,
        permutations_for=estimator,
        seed=seed,
        threads=1,
    )
    return result.estimates[estimator]


def _nan_if_none(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _ratio_to_null(outputs: SourceOutputs, seed: int) -> float:
    return _nan_if_none(_estimate(outputs, "search", PERMUTATIONS, seed).in_sample_ratio_to_null)


def _montecarlo(outputs: SourceOutputs, seed: int) -> float:
    return _nan_if_none(_estimate(outputs, "montecarlo", 0, seed).solution.value)


SCORES = (
    Score(
        name="discrepancy",
        title="held-out error of the best map from target classes to source classes, over repeated splits",
        unit="error rate",
        reference="MoNA, ICML 2024, equation 3, on held-out samples",
        higher_is_better=False,
        bounds=ERROR_RATE,
        tasks=ALL_TASKS,
        needs_logits=True,
        version=2,
        errors=lambda outputs, options, seed: held_out_errors(outputs, options, seed, "search"),
        error_tasks=ALL_TASKS,
        uses_splits=True,
    ),
    Score(
        name="discrepancy-ratio",
        title="error of the best class map, divided by its mean with permuted labels",
        unit="ratio to the null",
        reference="MoNA, ICML 2024, equation 3, relative to its null distribution",
        compute=_ratio_to_null,
        higher_is_better=False,
        bounds=NON_NEGATIVE,
        tasks=ALL_TASKS,
        needs_logits=True,
        default=False,
        version=2,
    ),
    Score(
        name="discrepancy-montecarlo",
        title="smallest error of 100,000 random class maps, as in the MoNA paper",
        unit="error rate",
        reference="MoNA, ICML 2024, algorithm 2",
        compute=_montecarlo,
        higher_is_better=False,
        bounds=ERROR_RATE,
        tasks=ALL_TASKS,
        needs_logits=True,
        default=False,
        version=2,
    ),
)
