"""The study's quick mode: every kind of job once, and its tables."""

import dataclasses
import sys

import pytest

from modgap.forward import probe_head


@pytest.mark.long
@pytest.mark.bundle
def test_quick_study_prints_its_tables(import_benchmark, own_cache, monkeypatch, capsys):
    # The head of the text model is fitted on as many samples as the rest of the quick mode can use.
    monkeypatch.setattr(probe_head, "MOST_SAMPLES", 500)
    import_benchmark("transfer").quick()
    printed = capsys.readouterr().out
    for title in (
        ": test error",
        ": linear-probe error on",
        "encoder is trained: held-out error",
        ": seconds of stage2",
    ):
        assert printed.count(title) >= 2
    # Of images two surrogates are probed, of text one.
    counts = {name: printed.count(f"\n{name} ") for name in ("untouched", "finetune", "mona")}
    assert counts == {"untouched": 5, "finetune": 7, "mona": 13}


def test_study_has_what_the_sweep_chose(import_benchmark, tmp_path):
    jobs = import_benchmark("study.jobs")
    log = import_benchmark("result_log").ResultLog(tmp_path / "results.jsonl")
    with pytest.raises(FileNotFoundError, match="lacks 52 of its jobs"):
        list(jobs.jobs("2d", log))
    for job in jobs.jobs("sweep", log):
        error = 2.0 if job.label == "0.1-4.0" else 3.0 if job.label else 4.0
        # One target alone says otherwise.
        error -= 1.5 * (job.label == "0.01-0.4" and job.target == "arrowhead" and job.seed == 1)
        log.add(job, {"result": {"test": error}})
    listed = list(jobs.jobs("2d", log))
    assert len(listed) == 4 * (1 + 5 * 8)
    for job in listed:
        assert ("stage1.alpha=0.1" in job.settings and "stage1.lambda=4.0" in job.settings) == (job.method == "mona")
    changed = dataclasses.replace(listed[0], limit=7)
    log.add(changed, {})
    assert log.get(changed) is not None
    assert log.get(listed[0]) is None


def test_plan_counts_the_jobs(import_benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["transfer.py", "plan", "--results", str(tmp_path / "none.jsonl")])
    import_benchmark("transfer").main()
    assert {"sweep", "2d", "1d", "cnn", "surrogate"} <= set(capsys.readouterr().out.split())
