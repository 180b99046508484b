"""How far a ranking is: counts, expected ends, interrupted runs and damaged files."""

import time

import pytest

from modgap.jobs import Backend
from modgap.ranking.matrix.formats import write_results
from modgap.ranking.matrix.rankings import rank_targets, targets_of_names
from modgap.ranking.rank import rank
from modgap.ranking.stages import PROGRESS_FILE, JobMonitor, ProgressFile, StageState, read_progress
from modgap.ranking.types import RankRequest
from modgap.storage.locks import exclusive_folder
from tests.commands import run_in_process
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_matrix import CNN, VIT, small_sources, small_target  # noqa: F401 - fixture

STAGES = (StageState("features", 8, 3, 1, 1, began=1000.0),)


def test_a_stage_takes_as_long_a_job_as_so_far():
    (stage,) = STAGES
    # Four jobs were run in 20 s, and three are left.
    assert stage.done == 5
    assert stage.seconds_left(1020.0) == pytest.approx(15.0)
    assert StageState("features", 4, cached=2, began=1000.0).seconds_left(1020.0) is None
    assert StageState("features", 4, cached=4, began=1000.0).seconds_left(1020.0) == 0.0


def test_a_monitor_reports_shares_and_counts():
    shares, seen = [], []
    monitor = JobMonitor(lambda *report: shares.append(report), seen.append)
    monitor.begin("scores", 4)
    monitor.finish("scores", "cached", 2)
    monitor.finish("scores", "failed")
    assert shares == [("scores", 0.5), ("scores", 0.25)]
    last = seen[-1][0]
    assert (last.jobs, last.cached, last.failed, last.computed) == (4, 2, 1, 0)
    assert len(seen) == 3


@pytest.mark.usefixtures("own_cache")
def test_the_counts_of_a_ranking_are_those_of_its_result(sources, tmp_path):
    target = small_target(tmp_path, 0)
    request = RankRequest(by="knn", scores=("knn",), resamples=0, controls=False)
    for _ in range(2):
        seen = []
        ranking = rank(target, [VIT, CNN, "hf:absent/model"], request, Backend("serial"), listener=seen.append)
        counts = {stage.stage: (stage.computed, stage.cached, stage.failed) for stage in seen[-1]}
        assert counts == {stage: tuple(jobs) for stage, jobs in ranking.jobs.items()}
        assert all(stage.done == stage.jobs for stage in seen[-1])
        assert counts["features"][2] == 1


def status_of(folder):
    done = run_in_process("rank", "--status", str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_living_ranking_is_told_from_an_interrupted_one(tmp_path):
    with exclusive_folder(tmp_path):
        ProgressFile(tmp_path, 2)((StageState("features", 8, 3, 1, 1, began=time.time() - 20),))
        running = read_progress(tmp_path)
        assert running.is_alive
        assert running.running(running.stages[0]) == 2
        text = status_of(tmp_path)
        assert "has run for" in text
        (row,) = [line.split() for line in text.splitlines() if line.startswith("features")]
        assert row[1:6] == ["8", "3", "1", "1", "2"]
        # Three jobs are left at the rate of four in 20 s, and of a few seconds more on a busy machine.
        assert row[7] == "s"
        assert 15 <= int(row[6]) < 60
    # The process has ended without removing the file, as one that was killed.
    text = status_of(tmp_path)
    assert "was interrupted after" in text
    assert "Run the same command again" in text


def test_progress_is_written_at_most_once_a_second(tmp_path):
    progress = ProgressFile(tmp_path, None)
    progress(STAGES)
    (tmp_path / PROGRESS_FILE).unlink()
    progress(STAGES)
    assert not (tmp_path / PROGRESS_FILE).exists()
    progress((StageState("features", 1, 1),))
    assert read_progress(tmp_path).stages[0].computed == 1
    progress.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("own_cache")
def test_a_finished_ranking_has_its_counts_and_no_file_of_progress(sources, tmp_path):
    target, out = small_target(tmp_path, 0), tmp_path / "out"
    options = ("--by", "knn", "--score", "knn", "--resamples", "0", "--no-controls", "--input-size", "32")
    done = run_in_process("rank", "--target", target, "--sources", VIT, *options, "--out", str(out), "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert not (out / PROGRESS_FILE).exists()
    text = status_of(out)
    assert "is finished." in text
    assert any(line.split()[:3] == ["features", "1", "1"] for line in text.splitlines())


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "stages": 3}', '{"schema": 1, "stages": [{}]}'],
)
def test_a_damaged_file_of_progress_is_no_status(tmp_path, content):
    (tmp_path / PROGRESS_FILE).write_text(content)
    done = run_in_process("rank", "--status", str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "There is no ranking in" in done.stderr or "progress.json is not" in done.stderr


@pytest.mark.usefixtures("own_cache")
def test_rankings_of_several_targets_have_a_status_too(sources, tmp_path):
    targets = [small_target(tmp_path, number) for number in range(2)]
    seen = []
    request = RankRequest(("knn",), "knn", resamples=0, controls=False)
    rank_targets(targets_of_names(targets), [VIT], request, Backend("serial"), listener=seen.append)
    # A source and two baselines on each target.
    assert [(one.stage, one.jobs, one.computed) for one in seen[-1]] == [("sources", 6, 6)]
    matrix = rank_targets(targets_of_names(targets), [VIT], request, Backend("cached"))
    write_results(matrix, targets, tmp_path)
    assert "is finished, for 2 targets. 0 jobs failed." in status_of(tmp_path)
