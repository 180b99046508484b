"""Baselines: the same predictions as models set up by hand, choices that keep groups, and storage that is checked."""

import dataclasses
import functools
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from modgap.baselines import BASELINE_ORDER, BASELINES, baseline_names, get_baseline
from modgap.baselines.baseline import (
    Baseline,
    FittedBaseline,
    SampleForm,
    Truth,
    fit_baseline,
    held_out_scores,
    restore_baseline,
)
from modgap.baselines.fields import PATCH, _patches
from modgap.baselines.residual_network import _standardized
from modgap.errors import InputError, UsageError
from modgap.models import Output
from modgap.probes.ridge import fit_ridge
from modgap.process import installed_packages, registry
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS
from modgap.storage.json_records import format_json, parse_json, plain_values
from modgap.targets.manifest import InputSpec

CLASSES = ("classification", (3,))
WORDS = "red green blue one two three four seven tree leaf root stone river cloud".split()  # noqa: SIM905


def series(shape: tuple[int, ...] = (2, 20), n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return samples (n, ...) and their classes, which differ by a pattern."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    patterns = np.random.default_rng(9).normal(size=(3, *shape))
    return (rng.normal(size=(n, *shape)) + 0.7 * patterns[labels]).astype(np.float32), labels


def texts(n: int = 60, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Return texts whose words depend on their classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return [" ".join(rng.choice(WORDS[3 * k : 3 * k + 8], 12)) for k in labels], labels


def form(kind: str, shape: tuple[int, ...], **more: Any) -> SampleForm:
    """Return the form of samples."""
    return SampleForm(InputSpec(kind=kind, **more), shape)


def truth(y: np.ndarray, output: tuple[str, tuple[int, ...]] = CLASSES, groups: np.ndarray | None = None) -> Truth:
    """Return the truth of samples."""
    return Truth(Output(*output), y, None, groups)


def example(name: str, n: int = 60, seed: int = 0) -> tuple[Any, np.ndarray, SampleForm]:
    """Return samples that suit a baseline, their classes and their form."""
    kind = get_baseline(name).kinds[0]
    if kind == "text":
        samples, labels = texts(n, seed)
        return samples, labels, form("text", ())
    shape = {"series": (2, 20), "image": (3, 12, 10), "audio": (1, 1600)}[kind]
    if name in ("mean-field", "patches"):
        shape = (2, 12, 10)
    samples, labels = series(shape, n, seed)
    if kind == "audio":
        tones = np.sin(np.arange(1600) * np.array([0.2, 0.5, 1.0])[:, None]).astype(np.float32)
        samples = samples + 3 * tones[labels][:, None]
    return samples, labels, form(kind, shape, rate=16_000 if kind == "audio" else None)


@functools.cache
def fitted(name: str, task: str = "classification") -> tuple[FittedBaseline, Any, Truth]:
    """Return a baseline that was fitted to an example, new samples and the truth of the training."""
    samples, labels, shape = example(name)
    if task == "classification":
        known = truth(labels)
    elif task == "multi-label":
        known = truth(np.stack([labels == 0, labels < 2], axis=1).astype(np.float32), (task, (2,)))
    else:
        known = truth(np.stack([labels, labels**2], axis=1).astype(np.float32) / 3, (task, (2,)))
    return fit_baseline(get_baseline(name), samples, shape, known), example(name, 20, 5)[0], known


FIELDS = ("mean-field", "patches")
OF_SAMPLES = [name for name in BASELINE_ORDER if name not in FIELDS]


def test_the_order_for_completion_has_all_baselines() -> None:
    """The shell completes names without importing the modules that define them."""
    assert tuple(baseline_names()) == BASELINE_ORDER


@pytest.mark.parametrize("task", ["classification", "multi-label", "regression"])
@pytest.mark.parametrize("name", OF_SAMPLES)
def test_every_baseline_learns_every_task(name: str, task: str) -> None:
    """On classes that differ by a pattern, new samples are predicted better than by a constant."""
    model, new, known = fitted(name, task)
    labels = np.arange(20) % 3
    scores = model.scores(new)
    assert scores.shape == (20, *known.output.shape)
    assert np.isfinite(scores).all()
    if task == "classification":
        assert (scores.argmax(axis=1) == labels).mean() > 0.5
    elif task == "multi-label":
        assert ((scores > 0) == np.stack([labels == 0, labels < 2], axis=1)).mean() > 0.6
    elif name != "residual-network":  # 60 images are too few for it
        values = np.stack([labels, labels**2], axis=1) / 3
        assert ((scores - values) ** 2).mean() < 0.95 * ((known.y.mean(axis=0) - values) ** 2).mean()


@pytest.mark.parametrize(("is_table", "width"), [(False, 1024), (True, 3000)])
def test_columns_of_a_wide_table_are_features_of_their_own_and_long_series_are_means(
    is_table: bool, width: int
) -> None:
    _, labels, shape = example("linear")
    wide = np.random.default_rng(0).standard_normal((60, 1, 3000)).astype(np.float32)
    wide[:, 0, 1700] += 6 * labels
    model = fit_baseline(get_baseline("extra-trees"), wide, SampleForm(shape.spec, (1, 3000), is_table), truth(labels))
    record, arrays = model.state()
    assert restore_baseline(get_baseline("extra-trees"), record, arrays, shape.spec, model.output).form == model.form
    values = model.compute(wide, model.form)
    assert values.shape == (60, width)
    assert not is_table or (values == wide[:, 0]).all()


def test_a_label_that_all_samples_have_does_not_change_the_other_labels() -> None:
    samples, labels, shape = example("linear")
    y = np.stack([np.ones(60), labels == 0, labels < 2], axis=1).astype(np.float32)
    new = example("linear", 20, 5)[0]
    found = []
    for columns in ([0, 1, 2], [1, 0, 2]):
        known = truth(y[:, columns], ("multi-label", (3,)))
        scores = fit_baseline(get_baseline("linear"), samples, shape, known).scores(new)
        found.append(scores[:, np.argsort(columns)])
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert (found[0][:, 0] > 0).all()
    assert ((found[0][:, 1:] > 0) == np.stack([np.arange(20) % 3 == 0, np.arange(20) % 3 < 2], axis=1)).mean() > 0.6


# The same models by hand


def by_sample(arrays: np.ndarray) -> np.ndarray:
    """Return series whose channels have mean 0 and standard deviation 1, each by itself."""
    values = arrays.astype(np.float64)
    standardized: np.ndarray = (values - values.mean(-1, keepdims=True)) / values.std(-1, keepdims=True)
    return standardized


def _linear(x: np.ndarray, y: np.ndarray, new: np.ndarray, model: FittedBaseline) -> np.ndarray:
    if "by sample" in model.features:
        x, new = (
            (a - a.mean(-1, keepdims=True)) / a.std(-1, keepdims=True) for a in (x.astype(float), new.astype(float))
        )
    return _logistic(x.reshape(len(x), -1), y, new.reshape(len(new), -1), model)


def _logistic(x: Any, y: np.ndarray, new: Any, model: FittedBaseline) -> np.ndarray:
    strength = float(model.setting.split()[-1])
    classifier = LogisticRegression(C=1 / strength, tol=1e-9, max_iter=10_000)
    return np.asarray(make_pipeline(StandardScaler(), classifier).fit(x, y).predict(new))


def _neighbors(x: np.ndarray, y: np.ndarray, new: np.ndarray, model: FittedBaseline) -> np.ndarray:
    if "by sample" in model.features:
        x, new = (
            (a - a.mean(-1, keepdims=True)) / a.std(-1, keepdims=True) for a in (x.astype(float), new.astype(float))
        )
    else:
        sd = x.std(axis=(0, 2), keepdims=True)
        x, new = x / sd, new / sd
    classifier = KNeighborsClassifier(int(model.setting.split()[0])).fit(x.reshape(len(x), -1), y)
    return np.asarray(classifier.predict(new.reshape(len(new), -1)))


def _extra_trees(x: np.ndarray, y: np.ndarray, new: np.ndarray, _model: FittedBaseline) -> np.ndarray:
    return np.asarray(ExtraTreesClassifier(100, random_state=0).fit(x.reshape(60, -1), y).predict(new.reshape(20, -1)))


def _boosting(x: np.ndarray, y: np.ndarray, new: np.ndarray, _model: FittedBaseline) -> np.ndarray:
    classifier = HistGradientBoostingClassifier(early_stopping=False, random_state=0).fit(x.reshape(60, -1), y)
    return np.asarray(classifier.predict(new.reshape(20, -1)))


def _minirocket(x: np.ndarray, y: np.ndarray, new: np.ndarray, model: FittedBaseline) -> np.ndarray:
    from aeon.transformations.collection.convolution_based import MiniRocket

    if "by sample" in model.features:
        x, new = (
            (a - a.mean(-1, keepdims=True)) / a.std(-1, keepdims=True) for a in (x.astype(float), new.astype(float))
        )
    classifier = make_pipeline(
        MiniRocket(random_state=0), StandardScaler(), RidgeClassifier(float(model.setting.split()[-1]))
    )
    return np.asarray(classifier.fit(x, y).predict(new))


def _pixels(x: np.ndarray, y: np.ndarray, new: np.ndarray, model: FittedBaseline) -> np.ndarray:
    return _logistic(x.reshape(60, -1), y, new.reshape(20, -1), model)


def _hog(x: np.ndarray, y: np.ndarray, new: np.ndarray, model: FittedBaseline) -> np.ndarray:
    import torch
    from skimage.feature import hog

    def describe(image: np.ndarray) -> np.ndarray:
        gray = torch.from_numpy(image.mean(axis=0)[None, None])
        large = torch.nn.functional.interpolate(gray, (64, 64), mode="bilinear", antialias=True)[0, 0].numpy()
        colors = [np.histogram(channel, 8)[0] / channel.size for channel in image]
        return np.concatenate([hog(large, cells_per_block=(2, 2)), *colors])

    return _logistic(np.stack([*map(describe, x)]), y, np.stack([*map(describe, new)]), model)


def _words(x: list[str], y: np.ndarray, new: list[str], model: FittedBaseline) -> np.ndarray:
    return _tfidf(TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)), x, y, new, model)


