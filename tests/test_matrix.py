"""The matrix of many targets: equal to the rankings one by one; its comparisons against scipy and under the null."""

import contextlib
import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import modgap
from modgap.errors import InputError, UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend
from modgap.ranking import jobs as rank_jobs
from modgap.ranking.field_baselines import BaselineJob
from modgap.ranking.matrix.answer import help_statement, judge_matrix, matrix_answer
from modgap.ranking.matrix.formats import to_csv, to_latex
from modgap.ranking.matrix.over_targets import compare_over_targets, compare_scores, sign_test_p_values, targets_needed
from modgap.ranking.matrix.rankings import list_row_jobs, rank_targets, targets_of_names
from modgap.ranking.plan import plan_ranking
from modgap.ranking.rank import rank
from modgap.ranking.types import RankRequest
from modgap.statistics.multiple_comparisons import MOST_LETTERED
from modgap.storage.json_records import format_json, read_json
from modgap.targets import TargetRequest
from tests.backend_jobs import dask_cluster
from tests.commands import run_in_process
from tests.matrices import file_contents, make_matrix, make_measure
from tests.small_hub import small_hub  # noqa: F401 - fixture

VIT, CNN = "hf:small/vit", "hf:small/resnet"
TEXTS = """
schema = 1
name = "texts"
title = "Words"
modality = "text"
task = "classification"
[input]
kind = "text"
[reader]
name = "csv"
options = { kind = "text", text_column = "text", label_column = "label" }
[[files]]
role = "data"
path = "texts.csv"
"""
CHEAP = (
    "--input-size", "32", "--by", "knn", "--score", "knn", "--resamples", "0", "--no-controls", "--baselines", "none",
)  # fmt: skip


@pytest.fixture(name="sources")
def small_sources(hub):
    hub("vit")
    hub("resnet")
    return VIT, CNN


def small_target(folder, number):
    path = folder / f"target{number}.npz"
    rng = np.random.default_rng(number)
    labels = np.repeat(np.arange(3), 12)
    images = rng.random((36, 1, 12, 12), np.float32) + 0.3 * labels[:, None, None, None]
    np.savez(path, x=images.astype(np.float32), y=labels)
    return str(path)


def run(targets, *arguments, code=0, where=("--jobs", "1")):
    """Rank sources for some targets in this process."""
    named = [argument for target in targets for argument in ("--target", target)]
    done = run_in_process("rank", *named, *arguments, *where)
    assert done.returncode == code, done.stderr
    return done


def job_counts(text):
    """Numbers of jobs that were computed, came from the cache, and failed, in the last line of a command."""
    numbers = [int(word) for word in text.splitlines()[-1].split() if word.isdecimal()]
    return (*numbers, 0)[:3]


def test_the_matrix_is_that_of_the_rankings_one_by_one(sources, tmp_path, own_cache):
    targets = [small_target(tmp_path, number) for number in range(3)]
    names = f"{VIT},{CNN},hf:absent/model"
    out = ("--out", tmp_path / "out")
    record = json.loads(run(targets[:2], "--sources", names, *CHEAP, *out, "--json", code=1).stdout)
    assert record == read_json(tmp_path / "out" / "matrix.json")
    assert {one["name"] for one in record["sources"]} == {VIT, CNN, "hf:absent/model"}
    assert {(one["source"], one["target"]) for one in record["reasons"]} == {
        ("hf:absent/model", target) for target in targets[:2]
    }
    assert record["failed_jobs"] == 2
    for column, target in enumerate(targets[:2]):
        alone = rank(target, [VIT, CNN], replace(SMALL, baselines="quick"), Backend(1))
        assert alone.jobs["features"].computed == 0
        rows = record["measures"][0]["values"]
        values = {one["name"]: row[column] for one, row in zip(record["sources"], rows, strict=True)}
        for row, value in zip(alone.rows, alone.tables["knn"].standings.values, strict=True):
            if row.name in (VIT, CNN):
                assert values[row.name] == value
    assert sorted(path.name for path in (tmp_path / "out" / "001-target0.npz").iterdir()) == [
        "ranking.csv", "ranking.json", "samples.npz",
    ]  # fmt: skip
    # With one target more, only its jobs are run, and the job that failed is repeated.
    table = run(targets, "--sources", names, *CHEAP, code=1).stdout
    assert job_counts(table) == (2, 4, 3)
    assert "3 sources, 3 targets" in table
    assert "No difference over targets can be significant: 6 targets are needed" in " ".join(table.split())


