"""The study's quick mode: every kind of job once, and its tables."""

import dataclasses
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).parent.parent / "benchmarks" / "transfer.py"


@pytest.mark.slow
@pytest.mark.bundle
def test_quick_study_prints_its_tables(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MODGAP_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, str(STUDY), "quick"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    for title in (
        ": test error",
        ": linear-probe error on",
        "encoder is trained: held-out error",
        ": seconds of stage2",
    ):
        assert done.stdout.count(title) >= 2
    # Of images two surrogates are probed, of text one.
    counts = {name: done.stdout.count(f"\n{name} ") for name in ("untouched", "finetune", "mona")}
    assert counts == {"untouched": 5, "finetune": 7, "mona": 13}


def test_study_has_what_the_sweep_chose(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(STUDY.parent))
    jobs = importlib.import_module("study.jobs")
    log = importlib.import_module("result_log").ResultLog(tmp_path / "results.jsonl")
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


def test_plan_counts_the_jobs(tmp_path):
    done = subprocess.run(
        [sys.executable, str(STUDY), "plan", "--results", str(tmp_path / "none.jsonl")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"sweep", "2d", "1d", "cnn", "surrogate"} <= set(done.stdout.split())
