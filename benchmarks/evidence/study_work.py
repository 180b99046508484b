"""The work of one job of the study of methods."""

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from probe_errors import cross_validated_errors
from result_log import ResultLog

from evidence.study_jobs import STAGE1_EPOCHS, SURROGATES, UNTOUCHED, Job
from modgap.forward.sample_request import SampleRequest
from modgap.models.normalization import evaluation_mode
from modgap.ranking.history.measure import FAILED, TEXT_SETTINGS, read_labeled
from modgap.ranking.source_patterns import split_input_size
from modgap.sources import Source, open_source
from modgap.targets import TargetRequest
from modgap.training.loop import NotFiniteError
from modgap.training.methods.orca import LEARNING_RATE_FACTOR, LOW_LEARNING_RATE
from modgap.training.surrogate import open_surrogate, surrogate_features
from modgap.training.train import train_in_memory
from modgap.training.train_request import TrainRequest

PROBED = 500
"""Samples of the surrogate's second half, which no training sees, on which the source's knowledge is measured."""
SURROGATE_SAMPLES = 500
BATCH = 16


def work(job: Job, log: ResultLog) -> dict:
    """Do a job on one thread, append its result to the log, and return its record."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    name, size = split_input_size(job.source)
    source = open_source(name).load(size, head=False)
    result = {"probe": {"0": _probe_error(job, source)}} if job.method == UNTOUCHED else _train(job, source)
    return log.add(job, {**result, "seconds": round(time.perf_counter() - began, 1)})


def _probe_error(job: Job, source: Source, encoder: torch.nn.Module | None = None) -> float:
    """Return the error of a linear probe on the surrogate, in [0, 1], with an encoder or else the source's own.

    It is NaN where the features are not finite.
    """
    parts = source.split()
    surrogate_name, split = SURROGATES[job.source]
    surrogate = open_surrogate(surrogate_name, source, split=split, half=1, limit=PROBED)
    features = surrogate_features(parts, encoder or parts.encoder.eval(), surrogate)
    if not np.isfinite(features).all():
        return np.nan
    return float(cross_validated_errors(features, surrogate.labels, surrogate.groups).mean())


def _train(job: Job, source: Source) -> dict:
    data = read_labeled(job.target)
    data = replace(data, validation=data.validation[:1])
    epochs = job.epochs
    request = train_request(job, source, len(data.train))
    stands_for = {trained: epoch for epoch, trained in epochs.items()}
    own_statistics = {name: buffer.clone() for name, buffer in source.split().encoder.named_buffers()}
    errors: dict[str, float] = {}
    probes: dict[str, float] = {}
    restored_probes: dict[str, float] = {}

    def watch(epoch, model, evaluator) -> None:  # type: ignore[no-untyped-def]
        read = str(stands_for[epoch])
        errors[read] = evaluator.error(model, data.test)
        with evaluation_mode(model.encoder):
            probes[read] = restored_probes[read] = _probe_error(job, source, model.encoder)
            restored = _with_buffers(model.encoder, own_statistics)
            if restored is not None:
                restored_probes[read] = _probe_error(job, source, restored)

    try:
        train_in_memory(request, source, data, tuple(epochs.values()), watch)
    except NotFiniteError:
        errors = {str(epoch): errors.get(str(epoch), FAILED) for epoch in epochs}
    samples = {"train": len(data.train), "test": len(data.test)}
    by_probe = {"probe": probes, "probe_own_statistics": restored_probes}
    by_epoch = {
        name: {str(epoch): _finite(values.get(str(epoch))) for epoch in epochs} for name, values in by_probe.items()
    }
    return {"errors": errors, **by_epoch, "samples": samples}


def _with_buffers(encoder: torch.nn.Module, buffers: Mapping[str, torch.Tensor]) -> torch.nn.Module | None:
    """Return a copy of an encoder with these buffers, such as running statistics; None if it has them already."""
    own = dict(encoder.named_buffers())
    common = [name for name in buffers if name in own and own[name].shape == buffers[name].shape]
    if all(torch.equal(own[name], buffers[name]) for name in common):
        return None
    copied = copy.deepcopy(encoder)
    for name, buffer in copied.named_buffers():
        if name in common:
            buffer.copy_(buffers[name])
    return copied


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def train_request(job: Job, source: Source, n_train: int) -> TrainRequest:
    """Return the settings of a job: its rate in both stages, and as many updates for every method.

    Args:
        job: The job.
        source: Its source.
        n_train: Number of samples to train on.
    """
    name, size = split_input_size(job.source)
    samples = SampleRequest(seed=job.seed, input_size=size)
    settings = _settings(job, source, n_train)
    return TrainRequest(job.method, name, TargetRequest(job.target), settings, samples=samples)


def _settings(job: Job, source: Source, n_train: int) -> tuple[str, ...]:
    surrogate, split = SURROGATES[job.source]
    epochs = max(job.epochs.values())
    settings = (
        f"stage2.epochs={epochs}",
        f"stage2.decay_epochs={epochs}",
        "stage2.warmup_epochs=1",
        f"stage2.batch_size={BATCH}",
        "stage2.choose=last",
        f"stage2.learning_rate={job.rate}",
    )
    if source.input.kind == "text":
        settings = (*settings, *TEXT_SETTINGS)
    if job.method == "orca":
        # Its epochs have one update each, and its code raises low rates in stage 1.
        rate = job.rate * LEARNING_RATE_FACTOR if job.rate <= LOW_LEARNING_RATE else job.rate
        n_batches = math.ceil(n_train / BATCH)
        settings = (*settings, f"stage1.epochs={STAGE1_EPOCHS * n_batches}", f"stage1.learning_rate={rate}")
    if job.method in ("emb", "mona"):
        settings = (
            *settings,
            f"stage1.epochs={STAGE1_EPOCHS}",
            f"stage1.batch_size={BATCH}",
            f"stage1.learning_rate={job.rate}",
        )
    if job.method in ("orca", "mona", "replay", "pare"):
        settings = (
            *settings,
            f"stage1.surrogate={surrogate}",
            f"stage1.surrogate_split={split}",
            f"stage1.surrogate_samples={SURROGATE_SAMPLES}",
            "stage1.surrogate_batch=32",
        )
    return settings
