"""The tables of the ranking benchmark: errors, variance components, and the agreement of scores and baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from result_log import ResultLog
from scipy import stats

from evidence.agreement import (
    CONSTANT,
    Agreement,
    Judgment,
    agreements,
    default_score,
    judge,
    random_regret,
    random_regrets,
    with_record,
)
from evidence.controls import print_controls, print_preferred_controls
from evidence.figures import errors_figure, regrets_figure, relation_figure
from evidence.first_pilots import print_first_pilots
from evidence.ranking_jobs import (
    DEVELOPMENT,
    EPOCHS,
    MIDDLE_RATE,
    ONE_SEED,
    RATES,
    SOURCES,
    TEST,
    Job,
    chosen_rate,
    n_seeds,
)
from evidence.raw_neighbors import raw_errors
from evidence.relation import print_relations, relation, without_effects
from evidence.two_way import MeanInterval, regrets, target_interval, variance_components
from modgap.answers.figures.files import save_figure
from modgap.cli.output import print_table

LAST = EPOCHS[-1]
SURROGATES = ("notes", "spoken-languages")
"""Targets that stand for the own data of four sources."""
RANDOM_PREFIX = "random:"
BEST_PILOT = "pilot at three rates"
HEADLINE = "discrepancy"
"""The score that is the first number of `modgap discrepancy`: the held-out error of the best map."""
OF_ITS_CONTROL = "{} of the random-weights control"
MOST_POOLED = 2000
"""Largest number of resamples of correlations and shares of all pairs, which take longer than regrets."""


@dataclass(frozen=True)
class Truth:
    """Results of some targets, by source and target.

    Attributes:
        targets: Names of the targets T whose jobs are all done.
        errors: Test error in percent after fine-tuning, by epoch, each (S, T, R) with R seeds; NaN after the
            last seed of a source.
        controls: Test error after the last epoch with random weights, (S, T).
        probes: Test error of a linear probe, (S, T).
        raw: Test error of nearest neighbors on the raw values, (T,); NaN where the samples differ in size.
        pilots: Negative error on the other half of the labeled samples, by name, each (S, T).
        scores: Scores by name, higher is better, each (S, T); NaN where a score is not defined.
        control_scores: Those of the sources with random weights.
        seconds: Seconds of all jobs.
    """

    targets: tuple[str, ...]
    errors: Mapping[int, np.ndarray]
    controls: np.ndarray
    probes: np.ndarray
    raw: np.ndarray
    pilots: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
    control_scores: Mapping[str, np.ndarray]
    seconds: float

    @property
    def means(self) -> np.ndarray:
        """Test error after the last epoch, the mean over seeds, (S, T)."""
        means: np.ndarray = np.nanmean(self.errors[LAST], axis=2)
        return means


def read_truth(log: ResultLog, targets: Sequence[str]) -> Truth:
    """Read the results of the targets of which no job is missing."""
    complete = tuple(target for target in targets if all(_records(log, source, target) for source in SOURCES))
    records = {(source, target): _records(log, source, target) for source in SOURCES for target in complete}
    names = list(next(iter(records.values()))["scores"][0]["scores"]) if records else []

    def table(pick) -> np.ndarray:  # type: ignore[no-untyped-def]
        return np.array([[pick(source, records[source, target]) for target in complete] for source in SOURCES], float)

    def trained(epoch: int, seed: int):  # type: ignore[no-untyped-def]
        return table(lambda _, found: found["all"][seed]["errors"][str(epoch)] if seed < len(found["all"]) else np.nan)

    def pilot(epoch: int):  # type: ignore[no-untyped-def]
        return table(lambda _, found: -found["half"][RATES.index(MIDDLE_RATE)]["errors"][str(epoch)])

    def score(name: str, prefix: str = ""):  # type: ignore[no-untyped-def]
        return table(lambda source, found: _number(found["scores"][0]["scores"][name].get(prefix + source)))

    best = table(lambda _, found: -min(one["errors"][str(LAST)] for one in found["half"]))
    return Truth(
        complete,
        {epoch: np.stack([trained(epoch, seed) for seed in range(max(map(n_seeds, SOURCES)))], 2) for epoch in EPOCHS},
        table(lambda _, found: found["control"][0]["errors"][str(LAST)]),
        table(lambda source, found: _number(found["scores"][0]["probe"].get(source))),
        raw_errors(log, complete),
        {
            **{f"pilot of {epoch} epoch{'s' * (epoch > 1)}": pilot(epoch) for epoch in EPOCHS},
            BEST_PILOT: best,
        },
        {name: score(name) for name in names},
        {name: score(name, RANDOM_PREFIX) for name in names},
        sum(one["seconds"] for found in records.values() for part in found.values() for one in part),
    )


def _records(log: ResultLog, source: str, target: str) -> dict[str, list[dict]]:
    """Return the records of a source on a target by part; empty if one is missing."""
    rate = chosen_rate(log, source, target)
    if rate is None:
        return {}
    parts = {
        "half": [Job("half", source, target, 0, one) for one in RATES],
        "all": [Job("all", source, target, seed, rate) for seed in range(n_seeds(source))],
        "control": [Job("control", f"random:{source}", target, 0, MIDDLE_RATE)],
        "scores": [Job("scores", source, target)],
    }
    results = {part: [log.get(job) for job in wanted] for part, wanted in parts.items()}
    if any(record is None for records in results.values() for record in records):
        return {}
    return {part: [record for record in records if record] for part, records in results.items()}


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def predictors(truth: Truth, development: Truth) -> dict[str, np.ndarray]:
    """Return everything that orders the sources without the test errors of these targets, each (S, T).

    The constant answer orders them by their mean error on the development targets, and on a development target by that
    on the others.
    """
    by_name = {**truth.scores, **truth.pilots}
    constant = np.empty_like(truth.means)
    for number, target in enumerate(truth.targets):
        others = [index for index, name in enumerate(development.targets) if name != target]
        constant[:, number] = -development.means[:, others].mean(axis=1)
    return {**by_name, CONSTANT: constant}


def report(log: ResultLog, targets: Sequence[str], resamples: int) -> None:
    """Print all tables of these targets."""
    development = read_truth(log, tuple(DEVELOPMENT))
    truth = read_truth(log, targets)
    print(f"{len(truth.targets)} of {len(targets)} targets are complete: {', '.join(truth.targets)}")
    print(f"The constant answer comes from {len(development.targets)} of {len(DEVELOPMENT)} development targets.")
    if not truth.targets or not development.targets:
        return
    print(f"{truth.seconds / 3600:.2f} core-hours")
    print("{} of {} rates of sources and targets lie at an edge of the grid".format(*edge_rates(log, truth.targets)))
    _print_errors(truth, development.means.mean(axis=1).argmin())
    _print_components(truth)
    named = predictors(truth, development)
    by_predictor = agreements(named, truth.means, resamples)
    _print_agreements(by_predictor, truth.means, "test error after ten epochs")
    default = default_score(development.scores, development.means)
    print(f"{default} has the lowest regret on the development targets of all scores that are defined everywhere.")
    if set(truth.targets) <= set(TEST):
        _print_judgment(judge(default, by_predictor, truth.pilots))
    print_first_pilots(named[BEST_PILOT], named[default], named[CONSTANT], truth.means)
    for title, errors in (
        *((f"test error after {epoch} epochs", np.nanmean(truth.errors[epoch], axis=2)) for epoch in EPOCHS[:-1]),
        ("test error of a linear probe", truth.probes),
    ):
        _print_regrets(named, errors, title)
    unseen = np.array([target not in SURROGATES for target in truth.targets])
    if not unseen.all() and unseen.any():
        part = {name: scores[:, unseen] for name, scores in named.items()}
        errors = truth.means[:, unseen]
        title = f"test error after ten epochs without {', '.join(SURROGATES)}"
        _print_agreements(agreements(part, errors, resamples), errors, title)
    _print_left_out(named, truth.means)
    _print_constant_in_disguise(truth, named, default)
    print_controls(truth.scores, truth.control_scores, truth.means, truth.controls, min(resamples, MOST_POOLED))
    print_relations(truth.scores, truth.means, resamples=min(resamples, MOST_POOLED))


def print_whole_relation(log: ResultLog, resamples: int) -> None:
    """Print the relation of the scores to the errors over all sources and targets."""
    truth = read_truth(log, (*DEVELOPMENT, *TEST))
    print(f"{len(truth.targets)} targets")
    print("{} of {} rates of sources and targets lie at an edge of the grid".format(*edge_rates(log, truth.targets)))
    default = default_score(read_truth(log, tuple(DEVELOPMENT)).scores, read_truth(log, tuple(DEVELOPMENT)).means)
    named = predictors(truth, truth)
    _print_constant_in_disguise(truth, named, default)
    gains = truth.scores[default] - truth.control_scores[default]
    print_preferred_controls(default, gains, truth.controls - truth.means)
    rows = [[name, f"{value:.1f}"] for name, value in regrets_of_headlines(truth, named).items()]
    print_table(["order by", "regret"], rows, "the held-out error on all targets; the constant answer leaves out one")
    print(f"rank correlation of the {BEST_PILOT} with the error, without the effects of source and target: "
          f"{pilot_relation(truth):.2f}")  # fmt: skip
    everything = np.arange(len(SOURCES)), np.arange(len(truth.targets))
    constant = regrets(named[CONSTANT], truth.means, *everything)
    rows = [
        [name, _text(target_interval(regrets(with_record(scores, truth.means), truth.means, *everything) - constant))]
        for name, scores in truth.scores.items()
    ]
    print_table(["score", "difference [95 %]"], rows, "score with the record of the sources, minus the constant answer")
    print_relations(truth.scores, truth.means, resamples=min(resamples, MOST_POOLED))


def edge_rates(log: ResultLog, targets: Sequence[str]) -> tuple[int, int]:
    """Return how many rates of sources and targets are the lowest or the highest of the grid, and their number."""
    rates = [chosen_rate(log, source, target) for source in SOURCES for target in targets]
    chosen_rates = [rate for rate in rates if rate is not None]
    return sum(rate in (min(RATES), max(RATES)) for rate in chosen_rates), len(chosen_rates)


def named_first_and_second(scores: np.ndarray) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return the source that a score names first most often and that which it names second, with how often.

    Args:
        scores: The score, (S, T), higher is better.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    counts = [np.bincount(row, minlength=len(scores)) for row in order[:2]]
    first, second = ((list(SOURCES)[int(one.argmax())], int(one.max())) for one in counts)
    return first, second


def regrets_without(
    named: Mapping[str, np.ndarray], errors: np.ndarray, left_out: int | None = None
) -> dict[str, float]:
    """Return the mean regret of each order and of a random choice, with one source left out."""
    sources = np.array([number for number in range(len(errors)) if number != left_out])
    targets = np.arange(errors.shape[1])
    mean_regrets = {name: float(regrets(scores, errors, sources, targets).mean()) for name, scores in named.items()}
    return {**mean_regrets, "random choice": float(random_regrets(errors[sources]).mean())}


def regrets_of_headlines(truth: Truth, named: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the regrets of the held-out error, of its difference to the control and of its ratio to permuted labels.

    Args:
        truth: Results.
        named: Orders of the sources, among them the constant answer.
    """
    orders = {
        HEADLINE: truth.scores[HEADLINE],
        f"{HEADLINE} minus that of the control": truth.scores[HEADLINE] - truth.control_scores[HEADLINE],
        "discrepancy-ratio": truth.scores["discrepancy-ratio"],
        CONSTANT: named[CONSTANT],
    }
    return regrets_without(orders, truth.means)


