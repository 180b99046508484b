"""Distribution of many jobs over workers of one machine: overhead a job, and what kills of workers change.

    python benchmarks/distribution.py                         100,000 simulated jobs by loky and by Dask
    python benchmarks/distribution.py --jobs 10000 --kill     one worker is killed on the way
    python benchmarks/distribution.py --table FOLDER          6 sources on 4 targets: loky, Dask, four shares
    python benchmarks/distribution.py --pairs FOLDER          the same by loky and by Dask, three times in turn

The pass of a simulated job waits for a stated time, so only the distribution is measured. Each run of a job is noted in
a file of its worker, so that a job that ran twice, or never, is found. `--table` runs `modgap rank`: by loky; by Dask,
where a worker is killed; and in four shares, of which one is killed and run again. It compares the bytes of all files.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from modgap.jobs import Backend

SOURCES = "vit-fashion,efficientnet-lite0@64px,efficientnet-lite1@64px,efficientnet-lite2@64px,crepe-tiny,silero-vad"
TARGETS = ("digits", "wine", "basic-motions", "japanese-vowels")
KILLED_AFTER = 0.3
"""Share of the time of an uninterrupted command after which a process is killed."""


class Wait:
    """A simulated job that notes that it ran."""

    def __init__(self, number: int, seconds: float, folder: Path) -> None:
        """Keep the number of the job."""
        self.number, self.seconds, self.folder = number, seconds, folder

    def __call__(self) -> int:
        """Wait, and return the number."""
        time.sleep(self.seconds)
        with (self.folder / str(os.getpid())).open("a") as stream:
            stream.write(f"{self.number}\n")
        return self.number


def kill_a_worker(process: int) -> None:
    """Kill the youngest child of a process that is a worker of loky or of Dask."""
    signs = ("popen_loky", "spawn_main", "forkserver")
    children = psutil.Process(process).children(recursive=True)
    workers = [one for one in children if any(sign in " ".join(one.cmdline()) for sign in signs)]
    workers[-1].send_signal(signal.SIGKILL)


def simulate(name: str, n_jobs: int, workers: int, seconds: float, *, kill: bool) -> dict[str, object]:
    """Return the figures of one backend."""
    with tempfile.TemporaryDirectory() as folder, Backend(name, workers) as backend:
        list(backend.run([Wait(-1 - number, 0.01, Path(folder)) for number in range(2 * workers)]))
        jobs = [Wait(number, seconds, Path(folder)) for number in range(n_jobs)]
        began = time.perf_counter()
        results: Counter[int] = Counter()
        for number, (_, result) in enumerate(backend.run(jobs)):
            results[result] += 1
            if kill and number == n_jobs // 3:
                kill_a_worker(os.getpid())
        wall = time.perf_counter() - began
        runs = Counter(int(line) for path in Path(folder).iterdir() for line in path.read_text().split())
    return {
        "backend": name,
        "workers": workers,
        "killed": int(kill),
        "jobs": n_jobs,
        "wall_seconds": round(wall, 1),
        "overhead_ms_per_job": round(1e3 * (wall / n_jobs - seconds / workers), 3),
        "lost": n_jobs - len(results),
        "given_twice": sum(number > 1 for number in results.values()),
        "run_twice": sum(number > 1 for job, number in runs.items() if job >= 0),
    }


def command(folder: Path, name: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return a ranking with a cache of its own, and its environment."""
    targets = [argument for target in TARGETS for argument in ("--target", target)]
    line = [sys.executable, "-m", "modgap", "rank", *targets, "--sources", SOURCES, "--limit", "200", "--quiet"]
    return [*line, "--json", *arguments], {**os.environ, "MODGAP_CACHE": str(folder / f"cache {name}")}


def finish(folder: Path, name: str, *arguments: str, kill: str = "", after: float = 0.0) -> float:
    """Run a command, and return its seconds; `kill` is `worker` or `command`."""
    line, environment = command(folder, name, *arguments)
    began = time.perf_counter()
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    if kill:
        time.sleep(after)
        if kill == "command":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            kill_a_worker(process.pid)
    code = process.wait()
    assert code == (-signal.SIGKILL if kill == "command" else 0), code
    return time.perf_counter() - began


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all result files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def compare(folder: Path) -> Iterator[dict[str, object]]:
    """Yield the seconds of each way, and whether its files have the bytes of the first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    by_loky = finish(folder, "loky", "--out", str(folder / "loky"))
    expected = contents(folder / "loky")
    yield {"way": "loky", "seconds": round(by_loky, 1), "files": len(expected)}
    after = KILLED_AFTER * by_loky
    seconds = finish(folder, "dask", "--backend", "dask", "--out", str(folder / "dask"), kill="worker", after=after)
    yield {
        "way": "dask, one worker killed",
        "seconds": round(seconds, 1),
        "equal": contents(folder / "dask") == expected,
    }
    shares = [finish(folder, "shares", "--shard", f"{number}/4") for number in (1, 2, 3)]
    finish(folder, "shares", "--shard", "4/4", kill="command", after=KILLED_AFTER * shares[0])
    again = finish(folder, "shares", "--shard", "4/4")
    gathered = finish(folder, "shares", "--out", str(folder / "shares"))
    yield {
        "way": "four shares, one killed and run again",
        "seconds": [round(one, 1) for one in (*shares, again)],
        "gathering_seconds": round(gathered, 1),
        "equal": contents(folder / "shares") == expected,
    }


def time_pairs(folder: Path) -> Iterator[dict[str, object]]:
    """Yield the seconds of loky and of Dask, each from an empty cache, three times in turn."""
    for number in range(3):
        seconds = {}
        for name in ("loky", "dask"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            seconds[name] = round(finish(folder, name, "--backend", name), 1)
        yield {"round": number + 1, **seconds, "ratio": round(seconds["dask"] / seconds["loky"], 2)}


def main() -> None:
    """Run the measurement of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sleep", type=float, default=0.001, help="Seconds of a simulated pass.")
    parser.add_argument("--kill", action="store_true", help="Kill a worker after a third of the jobs.")
    parser.add_argument("--table", type=Path, metavar="FOLDER")
    parser.add_argument("--pairs", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.table or options.pairs:
        for figures in compare(options.table) if options.table else time_pairs(options.pairs):
            print(json.dumps(figures), flush=True)
        return
    for name in ("loky", "dask"):
        print(json.dumps(simulate(name, options.jobs, options.workers, options.sleep, kill=options.kill)), flush=True)


if __name__ == "__main__":
    main()
