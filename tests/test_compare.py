"""`modgap compare`: paired differences, Holm's correction, comparison over targets, formats, and refusals."""

import csv
import functools
import io
import json
import re
import shutil
import subprocess
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import modgap as package
from modgap.answers.latex import escape_latex
from modgap.answers.text import answer_text
from modgap.distortion.report import probe_sample_file
from modgap.errors import InputError, UsageError
from modgap.ranking.comparison.answer import comparison_answer, letters
from modgap.ranking.comparison.error_table import table_of_arrays
from modgap.ranking.comparison.figure import comparison_figure
from modgap.ranking.comparison.inputs import collect_targets
from modgap.ranking.comparison.systems import compare_systems, difference_over_targets
from modgap.statistics import sample_file
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.sample_file import SampleFile, numbered_sample_file, read_sample_file, write_sample_file
from modgap.storage.json_records import read_json
from modgap.training.answer import run_answer
from modgap.training.evaluation import evaluate_metric, write_sample_errors
from modgap.training.metrics import metric as make_metric
from modgap.training.run_folder import write_record
from tests.figure_checks import all_text, assert_readable, intervals, marks

TRICKY_NAMES = ("50%_more & {less}", r"back\slash^2", "=SUM(A1)", "ä|ö#ß", "中文", "a -- b", "~tilde $x$", "<b>`c`</b>")


def random_errors(rates, n=300, seed=0):
    """Errors of systems that share the difficulty of the samples."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random(n)
    return {name: (0.5 * difficulty + 0.5 * rng.random(n) < rate).astype(float) for name, rate in rates.items()}


@pytest.fixture(scope="module")
def logits():
    """Logits (90, 12) of a source, noisier ones of another, and the labels of three classes."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 30)
    clear = rng.standard_normal((90, 12))
    clear[np.arange(90), labels + 4] += 2
    return clear, clear + rng.normal(0, 3, clear.shape), labels


@pytest.fixture(scope="module")
def folders_of_options(logits, tmp_path_factory):
    """Return the folder of a discrepancy with these options, which is written once; not to be written to."""

    @functools.cache
    def folder_of(is_clear=True, n_samples=90, **options):
        folder = tmp_path_factory.mktemp("results") / ("first" if is_clear else "second")
        folder.mkdir()
        clear, noisy, labels = logits
        labels = labels // options.pop("divisor", 1)
        settings = {"trials": 50, "permutations": 0, "threads": 1, "splits": 10, "estimators": ("search", "soft")}
        array = clear if is_clear else noisy
        result = package.estimate(array[:n_samples], labels[:n_samples], **{**settings, **options})
        result.write(folder)
        return folder

    return folder_of


@pytest.fixture
def two_folders(folders_of_options, tmp_path):
    """Copies of two result folders of logits of the same samples."""
    for is_clear in (True, False):
        folder = folders_of_options(is_clear)
        shutil.copytree(folder, tmp_path / folder.name)
    return [tmp_path / "first", tmp_path / "second"]


@pytest.fixture
def errors_csv(tmp_path):
    path = tmp_path / "gait.csv"
    errors = random_errors({"ours": 0.25, "theirs": 0.28, "older": 0.5})
    pd.DataFrame({"id": [f"s{i}" for i in range(300)], **errors}).to_csv(path, index=False)
    return path


# The numbers


def test_a_paired_difference_over_samples_is_the_paired_t_test():
    errors = random_errors({"a": 0.3, "b": 0.4})
    pair = package.compare(errors).main.pairs[0]
    expected = stats.ttest_rel(errors["a"], errors["b"])
    low, high = expected.confidence_interval(0.95)
    assert (pair.first, pair.second) == ("a", "b")
    assert pair.difference.value == pytest.approx(errors["a"].mean() - errors["b"].mean())
    assert pair.difference.p_value == pytest.approx(expected.pvalue)
    assert pair.difference.interval == pytest.approx((low, high))
    assert pair.corrected_p_value == pair.difference.p_value


def test_groups_of_one_size_give_the_paired_t_test_of_their_means():
    errors = random_errors({"a": 0.3, "b": 0.4})
    main = package.compare(errors, groups=np.repeat(np.arange(30), 10)).main
    means = {name: values.reshape(30, 10).mean(axis=1) for name, values in errors.items()}
    assert (main.n_units, main.unit) == (30, "group")
    assert main.pairs[0].difference.p_value == pytest.approx(stats.ttest_rel(means["a"], means["b"]).pvalue)


@pytest.mark.parametrize("scale", [1.0, 250.0])
def test_errors_that_are_not_rates_have_student_t_intervals(scale):
    rng = np.random.default_rng(3)
    errors = {name: scale * rng.gamma(2, 1, 80) for name in "ab"}
    main = package.compare(errors).main
    pair = main.pairs[0]
    expected = stats.ttest_rel(errors[pair.first], errors[pair.second])
    assert pair.difference.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    first = errors[main.systems[0].name]
    margin = stats.t.ppf(0.975, 79) * stats.sem(first)
    assert main.systems[0].mean.interval == pytest.approx((first.mean() - margin, first.mean() + margin))