SMALL = RankRequest(
    ("knn",), "knn", resamples=0, samples=SampleRequest(input_size=32, split="train", limit=2000), controls=False,
    baselines="none",
)  # fmt: skip


@pytest.mark.parametrize("engine", ["loky", pytest.param("dask", marks=pytest.mark.long)])
def test_a_matrix_that_was_interrupted_has_the_bytes_of_one_process(engine, tmp_path, monkeypatch):
    targets = [small_target(tmp_path, number) for number in range(2)]
    # The jobs of two sources and of two baselines on each target.
    names = ("random:timm:test_vit", "random:timm:test_resnet")
    quick = (*CHEAP, "--baselines", "quick")
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "one"))
    run(targets, "--sources", ",".join(names), *quick, "--out", tmp_path / "alone")
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "two"))
    run(targets[1:], "--sources", names[0], *quick)
    with dask_cluster() if engine == "dask" else contextlib.nullcontext() as address:
        where = ("--address", address) if address else ("--jobs", "2")
        shown = run(targets, "--sources", ",".join(names), *quick, "--out", tmp_path / "again", where=where).stdout
    assert job_counts(shown) == (5, 3, 0)
    assert file_contents(tmp_path / "again") == file_contents(tmp_path / "alone")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "wine", "--pilot", "1"), "Rank the targets one by one."),
        (("--target", "wine", "--out", "x", "--format", "svg"), "--format applies to one target"),
        (("--target", "wine", "--label", "x"), "--label applies to one target, and several were named. Describe data"),
        (("--target", "wine", "--data-dir", "x"), "Say where data lies with modgap data path."),
        (("--target", "wines"), "Did you mean wine"),
        (("--target", "@absent.txt"), "Cannot read the list of targets absent.txt"),
        (("--target", "wine", "--pseudo-classes", "3"), "all of these have classes"),
    ],
)  # fmt: skip
def test_options_that_do_not_apply_are_refused(arguments, message, own_cache):
    done = run_in_process("rank", "--target", "digits", "--sources", "vit-fashion", *arguments)
    assert done.returncode == (1 if "Cannot read" in message else 2)
    assert message in " ".join(done.stderr.split())


