"""Tests of subsamples, intervals and pairs, of jobs on every backend, and of the commands."""

import itertools
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

import modgap
from modgap import jobs as engine
from modgap.api.pages.ranking_page import render_ranking
from modgap.api.pages.write import write_page
from modgap.errors import InputError, UsageError
from modgap.forward import probe_head
from modgap.forward.logits import LogitsRequest, source_logits
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import LOST, Backend, Failure
from modgap.ranking import extraction
from modgap.ranking.answer import ranking_answer, ranking_table, scores_table
from modgap.ranking.cross_validation import prediction_error
from modgap.ranking.extraction import extract, find_surrogate
from modgap.ranking.jobs import ErrorsJob, ScoreJob
from modgap.ranking.rank import count_permutations, rank
from modgap.ranking.report import to_csv
from modgap.ranking.report_details import ReportDetails, correct_p_values
from modgap.ranking.score import ErrorOptions
from modgap.ranking.score_sources import score_sources
from modgap.ranking.scores import get_score, score_names
from modgap.ranking.source_outputs import SourceOutputs, load_source_outputs
from modgap.ranking.source_patterns import parse_source_names
from modgap.ranking.standings import (
    SPREAD_FACTOR,
    Standings,
    compute_error_standings,
    compute_standings,
    subsample,
)
from modgap.ranking.types import BASELINE, CONTROL, RankRequest, SourceRow
from modgap.sources import open_source
from modgap.statistics.intervals import estimate_mean
from modgap.statistics.paired import paired_difference
from modgap.statistics.sample_file import read_sample_file
from modgap.targets import TargetRequest, open_target
from tests.backend_jobs import Killer, Place, Square, Variables, dask_cluster
from tests.commands import run_in_process
from tests.forked_commands import ForkedCommand
from tests.ranking_records import make_ranking
from tests.test_cli import refused, strict

VIT, CNN = "random:timm:test_vit", "random:timm:test_resnet"
CHEAP = ("leep", "nce", "knn", "size")
SMALL = RankRequest(scores=CHEAP, resamples=4, samples=SampleRequest(input_size=32))


def scores_and_pairs(ranking):
    """Return all scores, intervals and pairs, which are compared bit for bit."""
    record = ranking.to_dict()
    return [(row["source"], row["reason"], row["scores"]) for row in record["sources"]], record["pairs"]


# Subsamples and standings


def test_subsamples_are_stratified_keep_groups_together_and_depend_on_seed_and_number_only():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 20, 10])
    plain = SourceOutputs(rng.standard_normal((70, 2)), labels)
    rows = subsample(plain, 3, 1)
    assert np.bincount(labels[rows]).tolist() == [36, 18, 9]
    np.testing.assert_array_equal(rows, subsample(SourceOutputs(np.zeros((70, 9)), labels), 3, 1))
    assert not np.array_equal(rows, subsample(plain, 3, 2))
    groups = np.arange(70) // 5
    chosen = subsample(SourceOutputs(np.zeros((70, 1)), labels, groups=groups), 0, 0)
    assert all(np.isin(np.flatnonzero(groups == g), chosen).all() for g in np.unique(groups[chosen]))


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_standings_equal_those_of_a_plain_loop(higher_is_better):
    rng = np.random.default_rng(1)
    values, resampled = np.array([3.0, 1.0, np.nan, 1.0]), rng.standard_normal((4, 30)) * 0.1
    standings = compute_standings(values, resampled, higher_is_better=higher_is_better)
    assert standings.ranks.tolist() == ([1, 2, 0, 2] if higher_is_better else [3, 1, 0, 1])
    for a in (0, 1, 3):
        expected = values[a] + resampled[a].std(ddof=1) * stats.t.ppf([0.025, 0.975], 29)
        np.testing.assert_allclose(standings.intervals[a], expected)
        for b in {0, 1, 3} - {a}:
            spread = (resampled[a] - resampled[b]).std(ddof=1)
            gap = (values[a] - values[b]) * (1 if higher_is_better else -1)
            assert standings.win_probabilities[a, b] == pytest.approx(stats.t.cdf(gap / spread, 29))
    assert np.isnan(standings.win_probabilities[2]).all()
    assert standings.tied_with(1).tolist() == [3]
    assert standings.order()[-1] == 2


def test_equal_sources_differ_significantly_in_five_percent_of_cases():
    rng, n_significant = np.random.default_rng(4), 0
    for _ in range(400):
        truth = rng.standard_normal((2, 1)) * 0.1
        standings = compute_standings(truth[:, 0], truth + 0.1 * rng.standard_normal((2, 12)), higher_is_better=True)
        n_significant += len(standings.tied_with(0)) == 0
    assert 0.02 <= n_significant / 400 <= 0.09


def test_rank_intervals_agree_with_ties():
    rng = np.random.default_rng(7)
    values = np.array([0.1, 0.12, 0.3, 0.9])
    standings = compute_standings(values, values[:, None] + 0.03 * rng.standard_normal((4, 20)), higher_is_better=False)
    assert standings.tied_with(0).tolist() == [1]
    assert standings.rank_intervals.tolist() == [[1, 2], [1, 2], [3, 3], [4, 4]]


def test_values_that_differ_by_rounding_only_are_equal():
    values = np.array([3.0, 3.0 * (1 + 1e-12), 3.1])
    resampled = np.random.default_rng(0).standard_normal((1, 20)) + np.array([[0], [1e-13], [0.0]])
    standings = compute_standings(values, resampled, higher_is_better=True)
    assert standings.ranks.tolist() == [2, 2, 1]
    assert standings.win_probabilities[0, 1] == 0.5


