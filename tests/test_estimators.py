"""Estimators of scikit-learn: its checks, its tools, their copies, and what they refuse."""

import copy
import gc
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_wine, make_multilabel_classification, make_regression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import modgap
from modgap import TransferClassifier, TransferRegressor
from modgap.api import estimators
from modgap.errors import InputError, UsageError
from modgap.race.steps import Step
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_matrix import VIT, small_sources  # noqa: F401 - fixture

LINEAR = Step("baseline", "linear")
QUICK = {"minutes": 0, "steps": [LINEAR], "device": "cpu"}
CLASSIFIER, REGRESSOR = TransferClassifier(**QUICK), TransferRegressor(**QUICK)
X, Y = load_wine(return_X_y=True)
X, Y = X[::3], Y[::3]


@pytest.mark.long
@parametrize_with_checks([TransferClassifier(minutes=0, device="cpu"), TransferRegressor(minutes=0, device="cpu")])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_there_are_checks():
    for estimator in (CLASSIFIER, REGRESSOR):
        assert len(list(estimator_checks_generator(estimator))) > 40


# The same as modgap.transfer


def losses(result):
    return np.stack([one.losses for one in result.race.outcomes])


@pytest.mark.slow
def test_a_fit_is_a_transfer_to_the_same_arrays(tmp_path):
    ours = TransferClassifier(minutes=0, device="cpu").fit(X, Y)
    custom_data = {"kind": "table", "task": "classification"}
    # A table has no baselines of series.
    result = modgap.transfer((X, Y), tmp_path / "best", minutes=0, device="cpu", jobs=1, custom_data=custom_data)
    np.testing.assert_array_equal(losses(ours.result_), losses(result))
    assert ours.run_.run.record["result"]["test"] == result.run.record["result"]["test"]
    np.testing.assert_array_equal(ours.predict_proba(X), modgap.load_run(result.folder).predict_proba(X))
    assert {one.step.name for one in result.race.outcomes} == {"linear", "neighbors", "extra-trees"}
    again = TransferClassifier(minutes=0, steps=str(result.folder / "transfer.json"), device="cpu").fit(X, Y)
    np.testing.assert_array_equal(losses(again.result_), losses(result))
    np.testing.assert_array_equal(again.predict_proba(X), ours.predict_proba(X))


