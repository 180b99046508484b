"""History for sources that have none: the trainings, their order and time, and what is kept when they stop."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modgap.errors import InputError, UsageError
from modgap.jobs import Backend, Failure
from modgap.ranking.history import build as build_module
from modgap.ranking.history import measure
from modgap.ranking.history.build import PACKAGED, TrainingJob, plan_build, run_build
from modgap.ranking.history.choice import choose_source
from modgap.ranking.history.lines import VARIABLES, HistoryLine, Setup, history_table
from modgap.ranking.history.measure import (
    ALL,
    EPOCHS,
    HALF,
    RATES,
    Training,
    TrainingErrors,
    best_rate,
    line_of_trainings,
    read_labeled,
    trainings,
)
from modgap.ranking.history.store import History, read_history, shipped_history
from modgap.sources import open_source
from modgap.storage.json_records import read_json
from modgap.targets import TargetRequest
from modgap.training.loop import NotFiniteError
from modgap.training.pilot import labeled_halves
from modgap.training.train import train_in_memory
from modgap.training.train_request import TrainRequest
from tests.commands import run_in_process
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_matrix import CNN, VIT, small_sources, small_target  # noqa: F401 - fixture
from tests.training import target_file

SERIAL = Backend("serial", 1)
SMALL_VIT, SMALL_CNN = f"{VIT}@32px", f"{CNN}@32px"
SETUP = Setup(128, 10, (0.0005, 0.0001, 0.0025))


def build(sources, targets, hours=None, folder=None, history=None, backend=None, progress=None):
    return run_build(plan_build(sources, targets, history, backend), folder, hours, progress)


@pytest.fixture(autouse=True)
def user_history(tmp_path, monkeypatch):
    monkeypatch.setenv("MODGAP_HISTORY", str(tmp_path / "history"))
    return tmp_path / "history"


def line(source="a", target="t"):
    return HistoryLine(source, target, "image", 100, 5, SETUP, {})


def errors(last, seconds=2.0, judged=20):
    return TrainingErrors({1: 90.0, 3: 60.0, 10: last}, 40, judged, seconds)


def fake_trainings(monkeypatch, seconds=1.0, speed=1.0):
    """Replace trainings by errors that depend on their names, and return a list of those that are done."""
    done = []

    def measured(training, _device="auto"):
        done.append(training)
        percents = [zlib.crc32(f"{training.name} {epoch}".encode()) % 1000 / 10 for epoch in EPOCHS]
        return TrainingErrors(dict(zip(EPOCHS, percents, strict=True)), 18, 8, seconds)

    monkeypatch.setattr(build_module, "measure_errors", measured)
    monkeypatch.setattr(build_module, "measure_speed", lambda *_: speed)
    return done


# The setup, which is that of the history that ships


def test_the_setup_is_that_of_the_history_that_ships():
    setups = {replace(line.setup, input_size=None) for line in shipped_history().lines}
    assert setups == {Setup(measure.LABELED, EPOCHS[-1], RATES)}
    assert [f"pilot-{epochs}" for epochs in EPOCHS] == list(VARIABLES[2:5])


def test_a_training_is_that_of_modgap_train_in_memory(sources, tmp_path):
    path = target_file(tmp_path, "classification")
    found = measure.measure_errors(Training(HALF, SMALL_VIT, str(path), 0, 0.0001))
    data = labeled_halves(read_labeled(str(path)))
    settings = ("stage2.epochs=10", "stage2.decay_epochs=10", "stage2.warmup_epochs=1", "stage2.batch_size=16")
    settings = (*settings, "stage2.choose=last", "stage2.learning_rate=0.0001")
    expected = {}

    def watch(epoch, model, evaluator):
        expected[epoch] = evaluator.error(model, data.test)

    request = TrainRequest("finetune", VIT, TargetRequest(str(path)), settings)
    train_in_memory(request, open_source(VIT).load(32, head=False), data, [1, 3, 10], watch)
    assert found.errors == expected
    assert (found.trained, found.judged) == (len(data.train), len(data.test))


def test_a_training_whose_loss_is_infinite_has_the_largest_error(sources, tmp_path, monkeypatch):
    def fail(*_arguments):
        raise NotFiniteError("NaN")

    monkeypatch.setattr(measure, "train_in_memory", fail)
    found = measure.measure_errors(Training(ALL, SMALL_VIT, str(target_file(tmp_path, "classification")), 0, 0.0001))
    assert found.errors == dict.fromkeys(EPOCHS, 100.0)


def test_changed_files_are_read_again(tmp_path):
    path = target_file(tmp_path, "classification")
    before = read_labeled(str(path))
    assert read_labeled(str(path)) is before
    target_file(tmp_path, "classification", samples=80)
    assert len(read_labeled(str(path)).table) == 80


def test_the_best_rate_is_the_first_of_equal_ones():
    assert best_rate({RATES[0]: 20.0, RATES[1]: 10.0}) is None
    assert best_rate(dict(zip(RATES, (20.0, 10.0, 10.0), strict=True))) == RATES[1]


def test_a_line_has_the_errors_of_the_trainings_that_are_finished():
    results = {}
    parts = []
    planned = trainings("a", "t", None)
    assert [one.part for one in planned] == [HALF, HALF, HALF, "control"]
    for one, last in zip(planned[:3], (20.0, 10.0, 30.0), strict=True):
        results[one] = errors(last)
        parts.append(set(line_of_trainings(line(), results, None).errors))
    pilots = {"pilot-1", "pilot-3", "pilot-10"}
    assert parts == [pilots, pilots, {*pilots, "pilot-rates"}]
    one, two, control = trainings("a", "t", best_rate({key.rate: value.last for key, value in results.items()}))[3:]
    assert (one, two) == (Training(ALL, "a", "t", 0, RATES[1]), Training(ALL, "a", "t", 1, RATES[1]))
    assert control == Training("control", "random:a", "t", 0, RATES[0])
    results[one] = errors(12.0, seconds=3.0, judged=60)
    assert "trained" not in line_of_trainings(line(), results, None).errors
    results |= {two: errors(13.0, seconds=5.0, judged=60), control: errors(50.0, judged=60)}
    found = line_of_trainings(line(), results, None)
    assert found.errors == {
        "trained": 0.125, "control": 0.5, "pilot-1": 0.9, "pilot-3": 0.6, "pilot-10": 0.2, "pilot-rates": 0.1,
    }  # fmt: skip
    assert found.held_out == {**dict.fromkeys(("trained", "control"), 60), **dict.fromkeys(VARIABLES[2:], 20)}
    assert found.seconds == {
        "pilot-1": 0.2, "pilot-3": 0.6, "pilot-10": 2.0, "pilot-rates": 6.0, "control": 2.0, "trained": 4.0,
    }  # fmt: skip
    assert found.setup == SETUP
    assert line_of_trainings(line("b"), results, None).errors == {}


# The plan


def test_the_quickest_targets_come_first_and_none_that_judges(sources):
    plan = plan_build([SMALL_VIT], history=History(), backend=Backend("cached"))
    shipped = {one.target for one in build_module.complete_lines()}
    judging = read_json(Path(__file__).parent.parent / "benchmarks" / "truth" / "judging_targets.json")
    assert set(plan.targets) | set(plan.absent) == shipped
    assert not shipped & {name for names in judging.values() for name in names}
    times = [sum(plan.costs[target][one.part] for one in trainings("a", target, RATES[0])) for target in plan.targets]
    assert times == sorted(times)


def test_what_the_history_has_is_not_measured_again(sources, tmp_path):
    target = small_target(tmp_path, 0)
    plan = plan_build([SMALL_VIT], [target], History(), Backend("cached"))
    digest = plan.pairs[0].source_digest
    complete = HistoryLine(VIT, target, "image", 36, 3, replace(SETUP, input_size=32), dict.fromkeys(VARIABLES, 0.5))

    def n_left(known):
        return len(plan_build([SMALL_VIT], [target], History((known,)), Backend("cached")).pairs)

    assert n_left(complete) == n_left(replace(complete, source_digest=digest)) == 0
    others = {"source_digest": "other weights", "errors": {"trained": 0.5}, "setup": SETUP, "source": CNN}
    assert [n_left(replace(complete, **{name: value})) for name, value in others.items()] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        ([], [PACKAGED], "No source was named"),
        (["random:vit-fashion"], [PACKAGED], "is a random-weights control"),
        (["vit-fashio"], [PACKAGED], "Did you mean vit-fashion"),
        (["vit-fashion"], ["digit"], "Did you mean digits"),
    ],
)
def test_wrong_names_are_one_message(sources, targets, message):
    with pytest.raises(InputError, match=message):
        plan_build(sources, targets, History(), SERIAL)


@pytest.mark.parametrize("task", ["regression", "multi-label"])
def test_targets_without_classes_are_refused(sources, tmp_path, task):
    path = str(target_file(tmp_path, task))
    with pytest.raises(InputError, match="needs one class for each sample"):
        build([SMALL_VIT], [path], history=History(), backend=SERIAL)


def test_the_time_is_that_of_a_short_training_and_later_that_of_finished_ones(
    sources, tmp_path, own_cache, monkeypatch
):
    monkeypatch.setattr(build_module, "measure_speed", lambda *_: 12.0)
    path = small_target(tmp_path, 0)
    plan = plan_build([SMALL_VIT], [path, "gunpoint"], History(), SERIAL)
    assert plan.targets[0] == "gunpoint"
    costs = {target: plan.costs[target] for target in plan.targets}
    assert plan.factors[SMALL_VIT] == pytest.approx(12 / costs["gunpoint"][ALL])
    seconds = {name: 3 * cost[HALF] + 2 * cost[ALL] + cost["control"] for name, cost in costs.items()}
    factor = plan.factors[SMALL_VIT]
    assert plan.hours() * 3600 == pytest.approx(factor * sum(seconds.values()))
    assert plan.hours(1) * 3600 == pytest.approx(factor * seconds["gunpoint"])
    assert (plan.targets_within(plan.hours(1) * 1.01), plan.targets_within(plan.hours(1) * 0.99)) == (1, 0)
    job = TrainingJob(plan.pairs[1].trainings({})[0], plan.pairs[1].identity, "cpu")
    monkeypatch.setattr(build_module, "measure_errors", lambda *_: errors(20.0, seconds=5.0))
    job()
    plan = plan_build([SMALL_VIT], [path, "gunpoint"], History(), SERIAL)
    assert plan.factors[SMALL_VIT] == pytest.approx(5 / costs[path][HALF])
    left = sum(seconds.values()) - costs[path][HALF]
    assert plan.hours() * 3600 == pytest.approx(plan.factors[SMALL_VIT] * left)


def test_a_source_whose_time_cannot_be_measured_has_none(sources, tmp_path, own_cache, monkeypatch):
    monkeypatch.setattr(build_module, "measure_speed", lambda *_: (_ for _ in ()).throw(InputError("no memory")))
    plan = plan_build([SMALL_VIT], [small_target(tmp_path, 0)], History(), SERIAL)
    assert plan.notes == {SMALL_VIT: "no memory"}
    assert np.isnan(plan.hours())
    options = ("--targets", small_target(tmp_path, 0), "--jobs", "1", "--dry-run")
    done = run_in_process("history", "build", "--sources", SMALL_VIT, *options)
    assert (done.returncode, "unknown" in done.stdout, "no memory" in done.stderr) == (0, True, True)


# The run


def test_a_run_adds_complete_lines_that_the_choice_uses(sources, tmp_path, own_cache, user_history):
    path = small_target(tmp_path, 0)
    result = build([SMALL_VIT], [path], backend=SERIAL)
    assert (result.failures, result.n_left, result.targets, result.n_trained) == ({}, 0, (path,), 6)
    assert 0 < result.spent < 600 > result.expected > 0
    lines = {line.source: line for line in read_history(user_history).lines}
    assert set(lines) == {VIT}
    for one in lines.values():
        assert set(one.errors) == set(one.held_out) == set(one.seconds) == set(VARIABLES)
        assert (one.setup, one.samples, one.classes, one.kind) == (replace(SETUP, input_size=32), 36, 3, "image")
        assert one.target_digest in read_history(user_history).sketches
    assert sorted(result.lines, key=repr) == sorted(lines.values(), key=repr)
    merged = shipped_history().merged(read_history(user_history))
    n_sources, n_targets = history_table(shipped_history().lines, SETUP).errors.shape[:2]
    assert history_table(merged.lines, SETUP).errors.shape[:2] == (n_sources + 1, n_targets + 1)
    assert choose_source(merged, [VIT, "vit-fashion"], SETUP).known.all()
    # Nothing is left, so nothing is trained again.
    assert plan_build([SMALL_VIT], [path], backend=SERIAL).n_known == 1


def comparable(folder):
    """Lines of a folder without their seconds."""
    return sorted((replace(line, seconds={}) for line in read_history(folder).lines), key=repr)


def test_hours_end_a_run_that_the_same_command_continues(sources, tmp_path, own_cache, user_history, monkeypatch):
    targets = [small_target(tmp_path, number) for number in range(2)]
    done = fake_trainings(monkeypatch, seconds=3600, speed=3600)
    build([SMALL_VIT], targets, history=History(), folder=tmp_path / "whole", backend=SERIAL)
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "another"))
    done.clear()
    first = build([SMALL_VIT], targets, hours=1.5, backend=SERIAL)
    assert (first.n_trained, first.n_left, first.targets) == (2, 2, ())
    assert set(read_history(user_history).lines[0].errors) == {"pilot-1", "pilot-3", "pilot-10"}
    second = build([SMALL_VIT], targets, hours=100, backend=SERIAL)
    assert (second.n_trained, second.n_left, second.targets) == (10, 0, tuple(targets))
    assert len(done) == len(set(done)) == 12
    assert comparable(user_history) == comparable(tmp_path / "whole")
    with pytest.raises(UsageError, match="`hours` is 0"):
        build([SMALL_VIT], targets, hours=0, history=History(), backend=SERIAL)


def test_an_interrupted_run_goes_on_with_what_is_missing(sources, tmp_path, own_cache, user_history, monkeypatch):
    target = small_target(tmp_path, 0)
    done = fake_trainings(monkeypatch)
    shares = []

    def interrupt(_stage, share):
        shares.append(share)
        if len(shares) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build([SMALL_VIT, SMALL_CNN], [target], backend=SERIAL, progress=interrupt)
    assert len(done) == 5
    assert {VIT} <= {line.source for line in read_history(user_history).lines}
    shares.clear()
    build([SMALL_VIT, SMALL_CNN], [target], backend=SERIAL, progress=lambda _, share: shares.append(share))
    assert sum(shares) == pytest.approx(1)
    assert len(done) == len(set(done)) == 12
    build([SMALL_VIT, SMALL_CNN], [target], history=History(), folder=tmp_path / "again", backend=SERIAL)
    assert len(done) == 12
    assert comparable(tmp_path / "again") == comparable(user_history)


def test_what_fails_is_told_and_the_rest_goes_on(sources, tmp_path, own_cache, user_history, monkeypatch):
    targets = [small_target(tmp_path, number) for number in range(2)]
    fake_trainings(monkeypatch)
    measured = build_module.measure_errors

    def fail(training, device="auto"):
        if training.part == ALL and training.source == SMALL_CNN and training.target == targets[0]:
            raise RuntimeError("out of memory")
        return measured(training, device)

    monkeypatch.setattr(build_module, "measure_errors", fail)
    result = build([SMALL_VIT, SMALL_CNN], targets, backend=SERIAL)
    assert result.failures == {(SMALL_CNN, targets[0]): "RuntimeError: out of memory"}
    assert (result.targets, result.n_left) == ((targets[1],), 0)
    errors_of = {(line.source, line.target): set(line.errors) for line in read_history(user_history).lines}
    assert errors_of[CNN, targets[0]] == set(VARIABLES) - {"trained"}
    assert errors_of[VIT, targets[0]] == errors_of[CNN, targets[1]] == set(VARIABLES)


@pytest.mark.long
def test_processes_find_the_same_errors(tmp_path, own_cache, monkeypatch):
    target = small_target(tmp_path, 0)
    build(["vit-fashion"], [target], history=History(), folder=tmp_path / "one", backend=SERIAL)
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "another"))
    build(["vit-fashion"], [target], history=History(), folder=tmp_path / "two", backend=Backend("loky", 2))
    assert comparable(tmp_path / "one") == comparable(tmp_path / "two")


def test_damaged_entries_of_the_cache_are_trained_again(sources, tmp_path, own_cache, monkeypatch):
    target = small_target(tmp_path, 0)
    plan = plan_build([SMALL_VIT], [target], History(), Backend("cached"))
    job = TrainingJob(plan.pairs[0].trainings({})[0], plan.pairs[0].identity, "cpu")
    assert isinstance(TrainingJob(replace(job.training, target="absent"), "x", "cpu")(), Failure)
    first = job()
    assert job.load_cached() == first
    (path,) = (own_cache / "history_trainings").rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    assert job.load_cached() is None
    assert job() == first


def test_the_command_plans_and_builds(sources, tmp_path, own_cache, user_history, monkeypatch):
    target = small_target(tmp_path, 0)
    fake_trainings(monkeypatch)
    command = ("history", "build", "--sources", f"{SMALL_VIT},{SMALL_CNN}", "--targets", target, "--jobs", "1")
    planned = run_in_process(*command, "--dry-run", "--hours", "0.0001")
    assert planned.returncode == 0, planned.stderr
    assert "All trainings take about" in planned.stdout
    assert "about 0 of 1 target are finished for all sources" in planned.stdout
    assert not user_history.exists()
    built = run_in_process(*command)
    assert built.returncode == 0, built.stderr
    assert "Added 2 lines to the history; 1 of 1 target are finished for all sources." in built.stdout
    assert "12 trainings took" in built.stdout
    again = run_in_process(*command)
    assert again.stdout.strip() == "Already in the history: 2 pairs of a source and a target."
    listed = run_in_process("history", "list")
    assert "2 lines of 2 sources on 1 target" in listed.stdout
    assert run_in_process(*command, "--hours", "-1").returncode == 2
