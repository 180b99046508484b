"""Files of a model hub's repositories: from the hub's local cache, fetched where the hub may be asked."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from modgap.errors import InputError, UsageError

__all__ = ["Repository", "parse_repository"]

Found = TypeVar("Found")


@dataclass(frozen=True)
class Repository:
    """A repository on the hub.

    Attributes:
        name: ORGANISATION/NAME.
        revision: Branch, tag or commit; None for the default branch.
    """

    name: str
    revision: str | None = None

    @property
    def command(self) -> str:
        """The command that brings all of it."""
        return f"hf download {self.name}" + (f" --revision {self.revision}" if self.revision else "")

    def cached(self, names: Iterable[str]) -> list[Path]:
        """Which of these files are in the local cache. Imports no more than the hub's client."""
        from huggingface_hub import try_to_load_from_cache

        found = [try_to_load_from_cache(self.name, name, revision=self.revision) for name in names]
        return [Path(path) for path in found if isinstance(path, str)]

    def obtain(self, look: Callable[[], Found | None], patterns: Sequence[str], what: str, way_out: str = "") -> Found:
        """What `look` finds in the local cache; if nothing, then after fetching the files that fit the patterns.

        What is here is taken as it is: the hub is asked only for what is missing.

        Raises:
            InputError: When it is neither here nor to be had, with the command that brings it.
        """
        found = look()
        reason = None
        if found is None:
            reason = self._fetch(patterns)
            found = look()
        if found is not None:
            return found
        bring = f"bring them with: {self.command}" + (f", or {way_out}" if way_out else "")
        raise InputError(f"{what} are not on this machine and the hub gave none ({_said(reason)}); {bring}") from reason

    def _fetch(self, patterns: Sequence[str]) -> Exception | None:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.utils import disable_progress_bars

        if constants.HF_HUB_OFFLINE:
            return None
        if not sys.stderr.isatty():
            disable_progress_bars()
        try:
            snapshot_download(self.name, revision=self.revision, allow_patterns=list(patterns))
        except Exception as error:  # the client's HTTP library, and with it the errors, change with its version
            return error
        return None


def _said(reason: Exception | None) -> str:
    """Why nothing came, in one line."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return (str(reason).strip().splitlines() or [type(reason).__name__])[0] if reason else "it has no such file"


def parse_repository(text: str) -> Repository:
    """ORGANISATION/NAME[@REVISION].

    Raises:
        UsageError: When it is not the name of a repository.

    Example:
        >>> parse_repository("FacebookAI/roberta-base@main")
        Repository(name='FacebookAI/roberta-base', revision='main')
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    name, at, revision = text.partition("@")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"expected hf:ORGANISATION/NAME[@REVISION], got hf:{text}") from error
    if at and not revision:
        raise UsageError(f"expected a revision after @, got hf:{text}")
    return Repository(name, revision or None)
