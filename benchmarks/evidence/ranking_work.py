"""The work of one job of the ranking benchmark."""

import time
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from result_log import ResultLog

from evidence.ranking_jobs import EPOCHS, LABELED, Job
from modgap.errors import InputError, UsageError
from modgap.forward.inference_setup import LogitsRequest
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend
from modgap.probes.linear_probe import DEFAULT_STRENGTH, fit_linear_probe
from modgap.ranking.extraction import extract
from modgap.ranking.rank import rank
from modgap.ranking.scores import score_names
from modgap.ranking.source_outputs import load_source_outputs
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.types import RankRequest
from modgap.sources import open_source
from modgap.targets import TargetRequest, open_target
from modgap.training.loop import NotFiniteError
from modgap.training.pilot import labeled_halves
from modgap.training.train import train_in_memory
from modgap.training.train_request import TrainRequest
from modgap.training.training_data import TargetData, read_target_data

__all__ = ["read_labeled", "work"]

FAILED = 100.0
"""Error in percent of a training whose loss became infinite."""
SETTINGS = (
    f"stage2.epochs={EPOCHS[-1]}",
    f"stage2.decay_epochs={EPOCHS[-1]}",
    "stage2.warmup_epochs=1",
    "stage2.batch_size=16",
    "stage2.choose=last",
)
TOKENS = "target_sequence_length=32"
"""Series and images enter sources of text as few tokens, because a run at full length takes ten times as long."""
UNSCORED = ("otdd", "source-error", "discrepancy-montecarlo")
"""Scores that few sources have, or that another one computes exactly."""


def work(job: Job, log: ResultLog) -> dict:
    """Do a job on one thread, append its result to the log, and return its record."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    result = _scores(job) if job.part == "scores" else _fine_tune(job)
    return log.add(job, {**result, "seconds": round(time.perf_counter() - began, 1)})


@lru_cache(maxsize=1)
def read_labeled(target: str) -> TargetData:
    """Return a target with at most 128 training samples and its full test split."""
    opened = open_target(target)
    test = read_target_data(opened).test
    return replace(read_target_data(opened, limit=LABELED), test=test)


def _fine_tune(job: Job) -> dict:
    data = read_labeled(job.target)
    if job.part == "half":
        data = labeled_halves(data)
    name, size = split_input_size(job.source)
    source = open_source(name).load(size, head=False)
    settings = (*SETTINGS, f"stage2.learning_rate={job.rate}")
    if source.input.kind == "text":
        settings = (*settings, TOKENS)
    # The validation samples choose nothing, since the last epoch counts, and a few save time.
    data = replace(data, validation=data.validation[:1])
    request = TrainRequest(
        "finetune", name, TargetRequest(job.target), settings, samples=SampleRequest(seed=job.seed, input_size=size)
    )
    errors: dict[str, float] = {}

    def watch(epoch, model, evaluator) -> None:  # type: ignore[no-untyped-def]
        errors[str(epoch)] = evaluator.error(model, data.test)

    try:
        train_in_memory(request, source, data, EPOCHS, watch)
    except NotFiniteError:
        errors = {str(epoch): errors.get(str(epoch), FAILED) for epoch in EPOCHS}
    return {"errors": errors, "samples": {"train": len(data.train), "test": len(data.test)}}


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
    probe = fit_linear_probe(features["train"], labels["train"], [DEFAULT_STRENGTH])
    return float(100 * (probe.predict(features["test"]) != labels["test"]).mean())