def pilot_relation(truth: Truth) -> float:
    """Return Spearman's rho of the best pilot and the error, without the effects of source and target."""
    rests = [without_effects(table).ravel() for table in (-truth.pilots[BEST_PILOT], truth.means)]
    return float(stats.spearmanr(*rests).statistic)


def draw(log: ResultLog, folder: Path, resamples: int) -> None:
    """Draw the errors and regrets on the test targets, and the relation of the soft discrepancy to all errors."""
    development = read_truth(log, tuple(DEVELOPMENT))
    truth = read_truth(log, tuple(TEST))
    every = read_truth(log, (*DEVELOPMENT, *TEST))
    by_predictor = agreements(predictors(truth, development), truth.means, resamples)
    judgment = judge(default_score(development.scores, development.means), by_predictor, truth.pilots)
    rho = relation(every.scores["soft"], every.means, resamples=min(resamples, MOST_POOLED))["interaction"]
    regret = {name: one.regret for name, one in by_predictor.items()}
    figures = {
        "errors": errors_figure(list(SOURCES), truth.targets, truth.means, one_seed=ONE_SEED),
        "regrets": regrets_figure(regret, judgment, random_regret(truth.means), len(SOURCES)),
        "relation": relation_figure("soft discrepancy", every.scores["soft"], every.means, rho),
    }
    for name, figure in figures.items():
        save_figure(figure, folder / f"evidence-{name}")


