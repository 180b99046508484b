"""Ranking within a budget: it keeps to the time that rounds are expected to take, and says what it left out."""

from dataclasses import replace

import numpy as np
import pytest

from modgap.errors import UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend
from modgap.ranking.checks import collect_checks
from modgap.ranking.halving import rank_within
from modgap.ranking.judgment import judge
from modgap.ranking.rank import rank
from modgap.ranking.recommendation import judgment_answer
from modgap.ranking.types import ALL, RankRequest
from modgap.targets import TargetRequest
from tests.commands import run_in_process
from tests.ranking_records import make_ranking, score_table
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_matrix import CNN, VIT, small_sources, small_target  # noqa: F401 - fixture

DIGITS = TargetRequest("digits")
LADDER = [113, 225, 450, 899, 1797]


class Simulation:
    """Rounds of sources of known quality, on a clock that moves by a fixed cost for each source and sample."""

    def __init__(self, quality, per_source=1.0, per_sample=0.01, cache=None):
        self.now, self.calls = 0.0, []
        self.cache = set() if cache is None else cache
        self.quality, self.per_source, self.per_sample = quality, per_source, per_sample
        self.rng = np.random.default_rng(0)

    def __call__(self, sources, request, prefix):
        size = request.samples.limit or LADDER[-1]
        self.calls.append((tuple(sources), size, request.controls, prefix))
        names = [*sources, *(f"random:{name}" for name in sources if request.controls)]
        cached = [name for name in names if (name, size) in self.cache]
        cost = self.per_source + self.per_sample * size
        self.now += (len(names) - len(cached)) * cost
        self.cache.update((name, size) for name in names)
        noise = self.rng.standard_normal(len(sources)) / np.sqrt(size)
        values = np.array([self.quality[name] for name in sources]) + noise
        ranking = make_ranking(leep=values, knn=np.full(len(sources), 0.5), names=list(sources), samples=size)
        # All models have the same size, so that the clock agrees with the expected costs.
        rows = tuple(replace(row, properties={"parameters": 10**6}) for row in ranking.rows[: len(sources)])
        tables = {"leep": score_table("leep", values, len(sources))}
        return replace(ranking, rows=rows, tables=tables, request=request, cached_seconds=len(cached) * cost)


def run(simulation, minutes, names, limit=None):
    request = RankRequest(samples=SampleRequest(limit=limit))
    return rank_within(60 * minutes, names, request, DIGITS, simulation, lambda: simulation.now)


NAMES = [f"s{i}" for i in range(16)]
QUALITY = {name: -2 - 0.05 * number for number, name in enumerate(NAMES)}
FULL = 2 * 16 * (1 + 0.01 * 1797) / 60
"""Minutes of a ranking of all sources with their controls."""


def test_with_enough_time_all_sources_are_ranked_on_all_samples():
    simulation = Simulation(QUALITY)
    ranking = run(simulation, 2 * FULL, NAMES)
    assert [(len(names), size) for names, size, *_ in simulation.calls] == [(16, 113), (16, 1797)]
    assert simulation.calls[-1][2]
    assert not any(one.left_out for one in ranking.halving.rounds)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4, 0.8])
def test_a_budget_is_kept_and_spent(share):
    simulation = Simulation(QUALITY)
    ranking = run(simulation, share * FULL, NAMES)
    assert simulation.now <= 60 * share * FULL
    assert ranking.halving.seconds == pytest.approx(simulation.now)
    sizes = [one.samples for one in ranking.halving.rounds]
    assert sizes == sorted(set(sizes))
    assert set(sizes) <= set(LADDER)
    kept = [set(one.sources) for one in ranking.halving.rounds]
    for one, following in zip(ranking.halving.rounds, kept[1:], strict=False):
        assert set(one.sources) - set(one.left_out) == following
    assert ranking.halving.work == pytest.approx(
        sum(one.samples * len(one.sources) for one in ranking.halving.rounds) / (16 * 1797)
    )
    # The best source differs from the next by more than the noise of a large round.
    assert "s0" in kept[-1]


def test_more_time_gives_more_samples():
    works = []
    for share in (0.05, 0.15, 0.5):
        simulation = Simulation(QUALITY)
        works.append(run(simulation, share * FULL, NAMES).halving.work)
    assert works == sorted(works)
    assert works[0] < works[-1]


@pytest.mark.parametrize(("share", "finalists"), [(0.5, 2), (0.7, 4), (1.01, 8)])
def test_the_round_of_all_samples_takes_the_time_that_is_left(share, finalists):
    # There are rounds of 100 and of 200 samples only. After the first, a pass is expected to cost its samples alone.
    full = 2 * 16 * (1 + 0.01 * 200) / 60
    simulation = Simulation(QUALITY)
    ranking = run(simulation, share * full, NAMES, limit=200)
    assert [(one.samples, len(one.sources)) for one in ranking.halving.rounds] == [(100, 16), (200, finalists)]
    assert simulation.now <= 60 * share * full


def test_without_time_the_first_round_is_the_ranking():
    simulation = Simulation(QUALITY)
    ranking = run(simulation, 0.01, NAMES)
    assert len(simulation.calls) == 1
    assert not simulation.calls[0][2]
    (check,) = [one for one in collect_checks(ranking) if one.id == "budget"]
    assert check.status == "warn"
    assert check.values["samples"] == 113
    assert any("The budget ended at 113 of 1,797 samples" in text for text in judgment_answer(judge(ranking)).sentences)


