"""The study's quick mode: every kind of job once, and its tables."""

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
    for title in ("test error", "surrogate linear-probe error", "held-out discrepancy"):
        assert done.stdout.count(title.split()[0]) >= 2
    for name in ("untouched", "finetune", "mona"):
        assert done.stdout.count(f"\n {name} ") == 6


def test_plan_counts_the_jobs(tmp_path):
    done = subprocess.run(
        [sys.executable, str(STUDY), "plan", "--results", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert {"sweep", "2d", "1d", "cnn", "surrogate"} <= set(done.stdout.split())
