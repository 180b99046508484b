"""A race from data to a model: its steps, its strategy, its choice, and what is left in its folder."""

import itertools
import json
import os
import random
import time
from dataclasses import asdict, replace

import numpy as np
import pytest

import modgap
from modgap.baselines import get_baseline
from modgap.baselines.baseline import Truth, fit_baseline
from modgap.errors import InputError, UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend, Failure
from modgap.models import Output
from modgap.race import transfer as race_module
from modgap.race.pool import strategy_of
from modgap.race.result import TransferResult
from modgap.race.steps import (
    Labeled,
    Outcome,
    Step,
    StepJob,
    chance_losses,
    read_labeled,
    read_steps,
    training_settings,
)
from modgap.race.strategy import RATES, Strategy, n_judging_folds
from modgap.race.transfer import STEPS, RaceRequest, run_race
from modgap.race.verdict import KINDS, choose_model, control_kind, finalists_of, kind_of
from modgap.ranking.known_sources import known_sources
from modgap.sources import control_name
from modgap.storage.json_records import plain_values
from modgap.targets import CustomData, TargetRequest, open_target
from modgap.targets.samples import SelectedSamples
from modgap.training.linear_probe import ProbedSource
from modgap.training.train import train_in_memory
from modgap.training.train_request import TrainRequest
from modgap.training.training_data import read_target_data
from tests.commands import run_in_process
from tests.forked_commands import ForkedCommand
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_matrix import CNN, VIT, small_sources  # noqa: F401 - fixture
from tests.test_pilot import grouped_target, load
from tests.training import target_file

SAMPLES = SampleRequest()
N_KILLS = int(os.environ.get("MODGAP_KILLS", "6"))
LINEAR, TREES = Step("baseline", "linear", folds=5), Step("baseline", "extra-trees", folds=5)
PROBE, CONTROL = Step("linear-probe", VIT, folds=5), Step("linear-probe", control_name(VIT), folds=5)
TRAINED = Step("finetune", VIT, 0.0005, 1, folds=5)
ALL_STEPS = (LINEAR, PROBE, CONTROL, TRAINED)


SERIES = CustomData.of({"kind": "series"})


def series(path):
    return TargetRequest(str(path), SERIES)


def run_step(step, target, seed=0):
    return StepJob(step, target, None, seed, "cpu")()


@pytest.mark.parametrize("task", ["classification", "multi-label", "regression"])
def test_losses_are_those_of_models_that_did_not_see_the_samples(tmp_path, task):
    path = target_file(tmp_path, task, image=False, samples=60)
    outcome = run_step(replace(LINEAR, folds=2), series(path))
    labeled = read_labeled(series(path), None, 0)
    samples = SelectedSamples(labeled.data.table.samples, labeled.rows)
    for fold in (0, 1):
        train, test = (np.flatnonzero(labeled.folds != fold), np.flatnonzero(labeled.folds == fold))
        part = SelectedSamples(samples, train)
        fitted = fit_baseline(get_baseline("linear"), part, labeled.form, labeled.truth.rows(train), 0)
        scores = fitted.scores(SelectedSamples(samples, test)).reshape(len(test), -1)
        np.testing.assert_allclose(outcome.losses[test], labeled.truth.rows(test).losses(scores), rtol=1e-6)
    assert np.isnan(outcome.losses[labeled.folds > 1]).all()
    assert outcome.error == pytest.approx(np.nanmean(outcome.losses))


def test_losses_of_labels_and_values_are_those_of_scikit_learn():
    from sklearn.metrics import label_ranking_average_precision_score

    rng = np.random.default_rng(0)
    scores, y = rng.standard_normal((30, 4)), rng.integers(0, 2, (30, 4))
    losses = Truth(Output("multi-label", (4,)), y).losses(scores)
    assert 1 - losses.mean() == pytest.approx(label_ranking_average_precision_score(y, scores))
    values, mask = rng.standard_normal((30, 4)), rng.integers(0, 2, (30, 4))
    mask[:, 0] = 1
    truth = Truth(Output("regression", (4,)), values, mask)
    expected = [np.average((s - v) ** 2, weights=m) for s, v, m in zip(scores, values, mask, strict=True)]
    np.testing.assert_allclose(truth.losses(scores), expected)
    classes = Truth(Output("classification", (4,)), rng.integers(0, 4, 30))
    assert classes.losses(scores).mean() == classes.error(scores)


def test_a_training_is_judged_as_one_in_memory(sources, tmp_path):
    path = target_file(tmp_path, "classification", samples=48)
    outcome = run_step(replace(TRAINED, folds=1), TargetRequest(str(path)))
    assert not outcome.reason
    labeled = read_labeled(TargetRequest(str(path)), None, 0)
    data = read_target_data(open_target(str(path)), size=(32, 32))
    test = labeled.rows[labeled.folds == 0]
    part = replace(data, train=labeled.rows[labeled.folds != 0], validation=test[:1], test=test)
    settings = training_settings(TRAINED, len(labeled.rows), load(VIT).input, labeled.form.spec)
    errors = []
    request = TrainRequest("finetune", VIT, TargetRequest(str(path)), settings, samples=SAMPLES)
    watch = lambda _epoch, model, evaluator: errors.append(evaluator.error(model, test) / 100)  # noqa: E731
    train_in_memory(request, load(VIT), part, [1], watch)
    assert outcome.error == pytest.approx(errors[0])