def test_groups_are_those_of_an_array_file(tmp_path):
    patients = np.array([f"patient {row // 6}" for row in range(len(X))])
    np.savez(tmp_path / "wine.npz", x=X, y=Y, groups=np.arange(len(X)) // 6)
    steps = tmp_path / "steps.json"
    steps.write_text(json.dumps([{"method": "baseline", "name": "linear"}]))
    custom_data = {"kind": "table", "task": "classification"}
    options = {"minutes": 0, "steps": steps, "device": "cpu", "jobs": 1, "custom_data": custom_data}
    expected = modgap.transfer(tmp_path / "wine.npz", tmp_path / "best", **options)
    ours = clone(CLASSIFIER).fit(X, Y, groups=patients)
    np.testing.assert_array_equal(losses(ours.result_), losses(expected))
    assert not np.array_equal(losses(ours.result_), losses(clone(CLASSIFIER).fit(X, Y).result_))
    piped = make_pipeline(StandardScaler(), clone(CLASSIFIER)).fit(X, Y, transferclassifier__groups=patients)
    assert piped.score(X, Y) > 0.8
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clone(CLASSIFIER).fit(X, Y, groups=patients[1:])


# scikit-learn's tools


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_pipeline_is_cross_validated(processes):
    pipeline = make_pipeline(StandardScaler(), clone(CLASSIFIER))
    scores = cross_val_score(pipeline, X, Y, cv=2, n_jobs=processes, error_score="raise")
    np.testing.assert_array_equal(scores, cross_val_score(pipeline, X, Y, cv=2, error_score="raise"))
    assert scores.mean() > 0.85


def test_groups_are_cross_validated():
    by_group = cross_val_score(
        clone(CLASSIFIER), X, Y, cv=GroupKFold(2), groups=np.arange(len(X)) // 4, error_score="raise"
    )
    assert by_group.mean() > 0.8


@pytest.mark.long
def test_the_example_of_the_documentation_prints_what_it_says(capsys):
    text = (Path(__file__).parents[1] / "docs" / "transfer.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    exec(example, {})
    assert capsys.readouterr().out.split() == re.findall(r"# (.+)", example)


def test_a_grid_search_chooses_parameters():
    grid = {"kind": ["table", "series"], "minutes": [0]}
    search = GridSearchCV(clone(CLASSIFIER), grid, cv=2, error_score="raise").fit(X, Y)
    assert search.best_estimator_.result_.race.request.target.custom_data.kind == search.best_params_["kind"]
    assert clone(search.best_estimator_).get_params()["kind"] == search.best_params_["kind"]


def test_a_data_frame_has_its_names():
    frame = load_wine(as_frame=True).data.iloc[::3]
    model = clone(CLASSIFIER).fit(frame, pd.Series(Y, index=frame.index[::-1]).map({0: "a", 1: "b", 2: "c"}))
    assert list(model.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(
        model.predict(frame), clone(CLASSIFIER).fit(X, np.array(["a", "b", "c"])[Y]).predict(X)
    )
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[frame.columns[::-1]])


# Labels and values


@pytest.mark.parametrize(
    ("names", "of_run"),
    [
        (["nose", "heart", "arm"], {"nose", "heart", "arm"}),
        ([10, 2, -1], {"10", "2", "-1"}),
        ([0.0, 1.0, 2.0], {"0.0", "1.0", "2.0"}),
        (["a ", "a", ""], {"0", "1", "2"}),
    ],
)
def test_classes_have_their_names(names, of_run):
    y = np.array(names, None if isinstance(names[0], float) else object)[Y]
    y = y if isinstance(names[0], str) else y.astype(type(names[0]))
    model = clone(CLASSIFIER).fit(X, y)
    assert list(model.classes_) == sorted(names)
    assert set(model.run_.classes) == of_run
    np.testing.assert_array_equal(model.classes_[model.predict_proba(X).argmax(axis=1)], model.predict(X))
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    assert (model.predict(X) == y).mean() > 0.85
    assert model.score(X, y) == (model.predict(X) == y).mean()


def test_rare_classes_are_predicted():
    x = np.concatenate([X, [X[0] + 1000, X[0] - 1000, X[0] - 1000]])
    y = np.concatenate([Y, [7, 8, 8]])
    model = clone(CLASSIFIER).fit(x, y)
    assert model.predict_proba(x).shape == (len(x), 5)
    assert model.predict_proba(x).max(axis=0).min() > 0.1
    assert model.predict(x)[-3] == 7
    tiny = clone(CLASSIFIER).fit(X[:6], [0, 1, 2, 0, 1, 2])
    assert set(tiny.classes_) == {0, 1, 2}
    assert tiny.predict_proba(X[:6]).shape == (6, 3)


def test_several_labels_and_several_values():
    x, labels = make_multilabel_classification(80, 6, n_classes=4, random_state=0)
    model = clone(CLASSIFIER).fit(x, labels)
    proba = model.predict_proba(x)
    assert model.classes_.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(proba > 0.5, model.predict(x))
    assert (model.predict(x) == labels).mean() > 0.7
    # As many values as features are no field over them.
    for n_values in (1, 6):
        x, values = make_regression(80, 6, n_targets=n_values, noise=1, random_state=0)
        regressor = clone(REGRESSOR).fit(x, values)
        assert regressor.predict(x).shape == values.shape
        assert regressor.score(x, values) > 0.95
        assert pickle.loads(pickle.dumps(regressor)).predict(x).shape == values.shape  # noqa: S301
    with pytest.raises(ValueError, match="several columns of classes"):
        clone(CLASSIFIER).fit(x, np.stack([np.arange(80) % 3, np.arange(80) % 3], axis=1))


def test_series_and_images_keep_their_axes():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    series = rng.standard_normal((60, 2, 12)) + y[:, None, None]
    with pytest.raises(UsageError, match=r"can be series .* or images"):
        clone(CLASSIFIER).fit(series, y)
    model = clone(CLASSIFIER).set_params(kind="series").fit(series, y)
    assert model.score(series, y) > 0.9
    with pytest.raises(ValueError, match="features"):
        model.predict(series[:, :1])
    steps = [{"method": "baseline", "name": "pixels"}]
    images = rng.random((60, 3, 8, 8)) + 0.5 * y[:, None, None, None]
    model = clone(CLASSIFIER).set_params(steps=steps).fit(images, y)
    assert model.score(images, y) > 0.9
    assert model.result_.race.request.target.custom_data.kind == "image"


# Parameters


def test_the_run_is_in_the_folder_of_the_users(tmp_path):
    model = clone(CLASSIFIER).set_params(folder=tmp_path / "best").fit(X, Y)
    assert modgap.load_run(tmp_path / "best").predict(X).tolist() == [str(one) for one in model.predict(X)]
    # The data of the run stays, and so does the folder.
    assert Path(model.run_.run.record["target"]).is_file()
    with pytest.raises(UsageError, match="is not empty, and each fit needs a folder of its own"):
        model.fit(X, Y)
    del model
    gc.collect()
    assert (tmp_path / "best" / "run.json").exists()


def test_a_temporary_folder_ends_with_the_estimator():
    model = clone(CLASSIFIER).fit(X, Y)
    first = model.result_.folder
    assert not model.result_.answer.commands
    assert str(first) not in str(model.result_)
    assert (first / "transfer.json").exists()
    second = model.fit(X, Y).result_.folder
    assert second.exists()
    assert not first.exists()
    del model
    gc.collect()
    assert not second.parent.exists()


def test_the_seed_is_that_of_scikit_learn():
    assert estimators._seed(7) == estimators._seed(np.int64(7)) == 7
    assert estimators._seed(np.random.RandomState(3)) == estimators._seed(np.random.RandomState(3)) > 0
    np.random.seed(0)
    drawn = {estimators._seed(None) for _ in range(3)}
    assert len(drawn) == 3
    with pytest.raises(ValueError, match="cannot be used to seed"):
        clone(CLASSIFIER).set_params(random_state="today").fit(X, Y)
    other = clone(CLASSIFIER).set_params(random_state=5).fit(X, Y).result_
    assert other.to_dict()["seed"] == 5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"minutes": -1}, "minutes"),
        ({"kind": "sound"}, "Choose image, series or table"),
        ({"steps": [{"method": "baseline"}]}, "no steps of a transfer"),
        ({"steps": "absent.json"}, "cannot be read"),
        ({"sources": ["no-such-source"], "steps": None}, "no-such-source"),
    ],
)
def test_impossible_parameters_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        clone(CLASSIFIER).set_params(**parameters).fit(X, Y)


