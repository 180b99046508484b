"""Lines that say what a long command is doing, where no terminal shows its progress."""

import logging
import threading
import time

from modgap.errors import format_duration

INTERVAL_SECONDS = 25.0
"""Time between two lines."""

log = logging.getLogger("modgap")


class Heartbeat:
    """A thread that logs, every 25 seconds, what the command is doing and how far it is."""

    def __init__(self) -> None:
        """Start the thread."""
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._stage = ""
        self._shares: dict[str, float] = {}
        threading.Thread(target=self._beat, daemon=True, name="modgap heartbeat").start()

    def advance(self, stage: str, share: float) -> None:
        """Record the progress of a stage.

        Args:
            stage: Name of the stage.
            share: Fraction of its work, in [0, 1], done since the last call.
        """
        with self._lock:
            self._stage = stage
            self._shares[stage] = min(1.0, self._shares.get(stage, 0.0) + share)

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()

    def message(self) -> str:
        """Return what the command is doing, how far it is, and since when it runs."""
        seconds = time.monotonic() - self._began
        elapsed = format_duration(seconds)
        with self._lock:
            if not self._stage:
                return f"still at work after {elapsed}"
            return f"{self._stage}: {self._shares[self._stage]:.0%} done after {elapsed}"

    def _beat(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            log.info("%s", self.message())
