"""Misuse of the Python API: one error names the argument, before anything is computed."""

import functools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch

import modgap
from modgap.discrepancy import estimate as estimate_arrays
from modgap.errors import InputError

N = 60
LABELS = np.arange(N) % 2
LOGITS = np.random.default_rng(0).standard_normal((N, 4))
ERRORS = {name: np.random.default_rng(number).random(N) for number, name in enumerate("ab")}
GROUPS = np.arange(N) // 4
MODEL = torch.nn.Linear(3, 4)
HUGE = 10**30
PIECES = {"estimators": "search", "permutations": 0, "trials": 10}

estimate = functools.partial(modgap.estimate, LOGITS, LABELS, **PIECES)
measure = functools.partial(modgap.measure, "vit-fashion", "digits")
rank = functools.partial(modgap.rank, "digits", ["vit-fashion"])
train = functools.partial(modgap.train, "finetune", "vit-fashion", "digits", "run")
distort = functools.partial(modgap.measure_distortion, "vit-fashion", surrogates=["digits"])


def masked(array, row=3):
    """The array with a masked row."""
    mask = np.zeros(np.shape(array), bool)
    mask[row] = True
    return np.ma.array(array, mask=mask)


WHOLE = "Expected a whole number"
TEXT = "Expected a string"
ARRAY = "Expected an array, a list, a tensor or a pandas object"
NULL = "which has a null character"
EMPTY = "is an empty string"
MASKED = "and modgap does not use masks. Select the rows without masked values, or fill them with .filled(VALUE)"

