"""Download one file over HTTP: from several hosts in turn, resumed where it was interrupted, and verified.

A partial download is a file that one process writes, and that the next process resumes.
"""

import contextlib
import glob
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modgap.errors import InputError, first_line
from modgap.storage.algorithms import installed_version
from modgap.storage.json_records import read_json, write_json
from modgap.storage.limits import DOWNLOAD_BYTES, PARTIAL_DAYS
from modgap.storage.locks import abandoned, try_lock, unlock
from modgap.targets.download.data_directory import ExpectedFile, compute_checksums

if TYPE_CHECKING:
    import requests

log = logging.getLogger("modgap")


SUFFIX = ".part"
DAY = 86_400
MAX_NEW_NAMES = 5


def _version_path(partial_path: Path) -> Path:
    """Return the path of the record of the version of a file that the bytes of a partial download belong to."""
    return partial_path.with_name(f"{partial_path.name}.json")


def _version(partial_path: Path) -> tuple[str, str] | None:
    """Return URL and tag of the version that the bytes of a partial download belong to; None when it is unknown.

    A download is not resumed with another version, nor with an unknown one.
    """
    try:
        record = read_json(_version_path(partial_path))
        return (str(record["url"]), str(record["tag"])) if record.get("tag") else None
    except (InputError, KeyError):
        return None


def _discard(partial_path: Path) -> None:
    """Remove a partial download, if it is still there, and the record of its version."""
    partial_path.unlink(missing_ok=True)
    _version_path(partial_path).unlink(missing_ok=True)


def _name_prefix(path: Path) -> str:
    """Return the start of the names of a file's partial downloads; those of other files start differently."""
    return f".{path.name[:40]}-{hashlib.sha256(path.name.encode()).hexdigest()[:8]}-"


def _partial_paths(path: Path) -> list[Path]:
    """List the partial downloads of a file, the largest first."""
    return sorted(path.parent.glob(f"{glob.escape(_name_prefix(path))}*{SUFFIX}"), key=_size, reverse=True)