def test_p_values_of_all_pairs_are_corrected_by_holm():
    main = package.compare(random_errors({"a": 0.2, "b": 0.24, "c": 0.3, "d": 0.55})).main
    values = sorted(pair.difference.p_value for pair in main.pairs)
    expected = []
    for rank, value in enumerate(values):
        expected.append(min(1.0, max([*expected, (len(values) - rank) * value])))
    corrected = [pair.corrected_p_value for pair in sorted(main.pairs, key=lambda pair: pair.difference.p_value)]
    assert corrected == pytest.approx(expected)
    assert main.n_tests == 6


def test_systems_share_a_letter_exactly_if_they_do_not_differ():
    main = package.compare(random_errors({f"s{i}": 0.2 + 0.035 * i for i in range(9)}, n=600)).main
    shown = letters(main)
    assert len(main.groups) > 2
    assert shown[main.systems[0].name].startswith("a")
    for pair in main.pairs:
        assert bool(set(shown[pair.first]) & set(shown[pair.second])) != pair.differs


def test_systems_on_both_sides_of_another_share_a_letter():
    """The second system differs from the first on a few samples alone; the third has other hard samples than both."""
    rng = np.random.default_rng(0)
    first = (rng.random(400) < 0.3).astype(float)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:14]] = 1
    third = (rng.random(400) < 0.31).astype(float)
    result = package.compare({"first": first, "second": second, "third": third})
    assert [pair.differs for pair in result.main.pairs] == [True, False, False]
    assert list(letters(result.main).values()) == ["a", "b", "ab"]
    bars = [line for line in result.plot().axes[0].lines if not line.get_clip_on()]
    # The bar of the first and the third has a thin piece beside the second.
    assert sorted(line.get_linewidth() for line in bars) == [0.8, 3, 3, 3]


def test_more_than_sixty_systems_have_no_letters():
    result = package.compare(random_errors({f"s{i}": 0.3 for i in range(61)}, n=40))
    assert result.main.groups == ()
    assert set(letters(result.main).values()) == {"-"}
    assert "There are too many systems for letters" in " ".join(str(result).split())


def test_over_six_targets_the_difference_has_a_t_interval():
    targets = [random_errors({"a": 0.3, "b": 0.36}, n=50 + 10 * i, seed=i) for i in range(6)]
    result = package.compare(*targets)
    a, b = (np.array([one[name].mean() for one in targets]) for name in "ab")
    expected = stats.ttest_rel(a, b)
    difference = result.over_targets.pairs[0].difference
    sign = 1 if result.over_targets.pairs[0].first == "a" else -1
    assert difference.value == pytest.approx(sign * (a - b).mean())
    assert difference.p_value == pytest.approx(expected.pvalue)
    assert sorted(np.abs(difference.interval)) == pytest.approx(sorted(np.abs(expected.confidence_interval(0.95))))
    assert result.over_targets.n_units == 6
    assert {one.n_tests for one in result.targets} == {6}


def test_below_six_targets_there_is_no_interval_and_the_output_says_why():
    result = package.compare(*[random_errors({"a": 0.3, "b": 0.9}, seed=i) for i in range(5)])
    difference = result.over_targets.pairs[0].difference
    assert (difference.interval, difference.p_value, result.over_targets.groups) == (None, None, None)
    assert "no p-value over 5 targets, because they are too few (at least 6)" in " ".join(str(result).split())
    assert all(one.pairs[0].difference.p_value < 0.001 for one in result.targets)


def test_below_eight_groups_there_is_no_p_value_and_the_output_says_why():
    result = package.compare(random_errors({"a": 0.3, "b": 0.9}), groups=np.arange(300) % 7)
    assert result.main.groups is None
    assert "because 7 groups are too few (at least 8)" in " ".join(str(result).split())
    assert "p < " not in str(result)


@pytest.mark.parametrize(("value", "p_value"), [(0.0, 1.0), (0.25, 2.0**-5)])
def test_equal_differences_on_all_targets_give_the_sign_test(value, p_value):
    assert difference_over_targets(np.full(6, value)).p_value == p_value


def test_identical_systems_do_not_differ():
    errors = random_errors({"a": 0.3})["a"]
    pair = package.compare({"a": errors, "b": errors}).main.pairs[0]
    assert (pair.difference.value, pair.difference.p_value, pair.differs) == (0, 1, False)


def test_under_the_null_few_comparisons_reject():
    """Three systems of the same error rate: some pair differs in about 5 % of the data sets, and not in 10 %."""
    rejections = 0
    for seed in range(200):
        errors = random_errors(dict.fromkeys("abc", 0.4), n=80, seed=seed)
        table = table_of_arrays(errors, None, "arrays", "target")
        rejections += any(pair.differs for pair in compare_systems(collect_targets([table])).main.pairs)
    assert rejections <= 20


# Folders


