"""Rankings by earlier targets and pilots: what is run, what is told, and what is remembered."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modgap.api.pages.ranking_page import render_ranking
from modgap.errors import UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend
from modgap.ranking import pilot as pilots_module
from modgap.ranking import recommendation as v
from modgap.ranking.answer import ranking_answer
from modgap.ranking.checks import CONTROL_BETTER, CONTROL_SIMILAR, CONTROL_STATUSES, CONTROL_WORSE, Check
from modgap.ranking.figures import forecast_caption, forecast_figure, forecast_frame
from modgap.ranking.history.build import complete_lines
from modgap.ranking.history.choice import LEVEL, PilotError, choose_source
from modgap.ranking.history.lines import VARIABLES, HistoryLine, Setup, history_table
from modgap.ranking.history.store import History, read_history, write_history
from modgap.ranking.judgment import help_of, judge
from modgap.ranking.pilot import PilotJob
from modgap.ranking.rank import rank
from modgap.ranking.recommendation import help_statements
from modgap.ranking.scores import PILOT
from modgap.ranking.standings import compute_error_standings
from modgap.ranking.types import ALL, RankRequest
from modgap.statistics.intervals import SampleErrors
from modgap.storage.json_records import plain_values
from modgap.targets import TargetRequest, open_target
from modgap.training import pilot as training
from modgap.training.pilot import PILOT_RATES, RECORDED_SPREAD, SETTINGS, PilotErrors, pilot_halves, short_fine_tuning
from modgap.training.train import train_in_memory
from modgap.training.train_request import TrainRequest
from tests.commands import run_in_process
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_figures import intervals
from tests.test_matrix import CNN, VIT, small_sources  # noqa: F401 - fixture
from tests.test_pilot import load
from tests.training import target_file

ROOT = Path(__file__).parent.parent
SAMPLES = SampleRequest(limit=None, input_size=32)
REQUEST = RankRequest(scores=("knn",), resamples=0, samples=SAMPLES, pilot=ALL, pilot_epochs=1, baselines="none")
NAMES = (VIT, CNN)


@pytest.fixture(name="brief")
def two_epochs(monkeypatch):
    """Ten epochs are two, and three rates are two."""
    settings = tuple(one.replace("epochs=10", "epochs=2") for one in SETTINGS)
    for name, value in (("PILOT_EPOCHS", 2), ("PILOT_RATES", PILOT_RATES[:2]), ("SETTINGS", settings)):
        monkeypatch.setattr(training, name, value)


def earlier(n_targets, *, samples=16, sources=NAMES, records=1.0):
    """A history in which the first source is better by .2 and beats its control on a share of the targets."""
    rng = np.random.default_rng(0)
    setup = Setup(samples, 2, PILOT_RATES[:2])
    lines = []
    for number, difficulty in enumerate(rng.uniform(0.2, 0.6, n_targets)):
        for source, level in zip(sources, (0.0, 0.2), strict=True):
            noise = rng.normal(0, 0.02, 3)
            trained = float(np.clip(difficulty + level + noise[0], 0.01, 0.97))
            errors = {"trained": trained, "control": trained + (0.02 if number < records * n_targets else -0.005)}
            errors |= {"pilot-1": float(np.clip(trained + 0.1 + noise[1], 0, 1)), "pilot-rates": trained}
            lines.append(HistoryLine(source, f"t{number}", "image", 500, 4, setup, errors, {"pilot-1": 20}))
    return History(tuple(lines), {})


@pytest.fixture(name="folder")
def history_folder(tmp_path, monkeypatch):
    folder = tmp_path / "history"
    monkeypatch.setenv("MODGAP_HISTORY", str(folder))
    write_history(folder, earlier(12))
    return folder


def test_few_epochs_are_the_first_of_a_longer_training(sources, tmp_path, brief):
    path = str(target_file(tmp_path, "classification"))
    found = short_fine_tuning(VIT, load(VIT), open_target(path), 3, epochs=1)
    halves = pilot_halves(open_target(path), 3)
    halves, errors = replace(halves, validation=halves.validation[:1]), []
    settings = ("stage2.epochs=2", *training.SETTINGS, f"stage2.learning_rate={PILOT_RATES[0]}")
    request = TrainRequest("finetune", VIT, TargetRequest(path), settings, samples=SampleRequest(seed=3))
    watch = lambda _epoch, model, evaluator: errors.append(evaluator.error(model, halves.test) / 100)  # noqa: E731
    train_in_memory(request, load(VIT), halves, [1], watch)
    assert found.by_training.tolist() == pytest.approx(errors)
    assert found.errors.averages[0] == pytest.approx(errors[0])
    assert found.settings[0] == f"stage2.learning_rate={PILOT_RATES[0]}"


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_sources_after_one_training_are_seldom_different_by_chance(spread):
    """Of sources of the same quality, whatever share of the recorded spread between trainings they have."""
    rng, n_runs, n_false, samples = np.random.default_rng(0), 400, 0, 128
    for _ in range(n_runs):
        chances = np.sin(np.arcsin(np.sqrt(0.3)) + spread * RECORDED_SPREAD * rng.standard_normal((2, 1))) ** 2
        wrong = (rng.random((2, samples)) < chances).astype(float)
        results = [
            PilotErrors(
                SampleErrors(one, np.full(samples, 1 / samples), np.arange(samples), np.array([one.mean()]), None, 0),
                samples,
                np.array([one.mean()]),
                ("stage2.learning_rate=0.0005",),
            )
            for one in wrong
        ]
        more = {number: one.training_variance for number, one in enumerate(results)}
        n_false += bool(compute_error_standings(PILOT, [one.errors for one in results], more).p_values[0, 1] <= 0.05)
    # 5 % and two standard errors.
    assert n_false <= 0.05 * n_runs + 2 * np.sqrt(0.05 * 0.95 * n_runs)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_pilot_that_is_right_or_wrong_on_all_samples_is_compared(value):
    samples, results = 40, []
    for wrong in (np.full(40, value), (np.arange(40) < 20).astype(float)):
        errors = SampleErrors(wrong, np.full(40, 1 / 40), np.arange(samples), np.array([wrong.mean()]), None, 0)
        results.append(PilotErrors(errors, 40, np.array([wrong.mean()]), ("stage2.learning_rate=0.0005",)))
    more = {number: one.training_variance for number, one in enumerate(results)}
    standings = compute_error_standings(PILOT, [one.errors for one in results], more)
    assert standings.values[0] == pytest.approx(value)
    low, high = standings.intervals[0]
    assert low <= value <= high
    assert high - low > 0
    assert np.isfinite(standings.p_values[0, 1])


def test_history_and_pilots_tell_which_source_is_best(sources, tmp_path, brief, folder):
    path = str(target_file(tmp_path, "classification"))
    ranking = rank(path, NAMES, REQUEST, Backend("serial"))
    assert ranking.choice is not None
    told = ranking.choice.told
    errors = [float(ranking.pilot.results[index].by_training[0]) for index in ranking.choice.rows]
    held_out = ranking.pilot.judged
    pilots = {name: PilotError({"pilot-1": error}, held_out) for name, error in zip(NAMES, errors, strict=True)}
    labeled = ranking.pilot.results[ranking.choice.rows[0]].labeled
    expected = choose_source(earlier(12), NAMES, Setup(labeled, 2, PILOT_RATES[:2]), pilots)
    # The errors that are expected are those of the history's number of labeled samples.
    assert labeled != 16
    assert told.labeled == 16
    np.testing.assert_allclose(told.after.error, expected.after.error)
    np.testing.assert_array_equal(told.after.best, expected.after.best)
    # The order, the headline, the record, the figure and the page follow it.
    order = [NAMES[number] for number in told.order]
    assert [ranking.rows[index].name for index in ranking.order()][:2] == order
    verdict = judge(ranking)
    assert (verdict.choice, verdict.first) == (v.FORECASTED, order[0])
    record = json.loads(json.dumps(ranking.to_dict()))
    assert record["decided_by"] == "forecast"
    first = next(one for one in record["history"]["sources"] if one["source"] == order[0])
    assert first["after"]["error"] == pytest.approx(float(told.after.error[told.order[0]]))
    assert first["before"]["error"] != first["after"]["error"]
    assert first["beats_control"] == [12, 12]
    frame = forecast_frame(ranking)
    drawn = frame[(frame["series"] == "with pilots") & (frame["row"] == 0)].iloc[0]
    assert [drawn["low"], drawn["high"]] == pytest.approx(told.after.interval(LEVEL)[told.order[0]].tolist())
    ends = np.concatenate([one.interval(LEVEL) for one in (told.before, told.after)])
    np.testing.assert_allclose(sorted(intervals(forecast_figure(ranking).axes[0])), sorted(map(tuple, ends)))
    assert "12 earlier targets alone" in forecast_caption(ranking)
    page = render_ranking(record)
    assert "Expected errors" in page
    assert 'class="before"' in page
    # The control of the best source was fine-tuned as shortly, and baselines were not.
    assert [one["source"] for one in record["pilot"]["controls"]] == [f"random:{order[0]}"]


def test_the_pilots_are_remembered_and_a_target_is_not_its_own_history(sources, tmp_path, brief, folder):
    path = str(target_file(tmp_path, "classification"))
    first = rank(path, NAMES, REQUEST, Backend("serial"))
    lines = [line for line in read_history(folder).lines if line.target == path]
    assert sorted(line.source for line in lines) == sorted(NAMES)
    assert all(set(line.errors) == {"pilot-1"} and line.seconds["pilot-1"] > 0 for line in lines)
    again = rank(path, NAMES, REQUEST, Backend("serial"))
    assert again.jobs["pilot"].computed == 0
    np.testing.assert_array_equal(again.choice.told.after.error, first.choice.told.after.error)
    assert again.choice.told.left_out == ()
    assert again.choice.told.digest == first.choice.told.digest
    # A name for the score, or the wish, excludes the history.
    for request in (replace(REQUEST, by="knn"), replace(REQUEST, history=False)):
        alone = rank(path, NAMES, request, Backend("serial"))
        assert alone.choice is None
        assert alone.deciding_table.name == "pilot"
        assert "errors after few epochs choose no better than a fixed list" in " ".join(ranking_answer(alone).sentences)


@pytest.mark.parametrize(("n_targets", "samples", "by"), [(6, 16, "chance"), (12, 200, "chance")])
def test_a_short_history_or_one_of_another_setup_tells_less(sources, tmp_path, brief, folder, n_targets, samples, by):
    write_history(folder, earlier(n_targets, samples=samples))
    ranking = rank(str(target_file(tmp_path, "classification")), NAMES, REQUEST, Backend("serial"))
    assert ranking.deciding_table.name == by
    text = " ".join(ranking_answer(ranking).sentences)
    record = ranking.to_dict()["history"]["sources"][0]
    assert "error" not in record["after"]
    if n_targets == 6:
        assert "too few to combine them with pilots, so the earlier targets alone decide" in text
        assert judge(ranking).first == VIT
        longer = rank(ranking.requested.name, NAMES, replace(REQUEST, pilot=2, pilot_epochs=None), Backend("serial"))
        assert longer.deciding_table.name == "pilot"
        text = " ".join(ranking_answer(longer).sentences)
        assert f"so the pilots at three rates decide. The earlier targets name {VIT}" in text
    else:
        assert "tell an order and no expected error" in text
        assert "expected error after fine-tuning" not in text


@pytest.mark.parametrize(
    ("samples", "kinds", "expected"),
    [
        (16, ("pilot-1",), "Pilots of 1 epoch do not count"),
        (200, ("pilot-1", "pilot-rates"), "Pilots of 1 epoch do not count"),
        (200, ("pilot-rates",), "and the pilots"),
    ],
)
def test_pilots_that_no_earlier_target_has_do_not_count(sources, tmp_path, brief, folder, samples, kinds, expected):
    lines = [
        replace(line, errors={name: value for name, value in line.errors.items() if name not in kinds})
        for line in earlier(12, samples=samples).lines
    ]
    write_history(folder, History(tuple(lines), {}))
    ranking = rank(str(target_file(tmp_path, "classification")), NAMES, REQUEST, Backend("serial"))
    told, text = ranking.choice.told, " ".join(ranking_answer(ranking).sentences)
    assert expected in text
    assert told.uncounted == tuple(name for name in ("pilot-1",) if name in kinds)
    if told.uncounted:
        np.testing.assert_array_equal(told.before.error, told.after.error)
        assert "the pilots agree" not in text
        assert f"By them alone, {ranking.rows[ranking.pilot.table.first_source].name} is first" in text
    if told.uncounted and told.tells_errors:
        assert expected in forecast_caption(ranking)


def test_equal_errors_of_pilots_are_ordered_by_a_short_history(sources, tmp_path, brief, folder, monkeypatch):
    original, results = PilotJob._compute, {}

    def equal(job):
        return results.setdefault((job.kind, job.epochs), original(job))

    monkeypatch.setattr(PilotJob, "_compute", equal)
    path = str(target_file(tmp_path, "classification"))
    request = replace(REQUEST, pilot=2, pilot_epochs=None)
    for names in (NAMES[::-1], NAMES):
        write_history(folder, earlier(6, sources=names))
        ranking = rank(path, NAMES, request, Backend("serial"))
        assert ranking.deciding_table.name == "pilot"
        verdict = judge(ranking)
        assert (verdict.choice, verdict.first, verdict.tied) == (v.TIE, names[0], names[1:])
        order = [ranking.rows[index].name for index in ranking.order()]
        assert [name for name in order if name in NAMES] == list(names)
        assert [one["source"] for one in ranking.to_dict()["pilot"]["sources"]] == list(names)
        (control,) = ranking.to_dict()["pilot"]["controls"]
        assert control["source"] == f"random:{names[0]}"
        text = " ".join(ranking_answer(ranking).sentences)
        assert f"and {names[1]} has the same value. Earlier targets decide between them." in text


def test_a_kind_without_history_is_told(sources, tmp_path, brief, folder):
    lines = tuple(replace(line, kind="series") for line in earlier(12).lines)
    write_history(folder, History(lines, {}))
    ranking = rank(str(target_file(tmp_path, "classification")), NAMES, REQUEST, Backend("serial"))
    assert "None of these targets has samples of the kind image" in " ".join(ranking_answer(ranking).sentences)


def test_time_decides_by_recorded_seconds_and_interruptions_change_nothing(
    sources, tmp_path, brief, folder, monkeypatch, caplog
):
    path = str(target_file(tmp_path, "classification"))
    began = []

    def timed(job):
        began.append(job)
        return replace(original(job), seconds=30.0 if job.epochs is None else 6.0)

    original = PilotJob._compute
    monkeypatch.setattr(PilotJob, "_compute", timed)
    monkeypatch.setattr(pilots_module, "FEW_EPOCHS", 2)
    request = replace(REQUEST, pilot_epochs=None, minutes=5.0)
    ranking = rank(path, NAMES, request, Backend("serial"))
    assert ranking.pilot.rates == 2
    assert ranking.pilot.other.epochs == 2
    n_jobs = len(began)
    assert n_jobs >= 4
    # A repetition takes everything from the cache, with the same result and the same steps.
    again = rank(path, NAMES, request, Backend("serial"))
    assert len(began) == n_jobs
    assert plain_values(again.to_dict()["pilot"]) == plain_values(ranking.to_dict()["pilot"])
    # Without time, only the fewest sources have pilots of few epochs, and none at several rates.
    short = rank(path, NAMES, replace(request, minutes=0.01), Backend("serial"))
    assert short.pilot.rates == 1
    assert short.pilot.other is None
    assert len(short.pilot.table.source_order) == 2
    assert short.choice.more[0] > 0
    assert "The limit" not in " ".join(ranking_answer(short).sentences)
    monkeypatch.setattr(pilots_module, "FEWEST", 1)
    caplog.set_level("INFO", "modgap")
    fresh = replace(request, minutes=1e-5, samples=replace(SAMPLES, seed=1))
    text = " ".join(ranking_answer(rank(path, NAMES, fresh, Backend("serial"))).sentences)
    assert "The limit of 0 s left no time for 1 other source." in text
    assert "above the limit, but fewer sources cannot be compared" in caplog.text


def test_the_first_sources_are_those_of_the_history(sources, tmp_path, brief, folder):
    write_history(folder, earlier(12, sources=(CNN, VIT)))
    ranking = rank(str(target_file(tmp_path, "classification")), NAMES, replace(REQUEST, pilot=1), Backend("serial"))
    assert [one["source"] for one in ranking.to_dict()["pilot"]["sources"]] == [CNN]


@pytest.mark.parametrize(
    ("record", "result", "label"),
    [
        ([20, 24], CONTROL_SIMILAR, "Likely"),
        ([8, 24], CONTROL_SIMILAR, "Doubtful"),
        ([8, 24], CONTROL_WORSE, "Shown"),
        ([20, 24], CONTROL_BETTER, "No"),
    ],
)
def test_the_record_over_controls_tells_whether_pretraining_helps(record, result, label):
    values = {"first": "vit", "score": "pilot", "value": 0.3, "interval": None, "smallest": None}
    control = Check("control", CONTROL_STATUSES[result], {**values, "result": result, "control_value": 0.4})
    history = Check("history", v.INFO, {**values, "record": record, "chance": 0.5, "sources": 3})
    judgment = v.Judgment(v.FORECASTED, help_of({"history": history, "control": control}), "knn", "vit")
    (verdict,) = help_statements(replace(judgment, checks=(history, control)))
    assert verdict.label == label
    assert f"On {record[0]} of {record[1]} earlier targets, vit had a lower error" in verdict.sentence


def test_the_recorded_spread_is_that_of_the_benchmark():
    errors = {}
    with (ROOT / "benchmarks" / "truth" / "ranking.jsonl").open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            job = line["job"]
            if job["part"] == "all" and job["rate"] == PILOT_RATES[0]:
                errors.setdefault((job["source"], job["target"]), []).append(line["errors"]["3"] / 100)
    pairs = [np.arcsin(np.sqrt(pair)) for pair in errors.values() if len(pair) == 2]
    assert round(float(np.sqrt(np.mean([pair.var(ddof=1) for pair in pairs]))), 2) == RECORDED_SPREAD


def test_the_record_was_right_as_often_as_the_answer_says():
    table = history_table(complete_lines(), Setup(128, 10, PILOT_RATES))
    trained, control = (table.errors[:, :, VARIABLES.index(name)] for name in ("trained", "control"))
    # Equal errors count half.
    wins = (np.sign(control - trained) + 1) / 2
    others = (wins.sum(axis=1, keepdims=True) - wins) / (wins.shape[1] - 1)
    said = np.sign(others - 0.5)
    assert round(100 * float(((1 + said * np.sign(control - trained)) / 2).mean())) == v.RECORD_TOLD


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pilot": 0, "minutes": 2.0}, "minutes"),
        ({"pilot": 0, "pilot_epochs": 3}, "pilot_epochs"),
        ({"pilot": 2, "minutes": 2.0}, "minutes"),
        ({"minutes": 0.0}, "minutes"),
        ({"pilot_epochs": 4}, "pilot_epochs"),
        ({"pilot": "most"}, "pilot"),
    ],
)
def test_options_that_exclude_each_other_are_refused(tmp_path, changes, named):
    with pytest.raises(UsageError, match=named):
        rank("digits", ["vit-fashion"], replace(REQUEST, **{"pilot_epochs": None, **changes}), Backend("serial"))


@pytest.mark.usefixtures("own_cache", "brief", "folder")
def test_the_command_takes_pilots_of_all(sources, tmp_path, monkeypatch):
    path, out = target_file(tmp_path, "classification").name, tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    options = ("--sources", ",".join(NAMES), "--score", "knn", "--resamples", "0", "--input-size", "32", "--jobs", "1")
    done = run_in_process(
        "rank",
        "--target",
        str(path),
        *options,
        "--baselines",
        "none",
        "--pilot-epochs",
        "1",
        "--pilot",
        "--out",
        str(out),
    )
    assert done.returncode == 0, done.stderr
    assert "Which source is best?" in done.stdout
    assert "% sure" in done.stdout
    assert (out / "ranking.png").stat().st_size > 0
    assert json.loads((out / "ranking.json").read_text())["request"]["pilot"] == "all"
    refused = run_in_process("rank", "--target", str(path), *options, "--pilot", "most")
    assert refused.returncode == 2
    assert "--pilot is 'most'" in refused.stderr
    # Without pilots, the next step is one of all sources.
    options = [one.replace("0", "12") if one == "0" else one for one in options]
    plain = run_in_process("rank", "--target", str(path), *options, "--baselines", "none")
    assert "errors and those on earlier targets decide" in " ".join(plain.stdout.split())
    assert " --pilot\n" in f"{plain.stdout}\n"


def test_nothing_is_written_where_no_history_is_wanted(sources, tmp_path, brief, folder, monkeypatch):
    monkeypatch.setenv("MODGAP_HISTORY", "none")
    rank(str(target_file(tmp_path, "classification")), NAMES, REQUEST, Backend("serial"))
    assert len(read_history(folder).lines) == 24
