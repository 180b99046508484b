"""Files of the repositories of a model hub, from the hub's local cache or downloaded."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from modgap.errors import InputError, UsageError

Result = TypeVar("Result")


_refusal: ContextVar[tuple[str, str] | None] = ContextVar("refusal", default=None)
"""Within a block that may not download anything, why, and how to allow it. Both are empty if nobody asks for them."""


class AbsentFilesError(InputError):
    """An error for files of a repository that are neither in the local cache nor could be downloaded."""


@dataclass(frozen=True)
class Repository:
    """A repository on the hub.

    Attributes:
        name: Name of the form ORGANIZATION/NAME.
        revision: Branch, tag or commit; None for the default branch.
    """

    name: str
    revision: str | None = None

    @property
    def download_command(self) -> str:
        """The command that downloads the complete repository."""
        return f"hf download {self.name}" + (f" --revision {self.revision}" if self.revision else "")

    def cached_files(self, names: Iterable[str]) -> list[Path]:
        """Return those of the files that are in the local cache. This imports only the hub's client."""
        from huggingface_hub import try_to_load_from_cache

        paths = [try_to_load_from_cache(self.name, name, revision=self.revision) for name in names]
        return [Path(path) for path in paths if isinstance(path, str)]

    def find_or_fetch(
        self,
        find: Callable[[], Result | None],
        patterns: Sequence[Sequence[str]],
        description: str,
        alternative: str = "",
    ) -> Result:
        """Return the result of `find` in the local cache, after downloading the files if it finds nothing.

        Files in the cache are used as they are. Only missing files are downloaded.

        Args:
            find: Function that returns the result, or None if files are missing.
            patterns: Groups of patterns of file names. A group is downloaded only if the files of the earlier groups
                were not sufficient.
            description: Description of the files in the plural, for the error.
            alternative: Another way out for the user, for the error.

        Raises:
            AbsentFilesError: When the files are neither in the cache nor could be downloaded.
        """
        if (result := find()) is not None:
            return result
        reason = None
        for group in patterns:
            reason = self._download(group)
            if (result := find()) is not None:
                return result
        why, permission = _refusal.get() or (_explain(reason), "")
        missing = f"The {description} are not on this machine"
        missing += f" and could not be downloaded ({why})" if why else ""
        way_out = f"Get them with: {self.download_command}" + (f", or {alternative}" if alternative else "")
        way_out = f"{permission} {way_out}" if permission else way_out
        raise AbsentFilesError(f"{missing}. {way_out}") from reason

    def _download(self, patterns: Sequence[str]) -> Exception | None:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.utils import disable_progress_bars, logging  # type: ignore[attr-defined]

        if constants.HF_HUB_OFFLINE or _refusal.get():
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


@contextlib.contextmanager
def without_downloads(reason: str = "", way_out: str = "") -> Iterator[None]:
    """Refuse downloads from the hub within a block. The files that are on this machine can be used.

    Args:
        reason: Clause that says why, for the message about files that are absent.
        way_out: Sentence that says how to allow them.
    """
    from huggingface_hub import constants

    is_offline, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True  # for the libraries that ask the hub
    token = _refusal.set((reason, way_out))
    try:
        yield
    finally:
        _refusal.reset(token)
        constants.HF_HUB_OFFLINE = is_offline


def _explain(reason: Exception | None) -> str:
    """Return in one line why nothing was downloaded."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if reason is None:
        return "the repository has no such file"
    return ": ".join([type(reason).__name__, *str(reason).strip().splitlines()[:1]])


def parse_repository(text: str) -> Repository:
    """Parse the name of a repository, ORGANIZATION/NAME[@REVISION].

    Raises:
        UsageError: When the text is not the name of a repository.

    Example:
        >>> parse_repository("FacebookAI/roberta-base@main")
        Repository(name='FacebookAI/roberta-base', revision='main')
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id  # type: ignore[attr-defined]

    name, at, revision = text.partition("@")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(
            f"hf:{text} is not the name of a repository. Expected hf:ORGANIZATION/NAME[@REVISION]."
        ) from error
    if at and not revision:
        raise UsageError(f"hf:{text} has no revision after @. Expected hf:ORGANIZATION/NAME[@REVISION].")
    return Repository(name, revision or None)