def test_folders_of_a_discrepancy_are_compared_by_the_estimator_of_the_user(modgap, two_folders):
    done = modgap("compare", *two_folders, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert (record["schema"], record["kind"], record["metric"]) == (1, "comparison", "held-out error (search)")
    assert [one["name"] for one in record["targets"][0]["systems"]] == ["first", "second"]
    results = [json.loads((folder / "result.json").read_text()) for folder in two_folders]
    means = [one["value"] for one in record["targets"][0]["systems"]]
    assert means == pytest.approx([result["estimates"]["search"]["held_out"] for result in results])
    intervals = [one["interval"] for one in record["targets"][0]["systems"]]
    assert intervals == [pytest.approx(result["estimates"]["search"]["held_out_interval"]) for result in results]

    soft = json.loads(modgap("compare", *two_folders, "--format", "json", "--estimator", "soft").stdout)
    assert soft["targets"][0]["systems"][0]["value"] == pytest.approx(results[0]["estimates"]["soft"]["held_out"])
    refused(modgap("compare", *two_folders, "--estimator", "serch"), 2, "Did you mean search")


def test_results_in_memory_equal_their_folders(two_folders, logits):
    options = {"permutations": 0, "threads": 1, "splits": 10, "estimators": ("search", "soft")}
    results = [package.estimate(array, logits[2], **options) for array in logits[:2]]
    compared = package.compare(*results)
    of_folders = package.compare(*two_folders)
    assert compared.main.pairs[0].difference == of_folders.main.pairs[0].difference
    assert [one.name for one in compared.main.systems] == ["system 1", "system 2"]


def test_a_name_before_a_folder_names_its_system(modgap, two_folders):
    done = modgap("compare", f"ours={two_folders[0]}", f"theirs={two_folders[1]}")
    assert done.returncode == 0
    assert "ours has the lowest error" in done.stdout
    refused(modgap("compare", f"x={two_folders[0]}", f"x={two_folders[0]}"), 1, "Pass each folder once")


def refused(done, code, *messages):
    """Check that a command ended with one line that contains the messages."""
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("modgap: ")
    assert done.stderr.count("\n") == 1
    for message in messages:
        assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 5}, "one half of the samples and those of"),
        ({"splits": 7}, "Run both with the same --splits and --seed"),
        ({"seed": 3}, "Run both with the same --splits and --seed"),
        ({"weight": "classes"}, "have different weights: samples and classes. Run both with the same --weight"),
        ({"n_samples": 80}, "has 90 samples of your logits, and"),
        ({"divisor": 2}, "have 3 and 2 target classes"),
    ],
)
def test_results_that_are_not_comparable_are_refused(modgap, folders_of_options, options, message):
    folders = [folders_of_options(True), folders_of_options(False, **options)]
    refused(modgap("compare", *folders), 1, *map(str, folders), message)