def test_names_of_files_are_absolute(sources, tmp_path, own_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        small_target(tmp_path, number)
    (tmp_path / "targets.txt").write_text("target0.npz  # the first\n\ntarget1.npz\n")
    (tmp_path / "model").mkdir()
    names = "model@32px,random:model"
    done = run(["@targets.txt"], "--sources", f"{names},{VIT}", *CHEAP, "--json", code=1)
    record = json.loads(done.stdout)
    assert [one["name"] for one in record["targets"]] == [f"{tmp_path}/target{number}.npz" for number in range(2)]
    expected = {f"{tmp_path}/model@32px", f"random:{tmp_path}/model", VIT}
    assert {one["name"] for one in record["sources"]} == expected


def test_pseudo_classes_apply_to_the_targets_with_real_values(sources, tmp_path, own_cache):
    classes = small_target(tmp_path, 0)
    values = tmp_path / "values.npz"
    arrays = np.load(classes)
    np.savez(values, x=arrays["x"], y=arrays["y"] + np.random.default_rng(0).random(36))
    matrix = rank_targets(targets_of_names([classes, str(values)], 3), [VIT], SMALL, Backend(1))
    assert np.isfinite(matrix.values).all()
    assert [ranking.requested.pseudo_classes for ranking in matrix.rankings.values()] == [None, 3]


def test_pools_stand_for_their_sources_and_targets(sources, tmp_path, own_cache, monkeypatch):
    targets = [small_target(tmp_path, number) for number in range(2)]
    for module in ("modgap.ranking.source_patterns", "modgap.api.ranking"):
        monkeypatch.setattr(f"{module}.diverse_targets", lambda: targets)
        monkeypatch.setattr(f"{module}.diverse_sources", lambda: [VIT, CNN])
    record = json.loads(run(["@diverse"], "--sources", "@diverse", *CHEAP, "--json").stdout)
    assert [one["name"] for one in record["targets"]] == targets
    assert {one["name"] for one in record["sources"]} == {VIT, CNN}
    options = {"scores": ("knn",), "resamples": 0, "controls": False, "baselines": "none", "jobs": 1}
    for target, names in (("@diverse", "@diverse"), (["@diverse", targets[0]], [CNN, "@diverse"])):
        matrix = modgap.rank(target, names, **options, input_size=32)
        assert list(matrix.rankings) == targets
        assert set(matrix.to_frame()["source"]) == {VIT, CNN}


def test_rows_that_a_target_cannot_have_are_no_failures(hub, tmp_path, own_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = [f"{' '.join(rng.choice(['red', 'green', 'blue'], 5))},{number % 2}" for number in range(40)]
    for number in range(2):
        (tmp_path / "texts.csv").write_text("\n".join(["text,label", *lines]))
        (tmp_path / f"texts{number}.toml").write_text(TEXTS)
    hub("bert-texts")
    scores = ("--by", "knn", "--score", "knn", "--resamples", "0", "--no-controls", "--baselines", "none")
    shown = run(["texts0.toml", "texts1.toml"], "--sources", "hf:small/bert-texts", *scores).stdout
    # Both targets have the same samples.
    assert job_counts(shown) == (1, 1, 0)
    assert "Failed jobs" not in shown


def test_a_matrix_of_cached_results_computes_nothing(sources, tmp_path, own_cache):
    targets = [small_target(tmp_path, number) for number in range(2)]
    run(targets, "--sources", f"{VIT},{CNN}", *CHEAP)
    before = sorted(own_cache.rglob("*"))
    matrix = rank_targets(targets_of_names(targets), [VIT, CNN], SMALL, Backend(1))
    assert sorted(own_cache.rglob("*")) == before
    assert (np.isfinite(matrix.values).all(), matrix.jobs) == (True, (0, 4, 0))
    options = "--by knn --input-size 32 --resamples 0 --baselines none --no-controls --score knn"
    assert " ".join(matrix.options) == options
    assert matrix.to_dict()["options"] == list(matrix.options)


def test_a_machine_whose_jobs_run_on_a_cluster_needs_no_device(sources, tmp_path, own_cache, monkeypatch):
    """The results of the workers are here those that the cache had before."""
    targets = [small_target(tmp_path, number) for number in range(2)]
    request = replace(SMALL, samples=replace(SMALL.samples, device="cuda:7"))
    run(targets, "--sources", f"{VIT},{CNN}", *CHEAP)
    monkeypatch.setattr(Backend, "_run_on_dask", lambda _, jobs, device: enumerate(job() for job in jobs))
    matrix = rank_targets(targets_of_names(targets), [VIT, CNN], request, Backend(address="127.0.0.1:9"))
    assert (np.isfinite(matrix.values).all(), matrix.jobs) == (True, (0, 4, 0))
    assert {ranking.request.samples.device for ranking in matrix.rankings.values()} == {"cuda:7"}


def test_a_baseline_that_failed_is_not_fitted_again(sources, tmp_path, own_cache, monkeypatch, caplog):
    targets = [small_target(tmp_path, number) for number in range(2)]
    request = replace(SMALL, baselines="quick")
    fitted, compute = [], BaselineJob._compute

    def fail_once(job):
        fitted.append((job.target.name, job.baseline))
        if job.baseline == fitted[0][1]:
            raise InputError("The disk is gone.")
        return compute(job)

    monkeypatch.setattr(BaselineJob, "_compute", fail_once)
    matrix = rank_targets(targets_of_names(targets), [VIT], request, Backend(1))
    assert len(fitted) == len(set(fitted))
    assert matrix.failed == 0
    assert {ranking.request.baselines for ranking in matrix.rankings.values()} == {"quick"}
    for target in targets:
        assert f"is left out on {target}: The disk is gone." in caplog.text


def test_a_target_that_cannot_be_read_leaves_the_others(sources, tmp_path, own_cache):
    targets = [small_target(tmp_path, number) for number in range(2)]
    np.savez(targets[0], x=np.zeros((9, 1, 4, 4), np.float32), y=np.zeros(9, int))
    arguments = ("--sources", VIT, *CHEAP)
    shown = " ".join(run(targets, *arguments, code=1).stdout.split())
    assert "target0.npz cannot be ranked. The first reason: The target has one class." in shown
    done = run([targets[0], targets[0].replace("0", "0")], *arguments, code=1)
    assert "The target has one class." in done.stderr


def test_a_target_on_which_all_sources_failed_is_named(sources, tmp_path, own_cache, monkeypatch):
    targets = [small_target(tmp_path, number) for number in range(2)]
    arguments = ("--sources", VIT, *CHEAP)
    with monkeypatch.context() as patch:
        prepare = rank_jobs.prepare_extraction

        def prepare_but_one(source, target, request):
            if "target0" in target.name:
                raise InputError("The disk is gone.")
            return prepare(source, target, request)

        patch.setattr(rank_jobs, "prepare_extraction", prepare_but_one)
        shown = " ".join(run(targets, *arguments, code=1).stdout.split())
    assert "Targets without a source. On target0.npz all sources failed, so there is no column." in shown
    assert "1 job failed. To repeat what failed, run the command again. The first reason: The disk is gone." in shown
    shown = run(targets, *arguments).stdout
    assert job_counts(shown) == (1, 1, 0)
    assert "Failed jobs" not in shown


def test_if_all_jobs_failed_the_command_says_why(tmp_path, own_cache):
    targets = [small_target(tmp_path, number) for number in range(2)]
    done = run(targets, "--sources", "hf:absent/model", *CHEAP, code=1)
    assert "hf:absent/model" in done.stderr
    assert done.stderr.count("\n") == 1


def test_results_that_cannot_be_stored_are_failures(sources, tmp_path, own_cache, monkeypatch):
    targets = [small_target(tmp_path, number) for number in range(2)]
    arguments = ("--sources", VIT, *CHEAP)
    with monkeypatch.context() as patch:
        patch.setattr("modgap.storage.cache.store", lambda *_arguments: None)
        assert "The results could not be written to the cache" in run(targets, *arguments, code=1).stderr
    assert job_counts(run(targets, *arguments).stdout)[2] == 0


def test_jobs_have_the_rows_of_a_ranking_source_by_source(tmp_path):
    targets = [small_target(tmp_path, number) for number in range(2)]
    request = RankRequest(("knn",), baselines="none")
    plans = [plan_ranking(TargetRequest(name), [VIT, "timm:some"], request, Backend(1)) for name in targets]
    jobs = list_row_jobs(plans)
    assert [job.source for job in jobs[::2]] == [VIT, "timm:some", f"random:{VIT}", "random:timm:some"]
    assert [job.target.name for job in jobs] == targets * 4
    assert [job.requested for job in jobs[::2]] == [True, True, False, False]


def test_several_targets_in_python_give_a_matrix_that_displays_itself(sources, tmp_path, own_cache):
    targets = [small_target(tmp_path, number) for number in range(2)]
    options = {
        "by": "knn",
        "scores": ("knn",),
        "resamples": 0,
        "controls": False,
        "baselines": "none",
    }
    matrix = modgap.rank(targets, [VIT, CNN], **options, input_size=32, jobs=1)
    assert list(matrix.rankings) == targets
    assert repr(matrix).startswith("<MatrixResult: If you transfer, use ")
    assert "mean rank" in str(matrix)
    assert list(matrix.to_frame().columns[:2]) == ["source", "mean_rank"]
    assert matrix._repr_html_().count("<tr>") == 3
    assert matrix.to_dict()["kind"] == "matrix"
    with pytest.raises(UsageError, match="`pilot` applies to one target, and `target` is a list"):
        modgap.rank(targets, [VIT], pilot=2)
    with pytest.raises(UsageError, match="No target was named"):
        modgap.rank([], [VIT])


# Comparisons


def ranks_of(values):
    return np.apply_along_axis(stats.rankdata, 0, values)


@pytest.mark.parametrize(("n_sources", "n_targets"), [(4, 8), (4, 9), (2, 13), (4, 40)])
def test_p_values_are_those_of_binomial_tests_with_holms_correction(n_sources, n_targets):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n_sources, n_targets)).round(1) + np.array([0, 0.3, 1.5, 1.5])[:n_sources, None]
    ranks = ranks_of(values)
    order, standings = compare_over_targets(list("abcd")[:n_sources], ranks)
    assert [one.mean_rank for one in standings] == sorted(ranks.mean(axis=1).tolist())
    pairs = [(i, j) for i in range(n_sources) for j in range(i + 1, n_sources)]
    wins = [(values[order[i]] < values[order[j]]).sum() for i, j in pairs]
    losses = [(values[order[i]] > values[order[j]]).sum() for i, j in pairs]
    plain = [stats.binomtest(won, won + lost).pvalue for won, lost in zip(wins, losses, strict=True)]
    steps = np.maximum.accumulate(np.sort(plain) * np.arange(len(pairs), 0, -1)).clip(max=1)
    corrected = steps[stats.rankdata(plain, "max").astype(int) - 1]
    for j in range(1, n_sources):
        number = pairs.index((0, j))
        if standings[j].p_value is None:
            # The two are equal on too many targets.
            assert wins[number] + losses[number] < targets_needed(n_sources)
            assert corrected[number] > 0.05
        else:
            assert standings[j].p_value == pytest.approx(corrected[number])
    for (i, j), p_value in zip(pairs, corrected, strict=True):
        assert (not set(standings[i].letters) & set(standings[j].letters)) == (p_value < 0.05)


