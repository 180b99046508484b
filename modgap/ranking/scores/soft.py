"""Soft discrepancy as a score: the probability that a source does not give to the classes of the best map."""

from modgap.discrepancy.probabilities import Probabilities, matched_temperature
from modgap.labels.label_space import label_space
from modgap.ranking.score import ALL_TASKS, ERROR_RATE, ErrorOptions, Score
from modgap.ranking.scores.discrepancy import check_class_counts, held_out_errors
from modgap.ranking.source_outputs import SourceOutputs
from modgap.statistics.intervals import SampleErrors

__all__ = ["SCORES"]


def _matched(outputs: SourceOutputs, options: ErrorOptions, seed: int) -> SampleErrors:
    # This raises for constant logits, of which there is no matched version.
    probabilities = Probabilities(check_class_counts(outputs), label_space(outputs.labels).rows)
    matched_temperature(probabilities, outputs.n_classes)
    return held_out_errors(outputs, options, seed, "soft-matched")


SCORES = (
    Score(
        name="soft",
        title="held-out probability that the source does not give to the classes of the best map",
        unit="1 - probability",
        reference="MoNA, ICML 2024, equation 3, with probabilities in place of predictions",
        higher_is_better=False,
        bounds=ERROR_RATE,
        tasks=ALL_TASKS,
        needs_logits=True,
        errors=lambda outputs, options, seed: held_out_errors(outputs, options, seed, "soft"),
        error_tasks=ALL_TASKS,
        uses_splits=True,
    ),
    Score(
        name="soft-matched",
        title="the score soft at the temperature at which the mean entropy is half of log K",
        unit="1 - probability",
        reference="MoNA, ICML 2024, equation 3, with probabilities of equal entropy for all sources",
        higher_is_better=False,
        bounds=ERROR_RATE,
        tasks=ALL_TASKS,
        needs_logits=True,
        default=False,
        errors=_matched,
        error_tasks=ALL_TASKS,
        uses_splits=True,
    ),
)