def test_sources_that_have_copies_of_samples_are_compared_over_the_units_of_both(logits, tmp_path):
    options = {"trials": 50, "permutations": 0, "threads": 1, "estimators": ("soft",)}
    for weight, groups in ((None, None), ("samples", None), (None, np.arange(90) // 2)):
        results, folders = [], []
        for name, copied in (("none", []), ("one", [0]), ("other", [2, 40])):
            array = logits[0 if name == "none" else 1].copy()
            array[[row + 2 for row in copied]] = array[copied]
            folder = tmp_path / f"{name}-{weight}-{groups is None}"
            folder.mkdir()
            results.append(package.estimate(array, logits[2], groups=groups, weight=weight, **options))
            results[-1].write(folder)
            folders.append(folder)
        expected = (87, "sample") if groups is None else (42, "group")
        for compared in (package.compare(*results), package.compare(*folders)):
            assert (compared.main.n_units, compared.main.unit) == expected
            assert [pair.difference.interval is not None for pair in compared.main.pairs] == [True] * 3


def test_errors_with_and_without_blocks_of_groups_are_in_one_file(logits, tmp_path):
    options = {"trials": 50, "permutations": 0, "threads": 1, "groups": np.arange(90) // 3}
    results = [package.estimate(array, logits[2], **options) for array in logits[:2]]
    folders = [tmp_path / "first", tmp_path / "second"]
    for result, folder in zip(results, folders, strict=True):
        folder.mkdir()
        result.write(folder)
    for estimator in ("soft", "search"):
        expected = package.compare(*results, estimator=estimator).main.pairs[0].difference
        found = package.compare(*folders, estimator=estimator).main.pairs[0].difference
        assert found.interval == pytest.approx(expected.interval)
        assert (results[0].result.tested_samples.errors[estimator].without is None) == (estimator == "search")


def test_the_estimator_that_all_folders_have_is_compared(modgap, folders_of_options):
    soft = folders_of_options(False, estimators=("soft",))
    assert "by held-out error (soft)" in modgap("compare", folders_of_options(True), soft).stdout
    search = folders_of_options(False, estimators=("search",))
    refused(modgap("compare", soft, search), 1, "have no estimator in common")
    refused(modgap("compare", soft, search, "--estimator", "soft"), 1, "has no errors of the estimator soft")


def test_the_folder_of_the_command_is_compared(modgap, own_logits, two_folders, tmp_path):
    done = modgap("discrepancy", "--logits", own_logits, "--trials", 50, "--permutations", 0, "--splits", 10,
                  "--threads", 1, "--out", tmp_path / "command")  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = modgap("compare", tmp_path / "command", two_folders[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert "command has the lowest error" in done.stdout


def test_records_without_errors_of_samples_are_refused(modgap, two_folders, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(two_folders[1], old)
    (old / "samples.npz").unlink()
    refused(modgap("compare", two_folders[0], old), 1, "no samples.npz", "Run again: modgap discrepancy --logits")
    record = read_json(old / "result.json")
    (old / "result.json").write_text(json.dumps({**record, "schema": 1}))
    refused(modgap("compare", two_folders[0], old), 1, "(schema 1)", "Run again: modgap discrepancy --logits")
    refused(modgap("compare", two_folders[0], old / "result.json"), 1, "a record has no errors of samples")
    refused(modgap("compare", two_folders[0], two_folders[1] / "samples.npz"), 1, "Pass the folder")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"kind": "discrepancy", "schema": 2}', '{"kind": "x"}', '{"a": NaN}', "[" * 100_000],
)
def test_damaged_records_are_refused(modgap, two_folders, text):
    (two_folders[1] / "result.json").write_text(text)
    refused(modgap("compare", *two_folders), 1, str(two_folders[1] / "result.json"))


def test_kinds_of_results_are_not_mixed(modgap, two_folders, errors_csv):
    refused(modgap("compare", two_folders[0], errors_csv), 1, "is a discrepancy and", "compare them separately")
    refused(modgap("compare", errors_csv, "--estimator", "soft"), 2, "applies to folders of modgap discrepancy")
    refused(modgap("compare", two_folders[0]), 1, "errors of one system only (first)")


def test_a_system_that_is_missing_on_a_target_is_named(modgap, errors_csv, tmp_path):
    frame = pd.read_csv(errors_csv)
    frame.drop(columns="older").to_csv(tmp_path / "walk.csv", index=False)
    refused(modgap("compare", errors_csv, tmp_path / "walk.csv"), 1, "There are no errors of older on walk")


def write_run(folder, method, errors, target="digits", metric="0-1 error %", **settings):
    """Write the folder of a finished run, without its weights."""
    result = {"metric": metric, "test": 0.0, **settings.pop("result", {})}
    record = {"kind": "run", "method": method, "source": "vit", "target": target, "protocol": "validation",
              "provenance": {"target": {"files": {"x": "1"}}}, "result": result, **settings}  # fmt: skip
    folder.mkdir()
    if errors is not None:
        columns = {f"{method} vit": SampleErrors(errors, np.full(len(errors), 1 / len(errors)), np.arange(len(errors)),
                                                 errors[:1], None, 0)}  # fmt: skip
        samples = SampleFile(np.arange(len(errors)), np.zeros(len(errors), int), None, columns, 10, None)
        write_sample_file(folder / "samples.npz", samples)
    write_record(folder, record)
    return folder


def test_runs_are_compared_by_method_and_source(modgap, tmp_path):
    errors = random_errors({"mona": 0.2, "scratch": 0.6})
    folders = [write_run(tmp_path / name, name, values) for name, values in errors.items()]
    done = modgap("compare", *folders)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 systems by test error rate, digits: 300 samples, lower is better" in done.stdout
    assert "The variation between seeds is not in the intervals." in done.stdout
    again = write_run(tmp_path / "seed-1", "mona", errors["scratch"])
    assert "mona vit (seed-1)" in modgap("compare", *folders, again).stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"result": None}, "is not finished. Resume it: modgap train --method mona"),
        (
            {"errors": None, "result": {"no_sample_errors": "The metric 1 - AUROC is not a mean."}},
            "The metric 1 - AUROC",
        ),
        ({"protocol": "orca"}, "different protocol: validation and orca"),
        ({"metric": "nRMSE"}, "the test error rate and"),
        ({"provenance": {"target": {"files": {"x": "2"}}}}, "its files or labels have changed in between"),
        ({"errors": np.zeros(20)}, "has 300 samples of digits, and"),
    ],
)
def test_runs_that_are_not_comparable_are_refused(modgap, tmp_path, settings, message):
    errors = random_errors({"a": 0.3, "b": 0.4})
    first = write_run(tmp_path / "first", "scratch", errors["a"])
    settings = {"errors": errors["b"], **settings}
    if settings.get("result", {}) is None:
        settings.pop("result")
        other = write_run(tmp_path / "other", "mona", **settings)
        write_record(other, {**read_json(other / "run.json"), "result": None})
    else:
        other = write_run(tmp_path / "other", "mona", **settings)
    refused(modgap("compare", first, other), 1, message)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        (
            "distortion.json",
            {
                "kind": "distortion",
                "source": "vit",
                "request": {"probes": ["linear"]},
                "surrogates": [{"name": "digits", "samples": {}}],
            },
        ),
        (
            "ranking.json",
            {
                "kind": "ranking",
                "target": {"name": "digits"},
                "by": "leep-held-out",
                "score_descriptions": {"leep-held-out": {"label": "held-out LEEP", "higher_is_better": True}},
            },
        ),
    ],
)
def test_folders_with_a_column_for_each_system(modgap, tmp_path, name, record):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / name).write_text(json.dumps(record))
    refused(modgap("compare", folder), 1, "There is no samples.npz in", "Run again: modgap")
    weights = np.full(300, 1 / 300)
    columns = {
        system: SampleErrors(errors, weights, np.arange(300), errors[:2], None, 0)
        for system, errors in random_errors({"vit untouched": 0.3, "vit mona": 0.5}).items()
    }
    samples = SampleFile(np.arange(300), np.zeros(300, int), None, columns, 10, None)
    write_sample_file(folder / "samples.npz", samples)
    done = modgap("compare", folder)
    assert done.returncode == 0, done.stderr
    assert ", digits: 300 samples, lower is better\n\nvit untouched " in done.stdout
    assert ("by minus held-out LEEP, digits" in done.stdout) == (name == "ranking.json")
    refused(modgap("compare", f"x={folder}"), 2, "x= does not apply to")


def run_data(n_samples, groups=None, task="classification"):
    """Data of a target as far as the test of a model needs it."""
    labels = np.arange(n_samples) % 2
    return SimpleNamespace(
        groups=groups,
        train=np.arange(n_samples),
        test=np.arange(n_samples),
        output=SimpleNamespace(task=task, shape=(2,)),
        table=SimpleNamespace(labels=labels),
    )


