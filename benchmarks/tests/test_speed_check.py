"""The comparison of speed ratios with their history; the ratios themselves are measured by `make bench-check`."""

import json
import sys

import pytest

from benchmarks.speed import check


def results(fast, cores=2):
    """Results of pytest-benchmark for two figures, whose baselines take one second."""
    times = {("search", "modgap"): fast, ("pass", "modgap"): 1.1}
    times |= {(name, "baseline"): 1.0 for name in ("search", "pass")}
    benchmarks = [
        {"extra_info": {"figure": name, "side": side, "scale": 10.0 if name == "search" else 1.0},
         "stats": {"min": seconds, "max": 9.0}}
        for (name, side), seconds in times.items()
    ]  # fmt: skip
    machine = {"cpu": {"brand_raw": "A processor", "count": cores}}
    facts = {"commit_info": {"id": "abc"}, "datetime": "2026-01-02T03"}
    return {"benchmarks": benchmarks, "machine_info": machine, **facts}


@pytest.fixture(name="run")
def compare_with_a_history(tmp_path, monkeypatch, capsys):
    def compare(fast, *options, cores=2):
        path = tmp_path / "results.json"
        path.write_text(json.dumps(results(fast, cores)))
        history = tmp_path / "history.jsonl"
        monkeypatch.setattr(sys, "argv", ["check", str(path), "--history", str(history), *options])
        code = check.main()
        lines = history.read_text().splitlines() if history.exists() else []
        return code, capsys.readouterr().out, [json.loads(line) for line in lines]

    return compare


def test_a_ratio_is_the_time_of_the_baseline_for_the_same_work():
    assert check.ratios(results(0.5)) == pytest.approx({"search": 20.0, "pass": 1 / 1.1})


def test_a_run_is_compared_with_the_median_of_the_last_runs(run):
    for seconds in (0.5, 0.5, 0.5, 0.45, 0.6):
        code, _, history = run(seconds)
        assert code == 0
    assert len(history) == 5
    assert history[-1]["ratios"] == {"search": 16.667, "pass": 0.90909}
    code, text, unchanged = run(0.64)
    assert code == 1
    assert unchanged == history
    assert "slower than before by more than 20%: search" in text
    assert run(0.62)[0] == 0


def test_runs_on_other_machines_do_not_count(run):
    assert run(0.5)[0] == 0
    code, text, history = run(5.0, cores=64)
    assert code == 0
    assert "none" in text
    assert [record["machine"] for record in history] == ["A processor, 2 cores", "A processor, 64 cores"]


def test_a_run_can_be_compared_without_being_kept(run):
    run(0.5)
    assert len(run(0.5, "--no-history")[2]) == 1