def test_few_groups_leave_no_fold_empty(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "few.npz"
    labels = np.arange(60) % 2
    x = rng.standard_normal((60, 2, 24)).astype(np.float32) + labels[:, None, None]
    np.savez(path, x=x, y=labels, groups=np.repeat(np.arange(6), 10))
    labeled = read_labeled(series(path), None, 0)
    assert set(labeled.folds) == set(range(len(set(labeled.folds))))
    outcome = run_step(LINEAR, series(path))
    assert not outcome.reason
    assert np.isfinite(outcome.losses).all()


def test_failed_models_are_no_end():
    failed = [replace(outcome(Step("finetune", "a", rate, 10), 0.5), reason="It failed.") for rate in RATES]
    assert STRATEGY.next_steps(failed, 1.0)[1]
    probe = replace(outcome(Step("linear-probe", "a", folds=5), 0.5), reason="It failed.")
    assert "a" not in STRATEGY.sources_to_train([probe])


def test_groups_are_in_one_fold_and_failures_have_their_reason(tmp_path):
    labeled = read_labeled(TargetRequest(str(grouped_target(tmp_path))), None, 0)
    groups = labeled.truth.groups
    assert all(len(set(labeled.folds[groups == group])) == 1 for group in np.unique(groups))
    failed = run_step(Step("linear-probe", "hf:absent/model"), TargetRequest(str(grouped_target(tmp_path))))
    assert failed.reason
    assert failed.error == np.inf
    record = json.loads(json.dumps(failed.to_record()))
    assert Outcome.from_record(record, len(labeled.rows)).reason == failed.reason
    with pytest.raises(ValueError, match="not those of these samples"):
        Outcome.from_record({**record, "rows": [10**6], "losses": [0.0]}, 10)


# The strategy


def outcome(step, error, seconds=1.0, n=200, seed=0):
    losses = np.full(n, np.nan)
    judged = np.arange(n) % 5 < step.folds
    rng = np.random.default_rng(seed)
    losses[judged] = rng.permutation(np.arange(judged.sum()) < round(error * judged.sum()))
    return Outcome(step, losses, seconds, pass_seconds=seconds / n if step.kind == "linear-probe" else 0.0)


STRATEGY = Strategy({"linear": 0.5, "extra-trees": 2.0}, {"boosting": 30.0}, ("a", "b", "c", "d"), 200, seconds=300)


def race(strategy, seconds, errors, step_seconds):
    """Run a strategy on a clock of its own, in which each step takes what a function says."""
    strategy, outcomes, elapsed = replace(strategy, seconds=seconds), [], 0.0
    while steps := strategy.next_steps(outcomes, elapsed)[1]:
        for step in steps:
            taken = step_seconds(step)
            elapsed += taken
            outcomes.append(outcome(step, errors(step), taken, strategy.n_labeled))
    return outcomes, elapsed


def usual_seconds(step):
    if step.kind == "training":
        return 3.0 * step.epochs * step.folds / 10
    return 1.5 if step.kind == "linear-probe" else 2.0


@pytest.mark.parametrize("seconds", [0, 20, 60, 300, 3000])
def test_a_race_ends_within_its_time_and_runs_no_step_twice(seconds):
    outcomes, elapsed = race(STRATEGY, seconds, lambda step: 0.3 if step.name == "c" else 0.5, usual_seconds)
    steps = [one.step for one in outcomes]
    assert len(set(steps)) == len(steps)
    # The quick baselines always run.
    assert {"linear", "extra-trees"} <= {step.name for step in steps}
    assert elapsed <= max(1.1 * seconds, 4.0)
    if seconds == 0:
        assert all(step.kind == "baseline" for step in steps)
    if seconds == 3000:
        trained = {step.name for step in steps if step.method == "finetune"}
        # The best by probes is trained, and judged on all folds at the end.
        assert "c" in trained
        assert max(step.folds for step in steps if step.kind == "training") == n_judging_folds(200) == 5
        assert "boosting" in {step.name for step in steps}


def test_a_third_of_the_time_is_for_baselines_and_probes():
    strategy = replace(STRATEGY, sources=tuple("abcdefghij"), more_baselines={})
    outcomes, _ = race(strategy, 200, lambda _: 0.5, lambda step: 10.0 if step.kind == "training" else 1.0)
    fitted = sum(one.seconds for one in outcomes if one.step.kind != "training")
    assert fitted <= 200 / 3 + 8
    assert any(one.step.kind == "training" for one in outcomes)


def test_many_samples_are_probed_in_part_and_judged_on_one_fold():
    strategy = replace(STRATEGY, n_labeled=2000)
    outcomes, _ = race(strategy, 3000, lambda _: 0.5, usual_seconds)
    probes = [one.step for one in outcomes if one.step.kind == "linear-probe"]
    assert {step.labeled for step in probes} == {500, None}
    assert {step.folds for step in probes if step.labeled is None} == {1}


def test_a_rate_at_the_edge_has_a_further_one():
    outcomes, _ = race(STRATEGY, 3000, lambda step: {2.5e-3: 0.1, 1.25e-2: 0.2}.get(step.rate, 0.5), usual_seconds)
    assert 1.25e-2 in {one.step.rate for one in outcomes}
    assert 2e-5 not in {one.step.rate for one in outcomes}


def test_time_that_a_stage_leaves_is_used_by_others():
    """Baselines that take longer than the third of the time leave the rest to probes, if no training fits into it."""
    slow = lambda step: {"baseline": 50.0, "linear-probe": 5.0, "training": 1000.0}[step.kind]  # noqa: E731
    outcomes, elapsed = race(STRATEGY, 240, lambda _: 0.5, slow)
    assert len([one for one in outcomes if one.step.kind == "linear-probe"]) == 2 * len(STRATEGY.sources)
    assert elapsed <= 240


def test_a_minute_is_for_baselines_and_probes():
    outcomes, elapsed = race(STRATEGY, 60, lambda _: 0.5, usual_seconds)
    assert {one.step.kind for one in outcomes} == {"baseline", "linear-probe"}
    assert len([one for one in outcomes if one.step.kind == "linear-probe"]) == 2 * len(STRATEGY.sources)
    assert elapsed <= 60


def test_many_samples_are_trained_in_part_first():
    outcomes, _ = race(replace(STRATEGY, n_labeled=20_000), 50_000, lambda _: 0.5, usual_seconds)
    trained = [one.step for one in outcomes if one.step.kind == "training"]
    assert {step.labeled for step in trained} == {3000, None}
    assert trained[0].labeled == 3000
    assert len([step for step in trained if step.labeled is None]) == 4


def test_the_plan_is_what_a_race_of_average_sources_does():
    plan = {stage.name: (n_steps, seconds) for stage, n_steps, seconds in STRATEGY.plan()}
    outcomes, elapsed = [], 0.0
    while (planned := STRATEGY.next_steps(outcomes, elapsed))[1]:
        for step in planned[1]:
            outcomes.append(Outcome(step, np.zeros(1), STRATEGY.expected_seconds(step, outcomes)))
            elapsed += outcomes[-1].seconds
    assert sum(n_steps for n_steps, _ in plan.values()) == pytest.approx(len(outcomes), abs=3)
    assert sum(seconds for _, seconds in plan.values()) <= 300
    assert plan["linear probes"][0] == 8
    assert plan["trainings"][0] > 0
    assert [stage.name for stage, n_steps, _ in replace(STRATEGY, seconds=0).plan() if n_steps] == ["baselines"]


def test_a_step_that_would_not_end_in_time_is_given_up(sources, tmp_path):
    path = target_file(tmp_path, "classification", image=False, samples=60)
    passed = time.time() - 1
    for step in (PROBE, TRAINED):
        late = StepJob(step, series(path), None, 0, "cpu", "late", passed)()
        assert late.reason.startswith("It would not have ended within the time: it needed about")
        assert late.is_given_up
        assert not np.isfinite(late.losses).any()
    record = tmp_path / "steps.json"
    steps = [{"step": asdict(LINEAR), "reason": ""}, {"step": asdict(PROBE), "reason": late.reason}]
    record.write_text(json.dumps({"steps": plain_values(steps)}))
    # Time decided, so a repetition does not have this step.
    assert read_steps(record) == [LINEAR]
    strategy = replace(STRATEGY, seconds=100)
    deadlines = {stage.name: strategy.deadline(stage) for stage in strategy.stages}
    assert 100 / 3 < deadlines["linear probes"] < 50
    assert deadlines["finalists"] == pytest.approx(105)
    assert deadlines["baselines"] == np.inf


def test_baselines_of_seconds_run_also_after_an_interruption():
    strategy = replace(STRATEGY, more_baselines={"boosting": 0.5, "residual-network": 30.0})
    quick = [outcome(Step("baseline", name, folds=5), 0.3) for name in strategy.baselines]
    for elapsed in (5, 60, 119):
        stage, steps = replace(strategy, seconds=120).next_steps(quick, elapsed)
        assert (stage.name, [step.name for step in steps]) == ("more baselines", ["boosting"])
    done = [*quick, outcome(Step("baseline", "boosting", folds=5), 0.3)]
    assert replace(strategy, seconds=120).next_steps(done, 60)[0].name != "more baselines"
    # With 0 minutes the quick ones alone take part.
    assert replace(strategy, seconds=0).next_steps(quick, 0)[1] == []


def test_the_plan_goes_on_from_what_is_done():
    outcomes = [outcome(Step("baseline", name, folds=5), 0.3) for name in STRATEGY.baselines]
    n_first, n_late = (sum(n for _, n, _ in STRATEGY.plan(outcomes, elapsed)) for elapsed in (1.0, 280.0))
    assert n_late < n_first == sum(n for _, n, _ in STRATEGY.plan()) - len(outcomes)


def test_what_a_probe_needs_to_start_is_not_a_part_of_a_training():
    # The first probe waits for libraries to load.
    probe = replace(outcome(PROBE, 0.3, seconds=20.0), pass_seconds=0.001)
    # 160 samples with six passes of a millisecond in each of ten epochs, and once more to judge.
    training = replace(TRAINED, epochs=10, folds=1)
    assert STRATEGY.expected_seconds(training, [probe]) == pytest.approx(0.16 * 61)
    assert STRATEGY.expected_seconds(CONTROL, [probe]) == pytest.approx(20)


def test_the_final_fits_take_as_long_as_the_steps_tell():
    probe = outcome(PROBE, 0.3, seconds=20.0)
    # The features of the test samples are computed, too.
    assert STRATEGY.final_seconds(PROBE, [probe], 50) == pytest.approx(1 + 20 * 250 / 200)
    trained = outcome(replace(TRAINED, folds=2), 0.3, seconds=16.0)
    assert STRATEGY.final_seconds(trained.step, [trained], 50) == pytest.approx(1 + 16 / 2 * 5 / 4)
    assert STRATEGY.final_seconds(LINEAR, [], 50) == STRATEGY.expected_seconds(replace(LINEAR, folds=1), [])


@pytest.mark.usefixtures("own_cache")
def test_features_of_a_probe_come_from_the_cache(sources, tmp_path, monkeypatch):
    path, passes = target_file(tmp_path, "classification", image=False, samples=60), []
    original = ProbedSource.values

    def values(self, samples, device):
        passes.append(len(samples))
        return original(self, samples, device)

    monkeypatch.setattr(ProbedSource, "values", values)
    first = run_step(PROBE, series(path))
    n_passes = len(passes)
    again = run_step(PROBE, series(path))
    assert n_passes > 0
    assert len(passes) == n_passes
    assert again.pass_seconds == first.pass_seconds > 0
    np.testing.assert_array_equal(first.losses, again.losses)
    run_step(replace(PROBE, labeled=30), series(path))
    assert len(passes) > n_passes


@pytest.mark.parametrize("task", ["classification", "multi-label", "regression"])
def test_chance_is_the_same_prediction_for_all_samples(tmp_path, task):
    from sklearn.dummy import DummyClassifier, DummyRegressor

    labeled = read_labeled(series(target_file(tmp_path, task, image=False, samples=60)), None, 0)
    y, expected = labeled.truth.y, np.empty(len(labeled.rows))
    for fold in np.unique(labeled.folds):
        test = labeled.folds == fold
        if task == "multi-label":
            scores = np.tile(y[~test].mean(axis=0), (int(test.sum()), 1))
            expected[test] = labeled.truth.rows(test).losses(scores)
        elif task == "classification":
            dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((int((~test).sum()), 1)), y[~test])
            expected[test] = dummy.predict(np.zeros((int(test.sum()), 1))) != y[test]
        else:
            dummy = DummyRegressor().fit(np.zeros((int((~test).sum()), 1)), y[~test].reshape((~test).sum(), -1))
            predicted = dummy.predict(np.zeros((int(test.sum()), 1))).reshape(int(test.sum()), -1)
            expected[test] = ((predicted - y[test].reshape(len(predicted), -1)) ** 2).mean(axis=1)
    np.testing.assert_allclose(chance_losses(labeled), expected, rtol=1e-5)