def _letters(x: list[str], y: np.ndarray, new: list[str], model: FittedBaseline) -> np.ndarray:
    vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5))
    return _tfidf(vectorizer, x, y, new, model)


def _tfidf(vectorizer: Any, x: list[str], y: np.ndarray, new: list[str], model: FittedBaseline) -> np.ndarray:
    classifier = LogisticRegression(C=1 / float(model.setting.split()[-1]), max_iter=1000)
    return np.asarray(make_pipeline(vectorizer, classifier).fit(x, y).predict(new))


def _kmers(x: list[str], y: np.ndarray, new: list[str], model: FittedBaseline) -> np.ndarray:
    counts = make_pipeline(_counter(), Normalizer("l1")).fit(x)
    return _logistic(counts.transform(x).toarray(), y, counts.transform(new).toarray(), model)


def _kmer_trees(x: list[str], y: np.ndarray, new: list[str], _model: FittedBaseline) -> np.ndarray:
    counts = make_pipeline(_counter(), Normalizer("l1")).fit(x)
    forest = ExtraTreesClassifier(100, random_state=0).fit(counts.transform(x).toarray(), y)
    return np.asarray(forest.predict(counts.transform(new).toarray()))


def _counter() -> CountVectorizer:
    return CountVectorizer(analyzer="char", ngram_range=(1, 4), lowercase=False, max_features=2000)


