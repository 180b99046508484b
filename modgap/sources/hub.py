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
        name: ORGANizATION/NAME.
        revision: Branch, tag or commit; None for the default branch.
    """

    name: str
    revision: str | None = None

    @property
    def download_command(self) -> str:
        """The command that brings all of it."""
        return f"hf download {self.name}" + (f" --revision {self.revision}" if self.revision else "")

    def cached_files(self, names: Iterable[str]) -> list[Path]:
        """Which of these files are in the local cache. Imports no more than the hub's client."""
        from huggingface_hub import try_to_load_from_cache

        found = [try_to_load_from_cache(self.name, name, revision=self.revision) for name in names]
        return [Path(path) for path in found if isinstance(path, str)]

    def find_or_fetch(
        self, look: Callable[[], Found | None], patterns: Sequence[Sequence[str]], what: str, way_out: str = ""
    ) -> Found:
        """What `look` finds in the local cache; if nothing, then after fetching it.

        What is here is taken as it is: the hub is asked only for what is missing.

        Args:
            look: Gives what is wanted, or None.
            patterns: Groups of patterns of file names; the next group is fetched only if the files of the
                ones before were not enough.
            what: What is wanted, in the plural, for the error.
            way_out: What else the user can do, for the error.

        Raises:
            InputError: When it is neither here nor to be had, with the command that brings it.
        """
        found, reason = look(), None
        for group in patterns:
            if found is not None:
                return found
            reason = self._fetch(group)
            found = look()
        if found is not None:
            return found
        bring = f"bring them with: {self.download_command}" + (f", or {way_out}" if way_out else "")
        raise InputError(f"{what} are not on this machine and the hub gave none ({_said(reason)}); {bring}") from reason

    def _fetch(self, patterns: Sequence[str]) -> Exception | None:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.utils import disable_progress_bars, logging

        if constants.HF_HUB_OFFLINE:
            return None
        if not sys.stderr.isatty():
            disable_progress_bars()
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            snapshot_download(self.name, revision=self.revision, allow_patterns=list(patterns))
        except Exception as error:  # the client's HTTP library, and with it the errors, change with its version
            return error
        finally:
            logging.set_verbosity(verbosity)
        return None


def _said(reason: Exception | None) -> str:
    """Why nothing came, in one line."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if reason is None:
        return "it has no such file"
    return ": ".join([type(reason).__name__, *str(reason).strip().splitlines()[:1]])


def parse_repository(text: str) -> Repository:
    """ORGANizATION/NAME[@REVISION].

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
        raise UsageError(f"expected hf:ORGANizATION/NAME[@REVISION], got hf:{text}") from error
    if at and not revision:
        raise UsageError(f"expected a revision after @, got hf:{text}")
    return Repository(name, revision or None)