def standings_of(values, p_values):
    """Return standings in which lower is better, with these p-values of all pairs."""
    shape = (len(values), len(values), 2)
    intervals = np.full((len(values), 2), np.nan)
    return Standings(np.array(values), intervals, np.full(shape, np.nan), np.array(p_values), higher_is_better=False)


def test_comparisons_are_corrected_for_the_number_of_all_pairs():
    p_values = np.ones((4, 4))
    for pair, p_value in {(0, 1): 0.03, (0, 2): 0.02, (0, 3): 0.001, (1, 2): 0.04, (1, 3): 0.008, (2, 3): 0.01}.items():
        p_values[pair] = p_values[pair[::-1]] = p_value
    standings = standings_of([0.1, 0.2, 0.3, 0.4], p_values)
    np.testing.assert_allclose(standings.corrected_p_values[1:], [0.06, 0.06, 0.006])
    assert np.isnan(standings.corrected_p_values[0])
    assert standings.tied_with(0).tolist() == [1, 2]
    # Of six pairs, .001, .008 and .01 are below .05 / 6, .05 / 5 and .05 / 4; .02 is above .05 / 3.
    assert standings.different[1].tolist() == [False, False, False, True]
    assert standings.different[2].tolist() == [False, False, False, True]
    assert standings.rank_intervals.tolist() == [[1, 3], [1, 3], [1, 3], [4, 4]]


def test_standings_of_some_sources_are_corrected_for_their_number_only():
    rng = np.random.default_rng(5)
    values = rng.random(5)
    resampled = values[:, None] + 0.2 * rng.standard_normal((5, 20))
    mask = np.array([True, False, True, True, False])
    among = compute_standings(values, resampled, higher_is_better=True).among(mask)
    alone = compute_standings(values[mask], resampled[mask], higher_is_better=True)
    assert among.ranks[mask].tolist() == alone.ranks.tolist()
    assert among.ranks[~mask].tolist() == [0, 0]
    np.testing.assert_array_equal(among.corrected_p_values[mask], alone.corrected_p_values)
    np.testing.assert_array_equal(among.different[np.ix_(mask, mask)], alone.different)


def errors_of_three(groups=None, n=60):
    """Return errors of three sources on the same samples and splits."""
    rng = np.random.default_rng(8)
    labels = rng.permutation(np.arange(n) % 3)
    shift = np.eye(3, 6)[labels]
    outputs = [
        SourceOutputs(rng.standard_normal((n, 2)), labels, rng.standard_normal((n, 6)) + scale * shift, groups=groups)
        for scale in (2, 1.5, 0)
    ]
    return [get_score("soft").sample_errors(one, ErrorOptions()) for one in outputs], outputs


