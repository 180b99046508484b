"""The tables of the benchmark of source choice."""

from collections.abc import Mapping, Sequence

import numpy as np

from choice.fine_tuning import PRETRAINED, TEXT_MODEL
from choice.score_agreement import (
    ScoreAgreement,
    compare_with_errors,
    compare_with_other_seeds,
    mean_and_interval,
    regret_of_constant_answer,
    regret_of_score_chosen_on_other_targets,
)
from modgap.cli.output import print_table
from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.scores import DEFAULT_RANKING_SCORES, get_score, score_names

__all__ = ["print_agreement", "print_regrets", "print_truth"]

Errors = Mapping[str, Mapping[str, Sequence[float]]]
"""Test errors by target and source, one per seed."""
Scores = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Values by target, score and source; higher is better."""
FIRST_SCORE = DEFAULT_RANKING_SCORES[CLASSIFICATION]
TAU_BOUNDS = (-1.0, 1.0)
REGRET_BOUNDS = (0.0, np.inf)
COLUMNS = (
    "score",
    "better",
    "values",
    "weighted tau [95 %]",
    "tau minus that of size",
    "regret [95 %]",
    "regret minus that of size",
    "regret minus that of the constant answer",
)
CONSTANT = "constant answer: best on the other targets"


def print_truth(errors: Errors, sources: Sequence[str]) -> None:
    """Print the mean test error of each source on each target."""
    rows = [[source, *(_mean_and_sd(target[source]) for target in errors.values())] for source in sources]
    print_table(["source", *errors], rows, "test error in %, mean ± sd over seeds, after fine-tuning all weights")


def _mean_and_sd(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3g}" + (f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else "")


def print_agreement(title: str, errors: Errors, scores: Scores, sources: Sequence[str]) -> dict[str, dict]:
    """Print the agreement of each score and of the baselines with the test errors, and return it as plain values."""
    seeds = [{source: target[source] for source in sources} for target in errors.values()]
    means = [{source: float(np.mean(values)) for source, values in target.items()} for target in seeds]
    agreements = {
        name: compare_with_errors([scores[target][name] for target in errors], means) for name in score_names()
    }
    choices = {
        criterion: regret_of_score_chosen_on_other_targets(agreements, by_tau=criterion == "tau")
        for criterion in ("tau", "regret")
    }
    if min(len(values) for target in seeds for values in target.values()) > 1:
        agreements["one fine-tuning"] = compare_with_other_seeds(seeds)
        first = [scores[target][FIRST_SCORE] for target in errors]
        agreements[f"{FIRST_SCORE}, against the other seeds"] = compare_with_other_seeds(seeds, first)
    constant_choices, constant_regrets = regret_of_constant_answer(means)
    agreements[CONSTANT] = ScoreAgreement(np.full(len(means), np.nan), constant_regrets, 0)
    agreements["size, without the text model"] = _size_without_text_model(errors, scores, means)
    agreements["random choice"] = _baseline([float(np.mean([*target.values()])) for target in means], means)
    if set(sources) == set(PRETRAINED):
        random_weights = [_best_with_random_weights(target) for target in errors.values()]
        agreements["best with random weights"] = _baseline(random_weights, means)
    rows = [_row(name, one, agreements["size"], agreements[CONSTANT]) for name, one in agreements.items()]
    print_table(COLUMNS, rows, f"{title}: means over {len(errors)} targets; regret in points of test error")
    print_regrets(title, list(errors), agreements)
    print(f"constant answer for each target: {', '.join(map(': '.join, zip(errors, constant_choices, strict=True)))}")
    for criterion, (names, mean_regret) in choices.items():
        counts = ", ".join(f"{name} ({names.count(name)} times)" for name in dict.fromkeys(names))
        print(f"scores chosen on the other targets by {criterion}: {counts}; mean regret {mean_regret:.2f} points")
    return {name: _record(agreement) for name, agreement in agreements.items()}


def print_regrets(title: str, targets: Sequence[str], agreements: Mapping[str, ScoreAgreement]) -> None:
    """Print the regret of each score and baseline on each target, and the mean with its interval over targets."""
    rows = [
        [name, *_texts(agreement.regrets), _interval(mean_and_interval(agreement.regrets, REGRET_BOUNDS))]
        for name, agreement in agreements.items()
    ]
    print_table(["score", *targets, "mean [95 %]"], rows, f"{title}: regret by target, in points of test error")


def _texts(values: np.ndarray) -> list[str]:
    return [f"{value:.1f}" if np.isfinite(value) else "-" for value in values]


def _size_without_text_model(errors: Errors, scores: Scores, means: Sequence[Mapping[str, float]]) -> ScoreAgreement:
    """Return the agreement of size among the sources that are not the text model, with the errors of these sources."""
    others = [{name: error for name, error in target.items() if TEXT_MODEL not in name} for target in means]
    return compare_with_errors([scores[target]["size"] for target in errors], others)


def _baseline(errors: Sequence[float], means: Sequence[Mapping[str, float]]) -> ScoreAgreement:
    """Return the regret of these errors, one per target, without a tau."""
    regrets = np.array(errors) - [min(target.values()) for target in means]
    return ScoreAgreement(np.full(len(means), np.nan), regrets, 0)


def _best_with_random_weights(errors: Mapping[str, Sequence[float]]) -> float:
    return min(float(np.mean(values)) for source, values in errors.items() if source.startswith("random:"))


def _record(agreement: ScoreAgreement) -> dict:
    return {
        "taus": _finite_or_none(agreement.taus),
        "regrets": _finite_or_none(agreement.regrets),
        "n_values": agreement.n_values,
    }


def _finite_or_none(values: np.ndarray) -> list[float | None]:
    return [round(float(value), 6) if np.isfinite(value) else None for value in values]


def _row(name: str, agreement: ScoreAgreement, size: ScoreAgreement, constant: ScoreAgreement) -> list[str]:
    better = ("higher" if get_score(name).higher_is_better else "lower") if name in score_names() else ""
    return [
        name,
        better,
        f"{agreement.n_values}" if agreement.n_values else "",
        _interval(mean_and_interval(agreement.taus, TAU_BOUNDS)),
        _interval(mean_and_interval(agreement.taus - size.taus)),
        _interval(mean_and_interval(agreement.regrets, REGRET_BOUNDS)),
        _interval(mean_and_interval(agreement.regrets - size.regrets)),
        _interval(mean_and_interval(agreement.regrets - constant.regrets)),
    ]


def _interval(mean_low_high: tuple[float, float, float]) -> str:
    mean, low, high = mean_low_high
    if not np.isfinite(mean):
        return "-"
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]" if np.isfinite(low) else f"{mean:.2f}"
