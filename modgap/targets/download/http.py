"""One file over HTTP: several hosts in turn, gone on with where it stopped, checked before it is taken for whole."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modgap import __version__
from modgap.errors import InputError
from modgap.targets.download.partial_download import Partial, Validator, open_partial

__all__ = ["Arrived", "Wanted", "host", "transfer"]

CHUNK = 1 << 16
"""Bytes at a time; when a connection breaks, fewer than these are lost."""
CONNECT_SECONDS = 15.0
ATTEMPTS = 3
BACK_OFF_SECONDS = 0.5
LONGEST_WAIT = 60.0
MOST_REDIRECTS = 10
PROGRESS_ENOUGH = 1 << 20
"""An attempt that brings so many bytes to go on with does not count."""
TOO_MANY_REQUESTS, SERVER_ERRORS = 429, 500
COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zip")

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class Wanted:
    """A file to be brought.

    Attributes:
        path: Where it shall lie.
        urls: Where it may be had, in this order.
        size: Its bytes, where known.
        sums: Its checksums by name (sha256, md5), where known.
        note: What to say of the checksums when they do not fit.
    """

    path: Path
    urls: Sequence[str]
    size: int | None = None
    sums: dict[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Arrived:
    """A file that was brought: its size, SHA-256, and whence it came."""

    size: int
    sha256: str
    url: str


class _Failed(Exception):  # noqa: N818 - the state of one host, told in the end
    """This host does not give the file."""


class _Interrupted(Exception):  # noqa: N818
    """The host may give the file when asked again."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class _Progress:
    """Tells what came since the last word; less than nothing where a file begins anew."""

    def __init__(self, advance: Callable[[float], None] | None):
        self._advance, self._share = advance, 0.0

    def to(self, size: int, total: int | None) -> None:
        if self._advance and total:
            share = min(size / total, 1.0)
            self._advance(share - self._share)
            self._share = share


def host(url: str) -> str:
    """The host of a URL, for messages.

    Example:
        >>> host("https://user:secret@example.org:8080/a?key=1")
        'example.org:8080'
    """
    return urlsplit(url).netloc.rpartition("@")[2]


def transfer(wanted: Wanted, *, timeout: float = 60.0, advance: Callable[[float], None] | None = None) -> Arrived:
    """Bring a file into its place; it appears there whole and checked, or not at all.

    Args:
        wanted: The file.
        timeout: Seconds without a byte after which a host counts as silent.
        advance: Called with the share that came since the last call; negative where it starts anew.

    Raises:
        InputError: When no host gives the file, or the disk is full.
    """
    faults, progress = [], _Progress(advance)
    try:
        with open_partial(wanted.path) as partial, _session() as session:
            for number, url in enumerate(wanted.urls):
                try:
                    arrived = _from_host(session, url, wanted, partial, timeout, progress)
                except _Failed as error:
                    faults.append(f"{host(url) or url}: {error}")
                    following = "; trying the next host" if number + 1 < len(wanted.urls) else ""
                    log.warning("%s does not give %s: %s%s", host(url) or url, wanted.path.name, error, following)
                else:
                    partial.publish(wanted.path)
                    return arrived
    except OSError as error:
        raise InputError(
            f"cannot write {wanted.path}: {error.strerror or error}; what has come is gone on with next time"
        ) from error
    raise InputError(
        f"no host gives {wanted.path.name} ({'; '.join(faults)}); bring it by hand from {wanted.urls[0]} "
        f"to {wanted.path}"
    )


@contextlib.contextmanager
def _session() -> Iterator[Any]:
    import requests

    with requests.Session() as session:
        session.max_redirects = MOST_REDIRECTS
        session.headers["User-Agent"] = f"modgap/{__version__}"
        # The file itself is wanted, as its checksum is of it, not a compressed form of it.
        session.headers["Accept-Encoding"] = "identity"
        yield session


def _from_host(session, url: str, wanted: Wanted, partial: Partial, timeout: float, progress: _Progress) -> Arrived:
    """Bring the file from one host, asking again where that may help."""
    if urlsplit(url).scheme not in ("http", "https") or not host(url):
        raise _Failed(f"expected an http or https address, got {url!r}")
    failures = 0
    while True:
        before = partial.size
        try:
            _receive(session, url, wanted, partial, timeout, progress)
            return _checked(url, wanted, partial)
        except _Interrupted as error:
            gained = partial.size - before >= PROGRESS_ENOUGH and partial.validator() is not None
            failures = 0 if gained else failures + 1
            if failures >= ATTEMPTS:
                raise _Failed(str(error)) from error
            wait = BACK_OFF_SECONDS * 2 ** (failures - 1) if error.wait is None else error.wait
            log.info("%s: %s; asking again in %.1f s", host(url), error, wait)
            time.sleep(wait)


