"""Memory that models free is reused within a process, and given back at the end."""

import subprocess
import sys

import numpy as np
import pytest

from modgap import freed_memory
from modgap.freed_memory import reused_memory, share_heap

IS_GLIBC = freed_memory._function("mallopt") is not None
SIZE = 64 << 20
TIMES = 8
PAGE = 4096
PROGRAM = f"""
import resource, sys, threading
import numpy as np
from modgap.freed_memory import reused_memory, share_heap

def allocate():
    for _ in range({TIMES}):
        np.ones({SIZE}, np.uint8)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    threads = [threading.Thread(target=allocate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

share_heap()
without = faults()
with reused_memory():
    within = faults()
print(without, within)
"""


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * PAGE


def faults(block):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def allocate():
    for _ in range(TIMES):
        np.ones(SIZE, np.uint8)


@pytest.mark.skipif(not IS_GLIBC, reason="the C library is not glibc")
def test_blocks_are_allocated_once_and_given_back():
    before = resident()
    without = faults(allocate)
    with reused_memory():
        allocate()
        within = faults(allocate)
        kept = resident()
    assert within < without / 10
    assert kept - before > SIZE / 2
    assert resident() - before < SIZE / 2
    assert faults(allocate) > without / 2


@pytest.mark.skipif(not IS_GLIBC, reason="the C library is not glibc")
def test_a_block_in_a_block_ends_nothing():
    with reused_memory():
        with reused_memory():
            allocate()
        assert faults(allocate) < SIZE / PAGE / 4


@pytest.mark.skipif(not IS_GLIBC, reason="the C library is not glibc")
def test_threads_share_what_is_free():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    without, within = map(int, done.stdout.split())
    # Each of two threads may hold one block at a time.
    assert within < without / 3


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(freed_memory, "_function", lambda _name: None)
    share_heap()
    with reused_memory():
        assert np.ones(10).sum() == 10