ESTIMATE = {
    "scalar groups": ({"groups": 3}, "groups is one value. Expected one group per label, shape (60,)"),
    "groups None": ({"groups": [None] * N}, "60 of 60 groups are missing"),
    "groups None with per_group": ({"groups": [None] * N, "per_group": 2}, "60 of 60 groups are missing"),
    "groups NaN with per_group": ({"groups": [np.nan] * N, "per_group": 2}, "60 of 60 groups are missing"),
    "groups a text": ({"groups": "abc"}, f"groups is of type str. {ARRAY}"),
    "groups a mapping": ({"groups": {"a": 1}}, f"groups is of type dict. {ARRAY}"),
    "groups a generator": ({"groups": (row for row in range(N))}, f"groups is of type generator. {ARRAY}"),
    "per_group a fraction": ({"groups": GROUPS, "per_group": 1.5}, f"`per_group` is 1.5, of type float. {WHOLE}"),
    "per_group True": ({"groups": GROUPS, "per_group": True}, f"`per_group` is True, of type bool. {WHOLE}"),
    "per_group a text": ({"groups": GROUPS, "per_group": "2"}, f"`per_group` is '2', of type str. {WHOLE}"),
    "per_group 0": ({"groups": GROUPS, "per_group": 0}, "`per_group` is 0. Expected a number of at least 1"),
    "per_group without groups": ({"per_group": 2}, "`per_group` needs groups"),
    "splits True": ({"splits": True}, f"`splits` is True, of type bool. {WHOLE}"),
    "splits NaN": ({"splits": np.nan}, f"`splits` is nan, of type float. {WHOLE}"),
    "splits huge": ({"splits": HUGE}, "Expected a number below 2**62"),
    "seed None": ({"seed": None}, f"`seed` is None. {WHOLE}"),
    "trials None": ({"trials": None}, f"`trials` is None. {WHOLE}"),
    "restarts, which went": ({"restarts": 3}, "Unknown argument of modgap.estimate 'restarts'"),
    "temperature a text": ({"temperature": "1"}, "`temperature` is '1', of type str. Expected a number"),
    "weight a number": ({"weight": 3}, "`weight` is 3, of type int. Expected a string or None"),
    "estimators a number": (
        {"estimators": 3},
        "`estimators` is 3, of type int. Expected a string, a list of strings or None",
    ),
    "estimators numbers": ({"estimators": [1]}, "`estimators[0]` is 1, of type int. Expected a string"),
    "estimators a mapping": ({"estimators": {"search": 1}}, "`estimators` is of type dict"),
    "estimators empty": ({"estimators": []}, "There is no estimator"),
    "progress a number": ({"progress": 3}, "`progress` is 3, of type int. Expected a function or None"),
    "no such option": ({"split": 3}, "Unknown argument of modgap.estimate 'split'. Did you mean splits"),
    "source a number": ({"source": 3}, f"`source` is 3, of type int. {TEXT}"),
    "masked groups": ({"groups": masked(GROUPS)}, f"groups has 1 masked value, {MASKED}"),
    "too few names": ({"target_classes": ["A"]}, "The label 1 has no name. target_classes has 1 name"),
    "a text of names": ({"target_classes": "AB"}, "The label 1 has no name. target_classes has 1 name"),
    "a name twice": ({"target_classes": ["A", "A"]}, "target_classes has the name 'A' twice"),
    "names by value": (
        {"target_classes": {0: "A", 1: "B"}},
        "`target_classes` is of type dict. Expected a list of strings",
    ),
    "numbers as names": ({"target_classes": [1, 2]}, f"`target_classes[0]` is 1, of type int. {TEXT}"),
    "too few source names": ({"source_classes": ["A"]}, "source_classes has 1 name, but the logits have 4 columns"),
}
DATA = {
    "logits None": (None, LABELS, f"logits is of type NoneType. {ARRAY}"),
    "logits a path": ("mine.npz", LABELS, f"logits is of type str. {ARRAY}"),
    "logits a mapping": ({"a": 1}, LABELS, f"logits is of type dict. {ARRAY}"),
    "logits complex": (LOGITS + 1j, LABELS, "The logits have type complex128"),
    "logits without values": (torch.zeros(N, 4, device="meta"), LABELS, "logits is a tensor on the device meta"),
    "logits masked": (masked(LOGITS), LABELS, f"logits has 4 masked values, {MASKED}"),
    "logits with a masked row": ([*LOGITS[:-1], masked(LOGITS[-1])], LABELS, "logits has 1 masked value"),
    "logits missing in pandas": (
        pd.DataFrame(LOGITS).astype("Float64").mask(pd.DataFrame(LOGITS) > 2), LABELS, "NaN or infinite values in 3 of",
    ),
    "labels None": (LOGITS, None, f"labels is of type NoneType. {ARRAY}"),
    "labels a generator": (LOGITS, iter(LABELS), "labels is of type"),
    "labels bytes": (LOGITS, b"abc", f"labels is of type bytes. {ARRAY}"),
    "labels masked": (LOGITS, masked(LABELS), f"labels has 1 masked value, {MASKED}"),
    "labels with a masked value": (LOGITS, [np.ma.masked, *LABELS[1:]], f"labels has 1 masked value, {MASKED}"),
    "names masked": (LOGITS, masked(np.array(["x", "y"])[LABELS]), f"labels has 1 masked value, {MASKED}"),
    "several labels masked": (LOGITS, masked(np.eye(2, dtype=int)[LABELS]), "labels has 2 masked values"),
    "labels missing in Arrow": (LOGITS, pyarrow.array([None, *LABELS[1:].tolist()]), "1 of 60 labels are missing"),
    "texts missing in Arrow": (LOGITS, pyarrow.array([None, *["x", "y"] * 29, "x"]), "1 of 60 labels are missing"),
    "frames of other rows": (
        pd.DataFrame(LOGITS), pd.Series(LABELS, index=range(7, N + 7)), "The indexes of logits and labels do not have",
    ),
}  # fmt: skip
COMPARE = {
    "nothing": ((), {}, "There is nothing to compare"),
    "no errors": (({},), {}, "mapping 1 is empty. Expected the errors (N,) of each system by its name"),
    "errors and no errors": ((ERRORS, {}), {}, "mapping 2 is empty"),
    "an empty frame": ((pd.DataFrame(),), {}, "data frame 1 is empty: it has the shape (0, 0)"),
    "a frame without rows": ((pd.DataFrame({"id": [], "a": [], "b": []}),), {}, "data frame 1 is empty"),
    "None": ((None,), {}, "Argument 1 is of type NoneType"),
    "a list": (([1.0, 2.0],), {}, "Argument 1 is of type list"),
    "scalars": (({"a": 3, "b": 4},), {}, "The errors of a have shape ()"),
    "generators": (({"a": iter(LABELS)},), {}, "the array 'a' is of type"),
    "no samples": (({"a": [], "b": []},), {}, "The errors of a have shape (0,)"),
    "complex errors": (({**ERRORS, "a": ERRORS["a"] * 1j},), {}, "The errors of a have type complex128"),
    "an infinite error": (({**ERRORS, "b": [*ERRORS["b"][1:], np.inf]},), {}, "all finite numbers (first in row 59)"),
    "masked errors": (({**ERRORS, "b": masked(ERRORS["b"])},), {}, f"the array 'b' has 1 masked value, {MASKED}"),
    "errors missing in Arrow": (
        ({**ERRORS, "a": pyarrow.array([None, *ERRORS["a"][1:]])},), {}, "not all finite numbers (first in row 0)",
    ),
    "errors missing in a frame": (
        (pd.DataFrame({"id": range(N), **ERRORS}).astype({"a": "Float64"}).replace(ERRORS["a"][2], pd.NA),), {},
        "Row 4 of data frame 1 has no finite error in the column 'a'",
    ),
    "a name twice": (({1: ERRORS["a"], "1": ERRORS["b"]},), {}, "mapping 1 has two systems of the same name"),
    "estimator a number": ((ERRORS,), {"estimator": 3}, "`estimator` is 3, of type int. Expected a string or None"),
    "scalar groups": ((ERRORS,), {"groups": 3}, "The groups have shape ()"),
    "missing groups": ((ERRORS,), {"groups": [None] * N}, "60 of 60 groups are missing"),
    "masked groups": ((ERRORS,), {"groups": masked(GROUPS)}, f"groups has 1 masked value, {MASKED}"),
}  # fmt: skip
CALLS = {
    "control negative": (measure, {"control": -1}, "`control` is -1, but it must be at least 0"),
    "control True": (measure, {"control": True}, f"`control` is True, of type bool. {WHOLE}"),
    "control a fraction": (measure, {"control": 1.5}, f"`control` is 1.5, of type float. {WHOLE}"),
    "limits": (measure, {"limits": 60}, "Unknown argument of modgap.measure 'limits'. Did you mean limit"),
    "data as an option": (measure, {"groups": GROUPS}, "Unknown argument of modgap.measure 'groups'"),
    "limit a text": (measure, {"limit": "60"}, f"`limit` is '60', of type str. {WHOLE}"),
    "limit NaN": (measure, {"limit": np.nan}, f"`limit` is nan, of type float. {WHOLE}"),
    "limit 0": (measure, {"limit": 0}, "`limit` is 0, but it must be at least 1"),
    "split a list": (measure, {"split": ["train"]}, "`split` is of type list. Expected a string or None"),
    "head None": (measure, {"head": None}, f"`head` is None. {TEXT}"),
    "device a number": (measure, {"device": 0}, f"`device` is 0, of type int. {TEXT}"),
    "input_size a pair": (measure, {"input_size": (32, 32)}, f"`input_size` is of type tuple. {WHOLE}"),
    "input_size huge": (measure, {"input_size": HUGE}, "but it must be at most 65536"),
    "custom_data a text": (
        measure,
        {"custom_data": "table"},
        "`custom_data` is 'table', of type str. Expected a CustomData",
    ),
    "custom_data of numbers": (
        measure,
        {"custom_data": {"kind": 3}},
        f"`custom_data['kind']` is 3, of type int. {TEXT}",
    ),
    "data_dir a number": (measure, {"data_dir": 3}, "`data_dir` is 3, of type int. Expected a string, a path or None"),
    "weights a number": (measure, {"weights": 3}, "`weights` is 3, of type int"),
    "embedder with a null": (measure, {"embedder": "a\0b"}, f"`embedder` is 'a\\x00b', {NULL}"),
    "resamples negative": (rank, {"resamples": -1}, "`resamples` is -1, but it must be at least 0"),
    "resamples a fraction": (rank, {"resamples": 1.5}, f"`resamples` is 1.5, of type float. {WHOLE}"),
    "splits a fraction": (rank, {"splits": 1.5}, f"`splits` is 1.5, of type float. {WHOLE}"),
    "splits 0": (rank, {"splits": 0}, "`splits` is 0, but it must be at least 1"),
    "scores a number": (rank, {"scores": 3}, "`scores` is 3, of type int. Expected a list of strings"),
    "by a number": (rank, {"by": 3}, "`by` is 3, of type int. Expected a string or None"),
    "layers a list": (rank, {"layers": [2]}, f"`layers` is of type list. {TEXT}"),
    "pilot a fraction": (rank, {"pilot": 1.5}, f"`pilot` is 1.5, of type float. {WHOLE}"),
    "pilot negative": (rank, {"pilot": -1}, "`pilot` is -1, but it must be at least 0"),
    "jobs 0": (rank, {"jobs": 0}, "`jobs` is 0, but it must be at least 1"),
    "jobs a fraction": (rank, {"jobs": 1.5}, f"`jobs` is 1.5, of type float. {WHOLE}"),
    "controls a text": (rank, {"controls": "no"}, "`controls` is 'no', of type str. Expected True or False"),
    "rank seed huge": (
        rank,
        {"seed": HUGE},
        f"`seed` is {HUGE}. Expected an integer below 2**62",
    ),
    "train seed huge": (
        train,
        {"seed": HUGE},
        f"`seed` is {HUGE}. Expected an integer below 2**62",
    ),
    "train seed a fraction": (train, {"seed": 1.5}, f"`seed` is 1.5, of type float. {WHOLE}"),
    "settings a list": (
        train,
        {"settings": ["a=1"]},
        "`settings` is of type list. Expected a mapping of names to values",
    ),
    "settings invalid": (train, {"settings": {"stage2.epochs": "x"}}, 'Correct them with `settings={"KEY": VALUE}`'),
    "sweep a list": (train, {"sweep": ["a"]}, "`sweep` is of type list. Expected a mapping of names to values"),
    "sweep empty": (train, {"sweep": {}}, 'such as `sweep={"stage2.learning_rate": [1e-4, 3e-4, 1e-3]}`'),
    "sampler without a sweep": (train, {"sampler": "optuna"}, "A sweep needs values"),
    "trials a fraction": (
        train,
        {"sweep": {"stage2.epochs": [1, 2]}, "trials": 1.5},
        f"`trials` is 1.5, of type float. {WHOLE}",
    ),
    "protocol": (train, {"protocol": "valid"}, "Unknown protocol 'valid'. Did you mean validation"),
    "resume a text": (train, {"resume": "no"}, "`resume` is 'no', of type str. Expected True or False"),
    "no layers": (distort, {"layers": []}, "No layer was requested. At least one is needed, such as output"),
    "layers a number": (distort, {"layers": 3}, "`layers` is 3, of type int. Expected a list of strings"),
    "surrogates of numbers": (distort, {"surrogates": [3]}, f"`surrogates[0]` is 3, of type int. {TEXT}"),
    "runs a path": (distort, {"runs": Path("nosuch")}, f"nosuch{os.sep}run.json does not exist"),
    "runs of numbers": (distort, {"runs": [3]}, "`runs[0]` is 3, of type int. Expected a string or a Run"),
    "probes a number": (distort, {"probes": 3}, "`probes` is 3, of type int. Expected a list of strings"),
}
FIRST = {
    "a model as source": (
        modgap.measure,
        (MODEL, "digits"),
        "`source` is of type Linear. Expected a string. A model in memory",
    ),
    "a model to open": (modgap.open_source, (MODEL,), "`name` is of type Linear. Expected a string. A model in memory"),
    "a source of bytes": (modgap.open_source, (b"vit-fashion",), f"`name` is b'vit-fashion', of type bytes. {TEXT}"),
    "an empty source": (modgap.open_source, ("",), f"`name` {EMPTY}"),
    "a source with a null": (modgap.open_source, ("a\0b",), f"`name` is 'a\\x00b', {NULL}"),
    "several sources": (modgap.measure, (["vit-fashion"], "digits"), f"`source` is of type list. {TEXT}"),
    "no target": (modgap.open_target, (None,), "`name` is None. Expected a string, a path or a pair of arrays (x, y)"),
    "an empty target": (modgap.open_target, ("",), f"`name` {EMPTY}"),
    "a target with a null": (modgap.measure, ("vit-fashion", Path("a\0b")), f"`target` is 'a\\x00b', {NULL}"),
    "a target of three arrays": (
        modgap.open_target,
        ((1, 2, 3),),
        "`name` is of type tuple. Expected a string, a path or a pair",
    ),
    "no sources": (modgap.rank, ("digits", None), "`sources` is None. Expected a list of strings"),
    "sources of bytes": (
        modgap.rank,
        ("digits", b"vit"),
        "`sources` is b'vit', of type bytes. Expected a list of strings",
    ),
    "a model among sources": (modgap.rank, ("digits", [MODEL]), "`sources[0]` is of type Linear. Expected a string."),
    "a mapping of sources": (modgap.rank, ("digits", {"vit-fashion": 1}), "`sources` is of type dict. Expected a list"),
    "out with a null": (modgap.train, ("finetune", "vit-fashion", "digits", "a\0b"), f"`out` is 'a\\x00b', {NULL}"),
    "an empty out": (modgap.train, ("finetune", "vit-fashion", "digits", ""), f"`out` {EMPTY}"),
    "a long out": (
        modgap.train,
        ("finetune", "vit-fashion", "digits", "x" * 300),
        "File name too long. Pass another `out`",
    ),
    "out of bytes": (modgap.train, ("finetune", "vit-fashion", "digits", "a\udcff"), "it is not valid Unicode"),
    "method None": (modgap.train, (None, "vit-fashion", "digits", "run"), f"`method` is None. {TEXT}"),
    "results None": (modgap.plot_discrepancies, (None,), "`results` is None. Expected a list of DiscrepancyResults"),
    "results of texts": (
        modgap.plot_discrepancies,
        (["a"],),
        "`results[0]` is 'a', of type str. Expected a DiscrepancyResult",
    ),
    "a run None": (modgap.load_run, (None,), "`path` is None. Expected a string, a path or a Run"),
    "a run with a null": (modgap.load_run, ("a\0b",), f"`path` is 'a\\x00b', {NULL}"),
    "x of objects": (modgap.open_target, ((np.array([[object()]] * 2), [0, 1]),), "x of the target has type object"),
    "x and y of other lengths": (modgap.open_target, ((np.zeros((3, 4)), [0, 1]),), "y of the target has shape (2,)"),
    "x masked": (modgap.open_target, ((masked(LOGITS), LABELS),), f"x of the target has 4 masked values, {MASKED}"),
    "y missing": (modgap.open_target, ((LOGITS[:2], ["a", None]),), "1 of 2 labels are missing"),
}