@pytest.mark.parametrize("groups", [None, np.arange(60) // 3])
def test_standings_of_errors_are_those_of_paired_differences(groups):
    errors, outputs = errors_of_three(groups)
    standings = compute_error_standings(get_score("soft"), [*errors, None])
    assert standings.ranks.tolist() == [1, 2, 3, 0]
    for i, j in itertools.permutations(range(3), 2):
        pair = paired_difference(errors[i], errors[j])
        assert standings.p_values[i, j] == pytest.approx(pair.p_value)
        np.testing.assert_allclose(standings.difference_intervals[i, j], pair.interval)
        assert standings.values[i] == estimate_mean(errors[i]).value
        np.testing.assert_array_equal(standings.intervals[i], estimate_mean(errors[i]).interval)
    assert np.isnan(standings.p_values[3]).all()
    from_arrays = score_sources("soft", dict(zip("abc", outputs, strict=True)))
    np.testing.assert_array_equal(from_arrays.p_values, standings.p_values[:3, :3])


def test_few_groups_give_values_without_intervals_and_p_values():
    errors, _ = errors_of_three(np.arange(60) // 10)
    standings = compute_error_standings(get_score("soft"), errors)
    assert np.isfinite(standings.values).all()
    assert np.isnan(standings.p_values).all()
    assert np.isnan(standings.intervals).all()


def test_a_score_whose_errors_are_log_losses_has_the_signs_of_the_score():
    _, outputs = errors_of_three()
    standings = score_sources("leep-held-out", dict(zip("abc", outputs, strict=True)))
    assert standings.ranks.tolist() == [1, 2, 3]
    low, high = standings.difference_intervals[2, 0]
    assert low < standings.values[2] - standings.values[0] < high < 0
    assert (standings.intervals[:, 0] < standings.values).all()


def test_subsamples_without_a_score_give_no_intervals():
    """A score that is defined on no or few subsamples has no interval and no win probability."""
    resampled = np.full((3, 50), np.nan)
    resampled[0], resampled[1, :5] = 0.3, 0.301
    standings = compute_standings([0.3, 0.301, 0.4], resampled, higher_is_better=False)
    assert np.isnan(standings.win_probabilities[0, 1])
    assert np.isnan(standings.intervals[1:]).all()
    assert standings.rank_intervals.tolist() == [[0, 0]] * 3
    assert standings.ranks.tolist() == [1, 2, 3]


def test_intervals_are_clipped_to_the_bounds_of_the_score():
    resampled = np.array([[0.0, 0.2] * 10, [0.5, 0.5] * 10])
    standings = compute_standings([0.05, 0.5], resampled, higher_is_better=False, bounds=(0, 1))
    assert standings.intervals[0, 0] == 0
    assert standings.intervals[0, 1] > 0.1


def test_subsamples_of_classes_with_a_single_group():
    groups = np.repeat(np.arange(4), 10)
    one = SourceOutputs(np.zeros((40, 1)), groups.copy(), groups=groups)
    assert {len(subsample(one, 0, number)) for number in range(20)} == {30, 40}


def test_interval_of_a_mean_covers_the_truth():
    """The interval of the mean of 60 values must contain the true mean in about 95 % of the cases."""
    hits, rng = 0, np.random.default_rng(2)
    labels = np.arange(60) % 2
    for repeat in range(300):
        sample = rng.standard_normal(60) + labels
        one = SourceOutputs(sample[:, None], labels)
        resampled = [[sample[subsample(one, repeat, r)].mean() for r in range(50)]]
        low, high = compute_standings(
            [sample.mean()], np.array(resampled), higher_is_better=True, spread_factor=SPREAD_FACTOR
        ).intervals[0]
        hits += low <= 0.5 <= high
    assert 0.90 <= hits / 300 <= 0.99


def test_equal_scores_share_a_rank_and_are_tied():
    resampled = np.zeros((2, 12))
    standings = compute_standings([0.5, 0.5], resampled, higher_is_better=False)
    assert standings.ranks.tolist() == [1, 1]
    assert standings.win_probabilities[0, 1] == 0.5
    assert standings.tied_with(0).tolist() == [1]


# Extraction


def test_extracted_logits_are_those_of_the_discrepancy(small_images):
    target = open_target(str(small_images))
    request = LogitsRequest(SampleRequest(input_size=32, batch_size=16))
    extracted = extract(VIT, target, replace(request, head="auto"))
    outputs = load_source_outputs(extracted.key)
    plain = source_logits(open_source(VIT), target, request)
    np.testing.assert_allclose(outputs.logits, plain.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(outputs.labels, plain.labels)
    assert outputs.features.shape == (60, extracted.properties["width"])
    assert extracted.properties["parameters"] == sum(p.numel() for p in open_source(VIT).load(32).model.parameters())
    assert extract(VIT, target, replace(request, head="auto")).cached


@pytest.fixture(name="opened_surrogates")
def surrogates_that_were_opened(monkeypatch):
    """Names of the labeled data of sources' own modalities that were read for their outputs."""
    opened = []
    plain = extraction.open_surrogate
    monkeypatch.setattr(extraction, "open_surrogate", lambda *a, **k: opened.append(a[0]) or plain(*a, **k))
    monkeypatch.setattr(extraction, "MOST_SURROGATE_SAMPLES", 40)
    if not find_surrogate("vit-fashion"):
        pytest.skip("The data of Fashion-MNIST is not installed.")
    return opened


def small_target(folder, number):
    path = folder / f"{number}.npz"
    rng = np.random.default_rng(number)
    np.savez(path, x=rng.random((12, 1, 28, 28), dtype=np.float32), y=np.arange(12) % 2)
    return str(path)


def test_a_source_runs_over_its_own_surrogate_once_for_all_targets(tmp_path, own_cache, opened_surrogates):
    request = LogitsRequest(SampleRequest(), head="auto", surrogate=True)
    keys = {extract("vit-fashion", open_target(small_target(tmp_path, n)), request).surrogate_key for n in range(2)}
    assert opened_surrogates == ["fashion-mnist"]
    (key,) = keys
    features, labels, error = extraction.read_surrogate_outputs(key)
    assert len(features) == len(labels) == 40
    assert 0 <= error <= 1


def test_a_source_runs_over_its_own_surrogate_only_for_scores_that_use_it(tmp_path, own_cache, opened_surrogates):
    target = small_target(tmp_path, 0)
    options = {"by": "knn", "resamples": 0, "controls": False, "baselines": "none"}
    first = rank(target, ["vit-fashion"], RankRequest(scores=("knn",), **options), Backend(1))
    assert opened_surrogates == []
    assert "source-error" not in first.tables
    later = rank(target, ["vit-fashion"], RankRequest(scores=("knn", "source-error"), **options), Backend(1))
    assert opened_surrogates == ["fashion-mnist"]
    assert 0 <= later.tables["source-error"].standings.values[0] <= 1
    # The pass over the target was not repeated.
    assert later.jobs["features"] == (0, 1, 0)


# Jobs and backends


@pytest.mark.parametrize("workers", [1, 2])
def test_every_result_is_given_once(workers):
    results = sorted(Backend(workers).run([Square(n) for n in range(12)]))
    assert results == [(n, n**2) for n in range(12)]
    assert list(Backend(workers).run([])) == []


def test_short_jobs_run_in_this_process_first_and_leave_its_threads_alone(monkeypatch):
    # The clock goes on by a second at each look at it: at the beginning, and before each job.
    monkeypatch.setattr(engine, "SECONDS_HERE", 2.5)
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        results = dict(Backend(2).run([Place()] * 5, short=True))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [results[number][0] == os.getpid() for number in range(5)] == [True, True, False, False, False]
    assert {threads for _, threads in results.values()} == {1}


def test_workers_serve_later_stages_with_the_environment_of_the_moment(monkeypatch):
    seen = []
    for data, token in (("one", "a"), (None, "b"), ("two", "b")):
        monkeypatch.delenv("MODGAP_DATA", raising=False)
        if data:
            monkeypatch.setenv("MODGAP_DATA", data)
        monkeypatch.setenv("HF_TOKEN", token)
        seen.append([result for _, result in Backend(2).run([Variables()] * 4)])
    assert len({process for results in seen for process, _, _ in results}) <= 2
    assert [{result[1:] for result in results} for results in seen] == [{("one", "a")}, {(None, "b")}, {("two", "b")}]


def test_one_pass_alone_runs_in_this_process_with_all_cores():
    backend = Backend(4)
    assert (backend.idle_cores(2, "cpu"), backend.idle_cores(1, "cpu")) == (2, 4)
    ((_, (process, _)),) = backend.run([Place()], device="cpu")
    assert process == os.getpid()
    assert Backend(address="127.0.0.1:9").idle_cores(1, "cuda") == 1


def test_a_lost_worker_costs_only_its_job(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "MAX_TRIES", 2)
    jobs = [Square(1), Killer(tmp_path / "once"), Square(2), Killer(tmp_path / "always", always=True), Square(3)]
    results = dict(Backend(2).run(jobs))
    assert results == {0: 1, 1: "survived", 2: 4, 3: LOST, 4: 9}


def test_jobs_are_computed_only_once(small_images, own_cache):
    request = RankRequest(scores=CHEAP, resamples=4, samples=SampleRequest(input_size=32), controls=False)
    first = rank(str(small_images), [VIT], request, Backend(1))
    again = rank(str(small_images), [VIT], request, Backend(1))
    assert first.jobs["features"] == (1, 0, 0)
    assert again.jobs["features"] == (0, 1, 0)
    n_baselines = sum(row.kind == BASELINE for row in first.rows)
    assert (first.jobs["baselines"], again.jobs["baselines"]) == ((n_baselines, 0, 0), (0, n_baselines, 0))
    assert again.jobs["scores"] == (0, first.jobs["scores"].computed, 0)
    assert scores_and_pairs(first) == scores_and_pairs(again)
    # A further score costs only the jobs of that score.
    more = rank(str(small_images), [VIT], RankRequest(**{**vars(request), "scores": (*CHEAP, "gbc")}), Backend(1))
    assert more.jobs["scores"][0] == 2


def test_score_sources_agrees_with_rank(small_images, own_cache):
    request = RankRequest(
        scores=("knn",), by="knn", resamples=10, samples=SampleRequest(input_size=32), controls=False, baselines="none"
    )
    standings = rank(str(small_images), [VIT, CNN], request, Backend(1)).tables["knn"].standings
    passes = {
        name: extract(
            name,
            open_target(str(small_images)),
            LogitsRequest(SampleRequest(input_size=32, batch_size=16), head="auto"),
        )
        for name in (VIT, CNN)
    }
    from_arrays = score_sources(
        "knn", {name: load_source_outputs(one.key) for name, one in passes.items()}, resamples=10
    )
    for field in ("values", "intervals", "ranks", "rank_intervals", "win_probabilities", "difference_intervals"):
        np.testing.assert_array_equal(getattr(standings, field), getattr(from_arrays, field))


def test_score_sources_requires_the_same_samples():
    one = SourceOutputs(np.eye(4), np.array([0, 1, 0, 1]))
    with pytest.raises(InputError, match="The labels of source b differ from those of source a"):
        score_sources("knn", {"a": one, "b": replace(one, labels=one.labels[::-1])})
    with pytest.raises(InputError, match="The groups of source b differ from those of source a"):
        score_sources("knn", {"a": one, "b": replace(one, groups=np.arange(4))})
    with pytest.raises(InputError, match=r"The target has one class. At least two are needed"):
        score_sources("knn", {"a": replace(one, labels=np.zeros(4, int))})
    with pytest.raises(InputError, match=r"Source b cannot be scored. The source's features contain NaN or infinity"):
        score_sources("knn", {"b": replace(one, features=np.full((4, 2), np.nan))})
    with pytest.raises(InputError, match="no sources to score"):
        score_sources("knn", {})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": [0, 1, 0]}, "The features of source b have shape (4, 4). Expected (3, ...) with two axes"),
        ({"logits": np.ones(4)}, "The logits of source b have shape (4,). Expected (4, ...)"),
        ({"features": [["a"]] * 4}, "The features of source b have dtype <U1. Expected numbers."),
        ({"labels": np.full((4, 2), 2)}, "The labels of source b have shape (4, 2)."),
        ({"groups": np.zeros((4, 1))}, "The groups of source b have shape (4, 1). Expected (4,)"),
        ({"groups": [0, 1, np.nan, 1]}, "Source b cannot be scored. 1 of 4 groups are missing (first in row 2)"),
        ({"groups": np.array(["x", None, "y", "y"], object)}, "1 of 4 groups are missing (first in row 1)"),
        ({"labels": [0, 1, np.nan, 1]}, "Source b cannot be scored. 1 of 4 labels are missing (first in row 2)"),
        ({"labels": [0, 1, -1, 1]}, "Source b cannot be scored. The label -1 is negative"),
        ({"labels": np.eye(3)[[0, 1, 1, 0]]}, "have no sample for 1 of 3 classes (first: column 2)"),
        ({"labels": []}, "The labels of source b are empty"),
        ({"values": [0, 1, np.nan, 1]}, "The values of source b have NaN or infinite values in 1 of 4 rows (2)"),
        ({"values": [0, np.inf, 1, 1]}, "The values of source b have NaN or infinite values in 1 of 4 rows (1)"),
    ],
)
def test_arrays_of_wrong_shape_raise_with_the_name_of_the_source(fields, message):
    one = SourceOutputs(np.eye(4), np.array([0, 1, 0, 1]))
    with pytest.raises(InputError, match=re.escape(message)):
        score_sources("knn", {"b": replace(one, **fields)})


def test_missing_values_are_no_difference_between_sources():
    one = SourceOutputs(np.eye(4), np.array([0, 1, 0, 1]), values=np.array([0, 1, np.nan, 1]))
    with pytest.raises(InputError, match="The values of source a have NaN"):
        score_sources("logme", {"a": one, "b": one})
    with pytest.raises(InputError, match="The target's values contain NaN or infinity"):
        get_score("logme").evaluate(replace(one, values=one.values[:, None]))


def test_classes_without_a_sample_have_no_average_precision():
    """The samples that nearest neighbors predict may be some of all, without those of a rare class."""
    outputs = SourceOutputs(np.zeros((4, 1)), np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0]]))
    predicted = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.5], [0.8, 0.9, 0.5], [0.1, 0.7, 0.5]])
    assert prediction_error(outputs, predicted) == 0
    assert np.isnan(prediction_error(replace(outputs, labels=np.zeros((4, 3), int)), predicted))