def _mfcc(x: np.ndarray, y: np.ndarray, new: np.ndarray, model: FittedBaseline) -> np.ndarray:
    return _logistic(_coefficients(x), y, _coefficients(new), model)


def _mfcc_trees(x: np.ndarray, y: np.ndarray, new: np.ndarray, _model: FittedBaseline) -> np.ndarray:
    return np.asarray(ExtraTreesClassifier(100, random_state=0).fit(_coefficients(x), y).predict(_coefficients(new)))


def _coefficients(sounds: np.ndarray) -> np.ndarray:
    import librosa

    rows = []
    for sound in sounds[:, 0]:
        mel = librosa.feature.melspectrogram(
            y=sound, sr=16_000, n_fft=400, hop_length=160, n_mels=40, pad_mode="constant"
        )
        values = librosa.feature.mfcc(S=librosa.power_to_db(mel, amin=1e-10), n_mfcc=20)
        rows.append([f(part, axis=1) for part in (values, np.diff(values)) for f in (np.mean, np.std)])
    return np.array(rows).reshape(len(sounds), -1)


BY_HAND: dict[str, Callable[..., np.ndarray]] = {
    "linear": _linear,
    "neighbors": _neighbors,
    "extra-trees": _extra_trees,
    "minirocket": _minirocket,
    "boosting": _boosting,
    "pixels": _pixels,
    "hog": _hog,
    "mfcc": _mfcc,
    "mfcc-trees": _mfcc_trees,
    "tf-idf-words": _words,
    "tf-idf-letters": _letters,
    "k-mers": _kmers,
    "k-mer-trees": _kmer_trees,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_predictions_are_those_of_the_model_by_hand(name: str, request: pytest.FixtureRequest) -> None:
    """Scikit-learn, aeon, scikit-image and librosa, put together by hand, predict the same classes."""
    if name.startswith("mfcc"):
        request.getfixturevalue("librosa")
    samples, labels, _ = example(name)
    model, new, _ = fitted(name)
    np.testing.assert_array_equal(model.scores(new).argmax(axis=1), BY_HAND[name](samples, labels, new, model))


def test_values_of_trees_are_those_of_scikit_learn() -> None:
    """The stored trees predict real values, several at a time, as the forest and the boosting do."""
    samples, _, _ = example("extra-trees")
    x = samples.reshape(60, -1)
    model, new, known = fitted("extra-trees", "regression")
    forest = ExtraTreesRegressor(100, max_features=1 / 3, random_state=0).fit(x, known.matrix)
    np.testing.assert_allclose(model.scores(new), forest.predict(new.reshape(20, -1)), rtol=1e-12)
    model, new, known = fitted("boosting", "regression")
    boosted = [
        HistGradientBoostingRegressor(early_stopping=False, random_state=0).fit(x, column).predict(new.reshape(20, -1))
        for column in known.matrix.T
    ]
    np.testing.assert_allclose(model.scores(new), np.stack(boosted, axis=1), rtol=1e-10)


def test_patches_are_ridge_regression_around_each_point() -> None:
    """Every point is predicted from the patch around it, with repeated edges."""
    rng = np.random.default_rng(0)
    fields = rng.normal(size=(40, 1, 9, 8)).astype(np.float32)
    y = np.roll(fields, 1, axis=3)
    model = fit_baseline(get_baseline("patches"), fields, form("image", (1, 9, 8)), truth(y, ("regression", (1, 9, 8))))
    patches = np.concatenate([_patches(field, PATCH) for field in fields])
    expected = make_pipeline(StandardScaler(), Ridge(float(model.setting.split()[-1])))
    expected.fit(patches, y.reshape(40, -1).ravel())
    np.testing.assert_allclose(
        model.scores(fields[:2]).ravel(), expected.predict(patches[: 2 * 72]), rtol=1e-4, atol=1e-6
    )
    padded = np.pad(fields[0, 0], 3, mode="edge")
    np.testing.assert_array_equal(_patches(fields[0], PATCH)[9].reshape(7, 7), padded[1:8, 1:8])


def test_mean_field_counts_valid_values_alone() -> None:
    """The mean of each point is over the samples whose mask has it."""
    y = np.arange(8.0).reshape(2, 1, 2, 2).astype(np.float32)
    mask = np.ones_like(y)
    mask[0, 0, 0, 0] = 0
    known = Truth(Output("regression", (1, 2, 2)), y, mask)
    model = fit_baseline(get_baseline("mean-field"), np.zeros((2, 1, 2, 2)), form("image", (1, 2, 2)), known)
    np.testing.assert_allclose(model.scores(np.zeros((1, 1, 2, 2)))[0, 0], [[4, 3], [4, 5]])


def test_ridge_is_that_of_scikit_learn() -> None:
    """One decomposition serves all strengths, with more features than samples and fewer."""
    rng = np.random.default_rng(0)
    for width in (5, 80):
        x, y = rng.normal(size=(40, width)), rng.normal(size=(40, 3))
        weights, intercepts = fit_ridge(x, y, (0.1, 10.0))
        for number, strength in enumerate((0.1, 10.0)):
            expected = Ridge(strength).fit(x, y)
            np.testing.assert_allclose(weights[number], expected.coef_, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(intercepts[number], expected.intercept_, rtol=1e-6, atol=1e-9)


# Choices


def test_the_setting_has_the_lowest_error_of_cross_validation_with_whole_groups() -> None:
    """The error of each strength over folds that keep groups, computed by hand; the smallest was chosen."""
    samples, labels = series((1, 12), 60)
    groups = np.repeat(np.arange(20), 3)
    known = truth(labels, groups=groups)
    folds = known.folds(0)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in range(20))
    x = samples.reshape(60, -1)
    errors = {}
    for features, values in (("values", x), ("values standardized by sample", by_sample(samples).reshape(60, -1))):
        for strength in (100.0, 1.0, 0.01):
            wrong = np.zeros(60)
            for fold in np.unique(folds):
                test = folds == fold
                model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / strength, tol=1e-9, max_iter=10_000))
                wrong[test] = model.fit(values[~test], labels[~test]).predict(values[test]) != labels[test]
            errors[features, f"L2 strength {strength:.3g}"] = wrong.mean()
    model = fit_baseline(get_baseline("linear"), samples, form("series", (1, 12)), known)
    assert model.error == min(errors.values())
    assert (model.features, model.setting) == min(errors, key=lambda option: errors[option])


