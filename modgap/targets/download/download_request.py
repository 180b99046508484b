"""A file to download, and a file that was downloaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modgap.limits import DOWNLOAD_BYTES

__all__ = ["DownloadRequest", "DownloadedFile"]


@dataclass(frozen=True)
class DownloadRequest:
    """A file to download.

    Attributes:
        path: Final path of the file.
        urls: URLs of the file, in the order in which they are tried.
        size: Size in bytes; None when it is unknown.
        checksums: Checksums in hexadecimal by algorithm (sha256, md5); empty when none is known.
        note: Text at the end of a message about a wrong size or checksum: where the expectation comes from.
    """

    path: Path
    urls: Sequence[str]
    size: int | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def describe_excess(self, size: int) -> str | None:
        """Return a message if a host sends more bytes than expected, or than the limits allow; None if it does not.

        Args:
            size: Bytes that the host has sent, or says that it will send.
        """
        if self.size is not None:
            return f"it sends more than the expected {self.size} bytes" if size > self.size else None
        if size <= DOWNLOAD_BYTES.value:
            return None
        return (
            f"it sends more than {DOWNLOAD_BYTES.value:,} bytes, the limit for a file whose size the manifest does not "
            f"state. {DOWNLOAD_BYTES.way_out()}"
        )


@dataclass(frozen=True)
class DownloadedFile:
    """A file that was downloaded and verified.

    Attributes:
        size: Size in bytes.
        sha256: SHA-256, in hexadecimal.
        url: URL that the last bytes came from.
    """

    size: int
    sha256: str
    url: str
