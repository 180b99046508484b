"""Download one file over HTTP: from several hosts in turn, resumed where it was interrupted, and verified."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modgap.errors import InputError, first_line
from modgap.targets.download.download_request import DownloadedFile, DownloadRequest
from modgap.targets.download.partial_download import PartialDownload, Validator, open_partial_download
from modgap.version import installed_version

if TYPE_CHECKING:
    import requests

__all__ = ["download_file", "host_of"]

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

log = logging.getLogger("modgap")


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


class _ProgressReporter:
    """Reports the fraction received since the last report; it is negative when a file starts again."""

    def __init__(self, advance: Callable[[float], None] | None) -> None:
        self._advance = advance
        self._reported = 0.0

    def report(self, size: int, total: int | None) -> None:
        if self._advance and total:
            fraction = min(size / total, 1.0)
            self._advance(fraction - self._reported)
            self._reported = fraction


def host_of(url: str) -> str:
    """Return the host of a URL, for messages.

    Example:
        >>> host_of("https://user:secret@example.org:8080/a?key=1")
        'example.org:8080'
    """
    return urlsplit(url).netloc.rpartition("@")[2]


def download_file(
    request: DownloadRequest, *, timeout: float = 60.0, advance: Callable[[float], None] | None = None
) -> DownloadedFile:
    """Download a file; it appears at its final path complete and verified, or not at all.

    Args:
        request: The file.
        timeout: Seconds without data before the next host is tried.
        advance: Called with the fraction of the file, in [0, 1], received since the last call; negative when the
            download starts again.

    Raises:
        InputError: When no host provides the file, or the disk is full.
    """
    failures = []
    progress = _ProgressReporter(advance)
    try:
        with open_partial_download(request.path) as partial, _open_session() as session:
            for number, url in enumerate(request.urls):
                host = host_of(url) or url
                try:
                    downloaded = _download_from_host(session, url, request, partial, timeout, progress)
                except _HostFailed as error:
                    failures.append(f"{host}: {error}")
                    next_step = " Trying the next host." if number + 1 < len(request.urls) else ""
                    log.warning("%s does not provide %s: %s.%s", host, request.path.name, error, next_step)
                else:
                    partial.move_to(request.path)
                    return downloaded
    except OSError as error:
        raise InputError(
            f"cannot write {request.path}: {error.strerror or error}. "
            "The partial download is kept; run the same command to resume it."
        ) from error
    raise InputError(
        f"no host provides {request.path.name} ({'; '.join(failures)}). "
        f"Download {request.urls[0]} by hand and save it as {request.path}"
    )


@contextlib.contextmanager
def _open_session() -> Iterator["requests.Session"]:
    import requests

    with requests.Session() as session:
        session.max_redirects = MAX_REDIRECTS
        session.headers["User-Agent"] = f"modgap/{installed_version()}"
        # The checksum is that of the file itself, not of a compressed form of it.
        session.headers["Accept-Encoding"] = "identity"
        yield session


def _download_from_host(
    session: "requests.Session",
    url: str,
    request: DownloadRequest,
    partial: PartialDownload,
    timeout: float,
    progress: _ProgressReporter,
) -> DownloadedFile:
    """Download the file from one host, and repeat the request where that may help."""
    if urlsplit(url).scheme not in ("http", "https") or not host_of(url):
        raise _HostFailed(f"expected an http or https address, got {url!r}")
    failures = 0
    while True:
        size_before = partial.size
        try:
            _receive(session, url, request, partial, timeout, progress)
            return _verify(url, request, partial)
        except _Interrupted as error:
            progressed = partial.size - size_before >= MIN_BYTES_OF_PROGRESS and partial.validator() is not None
            failures = 0 if progressed else failures + 1
            if failures >= MAX_FAILURES:
                raise _HostFailed(str(error)) from error
            delay = FIRST_RETRY_DELAY * 2 ** (failures - 1) if error.delay is None else error.delay
            log.info("%s: %s. Trying again in %.1f s.", host_of(url), error, delay)
            time.sleep(delay)


def _receive(
    session: "requests.Session",
    url: str,
    request: DownloadRequest,
    partial: PartialDownload,
    timeout: float,
    progress: _ProgressReporter,
) -> None:
    """Send one request, and append the bytes of its response."""
    import requests
    import urllib3

    headers = _range_headers(url, partial)
    try:
        with _send(session, url, headers, timeout) as response:
            total = _prepare_partial(response, url, request, partial, resuming=bool(headers))
            for chunk in _read_chunks(response.raw):
                _check_size(partial.size + len(chunk), request)
                partial.write(chunk)
                progress.report(partial.size, total)
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _Interrupted(_describe_failure(error)) from error
    except requests.RequestException as error:
        raise _HostFailed(_describe_failure(error)) from error
    finally:
        partial.flush()
    if total is not None and partial.size != total:
        raise _Interrupted(f"the connection ended after {partial.size} of {total} bytes")


def _send(session: "requests.Session", url: str, headers: dict[str, str], timeout: float) -> "requests.Response":
    """Send a request, and follow redirects."""
    import requests

    try:
        return session.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, timeout))
    except requests.RequestException:
        raise
    except (ValueError, AttributeError) as error:
        # requests parses the address of a redirect with functions that raise errors of their own.
        raise _HostFailed(f"it redirects to a malformed address ({first_line(error)})") from error


def _check_size(size: int, request: DownloadRequest) -> None:
    if excess := request.describe_excess(size):
        raise _HostFailed(excess)


def _range_headers(url: str, partial: PartialDownload) -> dict[str, str]:
    """Return the headers that request the rest of a partial download; empty when it cannot be resumed."""
    validator = partial.validator()
    if partial.size and validator and validator.url == url:
        return {"Range": f"bytes={partial.size}-", "If-Range": str(validator.tag)}
    return {}


def _read_chunks(raw: Any) -> Iterator[bytes]:
    """Yield the body as it was sent; errors of the connection are kept apart from errors of the disk."""
    import urllib3

    try:
        yield from raw.stream(CHUNK, decode_content=False)
    except OSError as error:
        raise urllib3.exceptions.ProtocolError(str(error)) from error


def _prepare_partial(
    response: "requests.Response", url: str, request: DownloadRequest, partial: PartialDownload, *, resuming: bool
) -> int | None:
    """Check the header of a response and restart the partial download if it cannot be resumed.

    Returns:
        The size of the complete file in bytes; None when the host does not report it.
    """
    _check_status(response, resuming, partial)
    if response.status_code != PARTIAL_CONTENT:
        _check_content(response, request)
        partial.restart(Validator(url, _version_tag(response.headers)))
    length = response.headers.get("Content-Length")
    total = partial.size + int(length) if length and length.isdecimal() else None
    if response.status_code == PARTIAL_CONTENT:
        _check_range(response, partial, total)
        partial.resumed = True
        log.info("%s: resuming %s after %d bytes", host_of(url), request.path.name, partial.size)
    if request.size is None:
        _check_size(total or 0, request)
    elif total not in (None, request.size):
        raise _HostFailed(f"it offers {total} bytes, but {request.size} were expected{request.note}")
    return total


def _check_range(response: "requests.Response", partial: PartialDownload, total: int | None) -> None:
    content_range = response.headers.get("Content-Range", "").removeprefix("bytes ")
    span, _, complete_size = content_range.partition("/")
    starts_here = span.partition("-")[0] == str(partial.size)
    if not starts_here or (complete_size.isdecimal() and total not in (None, int(complete_size))):
        partial.restart(None)
        raise _Interrupted("it sends another part of the file than was requested")


def _check_status(response: "requests.Response", resuming: bool, partial: PartialDownload) -> None:
    status = response.status_code
    if status == 200 or (status == PARTIAL_CONTENT and resuming):
        return
    if status in (PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE):
        partial.restart(None)
        raise _Interrupted(f"it answers {status} to the request for a part of the file")
    reason = f"{status} {response.reason or ''}".strip()
    if status == TOO_MANY_REQUESTS or status >= FIRST_SERVER_ERROR:
        delay = response.headers.get("Retry-After", "")
        raise _Interrupted(reason, min(float(delay), MAX_RETRY_DELAY) if delay.isdecimal() else None)
    raise _HostFailed(reason)


def _check_content(response: "requests.Response", request: DownloadRequest) -> None:
    """Raise when the response is not the file, as far as its header tells.

    Where neither size nor checksum is known, a web page, or a response that may be truncated, must not be recorded
    as the file.
    """
    headers = response.headers
    encoding = headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("", "identity") and request.path.suffix.lower() not in COMPRESSED_SUFFIXES:
        raise _HostFailed(f"it sends the file compressed ({encoding}), which was not requested")
    if request.checksums:
        return
    if headers.get("Content-Type", "").startswith("text/html") and request.path.suffix not in (".html", ".htm"):
        raise _HostFailed("it sends a web page instead of the file")
    has_end = "Content-Length" in headers or headers.get("Transfer-Encoding", "").lower() == "chunked"
    if not has_end and request.size is None:
        raise _HostFailed("it does not report the size, and the manifest has neither size nor checksum")


def _version_tag(headers: Mapping[str, str]) -> str | None:
    tag = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    return headers.get("Last-Modified")


def _verify(url: str, request: DownloadRequest, partial: PartialDownload) -> DownloadedFile:
    """Compare the complete file with its expected size and checksums; remove its bytes when it differs."""
    size = partial.size
    resumed = partial.resumed
    checksums = partial.compute_checksums({"sha256", *request.checksums})
    mismatches = [] if request.size in (None, size) else [f"{request.size} bytes, got {size}"]
    for name, expected in request.checksums.items():
        if checksums[name] != expected:
            mismatches.append(f"{name.upper()} {expected}, got {checksums[name]}")
    if not mismatches:
        return DownloadedFile(size, checksums["sha256"], url)
    partial.restart(None)
    if resumed:
        # The first bytes come from an earlier request, and may be the wrong ones.
        raise _Interrupted(f"expected {mismatches[0]}")
    raise _HostFailed(f"expected {mismatches[0]}{request.note}; the download was removed")


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