def test_an_undefined_score_raises_with_the_name_of_the_source():
    one = SourceOutputs(np.eye(4), np.array([0, 1, 0, 1]))
    with pytest.raises(InputError, match=r"Source b cannot be scored. The score leep needs a classification head"):
        score_sources("leep", {"b": one})


def test_score_sources_accepts_lists_class_names_and_one_value_per_sample():
    features = np.random.default_rng(0).standard_normal((40, 3))
    names = ["cat", "dog"] * 20
    by_name = score_sources("knn", {"a": SourceOutputs(features.tolist(), names)}, resamples=12)
    by_number = score_sources("knn", {"a": SourceOutputs(features, np.arange(40) % 2)}, resamples=12)
    np.testing.assert_array_equal(by_name.intervals, by_number.intervals)
    values = features[:, 0]
    standings = score_sources("logme", {"a": SourceOutputs(features, np.arange(40) % 2, values=values)}, resamples=0)
    assert standings.values[0] == get_score("logme").evaluate(
        SourceOutputs(features, np.arange(40) % 2, values=values[:, None])
    )


FIVE = ",".join(f"random:timm:test_{name}" for name in ("vit", "vit2", "resnet", "efficientnet", "convnext"))


def ranking_arguments(target, *options):
    return ["rank", "--target", target, "--sources", FIVE, "--input-size", "32", "--resamples", "30", "--by",
            "knn", "--score", "leep", "--score", "nce", "--quiet", "--json", *options]  # fmt: skip