@pytest.mark.parametrize(("n_groups", "reason"), [(7, "7 test groups are too few (at least 8)"), (8, None)])
def test_a_run_has_no_interval_below_eight_test_groups(tmp_path, n_groups, reason):
    errors = make_metric("0-1 error %")
    errors.update(np.eye(2)[np.arange(40) % 3 % 2], np.arange(40) % 2)
    data = run_data(40, groups=np.arange(40) % n_groups)
    result = evaluate_metric(errors, data, seed=0)
    assert result["no_interval"] == reason
    assert np.isnan(result["interval"]).all() == (reason is not None)
    write_sample_errors(tmp_path, errors, data, "mona vit")
    samples = read_sample_file(tmp_path / "samples.npz")
    (name, column), *others = samples.errors.items()
    assert (name, others) == ("mona vit", [])
    assert 100 * column.errors.mean() == pytest.approx(result["test"])
    assert len(np.unique(samples.groups)) == n_groups


def test_the_answer_says_why_there_is_no_interval():
    result = {
        "metric": "0-1 error %",
        "unit": "%",
        "test": 12.5,
        "interval": [None, None],
        "left_out": 0,
        "epoch": None,
    }
    result["no_interval"] = "7 test groups are too few (at least 8)"
    record = {"method": "emb", "source": "vit", "target": "t", "seed": 0, "protocol": "validation", "result": result}
    answer = run_answer({**record, "samples": {"train": 20, "test": 40}})
    assert answer.headline == "The test 0-1 error is 12.5 %. Lower is better."
    assert answer.checks[0].sentence == "7 test groups are too few (at least 8)."


RANDOM = np.random.default_rng(0).random((20, 3))


