"""Baselines of the field in a ranking: folds, choice of settings, time, and the samples of a short fine-tuning."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from modgap.baselines import get_baseline
from modgap.baselines.baseline import Truth
from modgap.baselines.predictors import fit_linear
from modgap.errors import InputError, UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend
from modgap.models import Output
from modgap.probes.folds import stratified_folds
from modgap.ranking import field_baselines
from modgap.ranking.answer import probe_table
from modgap.ranking.checks import CONTROL_WORSE, compare_baseline
from modgap.ranking.cross_validation import REPEATS
from modgap.ranking.field_baselines import baseline_errors_after_pilot, baseline_jobs, chosen_baselines
from modgap.ranking.judgment import judge
from modgap.ranking.rank import rank
from modgap.ranking.score import ErrorOptions
from modgap.ranking.types import BASELINE, RankRequest
from modgap.statistics.intervals import estimate_mean
from modgap.statistics.jackknife import group_blocks
from modgap.targets import TargetRequest, open_target
from modgap.targets.custom import CustomData
from modgap.training.pilot import pilot_halves
from tests.test_baseline_checks import N_SAMPLES, errors_table
from tests.training import target_file

SAMPLES = SampleRequest(split="train", limit=2000)


def table_file(folder, n=120, groups=False):
    """A table of four columns, of which two tell three classes roughly."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    values = rng.standard_normal((n, 4))
    values[:, 0] += 1.5 * (labels == 1)
    values[:, 1] += 1.5 * (labels == 2)
    lines = [",".join(f"{one:.6f}" for one in row) + f",{label},{number // 4}" for number, (row, label) in
             enumerate(zip(values, labels, strict=True))]  # fmt: skip
    path = folder / "table.csv"
    path.write_text("\n".join(["a,b,c,d,label,group", *lines]))
    return TargetRequest(str(path), custom_data=CustomData(kind="table", label_column="label", group="group"))


def job_of(name, request):
    opened = request.open()
    (job,) = baseline_jobs([name], request.absolute(), opened, SAMPLES, ErrorOptions())
    return job, opened


@pytest.mark.usefixtures("own_cache")
def test_the_errors_are_those_of_a_naive_cross_validation_on_the_folds_of_the_linear_probes(tmp_path):
    job, opened = job_of("extra-trees", table_file(tmp_path))
    result = job()
    table = opened.read()
    rows = np.flatnonzero(table.splits == 0)
    values = np.stack([np.asarray(table.samples[row], float).ravel() for row in rows])
    labels, groups = np.asarray(table.labels)[rows], table.groups["groups"][rows]
    wrong = np.zeros((REPEATS, len(rows)))
    for repeat in range(REPEATS):
        folds = stratified_folds(labels, groups, repeat << 32)
        for fold in np.unique(folds):
            test = folds == fold
            assert not set(groups[test]) & set(groups[~test])
            forest = ExtraTreesClassifier(100, random_state=0).fit(values[~test], labels[~test])
            wrong[repeat, test] = forest.predict(values[test]) != labels[test]
    np.testing.assert_array_equal(result.errors, wrong.mean(axis=0))
    assert result.averages == pytest.approx([one @ result.weights for one in wrong])
    # The first cross-validation is repeated without one block of groups after the other.
    folds, changes = stratified_folds(labels, groups, 0), []
    blocks = group_blocks(labels, np.unique(groups, return_inverse=True)[1], 0)
    for block in blocks[:1]:
        predicted = labels.copy()
        for fold in np.unique(folds):
            test, fit = ~block & (folds == fold), ~block & (folds != fold)
            predicted[test] = (
                ExtraTreesClassifier(100, random_state=0).fit(values[fit], labels[fit]).predict(values[test])
            )
        change = (predicted != labels)[~block] - wrong[0, ~block]
        changes.append(np.average(change, weights=result.weights[~block]))
    assert len(result.without) == len(blocks)
    assert result.without[:1] == pytest.approx(changes)
    again = job()
    np.testing.assert_array_equal(again.errors, result.errors)


