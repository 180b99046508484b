"""Recommendation of a ranking in plain sentences, made from its verdict."""

from collections.abc import Iterator

from modgap.ranking import verdict as kinds
from modgap.ranking.half_samples import MIN_GROUPS
from modgap.ranking.types import Ranking
from modgap.ranking.verdict import ErrorComparison, Verdict, judge

__all__ = ["recommendation", "verdict_sentences"]

ERROR_NAMES = {"knn": "k-NN error", "linear-probe": "Linear-probe error", "discrepancy": "Held-out discrepancy"}
"""Names of error scores in sentences."""
MAX_COMPETITORS = 4
"""Most competitors that are named."""
FEW_SAMPLES = 100
"""Number of samples below which hardly any two sources differ significantly."""
SMALL_CLASS = 5
"""Number of samples below which results for a class are unreliable."""
TRAIN_FROM_SCRATCH = "train a model from scratch (modgap train --method scratch)"


def recommendation(ranking: Ranking) -> list[str]:
    """Return the recommendation as sentences, the most important first.

    All sentences are made from the verdict of the ranking, so that they agree with each other and with the record.
    """
    return [*verdict_sentences(judge(ranking)), *_caveats(ranking)]


def verdict_sentences(verdict: Verdict) -> Iterator[str]:
    """Yield the sentences of a verdict, the most important first."""
    if verdict.kind == kinds.NOT_SCORED:
        yield f"No source could be scored by {verdict.by}. The reason is given beside each source."
        return
    yield _standing(verdict)
    yield from _doubts(verdict)
    if advice := _advice(verdict):
        yield advice
    if verdict.control == kinds.CONTROL_WORSE and not verdict.has_doubts:
        yield (
            f"By {verdict.by}, the same architecture with random weights scores significantly worse, so the score "
            "reflects what the source has learned."
        )
    if verdict.largest:
        yield f"By number of parameters alone, {verdict.largest} would rank first."
    yield from _other_scores(verdict)


def _standing(verdict: Verdict) -> str:
    """Return the sentence that says how clear the first place is. It advises a transfer only if nothing opposes it."""
    ranks_first = f"{verdict.best} ranks first of {verdict.n_sources} sources by {verdict.by}"
    if verdict.kind == kinds.SINGLE:
        return f"{verdict.best} is the only source that could be scored by {verdict.by}. There is no comparison."
    if verdict.kind == kinds.EQUAL:
        names = ", ".join([str(verdict.best), *verdict.equals])
        return f"{names} have the same score by {verdict.by}, the best of {verdict.n_sources} sources."
    if verdict.kind == kinds.UNCERTAIN:
        return f"{ranks_first}, but it is unknown how certain this is, because {verdict.uncertainty_reason}."
    if verdict.kind == kinds.TIED:
        return f"{ranks_first}, but it is not significantly better than {_competitors(verdict)}."
    if verdict.kind == kinds.DOUBTFUL:
        return f"{ranks_first}, significantly ahead of the others, but nothing shows that transferring from it helps."
    return f"{ranks_first}, significantly ahead of the others (at the 95 % level). Transfer from it."


def _competitors(verdict: Verdict) -> str:
    """Return the names of the sources that are not significantly different, with their probabilities."""
    competitors = verdict.competitors[:MAX_COMPETITORS]
    named = [f"{competitor.name} ({competitor.win_probability:.2f})" for competitor in competitors]
    n_more = len(verdict.competitors) - len(competitors)
    more = f" and {n_more} more" if n_more else ""
    meaning = f"in parentheses: the probability of being better than {verdict.best}"
    return f"{', '.join(named)}{more} ({meaning})"