def test_a_comparison_does_not_depend_on_the_other_sources():
    """A is better than B on 8 of 12 targets, and other sources lie between them where A is better."""
    values = np.zeros((7, 12))
    values[0], values[1] = np.where(np.arange(12) < 8, 1, 0), np.where(np.arange(12) < 8, 0, 1)
    values[2:, :8], values[2:, 8:] = 0.5, 2
    p_value = stats.binomtest(8, 12).pvalue
    assert sign_test_p_values(ranks_of(-values[:2])[:1] - ranks_of(-values[:2])[1:])[0] == pytest.approx(p_value)
    ranks = ranks_of(-values)
    assert sign_test_p_values(ranks[:1] - ranks[1:2])[0] == pytest.approx(p_value)


def test_a_source_that_wins_on_most_targets_is_not_beaten_by_one_with_a_lower_mean_rank():
    """B is first on 24 of 25 targets and last on one, where A is first; A is second elsewhere."""
    rng = np.random.default_rng(0)
    ranks = np.array([np.r_[np.full(24, 2), 1], np.r_[np.ones(24), 26]])
    others = np.array([rng.permutation(np.arange(3, 27)) for _ in range(24)] + [np.arange(2, 26)]).T
    values = -np.vstack([ranks, others]).astype(float)
    names = ["A", "B", *(f"s{i}" for i in range(24))]
    matrix = make_matrix([make_measure("leep", values)], names, [f"t{i}" for i in range(25)])
    verdict = judge_matrix(matrix)
    assert (verdict.first, verdict.choice, verdict.ahead) == (("A",), "tie", ("B",))
    headline, choice, *_ = matrix_answer(matrix).sentences
    assert headline == "No single source suits all targets: B is better on most, but A has the lowest mean rank."
    assert "B is better on significantly more targets." in choice