def test_images_have_their_channels_first_in_memory() -> None:
    """Pictures have them last; the network's gradient then wrote outside of its memory, in torch itself."""
    images = np.zeros((4, 6, 5, 3)).transpose(0, 3, 1, 2)
    assert not images.flags.c_contiguous
    assert _standardized(images, np.zeros(3), np.ones(3)).is_contiguous()


def test_a_class_without_training_samples_is_never_predicted() -> None:
    """It has no samples in a fold, or in all; everything stays finite."""
    for name in ("linear", "extra-trees", "boosting", "neighbors", "minirocket"):
        samples, labels, shape = example(name)
        model = fit_baseline(get_baseline(name), samples[labels < 2], shape, truth(labels[labels < 2]))
        assert model.scores(samples).argmax(axis=1).max() < 2, name
        alone = fit_baseline(get_baseline(name), samples[:4], shape, truth(np.full(4, 1)))
        assert (alone.scores(samples).argmax(axis=1) == 1).all(), name


def test_results_do_not_depend_on_threads_or_on_random_state() -> None:
    """A seed gives the same bits; the random state of NumPy that aeon sets is as before."""
    import torch

    before = torch.get_num_threads()
    state = np.random.get_state()[1].copy()
    results = []
    for threads in (1, 2):
        fitted.cache_clear()
        torch.set_num_threads(threads)
        results.append(
            [fitted(name)[0].scores(fitted(name)[1]) for name in ("minirocket", "residual-network", "pixels")]
        )
    torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_samples_that_do_not_fit_are_named() -> None:
    """The message has the number of the sample, what it has and what was expected."""
    model, new, _ = fitted("linear")
    with pytest.raises(InputError, match=r"Sample 3 does not fit the baseline: A sample has shape \(3, 20\)"):
        model.scores([*new[:3], np.zeros((3, 20))])
    with pytest.raises(InputError, match="Sample 0 does not fit the baseline: A sample has NaN"):
        model.scores(np.full((1, 2, 20), np.nan))
    with pytest.raises(UsageError, match="Did you mean boosting"):
        get_baseline("bosting")