@contextlib.contextmanager
def open_partial_download(path: Path) -> Iterator[IO[bytes]]:
    """Lock and open the largest partial download of a file that no living process uses, or a new one.

    Smaller ones that no living process uses are removed, and old ones of any file in the folder. At the end it stays
    on the disk if it can be resumed.

    Args:
        path: The final path of the file.

    Raises:
        OSError: When the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    oldest = time.time() - PARTIAL_DAYS.value * DAY
    for partial_path in abandoned(path.parent.glob(f".*-*{SUFFIX}")):
        with contextlib.suppress(OSError):
            if partial_path.stat().st_mtime < oldest:
                _discard(partial_path)
    resumable: tuple[Path, int | None] | None = None
    for partial_path in _partial_paths(path):
        lock = try_lock(partial_path)
        if lock is None:
            continue
        if resumable is None and _version(partial_path) is not None:
            resumable = partial_path, lock
        else:
            _discard(partial_path)
            unlock(lock)
    for version_path in path.parent.glob(f"{glob.escape(_name_prefix(path))}*{SUFFIX}.json"):
        if not version_path.with_suffix("").exists():
            version_path.unlink(missing_ok=True)
    partial_path, lock = resumable or _new_partial_download(path)
    stream = partial_path.open("r+b")
    try:
        yield stream
    finally:
        # On a full disk the last bytes cannot be written. The bytes that were written can still be resumed.
        with contextlib.suppress(OSError):
            stream.close()
        if _size(partial_path) == 0 or _version(partial_path) is None:
            _discard(partial_path)
        unlock(lock)


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def partial_size(path: Path) -> int:
    """Return the size in bytes of the largest partial download of a file; 0 when there is none."""
    return max(map(_size, _partial_paths(path)), default=0)


def _new_partial_download(path: Path) -> tuple[Path, int | None]:
    for _ in range(MAX_NEW_NAMES):
        partial_path = path.with_name(f"{_name_prefix(path)}{secrets.token_hex(8)}{SUFFIX}")
        partial_path.touch(exist_ok=False)
        lock = try_lock(partial_path)
        if lock is not None:
            break
        # Either another process is removing the empty file as an abandoned one, or locks do not work here. In the
        # second case no process removes partial files.
    return partial_path, lock


CHUNK = 1 << 16
"""Bytes read at a time; when a connection breaks, fewer than these are lost."""
CONNECT_TIMEOUT = 15.0
MAX_FAILURES = 3
FIRST_RETRY_DELAY = 0.5
MAX_RETRY_DELAY = 60.0
MAX_REDIRECTS = 10
MIN_BYTES_OF_PROGRESS = 1 << 20
"""Bytes from which on an interrupted attempt that can be resumed does not count as a failure."""
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416
TOO_MANY_REQUESTS = 429
FIRST_SERVER_ERROR = 500
COMPRESSED_SUFFIXES = (".gz", ".tgz", ".bz2", ".xz", ".zip")


class _HostFailed(Exception):  # noqa: N818 - a state of one host, not an error of the command
    """This host does not provide the file."""


class _Interrupted(Exception):  # noqa: N818 - a state of one request
    """The host may provide the file when the request is repeated.

    Attributes:
        delay: Seconds to wait before the next request, as the host asked for; None when it did not.
    """

    def __init__(self, reason: str, delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


def host_of(url: str) -> str:
    """Return the host of a URL, for messages.

    Example:
        >>> host_of("https://user:secret@example.org:8080/a?key=1")
        'example.org:8080'
    """
    return urlsplit(url).netloc.rpartition("@")[2]


def download_file(
    path: Path, urls: Sequence[str], expected: ExpectedFile, timeout: float, advance: Callable[[float], None] | None
) -> tuple[str, str]:
    """Download a file; it appears at its final path complete and verified, or not at all.

    Args:
        path: Final path of the file.
        urls: URLs of the file, in the order in which they are tried.
        expected: Size and checksums of the file, as far as they are known.
        timeout: Seconds without data before the next host is tried.
        advance: Called with the fraction of the file, in [0, 1], received since the last call; negative when the
            download starts again. None to report nothing.

    Returns:
        The SHA-256 of the file in hexadecimal, and the URL that the last bytes came from.

    Raises:
        InputError: When no host provides the file, or the disk is full.
    """
    import requests

    failures = []
    try:
        with open_partial_download(path) as stream, requests.Session() as session:
            session.max_redirects = MAX_REDIRECTS
            session.headers["User-Agent"] = f"modgap/{installed_version()}"
            # The checksum is that of the file itself, not of a compressed form of it.
            session.headers["Accept-Encoding"] = "identity"
            download = _Download(session, path, expected, stream, timeout, advance)
            for number, url in enumerate(urls):
                host = host_of(url) or url
                try:
                    sha256 = download.from_host(url)
                except _HostFailed as error:
                    failures.append(f"{host}: {error}")
                    next_step = " Trying the next host." if number + 1 < len(urls) else ""
                    log.warning("%s does not provide %s: %s.%s", host, path.name, error, next_step)
                else:
                    os.replace(stream.name, path)
                    return sha256, url
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. "
            "The partial download is kept; run the same command to resume it."
        ) from error
    raise InputError(
        f"no host provides {path.name} ({'; '.join(failures)}). Download {urls[0]} by hand and save it as {path}"
    )


@dataclass
class _Download:
    """Requests of one file from hosts, whose bytes one partial download receives.

    Attributes:
        session: Settings of all requests.
        path: Final path of the file.
        expected: Expected size and checksums of the file.
        stream: The partial download, which is locked and open to append bytes.
        timeout: Seconds without data before the next host is tried.
        advance: Called with the fraction received since the last call; None to report nothing.
        size: Size of the partial download in bytes.
        resumed: True when its first bytes come from an earlier request.
        reported: Fraction that `advance` has been told.
    """

    session: "requests.Session"
    path: Path
    expected: ExpectedFile
    stream: IO[bytes]
    timeout: float
    advance: Callable[[float], None] | None
    size: int = 0
    resumed: bool = False
    reported: float = 0.0

    def __post_init__(self) -> None:
        """Move to the end of the partial download."""
        self.partial_path = Path(self.stream.name)
        self.size = self.stream.seek(0, os.SEEK_END)

    def from_host(self, url: str) -> str:
        """Download the file from one host, repeat the request where that may help, and return the file's SHA-256."""
        if urlsplit(url).scheme not in ("http", "https") or not host_of(url):
            raise _HostFailed(f"expected an http or https address, got {url!r}")
        failures = 0
        while True:
            size_before = self.size
            try:
                self._receive(url)
                return self._verify()
            except _Interrupted as error:
                received = self.size - size_before
                progressed = received >= MIN_BYTES_OF_PROGRESS and _version(self.partial_path) is not None
                failures = 0 if progressed else failures + 1
                if failures >= MAX_FAILURES:
                    raise _HostFailed(str(error)) from error
                delay = FIRST_RETRY_DELAY * 2 ** (failures - 1) if error.delay is None else error.delay
                log.info("%s: %s. Trying again in %.1f s.", host_of(url), error, delay)
                time.sleep(delay)

    def _receive(self, url: str) -> None:
        """Send one request, and append the bytes of its response."""
        import requests
        import urllib3

        version_url, tag = _version(self.partial_path) or ("", "")
        resuming = self.size > 0 and version_url == url
        headers = {"Range": f"bytes={self.size}-", "If-Range": tag} if resuming else {}
        try:
            with self._send(url, headers) as response:
                total = self._prepare_partial(response, url, resuming=resuming)
                for chunk in _read_chunks(response.raw):
                    self._check_size(self.size + len(chunk))
                    self.stream.write(chunk)
                    self.size += len(chunk)
                    if self.advance and total:
                        # The fraction since the last report is negative when a file starts again.
                        fraction = min(self.size / total, 1.0)
                        self.advance(fraction - self.reported)
                        self.reported = fraction
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            raise _Interrupted(_describe_failure(error)) from error
        except requests.RequestException as error:
            raise _HostFailed(_describe_failure(error)) from error
        finally:
            self.stream.flush()
        if total is not None and self.size != total:
            raise _Interrupted(f"the connection ended after {self.size} of {total} bytes")

    def _send(self, url: str, headers: dict[str, str]) -> "requests.Response":
        """Send a request, and follow redirects."""
        import requests

        try:
            return self.session.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, self.timeout))
        except requests.RequestException:
            raise
        except (ValueError, AttributeError) as error:
            # requests parses the address of a redirect with functions that raise errors of their own.
            raise _HostFailed(f"it redirects to a malformed address ({first_line(error)})") from error

    def _check_size(self, size: int) -> None:
        """Raise if a host sends, or says that it will send, more bytes than expected, or than the limits allow."""
        if self.expected.size is not None and size > self.expected.size:
            raise _HostFailed(f"it sends more than the expected {self.expected.size} bytes")
        if self.expected.size is None and size > DOWNLOAD_BYTES.value:
            raise _HostFailed(
                f"it sends more than {DOWNLOAD_BYTES.value:,} bytes, the limit for a file whose size the manifest does "
                f"not state. {DOWNLOAD_BYTES.way_out()}"
            )

    def _prepare_partial(self, response: "requests.Response", url: str, *, resuming: bool) -> int | None:
        """Check the header of a response and restart the partial download if it cannot be resumed.

        Returns:
            The size of the complete file in bytes; None when the host does not report it.
        """
        self._check_status(response, resuming)
        if response.status_code != PARTIAL_CONTENT:
            self._check_content(response)
            tag = response.headers.get("ETag") or "W/"
            self._restart(url, response.headers.get("Last-Modified") if tag.startswith("W/") else tag)
        length = response.headers.get("Content-Length")
        total = self.size + int(length) if length and length.isdecimal() else None
        if response.status_code == PARTIAL_CONTENT:
            content_range = response.headers.get("Content-Range", "").removeprefix("bytes ")
            span, _, complete_size = content_range.partition("/")
            starts_here = span.partition("-")[0] == str(self.size)
            if not starts_here or (complete_size.isdecimal() and total not in (None, int(complete_size))):
                self._restart()
                raise _Interrupted("it sends another part of the file than was requested")
            self.resumed = True
            log.info("%s: resuming %s after %d bytes", host_of(url), self.path.name, self.size)
        if self.expected.size is None:
            self._check_size(total or 0)
        elif total not in (None, self.expected.size):
            raise _HostFailed(f"it offers {total} bytes, but {self.expected.size} were expected{self.expected.note}")
        return total

    def _restart(self, url: str = "", tag: str | None = None) -> None:
        """Remove all bytes; the next ones are the first bytes of this version of the file.

        Args:
            url: URL of the version.
            tag: Its strong ETag, or else its Last-Modified date; None where the host gives neither.

        Raises:
            OSError: When the disk cannot be written.
        """
        self.stream.seek(0)
        self.stream.truncate()
        self.size = 0
        self.resumed = False
        _version_path(self.partial_path).unlink(missing_ok=True)
        if tag:
            write_json(_version_path(self.partial_path), {"url": url, "tag": tag})

    def _check_status(self, response: "requests.Response", resuming: bool) -> None:
        status = response.status_code
        if status == 200 or (status == PARTIAL_CONTENT and resuming):
            return
        if status in (PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE):
            self._restart()
            raise _Interrupted(f"it answers {status} to the request for a part of the file")
        reason = f"{status} {response.reason or ''}".strip()
        if status == TOO_MANY_REQUESTS or status >= FIRST_SERVER_ERROR:
            delay = response.headers.get("Retry-After", "")
            raise _Interrupted(reason, min(float(delay), MAX_RETRY_DELAY) if delay.isdecimal() else None)
        raise _HostFailed(reason)

    def _check_content(self, response: "requests.Response") -> None:
        """Raise when the response is not the file, as far as its header tells.

        Where neither size nor checksum is known, a web page, or a response that may be truncated, must not be recorded
        as the file.
        """
        headers = response.headers
        encoding = headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("", "identity") and self.path.suffix.lower() not in COMPRESSED_SUFFIXES:
            raise _HostFailed(f"it sends the file compressed ({encoding}), which was not requested")
        if self.expected.checksums:
            return
        if headers.get("Content-Type", "").startswith("text/html") and self.path.suffix not in (".html", ".htm"):
            raise _HostFailed("it sends a web page instead of the file")
        has_end = "Content-Length" in headers or headers.get("Transfer-Encoding", "").lower() == "chunked"
        if not has_end and self.expected.size is None:
            raise _HostFailed("it does not report the size, and the manifest has neither size nor checksum")

    def _verify(self) -> str:
        """Compare the complete file with its expected size and checksums, and return its SHA-256.

        If it differs, its bytes are removed.
        """
        expected, size = self.expected, self.size
        resumed = self.resumed
        # The bytes are read back from the disk.
        self.stream.flush()
        os.fsync(self.stream.fileno())
        checksums = compute_checksums(self.partial_path, {"sha256", *expected.checksums})
        mismatches = [] if expected.size in (None, size) else [f"{expected.size} bytes, got {size}"]
        for name, checksum in expected.checksums.items():
            if checksums[name] != checksum:
                mismatches.append(f"{name.upper()} {checksum}, got {checksums[name]}")
        if not mismatches:
            return checksums["sha256"]
        self._restart()
        if resumed:
            # The first bytes come from an earlier request, and may be the wrong ones.
            raise _Interrupted(f"expected {mismatches[0]}")
        raise _HostFailed(f"expected {mismatches[0]}{expected.note}; the download was removed")


def _read_chunks(raw: Any) -> Iterator[bytes]:
    """Yield the body as it was sent; errors of the connection are kept apart from errors of the disk."""
    import urllib3

    try:
        yield from raw.stream(CHUNK, decode_content=False)
    except OSError as error:
        raise urllib3.exceptions.ProtocolError(str(error)) from error


def _describe_failure(error: BaseException) -> str:
    """Describe the innermost cause of a failed request on one line."""
    import requests
    import urllib3

    if isinstance(error, requests.exceptions.InvalidSchema):
        return "it redirects to an address that is not http or https"
    if isinstance(error, requests.TooManyRedirects):
        return f"it redirects more than {MAX_REDIRECTS} times"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "it sent no data before the timeout"
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(getattr(error, "strerror", None) or str(error) or type(error).__name__).split())[:200]