@pytest.mark.usefixtures("own_cache")
def test_features_and_setting_of_a_fold_are_chosen_on_the_other_folds(tmp_path, monkeypatch):
    data = field_baselines._read(job_of("linear", table_file(tmp_path))[0].target.open(), SAMPLES)
    folds = np.arange(len(data.outputs)) % 5
    right = np.eye(3)[data.truth.y]
    # The first alternative is right everywhere but on fold 0, the second nowhere but there.
    scores = np.stack(
        [np.where((folds == 0)[:, None], 1 - right, right), np.where((folds == 0)[:, None], right, 1 - right)]
    )
    chosen = field_baselines._best_on_other_folds(scores, folds, data.truth)
    np.testing.assert_array_equal(chosen, scores[0])


@pytest.mark.usefixtures("own_cache")
def test_values_are_predicted_in_their_unit(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((150, 3))
    y = 1e6 + 1e3 * (values @ [1.0, 2.0, -1.0]) + 200 * rng.standard_normal(150)
    lines = [",".join(map(repr, map(float, (*row, one)))) for row, one in zip(values, y, strict=True)]
    path = tmp_path / "values.csv"
    path.write_text("\n".join(["a,b,c,label", *lines]))
    request = TargetRequest(str(path), custom_data=CustomData(kind="table", label_column="label"), pseudo_classes=4)
    errors = job_of("linear", request)[0]()
    assert 0.002 < estimate_mean(errors).value < 0.02, "1 - R2; the noise is .7 % of the variance"


def suitable(tmp_path, n_sources=2, which="quick", samples=SAMPLES):
    request = table_file(tmp_path)
    opened = request.open()
    return chosen_baselines(which, opened, samples, n_sources)


@pytest.mark.usefixtures("own_cache")
def test_which_baselines_are_compared(tmp_path, monkeypatch):
    assert suitable(tmp_path) == ["linear", "neighbors", "extra-trees"]
    assert suitable(tmp_path, which="all") == ["linear", "neighbors", "extra-trees", "boosting"]
    assert suitable(tmp_path, which="none") == []
    assert suitable(tmp_path, which="extra-trees, linear, hog") == ["extra-trees", "linear"]
    with pytest.raises(UsageError, match="Unknown baseline 'fast'"):
        suitable(tmp_path, which="linear,fast")
    monkeypatch.setattr("modgap.baselines.baseline.MEASURED_SAMPLES", 20)
    assert suitable(tmp_path, 1) == [], "as if each sample took a hundred times as long"
    assert suitable(tmp_path, 10_000) == ["linear", "neighbors", "extra-trees"], "a fifth of what many sources take"


@pytest.mark.parametrize(
    ("weight", "grouped", "wanted"),
    [(None, False, REPEATS), ("samples", False, REPEATS), ("classes", False, REPEATS + 10), (None, True, REPEATS + 10)],
)
@pytest.mark.usefixtures("own_cache")
def test_the_fits_without_a_block_count_in_the_expected_time(tmp_path, monkeypatch, weight, grouped, wanted):
    expected = []
    monkeypatch.setattr("modgap.baselines.baseline.quick_baselines", lambda *given: expected.append(given[-1]) or [])
    request = table_file(tmp_path)
    if not grouped:
        request = replace(request, custom_data=replace(request.custom_data, group=None))
    chosen_baselines("quick", request.open(), SAMPLES, 2, weight)
    assert expected == [wanted]


@pytest.mark.usefixtures("own_cache")
def test_fields_have_no_baselines_whose_training_is_another(caplog):
    opened = open_target("darcy-16")
    with caplog.at_level("INFO", "modgap"):
        assert chosen_baselines("all", opened, SAMPLES, 2) == []
    assert "a ranking averages the fields" in caplog.text


@pytest.mark.usefixtures("own_cache")
def test_a_missing_library_is_no_fault_of_a_sample(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    target = open_target(str(target_file(tmp_path, "classification", samples=60)))
    with pytest.raises(UsageError, match=r"^Histograms of gradients need scikit-image"):
        baseline_errors_after_pilot("hog", target, 3)


@pytest.mark.usefixtures("own_cache")
def test_a_baseline_that_cannot_be_fitted_is_left_out_with_a_warning(tmp_path, monkeypatch, caplog):
    def fail(_values, _truth, _seed):
        raise InputError("There is no library.")

    broken = replace(get_baseline("linear"), predictor=replace(get_baseline("linear").predictor, fit=fail))
    monkeypatch.setattr(
        field_baselines, "get_baseline", lambda name: broken if name == "linear" else get_baseline(name)
    )
    request = RankRequest(("knn",), "knn", 0, SAMPLES, controls=False)
    ranking = rank(table_file(tmp_path, 28), ["vit-fashion"], request, Backend(1))
    assert [row.name for row in ranking.rows if row.kind == BASELINE] == ["baseline:neighbors", "baseline:extra-trees"]
    assert "baseline:linear is left out: There is no library." in caplog.text


@pytest.mark.long
@pytest.mark.usefixtures("own_cache")
def test_a_ranking_shows_baselines_and_says_which_to_train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = RankRequest(("knn",), "knn", 0, SAMPLES, controls=False)
    ranking = rank(table_file(Path(), 600), ["vit-fashion"], request, Backend(1))
    check = judge(ranking).check("baseline")
    table = ranking.tables["linear-probe"]
    errors = {row.name: value for row, value in zip(ranking.rows, table.standings.values, strict=True)}
    best = min((name for name in errors if name != "vit-fashion"), key=lambda name: errors[name])
    assert check.values["baseline"] == best.removeprefix("baseline:")
    assert (check.values["value"], check.values["best_value"]) == (errors[best], errors["vit-fashion"])
    shown = {row[0]: float(row[1]) for row in probe_table(ranking).rows}
    assert shown == pytest.approx(errors, abs=1e-3)
    commands = [command for command in judge(ranking).commands if f"baseline:{check.values['baseline']}" in command]
    assert len(commands) == (check.result != CONTROL_WORSE)


def test_the_errors_are_on_the_samples_that_judge_a_short_fine_tuning(tmp_path):
    target = open_target(str(target_file(tmp_path, "classification", samples=60)))
    result = baseline_errors_after_pilot("pixels", target, 3)
    halves = pilot_halves(target, 3, standardized=False)
    labels = np.asarray(halves.table.class_labels)
    flat = np.stack([np.asarray(halves.table.samples[row], float).ravel() for row in range(len(labels))])
    truth = Truth(Output("classification", (int(labels.max()) + 1,)), labels[halves.train])
    candidates = fit_linear(flat[halves.train], truth, (100.0, 1.0, 0.01))
    wrong = [(one(flat[halves.test]).argmax(axis=1) != labels[halves.test]).astype(float) for one in candidates]
    assert any(np.array_equal(result.errors.errors, one) for one in wrong)
    assert result.trained == len(halves.train)
    assert result.training_variance == (0.0, np.inf)
    assert result.settings == ()


RUNS = 300
MOST_FALSE = 0.05 * RUNS + 2 * np.sqrt(0.05 * 0.95 * RUNS)


def test_a_transfer_from_sources_as_good_as_the_baselines_is_seldom_said_to_help():
    rng = np.random.default_rng(5)
    n_helps = n_harms = 0
    for _ in range(RUNS):
        chance = np.clip(0.2 + 0.24 * (rng.beta(0.5, 0.5, N_SAMPLES) - 0.5), 0, 1)
        table = errors_table(rng.random((N_SAMPLES, 7)) < chance[:, None], 4)
        best = 4 + int(np.argmin(table.standings.values[4:]))
        result = compare_baseline(table, table.first_source, best, 4, 3).result
        n_helps += result == CONTROL_WORSE
        n_harms += result == "significantly better"
    assert n_helps <= MOST_FALSE
    assert n_harms <= MOST_FALSE