def test_a_training_can_begin_with_the_embedder(sources, tmp_path):
    path = target_file(tmp_path, "classification", image=False, samples=48)
    assert not run_step(replace(TRAINED, method="emb", folds=1), series(path)).reason


def test_dense_targets_have_no_probes():
    outcomes, _ = race(replace(STRATEGY, probes=False), 300, lambda _: 0.5, usual_seconds)
    assert not [one for one in outcomes if one.step.kind == "linear-probe"]
    assert [one for one in outcomes if one.step.kind == "training"]


# The choice


def test_the_simplest_model_within_one_standard_error_is_chosen():
    n = 200
    baseline = outcome(LINEAR, 0.30, n=n)
    for error, kind in ((0.285, "baseline"), (0.10, "linear probe")):
        probe = outcome(PROBE, error, n=n, seed=1)
        chosen = choose_model([probe, baseline], None)
        assert kind_of(chosen.winner) == kind
        assert chosen.lowest is probe
    failed = replace(baseline, reason="It failed.")
    assert choose_model([failed], None) is None
    assert choose_model([failed, probe], None).winner is probe


def test_models_are_compared_on_the_samples_that_all_finalists_were_judged_on():
    short, longer = outcome(replace(TRAINED, folds=1), 0.0), outcome(replace(TRAINED, folds=1, epochs=3), 0.05, seed=3)
    chosen = choose_model([outcome(LINEAR, 0.4), short, longer], None)
    assert len(chosen.judged) == 40
    finalist = outcome(replace(TRAINED, epochs=3), 0.1, seed=4)
    chosen = choose_model([outcome(LINEAR, 0.4), short, longer, finalist], None)
    # The one that was judged on more folds counts, and the one that did not come so far does not.
    assert len(chosen.judged) == 200
    assert chosen.winner is finalist
    partial = outcome(replace(PROBE, labeled=100), 0.0)
    full = outcome(PROBE, 0.2, seed=5)
    assert choose_model([partial, full], None).winner is full
    assert choose_model([partial], None).winner is partial