def _print_errors(truth: Truth, constant: int) -> None:
    """Print the errors of all sources and of the raw values, and how often a source is better than raw values."""
    rows = [
        [
            source,
            *(f"{error:.1f} ({control:.1f})" for error, control in zip(errors, controls, strict=True)),
            f"{errors.mean():.1f}",
        ]
        for source, errors, controls in zip(SOURCES, truth.means, truth.controls, strict=True)
    ]
    has_error = ~np.isnan(truth.raw)
    cells = [f"{error:.1f}" if error == error else "-" for error in truth.raw]
    rows.append(["neighbors of raw values", *cells, f"{np.nanmean(truth.raw):.1f}" if has_error.any() else "-"])
    print_table(["source", *truth.targets, "mean"], rows, "test error in %, in parentheses with random weights")
    for name, errors in (
        ("the best source", truth.means.min(axis=0)),
        (list(SOURCES)[constant], truth.means[constant]),
    ):
        lower = int((errors[has_error] < truth.raw[has_error]).sum())
        print(f"{name} has a lower error than neighbors of raw values on {lower} of {has_error.sum()} targets")


def _print_components(truth: Truth) -> None:
    parts = variance_components(truth.errors[LAST])
    print(
        f"standard deviations in points: target {parts.target**0.5:.1f}, source {parts.source**0.5:.1f}, interaction "
        f"{parts.interaction**0.5:.1f}, seed {parts.seed**0.5:.1f}"
    )
    best = truth.means == truth.means.min(axis=0)
    counts = sorted(zip(best.sum(axis=1), SOURCES, strict=True), reverse=True)
    shared = best.T.astype(int) @ best.astype(int) > 0
    n_targets = len(truth.targets)
    differ = (~shared).sum() / max(1, n_targets * (n_targets - 1))
    print(
        f"best source, equal ones included: {', '.join(f'{name} ({n})' for n, name in counts if n)}; "
        f"{differ:.0%} of the pairs of targets have no best source in common"
    )


