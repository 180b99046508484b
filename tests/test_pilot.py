"""A short fine-tuning of the first sources: errors on other samples, and what they decide."""

import json
from dataclasses import replace

import numpy as np
import pytest

from modgap.errors import InputError, UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.ranking import verdict as v
from modgap.ranking.backends import Backend
from modgap.ranking.error_standings import compute_error_standings
from modgap.ranking.judgment import judge
from modgap.ranking.pilot import PILOT
from modgap.ranking.rank import rank
from modgap.ranking.recommendation import choice_statement, headline, help_statement, verdict_sentences
from modgap.ranking.report import failure_messages, pilot_table, to_dict
from modgap.ranking.types import Pilot, RankRequest, ScoreTable
from modgap.report_page.pilot_table import pilot_table as page_table
from modgap.sources import open_source
from modgap.statistics.intervals import SampleErrors
from modgap.targets import open_target
from modgap.transfer import pilot as pilot_module
from modgap.transfer.loop import NotFiniteError
from modgap.transfer.memory_training import train_in_memory
from modgap.transfer.pilot import PILOT_EPOCHS, PILOT_RATES, PILOT_SAMPLES, SETTINGS, labeled_halves, short_fine_tuning
from modgap.transfer.train_request import TrainRequest
from modgap.transfer.training_data import read_target_data
from tests.commands import run_in_process
from tests.ranking_records import make_ranking, score_table
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_matrix import CNN, VIT, small_sources  # noqa: F401 - fixture
from tests.training import target_file

REQUEST = RankRequest(by="knn", scores=("knn",), resamples=0, samples=SampleRequest(limit=None, input_size=32), pilot=1)


def load(name):
    return open_source(name).load(32, head=False)


