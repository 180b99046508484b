"""The work of one job of the ranking benchmark."""

import time

import numpy as np
import torch
from result_log import ResultLog

from evidence.ranking_jobs import Job
from modgap.errors import InputError, UsageError
from modgap.forward.inference_setup import LogitsRequest
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend
from modgap.probes.logistic import DEFAULT_STRENGTH, logistic_path
from modgap.ranking.extraction import extract
from modgap.ranking.history.measure import LABELED, measure_errors
from modgap.ranking.rank import rank
from modgap.ranking.scores import score_names
from modgap.ranking.source_outputs import load_source_outputs
from modgap.ranking.types import RankRequest
from modgap.targets import open_target

UNSCORED = ("otdd", "source-error", "discrepancy-montecarlo")
"""Scores that few sources have, or that another one computes exactly."""


def work(job: Job, log: ResultLog) -> dict:
    """Do a job on one thread, append its result to the log, and return its record."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    result = _scores(job) if job.part == "scores" else errors_record(job)
    return log.add(job, {**result, "seconds": round(time.perf_counter() - began, 1)})


def errors_record(job: Job) -> dict:
    """Return the errors of a fine-tuning after some epochs, and the numbers of samples."""
    measured = measure_errors(job)
    errors = {str(epoch): error for epoch, error in measured.errors.items()}
    return {"errors": errors, "samples": {"train": measured.trained, "test": measured.judged}}


def _scores(job: Job) -> dict:
    """Return all scores on the labeled samples, higher is better, and the test error of a linear probe."""
    samples = SampleRequest(split="train", limit=LABELED)
    names = [name for name in score_names() if name not in UNSCORED]
    request = RankRequest(
        scores=tuple(names), by=names[0], resamples=0, samples=samples, controls=False, baselines="none"
    )
    sources = [job.source, f"random:{job.source}"]
    ranking = rank(job.target, sources, request, Backend("serial", 1))
    values: dict[str, dict[str, float | None]] = {}
    for name in names:
        table = ranking.tables[name]
        sign = 1 if table.higher_is_better else -1
        values[name] = {
            row.name: sign * float(value) if np.isfinite(value) else None
            for row, value in zip(ranking.rows, table.standings.values, strict=True)
        }
    return {"scores": values, "probe": {name: _probe_error(name, job.target) for name in sources}}


def _probe_error(source: str, target: str) -> float | None:
    """Return the test error in percent of a linear probe on the features of the labeled samples."""
    features = {}
    labels = {}
    for split, limit in (("train", LABELED), ("test", None)):
        request = LogitsRequest(SampleRequest(split=split, limit=limit, batch_size=16), head="auto")
        try:
            outputs = load_source_outputs(extract(source, open_target(target), request).key)
        except (InputError, UsageError):
            return None
        features[split], labels[split] = outputs.features, outputs.labels
    probe = logistic_path(features["train"], labels["train"], [DEFAULT_STRENGTH])
    return float(100 * (probe.predict(features["test"]) != labels["test"]).mean())