def _print_agreements(by_predictor: Mapping[str, Agreement], errors: np.ndarray, title: str) -> None:
    """Print regret, tau, and the difference of the regret to the constant answer, with intervals."""
    rows = []
    for name in sorted(by_predictor, key=lambda name: by_predictor[name].regret.mean):
        one = by_predictor[name]
        beside = ["", "", "", ""]
        if name != CONSTANT:
            beside = [_text(one.here), f"{one.corrected:.3f}", _text(one.difference, 0), _text(one.tau_gain, 2)]
        over = _text(one.over_random)
        rows.append([name, f"{one.defined:.0%}", _text(_non_negative(one.regret)), over, _text(one.tau, 2), *beside])
    rows.append(["random choice", "", f"{random_regret(errors):.1f}", *[""] * 6])
    print_table(
        [
            "order by",
            "defined",
            "regret [95 %]",
            "minus a random choice's, these sources",
            "weighted tau [95 %]",
            "regret minus the constant answer's, these sources",
            "p (Holm)",
            "over sources too",
            "tau minus the constant answer's, these sources",
        ],
        rows,
        f"{title}: regret in points; regret and tau with intervals over targets and sources",
    )


def _print_constant_in_disguise(truth: Truth, named: Mapping[str, np.ndarray], default: str) -> None:
    """Print whether the default score does more than to name one source, and what it is worth without that source."""
    (first, n_first), (second, n_second) = named_first_and_second(truth.scores[default])
    n_targets = len(truth.targets)
    print(f"{default} names {first} first on {n_first} of {n_targets} targets, and {second} second on {n_second}")
    orders = {name: named[name] for name in (default, CONSTANT, BEST_PILOT)}
    orders[OF_ITS_CONTROL.format(default)] = truth.control_scores[default]
    every, rest = (regrets_without(orders, truth.means, one) for one in (None, list(SOURCES).index(first)))
    rows = [[name, f"{every[name]:.1f}", f"{rest[name]:.1f}"] for name in every]
    print_table(["order by", "regret", f"without {first}"], rows, f"is {default} more than the name of one source?")


def _print_judgment(judgment: Judgment) -> None:
    print(judgment.text)
    print(f"Better than the {CONSTANT} by the corrected p-value: {', '.join(judgment.significant) or 'none'}.")


def _print_regrets(named: Mapping[str, np.ndarray], errors: np.ndarray, title: str) -> None:
    every = np.arange(errors.shape[0]), np.arange(errors.shape[1])
    is_complete = ~np.isnan(errors).any(axis=0)
    if not is_complete.all():
        title += f" (of {is_complete.sum()} targets)"
    mean_regrets = {name: float(regrets(scores, errors, *every)[is_complete].mean()) for name, scores in named.items()}
    ordered = sorted(mean_regrets, key=lambda name: mean_regrets[name])
    print(f"{title}, regrets: {', '.join(f'{name} {mean_regrets[name]:.1f}' for name in ordered)}")


def _print_left_out(named: Mapping[str, np.ndarray], errors: np.ndarray) -> None:
    """Print the smallest and the largest difference to the constant answer when one source is left out."""
    n_sources, n_targets = errors.shape
    targets = np.arange(n_targets)
    rows = []
    for name, scores in named.items():
        differences = []
        for left_out in range(n_sources):
            sources = np.delete(np.arange(n_sources), left_out)
            constant = regrets(named[CONSTANT], errors, sources, targets)
            differences.append(float((regrets(scores, errors, sources, targets) - constant).mean()))
        if name != CONSTANT:
            rows.append([name, f"{min(differences):+.1f} to {max(differences):+.1f}"])
    print_table(["order by", "difference"], rows, "regret minus that of the constant answer, one source left out")


def _non_negative(interval: MeanInterval) -> MeanInterval:
    return replace(interval, low=max(0.0, interval.low))


def _text(interval: MeanInterval, digits: int = 1) -> str:
    return f"{interval.mean:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
