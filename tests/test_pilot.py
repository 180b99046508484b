"""A short fine-tuning of the first sources: errors on other samples, and what they decide."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from modgap.api.pages.ranking_page import render_ranking
from modgap.errors import InputError, UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend
from modgap.ranking import recommendation as v
from modgap.ranking.answer import failure_messages, ranking_table, scores_table
from modgap.ranking.figures import figure_subtitle, figure_title, other_scores, ranking_frame
from modgap.ranking.judgment import judge
from modgap.ranking.rank import rank
from modgap.ranking.recommendation import choice_statement, headline, help_statement, judgment_answer
from modgap.ranking.report import to_csv
from modgap.ranking.scores import PILOT
from modgap.ranking.standings import compute_error_standings
from modgap.ranking.types import BASELINE, Pilot, RankRequest, ScoreTable
from modgap.sources import open_source
from modgap.statistics.intervals import SampleErrors
from modgap.targets import TargetRequest, open_target
from modgap.training import pilot as pilot_module
from modgap.training.loop import NotFiniteError
from modgap.training.pilot import (
    PILOT_EPOCHS,
    PILOT_RATES,
    PILOT_SAMPLES,
    PILOT_SEEDS,
    SETTINGS,
    PilotErrors,
    labeled_halves,
    pilot_halves,
    short_fine_tuning,
)
from modgap.training.train import train_in_memory
from modgap.training.train_request import TrainRequest
from modgap.training.training_data import read_target_data
from tests.commands import run_in_process
from tests.ranking_records import make_ranking, score_table
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_matrix import CNN, VIT, small_sources  # noqa: F401 - fixture
from tests.training import target_file

SAMPLES = SampleRequest(limit=None, input_size=32)
REQUEST = RankRequest(by="knn", scores=("knn",), resamples=0, samples=SAMPLES, pilot=1, baselines="none")


def load(name):
    return open_source(name).load(32, head=False)


@pytest.fixture
def short_pilot(monkeypatch):
    """Train for two epochs at two rates, in place of ten at three."""
    settings = tuple(one.replace(f"epochs={PILOT_EPOCHS}", "epochs=2") for one in SETTINGS)
    for name, value in (("PILOT_EPOCHS", 2), ("PILOT_RATES", PILOT_RATES[:2]), ("SETTINGS", settings)):
        monkeypatch.setattr(pilot_module, name, value)


def grouped_target(folder, samples=96):
    """Images of two classes, of which each group has four."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(samples // 4) % 2, 4)
    x = (rng.random((samples, 1, 12, 12)) + 0.8 * labels[:, None, None, None]).astype(np.float32)
    path = folder / "grouped.npz"
    np.savez(path, x=x, y=labels, groups=np.repeat(np.arange(samples // 4), 4))
    return path


@pytest.mark.usefixtures("short_pilot")
def test_the_errors_are_those_of_trainings_on_one_half(sources, tmp_path):
    path = target_file(tmp_path, "classification")
    target = open_target(str(path))
    found = short_fine_tuning(VIT, load(VIT), target, 3)
    halves = pilot_halves(open_target(str(path)), 3)

    def error(rate, seed):
        errors = []
        settings = (*pilot_module.SETTINGS, f"stage2.learning_rate={rate}")
        train_in_memory(
            TrainRequest("finetune", VIT, TargetRequest(str(path)), settings, samples=SampleRequest(seed=seed)),
            load(VIT),
            replace(halves, validation=halves.validation[:1]),
            [pilot_module.PILOT_EPOCHS],
            lambda _epoch, model, evaluator: errors.append(evaluator.error(model, halves.test) / 100),
        )
        return errors[0]

    by_rate = [error(rate, 3) for rate in pilot_module.PILOT_RATES]
    # Of equally good rates the first counts.
    best = PILOT_RATES[by_rate.index(min(by_rate))]
    by_training = [min(by_rate), *(error(best, 3 + number) for number in range(1, PILOT_SEEDS))]
    assert found.by_training == pytest.approx(by_training)
    assert found.errors.averages[0] == pytest.approx(np.mean(by_training))
    assert found.training_variance == pytest.approx((np.var(by_training, ddof=1) / 3, 2))
    assert found.settings == (f"stage2.learning_rate={best}", "stage2.batch_size=16")
    assert found.trained == len(halves.train)
    assert found.labeled == len(read_target_data(open_target(str(path)), limit=PILOT_SAMPLES).train)
    assert len(found.errors.errors) == len(halves.test)
    assert found.errors.weights.sum() == pytest.approx(1)


def test_validation_samples_judge_and_test_samples_do_not(tmp_path):
    data = read_target_data(open_target(str(target_file(tmp_path, "classification"))), limit=PILOT_SAMPLES)
    halves = pilot_halves(data.target, 0)
    other_half = labeled_halves(data, 0).test
    assert set(halves.test) == set(other_half) | set(data.validation)
    assert not set(halves.train) & set(halves.test)
    assert not set(data.test) & {*halves.train, *halves.test}


@pytest.mark.usefixtures("short_pilot")
def test_groups_stay_whole_and_every_source_has_the_same_samples(sources, tmp_path):
    path = str(grouped_target(tmp_path))
    target = open_target(path)
    halves = pilot_halves(target, 0)
    assert not set(halves.groups[halves.train]) & set(halves.groups[halves.test])
    one, other = (short_fine_tuning(name, load(name), target, 0).errors for name in (VIT, CNN))
    np.testing.assert_array_equal(one.units, other.units)
    np.testing.assert_array_equal(one.weights, other.weights)


@pytest.mark.usefixtures("short_pilot")
def test_classes_count_equally_on_request(sources, tmp_path):
    rng = np.random.default_rng(0)
    labels = (np.arange(60) % 6 == 0).astype(int)
    path = tmp_path / "unequal.npz"
    np.savez(path, x=rng.standard_normal((60, 1, 12, 12)).astype(np.float32), y=labels)
    target = open_target(str(path))
    errors = short_fine_tuning(VIT, load(VIT), target, 0, weight="classes").errors
    assert errors.strata is not None
    totals = [errors.weights[errors.strata == label].sum() for label in (0, 1)]
    assert totals == pytest.approx([0.5, 0.5])


def test_a_loss_that_becomes_infinite_counts_as_wrong_everywhere(sources, tmp_path, monkeypatch):
    def fail(*_args):
        raise NotFiniteError("The loss is infinite.")

    monkeypatch.setattr(pilot_module, "train_in_memory", fail)
    found = short_fine_tuning(VIT, load(VIT), open_target(str(target_file(tmp_path, "classification"))), 0)
    assert (found.errors.errors == 1).all()


@pytest.mark.parametrize(("task", "classes"), [("multi-label", None), ("regression", 3)])
def test_a_target_without_classes_is_refused(sources, tmp_path, task, classes):
    path = str(target_file(tmp_path, task))
    request = replace(REQUEST, by="size", scores=("size",))
    with pytest.raises(UsageError, match="`pilot` needs a target with one class for each sample"):
        rank(TargetRequest(path, pseudo_classes=classes), [VIT], request, Backend(1))
    with pytest.raises(InputError, match="needs one class for each sample"):
        short_fine_tuning(VIT, load(VIT), open_target(path), 0)


@pytest.mark.long
@pytest.mark.usefixtures("own_cache", "short_pilot")
def test_a_repeated_ranking_takes_the_pilot_from_the_cache(sources, tmp_path):
    path = str(target_file(tmp_path, "classification"))
    request = replace(REQUEST, baselines="quick")
    first, again = (rank(path, [VIT, CNN], request, Backend(1)) for _ in range(2))
    baselines = [row.name for row in first.rows if row.kind == BASELINE]
    # The first source, its random-weights control, and the baselines.
    assert first.jobs["pilot"] == (2 + len(baselines), 0, 0)
    assert again.jobs["pilot"] == (0, 2 + len(baselines), 0)
    name = first.rows[first.tables["knn"].first_source].name
    assert [row["source"] for row in first.to_dict()["pilot"]["controls"]] == [f"random:{name}"]
    check = judge(first).check("control")
    assert check.values["score"] == "pilot"
    table = {row[2]: row for row in ranking_table(first)[1]}
    assert table[name][0] == "1"
    # Its control is in the last column, and the other source was not fine-tuned.
    assert table[name][7] != "-"
    assert baselines
    assert all(table[baseline][3] not in ("", "-") for baseline in baselines)
    assert [row[0] for row in table.values()].count("-") == 1 + len(baselines)
    assert {row["source"] for row in first.to_dict()["pilot"]["baselines"]} == set(baselines)
    assert judge(first).check("baseline").values["score"] == "pilot"
    ranks = first.pilot.table.source_ranks
    # Only the first source was fine-tuned, and it decides.
    assert ranks.sum() == 1
    assert ranks.argmax() == first.tables["knn"].first_source
    np.testing.assert_array_equal(first.pilot.table.standings.values, again.pilot.table.standings.values)
    other = rank(path, [VIT, CNN], replace(REQUEST, samples=replace(REQUEST.samples, seed=1)), Backend(1))
    assert other.jobs["pilot"] == (2, 0, 0)
    alone = rank(path, [VIT, CNN], replace(REQUEST, controls=False), Backend(1))
    assert alone.jobs["pilot"] == (0, 1, 0)
    assert judge(alone).help == v.NOT_TESTED


@pytest.mark.usefixtures("own_cache", "short_pilot")
def test_a_source_that_cannot_be_fine_tuned_has_the_reason(sources, tmp_path, monkeypatch):
    path = str(target_file(tmp_path, "classification"))
    real = pilot_module.short_fine_tuning

    def fail(name, *args, **options):
        if name == VIT:
            raise InputError("It takes no such samples.")
        return real(name, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pilot_module, "short_fine_tuning", fail)
        ranking = rank(path, [VIT, CNN], replace(REQUEST, pilot=2), Backend(1))
    assert ranking.jobs["pilot"] == (2, 0, 1)
    record = ranking.to_dict()
    assert record["pilot"]["failures"] == {VIT: "It takes no such samples."}
    assert [one["source"] for one in record["pilot"]["sources"]] == [CNN]
    assert record["verdict"]["first"] == CNN
    # A failure is not kept, so that the next run tries again.
    assert rank(path, [VIT, CNN], replace(REQUEST, pilot=2), Backend(1)).jobs["pilot"][2] == 0


def piloted(leep, errors, samples=100):
    """A ranking by LEEP, of whose sources the first were fine-tuned; the others have no error."""
    ranking = make_ranking(leep=np.array(leep), knn=np.full(len(leep), 0.5), samples=samples)
    values = np.full(len(ranking.rows), np.nan)
    values[: len(errors)] = errors
    table = replace(score_table("knn", values, len(errors)), name="pilot")
    return replace(ranking, pilot=Pilot(table, 10, 3, 64, 64))


def simulated_pilot(rng, spreads, samples=64, rates=3):
    """Errors of sources of the same quality, each trained as in a pilot, with a spread between its trainings."""
    difficulty = 0.4 * (rng.beta(0.5, 0.5, samples) - 0.5)
    weights = np.full(samples, 1 / samples)
    results = []
    for spread in spreads:
        chances = 0.3 + spread * rng.standard_normal((rates, PILOT_SEEDS, 1)) + difficulty
        errors = rng.random((rates, PILOT_SEEDS, samples)) < chances
        trainings = errors[errors[:, 0].mean(axis=1).argmin()].astype(float)
        mean = trainings.mean(axis=0)
        judged = SampleErrors(mean, weights, np.arange(samples), np.array([mean.mean()]), None, 0)
        results.append(PilotErrors(judged, samples, trainings.mean(axis=1)))
    return results


@pytest.mark.parametrize("spreads", [(0, 0), (0.04, 0.04), (0.09, 0.09), (0.09, 0.02)], ids=str)
def test_a_source_that_is_no_better_than_its_control_is_seldom_better(spreads):
    """Whatever the spread between trainings is, of which one training of each says nothing."""
    rng = np.random.default_rng(0)
    n_runs, n_false = 300, 0
    for _ in range(n_runs):
        results = simulated_pilot(rng, spreads)
        more = {index: result.training_variance for index, result in enumerate(results)}
        standings = compute_error_standings(PILOT, [one.errors for one in results], more)
        n_false += bool(standings.p_values[0, 1] <= 0.05)
    # 5 % and two standard errors.
    assert n_false <= 0.05 * n_runs + 2 * np.sqrt(0.05 * 0.95 * n_runs)


def test_the_smallest_difference_is_where_the_comparison_becomes_significant():
    one, other = simulated_pilot(np.random.default_rng(3), (0.04, 0.04))
    more = {0: one.training_variance, 1: other.training_variance}
    standings = compute_error_standings(PILOT, [one.errors, other.errors], more)
    smallest = standings.smallest_difference(0, 1, 1)
    assert standings.difference_intervals[0, 1, 1] - standings.difference_intervals[0, 1, 0] == pytest.approx(
        2 * smallest
    )
    shifted = replace(other.errors, errors=other.errors.errors - standings.values[1] + standings.values[0])
    for factor, expected in ((0.99, False), (1.01, True)):
        moved = replace(shifted, errors=shifted.errors + factor * smallest)
        assert (compute_error_standings(PILOT, [one.errors, moved], more).p_values[0, 1] <= 0.05) == expected


def test_the_pilot_decides_which_source_is_best():
    ranking = piloted([-0.2, -0.3, -0.9], [0.4, 0.1, np.nan])
    assert ranking.rows[ranking.tables["leep"].first_source].name == "vit-0"
    verdict = judge(ranking)
    assert verdict.first == "vit-1"
    assert verdict.by == "leep"
    assert "vit-1 is first of 2 (error after a short fine-tuning" in choice_statement(verdict).sentence
    sentence = next(one for one in judgment_answer(verdict).sentences if one.startswith("Short fine-tuning"))
    assert "2 sources were fine-tuned for 10 epochs at three rates on 64 samples and judged on 64 others." in sentence
    assert "vit-0 is first by LEEP." in sentence
    assert [row[2] for row in ranking_table(ranking)[1]][:2] == ["vit-1", "vit-0"]


def test_after_a_pilot_everything_is_in_its_order():
    """By the score vit-0 is first, by the pilot vit-1, and vit-2 was not fine-tuned."""
    ranking = piloted([-0.2, -0.3, -0.9], [0.4, 0.1, np.nan])
    assert headline(judge(ranking)).startswith("After a short fine-tuning, start with vit-1 (1 of 1 other scores")
    heads, rows = ranking_table(ranking)
    assert heads[3] == "error"
    assert [row[0] + row[1] + row[2] for row in rows[:3]] == ["1Avit-1", "2Bvit-0", "-vit-2"]
    assert scores_table(ranking)[0][1] == "leep ↑"
    record = ranking.to_dict()
    assert (record["by"], record["decided_by"]) == ("leep", "pilot")
    assert [(row["source"], row["rank"]) for row in record["sources"]][:3] == [
        ("vit-1", 1),
        ("vit-0", 2),
        ("vit-2", None),
    ]
    assert record["sources"][0]["scores"]["pilot"]["value"] == 0.1
    first = to_csv(ranking).splitlines()
    assert first[0].startswith("rank,source,kind,parameters,pilot,pilot low,pilot high,leep")
    assert first[1].startswith("1,vit-1,")
    page = render_ranking(json.loads(json.dumps(record)))
    row = re.search(r'<tr role="row" class="row.*?</th>', page, re.DOTALL)[0]
    assert re.findall(r'class="rank">(.*?)<.*?<bdi>(.*?)</bdi>', row, re.DOTALL) == [("1", "vit-1")]
    assert '<option value="pilot" selected>' in page
    assert ranking_frame(ranking)["name"].drop_duplicates().tolist() == ["vit-1", "vit-0"]
    assert f"{figure_title(ranking)}." == headline(judge(ranking))
    assert "Error after a short fine-tuning" in figure_subtitle(ranking, 2, 2, has_groups=False)
    assert "leep" in other_scores(ranking)


def test_the_next_step_has_the_settings_that_the_pilot_chose():
    ranking = piloted([-0.2, -0.3], [0.4, 0.1])
    one = SampleErrors(np.zeros(8), np.full(8, 1 / 8), np.arange(8), np.zeros(1), None, 0)
    settings = ("stage2.learning_rate=0.0025", "stage2.batch_size=16", "target_sequence_length=32")
    results = {1: PilotErrors(one, 64, np.zeros(3), settings)}
    request = replace(ranking.request, samples=replace(ranking.request.samples, input_size=64))
    ranking = replace(ranking, pilot=replace(ranking.pilot, results=results), request=request)
    for command in judge(ranking).commands:
        line = " ".join(command)
        assert "--input-size 64" in line
        assert "--set stage2.learning_rate=0.0025 --set stage2.batch_size=16 --set target_sequence_length=32" in line
    assert {command[3] for command in judge(ranking).commands} == {"finetune"}


def test_the_next_step_of_texts_is_that_of_other_samples():
    """Sources of text are trained on texts as others are on images."""
    assert judge(make_ranking(kind="text")).commands == judge(make_ranking()).commands


@pytest.mark.usefixtures("own_cache", "short_pilot")
def test_texts_are_fine_tuned_whole(hub, tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{' '.join(rng.choice(['red', 'green', 'blue'], 5))} {'ab'[n % 2]},{n % 2}" for n in range(40)]
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(["text,label", *lines]))
    hub("bert-texts")
    request = replace(REQUEST, samples=SampleRequest(limit=None), controls=False)
    ranking = rank(str(path), ["hf:small/bert-texts"], request, Backend(1))
    (result,) = ranking.pilot.results.values()
    assert not any("target_sequence_length" in setting for setting in result.settings)
    assert 0 <= result.errors.averages[0] <= 1
    assert judge(ranking).check("pilot").values["trained"] == result.trained


@pytest.mark.parametrize(("baseline", "help_"), [(0.9, v.LIKELY), (0.12, v.DOUBTFUL), (0.0, v.NO)])
def test_a_baseline_decides_whether_a_transfer_helps(baseline, help_):
    rng = np.random.default_rng(0)
    ranking = make_ranking(leep=(-0.2, -0.3), knn=(0.5, 0.5))
    # Two sources, the control of the second, which is best, and the baseline.
    chances = np.array([0.3, 0.1, np.nan, 0.9, baseline])
    weights = np.full(64, 1 / 64)
    columns = [None if np.isnan(one) else (rng.permutation(64) < 64 * one).astype(float) for one in chances]
    errors = [
        None if one is None else SampleErrors(one, weights, np.arange(64), np.array([one.mean()]), None, 0)
        for one in columns
    ]
    standings = compute_error_standings(PILOT, errors)
    is_source = np.arange(5) < 2
    table = ScoreTable("pilot", False, standings, standings.among(is_source), ("",) * 5, by_sample=True)
    verdict = judge(replace(ranking, pilot=Pilot(table, 10, 3, 64, 64)))
    assert verdict.first == "vit-1"
    assert verdict.help == help_
    text = help_statement(verdict).sentence
    if help_ == v.LIKELY:
        assert text.endswith("vit-1 is significantly better than the baseline linear.")
    else:
        comparison = "significantly worse than" if baseline < 0.1 else "not shown to be better than"
        assert f"vit-1 is {comparison} the baseline linear." in text
        assert "the baseline linear" in headline(verdict)
        (sentence,) = [one for one in judgment_answer(verdict).sentences if one.startswith("Baseline of the field")]
        assert "(p " in sentence
        assert "on the same samples; vit-1 has" in sentence


@pytest.mark.usefixtures("own_cache", "short_pilot")
def test_the_control_of_the_first_of_equal_sources_is_fine_tuned(sources, tmp_path, monkeypatch):
    path = str(target_file(tmp_path, "classification"))
    real = pilot_module.short_fine_tuning

    def same_errors(_name, *args, **options):
        return real(VIT, load(VIT), *args[1:], **options)

    monkeypatch.setattr(pilot_module, "short_fine_tuning", same_errors)
    ranking = rank(path, [VIT, CNN], replace(REQUEST, pilot=2), Backend(1))
    first = ranking.rows[ranking.pilot.table.first_source].name
    assert ranking.pilot.table.source_ranks.tolist().count(1) == 2
    assert [row["source"] for row in ranking.to_dict()["pilot"]["controls"]] == [f"random:{first}"]
    assert judge(ranking).check("control").values["score"] == "pilot"


def test_a_baseline_without_an_error_has_the_reason():
    ranking = piloted([-0.2, -0.3], [0.4, 0.1])
    reasons = ("",) * (len(ranking.rows) - 1) + ("It needs aeon.",)
    failed = replace(ranking, pilot=replace(ranking.pilot, table=replace(ranking.pilot.table, reasons=reasons)))
    assert failure_messages(failed)[-1] == "baseline:linear was not fitted: It needs aeon."


def test_without_any_error_the_score_decides():
    ranking = piloted([-0.2, -0.3], [np.nan, np.nan])
    verdict = judge(ranking)
    assert verdict.first == "vit-0"
    assert any("None of the first sources could be fine-tuned" in one for one in judgment_answer(verdict).sentences)


@pytest.mark.usefixtures("own_cache", "short_pilot")
def test_the_command_prints_the_errors_and_the_page_has_them(sources, tmp_path):
    path, out = target_file(tmp_path, "classification", samples=80), tmp_path / "out"
    options = ("--by", "knn", "--score", "knn", "--resamples", "0", "--input-size", "32", "--pilot", "2", "--jobs", "1")
    names = f"{VIT},{CNN}"
    done = run_in_process("rank", "--target", str(path), "--sources", names, *options, "--out", str(out))
    assert done.returncode == 0, done.stderr
    # The progress of the training is no message of the ranking.
    assert "stage2" not in done.stderr
    announced = (
        f"A fine-tuning of 2 sources ({VIT}, {CNN}) for ten epochs at three rates, and of the random-weights control of"
    )
    assert announced in " ".join(done.stderr.split())
    again = run_in_process("rank", "--target", str(path), "--sources", names, *options)
    assert again.returncode == 0
    assert announced not in " ".join(again.stderr.split())
    assert "ranked by error after a short fine-tuning (lower is better)" in done.stdout
    assert "(train split)" in done.stdout
    assert "2 sources were fine-tuned for 2 epochs" in " ".join(done.stdout.split())
    record = json.loads((out / "ranking.json").read_text())
    assert {one["source"] for one in record["pilot"]["sources"]} == {VIT, CNN}
    assert record["request"]["pilot"] == 2
    assert run_in_process("report", str(out)).returncode == 0
    page = (out / "report.html").read_text()
    assert "<strong>Short fine-tuning." in page
    assert "error after a short fine-tuning" in page


def test_a_negative_number_is_refused():
    with pytest.raises(UsageError, match="pilot"):
        rank("digits", ["vit-fashion"], replace(REQUEST, pilot=-1))
    assert run_in_process("rank", "--target", "digits", "--sources", "vit-fashion", "--pilot=-1").returncode == 2