def refused(function, *args, **kwargs):
    """Return the message of the error of modgap that a call raises."""
    with pytest.raises(InputError) as error:
        function(*args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize("case", ESTIMATE)
def test_options_of_estimate(case):
    options, message = ESTIMATE[case]
    assert message in refused(estimate, **options)


@pytest.mark.parametrize("case", DATA)
def test_data_of_estimate(case):
    logits, labels, message = DATA[case]
    assert message in refused(modgap.estimate, logits, labels, **PIECES)


@pytest.mark.parametrize("case", [case for case in DATA if "masked" in case])
def test_masks_are_refused_by_the_estimators_too(case):
    logits, labels, message = DATA[case]
    assert message in refused(estimate_arrays, logits, labels)


@pytest.mark.parametrize("case", COMPARE)
def test_compare(case):
    results, options, message = COMPARE[case]
    assert message in refused(modgap.compare, *results, **options)


@pytest.fixture
def nothing_is_computed(tmp_path, monkeypatch):
    """Record each source that is loaded and each target that is read, and find none at the end."""
    computed = []

    def refuse(asked, *_args, **_options):
        computed.append(asked)
        raise AssertionError("a source was loaded, or a target was read")

    monkeypatch.setattr("modgap.sources.timm.packaged.VitFashion.load", refuse)
    monkeypatch.setattr("modgap.targets.target.Target.read", refuse)
    monkeypatch.chdir(tmp_path)
    yield
    assert computed == []


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.usefixtures("nothing_is_computed")
def test_keyword_arguments(case):
    function, options, message = CALLS[case]
    assert message in refused(function, **options)


@pytest.mark.parametrize("case", FIRST)
@pytest.mark.usefixtures("nothing_is_computed")
def test_positional_arguments(case):
    function, arguments, message = FIRST[case]
    assert message in refused(function, *arguments)


def test_a_surrogate_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no target at a/path" in refused(distort, surrogates="a/path")


IMAGES = np.random.default_rng(0).random((3, 1, 8, 8))
PREDICT = {
    "a mapping": ({"a": 1}, "Expected a sequence of samples, got dict. Pass a list or an array"),
    "a frame": (
        pd.DataFrame(IMAGES.reshape(3, -1)),
        "got DataFrame. Pass a list or an array. For the values of a data fra",
    ),
    "None": (None, "Expected a sequence of samples, got NoneType"),
    "bytes": (b"abc", "Expected a sequence of samples, got bytes"),
    "a generator": (iter(IMAGES), "Expected a sequence of samples, got"),
    "no samples": ([], "There are no samples to predict"),
    "complex values": (
        IMAGES * 1j,
        "Sample 0 does not fit the model: It has values of type complex128. Expected real numb",
    ),
    "dates": (np.zeros((3, 1, 8, 8), "datetime64[D]"), "It has values of type datetime64[D]"),
    "a tensor without values": (torch.zeros(3, 1, 8, 8, device="meta"), "the sample is a tensor on the device meta"),
    "a sample None": ([None], "Sample 0 does not fit the model: the sample is of type NoneType"),
    "a sample of a mapping": ([{}], "Sample 0 does not fit the model: the sample is of type dict"),
    "masked samples": (
        masked(IMAGES, 1),
        f"Sample 1 does not fit the model: the sample has 64 masked values, {MASKED}",
    ),
    "a list of masked samples": ([*masked(IMAGES, 1)], f"the sample has 64 masked values, {MASKED}"),
    "NaN": (IMAGES * np.nan, "Sample 0 has NaN or infinite values"),
}


@pytest.fixture(scope="module", name="trained")
def trained_model(tmp_path_factory):
    """A model that was trained on a pair of arrays."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODGAP_CACHE", str(folder / "cache"))
        images = np.random.default_rng(0).random((N, 1, 8, 8))
        run = modgap.train("finetune", "vit-fashion", (images, LABELS), folder / "run", settings={"stage2.epochs": 1})
        return modgap.load_run(run)


@pytest.mark.parametrize("case", PREDICT)
def test_samples_of_predict(case, trained):
    samples, message = PREDICT[case]
    assert message in refused(trained.predict, samples)


def test_a_pipe_as_a_sample(trained, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe.png is not a file. Pass the path of a file" in refused(trained.predict, [tmp_path / "pipe.png"])


def test_samples_of_every_container_are_predicted_alike(trained):
    expected = trained.outputs(IMAGES)
    shuffled = pd.Series(list(IMAGES), index=[2, 0, 1])
    sparse = torch.from_numpy(IMAGES).to_sparse()
    for samples in (
        list(IMAGES),
        torch.from_numpy(IMAGES),
        shuffled,
        sparse,
        [*sparse],
        torch.from_numpy(IMAGES[:, 0]),
    ):
        np.testing.assert_allclose(trained.outputs(samples), expected)


ACCEPTED = {
    "numbers of numpy": lambda: {
        "splits": np.int64(2),
        "seed": np.uint8(1),
        "temperature": np.float32(2),
    },
    "one estimator": lambda: {"estimators": "search"},
    "an array of names": lambda: {"estimators": np.array(["search"]), "target_classes": np.array(["u", "v"])},
    "a generator of names": lambda: {"source_classes": (name for name in "abcd")},
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_values_that_mean_the_same_are_accepted(case):
    assert modgap.estimate(LOGITS, LABELS, **{**PIECES, **ACCEPTED[case]()}).result.n_samples == N


@pytest.mark.parametrize(
    "logits",
    [
        torch.from_numpy(LOGITS).to_sparse(),
        pyarrow.Table.from_pandas(pd.DataFrame(LOGITS)),
        pd.DataFrame(LOGITS, dtype="Float64"),
    ],
    ids=["sparse", "Arrow", "nullable"],
)
def test_logits_of_every_container_are_used(logits):
    expected = estimate()["search"].solution.value
    assert modgap.estimate(logits, pyarrow.array(LABELS), **PIECES)["search"].solution.value == expected


def test_one_source_devices_of_torch_and_paths_are_taken_as_their_names(tmp_path):
    options = {"limit": np.int64(60), "resamples": 0, "baselines": "none", "controls": False, "jobs": 1}
    ranking = modgap.rank("digits", "vit-fashion", device=torch.device("cpu"), dtype=torch.float32, **options)
    assert ranking.to_frame()["source"].tolist() == ["vit-fashion"]
    assert modgap.open_source(Path("vit-fashion")).name == "vit-fashion"


@pytest.mark.parametrize(
    "labels", [LABELS, np.array(["walk", "rest"])[LABELS], pd.Categorical(np.array(["b", "a"])[LABELS])]
)
def test_two_arrays_are_a_target(labels):
    images = np.random.default_rng(0).random((N, 1, 8, 8))
    target = modgap.open_target((images, labels))
    table = target.read()
    np.testing.assert_allclose(table.samples[5], images[5].astype(np.float32))
    names = [str(name) for name in labels]
    assert [table.classes[number] for number in table.labels] == names
    assert modgap.open_target([images, labels]).files == target.files
    with_names = modgap.measure("vit-fashion", (images, labels), **PIECES)
    assert list(with_names.target_classes) == sorted(set(names))