def _receive(session, url: str, wanted: Wanted, partial: Partial, timeout: float, progress: _Progress) -> None:
    """Ask once, and append what comes."""
    import requests
    import urllib3

    headers, known = {}, partial.validator()
    if partial.size and known and known.url == url:
        headers = {"Range": f"bytes={partial.size}-", "If-Range": str(known.tag)}
    try:
        with session.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, timeout)) as response:
            total = _begin(response, url, wanted, partial, asked=bool(headers))
            for chunk in _chunks(response.raw):
                if wanted.size is not None and partial.size + len(chunk) > wanted.size:
                    raise _Failed(f"it sends more than the {wanted.size} bytes expected")
                partial.write(chunk)
                progress.to(partial.size, total)
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _Interrupted(_reason(error)) from error
    except requests.RequestException as error:
        raise _Failed(_reason(error)) from error
    finally:
        partial.flush()
    if total is not None and partial.size != total:
        raise _Interrupted(f"it ended after {partial.size} of {total} bytes")


def _chunks(raw) -> Iterator[bytes]:
    """The body as it comes over the line; errors of the line are not mistaken for errors of the disk."""
    import urllib3

    try:
        yield from raw.stream(CHUNK, decode_content=False)
    except OSError as error:
        raise urllib3.exceptions.ProtocolError(str(error)) from error


def _begin(response, url: str, wanted: Wanted, partial: Partial, *, asked: bool) -> int | None:
    """Read the answer's head, make the partial file fit it, and return the whole size where it is told."""
    _refuse_status(response, asked, partial)
    if response.status_code != 206:
        _refuse_content(response, wanted)
        partial.restart(Validator(url, _tag(response.headers)))
    rest = response.headers.get("Content-Length")
    total = partial.size + int(rest) if rest and rest.isdigit() else None
    if response.status_code == 206:
        start, _, whole = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if start.partition("-")[0] != str(partial.size) or (whole.isdigit() and total not in (None, int(whole))):
            partial.restart(None)
            raise _Interrupted("it gives another part than was asked for")
        partial.resumed = True
        log.info("%s: going on with %s after %d bytes", host(url), wanted.path.name, partial.size)
    if wanted.size is not None and total not in (None, wanted.size):
        raise _Failed(f"it offers {total} bytes, {wanted.size} were expected{wanted.note}")
    return total


def _refuse_status(response, asked: bool, partial: Partial) -> None:
    status = response.status_code
    if status == 200 or (status == 206 and asked):
        return
    if status in (206, 416):
        partial.restart(None)
        raise _Interrupted(f"it answers {status} to the part asked for")
    reason = f"{status} {response.reason or ''}".strip()
    if status == TOO_MANY_REQUESTS or status >= SERVER_ERRORS:
        wait = response.headers.get("Retry-After", "")
        raise _Interrupted(reason, min(float(wait), LONGEST_WAIT) if wait.isdigit() else None)
    raise _Failed(reason)


def _refuse_content(response, wanted: Wanted) -> None:
    """Where nothing is known of the file, a page or a stream that may be cut must not be recorded as it."""
    headers = response.headers
    coding = headers.get("Content-Encoding", "identity").lower()
    if coding not in ("", "identity") and wanted.path.suffix.lower() not in COMPRESSED:
        raise _Failed(f"it sends the file compressed ({coding}), though that was not asked for")
    if wanted.sums:
        return
    if headers.get("Content-Type", "").startswith("text/html") and wanted.path.suffix not in (".html", ".htm"):
        raise _Failed("it sends a web page instead of the file")
    told = "Content-Length" in headers or headers.get("Transfer-Encoding", "").lower() == "chunked"
    if not told and wanted.size is None:
        raise _Failed("it does not tell the size, and the manifest gives neither size nor checksum")


def _tag(headers) -> str | None:
    tag = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    return headers.get("Last-Modified")


def _checked(url: str, wanted: Wanted, partial: Partial) -> Arrived:
    """The checksums of what has come, or the reason why it is dropped."""
    size, resumed = partial.size, partial.resumed
    found = partial.digests({"sha256", *wanted.sums})
    faults = [] if wanted.size in (None, size) else [f"{wanted.size} bytes, got {size}"]
    faults += [f"{n.upper()} {s}, got {found[n]}" for n, s in wanted.sums.items() if found[n] != s]
    if not faults:
        return Arrived(size, found["sha256"], url)
    partial.restart(None)
    if resumed:
        # Its beginning came another time, and may be what is wrong.
        raise _Interrupted(f"expected {faults[0]}")
    raise _Failed(f"expected {faults[0]}{wanted.note}; what came was dropped")


def _reason(error: BaseException) -> str:
    """The innermost cause of a failed request, in a few words."""
    import requests
    import urllib3

    if isinstance(error, requests.exceptions.InvalidSchema):
        return "it leads to an address that is not http or https"
    if isinstance(error, requests.TooManyRedirects):
        return f"it leads on more than {MOST_REDIRECTS} times"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "it is silent for too long"
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())[:200]