def test_sources_that_were_not_compared_leave_the_choice_unknown():
    values = np.random.default_rng(0).normal(size=(3, 12)) + np.array([9, 8.9, 0])[:, None]
    values[0] = values[1] + 0.1
    values[1, 3] = np.nan
    matrix = make_matrix([make_measure("leep", values)], ["a", "b", "c"], list("tuvwxyz01234"))
    verdict = judge_matrix(matrix)
    assert (verdict.choice, verdict.untested) == ("unknown", ("b",))
    assert "It is unknown whether it is better than b, because values are missing" in " ".join(sentences(matrix))


def test_targets_whose_differences_are_unknown_do_not_count_as_clear():
    values = np.array([[0.5, 0.5], [0.5000001, 0.4], [0.49, 0.3]])
    matrix = make_matrix([make_measure("knn", values, higher_is_better=False)], list("abc"), ["t", "u"])
    unknown = replace(matrix, columns=tuple(replace(one, choice="unknown") for one in matrix.columns))
    verdict = judge_matrix(unknown)
    assert (verdict.compared, verdict.among_best) == (0, 0)
    assert "among the best" not in " ".join(sentences(unknown))
    assert "targets-that-do-not-separate" not in {check.id for check in verdict.checks}
    half = replace(matrix, columns=(matrix.columns[0], replace(matrix.columns[1], choice="unknown")))
    assert "of 1 target whose sources have intervals" in " ".join(sentences(half))