@pytest.mark.parametrize(
    ("name", "task", "outputs", "y", "has_errors"),
    [
        ("1 - mAP", "multi-label", RANDOM, np.arange(60).reshape(20, 3) % 4 // 2, False),
        ("1 - F1", "classification", RANDOM, np.arange(20) % 2, False),
        ("RMSE", "regression", RANDOM, np.zeros((20, 3)), True),
        ("RMSE", "regression", RANDOM[:, None], np.zeros((20, 1, 3)), True),
    ],
)
def test_metrics_that_are_no_means_over_samples_have_no_errors_of_samples(tmp_path, name, task, outputs, y, has_errors):
    errors = make_metric(name)
    errors.update(outputs, y)
    data = run_data(20, task=task)
    result = evaluate_metric(errors, data, seed=0)
    write_sample_errors(tmp_path, errors, data, "mona vit")
    assert (tmp_path / "samples.npz").exists() == has_errors
    assert (result["no_sample_errors"] is None) == has_errors
    if not has_errors:
        assert f"The metric {name} is not a mean over samples" in result["no_sample_errors"]


def test_a_ranking_by_another_score_is_refused(modgap, tmp_path):
    record = {"kind": "ranking", "schema": 2, "target": {"name": "digits"}, "by": "logme"}
    (tmp_path / "ranking.json").write_text(json.dumps(record))
    refused(modgap("compare", tmp_path), 1, "by logme, which is not an error by sample", "--by discrepancy")


def test_probe_errors_by_encoder_have_one_file_for_each_surrogate():
    errors = SampleErrors(np.zeros(12), np.full(12, 1 / 12), np.arange(12) // 2, np.zeros(5), None, 0)
    encoder = SimpleNamespace(label="vit untouched", first_probe=SimpleNamespace(errors=errors))
    result = SimpleNamespace(encoders=[encoder, encoder], labels=np.arange(12) % 3, classes=("a", "b", "c"))
    samples = probe_sample_file(result)
    assert list(samples.errors) == ["vit untouched", "vit untouched (1)"]
    assert samples.groups.tolist() == errors.units.tolist()
    assert [numbered_sample_file(0, 1), numbered_sample_file(1, 2)] == ["samples.npz", "samples-2.npz"]


# Files of errors of samples


def hostile_archives():
    """Yield name and writer of files that are no samples.npz, or try to do harm."""

    def archive(**arrays):
        def write(path):
            np.savez(path, **{**VALID, **arrays})

        return write

    def bomb(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stream:
            stream.writestr("id.npy", bytes(1 << 22))

    def huge_shape(path):
        header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
        with zipfile.ZipFile(path, "w") as stream:
            stream.writestr("id.npy", header.ljust(127) + b"\n" + bytes(64))

    yield "empty", lambda path: path.write_bytes(b"")
    yield "text", lambda path: path.write_text("hello")
    yield "pickle", archive(id=np.array([{"a": 1}] * 10, object))
    yield "bomb", bomb
    yield "huge shape", huge_shape
    yield "short weights", archive(weight=np.ones(3))
    yield "nan weights", archive(weight=np.full(10, np.nan))
    yield "no errors", archive(error=np.full((1, 10), np.nan))
    yield "infinite error", archive(error=np.full((1, 10), np.inf))
    yield "huge label", archive(label=np.full(10, 1 << 60))
    yield "negative label", archive(label=np.full(10, -1))
    yield "average", archive(split_average=np.full((1, 2), np.nan))
    yield "names", archive(name=np.array(["a", "a"]), error=np.zeros((2, 10)), split_average=np.zeros((2, 1)))
    yield "version", archive(version=np.array(99))
    yield "texts", archive(error=np.array([["x"] * 10]))


VALID = {
    "version": np.array(1), "id": np.arange(10), "label": np.zeros(10, int), "group": np.full(10, -1),
    "weight": np.full(10, 0.1), "name": np.array(["a"]), "error": np.zeros((1, 10)),
    "split_average": np.zeros((1, 1)), "split_seed": np.array(0), "n_classes": np.array(2), "per_class": np.array(0),
    "mean_over_classes": np.array(False),
}  # fmt: skip


def test_the_valid_archive_is_read(tmp_path):
    np.savez(tmp_path / "samples.npz", **VALID)
    assert list(read_sample_file(tmp_path / "samples.npz").errors) == ["a"]


@pytest.mark.parametrize(("name", "write"), list(hostile_archives()), ids=lambda value: str(value)[:20])
def test_hostile_archives_are_refused(modgap, tmp_path, monkeypatch, name, write):
    monkeypatch.setattr(sample_file, "MOST_BYTES", 1 << 20)
    folder = write_run(tmp_path / "run", "mona", None)
    write(folder / "samples.npz")
    refused(modgap("compare", folder, folder), 1, "samples.npz")


def test_a_truncated_archive_is_refused_wherever_it_ends(tmp_path):
    np.savez_compressed(tmp_path / "samples.npz", **VALID)
    content = (tmp_path / "samples.npz").read_bytes()
    rng = np.random.default_rng(0)
    for size in rng.integers(0, len(content), 40):
        (tmp_path / "samples.npz").write_bytes(content[:size])
        with pytest.raises(InputError):
            read_sample_file(tmp_path / "samples.npz")


def test_changed_bytes_give_an_error_of_modgap_or_nothing(tmp_path):
    np.savez_compressed(tmp_path / "samples.npz", **VALID)
    content = (tmp_path / "samples.npz").read_bytes()
    rng = np.random.default_rng(1)
    n_refused = 0
    for position in rng.integers(0, len(content), 150):
        changed = bytearray(content)
        changed[position] ^= 1 << int(rng.integers(8))
        (tmp_path / "samples.npz").write_bytes(changed)
        try:
            read_sample_file(tmp_path / "samples.npz")
        except InputError:
            n_refused += 1
    assert n_refused > 75


# Rows of pandas objects


@pytest.fixture(scope="module")
def paired():
    """Errors of two systems that share the difficulty of the samples, with the names of the samples."""
    rng = np.random.default_rng(0)
    difficulty = rng.random(200)
    errors = {"ours": difficulty, "theirs": difficulty + rng.normal(0.02, 0.05, 200)}
    return pd.DataFrame(errors, index=[f"sample {number}" for number in range(200)])


def p_value(*results, **options):
    return package.compare(*results, **options).main.pairs[0].difference.p_value


def test_series_are_aligned_by_their_index(paired):
    shuffled = paired["theirs"].sample(frac=1, random_state=0)
    arrays = {name: column.to_numpy() for name, column in paired.items()}
    expected = p_value(arrays)
    assert expected < 0.01
    assert p_value({"ours": paired["ours"], "theirs": shuffled}) == expected
    assert p_value({"ours": paired["ours"], "theirs": shuffled.to_numpy()}) > 0.5
    without_names = {name: column.reset_index(drop=True) for name, column in paired.items()}
    assert p_value(without_names) == expected
    assert p_value({**without_names, "theirs": without_names["theirs"].sample(frac=1, random_state=0)}) == expected


def test_groups_are_aligned_by_their_index(paired):
    groups = pd.Series(np.arange(200) // 4, index=paired.index)
    expected = p_value(dict(paired.items()), groups=groups)
    assert p_value(dict(paired.items()), groups=groups.sample(frac=1, random_state=1)) == expected
    assert p_value(dict(paired.items()), groups=groups.to_numpy()) == expected


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda column: column.rename(lambda name: f"{name}x"),
            "the array 'ours' and the array 'theirs' do not have the",
        ),
        (lambda column: column.rename(lambda name: "same"), "do not have the same labels, each once"),
        (lambda column: column.reset_index(drop=True), "do not have the same labels, each once"),
    ],
)
def test_series_that_cannot_be_aligned_are_refused(paired, other, message):
    with pytest.raises(InputError) as error:
        package.compare({"ours": paired["ours"], "theirs": other(paired["theirs"])})
    assert message in str(error.value)


def test_a_shuffled_series_beside_an_array_is_refused(paired):
    errors = {**dict(paired.items()), "theirs": paired["theirs"].sample(frac=1), "third": paired["ours"].to_numpy()}
    with pytest.raises(InputError, match="different orders, and the array 'third' has no index"):
        package.compare(errors)


@pytest.mark.parametrize("name", ["case", None])
def test_the_index_of_a_frame_identifies_its_samples(paired, name):
    result = package.compare(paired.rename_axis(name)).main
    assert result.pairs[0].difference.p_value == p_value({n: c.to_numpy() for n, c in paired.items()})
    twice = pd.concat([paired, paired.head(1)]).rename_axis(name)
    with pytest.raises(InputError, match="'sample 0' occurs twice"):
        package.compare(twice)


def test_an_index_without_a_name_is_no_identifier_beside_one():
    errors = random_errors({"ours": 0.25, "theirs": 0.5}, n=40)
    frame = pd.DataFrame({"number": np.arange(40).astype(str), **errors})
    for index in (np.arange(40) / 2, pd.date_range("2020", periods=40), [f"row {i}" for i in range(40)]):
        compared = package.compare(frame.set_axis(index))
        assert {one.name for one in compared.main.systems} == {"ours", "theirs"}


# CSV files of other tools


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"id": [1, 1, 2], "a": [0, 1, 0]}, "'1' occurs twice"),
        ({"id": [1, None, 2], "a": [0, 1, 0]}, "Row 3 of"),
        ({"id": [1, 2, 3], "a": [0, 1, None]}, "Row 4 of"),
        ({"id": [1, 2, 3], "a": ["x", "y", "z"]}, "values that are not numbers"),
        ({"id": [1, 2, 3]}, "no column of errors"),
        ({"id": [1, 2, 3], "group": [1, 2, 3]}, "no column of errors"),
        ({"id": [1, 2, 3], "group": [1, None, 3], "a": [1, 2, 3]}, "has no group"),
        ({"id": [1, 2, 3], "a": [0, 1, np.inf]}, "no finite error"),
        ({"id": [1, 2, 3], "a": [0, 1, 0]}, "errors of one system only (a)"),
    ],
)
def test_files_of_errors_with_another_layout_are_refused(modgap, tmp_path, frame, message):
    pd.DataFrame(frame).to_csv(tmp_path / "errors.csv", index=False)
    refused(modgap("compare", tmp_path / "errors.csv"), 1, message)


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 50, b"id,a,b\n", b'id,a\n"1,2\n', b"id,a,b\n1,2\n1,2,3,4\n"])
def test_damaged_files_of_errors_are_refused(modgap, tmp_path, content):
    (tmp_path / "errors.csv").write_bytes(content)
    refused(modgap("compare", tmp_path / "errors.csv", "--quiet"), 1, "errors.csv")


