"""The independent jobs of a ranking. What a job has done is in the cache, so that none is ever done twice."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap.cache import entry_path, key_of
from modgap.errors import InputError, UsageError, first_line
from modgap.ranking.extraction import Extracted, evidence_of, extract
from modgap.ranking.scores import score
from modgap.ranking.standings import half_sample
from modgap.row_store import keep, sound_entry

__all__ = ["ExtractJob", "Failure", "ScoreJob", "fix_threads"]

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


@dataclass(frozen=True)
class ExtractJob:
    """One source over the target's samples.

    Attributes:
        source: Its name.
        target: Keyword arguments of `modgap.targets.open_target`.
        request: Keyword arguments of `modgap.preparation.LogitsRequest`.
    """

    source: str
    target: Mapping[str, Any]
    request: Mapping[str, Any]

    def __call__(self) -> Extracted | Failure:
        """Do it, or say why it cannot be done."""
        from modgap.preparation import LogitsRequest
        from modgap.targets import open_target

        fix_threads()
        try:
            return extract(self.source, open_target(**self.target), LogitsRequest(**self.request))
        except InputError as error:
            return Failure(str(error))
        except (RuntimeError, OSError, MemoryError) as error:
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
        return entry_path(KIND, key_of({**asdict(self), "version": score(self.score).version}))

    def done(self) -> np.ndarray | Failure | None:
        """Its result (last - first,), or that the score is not defined here, if that is in the cache."""
        entry = sound_entry(self.path)
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
        try:
            values = self._values()
        except UsageError as error:
            # A library that is not here may be here the next time.
            return Failure(str(error))
        except InputError as error:
            # A matter of the samples and the source: it would be the same the next time.
            reason = str(error).removeprefix(f"score {self.score}: ")
            nothing = np.full(self.last - self.first, np.nan)
            keep(self.path, {"values": nothing}, {"job": asdict(self), "reason": reason})
            return Failure(reason)
        except (RuntimeError, OSError, MemoryError, ValueError, np.linalg.LinAlgError) as error:
            return Failure(f"{type(error).__name__}: {first_line(error)}")
        keep(self.path, {"values": values}, {"job": asdict(self), "reason": ""})
        return values

    def _values(self) -> np.ndarray:
        evidence, own = evidence_of(self.evidence), score(self.score)
        values = []
        for number in range(self.first, self.last):
            if number < 0:
                values.append(own.of(evidence, self.seed))
                continue
            try:
                values.append(own.of(evidence.only(half_sample(evidence, self.seed, number)), self.seed))
            except (InputError, ValueError, np.linalg.LinAlgError):
                values.append(float("nan"))
        return np.array(values, np.float64)

    def describe(self) -> str:
        """For progress and logs."""
        return f"{self.score} of {self.evidence[:8]}"
