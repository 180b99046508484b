"""Cross-validated LEEP: LEEP with a prior, on samples that its class probabilities were not fitted on."""

from modgap.ranking.score import ALL_TASKS, NON_POSITIVE, Score
from modgap.ranking.scores.discrepancy import held_out_errors

__all__ = ["SCORE"]

SCORE = Score(
    name="leep-held-out",
    title="LEEP on samples that it was not fitted on, over repeated splits",
    unit="nats",
    reference="Nguyen et al., ICML 2020, with a prior and on held-out samples",
    higher_is_better=True,
    bounds=NON_POSITIVE,
    tasks=ALL_TASKS,
    needs_logits=True,
    errors=lambda outputs, options, seed: held_out_errors(outputs, options, seed, "leep"),
    error_tasks=ALL_TASKS,
    uses_splits=True,
)
