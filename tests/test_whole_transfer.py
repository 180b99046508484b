"""The benchmark of whole transfers: what it keeps of a run, and the regrets that it reports."""

import json

import pytest


@pytest.fixture(name="benchmark")
def benchmark_module(import_benchmark):
    return import_benchmark("whole_transfer")


def line(target, strategy, test, **more):
    return {"job": {"target": target, "strategy": strategy}, "test": test, "unit": "%", "seconds": 1.0, **more}


def test_regret_is_the_error_minus_the_lowest_of_all_strategies(benchmark, tmp_path, capsys):
    transfer = {"parts": {"race": 120.0, "final fits": 30.0}, "peak_mb": 1500, "chosen": "linear", "helps": "no"}
    results = [
        line("a", "transfer, 2 minutes", 12.0, **transfer),
        line("a", "best baseline", 10.0),
        line("b", "transfer, 2 minutes", 5.0, **transfer),
        line("b", "best baseline", 9.0),
        line("c", "best baseline", 0.5) | {"unit": ""},
        {"job": {"target": "b", "strategy": "scratch"}, "reason": "It was refused.", "seconds": 1.0},
    ]
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(f"{json.dumps(result)}\n" for result in results))
    benchmark.report(benchmark.ResultLog(path))
    rows = [text.split() for text in capsys.readouterr().out.splitlines()]
    assert ["transfer,", "2", "minutes", "1", "2"] in rows
    assert ["best", "baseline", "2", "4"] in rows
    assert ["a", "2", "2.00", "0.50", "1,500", "MB", "linear", "no"] in rows
    assert ["b,", "scratch:", "It", "was", "refused."] in rows
    assert benchmark.errors_frame(results).loc["c"].dropna().to_dict() == {"best baseline": 0.5}


@pytest.mark.long
def test_a_strategy_is_a_process_whose_test_error_time_and_memory_are_kept(benchmark, tmp_path, monkeypatch):
    monkeypatch.setitem(benchmark.STRATEGIES, "transfer, 2 minutes", ("transfer", "--minutes", "0"))
    log = benchmark.ResultLog(tmp_path / "lines.jsonl")
    for strategy in ("transfer, 2 minutes", "best baseline"):
        result = benchmark.work(benchmark.Job("wine", strategy), ["--target", "wine"], log)
        assert 0 <= result["test"] <= 30
        assert result["method"].startswith("baseline")
        assert result["peak_mb"] > 100
    refused = benchmark.work(benchmark.Job("none", "best baseline"), ["--target", "no-such-target"], log)
    assert "no-such-target" in refused["reason"]
    assert len(log.results()) == 3