@pytest.fixture
def start_ranking(uninterrupted, own_cache, tmp_path_factory):
    """Start the ranking of `uninterrupted` in a process that can be killed, with the test's cache."""

    def start(*where):
        arguments = ranking_arguments(uninterrupted[0], *(where or ("--jobs", "2")))
        folder = tmp_path_factory.mktemp("ranking") / "output"
        return ForkedCommand(arguments, {"MODGAP_CACHE": str(own_cache)}, folder)

    return start


def modification_times(cache):
    """Return the modification time of each cache entry."""
    return {path: path.stat().st_mtime_ns for path in cache.glob("*/??/*.safetensors")}


def wait_for_entries(cache, count, process):
    """Wait until the cache has this many entries."""
    deadline = time.monotonic() + 120
    while len(modification_times(cache)) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.fixture(scope="module", name="uninterrupted")
def ranking_of_five(tmp_path_factory):
    """Rank five sources without interruption, one job after the other."""
    folder = tmp_path_factory.mktemp("five")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    np.savez(folder / "small.npz", x=rng.random((60, 1, 12, 12), np.float32) + labels[:, None, None, None], y=labels)
    arguments = ranking_arguments(folder / "small.npz", "--jobs", "1")
    done = run_in_process(*arguments, MODGAP_CACHE=str(folder / "cache"))
    assert done.returncode == 0, done.stderr
    return folder / "small.npz", strict(done.stdout)


@pytest.mark.long
def test_a_ranking_that_is_killed_three_times_computes_nothing_twice(uninterrupted, start_ranking, own_cache):
    _, expected = uninterrupted
    counts, written = [], {}
    for wanted in (3, 9, 20):
        process = start_ranking()
        wait_for_entries(own_cache, wanted, process)
        process.kill()
        assert {path: modification_times(own_cache)[path] for path in written} == written
        written = modification_times(own_cache)
        counts.append(len(written))
    record = strict(start_ranking().finish())
    assert {path: modification_times(own_cache)[path] for path in written} == written
    cached = [record["jobs"][stage]["cached"] for stage in ("features", "scores")]
    print(f"entries after each kill {counts}, then cached {cached}: {record['jobs']}")  # noqa: T201 - a figure to quote
    assert sum(cached) == counts[-1]
    assert counts[0] < counts[-1]
    assert [sum(record["jobs"][stage].values()) for stage in ("features", "scores")] == [
        expected["jobs"][stage]["computed"] for stage in ("features", "scores")
    ]
    assert (record["sources"], record["pairs"]) == (expected["sources"], expected["pairs"])


@pytest.mark.long
def test_killing_a_dask_worker_changes_no_result(uninterrupted, start_ranking, own_cache):
    import psutil

    _, expected = uninterrupted
    with dask_cluster() as address:
        children = psutil.Process().children(recursive=True)
        workers = [child for child in children if "spawn_main" in str(child.cmdline())]
        assert len(workers) == 2
        process = start_ranking("--address", address)
        wait_for_entries(own_cache, 9, process)
        n_before = len(modification_times(own_cache))
        workers[-1].kill()
        record = strict(process.finish())
        n_after = len(modification_times(own_cache))
    assert 9 <= n_before < n_after
    assert (record["sources"], record["pairs"]) == (expected["sources"], expected["pairs"])


