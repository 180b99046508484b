"""Result of a job that failed, in a module of its own so that a worker process imports it quickly."""

from dataclasses import dataclass

__all__ = ["LOST", "MAX_TRIES", "NOT_CACHED", "Failure"]


@dataclass(frozen=True)
class Failure:
    """Result of a job that failed.

    Attributes:
        reason: Reason of the failure in one line.
        is_result: True if the score is not defined on the samples, which is a result like any other, and not an error.
    """

    reason: str
    is_result: bool = False


MAX_TRIES = 3
"""Most times that a job is run if its worker is lost."""
LOST = Failure(
    "The worker process of this job was lost every time, as happens when memory runs out. Pass a smaller --limit or "
    "fewer --jobs."
)
NOT_CACHED = Failure(
    "Its outputs are not in this cache. MODGAP_CACHE must be the folder of the workers, and modgap, the source and the "
    "data must be as they were then."
)