@pytest.mark.parametrize("n_targets", [9, 20])
def test_equal_sources_differ_in_at_most_one_of_twenty_matrices(n_targets):
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(300):
        _, standings = compare_over_targets(list("abcde"), ranks_of(rng.normal(size=(5, n_targets))))
        found += any(not set(one.letters) & set(other.letters) for one in standings for other in standings)
    # 95 % of binomial counts with 300 tries at 5 % are at most 21.
    assert found <= 21


def test_a_source_without_values_somewhere_is_ranked_and_not_tested():
    ranks = ranks_of(np.arange(24.0).reshape(3, 8) * [[1], [2], [3]])
    ranks[1, :3] = np.nan
    ranks[2, :3] = 2
    _, standings = compare_over_targets(["a", "b", "c"], ranks)
    by_name = {one.source: one for one in standings}
    assert by_name["b"].n_targets == 5
    assert by_name["b"].p_value is None
    assert by_name["b"].letters == ""
    # On the three targets it takes the rank that is left.
    assert by_name["b"].mean_rank == pytest.approx((3 * 3 + 5 * 2) / 8)


def test_many_sources_are_compared_with_the_first_alone():
    rng = np.random.default_rng(0)
    size = MOST_LETTERED + 1
    _, standings = compare_over_targets([f"s{i}" for i in range(size)], ranks_of(rng.normal(size=(size, 20))))
    assert all(one.letters == "" for one in standings)
    assert sum(one.p_value is not None for one in standings) == size - 1


# Formats


@pytest.fixture(name="matrix")
def matrix_of_hostile_names():
    measure = make_measure("knn", [[0.1, 0.2], [0.3, np.nan]], higher_is_better=False, margin=0.05)
    names = ["=HYPERLINK(1)", "vit_b & co"]
    return make_matrix([measure], names, ["a", "b"], reasons={("vit_b & co", "b"): "no weights"})


def test_csv_has_all_values_and_no_formula(matrix):
    rows = list(csv.DictReader(io.StringIO(to_csv(matrix))))
    assert [row["source"] for row in rows] == ["'=HYPERLINK(1)", "vit_b & co"]
    assert (rows[0]["a"], rows[1]["b"], rows[1]["rank a"], rows[1]["targets"]) == ("0.1", "", "2", "1")


def test_json_is_strict_and_latex_is_escaped(matrix):
    record = json.loads(format_json(matrix.to_dict()), parse_constant=lambda _: pytest.fail("NaN"))
    assert record["measures"][0]["values"][1] == [0.3, None]
    latex = to_latex(matrix)
    assert r"vit\_b \& co" in latex
    assert "0.100*" in latex
    assert latex.count(r"\\") == 3


def sentences(matrix):
    return matrix_answer(matrix).sentences


def test_sentences_of_few_targets_say_that_nothing_is_tested(matrix):
    headline, choice, *others = sentences(matrix)
    assert headline == "Start with =HYPERLINK(1): no other source is significantly better on any of the 2 targets."
    assert choice.startswith("Which source is best overall? Unknown. =HYPERLINK(1) has the lowest mean rank, 1.0 of 2.")
    needed = "6 targets are needed for so many sources, and there are 2."
    assert f"Few targets: No difference over targets can be significant: {needed}" in others
    assert f"It is unknown how certain that is: {needed}" in choice


@pytest.mark.parametrize(("n_targets", "label"), [(10, "Unknown"), (11, "Clear")])
def test_ten_sources_on_ten_targets_are_unknown(n_targets, label):
    """The smallest p-value on ten targets, 45 / 2**9 = .088 after the correction, cannot be significant."""
    values = np.random.default_rng(0).normal(size=(10, n_targets)) + 9 * np.arange(10)[:, None]
    names, targets = [f"s{i}" for i in range(10)], [f"t{i}" for i in range(n_targets)]
    answer = sentences(make_matrix([make_measure("leep", values)], names, targets))
    assert answer[1].startswith(f"Which source is best overall? {label}. ")
    assert "not significantly better" not in " ".join(answer)
    assert ("11 targets are needed for so many sources, and there are 10." in answer[1]) == (n_targets == 10)


def test_sources_that_are_equal_on_too_many_targets_are_unknown():
    """Two sources differ on five of eight targets, where six are needed."""
    values = np.stack([np.ones(8), np.where(np.arange(8) < 5, 0.0, 1.0)])
    matrix = make_matrix([make_measure("leep", values)], ["a", "b"], list("tuvwxyz0"))
    assert matrix.standings[1].p_value is None
    assert "It is unknown whether it is better than b, because values are missing, or equal" in sentences(matrix)[1]