# Storage


def stored(model: FittedBaseline) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what a run keeps of a baseline, as it is read from JSON and safetensors."""
    record, arrays = model.state()
    return parse_json(format_json(plain_values(record))), load(
        save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    )


@pytest.mark.parametrize("name", OF_SAMPLES)
def test_a_stored_baseline_predicts_the_same_bits(name: str) -> None:
    """Everything that it needs is in JSON values and arrays."""
    model, new, _ = fitted(name)
    again = restore_baseline(get_baseline(name), *stored(model), model.form.spec, model.output)
    np.testing.assert_array_equal(again.scores(new), model.scores(new))


def mutate(record: Any, arrays: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """Change one value of an array, its shape or its type, or one plain value, at random."""
    name = str(rng.choice(list(arrays)))
    array = arrays[name] = arrays[name].copy()
    choice = rng.integers(6)
    if choice == 0 and array.size:
        extreme = [-1, 0, 1, 2**31 - 1, -(2**31)] if array.dtype.kind in "iu" else [np.nan, np.inf, 1e300, -1e300, 0]
        with np.errstate(all="ignore"):
            array.flat[rng.integers(array.size)] = np.array(rng.choice(extreme)).astype(array.dtype)
    elif choice == 1:
        arrays[name] = array[: len(array) // 2]
    elif choice == 2:
        arrays[name] = array.astype(rng.choice([np.float32, np.float64, np.int64, np.uint8]))
    elif choice == 3:
        del arrays[name]
    elif choice == 4:
        arrays[name] = array.reshape(1, *array.shape)
    else:
        part = record["parts"][rng.integers(len(record["parts"]))]
        part[str(rng.choice(list(part)))] = rng.choice(np.array([None, -1, 10**9, "x", 1.5], object))


@pytest.mark.parametrize("name", OF_SAMPLES)
def test_changed_baselines_are_refused_or_predict_finite_values(name: str) -> None:
    """Nothing of a run is trusted: indices, shapes, types and numbers are checked before compiled code reads them."""
    model, new, _ = fitted(name)
    record, arrays = stored(model)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(20):
        changed, held = parse_json(format_json(record)), dict(arrays)
        mutate(changed, held, rng)
        try:
            again = restore_baseline(get_baseline(name), changed, held, model.form.spec, model.output)
            assert np.isfinite(again.scores(new)).all()
        except DAMAGED_FILE_ERRORS:
            refused += 1
    assert refused >= 5


def test_trees_with_a_cycle_are_refused() -> None:
    """A child before its parent would let a path never end."""
    model, _, _ = fitted("extra-trees")
    record, arrays = stored(model)
    inner = int(np.flatnonzero(arrays["0.left"] >= 0)[5])
    arrays["0.left"] = arrays["0.left"].copy()
    arrays["0.left"][inner] = 0
    with pytest.raises(ValueError, match="a child is before its parent"):
        restore_baseline(get_baseline("extra-trees"), record, arrays, model.form.spec, model.output)


# Plug-ins


def test_a_plug_in_is_a_baseline_of_its_entry_point(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is listed last and fitted like any other; one of another class is skipped with a warning."""
    linear = get_baseline("linear")
    other = Baseline("mine", "mine", "me", ("series",), linear.tasks, linear.features, linear.predictor, linear.parts)
    entries = {name: EntryPoint(name, f"mine:{name}", "modgap.baselines") for name in ("mine", "broken")}
    monkeypatch.setattr(registry, "plugin_entries", lambda *_: entries)
    monkeypatch.setattr(installed_packages, "load_plugin", lambda entry, _: other if entry.name == "mine" else 3)
    BASELINES.forget()
    try:
        assert baseline_names() == [*BASELINE_ORDER, "mine"]
        assert get_baseline("mine") is other
        assert "Baseline plug-in broken (mine:broken) is broken and is skipped" in caplog.text
        assert "not a Baseline" in caplog.text
    finally:
        BASELINES.forget()


def test_a_baseline_without_choices_is_fitted_once_for_each_held_out_fold():
    samples, labels = series(n=30)
    form, truth = SampleForm(InputSpec(kind="series"), samples.shape[1:]), Truth(Output(*CLASSES), labels)
    folds, fits = np.arange(30) // 3 % 5, []
    trees = get_baseline("extra-trees")

    def fit(values, of_training, seed):
        fits.append(len(values))
        return trees.predictor.fit(values, of_training, seed)

    counted = dataclasses.replace(trees, predictor=dataclasses.replace(trees.predictor, fit=fit))
    scores = held_out_scores(counted, list(samples), form, truth, folds, range(5))
    assert fits == [24] * 5
    one = fit_baseline(trees, list(samples[folds != 2]), form, truth.rows(folds != 2))
    np.testing.assert_array_equal(scores[folds == 2], one.scores(list(samples[folds == 2])))
