"""The work of one job: train, probe the remaining source knowledge, and measure the discrepancy."""

import json
import time
from pathlib import Path

import torch
from probe_errors import cross_validated_errors
from result_log import ResultLog

from modgap.api.discrepancy import measure
from modgap.distortion.encoders import Encoder
from modgap.errors import InputError
from modgap.forward.sample_request import SampleRequest
from modgap.sources import open_source
from modgap.targets import TargetRequest
from modgap.training.methods import get_method
from modgap.training.run_folder import Run
from modgap.training.surrogate import open_surrogate, surrogate_features
from modgap.training.train import TrainRequest, train
from study.jobs import UNTOUCHED, Job

HEADS = {"minilm": "probe:ner-tweets"}
SIZES = {"efficientnet-lite0": 64}
SURROGATES = {
    "vit-fashion": {"fashion-mnist": "test", "mnist5k": "train"},
    "efficientnet-lite0": {"fashion-mnist": "test"},
    "minilm": {"ner-tweets": "train"},
}
"""Surrogates that a source is probed on, with their splits."""
FEWEST_SAMPLES = 100
"""Smallest limit of a job that is part of the study."""


def work(job: Job, log: ResultLog, runs: Path) -> dict:
    """Train, evaluate and append the job's result, on one thread so that the numbers do not depend on the cores."""
    torch.set_num_threads(1)
    folder = runs / job.part / job.name
    run = None
    result: dict = {}
    began = time.perf_counter()
    if job.method != UNTOUCHED:
        run = train(_request(job), folder, resume=True)
        result = _run_result(run)
    result["probe_error"] = _probes(job, run)
    result["discrepancy"] = _discrepancy(job, run)
    result["cost"] = {**_cost(run), "whole": round(time.perf_counter() - began, 1)}
    log.add(job, result)
    return result


def _request(job: Job) -> TrainRequest:
    settings = (*job.settings, f"stage1.surrogate={job.surrogate}", f"stage1.surrogate_split={job.split}")
    samples = SampleRequest(limit=job.limit, seed=job.seed, input_size=SIZES.get(job.source))
    return TrainRequest(job.method, job.source, TargetRequest(job.target), settings, samples=samples)


def _run_result(run: Run) -> dict:
    """Return the result of a run and the share of the mixed product in each epoch."""
    result = {name: value for name, value in run.record["result"].items() if name != "seconds"}
    shares = [line["mixed_share"] for line in _log(run) if "mixed_share" in line]
    return {"result": result, "samples": run.record["samples"], "mixed_share": shares}


def _log(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def _cost(run: Run | None) -> dict:
    """Return the seconds of each stage."""
    seconds: dict[str, float] = {}
    for line in _log(run) if run else ():
        seconds[line["stage"]] = round(seconds.get(line["stage"], 0) + line["seconds"], 3)
    return seconds


def _probes(job: Job, run: Run | None) -> dict[str, dict[str, float]]:
    """Return probe errors by surrogate and epoch, on the half that no run has seen; epoch 0 is the source."""
    source = open_source(job.source).load(SIZES.get(job.source), head=False)
    parts = source.split()
    epochs = (0,) if run is None else run.record["recipe"]["stage2"]["keep_epochs"]
    encoders = {str(epoch): Encoder(run, epoch).load(parts) if run else parts.encoder for epoch in epochs}
    probe_errors: dict[str, dict[str, float]] = {}
    for name, split in SURROGATES[job.source].items():
        surrogate = open_surrogate(name, source, split=split, half=1, limit=_n_samples(job))
        # Other surrogates are probed only after the last epoch.
        for epoch in list(encoders) if name == job.surrogate else list(encoders)[-1:]:
            features = surrogate_features(parts, encoders[epoch], surrogate)
            errors = cross_validated_errors(features, surrogate.labels, surrogate.groups)
            probe_errors.setdefault(name, {})[epoch] = float(errors.mean())
    return probe_errors


def _n_samples(job: Job) -> int:
    """Return how many samples a diagnosis uses: 1,000, but fewer for the small jobs of the quick mode."""
    return 1000 if job.limit is None or job.limit >= FEWEST_SAMPLES else 6 * job.limit


def _discrepancy(job: Job, run: Run | None) -> dict | None:
    """Return the search's discrepancy on the test samples, with the run's stage-1 embedder or else the source's."""
    if run is not None and not get_method(job.method).has_embedder_stage:
        return None
    try:
        result = measure(
            job.source,
            job.target,
            split="test",
            limit=_n_samples(job),
            input_size=SIZES.get(job.source),
            head=HEADS.get(job.source, "own"),
            embedder=run and run.folder,
            trials=10_000,
            curve=False,
        ).result
    except InputError as error:
        return {"refused": str(error)}
    best = result.estimates["search"]
    return {
        "held_out": best.held_out,
        "interval": best.held_out_interval,
        "p_value": result.null.p_value if result.null else None,
        "value": best.solution.value,
        "samples": result.n_samples,
    }