def test_targets_needed_is_the_smallest_number_that_can_be_significant():
    for n_sources in (2, 3, 6, 10, 61):
        needed, n_pairs = targets_needed(n_sources), n_sources * (n_sources - 1) / 2
        p_values = sign_test_p_values(np.ones((2, needed)) * [[1], [1]])
        assert n_pairs * p_values[0] <= 0.05
        assert 2 * n_pairs * p_values[0] > 0.05


def test_a_source_that_is_best_everywhere_is_clear():
    values = np.random.default_rng(0).normal(size=(3, 12)) + np.array([9, 0, 0])[:, None]
    matrix = make_matrix([make_measure("leep", values)], ["a", "b", "c"], list("tuvwxyz01234"))
    headline, choice, *_ = sentences(matrix)
    assert headline == "Over these targets, a is significantly better than each other source by LEEP."
    assert choice == (
        "Which source is best overall? Clear. a has the lowest mean rank, 1.0 of 3, and is significantly better than "
        "each of the others. a is among the best on 12 of 12 targets. First on a target: a on 12."
    )


def test_sources_that_win_on_different_targets_are_tied():
    values = np.eye(4)[:, np.arange(12) % 4] * 5 + np.random.default_rng(0).normal(size=(4, 12))
    headline, choice, *others = sentences(
        make_matrix([make_measure("leep", values)], list("abcd"), list("tuvwxyz01234"))
    )
    assert headline.startswith("No single source suits all targets; ")
    assert "Which source is best overall? First, with ties. " in choice
    assert "on 3" in choice
    assert not any(text.startswith("Targets that do not separate") for text in others)


def test_equal_values_and_sources_without_a_value_have_their_own_headlines():
    same = make_matrix([make_measure("leep", np.ones((2, 3)))], ["a", "b"], ["t", "u", "v"])
    assert sentences(same)[0] == "No source stands out: a and b share the lowest mean rank."
    none = make_matrix([make_measure("leep", np.full((2, 3), np.nan))], ["a", "b"], ["t", "u", "v"])
    assert sentences(none)[0] == "No source has a value."
    alone = make_matrix([make_measure("leep", np.ones((1, 3)))], ["a"], ["t", "u", "v"])
    assert sentences(alone)[0] == "a is the only source."
    doubtful = make_matrix([make_measure("leep", [[2.0, 2.0], [1.0, 1.0]])], ["a", "b"], ["t", "u"], help_="doubtful")
    assert sentences(doubtful)[0].startswith("If you transfer, use a: no other source is significantly better on any")
    harmful = make_matrix([make_measure("leep", np.ones((2, 3)))], ["a", "b"], ["t", "u", "v"], help_="no")
    assert sentences(harmful)[0].startswith("Random weights or a baseline of the field are better on every target")


@pytest.mark.parametrize(
    ("answers", "label"),
    [
        ({"likely": 2, "no": 1}, "By scores, on most targets"),
        ({"likely": 1, "doubtful": 2}, "On some targets"),
        ({"doubtful": 2, "no": 1}, "Not shown"),
        ({"doubtful": 1, "no": 2}, "No, on most targets"),
        ({}, "Not tested"),
    ],
)
def test_the_answer_over_targets_says_how_many_transfer_helps_on(answers, label):
    matrix = make_matrix([make_measure("leep", np.ones((2, 3)))], ["a", "b"], ["t", "u", "v"])
    assert help_statement(replace(judge_matrix(matrix), help=answers)).label == label


def test_scores_agree_as_much_as_kendalls_tau_says():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    second[0, 0] = np.nan
    found = compare_scores(make_measure("leep", first), [make_measure("knn", second, higher_is_better=False)], 4)
    taus = [stats.kendalltau(first[known, t], -second[known, t]).statistic
            for t in range(7) for known in [np.isfinite(second[:4, t]).nonzero()[0]]]  # fmt: skip
    assert found[0].tau == pytest.approx(np.mean(taus))
    assert found[0].n_targets == 7
    best = [np.nanargmin(second[:4, t]) == first[:4, t][np.isfinite(second[:4, t])].argmax() for t in range(1, 7)]
    assert found[0].same_first - sum(best) in (0, 1)
