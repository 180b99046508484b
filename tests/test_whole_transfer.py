"""The benchmark of whole transfers: what it keeps of a run, and the regrets that it reports."""

import itertools
import json
import sys

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


def test_nothing_is_told_of_judging_targets_before_all_strategies_have_run(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "transfer_targets", lambda: ["a", "b"])
    path = tmp_path / "lines.jsonl"
    log = benchmark.ResultLog(path)
    monkeypatch.setattr("sys.argv", ["whole_transfer", "report", "--judging", "--results", str(path)])
    pairs = list(itertools.product("ab", benchmark.STRATEGIES))
    for target, strategy in pairs:
        with pytest.raises(SystemExit):
            benchmark.main()
        log.add(benchmark.Job(target, strategy), {"test": 12.25, "unit": "%", "seconds": 1.0})
    assert "12.25" not in capsys.readouterr().out
    benchmark.main()
    assert "12.2" in capsys.readouterr().out


def test_trainings_on_judging_targets_have_a_linear_decay_and_tell_no_error(benchmark, tmp_path, monkeypatch, capsys):
    given = {}

    def work(job, options, log):
        given[job.strategy] = options
        return {"test": 12.25, "seconds": 1.0}

    monkeypatch.setattr(benchmark, "work", work)
    monkeypatch.setattr(benchmark, "has_protocol", lambda: True)
    monkeypatch.setattr(benchmark, "transfer_targets", lambda: ["a"])
    monkeypatch.setattr(benchmark, "refuse_absent", list)
    arguments = ["whole_transfer", "run", "--judging", "--results", str(tmp_path / "lines.jsonl")]
    monkeypatch.setattr("sys.argv", arguments)
    benchmark.main()
    assert {name for name, options in given.items() if "stage2.decay_epochs=10" in options} == {
        "fine-tuning",
        "scratch",
    }
    assert "12.25" not in capsys.readouterr().out


def test_a_strategy_that_a_signal_ends_has_no_line_and_will_run_again(benchmark, tmp_path, monkeypatch):
    """Such a strategy would count as one that failed."""
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    # The interpreter gets the name of a file in place of -P and of the module.
    (tmp_path / "python").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{killed}'\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(benchmark.sys, "executable", str(tmp_path / "python"))
    log = benchmark.ResultLog(tmp_path / "lines.jsonl")
    with pytest.raises(SystemExit, match="Signal 9 ended train --method baseline"):
        benchmark.work(benchmark.Job("wine", "best baseline"), ["--target", "wine"], log)
    assert log.results() == []


def test_no_strategy_runs_without_data_or_after_the_code_has_changed(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["whole_transfer", "run", "--results", str(tmp_path / "lines.jsonl")])
    monkeypatch.setattr(benchmark, "PACKAGED", ("digits", "no-such-data"))
    with pytest.raises(SystemExit, match="no data of no-such-data"):
        benchmark.main()
    monkeypatch.setattr(benchmark, "PACKAGED", ("digits",))
    monkeypatch.setattr(benchmark, "work", lambda *_: {"test": 1.0, "seconds": 1.0})
    digests = itertools.chain(["at first"] * 3, itertools.repeat("later"))
    monkeypatch.setattr(benchmark, "code_digest", lambda: next(digests))
    with pytest.raises(SystemExit, match="code has changed"):
        benchmark.main()


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
