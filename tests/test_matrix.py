"""The matrix of many targets: equal to the rankings one by one; its comparisons against scipy and under the null."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import scipy
from scipy import stats

from modgap.forward.sample_request import SampleRequest
from modgap.matrix.comparison import compare_over_targets, compare_scores
from modgap.matrix.formats import to_csv, to_json, to_latex
from modgap.matrix.gather import gather
from modgap.matrix.job_list import read_job_list
from modgap.matrix.ranking_jobs import estimate_seconds, plan_jobs
from modgap.matrix.sentences import matrix_sentences
from modgap.matrix.signed_rank import signed_rank_p_values
from modgap.matrix.verdict import judge_matrix
from modgap.ranking.backends import Backend
from modgap.ranking.letters import MOST_LETTERED
from modgap.ranking.rank import rank
from modgap.ranking.types import RankRequest
from tests.commands import run_in_process
from tests.matrices import make_matrix, make_measure
from tests.small_hub import small_hub  # noqa: F401 - fixture

SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))
VIT, CNN = "hf:small/vit", "hf:small/resnet"
CHEAP = ("--input-size", "32", "--by", "knn", "--score", "knn", "--resamples", "0", "--no-controls")


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


def run(*arguments, code=0):
    done = run_in_process(*arguments)
    assert done.returncode == code, done.stderr
    return done


def counted(text):
    """Numbers of jobs in the last line of a worker: here, failed, elsewhere."""
    words = text.split()
    return int(words[0]), int(words[words.index("here,") + 1]), int(words[words.index("by") - 1])


def test_the_matrix_is_that_of_the_rankings_one_by_one(sources, tmp_path, own_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    targets = [small_target(tmp_path, number) for number in range(3)]
    names = f"{VIT},{CNN},hf:absent/model"
    planned = run("plan", "--targets", ",".join(targets[:2]), "--sources", names, *CHEAP, "--out", "jobs.jsonl")
    assert "8 jobs written to jobs.jsonl: 2 targets, each with 4 rows." in planned.stdout
    assert counted(run("worker", "jobs.jsonl", code=1).stdout) == (8, 2, 0)
    gathered = run("plan", "--gather", "jobs.jsonl", "--results", "out", "--as", "json")
    record = json.loads(gathered.stdout)
    assert record == json.loads((tmp_path / "out" / "matrix.json").read_text())
    assert {one["name"] for one in record["sources"]} == {VIT, CNN, "hf:absent/model"}
    assert {(one["source"], one["target"]) for one in record["reasons"]} == {
        ("hf:absent/model", target) for target in targets[:2]
    }
    # Targets are planned with absolute paths, and their rankings are those of modgap rank.
    jobs = read_job_list(tmp_path / "jobs.jsonl")
    for column, target in enumerate(targets[:2]):
        alone = rank(target, [VIT, CNN], jobs.request, Backend("serial"))
        assert alone.jobs["features"].computed == 0
        rows = record["measures"][0]["values"]
        values = {one["name"]: row[column] for one, row in zip(record["sources"], rows, strict=True)}
        for row, value in zip(alone.rows, alone.tables["knn"].standings.values, strict=True):
            if row.name in (VIT, CNN):
                assert values[row.name] == value
    assert sorted(path.name for path in (tmp_path / "out" / "001-target0.npz").iterdir()) == [
        "ranking.csv", "ranking.json", "samples.npz",
    ]  # fmt: skip
    # With one target and one source more, only their jobs are run.
    run("plan", "--targets", ",".join(targets), "--sources", names, *CHEAP, "--out", "jobs.jsonl")
    assert counted(run("worker", "jobs.jsonl", code=1).stdout) == (4, 1, 8)
    table = run("plan", "--gather", "jobs.jsonl").stdout
    assert "3 sources on 3 targets" in table
    assert "Differences over targets are tested from 6 targets on; there are 3." in " ".join(table.split())


def test_options_that_do_not_apply_are_refused(sources, tmp_path, own_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        (("plan",), ""),
        (("plan", "--out", "jobs.jsonl"), "A plan needs --targets, --sources and --out"),
        (("plan", "--gather", "jobs.jsonl"), "Cannot read the list of jobs"),
        (("plan", "--gather", "jobs.jsonl", "--out", "x"), "--out does not apply to --gather"),
        (("plan", "--results", "x", "--out", "jobs.jsonl"), "--results applies to --gather"),
        (("plan", "--targets", "digit", "--sources", VIT, "--out", "jobs.jsonl"), "digits"),
        (("worker", "jobs.jsonl"), "Cannot read the list of jobs"),
        (("worker", "jobs.jsonl", "--lease", "0"), "--lease is 0"),
    ):
        done = run_in_process(*arguments)
        assert done.returncode == (2 if done.returncode == 2 else 1)
        assert message in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_no_finished_job_is_a_message(sources, tmp_path, own_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("plan", "--targets", small_target(tmp_path, 0), "--sources", VIT, *CHEAP, "--out", "jobs.jsonl")
    done = run_in_process("plan", "--gather", "jobs.jsonl")
    assert (done.returncode, "No job of jobs.jsonl is finished" in done.stderr) == (1, True)


def test_jobs_have_the_rows_of_a_ranking():
    jobs = plan_jobs(["a", "b"], ["vit-fashion", "timm:some"], RankRequest())
    assert [job.source for job in jobs if job.target == "a"] == [
        "vit-fashion", "timm:some", "random:vit-fashion", "random:timm:some", "raw",
    ]  # fmt: skip
    seconds = {job.source: job.seconds for job in jobs}
    assert seconds["timm:some"] is None
    assert seconds["random:vit-fashion"] == seconds["vit-fashion"] > seconds["raw"] > 0


def test_estimates_grow_with_samples_and_size():
    request = RankRequest()
    small, large = (estimate_seconds(f"efficientnet-lite0@{size}px", request) for size in (64, 128))
    few = estimate_seconds("efficientnet-lite0@64px", replace(request, samples=SampleRequest(limit=100)))
    assert few < small < large < estimate_seconds("efficientnet-lite0", request)
    assert estimate_seconds("crepe-tiny", request) < estimate_seconds("crepe", request)
    assert estimate_seconds("hf:absent/model", request) is None


# Comparisons


def ranks_of(values):
    return np.apply_along_axis(stats.rankdata, 0, values)


@pytest.mark.skipif(SCIPY < (1, 13), reason="scipy before 1.13 has no exact test with ties")
@pytest.mark.parametrize(("n_sources", "n_targets"), [(4, 6), (4, 9), (2, 13), (2, 14), (4, 40)])
def test_p_values_are_those_of_scipy_with_holms_correction(n_sources, n_targets):
    rng = np.random.default_rng(0)
    ranks = ranks_of(rng.normal(size=(n_sources, n_targets)) + np.array([0, 0.3, 1.5, 1.5])[:n_sources, None])
    order, standings = compare_over_targets(list("abcd")[:n_sources], ranks)
    assert [one.mean_rank for one in standings] == sorted(ranks.mean(axis=1).tolist())
    pairs = [(i, j) for i in range(n_sources) for j in range(i + 1, n_sources)]
    # Between the two, scipy has an approximation for ties unless all permutations are asked for.
    method = stats.PermutationMethod(n_resamples=1 << 15) if n_targets == 14 else "auto"
    plain = [stats.wilcoxon(ranks[order[i]], ranks[order[j]], method=method).pvalue for i, j in pairs]
    steps = np.maximum.accumulate(np.sort(plain) * np.arange(len(pairs), 0, -1)).clip(max=1)
    corrected = steps[stats.rankdata(plain, "max").astype(int) - 1]
    for j in range(1, n_sources):
        assert standings[j].p_value == pytest.approx(corrected[pairs.index((0, j))])
    for (i, j), p_value in zip(pairs, corrected, strict=True):
        assert (not set(standings[i].letters) & set(standings[j].letters)) == (p_value < 0.05)


@pytest.mark.parametrize("n_targets", [8, 20])
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
    _, standings = compare_over_targets([f"s{i}" for i in range(size)], ranks_of(rng.normal(size=(size, 9))))
    assert all(one.letters == "" for one in standings)
    assert sum(one.p_value is not None for one in standings) == size - 1


# Formats


@pytest.fixture(name="matrix")
def matrix_of_hostile_names():
    measure = make_measure("knn", [[0.1, 0.2], [0.3, np.nan]], higher_is_better=False, margin=0.05)
    names = ["=HYPERLINK(1)", "vit_b & co"]
    return make_matrix([measure], names, ["a", "b"], reasons={("vit_b & co", "b"): "no weights"}, missing=3)


def test_csv_has_all_values_and_no_formula(matrix):
    rows = list(csv.DictReader(io.StringIO(to_csv(matrix))))
    assert [row["source"] for row in rows] == ["'=HYPERLINK(1)", "vit_b & co"]
    assert (rows[0]["a"], rows[1]["b"], rows[1]["rank a"], rows[1]["targets"]) == ("0.1", "", "2", "1")


def test_json_is_strict_and_latex_is_escaped(matrix):
    record = json.loads(to_json(matrix), parse_constant=lambda _: pytest.fail("NaN"))
    assert record["measures"][0]["values"][1] == [0.3, None]
    assert record["missing_jobs"] == 3
    latex = to_latex(matrix)
    assert r"vit\_b \& co" in latex
    assert "0.100*" in latex
    assert latex.count(r"\\") == 3


def sentences(matrix):
    return matrix_sentences(judge_matrix(matrix))


def test_sentences_of_few_targets_say_that_nothing_is_tested(matrix):
    headline, choice, *others = sentences(matrix)
    assert headline == "Use =HYPERLINK(1): no source is significantly better on any of the 2 targets."
    assert choice.startswith("Which source is best overall? Unknown: =HYPERLINK(1) has the lowest mean rank, 1.0 of 2.")
    assert "Unfinished: 3 jobs of the plan are not finished; gather again later." in others
    assert "Few targets: Differences over targets are tested from 6 targets on; there are 2." in others


def test_a_source_that_is_best_everywhere_is_clear():
    values = np.random.default_rng(0).normal(size=(3, 12)) + np.array([9, 0, 0])[:, None]
    matrix = make_matrix([make_measure("leep", values)], ["a", "b", "c"], list("tuvwxyz01234"))
    headline, choice, *_ = sentences(matrix)
    assert headline == "Over these targets, a is significantly better than each other source."
    assert choice == (
        "Which source is best overall? Clear: a has the lowest mean rank, 1.0 of 3, and is significantly better than "
        "each of the others. a is among the best on 12 of 12 targets. First on a target: a on 12."
    )


def test_sources_that_win_on_different_targets_are_tied():
    values = np.eye(4)[:, np.arange(12) % 4] * 5 + np.random.default_rng(0).normal(size=(4, 12))
    headline, choice, *others = sentences(
        make_matrix([make_measure("leep", values)], list("abcd"), list("tuvwxyz01234"))
    )
    assert headline.startswith("No single source suits all targets; ")
    assert "Which source is best overall? First, with ties: " in choice
    assert "on 3" in choice
    assert not any(text.startswith("Targets that do not separate") for text in others)


def test_equal_values_and_sources_without_a_value_have_their_own_headlines():
    same = make_matrix([make_measure("leep", np.ones((2, 3)))], ["a", "b"], ["t", "u", "v"])
    assert sentences(same)[0] == "No source stands out: a and b share the lowest mean rank."
    none = make_matrix([make_measure("leep", np.full((2, 3), np.nan))], ["a", "b"], ["t", "u", "v"])
    assert sentences(none)[0] == "No source has a value; the reasons are below."
    alone = make_matrix([make_measure("leep", np.ones((1, 3)))], ["a"], ["t", "u", "v"])
    assert sentences(alone)[0] == "a is the only source."
    doubtful = make_matrix([make_measure("leep", [[2.0, 2.0], [1.0, 1.0]])], ["a", "b"], ["t", "u"], help_="doubtful")
    assert sentences(doubtful)[0].startswith("If you transfer, use a: no source is significantly better on any")
    harmful = make_matrix([make_measure("leep", np.ones((2, 3)))], ["a", "b"], ["t", "u", "v"], help_="no")
    assert sentences(harmful)[0] == "Do not transfer from these sources; train from scratch."


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


@pytest.mark.parametrize("n_targets", [1, 5, 12])
def test_the_signed_rank_test_tries_all_signs(n_targets):
    differences = np.random.default_rng(n_targets).integers(-4, 5, (60, n_targets)) / 2
    signs = np.array(np.meshgrid(*[[-1, 1]] * n_targets)).reshape(n_targets, -1).T
    for row, p_value in zip(differences, signed_rank_p_values(differences), strict=True):
        kept = row[row != 0]
        ranks = np.zeros(n_targets)
        ranks[row != 0] = stats.rankdata(np.abs(kept))
        sums = np.abs(signs @ ranks)
        assert p_value == (sums >= abs((np.sign(row) * ranks).sum())).mean()


def test_gather_needs_no_worker_of_its_own(sources, tmp_path, own_cache, monkeypatch):
    """Results that another machine computed into the same cache are gathered here."""
    monkeypatch.chdir(tmp_path)
    target = small_target(tmp_path, 0)
    run("plan", "--targets", target, "--sources", f"{VIT},{CNN}", *CHEAP, "--out", "jobs.jsonl")
    run("worker", "jobs.jsonl")
    matrix, rankings = gather(read_job_list(tmp_path / "jobs.jsonl"))
    assert [column.name for column in matrix.columns] == [target]
    assert rankings[target].jobs["features"].computed == 0
