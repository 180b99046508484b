"""The independent jobs of a ranking. What a job has done is in the cache, so that none is ever done twice."""

import multiprocessing
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError, UsageError, first_line
from modgap.forward.inference_setup import LogitsRequest
from modgap.ranking.extraction import Extracted, evidence_of, extract
from modgap.ranking.half_samples import on_halves
from modgap.ranking.scores import score
from modgap.storage.cache import cache_key, entry_path
from modgap.storage.row_store import read_valid_entry, store_arrays

__all__ = ["ExtractJob", "Failure", "ScoreJob", "accelerators", "fix_threads"]

KIND = "scores"
THREADS = 1
"""Of every job: how sums are shared out between threads changes their last bits."""


@dataclass(frozen=True)
class Failure:
    """A job that could not be done.

    Attributes:
        reason: In a line.
    """

    reason: str


def fix_threads() -> None:
    """Let this process compute as every other that works on the ranking does."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(THREADS)
    # Without leaving a context: what a worker runs besides these jobs is nothing.
    threadpool_limits(THREADS)


def accelerators(asked: str) -> int:
    """How many devices jobs on this machine may share out among processes; 0 where they run on the CPU."""
    import torch

    from modgap.forward.batched_inference import choose_device

    chosen = choose_device(asked)
    if chosen.type == "cpu":
        return 0
    return torch.cuda.device_count() if chosen.type == "cuda" and chosen.index is None else 1


def _device_of_worker(asked: str) -> str:
    """Of several CUDA devices the one of this process, by its number among the workers."""
    count = accelerators(asked)
    number = re.search(r"\d+$", multiprocessing.current_process().name)
    return f"cuda:{int(number[0]) % count}" if count > 1 and number else asked


@dataclass(frozen=True)
class ExtractJob:
    """One source over the target's samples.

    Attributes:
        source: Its name.
        target: Keyword arguments of `modgap.targets.open_target`.
        request: Which samples, at what size, with which head.
    """

    source: str
    target: Mapping[str, Any]
    request: LogitsRequest

    def __call__(self) -> Extracted | Failure:
        """Do it, or say why it cannot be done."""
        from modgap.targets import open_target

        fix_threads()
        try:
            samples = replace(self.request.samples, device=_device_of_worker(self.request.samples.device))
            return extract(self.source, open_target(**self.target), replace(self.request, samples=samples))
        except InputError as error:
            return Failure(str(error))
        except Exception as error:  # a model of anyone's may fail in any way; its row says how
            return Failure(f"{type(error).__name__}: {first_line(error)}")

    def describe(self) -> str:
        """For progress and logs."""
        return f"features of {self.source}"


@dataclass(frozen=True)
class ScoreJob:
    """One score of one source on some half-samples.

    Attributes:
        evidence: Key of the source's evidence in the cache.
        score: Name of the score.
        seed: Of halves and of what the score draws.
        first: Number of the first half-sample; -1 for all samples.
        last: Number after the last.
    """

    evidence: str
    score: str
    seed: int
    first: int
    last: int

    @property
    def path(self) -> Path:
        """Where its result lies once it is done."""
        return entry_path(KIND, cache_key({**asdict(self), "version": score(self.score).version}))

    def done(self) -> np.ndarray | Failure | None:
        """Its result (last - first,), or that the score is not defined here, if that is in the cache."""
        entry = read_valid_entry(self.path)
        if entry is None:
            return None
        reason = entry.metadata["reason"]
        return Failure(reason) if reason else np.array(entry.arrays["values"])

    def __call__(self) -> np.ndarray | Failure:
        """Do it, unless it is done; NaN for a half on which the score is not defined."""
        found = self.done()
        if found is not None:
            return found
        fix_threads()
        own = score(self.score)
        try:
            evidence = evidence_of(self.evidence)
        except InputError as error:
            return Failure(str(error))
        try:
            whole = [own.of(evidence, self.seed)] if self.first < 0 else []
            halves = on_halves(own, evidence, self.seed, range(max(self.first, 0), self.last))
        except UsageError as error:
            # A library that is not here may be here the next time.
            return Failure(str(error))
        except InputError as error:
            # A matter of the samples and the source: it would be the same the next time.
            reason = str(error).removeprefix(f"score {self.score}: ")
            nothing = np.full(self.last - self.first, np.nan)
            store_arrays(self.path, {"values": nothing}, {"job": asdict(self), "reason": reason})
            return Failure(reason)
        except Exception as error:  # the same of a score
            return Failure(f"{type(error).__name__}: {first_line(error)}")
        values = np.array([*whole, *halves], np.float64)
        store_arrays(self.path, {"values": values}, {"job": asdict(self), "reason": ""})
        return values

    def describe(self) -> str:
        """For progress and logs."""
        return f"{self.score} of {self.evidence[:8]}"
