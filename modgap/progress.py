"""The type of the callbacks that report the progress of long work."""

from collections.abc import Callable

__all__ = ["Progress"]

Progress = Callable[[str, float], None]
"""A function of the name of a stage, and of the fraction of its work, in [0, 1], done since the last call."""