def test_too_few_samples_are_refused():
    for x, y, message in (
        (X[:2], [0, 1], "minimum of 3 is required"),
        (X[:3], [0, 1, 2], "no validation samples"),
        (X, np.zeros(len(X)), "1 class"),
    ):
        with pytest.raises(ValueError, match=message):
            clone(CLASSIFIER).fit(x, y)


# Copies and pickles


@pytest.fixture(name="fitted", scope="module")
def fitted_classifier():
    return clone(CLASSIFIER).fit(X, np.array(["c", "a", "b"])[Y])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])  # noqa: S301
def test_copies_predict_the_same(fitted, copied):
    other = copied(fitted)
    np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(other.predict(X), fitted.predict(X))
    assert other.run_.run.record["result"]["test"] == fitted.run_.run.record["result"]["test"]
    with pytest.raises(AttributeError, match=r"no result_.*run_\.run\.record"):
        _ = other.result_
    # A copy of a copy, and a fit of a copy.
    np.testing.assert_array_equal(copied(other).predict_proba(X), fitted.predict_proba(X))
    assert other.fit(X, Y).result_ is not None
    unfitted = copied(clone(fitted))
    assert unfitted.get_params() == fitted.get_params()


def test_a_pickle_has_one_file_and_no_objects_of_the_run(fitted):
    stream = pickle.dumps(fitted)
    assert b"modgap.race" not in stream.replace(b"modgap.race.steps", b"")
    assert b"modgap.training" not in stream
    state = clone(fitted).set_params(steps=None).__getstate__()
    assert estimators.MODEL not in state


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize(
    "step", [Step("linear-probe", VIT), Step("finetune", VIT, 0.001, 1)], ids=["linear-probe", "finetune"]
)
def test_copies_of_models_with_a_source_predict_the_same(step):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    images = rng.random((40, 1, 8, 8)) + y[:, None, None, None]
    model = TransferClassifier(minutes=1, steps=[step], device="cpu", sources=[VIT]).fit(images, y)
    assert model.run_.run.record["source"] == VIT
    other = pickle.loads(pickle.dumps(model))  # noqa: S301
    np.testing.assert_array_equal(other.predict_proba(images), model.predict_proba(images))


def test_changed_states_are_refused(fitted):
    def refused(message, changes):
        with pytest.raises(InputError, match=message):
            TransferClassifier().__setstate__({**state, **changes})

    state = fitted.__getstate__()
    content = state[estimators.MODEL]
    refused("Expected bytes", {estimators.MODEL: Path("/etc/passwd")})
    refused("is damaged", {estimators.MODEL: b""})
    refused("is damaged", {estimators.MODEL: content[: len(content) // 2]})
    refused("does not fit its checksum", {estimators.MODEL: content[:-1] + bytes([content[-1] ^ 1])})
    refused("another task or other classes", {"classes_": fitted.classes_[:2]})
    refused("another task or other classes", {"classes_": ["a", "b", "c"]})
    with pytest.raises(InputError, match="another task"):
        TransferRegressor().__setstate__({**state, "_output_shape": ()})
    regressor = clone(REGRESSOR).fit(X, X[:, :2])
    for shape in ((), (3,), None, "x"):
        with pytest.raises(InputError, match="another task"):
            TransferRegressor().__setstate__({**regressor.__getstate__(), "_output_shape": shape})


def test_large_states_are_refused(fitted, monkeypatch):
    monkeypatch.setattr(estimators, "LARGEST_MODEL", 100)
    with pytest.raises(InputError, match="at most 100 bytes are restored"):
        TransferClassifier().__setstate__(fitted.__getstate__())


def test_noise_of_several_labels_is_not_called_better_than_chance():
    rng = np.random.default_rng(1000)
    features, labels = rng.normal(size=(100, 5)), rng.integers(0, 2, (100, 3))
    answer = TransferClassifier(minutes=0).fit(features, labels).result_.answer
    assert "shown to beat chance" in answer.headline
    assert answer.verdicts[0].label == "Not shown better"


def test_an_answer_outlives_its_estimator():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(100, 4))
    labels = np.where(features[:, 0] + 0.5 * rng.normal(size=100) > 0, "p", "n")
    model = TransferClassifier(minutes=0).fit(features, labels)
    result = TransferClassifier(minutes=0).fit(features, labels).result_
    assert result.answer.verdicts[0] == model.result_.answer.verdicts[0]
    assert "(p 0.0" in result.answer.verdicts[0].sentence
