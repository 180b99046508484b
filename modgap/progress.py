"""The type of the callbacks that report the progress of long work."""

from collections.abc import Callable

__all__ = ["Progress"]

Progress = Callable[[str, float], None]
"""Called with the name of a stage and the share of its work, in [0, 1], done since the last call."""