def start_writer():
    code = (
        "import numpy as np\n"
        "from modgap.storage.cache import CacheEntry, find_cached, store\n"
        "for _ in range(20):\n"
        "    store('scores', 'abcd', CacheEntry({'values': np.arange(5000.0)}, {'reason': ''}))\n"
        "    values = find_cached('scores', 'abcd', lambda entry: entry.arrays['values'])\n"
        "    assert (values == np.arange(5000.0)).all()\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


def test_eight_processes_write_one_cache_entry_at_once(own_cache):
    path = own_cache / "scores" / "ab" / "abcd.safetensors"
    writers = [start_writer() for _ in range(8)]
    errors = [process.communicate()[1] for process in writers]
    assert [process.returncode for process in writers] == [0] * 8, errors
    assert [p.name for p in path.parent.iterdir()] == ["abcd.safetensors"]


# The ranking


@pytest.fixture(scope="module", name="ranking")
def ranking_of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranking")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    np.savez(folder / "small.npz", x=rng.random((60, 1, 12, 12), np.float32) + labels[:, None, None, None], y=labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODGAP_CACHE", str(folder / "cache"))
        request = RankRequest(resamples=6, samples=SampleRequest(input_size=32), report_details=True)
        return rank(str(folder / "small.npz"), [VIT.removeprefix("random:"), VIT, CNN], request, Backend(1))


def test_a_source_that_fails_has_a_row_with_the_reason(ranking):
    """The weights of timm:test_vit are not on this machine, and the hub is switched off."""
    failed = [row for row in ranking.rows if row.reason]
    assert [row.name for row in failed] == ["timm:test_vit"]
    assert "weights" in failed[0].reason
    assert ranking.jobs["features"].failed == 1
    assert ranking.jobs["scores"].failed == 0
    assert "\n" not in failed[0].reason
    assert [row.name for row in ranking.failed] == ["timm:test_vit"]


def test_baselines_have_an_error_beside_the_linear_probes_alone(ranking):
    index = next(index for index, row in enumerate(ranking.rows) if row.kind == BASELINE)
    assert ranking.tables["leep"].reasons[index] == "A baseline has only a cross-validated error."
    assert not ranking.tables["linear-probe"].reasons[index]
    assert 0 <= ranking.tables["linear-probe"].standings.values[index] <= 1


def test_a_requested_control_that_fails_is_reported(small_images):
    ranking = rank(str(small_images), [VIT, "random:timm:nothing_such"], replace(SMALL, by="knn"), Backend(1))
    rows = [(row.name, row.kind, bool(row.reason)) for row in ranking.rows if row.kind != BASELINE]
    assert rows == [(VIT, "source", False), ("random:timm:nothing_such", "source", True)]
    assert [row.name for row in ranking.failed] == ["random:timm:nothing_such"]


def test_discrepancy_needs_as_many_source_classes_as_target_classes():
    rng = np.random.default_rng(0)
    many = SourceOutputs(rng.standard_normal((24, 3)), np.arange(24) % 6, rng.standard_normal((24, 5)))
    with pytest.raises(InputError, match="The target has 6 classes, but the source's head has only 5"):
        get_score("discrepancy").evaluate(many)


def test_recommendation_warns_if_random_weights_are_better(small_images):
    ranking = rank(str(small_images), [VIT, CNN], replace(SMALL, by="knn", resamples=12), Backend(1))
    table = ranking.tables[ranking.by]
    first = table.first_source
    rows = [*ranking.rows, replace(ranking.rows[first], name=f"random:{ranking.rows[first].name}", kind=CONTROL)]
    p_values = np.pad(table.standings.p_values, (0, 1), constant_values=1.0)
    p_values[first, -1] = p_values[-1, first] = 0.0
    wider = replace(
        table.standings,
        values=np.append(table.standings.values, -0.1),
        intervals=np.pad(table.standings.intervals, ((0, 1), (0, 0)), constant_values=np.nan),
        difference_intervals=np.full((len(rows), len(rows), 2), np.nan),
        p_values=p_values,
        standard_errors=None,
        degrees=None,
    )
    is_source = np.array([row.kind == "source" for row in rows])
    reasons = (*table.reasons, "")
    changed = replace(table, standings=wider, among_sources=wider.among(is_source), reasons=reasons)
    text = " ".join(ranking_answer(replace(ranking, rows=tuple(rows), tables={ranking.by: changed})).sentences)
    assert "The same architecture with random weights is significantly better" in text
    assert text.startswith("By k-NN error, random weights are better than")
    assert "Transfer from" not in text


def test_record_is_strict_json_and_every_row_has_every_score(ranking):
    record = strict(json.dumps(ranking.to_dict(), allow_nan=False))
    assert record["kind"] == "ranking"
    names = set(ranking.tables)
    assert names < set(score_names())
    assert all(set(row["scores"]) == names for row in record["sources"])
    assert all(0 <= pair["probability"] <= 1 for pair in record["pairs"])
    for heads, rows in (ranking_table(ranking), scores_table(ranking)):
        assert all(len(row) == len(heads) for row in rows)
    assert len(to_csv(ranking).splitlines()) == 1 + len(ranking.rows)


@pytest.mark.parametrize(("errors", "stars"), [((0.7, 0.72, 0.75), 1), ((0.85, 0.86, 0.9), 0)])
def test_a_star_marks_the_best_source_unless_a_control_is_above_it(errors, stars):
    _, rows = scores_table(make_ranking(knn=errors))
    assert [row[0] for row in rows if row[1].endswith("*")] == ["vit-0"] * stars


def test_a_ranking_in_a_notebook_has_spaced_cells_and_the_next_step():
    ranking = make_ranking()
    html = ranking._repr_html_()
    assert html.count('<td style="padding: 0.2em 0.7em; text-align: ') == html.count("<td")
    step = re.search(r"<strong>Next step\.</strong> (.*)</p>\n<pre[^>]*>((?:modgap .*\n?)+)</pre>", html)
    assert step
    assert step[1] in str(ranking)