def _doubts(verdict: Verdict) -> Iterator[str]:
    owner = f"The score of {verdict.best}" if verdict.kind == kinds.EQUAL else "Its score"
    if verdict.control == kinds.CONTROL_BETTER:
        yield (
            f"{owner} is significantly worse than that of the same architecture with random weights. Pretraining hurts "
            "on this target by this score; do not rely on its rank."
        )
    if verdict.control == kinds.CONTROL_SIMILAR:
        yield (
            f"{owner} is not significantly different from the same architecture with random weights. Pretraining does "
            "not help on this target by this score; do not rely on its rank."
        )
    if verdict.majority:
        of_source = f" of {verdict.best}" if verdict.kind == kinds.EQUAL else ""
        yield _majority_sentence(verdict.majority, of_source)
    if verdict.raw_values:
        described = _describe_error(verdict.raw_values, " on raw values")
        yield f"{described}, no worse than on the features of the best source ({verdict.raw_values.baseline:.3f})."


def _majority_sentence(majority: ErrorComparison, of_source: str) -> str:
    better = "no better" if majority.error >= majority.baseline else "not significantly better"
    described = _describe_error(majority, of_source)
    return f"{described}, {better} than always predicting the majority class ({majority.baseline:.3f})."


def _describe_error(comparison: ErrorComparison, where: str) -> str:
    interval = ""
    if comparison.interval:
        low, high = comparison.interval
        interval = f" (95 % CI {low:.3f}-{high:.3f})"
    return f"{ERROR_NAMES[comparison.score]}{where} is {comparison.error:.3f}{interval}"


def _advice(verdict: Verdict) -> str:
    """Return what to do if the verdict does not already say to transfer. Empty if there is nothing to do."""
    if verdict.kind == kinds.RECOMMENDED:
        return ""
    other = _other_candidate(verdict)
    if verdict.has_doubts:
        candidates = f"{verdict.best} and {other}" if other else str(verdict.best)
        return f"Fine-tune {candidates}, {TRAIN_FROM_SCRATCH}, and compare them."
    if not other:
        return ""
    if verdict.kind == kinds.UNCERTAIN:
        return f"Fine-tune {verdict.best} and {other} and compare them."
    return f"Collect more samples, or fine-tune {verdict.best} and {other} and compare them."


def _other_candidate(verdict: Verdict) -> str | None:
    """Return the name of the source that is closest to the first."""
    if verdict.equals:
        return verdict.equals[0]
    return verdict.competitors[0].name if verdict.competitors else verdict.runner_up


def _other_scores(verdict: Verdict) -> Iterator[str]:
    n_agreeing = len(verdict.agreeing)
    n_scores = n_agreeing + len(verdict.disagreeing)
    if n_scores and not n_agreeing:
        yield f"No other score ranks {verdict.best} first ({', '.join(verdict.disagreeing)})."
    elif n_scores:
        exceptions = f" The others are {', '.join(verdict.disagreeing)}." if verdict.disagreeing else ""
        verb = "ranks" if n_agreeing == 1 else "rank"
        yield f"{n_agreeing} of {n_scores} other scores {verb} {verdict.best} first too.{exceptions}"
    if verdict.unconvincing:
        yield (
            f"By {', '.join(verdict.unconvincing)}, the same architecture with random weights scores at least as well, "
            "so this agreement says little."
        )


def _caveats(ranking: Ranking) -> Iterator[str]:
    failed = [row.name for row in ranking.failed]
    if failed:
        yield f"{len(failed)} of the named sources could not be scored: {', '.join(failed)}."
    target = ranking.target
    if target is None:
        return
    if target.samples < FEW_SAMPLES:
        yield f"The target has only {target.samples} samples. With so few, sources rarely differ significantly."
    if target.groups and target.groups < MIN_GROUPS:
        yield (
            f"The target has only {target.groups} groups. There are no intervals, because they need at least "
            f"{MIN_GROUPS} groups."
        )
    if target.smallest_class_samples < SMALL_CLASS:
        samples = "1 sample" if target.smallest_class_samples == 1 else f"{target.smallest_class_samples} samples"
        yield f"The smallest class has {samples}; results for it are unreliable."