def test_groups_identifiers_and_semicolons_of_a_file(modgap, tmp_path):
    errors = random_errors({"größer": 0.3, "smaller": 0.35}, n=64)
    frame = pd.DataFrame({**errors, "Group": [f"p{i // 4}" for i in range(64)], "sample": range(64)})
    frame.to_csv(tmp_path / "gait.csv", index=False, sep=";", encoding="latin-1")
    done = modgap("compare", f"walking={tmp_path / 'gait.csv'}", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "2 systems by error, walking: 64 samples, 16 groups, lower is better" in done.stdout
    assert "größer" in done.stdout
    of_frame = package.compare(frame).main
    assert of_frame.n_units == 16


def test_six_files_are_six_targets(modgap, tmp_path):
    paths = []
    for number in range(6):
        errors = random_errors({"ours": 0.3, "theirs": 0.5}, seed=number)
        paths.append(tmp_path / f"target{number}.csv")
        pd.DataFrame({"id": range(300), **errors}).to_csv(paths[-1], index=False)
    done = modgap("compare", *paths)
    assert "Student's t over the differences on 6 targets" in done.stdout
    rows = list(csv.DictReader(io.StringIO(modgap("compare", *paths, "--format", "csv").stdout)))
    assert [row["target"] for row in rows] == ["all targets", *(f"target{number}" for number in range(6))]
    assert rows[0]["unit"] == "target"


# Formats


@pytest.fixture(scope="module")
def tricky():
    rates = {name: 0.1 + 0.06 * number for number, name in enumerate(TRICKY_NAMES)}
    return package.compare(random_errors(rates, n=120))


def test_csv_keeps_names_and_protects_spreadsheets(tricky):
    rows = list(csv.DictReader(io.StringIO(tricky.to_text("csv"))))
    assert len(rows) == 28
    names = {row["first"] for row in rows} | {row["second"] for row in rows}
    assert names == {f"'{name}" if name.startswith("=") else name for name in TRICKY_NAMES}
    frame = tricky.to_frame()
    assert [float(row["difference"]) for row in rows] == pytest.approx(frame["difference"].tolist(), abs=1e-6)


def test_json_is_strict(tricky):
    def fail(name):
        raise AssertionError(name)

    record = json.loads(tricky.to_text("json"), parse_constant=fail)
    assert len(record["targets"][0]["pairs"]) == 28
    assert record["targets"][0]["pairs"][0]["corrected_p_value"] == tricky.main.pairs[0].corrected_p_value
    with pytest.raises(UsageError, match="Did you mean latex"):
        tricky.to_text("latx")


def test_markdown_tables_have_as_many_cells_as_columns(tricky):
    lines = [line for line in tricky.to_text("markdown").splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) - 1 for line in lines]
    assert cells == [4] * 10 + [5] * (2 + 28 + 7)
    assert "<b>" not in tricky.to_text("markdown")


def test_text_is_at_most_80_characters_wide(tricky):
    assert max(map(len, answer_text(comparison_answer(tricky)).splitlines())) <= 80


def check_latex(text):
    """Check braces, environments, and the number of cells of each row."""
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    open_environments = []
    n_columns = 0
    for line in lines:
        bare = re.sub(r"\\.", "", line)
        assert bare.count("{") == bare.count("}"), line
        assert not set(bare) - {"$"} & set("#%^_~"), line
        assert bare.count("$") % 2 == 0, line
        for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", line):
            if kind == "begin":
                open_environments.append(name)
            else:
                assert open_environments.pop() == name
        if layout := re.search(r"\\begin\{tabular\}\{([lr]+)\}", line):
            n_columns = len(layout[1])
        if line.endswith(r"\\"):
            assert bare.count("&") == n_columns - 1, line
            assert open_environments == ["table", "tabular"]
        else:
            assert "&" not in bare
    assert open_environments == []


