"""Numbers of modgap's benchmark of rankings (docs/evidence.md), which the recommendation of a ranking quotes."""

from dataclasses import dataclass

__all__ = ["FINDINGS", "Findings"]


@dataclass(frozen=True)
class Findings:
    """Mean regrets on the test targets: error of the first choice minus the lowest error, in points of percent.

    Two shares say how well a score tells whether pretraining helps.

    Attributes:
        sources: Number of sources.
        targets: Number of targets.
        constant: Regret of always naming the source with the lowest mean error on other targets.
        default_score: Regret of the score that `modgap rank` orders sources of classification targets by.
        short_fine_tuning: Regret of a short fine-tuning of every source.
        advised: Regret of a short fine-tuning of the first three by the default score, which `modgap rank` advises.
        random_choice: Regret of a random choice.
        same_named: Number of targets on which the default score names the same source.
        help_told: Percentage of pairs of a source and its random-weights control that this score orders as their test
            errors do.
        help_always: The same if the source is always named.
    """

    sources: int
    targets: int
    constant: float
    default_score: float
    short_fine_tuning: float
    advised: float
    random_choice: float
    same_named: int
    help_told: int
    help_always: int


FINDINGS = Findings(
    sources=10,
    targets=14,
    constant=3.9,
    default_score=4.9,
    short_fine_tuning=3.6,
    advised=4.1,
    random_choice=15.5,
    same_named=13,
    help_told=61,
    help_always=60,
)
"""They are recomputed from `benchmarks/truth/ranking.jsonl` in `tests/test_evidence_page.py`."""
