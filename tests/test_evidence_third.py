"""The jobs of the third edition: which targets they touch, and in which order they are known."""

import json
from pathlib import Path

import numpy as np
import pytest

TRUTH = Path(__file__).parent.parent / "benchmarks" / "truth"


@pytest.fixture(name="third")
def jobs_of_the_third_edition(import_benchmark):
    return import_benchmark("evidence.third_jobs"), import_benchmark("result_log")


def test_no_judging_target_is_in_the_history(third):
    jobs, _ = third
    judging = {name for names in json.loads((TRUTH / "judging_targets.json").read_text()).values() for name in names}
    assert not judging & {target for _, target in jobs.history_pairs()}
    assert {target for _, target in jobs.choice_pairs()} == judging - set(jobs.WITHOUT_CLASSES)
    assert len(jobs.SOURCES) == len(set(jobs.SOURCES)) >= 16


def test_the_whole_training_has_the_rate_with_the_lowest_error_on_the_other_half(third, tmp_path):
    jobs, logs = third
    log = logs.ResultLog(tmp_path / "log.jsonl")
    halves = list(jobs.training_jobs([("onet", "wine")], log))
    assert [(job.part, job.rate) for job in halves] == [("half", rate) for rate in jobs.RATES]
    for job, error in zip(halves, (20.0, 30.0, 10.0), strict=True):
        log.add(job, {"errors": {"1": 0.0, "3": 0.0, "10": error}, "seconds": 1.0})
    *_, whole = jobs.training_jobs([("onet", "wine")], log)
    assert (whole.part, whole.rate, whole.seed) == ("all", jobs.RATES[2], 0)


def test_a_source_that_does_not_read_a_target_has_a_reason_and_no_whole_training(third, tmp_path):
    jobs, logs = third
    log = logs.ResultLog(tmp_path / "log.jsonl")
    pair = [("vit-fashion", "ner-tweets")]
    for job in jobs.training_jobs(pair, log):
        assert "text" in jobs.work(job, log)["reason"]
    assert all(job.part == "half" for job in jobs.training_jobs(pair, log))


def test_power_and_false_positives_are_those_of_the_t_test_where_differences_are_normal(import_benchmark, monkeypatch):
    power = import_benchmark("evidence.third_power")
    differences = np.random.default_rng(0).normal(3, 2, 400)
    monkeypatch.setattr(power, "earlier_differences", lambda: iter([("A", "one - other", differences, 30)]))
    ((*_, effect, found, below, above),) = power.power_rows(2000)
    assert float(effect) == pytest.approx(differences.std(ddof=1) * 0.529, abs=0.1)
    assert [float(share.removesuffix(" %")) for share in (found, below, above)] == pytest.approx(
        [80, 2.5, 2.5], abs=2.5
    )
