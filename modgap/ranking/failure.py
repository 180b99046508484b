"""Result of a job that failed, in a module of its own so that a worker process imports it quickly."""

from dataclasses import dataclass

__all__ = ["Failure"]


@dataclass(frozen=True)
class Failure:
    """Result of a job that failed.

    Attributes:
        reason: Reason of the failure in one line.
        is_result: True if the score is not defined on the samples, which is a result like any other, and not an error.
    """

    reason: str
    is_result: bool = False