def test_latex_is_well_formed(tricky):
    check_latex(tricky.to_text("latex"))
    assert "中文" in tricky.to_text("latex")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b", r"a\_b"),
        ("a--b", "a-{}-b"),
        ("\\", r"\textbackslash{}"),
        ("é", "é"),
        ("−1", "$-$1"),
        ("a\nb", "a b"),
        ("\x07", " "),
    ],
)
def test_characters_of_latex(text, expected):
    assert escape_latex(text) == expected


def has_booktabs():
    """Return True if there is a LaTeX with the package that the tables use, which many minimal LaTeXs lack."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_booktabs(), reason="pdflatex or its package booktabs is not installed")
def test_latex_compiles_with_the_characters_of_latin(tricky, tmp_path):
    characters = [chr(code) for code in (*range(0x20, 0x7F), *range(0xC0, 0x100))]
    document = (
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}\\begin{document}\n"
        f"{tricky.to_text('latex')}\n{' '.join(map(escape_latex, characters))}\n\\end{{document}}\n"
    )
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").exists()


# Figure, command and Python


def test_figures_show_a_bar_for_systems_that_do_not_differ(tricky):
    main = tricky.main
    axes = tricky.plot().axes[0]
    bars = [line for line in axes.lines if not line.get_clip_on()]
    assert len(bars) == sum(len(members) > 1 for members in main.groups)
    assert marks(axes, "o") == pytest.approx([one.mean.value for one in main.systems])
    np.testing.assert_allclose(intervals(axes), [one.mean.interval for one in main.systems])


def test_figures_show_long_names_in_full():
    names = [f"random:timm:efficientnet_lite0@{size}px" for size in (32, 64, 128)]
    figure = package.compare(random_errors(dict.fromkeys(names, 0.4))).plot()
    assert_readable(figure)
    assert set(names) <= set(all_text(figure).split("\n"))


def test_the_figure_over_targets_shows_differences_by_target():
    targets = [random_errors({"a": 0.3, "b": 0.5}, seed=i) for i in range(6)]
    result = package.compare(*targets)
    axes = result.plot().axes[0]
    expected = [one["b"].mean() - one["a"].mean() for one in targets]
    frame = result.to_frame("comparison")
    assert frame.loc[frame["series"] == "target", "value"].tolist() == pytest.approx(expected)
    ticks = next(one for one in axes.collections if len(one.get_paths()) == len(targets))
    assert [path.vertices[0, 0] for path in ticks.get_paths()] == pytest.approx(expected)


def test_every_drawn_interval_over_targets_is_that_of_the_record():
    result = package.compare(*(random_errors({"a": 0.5, "b": 0.3, "c": 0.6}, seed=i) for i in range(6)))
    record = result.to_dict()["over_targets"]
    first = record["systems"][0]["name"]
    # A pair is the first system minus the other, and the figure has the other minus the first.
    expected = [[-end for end in reversed(pair["interval"])] for pair in record["pairs"] if pair["first"] == first]
    assert len(expected) == 2
    np.testing.assert_allclose(intervals(comparison_figure(result).axes[0]), expected)


def test_the_command_writes_a_figure(modgap, errors_csv, tmp_path):
    done = modgap("compare", errors_csv, "--figure", tmp_path / "figure.svg")
    assert done.returncode == 0
    assert (tmp_path / "figure.svg").read_text().count("ours")
    assert "Mean errors: ours " in " ".join((tmp_path / "figure.txt").read_text().split())
    refused(modgap("compare", errors_csv, "--figure", "figure.gif"), 2, "must end with .png, .svg, .pdf")
    refused(modgap("compare", errors_csv, "--figure", errors_csv / "x.png"), 1, "Cannot write")


@pytest.mark.long
def test_the_command_in_a_process_of_its_own(modgap_process, errors_csv):
    done = modgap_process("compare", errors_csv)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[1] == "3 systems by error, gait: 300 samples, lower is better"
    assert lines[3].startswith("ours ")
    refused(modgap_process("compare", errors_csv.with_name("nosuch")), 1, "nosuch does not exist")
    assert modgap_process("compare").returncode == 2


def test_python_refuses_what_is_no_result():
    with pytest.raises(UsageError, match="Argument 1 is of type int"):
        package.compare(3)
    with pytest.raises(UsageError, match="There is nothing to compare"):
        package.compare()
    with pytest.raises(InputError, match=r"The errors of b have shape \(3,\)"):
        package.compare({"a": [1, 2], "b": [1, 2, 3]})
    with pytest.raises(UsageError, match="`groups` applies to one mapping"):
        package.compare({"a": [1], "b": [2]}, {"a": [1], "b": [2]}, groups=[0])
    with pytest.raises(UsageError, match=r"^`estimator=.soft.` applies to folders"):
        package.compare({"a": [1], "b": [2]}, estimator="soft")


def test_a_result_shows_itself_in_a_notebook(tricky):
    html = tricky._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert repr(tricky).startswith("<ComparisonResult: 50%_more & {less} has the lowest error on your errors;")