def grouped_target(folder, samples=96):
    """Images of two classes, of which each group has four."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(samples // 4) % 2, 4)
    x = (rng.random((samples, 1, 12, 12)) + 0.8 * labels[:, None, None, None]).astype(np.float32)
    path = folder / "grouped.npz"
    np.savez(path, x=x, y=labels, groups=np.repeat(np.arange(samples // 4), 4))
    return path


def test_the_errors_are_those_of_a_training_on_one_half(sources, tmp_path):
    path = target_file(tmp_path, "classification")
    target = open_target(str(path))
    found = short_fine_tuning(VIT, load(VIT), target, 3)
    halves = labeled_halves(read_target_data(open_target(str(path)), limit=PILOT_SAMPLES, seed=3), 3)
    errors = []
    for rate in PILOT_RATES:
        settings = (*SETTINGS, f"stage2.learning_rate={rate}")
        train_in_memory(
            TrainRequest("finetune", VIT, str(path), settings, samples=SampleRequest(seed=3)),
            load(VIT),
            replace(halves, validation=halves.validation[:1]),
            [PILOT_EPOCHS],
            lambda _epoch, model, evaluator: errors.append(evaluator.error(model, halves.test)),
        )
    assert found.trained == len(halves.train)
    assert len(found.errors.errors) == len(halves.test)
    assert set(found.errors.errors) <= {0.0, 1.0}
    assert min(errors) == pytest.approx(100 * found.errors.averages[0])
    # Of equally good rates the first counts.
    assert found.rate == PILOT_RATES[errors.index(min(errors))]
    assert found.errors.weights.sum() == pytest.approx(1)


def test_groups_stay_whole_and_every_source_has_the_same_samples(sources, tmp_path):
    path = str(grouped_target(tmp_path))
    target = open_target(path)
    halves = labeled_halves(read_target_data(target))
    assert not set(halves.groups[halves.train]) & set(halves.groups[halves.test])
    one, other = (short_fine_tuning(name, load(name), target, 0).errors for name in (VIT, CNN))
    np.testing.assert_array_equal(one.units, other.units)
    np.testing.assert_array_equal(one.weights, other.weights)


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
    with pytest.raises(UsageError, match="--pilot needs a target with one class for each sample"):
        rank(path, [VIT], replace(REQUEST, by="size", scores=("size",)), Backend("serial"), pseudo_classes=classes)
    with pytest.raises(InputError, match="needs one class for each sample"):
        short_fine_tuning(VIT, load(VIT), open_target(path), 0)


@pytest.mark.usefixtures("own_cache")
def test_a_repeated_ranking_takes_the_pilot_from_the_cache(sources, tmp_path):
    path = str(target_file(tmp_path, "classification"))
    first, again = (rank(path, [VIT, CNN], REQUEST, Backend("serial")) for _ in range(2))
    # The first source, its random-weights control, and nearest neighbors of the raw values.
    assert first.jobs["pilot"] == (3, 0, 0)
    assert again.jobs["pilot"] == (0, 3, 0)
    name = first.rows[first.tables["knn"].first_source].name
    assert [row["source"] for row in to_dict(first)["pilot"]["controls"]] == [f"random:{name}"]
    check = judge(first).check("control")
    assert check.values["score"] == "pilot"
    assert [row[0] for row in pilot_table(first)[1]] == [name, f"random:{name}", "neighbors of raw values (no model)"]
    assert [row["source"] for row in to_dict(first)["pilot"]["raw_values"]] == ["raw"]
    assert judge(first).check("raw-values").values["score"] == "pilot"
    ranks = first.pilot.table.source_ranks
    # Only the first source was fine-tuned, and it decides.
    assert ranks.sum() == 1
    assert ranks.argmax() == first.tables["knn"].first_source
    np.testing.assert_array_equal(first.pilot.table.standings.values, again.pilot.table.standings.values)
    other = rank(path, [VIT, CNN], replace(REQUEST, samples=replace(REQUEST.samples, seed=1)), Backend("serial"))
    assert other.jobs["pilot"] == (3, 0, 0)
    alone = rank(path, [VIT, CNN], replace(REQUEST, controls=False, raw=False), Backend("serial"))
    assert alone.jobs["pilot"] == (0, 1, 0)
    assert judge(alone).help == v.NOT_TESTED


@pytest.mark.usefixtures("own_cache")
def test_a_source_that_cannot_be_fine_tuned_has_the_reason(sources, tmp_path, monkeypatch):
    path = str(target_file(tmp_path, "classification"))
    real = pilot_module.short_fine_tuning

    def fail(name, *args, **options):
        if name == VIT:
            raise InputError("It takes no such samples.")
        return real(name, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pilot_module, "short_fine_tuning", fail)
        ranking = rank(path, [VIT, CNN], replace(REQUEST, pilot=2), Backend("serial"))
    assert ranking.jobs["pilot"] == (3, 0, 1)
    record = to_dict(ranking)
    assert record["pilot"]["failures"] == {VIT: "It takes no such samples."}
    assert [one["source"] for one in record["pilot"]["sources"]] == [CNN]
    assert record["verdict"]["first"] == CNN
    # A failure is not kept, so that the next run tries again.
    assert rank(path, [VIT, CNN], replace(REQUEST, pilot=2), Backend("serial")).jobs["pilot"][2] == 0


def piloted(leep, errors, samples=100):
    """A ranking by LEEP, of whose sources the first were fine-tuned; the others have no error."""
    ranking = make_ranking(leep=np.array(leep), knn=np.full(len(leep), 0.5), samples=samples)
    values = np.full(len(ranking.rows), np.nan)
    values[: len(errors)] = errors
    table = replace(score_table("knn", values, len(errors)), name="pilot")
    return replace(ranking, pilot=Pilot(table, 10, 3, 64, 64))


@pytest.mark.parametrize("rates", [(0.2, 0.2, 0.2), (0.1, 0.2, 0.4), (0.5, 0.5, 0.5)], ids=str)
def test_the_choice_of_the_rate_makes_equal_sources_no_more_different(rates):
    """Of equally good sources, each of which is judged at its best rate, few differ significantly."""
    rng = np.random.default_rng(0)
    weights = np.full(64, 1 / 64)
    n_significant = 0
    for _ in range(200):
        difficulty = rng.beta(0.5, 0.5, 64) - 0.5
        best = []
        for _ in range(2):
            at_rates = [rng.random(64) < np.clip(rate + 1.2 * difficulty * min(rate, 1 - rate), 0, 1) for rate in rates]
            errors = min(at_rates, key=np.mean).astype(float)
            best.append(SampleErrors(errors, weights, np.arange(64), np.array([errors.mean()]), None, 0))
        n_significant += bool(compute_error_standings(PILOT, best).p_values[0, 1] <= 0.05)
    # More than 20 of 200 happen in 0.1 % of tests of 5 %.
    assert n_significant <= 20


def test_the_pilot_decides_which_source_is_best():
    ranking = piloted([-0.2, -0.3, -0.9], [0.4, 0.1, np.nan])
    assert ranking.rows[ranking.tables["leep"].first_source].name == "vit-0"
    verdict = judge(ranking)
    assert verdict.first == "vit-1"
    assert verdict.by == "leep"
    assert "vit-1 is first of 2 (error after a short fine-tuning" in choice_statement(verdict).text
    sentence = next(one for one in verdict_sentences(verdict) if one.startswith("Short fine-tuning"))
    assert "2 sources were fine-tuned for 10 epochs on 64 samples and judged on 64 others." in sentence
    assert "vit-0 is first by LEEP." in sentence
    assert [row[0] for row in pilot_table(ranking)[1]] == ["vit-1", "vit-0"]


@pytest.mark.parametrize(("raw", "help_"), [(0.9, v.LIKELY), (0.12, v.DOUBTFUL), (0.0, v.DOUBTFUL)])
def test_neighbors_of_raw_values_make_the_help_doubtful(raw, help_):
    rng = np.random.default_rng(0)
    ranking = make_ranking(leep=(-0.2, -0.3), knn=(0.5, 0.5))
    # Two sources, the control of the second, which is best, and the raw values.
    chances = np.array([0.3, 0.1, np.nan, 0.9, raw])
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
    text = help_statement(verdict).text
    if help_ == v.LIKELY:
        assert text.endswith("with random weights, and than nearest neighbors of the raw values.")
    else:
        comparison = "significantly worse" if raw < 0.1 else "not significantly better"
        assert f"vit-1 is {comparison} than nearest neighbors of the raw values." in text
        assert "nearest neighbors of the raw values" in headline(verdict)
        assert "(p " in next(one for one in verdict_sentences(verdict) if one.startswith("Raw values"))
        assert any("Nearest neighbors of the raw values, without" in one for one in verdict_sentences(verdict))


def test_the_page_shows_pilots_of_earlier_records_and_failed_neighbors():
    one = {"source": "vit", "value": 0.1, "interval": [None, None], "difference_to_first": None}
    earlier = {"pilot": {"epochs": 10, "trained": 64, "judged": 64, "sources": [one], "failures": {}}}
    assert [row["name"] for row in page_table(earlier)["rows"]] == ["vit"]
    record = {"pilot": {**earlier["pilot"], "raw_values": [], "failures": {"raw": "The samples differ in size."}}}
    assert page_table(record)["rows"][-1]["name"] == "neighbors of raw values (no model)"


@pytest.mark.usefixtures("own_cache")
def test_the_control_of_the_first_of_equal_sources_is_fine_tuned(sources, tmp_path, monkeypatch):
    path = str(target_file(tmp_path, "classification"))
    real = pilot_module.short_fine_tuning

    def same_errors(_name, *args, **options):
        return real(VIT, load(VIT), *args[1:], **options)

    monkeypatch.setattr(pilot_module, "short_fine_tuning", same_errors)
    ranking = rank(path, [VIT, CNN], replace(REQUEST, pilot=2), Backend("serial"))
    first = ranking.rows[ranking.pilot.table.first_source].name
    assert ranking.pilot.table.source_ranks.tolist().count(1) == 2
    assert [row["source"] for row in to_dict(ranking)["pilot"]["controls"]] == [f"random:{first}"]
    assert judge(ranking).check("control").values["score"] == "pilot"


def test_neighbors_without_an_error_have_the_reason():
    ranking = piloted([-0.2, -0.3], [0.4, 0.1])
    reasons = ("",) * (len(ranking.rows) - 1) + ("The samples differ in size.",)
    failed = replace(ranking, pilot=replace(ranking.pilot, table=replace(ranking.pilot.table, reasons=reasons)))
    assert failure_messages(failed)[-1] == (
        "Nearest neighbors of the raw values have no error on the samples of the short fine-tuning: "
        "The samples differ in size."
    )


def test_without_any_error_the_score_decides():
    ranking = piloted([-0.2, -0.3], [np.nan, np.nan])
    verdict = judge(ranking)
    assert verdict.first == "vit-0"
    assert any("None of the first sources could be fine-tuned" in one for one in verdict_sentences(verdict))


@pytest.mark.usefixtures("own_cache")
def test_the_command_prints_the_errors_and_the_page_has_them(sources, tmp_path):
    path, out = target_file(tmp_path, "classification", samples=80), tmp_path / "out"
    options = ("--by", "knn", "--score", "knn", "--resamples", "0", "--input-size", "32", "--pilot", "2", "--jobs", "1")
    names = f"{VIT},{CNN}"
    done = run_in_process("rank", "--target", str(path), "--sources", names, *options, "--out", str(out))
    assert done.returncode == 0, done.stderr
    # The progress of the training is no message of the ranking.
    assert "stage2" not in done.stderr
    assert "Errors after a short fine-tuning" in done.stdout
    assert "2 sources were fine-tuned for 10 epochs" in " ".join(done.stdout.split())
    record = json.loads((out / "ranking.json").read_text())
    assert {one["source"] for one in record["pilot"]["sources"]} == {VIT, CNN}
    assert record["request"]["pilot"] == 2
    assert run_in_process("report", str(out)).returncode == 0
    page = (out / "report.html").read_text()
    assert "Short fine-tuning <span" in page


def test_a_negative_number_is_refused(tmp_path):
    done = run_in_process("rank", "--target", "digits", "--sources", "vit-fashion", "--pilot", "-1")
    assert done.returncode == 2
    assert "--pilot" in done.stderr