def test_groups_widen_the_standard_error():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 20)
    hard = np.repeat(rng.random(10) < 0.5, 20)
    one, other = (Outcome(step, losses.astype(float), 1.0) for step, losses in ((LINEAR, hard), (PROBE, hard & False)))
    assert kind_of(choose_model([one, other], None).winner) == "linear probe"
    assert choose_model([one, other], groups).lowest is other


@pytest.mark.parametrize("n_runs", [5, pytest.param(40, marks=pytest.mark.long)])
def test_choices_among_many_models_do_not_reach_the_test_error(sources, tmp_path, n_runs):
    """With labels that have nothing to do with the samples, the interval of the test error covers chance."""
    rng, covered, helps = np.random.default_rng(0), 0, []
    for run in range(n_runs):
        path = tmp_path / f"{run}.npz"
        np.savez(path, x=rng.standard_normal((160, 1, 8)).astype(np.float32), y=rng.integers(0, 2, 160))
        steps = (Step("baseline", "linear", folds=5), Step("linear-probe", VIT, folds=5))
        folder = tmp_path / f"best{run}"
        folder.mkdir()
        request = RaceRequest(series(path), steps=steps)
        result = TransferResult(run_race(request, folder, Backend(1)), folder)
        low, high = result.run.record["result"]["interval"]
        covered += low <= 50 <= high
        helps.append(result.to_dict()["helps"])
    # 95 % of the runs, and three standard errors of a binomial count.
    assert covered >= 0.95 * n_runs - 3 * np.sqrt(n_runs * 0.95 * 0.05)
    # 5 % of the runs in either direction, and two standard errors.
    assert helps.count("yes") <= 0.05 * n_runs + 2 * np.sqrt(n_runs * 0.05 * 0.95)
    assert helps.count("not shown") >= n_runs / 2


def test_the_control_of_the_chosen_source_is_tested():
    scores = {PROBE: 0.05, CONTROL: 0.5, LINEAR: 0.6}
    outcomes = [outcome(step, error, seed=number) for number, (step, error) in enumerate(scores.items())]
    assert control_kind(choose_model(outcomes, None)) == KINDS[1]
    other = outcome(replace(CONTROL, name=control_name(CNN)), 0.4, seed=9)
    assert control_kind(choose_model([*outcomes, other], None)) == "random-weights control"
    assert control_kind(choose_model(outcomes[2:], None)) is None
    trained = outcome(TRAINED, 0.0, seed=5)
    assert control_kind(choose_model([outcomes[2], trained], None)) == "from scratch"


# The whole


@pytest.fixture(name="path", scope="module")
def small_target(hub, tmp_path_factory):
    hub("vit")
    return target_file(tmp_path_factory.mktemp("race"), "classification", image=False, samples=80)


def request_of(path, **changes):
    return RaceRequest(series(path), **{"steps": ALL_STEPS, "sources": (VIT,), **changes})


