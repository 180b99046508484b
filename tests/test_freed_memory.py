"""Memory that models free is reused within a process, and given back at the end."""

import subprocess
import sys

import numpy as np
import pytest

from modgap.process import resources
from modgap.process.resources import reused_memory, share_heap

SIZE = 64 << 20
TIMES = 8
PAGE = 4096
# In a process of its own, because the threads of the tests' processes have heaps of their own.
START = f"""
import resource, threading
import numpy as np
from modgap.process.resources import reused_memory, share_heap

def allocate():
    for _ in range({TIMES}):
        np.ones({SIZE}, np.uint8)

def faults(n_threads=0):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    threads = [threading.Thread(target=allocate) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not threads:
        allocate()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * {PAGE}
"""
ONE_THREAD = """
before = resident()
without = faults()
with reused_memory():
    allocate()
    within = faults()
    kept = resident()
print(without, within, faults(), kept - before, resident() - before)
"""
NESTED = """
with reused_memory():
    with reused_memory():
        allocate()
    print(faults())
"""
TWO_THREADS = """
share_heap()
without = faults(2)
with reused_memory():
    print(without, faults(2))
"""
glibc = pytest.mark.skipif(resources._function("mallopt") is None, reason="the C library is not glibc")


def numbers(program):
    done = subprocess.run([sys.executable, "-c", START + program], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@glibc
def test_blocks_are_allocated_once_and_given_back():
    without, within, after, kept, left = numbers(ONE_THREAD)
    assert within < without / 10
    assert after > without / 2
    assert kept > SIZE / 2
    assert left < SIZE / 2


AFTERWARDS = """
with reused_memory():
    pass
block = np.ones(1 << 20, np.uint8)
del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    np.ones(1 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@glibc
def test_smaller_blocks_are_still_reused_afterwards():
    """By itself, glibc reuses blocks of a size that was freed once, until a parameter is set."""
    (faults,) = numbers(AFTERWARDS)
    assert faults < 100 * (1 << 20) / PAGE / 10


@glibc
def test_a_block_in_a_block_ends_nothing():
    (within,) = numbers(NESTED)
    assert within < SIZE / PAGE / 4


@glibc
def test_threads_share_what_is_free():
    without, within = numbers(TWO_THREADS)
    # Each of two threads may hold one block at a time.
    assert within < without / 3


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(resources, "_function", lambda _name: None)
    share_heap()
    with reused_memory():
        assert np.ones(10).sum() == 10
