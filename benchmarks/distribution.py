"""Distribution of many jobs over workers of one machine: overhead a job, jobs done twice, jobs lost when workers die.

    python benchmarks/distribution.py FOLDER                          1,000 sources x 100 targets, 2, 8 and 32 workers
    python benchmarks/distribution.py FOLDER --sources 50 --targets 10 --workers 4
    python benchmarks/distribution.py FOLDER --table                  50 x 10 real passes, gathered and one by one

The pass of a job is simulated: it waits for a stated time, so only the distribution is measured. A tenth of the workers
(at least one) is killed at random times, and none is started in its place. Each run of a job is noted in a file of its
worker before and after it, so that a job that was finished twice, or by nobody, is found. A worker that is killed
between the end of a pass and the note that it is finished leaves a job that runs twice and is recorded once.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from modgap.matrix.finished_jobs import FinishedJob, FinishedJobs
from modgap.matrix.job_list import JobList, PlannedJob, read_job_list, write_job_list
from modgap.matrix.worker import FINISHED_FOLDER, work
from modgap.ranking.types import RankRequest

LEASE = 10.0
"""Seconds after which the job of a killed worker is run by another."""


def run_worker(path: Path, log: Path, seconds: float) -> None:
    """Work through a list with simulated passes, and print the time that it took."""
    with (log / f"{os.getpid()}.log").open("a", buffering=1) as stream:

        def runner(_jobs: JobList):  # type: ignore[no-untyped-def]
            def run(job: PlannedJob) -> FinishedJob:
                stream.write(f"begin {job.id}\n")
                time.sleep(seconds)
                stream.write(f"end {job.id}\n")
                return FinishedJob(job.id, "done", "", seconds)

            return run

        print("ready", flush=True)
        began = time.perf_counter()
        summary = work(path, runner, lease=LEASE)
    print(json.dumps({"seconds": time.perf_counter() - began, "finished": summary.finished}), flush=True)


def measure(folder: Path, jobs: list[PlannedJob], n_workers: int, seconds: float, seed: int) -> dict[str, object]:
    """Return the figures of one number of workers."""
    shutil.rmtree(folder, ignore_errors=True)
    log = folder / "log"
    log.mkdir(parents=True)
    began = time.perf_counter()
    planned = write_job_list(folder / "jobs.jsonl", RankRequest(), jobs)
    plan_seconds = time.perf_counter() - began
    command = [sys.executable, __file__, str(folder), "--worker", "--sleep", str(seconds)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(n_workers)]
    for worker in workers:
        worker.stdout.readline()  # type: ignore[union-attr]
    began = time.perf_counter()
    killed = _kill_some(workers, planned, random.Random(seed))
    outputs = [worker.communicate()[0] for worker in workers]
    wall = time.perf_counter() - began
    living = [json.loads(text.splitlines()[-1]) for text in outputs if text.strip()]
    return {
        "workers": n_workers,
        "killed": killed,
        "jobs": len(jobs),
        "plan_seconds": round(plan_seconds, 2),
        "wall_seconds": round(wall, 1),
        "worker_ms_per_job": round(1e3 * (sum(o["seconds"] for o in living) / sum(o["finished"] for o in living)), 3),
        "wall_ms_per_job": round(1e3 * wall / len(jobs), 3),
        **_count(planned, log),
    }


def _kill_some(workers: list[subprocess.Popen], jobs: JobList, chance: random.Random) -> int:
    """Kill a tenth of the workers, each after a random share of the first four fifths of the jobs."""
    victims = chance.sample(workers, max(1, len(workers) // 10))
    shares = sorted(chance.uniform(0.05, 0.8) for _ in victims)
    finished = FinishedJobs(jobs.state_folder / FINISHED_FOLDER)
    for victim, share in zip(victims, shares, strict=True):
        while len(finished.refresh()) < share * len(jobs.jobs):
            time.sleep(0.2)
        victim.send_signal(signal.SIGKILL)
    return len(victims)


def _count(jobs: JobList, log: Path) -> dict[str, int]:
    """Return the numbers of jobs that were finished twice, by nobody, and begun but not finished."""
    lines = [line.split() for path in log.glob("*.log") for line in path.read_text().splitlines()]
    begins = Counter(line[1] for line in lines if len(line) == 2 and line[0] == "begin")
    ends = Counter(line[1] for line in lines if len(line) == 2 and line[0] == "end")
    recorded: Counter[str] = Counter()
    for path in (jobs.state_folder / FINISHED_FOLDER).glob("*.jsonl"):
        recorded.update(json.loads(line)["id"] for line in path.read_text().splitlines())
    ids = {job.id for job in jobs.jobs}
    return {
        "run_twice": sum(number > 1 for number in ends.values()),
        "recorded_twice": sum(number > 1 for number in recorded.values()),
        "lost": len(ids - set(recorded)),
        "begun_and_repeated": sum((begins - ends).values()),
    }


def compare_table(folder: Path, n_sources: int, n_targets: int, n_workers: int) -> dict[str, object]:
    """Run real passes of small models with random weights, and compare the gathered matrix with single rankings."""
    import numpy as np

    from modgap.matrix.gather import gather
    from modgap.matrix.ranking_jobs import plan_jobs
    from modgap.ranking.backends import Backend
    from modgap.ranking.rank import rank

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sources = [f"random:timm:test_resnet@{32 + number}px" for number in range(n_sources)]
    targets = []
    for number in range(n_targets):
        rng = np.random.default_rng(number)
        labels = np.repeat(np.arange(3), 12)
        images = rng.random((36, 1, 12, 12)) + 0.3 * labels[:, None, None, None]
        np.savez(folder / f"target{number}.npz", x=images.astype(np.float32), y=labels)
        targets.append(str(folder / f"target{number}.npz"))
    request = RankRequest(scores=("knn",), by="knn", resamples=0, controls=False, raw=False)
    path = folder / "jobs.jsonl"
    write_job_list(path, request, plan_jobs(targets, sources, request))
    environment = {**os.environ, "MODGAP_CACHE": str(folder / "cache")}
    began = time.perf_counter()
    command = [sys.executable, "-m", "modgap", "worker", str(path), "--quiet"]
    for worker in [subprocess.Popen(command, env=environment) for _ in range(n_workers)]:
        worker.wait()
    worked = time.perf_counter()
    os.environ["MODGAP_CACHE"] = str(folder / "cache")
    matrix, _ = gather(read_job_list(path))
    gathered = time.perf_counter()
    os.environ["MODGAP_CACHE"] = str(folder / "cache of single rankings")
    order = {row.name: number for number, row in enumerate(matrix.rows)}
    equal = 0
    for column, target in enumerate(targets):
        ranking = rank(target, sources, request, Backend("serial"))
        values = ranking.tables["knn"].standings.values
        equal += sum(
            matrix.values[order[row.name], column] == value for row, value in zip(ranking.rows, values, strict=True)
        )
    return {
        "sources": n_sources,
        "targets": n_targets,
        "equal_values": int(equal),
        "of": n_sources * n_targets,
        "worker_seconds": round(worked - began, 1),
        "gather_seconds": round(gathered - worked, 1),
        "serial_seconds": round(time.perf_counter() - gathered, 1),
    }


def main() -> None:
    """Run the measurement of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sources", type=int)
    parser.add_argument("--targets", type=int)
    parser.add_argument("--workers", default="2,8,32")
    parser.add_argument("--sleep", type=float, default=0.001, help="Seconds of a simulated pass.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        run_worker(options.folder / "jobs.jsonl", options.folder / "log", options.sleep)
        return
    numbers = [int(part) for part in options.workers.split(",")]
    if options.table:
        print(json.dumps(compare_table(options.folder, options.sources or 50, options.targets or 10, numbers[0])))
        return
    names = [f"source{number}" for number in range(options.sources or 1000)]
    jobs = [PlannedJob(f"target{t}", name, options.sleep) for t in range(options.targets or 100) for name in names]
    for number in numbers:
        figures = measure(options.folder / f"{number} workers", jobs, number, options.sleep, options.seed)
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
