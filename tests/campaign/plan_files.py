"""Lists of jobs, what workers have finished of them, and the record of a matrix."""

from pathlib import Path

from tests.campaign.seed_files import make_file, write_report

__all__ = ["PARSED", "small_plan"]

JOB_ID = "0123456789abcdef0123"


def job_list(folder: Path) -> Path:
    from modgap.matrix.job_list import PlannedJob, write_job_list
    from modgap.ranking.types import RankRequest

    path = make_file(folder, "jobs.jsonl")
    jobs = [PlannedJob(target, source, 1.5) for target in ("digits", "notes") for source in ("vit-fashion", "raw")]
    write_job_list(path, RankRequest(), jobs)
    return path


def small_plan(path: Path, target: str) -> None:
    """Write a list of jobs of two small models and the raw values."""
    from modgap.forward.sample_request import SampleRequest
    from modgap.matrix.job_list import PlannedJob, write_job_list
    from modgap.ranking.types import RankRequest

    sources = ("random:timm:test_vit", "random:timm:test_resnet", "raw")
    request = RankRequest(("knn",), "knn", resamples=0, samples=SampleRequest(input_size=32), controls=False)
    write_job_list(path, request, [PlannedJob(target, source) for source in sources])


def read_jobs(path: Path) -> object:
    from modgap.matrix.job_list import read_job_list

    return read_job_list(path)


def finished_jobs(folder: Path) -> Path:
    from modgap.matrix.finished_jobs import FinishedJob, FinishedJobs

    folder.mkdir(parents=True)
    finished = FinishedJobs(folder)
    finished.append(FinishedJob(JOB_ID, "done", "", 1.5, computed=True))
    finished.append(FinishedJob(JOB_ID[::-1], "failed", "no weights"))
    return next(folder.iterdir())


def read_finished(path: Path) -> object:
    from modgap.matrix.finished_jobs import FinishedJobs

    return FinishedJobs(path.parent).refresh()


def matrix_record(folder: Path) -> Path:
    from modgap.matrix.result_folder import RECORD, write_results
    from tests.matrices import make_matrix, make_measure

    folder.mkdir(parents=True)
    measures = [make_measure("leep", [[1.0, 2.0], [0.5, 1.5]]), make_measure("knn", [[0.1, 0.2], [0.3, 0.1]])]
    matrix = make_matrix(measures, ["a", "b"], ["t", "u"], reasons={("a", "t"): "no weights"})
    write_results(matrix, {}, (), folder)
    return folder / RECORD


PARSED = (
    ("job list", job_list, read_jobs),
    ("finished jobs", finished_jobs, read_finished),
    ("matrix record", matrix_record, write_report),
)
