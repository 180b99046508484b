"""The same ranking by processes of this machine, by workers of Dask, and by workers of Dask of which one is killed.

    python benchmarks/distribution.py NEW-FOLDER

Each way ranks 6 sources on 4 targets by `modgap rank`, with two processes and a cache of its own that is empty at the
beginning. The bytes of all files of results are compared with those of the first way. The cluster of Dask is a
scheduler with two workers of one thread, which the command connects to by `--address`. One of them is killed with
SIGKILL in the middle of the time that the command took before. A line of JSON tells each way.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dask import distributed

SOURCES = (
    "vit-fashion,efficientnet-lite0@64px,efficientnet-lite1@64px,efficientnet-lite2@64px,efficientnet-lite0@96px,minilm"
)
TARGETS = ("digits", "wine", "basic-motions", "japanese-vowels")
SAMPLES = 200
WORKERS = 2


def dask_cluster() -> distributed.LocalCluster:
    """Return a scheduler and workers, each in a process that is started again when it is lost."""
    return distributed.LocalCluster(
        n_workers=WORKERS,
        threads_per_worker=1,
        dashboard_address=None,
        memory_limit=None,
        silence_logs=logging.CRITICAL,
    )


def worker_processes(cluster: distributed.LocalCluster) -> list[int]:
    """Return the IDs of the processes of the workers."""
    return [nanny.pid for nanny in cluster.workers.values()]


def rank(cache: Path, out: Path, *arguments: str) -> float:
    """Rank all sources on all targets from an empty cache, and return the seconds."""
    targets = [argument for target in TARGETS for argument in ("--target", target)]
    line = [sys.executable, "-m", "modgap", "rank", *targets, "--sources", SOURCES, "--limit", str(SAMPLES), "--quiet"]
    began = time.perf_counter()
    environment = {**os.environ, "MODGAP_CACHE": str(cache)}
    subprocess.run([*line, "--out", str(out), *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of results."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def count_entries(cache: Path) -> int:
    """Return how many results are in a cache."""
    return sum(1 for _ in cache.glob("*/??/*.safetensors"))


def compare(folder: Path) -> Iterator[dict[str, object]]:
    """Yield the seconds of each way, and whether its files have the bytes of the first."""
    caches = {way: folder / f"cache-{way}" for way in ("loky", "dask", "killed")}
    seconds = rank(caches["loky"], folder / "loky", "--jobs", str(WORKERS))
    expected = contents(folder / "loky")
    n_bytes = sum(map(len, expected.values()))
    yield {"way": "loky", "seconds": round(seconds, 1), "files": len(expected), "bytes": n_bytes}
    with dask_cluster() as cluster:
        seconds = rank(caches["dask"], folder / "dask", "--address", cluster.scheduler_address)
    yield {"way": "dask", "seconds": round(seconds, 1), "same_bytes": contents(folder / "dask") == expected}
    n_before = 0
    with dask_cluster() as cluster:
        before = worker_processes(cluster)

        def kill_a_worker() -> None:
            nonlocal n_before
            n_before = count_entries(caches["killed"])
            os.kill(before[-1], signal.SIGKILL)

        timer = threading.Timer(seconds / 2, kill_a_worker)
        timer.start()
        seconds = rank(caches["killed"], folder / "killed", "--address", cluster.scheduler_address)
        timer.join()
        after = worker_processes(cluster)
    assert len(before) == WORKERS, before
    assert before[-1] not in after, (before, after)
    yield {
        "way": "dask, one worker killed",
        "seconds": round(seconds, 1),
        "entries_before": n_before,
        "entries": count_entries(caches["killed"]),
        "same_bytes": contents(folder / "killed") == expected,
    }


def main() -> None:
    """Run the comparison in a new folder."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True)
    for figures in compare(folder):
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