@pytest.fixture(name="done", scope="module")
def finished_race(path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("best")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODGAP_CACHE", str(tmp_path_factory.mktemp("cache")))
        result = TransferResult(run_race(request_of(path), folder, Backend(1)), folder)
    result.write(folder)
    return result


def test_the_folder_is_that_of_the_chosen_model(done, path, tmp_path):
    record = done.to_dict()
    assert [one["title"] for one in record["steps"]] == [step.title for step in ALL_STEPS]
    assert record["tested"][0]["is_winner"]
    kinds = {one["kind"] for one in record["tested"]}
    assert kinds == {*KINDS, "from scratch"}
    model = modgap.load_run(done.folder)
    assert model.predict(np.zeros((2, 2, 24), np.float32)).shape == (2,)
    winner, *others = record["tested"]
    assert done.run.record["result"]["test"] == pytest.approx(winner["test"])
    for one in others:
        # Both are in percent.
        assert one["minus_chosen"]["value"] == pytest.approx(one["test"] - winner["test"])
    for one in record["tested"]:
        run = modgap.load_run(done.folder / "models" / one["folder"])
        assert run is not None
    assert run_in_process("report", str(done.folder)).returncode == 0
    page = (done.folder / "report.html").read_text()
    assert "Everything that was tried" in page
    compared = run_in_process("compare", str(done.folder), str(done.folder / "models" / "2"))
    assert compared.returncode == 0, compared.stderr
    assert "## Limits" in (done.folder / "card.md").read_text()
    frame = done.to_frame()
    assert frame["is_chosen"].sum() >= 1
    assert {figure.name for figure in done.figures()} == {"transfer", "transfer-time"}
    for figure in done.figures():
        assert figure.draw()
        assert str(len(ALL_STEPS)) in figure.caption()
    assert "Which model should predict" in str(done)


def test_the_answer_says_what_was_not_shown(done):
    assert any(verdict.question == "Does pretraining help?" for verdict in done.answer.verdicts) == (
        kind_of(done.race.chosen.winner) in KINDS[2:4]
    )
    poor = replace(done.race, chance=replace(done.race.chance, test=0.0), tested=done.race.tested[:1])
    assert TransferResult(poor, done.folder).answer.headline.startswith("No model is shown to beat chance")
    assert "nevertheless" in TransferResult(poor, done.folder).answer.next_step
    late = "It would not have ended within the time: it needed about 9 s more."
    outcomes = (done.race.outcomes[0], *(replace(one, reason=late) for one in done.race.outcomes[1:]))
    request = replace(done.race.request, steps=())
    titles = tuple(one.step.title for one in outcomes[1:])
    answer = TransferResult(
        replace(done.race, request=request, outcomes=outcomes, not_tried=titles), done.folder
    ).answer
    assert "4 steps (3 not finished)" in answer.facts[-1]
    assert [row[1] for row in answer.tables[1].rows].count("not finished") == 3
    more = answer.verdicts[-1]
    assert "No training fitted into the time" in more.sentence
    is_perfect = done.run.record["result"]["test"] == 0 or done.race.chosen.winner.error == 0
    assert (more.label, "--resume --minutes 20" in more.sentence) == (
        ("Nothing", False) if is_perfect else ("Try more", True)
    )
    assert "3 steps did not " in more.sentence


def test_results_on_fewer_folds_are_preliminary(done):
    race = done.race
    losses = np.where(np.arange(race.n_labeled) < 20, 0.0, np.nan)
    early = Outcome(replace(TRAINED, folds=1), losses, 1.0)
    outcomes, elapsed = (early, *race.outcomes), (0.5, *race.elapsed)
    answer = TransferResult(replace(race, outcomes=outcomes, elapsed=elapsed), done.folder).answer
    tried = answer.tables[1]
    assert [row[0].endswith("(preliminary)") for row in tried.rows] == [False] * len(race.outcomes) + [True]
    assert [mark.is_open for mark in tried.marks] == [False] * len(race.outcomes) + [True]
    assert any(note.startswith("Preliminary results are on fewer folds") for note in answer.notes)
    assert not any("reliminary" in note for note in done.answer.notes)
    many = replace(race, outcomes=race.outcomes * 8, elapsed=race.elapsed * 8)
    title = TransferResult(many, done.folder).answer.tables[1].title
    assert title.endswith("the first 30 of 32 steps, which are all in steps.csv")
    # Where trainings have one fold alone, the choice is on its samples.
    judged = np.flatnonzero(np.isfinite(losses))
    chosen = replace(race.chosen, judged=judged)
    trained = TransferResult(replace(race, outcomes=(early, *race.outcomes[:3]), chosen=chosen), done.folder).answer
    assert trained.notes[0].startswith("The choice compared models on the 20 labeled samples")


def test_models_of_the_same_architecture_without_pretraining_are_compared(path, tmp_path, monkeypatch):
    """The control of the chosen source is tested where the control of another one has a lower error."""
    errors = {PROBE: 0.0, CONTROL: 0.6, replace(CONTROL, name=control_name(CNN)): 0.5, LINEAR: 0.9}

    def run(self, jobs, **_options):
        for index, job in enumerate(jobs):
            judged = read_labeled(series(path), None, 0).rows
            yield index, outcome(job.step, errors[job.step], n=len(judged))

    monkeypatch.setattr(Backend, "run", run)
    result = TransferResult(run_race(request_of(path, steps=tuple(errors)), tmp_path / "best", Backend()), tmp_path)
    assert result.run.record["source"] == VIT
    assert [one.run.record["source"] for one in result.race.tested if one.name == "random-weights control"] == [
        control_name(VIT)
    ]
    (verdict,) = [one for one in result.answer.verdicts if one.question == "Does pretraining help?"]
    assert "the same architecture with random weights" in verdict.sentence


def test_groups_are_no_reason_for_a_blank_difference(tmp_path):
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(40), 4)
    y = np.arange(160) % 2
    x = rng.standard_normal((160, 1, 8)) + y[:, None, None]
    np.savez(tmp_path / "data.npz", x=x.astype(np.float32), y=y, groups=groups)
    request = RaceRequest(series(tmp_path / "data.npz"), steps=(LINEAR,))
    result = TransferResult(run_race(request, tmp_path / "best", Backend(1)), tmp_path / "best")
    constant = result.answer.tables[0].rows[-1]
    assert all(constant[3:6])
    assert result.answer.verdicts[0].label in ("Better than chance", "Not shown better")


