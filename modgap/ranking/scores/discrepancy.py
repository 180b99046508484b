"""Knowledge discrepancy (MoNA, ICML 2024, section 2.3) as a score: held out, calibrated, and by random maps."""

import numpy as np

from modgap.discrepancy import Estimate, estimate
from modgap.errors import InputError
from modgap.ranking.score import ALL_TASKS, AT_LEAST_ZERO, SHARE, Score
from modgap.ranking.source_outputs import Evidence

__all__ = ["SCORES"]

NULLS = 19
TRIALS = 100_000


def _found(evidence: Evidence, estimator: str, null: int, seed: int) -> Estimate:
    assert evidence.logits is not None
    outputs = evidence.logits.shape[1]
    if evidence.n_classes > outputs:
        raise InputError(
            f"the target has {evidence.n_classes} classes, more than the source's head, which has {outputs}"
        )
    result = estimate(
        np.asarray(evidence.logits, np.float32), evidence.labels, groups=evidence.groups, estimators=[estimator],
        trials=TRIALS, null=null, bootstrap=0, seed=seed, threads=1,
    )  # fmt: skip
    return result.estimates[estimator]


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _held_out(evidence: Evidence, seed: int) -> float:
    return _number(_found(evidence, "search", 0, seed).held_out)


def _calibrated(evidence: Evidence, seed: int) -> float:
    return _number(_found(evidence, "search", NULLS, seed).ratio_to_null)


def _montecarlo(evidence: Evidence, seed: int) -> float:
    return _number(_found(evidence, "montecarlo", 0, seed).solution.value)


SCORES = (
    Score(
        "discrepancy", "share got wrong by the best map of classes, on samples that it was not chosen by",
        "MoNA, ICML 2024, equation 3, held out", _held_out, higher_is_better=False,
        bounds=SHARE, tasks=ALL_TASKS, needs_logits=True,
    ),
    Score(
        "discrepancy-ratio", "share got wrong by the best map over what permuted labels give",
        "MoNA, ICML 2024, equation 3, calibrated", _calibrated, higher_is_better=False,
        bounds=AT_LEAST_ZERO, tasks=ALL_TASKS,
        needs_logits=True, usual=False,
    ),
    Score(
        "discrepancy-montecarlo", "the paper's: the smallest share got wrong over 100,000 random maps",
        "MoNA, ICML 2024, algorithm 2", _montecarlo, higher_is_better=False, bounds=SHARE, tasks=ALL_TASKS,
        needs_logits=True, usual=False,
    ),
)  # fmt: skip
