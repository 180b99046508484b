"""Workers that share a list of jobs: no job is done twice, and none is lost, whoever is killed."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from modgap.errors import InputError
from modgap.matrix import worker as worker_module
from modgap.matrix.finished_jobs import FinishedJob, FinishedJobs
from modgap.matrix.job_list import PlannedJob, read_job_list, write_job_list
from modgap.matrix.leases import Leases
from modgap.matrix.plan_status import plan_status
from modgap.matrix.worker import FINISHED_FOLDER, work
from modgap.ranking.types import RankRequest

ROOT = Path(__file__).parents[1]


def job_list(folder, targets, sources):
    jobs = [PlannedJob(f"t{t}", f"s{s}", 0.5) for t in range(targets) for s in range(sources)]
    return write_job_list(folder / "jobs.jsonl", RankRequest(), jobs)


def stub(seconds, log):
    """Return a runner of jobs that sleep, and that notes each run in a file."""

    def runner(_jobs):
        def run(job):
            with log.open("a") as stream:
                stream.write(f"{job.id}\n")
            time.sleep(seconds)
            return FinishedJob(job.id, "done", "", seconds)

        return run

    return runner


# The list


def test_a_list_is_read_as_it_was_written(tmp_path):
    written = job_list(tmp_path, 3, 4)
    assert read_job_list(written.path) == written
    assert written.targets == ("t0", "t1", "t2")
    assert len({job.id for job in written.jobs}) == 12


def test_a_longer_list_has_the_same_folder_and_one_of_another_request_has_not(tmp_path):
    written = job_list(tmp_path, 3, 4)
    longer = job_list(tmp_path, 4, 5)
    assert longer.state_folder == written.state_folder
    assert {job.id for job in written.jobs} < {job.id for job in longer.jobs}
    other = write_job_list(written.path, RankRequest(resamples=10), written.jobs)
    assert other.state_folder != written.state_folder
    elsewhere = RankRequest(samples=replace(RankRequest().samples, device="cuda:1", loader_workers=2))
    assert write_job_list(written.path, elsewhere, written.jobs).state_folder == written.state_folder


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (1, ""),
        (1, "{}"),
        (1, '{"modgap_jobs": 2, "targets": ["a"], "request": {}}'),
        (1, '{"modgap_jobs": 1, "targets": ["a"], "request": {"resamples": "many"}}'),
        (1, '{"modgap_jobs": 1, "targets": ["a"], "request": {"samples": {"limit": 0}}}'),
        (1, "[" * 100_000),
        (2, '{"target": 9, "source": "x"}'),
        (2, '{"target": 0, "source": 3}'),
        (2, '{"target": 0, "source": "x", "command": "rm"}'),
        (2, "\x1b]0;x\x07"),
    ],
)
def test_a_damaged_list_is_refused_with_its_line(tmp_path, number, line):
    path = job_list(tmp_path, 1, 1).path
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=f"Line {number} of"):
        read_job_list(path)


def test_a_list_that_is_absent_is_refused(tmp_path):
    with pytest.raises(InputError, match="Cannot read the list of jobs"):
        read_job_list(tmp_path / "absent.jsonl")


# Claims


def test_a_job_is_claimed_once(tmp_path):
    one, other = Leases(tmp_path), Leases(tmp_path)
    claim = one.claim("ab12")
    assert claim.number == 0
    assert other.claim("ab12") is None
    assert one.holds(claim)
    assert other.claim("cd34") is not None


def test_an_abandoned_claim_is_taken_over_by_one_process(tmp_path):
    one, *others = (Leases(tmp_path, seconds=0.2) for _ in range(5))
    claim = one.claim("ab12")
    time.sleep(0.3)
    taken = [claim for claim in (other.claim("ab12") for other in others) if claim]
    assert [claim.number for claim in taken] == [1]
    assert not one.holds(claim)


def test_a_renewed_claim_is_not_abandoned(tmp_path):
    one, other = Leases(tmp_path, seconds=0.4), Leases(tmp_path, seconds=0.4)
    claim = one.claim("ab12")
    with one.renewed(claim):
        time.sleep(1.0)
        assert other.claim("ab12") is None
    assert one.holds(claim)


def test_a_job_is_given_up_after_three_claims(tmp_path):
    leases = Leases(tmp_path, seconds=0.05)
    for number in range(3):
        assert not leases.is_given_up("ab12")
        assert leases.claim("ab12").number == number
        time.sleep(0.1)
    assert leases.claim("ab12") is None
    assert leases.is_given_up("ab12")


def test_each_claim_has_the_lease_of_the_process_that_made_it(tmp_path):
    patient, hasty = Leases(tmp_path, seconds=60), Leases(tmp_path, seconds=0.05)
    assert patient.claim("ab12").number == 0
    time.sleep(0.1)
    assert hasty.claim("ab12") is None
    assert hasty.claim("cd34").number == 0
    time.sleep(0.1)
    assert patient.claim("cd34").number == 1
    for damaged in ("", "many", "-1", "nan", "inf", "9" * 100, "86401"):
        (tmp_path / "ef").mkdir(exist_ok=True)
        (tmp_path / "ef" / "ef56.0").write_text(damaged)
        assert patient.claim("ef56") is None


def test_a_released_claim_is_free_at_once_and_does_not_count_as_lost(tmp_path):
    leases = Leases(tmp_path)
    for number in range(5):
        claim = leases.claim("ab12")
        assert claim.number == number
        assert not leases.is_given_up("ab12")
        leases.release(claim)
    lost = Leases(tmp_path, seconds=0.05)
    for number in range(5, 8):
        assert lost.claim("ab12").number == number
        time.sleep(0.1)
    assert lost.claim("ab12") is None
    assert lost.is_given_up("ab12")


# Results


def test_half_a_line_of_a_killed_worker_is_left_out_and_hostile_lines_too(tmp_path):
    finished = FinishedJobs(tmp_path)
    finished.append(FinishedJob("a", "done"))
    good = json.dumps({"id": "b", "status": "done"})
    lines = [
        good,
        "[" * 100_000,
        '{"id": "c", "status": "great"}',
        '{"id": "d", "status": "done", "more": 1}',
        good[:7],
    ]
    (tmp_path / "other.jsonl").write_text("\n".join(lines))
    assert set(finished.refresh()) == {"a", "b"}
    with (tmp_path / "other.jsonl").open("a") as stream:
        stream.write(good[7:].replace('"b"', '"e"') + "\n")
    assert set(finished.refresh()) == {"a", "b", "e"}


def test_of_results_of_one_attempt_one_that_is_done_counts_in_any_order(tmp_path):
    for order in (("done", "failed"), ("failed", "done")):
        folder = tmp_path / order[0]
        for number, status in enumerate(order):
            line = json.dumps({"id": "a", "status": status, "reason": str(number)})
            folder.mkdir(exist_ok=True)
            (folder / f"{number}.jsonl").write_text(f"{line}\n")
        assert FinishedJobs(folder).refresh()["a"].status == "done"


def test_a_reason_of_bytes_that_are_no_text_is_read_by_all(tmp_path):
    FinishedJobs(tmp_path).append(FinishedJob("a", "failed", b"no file x\xff.npz".decode("utf-8", "surrogateescape")))
    assert FinishedJobs(tmp_path).refresh()["a"].reason == "no file x?.npz"


@pytest.mark.parametrize("seconds", ["Infinity", "1e300", "NaN", "-1"])
def test_impossible_seconds_are_no_result(tmp_path, seconds):
    (tmp_path / "other.jsonl").write_text(f'{{"id": "a", "status": "done", "seconds": {seconds}}}\n')
    assert FinishedJobs(tmp_path).refresh() == {}


class FullDisk:
    """A file that takes nine bytes more."""

    def __init__(self, stream):
        self.stream = stream
        self.left = 9

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def write(self, content):
        if not self.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.stream.write(content[: self.left])
        self.left -= written
        return written


def test_a_line_after_half_a_line_is_read(tmp_path, monkeypatch):
    finished = FinishedJobs(tmp_path)
    opened = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *arguments, **options: FullDisk(opened(*arguments, **options)))
        with pytest.raises(OSError, match="No space"):
            finished.append(FinishedJob("a", "done"))
    finished.append(FinishedJob("b", "done"))
    assert set(FinishedJobs(tmp_path).refresh()) == {"b"}


# Workers


def test_one_worker_runs_all_jobs_and_a_second_finds_nothing_to_do(tmp_path):
    jobs = job_list(tmp_path, 3, 5)
    log = tmp_path / "log"
    summary = work(jobs.path, stub(0, log))
    assert (summary.finished, summary.failed, summary.elsewhere) == (15, 0, 0)
    again = work(jobs.path, stub(0, log))
    assert (again.finished, again.elsewhere) == (0, 15)
    assert sorted(Counter(log.read_text().split()).values()) == [1] * 15


def test_a_worker_begins_no_job_after_its_time(tmp_path):
    jobs = job_list(tmp_path, 1, 50)
    summary = work(jobs.path, stub(0.1, tmp_path / "log"), seconds=0.35)
    assert 1 <= summary.finished <= 5


def test_jobs_that_others_finish_meanwhile_count_as_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "SECONDS_BETWEEN_READS", 0.0)
    jobs = job_list(tmp_path, 1, 12)
    shares = []
    seen = []

    def runner(_jobs):
        def run(job):
            if not seen:
                other = FinishedJobs(jobs.state_folder / FINISHED_FOLDER)
                for one in [one for one in jobs.jobs if one != job][:6]:
                    other.append(FinishedJob(one.id, "done", ""))
            seen.append(sum(shares))
            return FinishedJob(job.id, "done", "")

        return run

    summary = work(jobs.path, runner, progress=lambda _stage, share: shares.append(share))
    assert (summary.finished, summary.elsewhere) == (6, 6)
    # The first job is reported before the others' are read, and the second after it.
    assert seen == pytest.approx([0, 1 / 12, 8 / 12, 9 / 12, 10 / 12, 11 / 12])
    assert sum(shares) == pytest.approx(1)


def test_failed_jobs_are_counted_and_not_repeated(tmp_path):
    jobs = job_list(tmp_path, 1, 4)

    def runner(_jobs):
        return lambda job: FinishedJob(job.id, "failed" if job.source == "s2" else "done", "no weights")

    assert work(jobs.path, runner).failed == 1
    assert work(jobs.path, runner).finished == 0


def test_failed_jobs_are_repeated_on_request_and_their_last_result_counts(tmp_path):
    jobs = job_list(tmp_path, 1, 4)
    ran = []

    def runner(mended):
        def run(job):
            ran.append(job.source)
            return FinishedJob(job.id, "failed" if job.source in {"s1", "s2"} - mended else "done", "no weights")

        return lambda _jobs: run

    work(jobs.path, runner(set()))
    ran.clear()
    shares = []
    summary = work(jobs.path, runner({"s1"}), retry_failed=True, progress=lambda _stage, share: shares.append(share))
    assert sorted(ran) == ["s1", "s2"]
    assert (summary.finished, summary.failed, summary.elsewhere) == (2, 1, 2)
    assert sum(shares) == pytest.approx(1)
    # A failure of the second attempt is repeated by a third, and what succeeded is not.
    ran.clear()
    assert work(jobs.path, runner({"s1", "s2"}), retry_failed=True).failed == 0
    assert ran == ["s2"]
    assert plan_status(jobs).failed == 0
    finished = FinishedJobs(jobs.state_folder / FINISHED_FOLDER).refresh()
    assert [finished[job.id].attempt for job in jobs.jobs] == [0, 1, 2, 0]


def test_a_repeated_job_that_kills_its_workers_is_given_up_again(tmp_path):
    jobs = job_list(tmp_path, 1, 2)
    work(jobs.path, lambda _jobs: lambda job: FinishedJob(job.id, "failed", "no weights"))
    leases = Leases(jobs.state_folder / worker_module.CLAIMS_FOLDER, 0.05)
    for _ in range(3):
        assert leases.claim(f"{jobs.jobs[1].id}-1")
        time.sleep(0.1)
    summary = work(jobs.path, stub(0, tmp_path / "log"), lease=0.2, retry_failed=True)
    assert (summary.finished, summary.failed) == (2, 1)
    finished = FinishedJobs(jobs.state_folder / FINISHED_FOLDER).refresh()
    assert "was lost every time" in finished[jobs.jobs[1].id].reason


def test_a_job_that_kills_its_workers_is_given_up(tmp_path, monkeypatch):
    jobs = job_list(tmp_path, 1, 3)
    leases = Leases(jobs.state_folder / worker_module.CLAIMS_FOLDER, 0.05)
    for _ in range(3):
        assert leases.claim(jobs.jobs[1].id)
        time.sleep(0.1)
    summary = work(jobs.path, stub(0, tmp_path / "log"), lease=0.2)
    assert (summary.finished, summary.failed) == (3, 1)
    finished = FinishedJobs(jobs.state_folder / FINISHED_FOLDER).refresh()
    assert "was lost every time" in finished[jobs.jobs[1].id].reason


def test_a_worker_that_is_stopped_gives_its_job_back(tmp_path):
    jobs = job_list(tmp_path, 1, 1)

    def stop(_jobs):
        def run(_job):
            raise KeyboardInterrupt

        return run

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            work(jobs.path, stop)
    began = time.monotonic()
    summary = work(jobs.path, stub(0, tmp_path / "log"))
    assert (summary.finished, summary.failed) == (1, 0)
    assert time.monotonic() - began < 30


def test_a_worker_that_was_late_does_not_count(tmp_path):
    """A worker that stood still for longer than its lease finishes a job that another has taken over."""
    jobs = job_list(tmp_path, 1, 1)

    def runner(_jobs):
        def run(job):
            other = Leases(jobs.state_folder / worker_module.CLAIMS_FOLDER)
            (claim,) = other.folder.glob("*/*.0")
            os.utime(claim, (1000, 1000))
            assert other.claim(job.id).number == 1
            FinishedJobs(jobs.state_folder / FINISHED_FOLDER).append(FinishedJob(job.id, "done", "by the other"))
            return FinishedJob(job.id, "done", "late")

        return run

    summary = work(jobs.path, runner)
    assert (summary.finished, summary.elsewhere) == (0, 1)


WORKER = """
import sys, time
from pathlib import Path
from tests.test_matrix_workers import stub
from modgap.matrix.worker import work
path, log, seconds, lease = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
print(work(path, stub(seconds, log), lease=lease).finished)
"""


def start_worker(jobs, log, seconds, lease):
    command = [sys.executable, "-c", WORKER, str(jobs.path), str(log), str(seconds), str(lease)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_workers_share_the_jobs_and_one_is_killed(tmp_path):
    jobs = job_list(tmp_path, 10, 30)
    logs = [tmp_path / f"log{number}" for number in range(4)]
    workers = [start_worker(jobs, log, 0.01, 1.0) for log in logs]
    # A worker that begins when all jobs are done writes nothing, so one of those that have begun is killed.
    while not (begun := [worker for worker, log in zip(workers, logs, strict=True) if log.exists()]):
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(begun[0].pid, signal.SIGKILL)
    outputs = [worker.communicate()[0] for worker in workers]
    assert sum(worker.returncode == 0 for worker in workers) == 3
    finished = FinishedJobs(jobs.state_folder / FINISHED_FOLDER).refresh()
    assert set(finished) == {job.id for job in jobs.jobs}
    runs = Counter(name for log in logs if log.exists() for name in log.read_text().split())
    # Only what a killed worker was at is run again.
    assert sum(runs.values()) - len(runs) <= 1
    lines = [line for path in (jobs.state_folder / FINISHED_FOLDER).iterdir() for line in path.read_text().splitlines()]
    assert max(Counter(json.loads(line)["id"] for line in lines).values()) == 1
    print(f"{sum(int(output) for output in outputs if output)} jobs by three workers, {sum(runs.values())} runs")  # noqa: T201 - a figure to quote