def test_values_whose_lowest_constant_is_another_are_never_better_than_chance(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((160, 1, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=1 + x + 0.1 * rng.standard_normal(x.shape).astype(np.float32))
    request = RaceRequest(series(tmp_path / "data.npz"), steps=(LINEAR,))
    result = TransferResult(run_race(request, tmp_path / "best", Backend(1)), tmp_path / "best")
    assert result.run.record["result"]["metric"] == "nRMSE"
    verdict = result.answer.verdicts[0]
    assert verdict.label == "Lower than a constant"
    assert "the lowest nRMSE without knowledge is not known" in verdict.sentence
    assert result.answer.headline.startswith("Use the baseline")


def test_what_is_said_of_the_data_is_said_once(sources, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("age,dose,label\n" + "".join(f"{n % 7},{n % 5},{n % 2}\n" for n in range(60)))
    caplog.set_level("INFO", logger="modgap")
    request = RaceRequest(TargetRequest("rows.csv"), steps=(LINEAR, replace(TRAINED, folds=1)))
    race = run_race(request, tmp_path / "best", Backend(1))
    TransferResult(race, tmp_path / "best").write(tmp_path / "best")
    # Epochs of the steps and of the final fits do not name the model.
    assert len(race.tested) == 3
    assert "epoch 1 of" not in caplog.text
    for text in ("read as features", "columns of values"):
        assert len([one for one in caplog.records if text in one.getMessage()]) == 1


def test_a_plan_changes_when_it_lasts():
    assert race_module.lasting_changes([42, 42, 30, 39, 30, 30, 21, 27, 27, 42]) == [(42, 27)]
    assert race_module.lasting_changes([42, 21, 42, 21, 42]) == []
    # It is said at most once in each direction.
    assert race_module.lasting_changes([42, 21, 20, 42, 42, 20, 20]) == [(42, 20), (20, 42)]


def test_a_resumed_race_keeps_what_was_measured(tmp_path, monkeypatch, caplog):
    """It may begin with a relative path, and go on with the absolute one that the folder has."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", logger="modgap")
    rows = "".join(f"{n // 6},{n % 7},{n % 5},{n % 2}\n" for n in range(60))
    (tmp_path / "rows.csv").write_text(f"patient,age,dose,label\n{rows}")
    request = RaceRequest(TargetRequest("rows.csv"), 0)
    first = run_race(request, tmp_path / "best", Backend(1))
    caplog.clear()
    absolute = replace(request, target=request.target.absolute())
    again = TransferResult(run_race(absolute, tmp_path / "best", Backend(1), resume=True), tmp_path / "best")
    assert again.race.seconds == pytest.approx(first.seconds, abs=1e-3)
    assert f"The transfer is resumed: {len(first.outcomes)} steps done" in caplog.text
    assert "Plan" not in caplog.text
    # A column that looks like groups is a part of the answer and of the card.
    (check,) = again.answer.checks
    assert "The column patient is read as a value" in check.sentence
    again.write(tmp_path / "best")
    card = (tmp_path / "best" / "card.md").read_text()
    assert "repeat the transfer with `modgap transfer --group patient`." in card
    assert "A model of `rows.csv`" in card


def test_a_start_that_failed_is_no_race(path, tmp_path):
    folder = tmp_path / "best"
    folder.mkdir()
    (folder / "request.json").write_text('{"minutes": 5, "data": "of before the repair"}')
    race = run_race(request_of(path, steps=(LINEAR,)), folder, Backend(1))
    assert race.tested[0].title == "baseline linear"


@pytest.mark.long
def test_a_race_can_get_more_minutes(path, tmp_path, caplog):
    folder, shares = tmp_path / "best", {}

    def progress(stage, share):
        shares[stage] = shares.get(stage, 0.0) + share

    first = run_race(request_of(path, steps=(), minutes=0), folder, Backend(1))
    assert {one.step.kind for one in first.outcomes} == {"baseline"}
    late = replace(outcome(PROBE, 0.5), reason="It would not have ended within the time: it needed about 9 s more.")
    line = json.dumps({**late.to_record(), "number": 99, "elapsed": 1.0, "rows": [], "losses": []})
    with (folder / STEPS).open("a") as file:
        file.write(line + "\n")
    caplog.set_level("INFO", logger="modgap")
    longer = run_race(request_of(path, steps=(), minutes=0.9), folder, Backend(1), resume=True, progress=progress)
    # A step that was given up is tried again.
    assert [one.reason for one in longer.outcomes if one.step.model == PROBE.model] == [""]
    assert longer.outcomes[: len(first.outcomes)][0].step == first.outcomes[0].step
    assert longer.tested_after == (0,)
    record = json.loads((folder / "run.json").read_text())
    assert (record["method"], record["source"]) == tuple(
        longer.tested[0].run.record[key] for key in ("method", "source")
    )
    assert len(list((folder / "models").glob("*/run.json"))) == len(longer.tested)
    assert all(share == pytest.approx(1) for share in shares.values())
    with pytest.raises(UsageError, match="It can only get more"):
        run_race(request_of(path, steps=(), minutes=0.5), folder, Backend(1), resume=True)
    messages = [record.getMessage() for record in caplog.records]
    assert len([text for text in messages if "columns of values" in text]) <= 1


def test_the_test_samples_are_seen_by_nothing_before_the_end(path):
    labeled = read_labeled(series(path), None, 0)
    assert isinstance(labeled, Labeled)
    assert not set(labeled.rows) & set(labeled.data.test)


def test_an_interrupted_race_ends_the_same(done, path, tmp_path, monkeypatch):
    folder = tmp_path / "interrupted"
    folder.mkdir()
    original, runs = race_module._Running._final_run, []

    def interrupted(self, step, of):
        runs.append(step)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return original(self, step, of)

    monkeypatch.setattr(race_module._Running, "_final_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_race(request_of(path), folder, Backend(1))
    # The last line was not finished.
    lines = (folder / STEPS).read_text().splitlines(keepends=True)
    (folder / STEPS).write_text("".join(lines[:2]) + lines[2][:40])
    with pytest.raises(UsageError, match="already contains a transfer"):
        run_race(request_of(path), folder, Backend(1))
    with pytest.raises(UsageError, match="another `minutes`"):
        run_race(request_of(path, minutes=1.0), folder, Backend(1), resume=True)
    with pytest.raises(UsageError, match="another `limit`"):
        run_race(request_of(path, samples=SampleRequest(limit=50)), folder, Backend(1), resume=True)
    resumed = run_race(request_of(path), folder, Backend(1), resume=True)
    assert [one.step for one in resumed.outcomes] == list(ALL_STEPS)
    for one, other in zip(resumed.outcomes, done.race.outcomes, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-6)
    for one, other in zip(resumed.tested, done.race.tested, strict=True):
        assert (one.title, one.run.record["result"]["test"]) == (other.title, other.run.record["result"]["test"])
    (folder / STEPS).write_text("[]\n")
    with pytest.raises(InputError, match="not the result of a step"):
        run_race(request_of(path), folder, Backend(1), resume=True)


def test_a_lost_worker_is_a_model_that_failed(path, tmp_path, monkeypatch):
    original = Backend.run

    def run(self, jobs, **options):
        for index, result in original(self, jobs, **options):
            yield index, Failure("Its worker was lost.") if jobs[index].step == PROBE else result

    monkeypatch.setattr(Backend, "run", run)
    folder = tmp_path / "best"
    folder.mkdir()
    race = run_race(request_of(path, steps=(LINEAR, PROBE)), folder, Backend(1))
    assert [one.reason for one in race.outcomes] == ["", "Its worker was lost."]
    assert race.tested[0].name == "baseline"


def test_steps_are_repeated_from_the_record(done, path, tmp_path):
    steps = read_steps(done.folder / "transfer.json")
    assert steps == list(ALL_STEPS)
    for content in (
        "{}",
        "[1]",
        '{"steps": [{"step": {"method": "a"}}]}',
        "{",
        '[{"method": "a", "name": "b", "x": 1}]',
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(InputError, match="no steps of a transfer"):
            read_steps(tmp_path / "bad.json")


def test_other_folders_are_refused(path, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").touch()
    with pytest.raises(UsageError, match="contains other files"):
        run_race(request_of(path), tmp_path / "other", Backend(1))
    with pytest.raises(UsageError, match="minutes"):
        RaceRequest(TargetRequest(str(path)), -1.0)
    with pytest.raises(UsageError, match="is a file"):
        run_race(request_of(path), tmp_path / "other" / "a.txt", Backend(1))


@pytest.mark.usefixtures("own_cache")
def test_the_command_makes_a_model(tmp_path):
    path, out = target_file(tmp_path, "classification", image=False, samples=60), tmp_path / "best"
    target = ("--target", str(path), "--kind", "series")
    done = run_in_process("transfer", *target, "--minutes", "0", "--out", str(out), "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert "Use the baseline" in done.stdout
    assert "- baselines: 4 steps, about" in done.stderr
    # The folder has the options.
    alone = run_in_process("transfer", "--out", str(out), "--resume")
    assert alone.returncode == 0, alone.stderr
    assert "Use the baseline" in alone.stdout
    assert run_in_process("transfer", *target).returncode == 2
    assert "already contains a transfer" in run_in_process("transfer", *target, "--out", str(out)).stderr
    assert "Missing option '--target'" in run_in_process("transfer", "--out", str(tmp_path / "new")).stderr
    repeated = run_in_process(
        "transfer", *target, "--steps", str(out / "transfer.json"), "--out", str(tmp_path / "again"), "--jobs", "1"
    )
    assert repeated.returncode == 0, repeated.stderr
    assert (tmp_path / "again" / "transfer.png").exists()


@pytest.mark.usefixtures("own_cache")
def test_an_interrupted_command_says_how_it_goes_on(tmp_path, monkeypatch):
    path, out = target_file(tmp_path, "classification", image=False, samples=60), tmp_path / "best"

    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(race_module._Running, "run", interrupted)
    stopped = run_in_process("transfer", "--target", str(path), "--kind", "series", "--out", str(out))
    assert stopped.returncode == 130
    assert f"Continue with: modgap transfer --out {out} --resume" in stopped.stderr
    assert stopped.stderr.count("modgap: ") == 1
    # Its options are known, although it has no result.
    assert run_in_process("transfer", "--out", str(out), "--resume").returncode == 130


@pytest.mark.long
def test_a_transfer_that_is_killed_ends_the_same(tmp_path):
    """After kills at random times, in the race and in the final fits, the answer is that of an uninterrupted one."""
    path, source = target_file(tmp_path, "classification", image=False, samples=80), "random:timm:test_vit"
    steps = [
        LINEAR,
        TREES,
        replace(PROBE, name=source),
        *(replace(TRAINED, name=source, rate=rate, folds=2) for rate in RATES),
    ]
    (tmp_path / "steps.json").write_text(json.dumps([plain_values(asdict(step)) for step in steps]))
    numbers, moments = itertools.count(), random.Random(2)

    def start(out):
        arguments = [
            "transfer", f"--target={path}", "--kind=series", f"--steps={tmp_path / 'steps.json'}", f"--out={out}",
            "--jobs=2", "--resume", "--quiet",
        ]  # fmt: skip
        environment = {"MODGAP_CACHE": str(tmp_path / f"cache-{out.name}"), "MODGAP_HISTORY": "none"}
        return ForkedCommand(arguments, environment, tmp_path / f"output-{next(numbers)}")

    def answer(out):
        record = json.loads((out / "transfer.json").read_text())
        for one in (*record["steps"], *record["tested"]):
            one.pop("seconds", None)
            one.pop("elapsed", None)
        names = ("steps", "chosen", "lowest", "tested", "helps", "chance", "judged")
        return {name: record[name] for name in names}, (out / "model.safetensors").read_bytes()

    start(tmp_path / "once").finish()
    n_killed, folders = 0, (tmp_path / f"killed-{number}" for number in itertools.count())
    killed = next(folders)
    while n_killed < N_KILLS:
        process = start(killed)
        time.sleep(moments.uniform(0.5, 12))
        if process.poll() is None:
            n_killed += 1
            process.kill()
        else:
            # It ended before the kill, and the others meet a new one.
            process.finish()
            assert answer(killed) == answer(tmp_path / "once")
            killed = next(folders)
    start(killed).finish()
    assert answer(killed) == answer(tmp_path / "once")


def labeled_series(folder, n, name="many.npz"):
    """A target with n samples, of which 70 % are labeled for training and validation."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    np.savez(folder / name, x=rng.standard_normal((n, 1, 8)).astype(np.float32) + labels[:, None, None], y=labels)
    return TargetRequest(str(folder / name), SERIES)


@pytest.mark.parametrize("n", [1600, 4200])
def test_a_part_of_the_samples_is_in_all_folds(tmp_path, n):
    labeled = read_labeled(labeled_series(tmp_path, n), None, 0)
    assert len(labeled.rows) > 1000
    counts = np.bincount(labeled.folds[labeled.subset(500, 0)], minlength=5)
    # 100 are expected in each, with a standard deviation of about 9.
    assert (abs(counts - 100) < 40).all()
    assert len(np.unique(labeled.subset(500, 0))) == 500


def test_a_step_of_a_part_of_the_samples_learns_from_four_fifths_of_them(tmp_path):
    target = labeled_series(tmp_path, 4200)
    done = run_step(Step("baseline", "linear", labeled=500, folds=2), target)
    assert done.reason == ""
    assert np.isfinite(done.losses).sum() == pytest.approx(200, abs=60)
    assert done.error < 0.6


def test_the_model_of_all_samples_is_the_finalist_and_not_that_of_a_part():
    step = Step("linear-probe", "a", folds=1)
    part, full = outcome(replace(step, labeled=500, folds=2), 0.1, n=1000), outcome(step, 0.2, n=1000)
    for order in ((part, full), (full, part)):
        assert finalists_of([*order, outcome(LINEAR, 0.3, n=1000)])[1] is full


def test_a_source_whose_later_probe_was_given_up_may_be_trained():
    probe = Step("linear-probe", "a", labeled=500, folds=2)
    given_up = Outcome(replace(probe, labeled=None), np.full(5, np.nan), 1.0, "Out of time")
    strategy = replace(STRATEGY, n_labeled=2000)
    assert strategy.sources_to_train([outcome(probe, 0.1, n=2000), given_up])[0] == "a"
    assert "a" not in strategy.sources_to_train([given_up])


def test_few_samples_without_groups_are_divided(tmp_path):
    np.savez(tmp_path / "few.npz", x=np.arange(12.0).reshape(6, 2), y=[0, 0, 1, 1, 0, 1], splits=[0, 1, 0, 2, 2, 2])
    target = TargetRequest(str(tmp_path / "few.npz"), CustomData.of({"kind": "table"}))
    for seed in range(8):
        assert len(np.unique(read_labeled(target, None, seed).folds)) > 1


@pytest.mark.parametrize("name", ["x", "y"])
def test_values_of_test_samples_that_are_not_finite_are_refused_at_once(tmp_path, name):
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((40, 1, 8)), "y": rng.standard_normal(40), "splits": np.arange(40) % 3}
    arrays[name][2] = np.nan
    np.savez(tmp_path / "gap.npz", **arrays)
    with pytest.raises(InputError, match=r"ample 2 has NaN or infinite values"):
        read_labeled(TargetRequest(str(tmp_path / "gap.npz"), SERIES), None, 0)


def test_a_list_without_steps_is_refused(tmp_path):
    (tmp_path / "steps.json").write_text("[]")
    with pytest.raises(InputError, match="has no step that ended"):
        read_steps(tmp_path / "steps.json")


def test_several_values_of_a_sample_are_no_field(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 3))
    model = modgap.TransferRegressor(minutes=0).fit(x, x @ rng.standard_normal((3, 3)))
    assert model.predict(x).shape == (60, 3)
    data = read_labeled(TargetRequest(*stored_target(tmp_path, x)), None, 0).data
    assert strategy_of(TargetRequest(*stored_target(tmp_path, x)), ["a"], Labeled(data, data.train, data.train),
                       seconds=1, workers=1).probes  # fmt: skip


def test_sources_are_tried_in_the_order_that_is_known_for_the_kind(tmp_path):
    request = TargetRequest(*stored_target(tmp_path, np.random.default_rng(0).standard_normal((60, 3))))
    data = read_labeled(request, None, 0).data
    known = known_sources("table", method="probes")
    names = ["vit-fashion@64px", *known.names[::-1], "unknown"]
    found = strategy_of(request, names, Labeled(data, data.train, data.train), seconds=1, workers=1).sources
    places = [known.names.index(name.partition("@")[0]) for name in found[:-1]]
    assert places == sorted(places)
    assert found[-1] == "unknown"


def stored_target(folder, x):
    """Values (n, 3, 1) of samples of three columns, as the estimators store them."""
    np.savez(folder / "values.npz", x=x, y=x[:, :, None])
    return str(folder / "values.npz"), CustomData.of({"kind": "table", "task": "regression"})
