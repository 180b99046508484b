"""The comparison of methods of the third edition, each with a learning rate of its own for each source and target."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from result_log import ResultLog

from evidence.study_jobs import SOURCES, Job
from evidence.study_work import train_request
from evidence.third_jobs import method_targets
from modgap.errors import InputError, UsageError
from modgap.ranking.history.measure import ALL, FAILED, HALF, read_labeled
from modgap.ranking.source_patterns import split_input_size
from modgap.sources import open_source
from modgap.training.pilot import labeled_halves
from modgap.training.train import train_in_memory

METHODS = ("scratch", "finetune", "lp-ft", "lora", "emb", "orca", "mona", "l2-sp", "pare", "finetune++")
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SEEDS = 3


def method_jobs(log: ResultLog) -> Iterator[Job]:
    """Yield the jobs that are known: each rate on one half of the labeled samples, and three seeds at the best rate."""
    for target in method_targets():
        for source in SOURCES:
            for method in METHODS:
                halves = [Job(HALF, source, method, target, 0, rate) for rate in RATES]
                yield from halves
                rate = chosen_rate(halves, log)
                if rate is not None:
                    yield from (Job(ALL, source, method, target, seed, rate) for seed in range(SEEDS))


def chosen_rate(halves: list[Job], log: ResultLog) -> float | None:
    """Return the rate with the lowest error on the other half; None before all are done.

    Of equal ones it is the one that is nearest to the middle of the grid, then the lower one.
    """
    errors = {half.rate: result["error"] for half in halves if (result := log.get(half))}
    middle = (len(RATES) - 1) / 2
    is_complete = len(errors) == len(RATES)
    return min(RATES, key=lambda rate: (errors[rate], abs(RATES.index(rate) - middle))) if is_complete else None


def work(job: Job, log: ResultLog) -> dict[str, Any]:
    """Do a training on one thread, append its error in percent after the last epoch, and return its record.

    A training that cannot be done, such as one whose loss becomes infinite, has an error of 100 %, and its reason.

    Raises:
        UsageError: If a package or data that a method needs is absent, which says nothing of the method.
    """
    torch.set_num_threads(1)
    began = time.perf_counter()
    name, size = split_input_size(job.source)
    source = open_source(name).load(size, head=False)
    data = read_labeled(job.target)
    if job.part == HALF:
        data = labeled_halves(data)
    # The validation samples choose nothing, since the last epoch counts, and one saves time.
    data = replace(data, validation=data.validation[:1])
    errors: list[float] = []
    reason = {}
    try:
        train_in_memory(
            train_request(job, source, len(data.train)),
            source,
            data,
            (max(job.epochs.values()),),
            lambda _epoch, model, evaluator: errors.append(evaluator.error(model, data.test)),
        )
    except UsageError:
        raise
    except InputError as error:
        errors, reason = [FAILED], {"reason": str(error)}
    samples = {"train": len(data.train), "test": len(data.test)}
    seconds = round(time.perf_counter() - began, 1)
    return log.add(job, {"error": errors[-1], **reason, "samples": samples, "seconds": seconds})
