"""Repetition of finished jobs, whose numbers must be the same."""

import os
import random
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from result_log import ResultLog

NOT_COMPARED = ("seconds", "code")


def repeat_jobs(jobs: Sequence[Any], work: Callable[[Any, ResultLog], dict], log: ResultLog, most: int) -> None:
    """Repeat finished jobs drawn at random, in a log of their own, and print whether they give the same numbers.

    modgap's cache is an empty folder meanwhile, so that no stored output of a source is read again.

    Args:
        jobs: All jobs; those without a result are left out.
        work: Function that does a job and appends its result to a log.
        log: Results of the finished jobs.
        most: Largest number of jobs to repeat.
    """
    finished = [job for job in jobs if log.get(job)]
    chosen = random.Random(0).sample(finished, min(most, len(finished)))
    second = ResultLog(log.path.with_suffix(".again.jsonl"), log.code)
    n_equal = 0
    for job in chosen:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["MODGAP_CACHE"] = cache
            before, after = log.get(job), work(job, second)
        assert before is not None
        equal = all(before[name] == after[name] for name in before if name not in NOT_COMPARED)
        n_equal += equal
        print(f"{job.name}: {'the same' if equal else f'{before} before, {after} now'}", flush=True)
    print(f"{n_equal} of {len(chosen)} jobs give the same numbers")
