"""Counts of the jobs of a ranking while it runs, for bars of progress and for the file of progress."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from modgap.progress import Progress

__all__ = ["CACHED", "COMPUTED", "FAILED", "JobMonitor", "StageState", "StagesListener"]

COMPUTED = "computed"
CACHED = "cached"
FAILED = "failed"
"""How a job ends."""


@dataclass(frozen=True)
class StageState:
    """Jobs of one stage of a running ranking.

    Attributes:
        stage: Name of the stage.
        jobs: Number of jobs that are known so far.
        computed: Number of jobs that were computed.
        cached: Number of jobs whose results came from the cache.
        failed: Number of jobs that ended with an error, or were not run because another one failed.
        began: Time at which the stage began, in seconds since 1970.
    """

    stage: str
    jobs: int
    computed: int = 0
    cached: int = 0
    failed: int = 0
    began: float = 0.0

    @property
    def done(self) -> int:
        """Number of jobs that have ended."""
        return self.computed + self.cached + self.failed

    def seconds_left(self, now: float) -> float | None:
        """Return about how long the stage still takes, at the rate of the jobs that were computed so far.

        Args:
            now: Time in seconds since 1970.

        Returns:
            Seconds. None as long as no job was computed.
        """
        if self.done >= self.jobs:
            return 0.0
        run = self.computed + self.failed
        return (self.jobs - self.done) * max(0.0, now - self.began) / run if run else None


StagesListener = Callable[[tuple[StageState, ...]], None]


@dataclass
class JobMonitor:
    """Counts jobs by stage, and tells others.

    Attributes:
        progress: Called with the name of a stage and the share of its work done since the last call. None for no call.
        listener: Called with all stages whenever a job ends. None for no call.
        stages: The stages by name.
        prefix: Text before the names of stages.
    """

    progress: Progress | None = None
    listener: StagesListener | None = None
    stages: dict[str, StageState] = field(default_factory=dict)
    prefix: str = ""

    def with_prefix(self, prefix: str) -> "JobMonitor":
        """Return a monitor of the same stages that puts a text before the names of those that it begins."""
        return replace(self, prefix=prefix)

    def begin(self, stage: str, jobs: int) -> None:
        """Begin a stage with a number of jobs."""
        name = self.prefix + stage
        self.stages[name] = StageState(name, jobs, began=time.time())
        self._tell()

    def finish(self, stage: str, outcome: str, jobs: int = 1) -> None:
        """Count jobs of a stage that have ended.

        Args:
            stage: Name of the stage.
            outcome: `computed`, `cached` or `failed`.
            jobs: Their number.
        """
        name = self.prefix + stage
        state = self.stages[name]
        self.stages[name] = replace(state, **{outcome: getattr(state, outcome) + jobs})
        if self.progress and jobs:
            self.progress(name, jobs / state.jobs)
        self._tell()

    def _tell(self) -> None:
        if self.listener:
            self.listener(tuple(self.stages.values()))