def test_table_of_other_scores_is_split_to_fit_the_terminal(ranking, monkeypatch, capsys):
    from modgap.cli import output

    heads, rows = scores_table(ranking)
    for width in (60, 100, 1000):
        monkeypatch.setattr(output, "_width", lambda width=width: width)
        output.print_wide_table(heads, rows)
        printed = capsys.readouterr().out
        assert max(len(line.rstrip()) for line in printed.splitlines()) <= width
        for head in heads[1:]:
            assert len(re.findall(rf" {re.escape(head)}\s", printed)) == 1
        assert printed.count("source ") == len(re.findall("─ ?\n", printed))


def test_the_page_of_a_real_ranking_has_all_sources_and_its_headline(ranking):
    page = render_ranking(json.loads(json.dumps(ranking.to_dict())))
    assert len(page) < 300_000
    for row in ranking.rows:
        assert row.name.removeprefix("random:") in page
    assert ranking_answer(ranking).headline.replace("'", "&#39;") in page


# Names


def test_sources_are_named_by_list_file_and_pattern(tmp_path):
    listed = tmp_path / "sources.txt"
    listed.write_text("vit-b  # the paper's\n\nswin-b\n")
    assert parse_source_names([f"@{listed}", "swin-b,minilm"]) == ["vit-b", "swin-b", "minilm"]
    names = parse_source_names(["timm:test_vit*"])
    assert names
    assert all(name.startswith("timm:test_vit") for name in names)
    for text, message in (
        ("timm:nothing_such*", "No timm model with pretrained weights matches"),
        ("vit*", "is not a pattern of timm models"),
        (",", "No source was named"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_source_names([text])
    with pytest.raises(InputError, match="Cannot read the list of sources"):
        parse_source_names(["@/nowhere/at/all"])


# The commands


def test_command_writes_table_record_figure_and_page(modgap, small_images, tmp_path):
    out = tmp_path / "out"
    done = modgap(
        "rank", "--target", small_images, "--sources", VIT, "--score", "knn", "--score", "leep",
        "--by", "leep-held-out", "--resamples", "10", "--input-size", "32", "--jobs", "1", "--out", out, "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ranked by leep-held-out (higher is better)" in done.stdout
    assert "jobs: features" in done.stdout
    names = {"ranking.json", "ranking.csv", "ranking.png", "ranking.txt", "samples.npz"}
    assert {path.name for path in out.iterdir()} == names
    record = strict((out / "ranking.json").read_text())
    assert record["request"]["errors"] == {"weight": None, "splits": 20, "per_class": None}
    page = modgap("report", out)
    assert page.returncode == 0, page.stderr
    assert page.stdout.strip() == str(out / "report.html")
    assert (out / "report.html").stat().st_size < 300_000


@pytest.mark.long
def test_command_writes_the_errors_of_the_samples(modgap, small_images, tmp_path):
    out = tmp_path / "out"
    done = modgap(
        "rank", "--target", small_images, "--sources", f"{VIT},{CNN}", "--score", "knn", "--by", "discrepancy",
        "--per-class", "8", "--splits", "6", "--weight", "classes", "--resamples", "0", "--input-size", "32", "--jobs",
        "1", "--out", out, "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    samples = read_sample_file(out / "samples.npz")
    record = strict((out / "ranking.json").read_text())
    assert set(samples.errors) == {VIT, CNN}
    assert (samples.n_classes, samples.per_class) == (record["target"]["classes"], 8)
    for row in record["sources"]:
        score = row["scores"]["discrepancy"]
        if row["source"] in samples.errors:
            assert score["value"] == estimate_mean(samples.errors[row["source"]]).value
        if row["rank"] == 2:
            difference = score["difference_to_first"]
            assert difference["interval"][0] < difference["value"] < difference["interval"][1]
            assert difference["corrected_p_value"] == difference["p_value"]
    details = [row["report_details"]["discrepancy"] for row in record["sources"] if row["kind"] == "source"]
    assert sorted(one["corrected_p_value"] for one in details) >= sorted(one["p_value"] for one in details)


def test_errors_survive_the_cache(small_images, own_cache):
    request = LogitsRequest(SampleRequest(input_size=32, batch_size=16), head="auto")
    key = extract(VIT, open_target(str(small_images)), request).key
    job = ErrorsJob(key, "soft", 0, ErrorOptions(weight="classes", splits=2))
    assert job.load_cached() is None
    computed, cached = job(), job.load_cached()
    for name in ("errors", "weights", "units", "averages", "strata"):
        np.testing.assert_array_equal(getattr(computed, name), getattr(cached, name))
    assert cached.split_seed == 0


def test_the_permutations_grow_with_the_number_of_sources():
    rows = [SourceRow(f"source-{number}", "source") for number in range(12)]
    assert count_permutations(rows) == 239
    assert count_permutations([*rows[:2], SourceRow("random:a", CONTROL)]) == 99


def test_p_values_of_details_are_corrected_for_the_number_of_sources():
    details = {
        i: ReportDetails({"p_value": p}, np.empty((0, 2)), np.empty(0)) for i, p in enumerate((0.01, 0.04, 0.03))
    }
    details[3] = ReportDetails({}, np.empty((0, 2)), np.empty(0))
    corrected = correct_p_values(details, {0, 1, 3})
    assert [corrected[i].discrepancy.get("corrected_p_value") for i in range(4)] == [0.02, 0.04, None, None]


def test_exit_code_is_1_if_a_source_failed(modgap, small_images):
    done = modgap(
        "rank", "--target", small_images, "--sources", f"{VIT},timm:test_vit,minilm", "--by", "knn", "--score", "knn",
        "--resamples", "0", "--input-size", "32", "--baselines", "none", "--no-controls", "--jobs", "1", "--quiet",
    )  # fmt: skip
    assert done.returncode == 1
    assert "timm:test_vit: " in done.stdout
    assert "minilm: " in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "lepe"], "Unknown score 'lepe'"),
        (["--score", "nothing"], "Unknown score 'nothing'"),
        (["--resamples", "1"], "--resamples is 1, which is too few to estimate intervals. Pass at least 10, or 0"),
        (["--address", "x:1", "--jobs", "2"], "--jobs is the number of processes on this machine, and with --address"),
        (["--backend", "dask"], "--backend was removed. Pass --jobs 1 for one job after the other, or --address"),
        (["--cluster", "a=b"], "--cluster was removed. Start workers of Dask with dask-jobqueue"),
        (["--shard", "1/2"], "--shard was removed. Start workers of Dask with your scheduler"),
        (["--status", "out"], "--status was removed. A running command shows how far it is"),
        (["--cached"], "--cached was removed. Run the same command without it"),
        (["--splits", "0"], "--splits is 0, but it must be at least 1."),
        (["--per-class", "0"], "--per-class is 0, but it must be at least 1."),
        (["--limit", "-1"], "--limit is -1, but it must be at least 0."),
    ],
)
def test_wrong_usage_is_reported_in_one_line(modgap, small_images, options, message):
    refused(modgap("rank", "--target", small_images, "--sources", VIT, *options), 2, message)


