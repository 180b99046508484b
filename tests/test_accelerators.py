"""Training, prediction and the pass on a fake device, and on a GPU where there is one, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("device_checks.py")


@pytest.mark.device
@pytest.mark.long
def test_a_device_other_than_the_cpu():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run([*command, str(CHECKS)], cwd=CHECKS.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
