"""Repetition of finished jobs, whose numbers must be the same."""

import json
import os
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from result_log import ResultLog

NOT_COMPARED = ("seconds", "code")


def count_same(first: ResultLog, again: ResultLog) -> int:
    """Return the number of repeated jobs whose results differ in their seconds and their code alone."""
    before = {json.dumps(result["job"], sort_keys=True): result for result in first.results()}
    return sum(_is_same(before[json.dumps(one["job"], sort_keys=True)], one) for one in again.results())


def _is_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return all(before[name] == after.get(name) for name in before if name not in NOT_COMPARED)


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
        equal = _is_same(before, after)
        n_equal += equal
        print(f"{job.name}: {'the same' if equal else f'{before} before, {after} now'}", flush=True)
    print(f"{n_equal} of {len(chosen)} jobs give the same numbers")
