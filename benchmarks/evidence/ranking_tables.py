"""The tables of the ranking benchmark: errors, variance components, and the agreement of scores and baselines."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from result_log import ResultLog
from scipy import stats

from evidence.figures import errors_figure, regrets_figure, relation_figure
from evidence.ranking_jobs import DEVELOPMENT, EPOCHS, MIDDLE_RATE, RATES, SOURCES, TEST, Job, chosen_rate, n_seeds
from evidence.raw_neighbors import raw_errors
from evidence.relation import print_relations, relation
from evidence.two_way import MeanInterval, regrets, target_interval, two_way_interval, variance_components
from modgap.cli.output import print_table
from modgap.display.figure_files import save_figure
from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.scores import DEFAULT_RANKING_SCORES
from modgap.statistics.multiple_comparisons import holm

__all__ = ["Truth", "draw", "predictors", "read_truth", "report"]

CONSTANT = "constant answer"
LAST = EPOCHS[-1]
SURROGATES = ("notes", "spoken-languages")
"""Targets on whose labels the heads of four sources were fitted."""


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
        seconds: Seconds of all jobs.
    """

    targets: tuple[str, ...]
    errors: Mapping[int, np.ndarray]
    controls: np.ndarray
    probes: np.ndarray
    raw: np.ndarray
    pilots: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
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

    def score(name: str):  # type: ignore[no-untyped-def]
        return table(lambda source, found: _number(found["scores"][0]["scores"][name].get(source)))

    best = table(lambda _, found: -min(one["errors"][str(LAST)] for one in found["half"]))
    return Truth(
        complete,
        {epoch: np.stack([trained(epoch, seed) for seed in range(max(map(n_seeds, SOURCES)))], 2) for epoch in EPOCHS},
        table(lambda _, found: found["control"][0]["errors"][str(LAST)]),
        table(lambda source, found: _number(found["scores"][0]["probe"].get(source))),
        raw_errors(log, complete),
        {**{f"pilot of {epoch} epochs": pilot(epoch) for epoch in EPOCHS}, "pilot at three rates": best},
        {name: score(name) for name in names},
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
    found = {part: [log.get(job) for job in wanted] for part, wanted in parts.items()}
    if any(record is None for records in found.values() for record in records):
        return {}
    return {part: [record for record in records if record] for part, records in found.items()}


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def predictors(truth: Truth, development: Truth) -> dict[str, np.ndarray]:
    """Return everything that orders the sources without the test errors of these targets, each (S, T).

    The constant answer orders them by their mean error on the development targets, and on a development target by that
    on the others.
    """
    found = {**truth.scores, **truth.pilots}
    constant = np.empty_like(truth.means)
    for number, target in enumerate(truth.targets):
        others = [index for index, name in enumerate(development.targets) if name != target]
        constant[:, number] = -development.means[:, others].mean(axis=1)
    return {**found, CONSTANT: constant}


def _tau(scores: np.ndarray, errors: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the weighted Kendall tau of scores and negative errors for each target; 0 where it is undefined."""
    taus = []
    for target in targets:
        known = sources[~np.isnan(scores[sources, target])]
        tau = stats.weightedtau(scores[known, target], -errors[known, target]).statistic if len(known) > 1 else np.nan
        taus.append(0.0 if np.isnan(tau) else tau)
    return np.array(taus)


def report(log: ResultLog, targets: Sequence[str], resamples: int) -> None:
    """Print all tables of these targets."""
    development = read_truth(log, tuple(DEVELOPMENT))
    truth = read_truth(log, targets)
    print(f"{len(truth.targets)} of {len(targets)} targets are complete: {', '.join(truth.targets)}")
    if not truth.targets or not development.targets:
        return
    print(f"{truth.seconds / 3600:.2f} core-hours")
    _print_errors(truth, development.means.mean(axis=1).argmin())
    _print_components(truth)
    named = predictors(truth, development)
    _print_agreement(named, truth.means, "test error after ten epochs", resamples)
    for title, errors in (
        *((f"test error after {epoch} epochs", np.nanmean(truth.errors[epoch], axis=2)) for epoch in EPOCHS[:-1]),
        ("test error of a linear probe", truth.probes),
    ):
        _print_regrets(named, errors, title)
    unseen = np.array([target not in SURROGATES for target in truth.targets])
    if not unseen.all() and unseen.any():
        part = {name: scores[:, unseen] for name, scores in named.items()}
        _print_regrets(part, truth.means[:, unseen], f"test error after ten epochs without {', '.join(SURROGATES)}")
    _print_left_out(named, truth.means)
    print_relations(truth.scores, truth.means, resamples=resamples)


def draw(log: ResultLog, folder: Path, resamples: int) -> None:
    """Draw errors, regrets and the relation of the soft discrepancy to the error, on the test targets."""
    development = read_truth(log, tuple(DEVELOPMENT))
    truth = read_truth(log, tuple(TEST))
    named = predictors(truth, development)
    every = np.arange(truth.means.shape[0]), np.arange(truth.means.shape[1])
    found = {name: _agreement(scores, named[CONSTANT], truth.means, resamples) for name, scores in named.items()}
    others = [name for name in named if name != CONSTANT]
    p_values = holm([found[name].here.p_value for name in others])
    better = [name for name, p in zip(others, p_values, strict=True) if p <= 0.05 and found[name].here.mean < 0]
    random = float(regrets(np.zeros(truth.means.shape), truth.means, *every).mean())
    default = DEFAULT_RANKING_SCORES[CLASSIFICATION]
    regret = {name: one.regret for name, one in found.items()}
    score = truth.scores["soft"]
    known = ~np.isnan(score).any(axis=1)
    rho = relation(score[known], truth.means[known], resamples=resamples)["interaction"]
    figures = {
        "errors": errors_figure(list(SOURCES), truth.targets, truth.means),
        "regrets": regrets_figure(regret, better, CONSTANT, random, default),
        "relation": relation_figure("soft discrepancy", score[known], truth.means[known], rho),
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
    known = ~np.isnan(truth.raw)
    cells = [f"{error:.1f}" if error == error else "-" for error in truth.raw]
    rows.append(["neighbors of raw values", *cells, f"{np.nanmean(truth.raw):.1f}" if known.any() else "-"])
    print_table(["source", *truth.targets, "mean"], rows, "test error in %, in parentheses with random weights")
    for name, errors in (
        ("the best source", truth.means.min(axis=0)),
        (list(SOURCES)[constant], truth.means[constant]),
    ):
        lower = int((errors[known] < truth.raw[known]).sum())
        print(f"{name} has a lower error than neighbors of raw values on {lower} of {known.sum()} targets")


def _print_components(truth: Truth) -> None:
    parts = variance_components(truth.errors[LAST])
    print(
        f"standard deviations in points: target {parts.target**0.5:.1f}, source {parts.source**0.5:.1f}, interaction "
        f"{parts.interaction**0.5:.1f}, seed {parts.seed**0.5:.1f}"
    )
    best = Counter(list(SOURCES)[index] for index in truth.means.argmin(axis=0))
    n_targets = len(truth.targets)
    same = sum(n * (n - 1) for n in best.values()) / max(1, n_targets * (n_targets - 1))
    print(
        f"best source: {', '.join(f'{name} ({n})' for name, n in best.most_common())}; it differs in "
        f"{1 - same:.0%} of the pairs of targets"
    )


def _print_agreement(named: Mapping[str, np.ndarray], errors: np.ndarray, title: str, resamples: int) -> None:
    """Print regret, tau, and the difference of the regret to the constant answer, with two-way intervals."""
    found = {name: _agreement(scores, named[CONSTANT], errors, resamples) for name, scores in named.items()}
    others = [name for name in named if name != CONSTANT]
    corrected = dict(zip(others, holm([found[name].here.p_value for name in others]), strict=True))
    rows = []
    for name in sorted(found, key=lambda name: found[name].regret.mean):
        one = found[name]
        p_value = f"{corrected[name]:.3f}" if name in corrected else ""
        rows.append([name, _text(one.regret), _text(one.tau, 2), _text(one.here), p_value, _text(one.difference)])
    every = np.arange(errors.shape[0]), np.arange(errors.shape[1])
    rows.append(["random choice", f"{regrets(np.zeros(errors.shape), errors, *every).mean():.1f}", "", "", "", ""])
    print_table(
        [
            "order by",
            "regret [95 %]",
            "weighted tau [95 %]",
            "minus the constant answer's, these sources",
            "p (Holm)",
            "over sources too",
        ],
        rows,
        f"{title}: regret in points; regret and tau with intervals over targets and sources",
    )


@dataclass(frozen=True)
class _Agreement:
    regret: MeanInterval
    tau: MeanInterval
    difference: MeanInterval
    here: MeanInterval


def _agreement(scores: np.ndarray, constant: np.ndarray, errors: np.ndarray, resamples: int) -> _Agreement:
    def regret(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return regrets(scores, errors, sources, targets)

    def tau(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return _tau(scores, errors, sources, targets)

    def difference(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return regret(sources, targets) - regrets(constant, errors, sources, targets)

    intervals = (two_way_interval(one, *errors.shape, resamples=resamples) for one in (regret, tau, difference))
    every = np.arange(errors.shape[0]), np.arange(errors.shape[1])
    return _Agreement(*intervals, target_interval(difference(*every)))


def _print_regrets(named: Mapping[str, np.ndarray], errors: np.ndarray, title: str) -> None:
    every = np.arange(errors.shape[0]), np.arange(errors.shape[1])
    found = {name: float(regrets(scores, errors, *every).mean()) for name, scores in named.items()}
    ordered = sorted(found, key=lambda name: found[name])
    print(f"{title}, regrets: {', '.join(f'{name} {found[name]:.1f}' for name in ordered)}")


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


def _text(interval: MeanInterval, digits: int = 1) -> str:
    return f"{interval.mean:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