def test_invalid_requests_raise_before_anything_runs(modgap, small_images, tmp_path):
    target = ["--target", str(small_images)]
    refused(modgap("rank", *target, "--sources", "vit-fashion,vit-fashon"), 2, "Did you mean vit-fashion")
    with pytest.raises(UsageError, match="Unknown source 'vit-fashion@abc'"):
        rank(str(small_images), ["vit-fashion@abc"])
    with pytest.raises(UsageError, match=r"`head=.none.`"):
        rank(str(small_images), ["vit-fashion"], RankRequest(by="leep-held-out", head="none"))
    np.savez(tmp_path / "one.npz", x=np.zeros((9, 1, 4, 4), np.float32), y=np.zeros(9, int))
    with pytest.raises(InputError, match="The target has one class"):
        rank(str(tmp_path / "one.npz"), ["vit-fashion"])
    np.savez(tmp_path / "values.npz", x=np.zeros((40, 1, 4, 4), np.float32), y=np.linspace(0, 1, 40))
    with pytest.raises(
        UsageError, match=r"leep is not defined for regression targets. Pass one of these to `by`: .*logme"
    ):
        rank(TargetRequest(str(tmp_path / "values.npz"), pseudo_classes=2), ["vit-fashion"], RankRequest(by="leep"))


def test_report_of_a_folder_without_a_ranking(modgap, tmp_path):
    refused(modgap("report", tmp_path), 1, "ranking.json (from modgap rank)")
    for text, message in (
        ('{"kind": "discrepancy"}', "is not the record of a ranking"),
        ('{"kind": "ranking", "schema": 2, "by": "leep", "answer": {}}', "is incomplete or damaged"),
        ('{"kind": "ranking", "schema": 2, "by": "leep", "sources": [], "answer": {}}', "is incomplete or damaged"),
        ("[1, 2", "is not valid JSON"),
    ):
        (tmp_path / "ranking.json").write_text(text)
        with pytest.raises(InputError, match=message):
            write_page(tmp_path)


def test_scores_are_listed_and_shown(modgap):
    listed = modgap("scores")
    assert listed.returncode == 0
    assert all(name in listed.stdout for name in score_names())
    shown = modgap("scores", "logme")
    assert "You et al." in shown.stdout
    refused(modgap("scores", "logmi"), 2, "Unknown score 'logmi'. Did you mean logme")
    assert isinstance(ScoreJob("0" * 64, "knn", 0, -1, 0)(), Failure)
    assert engine.MAX_TRIES > 1


@pytest.fixture
def texts(tmp_path):
    """A table of sixty texts of two classes."""
    lines = [f"{('a dry', 'a wet')[number % 2]} day {number},{'ab'[number % 2]}" for number in range(60)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    return str(tmp_path / "texts.csv")


@pytest.mark.bundle
def test_the_data_that_a_head_is_fitted_on_are_named(own_cache, caplog, monkeypatch, texts):
    monkeypatch.setattr(probe_head, "MOST_SAMPLES", 200)
    monkeypatch.setattr(extraction, "MOST_SURROGATE_SAMPLES", 200)
    options = {"limit": 40, "resamples": 0, "controls": False, "baselines": "none", "jobs": 1}
    modgap.rank(texts, ["minilm"], **options)
    message = "A linear head was fitted on ner-tweets for minilm, which has no classification head."
    assert [record.message.startswith(message) for record in caplog.records].count(True) == 1
    caplog.clear()
    modgap.rank(texts, ["minilm"], head="none", scores=["knn"], **options)
    assert "A linear head" not in caplog.text


@pytest.mark.bundle
def test_a_source_without_a_head_names_the_installed_data_of_its_modality(own_cache, texts):
    options = {"limit": 40, "resamples": 0, "controls": False, "baselines": "none", "jobs": 1}
    start = 'with `head="probe:SURROGATE"`. Installed data of the kind text: ner-tweets'
    with pytest.raises(UsageError) as error:
        modgap.measure("minilm", texts, limit=40)
    assert start in str(error.value)
    (row,) = modgap.rank(texts, ["minilm"], head="own", scores=["leep"], **options).rows
    assert start in row.reason