@pytest.mark.parametrize("share", [0.07, 0.1, 0.3])
def test_a_repeated_ranking_keeps_to_its_budget_too(share):
    cache = set()
    works = []
    for _ in range(3):
        simulation = Simulation(QUALITY, cache=cache)
        works.append(run(simulation, share * FULL, NAMES).halving.work)
        assert simulation.now <= 60 * share * FULL
    # What is in the cache costs nothing, so that the same time goes further.
    assert works[0] <= 1.01 * works[-1]


def test_one_source_is_ranked_on_all_samples_with_its_control():
    simulation = Simulation(QUALITY)
    ranking = run(simulation, FULL, NAMES[:1])
    assert [(one.samples, one.sources) for one in ranking.halving.rounds] == [(113, ("s0",)), (1797, ("s0",))]
    assert simulation.calls[-1][2]
    broken = Simulation({"s0": -1.0, "s1": np.nan})
    assert [one.samples for one in run(broken, FULL, ["s0", "s1"]).halving.rounds] == [113, 1797]
    short = Simulation(QUALITY)
    run(short, 0.2, NAMES[:1])
    assert short.now <= 12


def test_sources_that_all_fail_on_few_samples_are_tried_on_all():
    simulation = Simulation(dict.fromkeys(NAMES, np.nan))
    ranking = run(simulation, FULL, NAMES[:2])
    assert [one.samples for one in ranking.halving.rounds] == [113, 1797]


def test_two_sources_are_not_halved():
    simulation = Simulation(QUALITY)
    ranking = run(simulation, 0.5, NAMES[:2])
    assert all(len(one.sources) == 2 for one in ranking.halving.rounds)


def test_the_chance_of_what_was_left_out_is_that_of_its_comparison():
    simulation = Simulation({**dict.fromkeys(NAMES, -2.3), "s0": -2.29, "s1": -2.0})
    ranking = run(simulation, 0.3 * FULL, NAMES)
    first, *_ = [one for one in ranking.halving.rounds if one.left_out]
    assert first.closest in first.left_out
    assert 0 <= first.chance <= 0.5
    record = ranking.to_dict()
    assert record["halving"]["rounds"][0]["closest"] == first.closest
    assert record["request"]["limit"] is None


def test_a_source_that_fails_keeps_its_row_with_the_reason():
    simulation = Simulation({**QUALITY, "broken": np.nan})
    ranking = run(simulation, 0.3 * FULL, ["broken", *NAMES])
    assert len(ranking.halving.rounds) > 1
    assert all("broken" in one.sources and "broken" not in one.left_out for one in ranking.halving.rounds)
    assert "broken" in [row.name for row in ranking.rows]


def test_pilots_with_minutes_are_those_of_the_last_round_alone():
    simulation, requests = Simulation(QUALITY), []

    def one_round(sources, request, prefix):
        requests.append((request.pilot, request.pilot_epochs, request.minutes))
        return simulation(sources, request, prefix)

    request = RankRequest(pilot=ALL, pilot_epochs=1, minutes=5.0)
    rank_within(30 * FULL, NAMES, request, DIGITS, one_round, lambda: simulation.now)
    assert len(requests) > 1
    assert requests == [(0, None, None)] * (len(requests) - 1) + [(ALL, 1, 5.0)]


def test_a_budget_that_is_not_positive_is_refused():
    with pytest.raises(UsageError, match="must be positive"):
        rank_within(0, NAMES, RankRequest(), DIGITS, None)


@pytest.mark.usefixtures("own_cache")
def test_with_few_samples_the_ranking_is_the_same_as_without_a_budget(sources, tmp_path):
    target = small_target(tmp_path, 0)
    samples = SampleRequest(limit=2000)
    request = RankRequest(by="knn", scores=("knn",), resamples=0, samples=samples, baselines="none")
    stages = []
    limited = rank(target, [VIT, CNN], request, Backend("serial"), budget=600, listener=stages.append)
    free = rank(target, [VIT, CNN], request, Backend("serial"))
    assert [one.samples for one in limited.halving.rounds] == [36]
    for name, table in free.tables.items():
        np.testing.assert_array_equal(table.standings.values, limited.tables[name].standings.values)
    assert [stage.stage for stage in stages[-1]] == ["features", "scores"]


@pytest.mark.usefixtures("own_cache")
def test_rounds_are_stages_and_the_page_says_what_was_left_out(sources, tmp_path):
    path = tmp_path / "target.npz"
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 120)
    np.savez(path, x=(rng.random((240, 1, 12, 12)) + 0.3 * labels[:, None, None, None]).astype(np.float32), y=labels)
    out = tmp_path / "out"
    options = ("--by", "knn", "--score", "knn", "--resamples", "0", "--input-size", "32", "--budget", "0.000001")
    options += ("--split", "all")
    names = f"{VIT},{CNN},hf:absent/model"
    done = run_in_process("rank", "--target", str(path), "--sources", names, *options, "--jobs", "1", "--out", str(out))
    assert done.returncode == 1, done.stderr
    assert "The budget ended at 120 of 240 samples" in " ".join(done.stdout.split())
    assert run_in_process("report", str(out)).returncode == 0
    assert "The budget ended at 120 of 240 samples" in (out / "report.html").read_text()
