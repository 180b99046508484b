"""How often a race is wrong: coverage of the test error's interval, and false statements.

It says falsely that a model is better than chance, or that a transfer helps.

    python benchmarks/race_simulation.py [--runs 400] [--sizes 60,300,2000] [--workers 2]

Each run draws samples of three classes and the features of nine models: two baselines, three linear probes of
random-weights encoders and four of pretrained sources. All are judged on folds as in `modgap transfer`, one is chosen,
and the best of each kind is fitted to the training samples and tested once. A fifth of the samples is for the test.
Without an effect, the labels have nothing to do with any features; a rate is then wrong if the interval of the test
error of the chosen model does not cover the chance level of .667. With an effect, the features of one pretrained source
know something about the classes that those of the others do not.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed

from modgap.baselines.baseline import Baseline, Features, SampleForm, Truth, fit_baseline, held_out_scores
from modgap.baselines.parts import Affine
from modgap.baselines.predictors import RIDGE, constant_scores
from modgap.cli.output import print_table
from modgap.models import Output
from modgap.race.steps import BASELINE, Outcome, Step
from modgap.race.strategy import n_judging_folds
from modgap.race.verdict import FIELD, PRETRAINED, choose_model, first_of_kinds, kind_of, transfer_helps
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL
from modgap.statistics.paired import paired_difference
from modgap.targets.manifest import InputSpec
from modgap.training.evaluation import metric_interval
from modgap.training.linear_probe import LINEAR_PROBE
from modgap.training.metrics import metric

OUTPUT = Output("classification", (3,))
FORM = SampleForm(InputSpec(kind="series"), (1, 1))
WIDTH = 10
NAMES = ("a", "b", "random:a", "random:b", "random:c", "a", "b", "c", "d")
METHODS = (BASELINE, BASELINE, *[LINEAR_PROBE] * 7)
EFFECT = 0.5
"""Distance of the means of the classes in each feature of the source that helps, in standard deviations."""


@dataclass(frozen=True)
class Result:
    """Answers of a run.

    Attributes:
        covered: True if the interval of the chosen model's test error covers the chance level.
        is_better: True if the chosen model is said to be better than a constant prediction.
        helps: `yes`, `no` or `not shown`.
        chosen: Kind of the chosen model.
    """

    covered: bool
    is_better: bool
    helps: str
    chosen: str


def simulate(n: int, effect: float, seed: int) -> Result:
    """Run one race on n samples.

    Args:
        n: Number of samples, of which a fifth are test samples.
        effect: Distance of the classes in the features of the last source, in standard deviations.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng([seed, n, round(100 * effect)])
    y = rng.integers(0, 3, n)
    features = rng.standard_normal((len(NAMES), n, WIDTH))
    features[-1] += effect * rng.standard_normal((3, WIDTH))[y]
    n_labeled = n - n // 5
    truth, test = Truth(OUTPUT, y[:n_labeled]), y[n_labeled:]
    folds = truth.folds(seed)
    judged = list(range(n_judging_folds(n_labeled)))
    outcomes = []
    for method, name, values in zip(METHODS, NAMES, features, strict=True):
        scores = held_out_scores(_model(values), range(n_labeled), FORM, truth, folds, judged, seed)
        is_judged = np.isin(folds, judged)
        losses = np.full(n_labeled, np.nan)
        losses[is_judged] = truth.rows(is_judged).losses(scores[is_judged])
        outcomes.append(Outcome(Step(method, name, folds=len(judged)), losses, 0.0))
    chosen = choose_model(outcomes, None)
    assert chosen is not None
    tested = {}
    for kind, one in chosen.best.items():
        number = next(number for number, outcome in enumerate(outcomes) if outcome is one)
        fitted = fit_baseline(_model(features[number]), range(n_labeled), FORM, truth, seed)
        tested[kind] = fitted.scores(range(n_labeled, n))
    measured = metric("0-1 error %")
    measured.update(tested[kind_of(chosen.winner)], test)
    low, high = metric_interval(measured, None, seed)
    errors = {
        kind: _errors(scores.argmax(axis=1) != test)
        for kind in (first_of_kinds(chosen, PRETRAINED), first_of_kinds(chosen, [FIELD]))
        if (scores := tested.get(kind or "")) is not None
    }
    transferred, field = (errors[kind] for kind in (first_of_kinds(chosen, PRETRAINED), FIELD))
    helps = transfer_helps(paired_difference(transferred, field))
    constant = constant_scores([truth]).argmax()
    beside_constant = paired_difference(
        _errors(tested[kind_of(chosen.winner)].argmax(axis=1) != test), _errors(constant != test)
    )
    is_better = (
        chosen.winner.error < _constant_error(truth, folds, judged)
        and beside_constant.value < 0
        and beside_constant.p_value is not None
        and beside_constant.p_value <= SIGNIFICANCE_LEVEL
    )
    return Result(low <= 100 * 2 / 3 <= high, is_better, helps, kind_of(chosen.winner))


def _constant_error(truth: Truth, folds: np.ndarray, judged: Sequence[int]) -> float:
    """Return the error of the largest class of the other folds, on the judged ones."""
    wrong = [constant_scores([truth.rows(folds != fold)]).argmax() != truth.y[folds == fold] for fold in judged]
    return float(np.concatenate(wrong).mean())


def _model(values: np.ndarray) -> Baseline:
    """Return a ridge regression on features, which is quick; its samples are the numbers of the rows."""
    looked_up = Features("features", lambda samples, _form: values[np.array([samples[n] for n in range(len(samples))])])
    return Baseline(LINEAR_PROBE, "", "", (), ("classification",), (looked_up,), RIDGE, (Affine,))


def _errors(wrong: np.ndarray) -> SampleErrors:
    n = len(wrong)
    losses = wrong.astype(float)
    return SampleErrors(losses, np.full(n, 1 / n), np.arange(n), np.array([losses.mean()]), None, 0)


def _row(n: int, effect: float, results: Sequence[Result]) -> list[str]:
    rates = [np.mean([one.covered for one in results])] if effect == 0 else [float("nan")]
    rates.append(np.mean([one.is_better for one in results]))
    rates += [np.mean([one.helps == answer for one in results]) for answer in ("yes", "no")]
    errors = [np.sqrt(rate * (1 - rate) / len(results)) for rate in rates]
    shown = [
        "-" if np.isnan(rate) else f"{100 * rate:.1f} ({100 * se:.1f})" for rate, se in zip(rates, errors, strict=True)
    ]
    pretrained = np.mean([one.chosen in PRETRAINED for one in results])
    return [f"{n:,}", f"{effect:g}", *shown, f"{100 * pretrained:.0f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--sizes", default="60,300,2000")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    rows = []
    for effect in (0.0, EFFECT):
        for n in map(int, options.sizes.split(",")):
            jobs = (delayed(simulate)(n, effect, seed) for seed in range(options.runs))
            rows.append(_row(n, effect, Parallel(n_jobs=options.workers)(jobs)))
    heads = ["samples", "effect", "interval covers chance %", "better than chance %"]
    heads += ["helps: yes %", "helps: no %", "pretrained chosen %"]
    print_table(heads, rows, f"{options.runs} races each; standard errors in brackets")


if __name__ == "__main__":
    main()
