"""`modgap train --sweep`: the plan, the choice on validation samples, the one test, and interruptions."""

import itertools
import json
import math
import random
import shutil
import sys
import time

import pytest

import modgap
from modgap.api.pages.write import write_page
from modgap.errors import UsageError
from modgap.training.sweep import Sweep, parse_sweep, planned_settings, read_sweep
from tests.commands import run_in_process
from tests.forked_commands import ForkedCommand
from tests.training import target_file


@pytest.fixture(scope="module", name="target")
def small_target(tmp_path_factory):
    return target_file(tmp_path_factory.mktemp("data"), "classification", samples=60)


@pytest.fixture(name="train", scope="module")
def train_command(target, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def train(out, *more: str):
        return run_in_process(
            "train", "--method=finetune", "--source=random:timm:test_vit", "--input-size=32", f"--target={target}",
            "--set=stage2.batch_size=8", "--set=stage2.epochs=2", f"--out={out}", *more, MODGAP_CACHE=str(cache),
        )  # fmt: skip

    return train


VALUES = ("--sweep=stage2.learning_rate=1e-4,1e-3", "--limit=60")


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """The folder of a finished sweep of two trials, to be copied."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert train(folder, *VALUES).returncode == 0
    return folder


def record(folder):
    return json.loads((folder / "run.json").read_text())


def test_plan_has_all_combinations_in_order():
    sweep = Sweep({"a": ("1", "2"), "b": ("x", "y", "z")})
    plan = planned_settings(sweep, 0)
    assert [tuple(settings.values()) for settings in plan] == [
        ("1", "x"), ("1", "y"), ("1", "z"), ("2", "x"), ("2", "y"), ("2", "z"),
    ]  # fmt: skip
    drawn = planned_settings(Sweep(sweep.values, 4), 3)
    assert drawn == planned_settings(Sweep(sweep.values, 5), 3)[:4]
    assert all(settings in plan for settings in drawn)
    assert len({tuple(settings.values()) for settings in drawn}) == 4
    assert planned_settings(Sweep(sweep.values, 99), 3) == plan


def test_every_combination_is_drawn_equally_often():
    values = {"a": ("1", "2", "3"), "b": ("x", "y")}
    counts: dict[tuple, int] = {}
    for seed in range(1200):
        for settings in planned_settings(Sweep(values, 2), seed):
            counts[tuple(settings.values())] = counts.get(tuple(settings.values()), 0) + 1
    # 400 each are expected, with a standard deviation of 16.3.
    assert len(counts) == 6
    assert all(abs(number - 400) < 5 * math.sqrt(1200 / 3 * 2 / 3) for number in counts.values())


@pytest.mark.parametrize(
    ("texts", "trials", "message"),
    [
        (["stage2.learning_rate"], None, "is not of the form KEY=VALUE,VALUE,..."),
        (["stage2.learning_rate="], None, "A sweep needs values"),
        (["a=1", "a=2"], None, "`sweep` names a twice"),
        ([], 3, "`trials` needs `sweep`"),
        (["a=1,2"], 0, "`trials` is 0. Expected a number from 1 to 1,000."),
    ],
)
def test_wrong_sweeps_are_refused(texts, trials, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        parse_sweep(texts, trials)


def test_huge_sweep_needs_a_number_of_trials():
    values = {f"s{number}": ("1", "2", "3") for number in range(40)}
    with pytest.raises(UsageError, match=r"combinations\. Pass `trials=N`"):
        planned_settings(Sweep(values), 0)
    assert len(planned_settings(Sweep(values, 5), 0)) == 5


def test_validation_chooses_and_the_chosen_run_equals_the_same_run_without_a_sweep(train, tmp_path):
    epochs = "--set=stage2.keep_epochs=[1,2]"
    done = train(tmp_path / "sweep", "--sweep=stage2.learning_rate=1e-5,3e-3,1e-4", epochs)
    assert done.returncode == 0, done.stderr
    found = record(tmp_path / "sweep")
    trials = found["sweep"]["trials"]
    errors = [trial["validation"] for trial in trials]
    chosen = found["sweep"]["chosen"]
    assert chosen == 1 + errors.index(min(errors))
    rate = trials[chosen - 1]["settings"]["stage2.learning_rate"]
    assert train(tmp_path / "alone", f"--set=stage2.learning_rate={rate}", epochs).returncode == 0
    alone = record(tmp_path / "alone")
    assert {**found["result"], "seconds": 0} == {**alone["result"], "seconds": 0}
    for name in ("model.safetensors", "samples.npz", "epochs/00001.safetensors", "epochs/00002.safetensors"):
        assert (tmp_path / "sweep" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    # The other trials were not tested, and their weights are gone; each has a line in the table.
    for number in (1, 2, 3):
        assert record(tmp_path / "sweep" / "trials" / str(number))["result"] is None
        assert not list((tmp_path / "sweep" / "trials" / str(number)).rglob("*.safetensors"))
    lines = done.stdout.splitlines()
    assert sum("chosen" in line for line in lines) == 1
    page = write_page(tmp_path / "sweep").read_text()
    assert "Settings that were tried" in page
    assert page.count("<circle") == 3
    heads = next(line.split() for line in lines if line.startswith("trial "))
    assert heads == ["trial", "validation", "error", "stage2.learning_rate", "epoch"]


def test_finished_sweep_is_not_run_again_and_its_values_are_fixed(train, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    before = record(tmp_path / "run")
    assert "already contains a sweep. Pass --resume" in train(tmp_path / "run", *VALUES).stderr
    again = train(tmp_path / "run", *VALUES, "--resume")
    assert again.returncode == 0
    assert "Trial" not in again.stderr
    assert record(tmp_path / "run") == before
    other = train(tmp_path / "run", "--sweep=stage2.learning_rate=1e-4,1e-2", VALUES[1], "--resume")
    assert other.returncode == 2
    assert "has other values" in other.stderr


@pytest.mark.parametrize("state", ["finished", "interrupted"])
def test_sweep_is_not_resumed_with_another_request(train, finished, tmp_path, state):
    shutil.copytree(finished, tmp_path / "run")
    before = record(tmp_path / "run")
    if state == "interrupted":
        (tmp_path / "run" / "run.json").unlink()
    for other, message in (
        ("--method=frozen", "method is finetune, not frozen"),
        ("--limit=50", "limit is 60, not 50"),
        ("--set=stage2.epochs=3", "recipe.stage2.epochs is 2, not 3"),
        ("--seed=1", "seed is 0, not 1"),
    ):
        refused = train(tmp_path / "run", *VALUES, other, "--resume")
        assert refused.returncode == 2
        assert "has other settings: " in refused.stderr
        assert message in refused.stderr
    if state == "finished":
        assert record(tmp_path / "run") == before


def test_trial_with_an_infinite_loss_fails_alone(train, tmp_path):
    done = train(tmp_path / "run", "--sweep=stage2.learning_rate=1e30,1e-4", "--set=stage2.warmup_epochs=0")
    assert done.returncode == 0, done.stderr
    sweep = record(tmp_path / "run")["sweep"]
    assert [trial["state"] for trial in sweep["trials"]] == ["failed", "finished"]
    assert 'Try a smaller one: `sweep={"stage2.learning_rate": 1e+29}`' in sweep["trials"][0]["message"]
    assert sweep["chosen"] == 2
    all_fail = train(tmp_path / "none", "--sweep=stage2.learning_rate=1e30,1e31", "--set=stage2.warmup_epochs=0")
    assert all_fail.returncode == 1
    assert "None of 2 trials has a validation error." in all_fail.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set=stage2.learning_rate=1"], "--set and --sweep both name stage2.learning_rate"),
        (["--protocol=orca"], "--protocol orca has none"),
        (["--tensorboard"], "cannot be combined with --sweep"),
        (["--sweep=stage2.nothing=1,2"], "Unknown setting 'stage2.nothing'"),
    ],
)
def test_wrong_requests_are_refused(train, tmp_path, more, message):
    done = train(tmp_path / "run", "--sweep=stage2.learning_rate=1e-4,1e-3", *more)
    assert done.returncode == 2
    assert message in done.stderr


def test_one_bad_value_is_refused_before_the_first_trial(train, tmp_path):
    done = train(tmp_path / "run", "--sweep=stage2.learning_rate=1e-4,-1")
    assert done.returncode == 2
    assert "A trial of the sweep, stage2.learning_rate=-1, is not possible." in done.stderr
    assert "Correct them with --sweep KEY=VALUE,VALUE." in done.stderr
    assert "--set" not in done.stderr
    assert not (tmp_path / "run" / "trials").exists()
    assert train(tmp_path / "run", "--sweep=stage2.learning_rate=1e-4,1e-3").returncode == 0


def test_trial_that_cannot_be_trained_fails_alone(train, tmp_path):
    done = train(tmp_path / "run", "--sweep=stage2.augmentation=crop-flip,background-level")
    assert done.returncode == 0, done.stderr
    assert [trial["state"] for trial in record(tmp_path / "run")["sweep"]["trials"]] == ["finished", "failed"]


def test_damaged_table_is_a_message(train, tmp_path):
    values = "--sweep=stage2.learning_rate=1e-4,1e-3"
    (tmp_path / "run" / "trials" / "1").mkdir(parents=True)
    (tmp_path / "run" / "trials" / "1" / "run.json").write_text("{}")
    for text in (
        "",
        "[]",
        '{"schema": 2, "settings": {}, "values": {}, "trials": [{"settings": [], "state": "open"}]}',
        '{"schema": 2, "settings": {}, "values": {}, "trials": 3}',
        '{"schema": 2, "settings": [], "values": {}, "trials": []}',
        '{"schema": 1, "values": {}, "trials": []}',
    ):
        (tmp_path / "run" / "sweep.json").write_text(text)
        done = train(tmp_path / "run", values, "--resume")
        assert done.returncode == 1
        assert "sweep.json" in done.stderr
        assert "Traceback" not in done.stderr


def test_python_interface_sweeps_too(target, tmp_path):
    run = modgap.train(
        "finetune", "random:timm:test_vit", str(target), tmp_path / "run", settings={"stage2.epochs": 1},
        sweep={"stage2.learning_rate": [1e-4, 1e-3], "stage2.batch_size": [8, 16]}, trials=2, input_size=32,
    )  # fmt: skip
    assert len(run.record["sweep"]["trials"]) == 2
    assert modgap.load_run(tmp_path / "run").predict is not None


def test_sweep_that_trained_nothing_may_begin_anew(train, tmp_path):
    assert train(tmp_path / "run", "--sweep=stage2.optimizer=adma,adamw").returncode == 2
    assert train(tmp_path / "run", "--sweep=stage2.optimizer=adam,adamw").returncode == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "note.txt").write_text("mine")
    refused = train(tmp_path / "other", "--sweep=stage2.optimizer=adam,adamw")
    assert refused.returncode == 2
    assert "contains other files" in refused.stderr


def test_optuna_proposes_from_the_errors_so_far():
    pytest.importorskip("optuna")
    sweep = parse_sweep(["rate=1e-5:1e-1", "size=8,16", "epochs=1:5"], 24, "optuna")
    trials = []
    while len(settings := planned_settings(sweep, 3, trials)) > len(trials):
        assert len(settings) == len(trials) + 4
        assert settings[: len(trials)] == [trial["settings"] for trial in trials]
        for one in settings[len(trials) :]:
            assert 1e-5 <= float(one["rate"]) <= 1e-1
            assert one["size"] in ("8", "16")
            assert int(one["epochs"]) in range(1, 6)
            error = abs(math.log10(float(one["rate"])) + 3) + (one["size"] == "8")
            is_failed = len(trials) == 2
            trials.append({"settings": one, "state": "failed"} if is_failed else
                          {"settings": one, "state": "finished", "validation": error})  # fmt: skip
    assert len(trials) == 24
    # The best rate is 1e-3: later proposals are nearer to it than the first, which are random.
    first, last = ([trial.get("validation", 3.0) for trial in part] for part in (trials[:10], trials[-10:]))
    assert sum(last) < sum(first)


@pytest.mark.parametrize(
    ("texts", "trials", "sampler", "message"),
    [
        (["a=1:3"], None, "random", "The values of a are a range"),
        (["a=1:3"], None, "optuna", "Pass `trials=N`"),
        (["a=3:1"], 4, "optuna", "has the range 3:1. Expected two numbers, the lower one first"),
        ([], None, "optuna", "`sampler` needs `sweep`"),
        (["a=1"], 2, "grid", "`sampler` is 'grid'"),
    ],
)
def test_wrong_samplers_are_refused(texts, trials, sampler, message):
    with pytest.raises(UsageError, match=message):
        parse_sweep(texts, trials, sampler)


def test_optuna_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"modgap\[optuna\]"):
        planned_settings(parse_sweep(["a=1,2"], 2, "optuna"), 0)


@pytest.mark.long
def test_trials_of_other_processes_and_of_a_resumed_sweep_are_the_same(train, tmp_path):
    pytest.importorskip("optuna")
    values = ("--sweep=stage2.learning_rate=1e-5:1e-2", "--sampler=optuna", "--trials=5", "--set=stage2.epochs=1")
    assert train(tmp_path / "one", *values, "--jobs=1").returncode == 0
    done = train(tmp_path / "two", *values, "--jobs=2")
    assert done.returncode == 0, done.stderr
    one, two = (read_sweep(tmp_path / folder)["trials"] for folder in ("one", "two"))
    for trial in (*one, *two):
        trial.pop("seconds")
    assert one == two
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("one", "two")]
    assert weights[0] == weights[1]
    assert not list((tmp_path / "two" / "trials").rglob("*.safetensors"))
    again = train(tmp_path / "two", *values, "--jobs=2", "--resume")
    assert again.returncode == 0
    refused = train(tmp_path / "three", "--jobs=2")
    assert refused.returncode == 2
    assert "--jobs runs the trials of a sweep" in refused.stderr


@pytest.mark.long
def test_sweep_that_is_killed_ends_in_the_same_bits(target, tmp_path):
    numbers = itertools.count()

    def start(out, *more: str) -> ForkedCommand:
        arguments = [
            "train", "--method=finetune", "--source=random:timm:test_vit", "--input-size=32", f"--target={target}",
            "--set=stage2.batch_size=4", "--set=stage2.epochs=4", "--set=checkpoint_seconds=0", "--quiet",
            "--sweep=stage2.learning_rate=1e-4,1e-3,3e-3", f"--out={out}", *more,
        ]  # fmt: skip
        output = tmp_path / f"output-{next(numbers)}"
        return ForkedCommand(arguments, {"MODGAP_CACHE": str(tmp_path / "cache")}, output)

    start(tmp_path / "once").finish()
    moments = random.Random(4)
    for _ in range(4):
        process = start(tmp_path / "killed", "--resume")
        time.sleep(moments.uniform(0.5, 3))
        if process.poll() is None:
            process.kill()
    start(tmp_path / "killed", "--resume").finish()
    for name in ("model.safetensors", "samples.npz"):
        once, killed = ((tmp_path / folder / name).read_bytes() for folder in ("once", "killed"))
        assert once == killed
    once, killed = (read_sweep(tmp_path / folder) for folder in ("once", "killed"))
    for trial in (*once["trials"], *killed["trials"]):
        trial.pop("seconds")
    assert once == killed


@pytest.mark.long
def test_trials_in_other_processes_of_a_target_with_a_relative_path(train, target, tmp_path, monkeypatch):
    monkeypatch.chdir(target.parent)
    values = (f"--target={target.name}", "--sweep=stage2.learning_rate=1e-4,1e-3", "--set=stage2.epochs=1")
    done = train(tmp_path / "run", *values, "--jobs=2")
    assert done.returncode == 0, done.stderr
    assert train(tmp_path / "run", *values, "--jobs=2", "--resume").returncode == 0


def test_a_range_of_a_real_setting_has_real_values():
    pytest.importorskip("optuna")
    sweep = parse_sweep(["label_smoothing=0:1", "stage1.lambda=0:4", "stage2.epochs=1:9"], 12, "optuna")
    settings = planned_settings(sweep, 0)
    assert any(float(one["label_smoothing"]) % 1 for one in settings)
    assert any(float(one["stage1.lambda"]) % 1 for one in settings)
    assert all(one["stage2.epochs"].isdigit() for one in settings)


def test_ends_of_a_range_that_are_not_possible_are_refused_at_the_start(train, tmp_path):
    pytest.importorskip("optuna")
    done = train(tmp_path / "run", "--sweep=stage2.gradient_accumulation=0:64", "--sampler=optuna", "--trials=2")
    assert done.returncode == 2
    assert "A trial of the sweep, stage2.gradient_accumulation=0, is not possible." in done.stderr


def test_values_may_be_tuples(target, tmp_path):
    run = modgap.train(
        "finetune", "random:timm:test_vit", str(target), tmp_path / "run", input_size=32, limit=20,
        settings={"stage2.epochs": 1, "stage2.betas": (0.9, 0.95)},
    )  # fmt: skip
    assert run.record["recipe"]["stage2"]["betas"] == [0.9, 0.95]
