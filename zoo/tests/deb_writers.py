"""Packages of Debian with the same bytes each time."""

import lzma
from collections.abc import Mapping
from pathlib import Path

from tests.fixtures.archives import write_tar


def ar_member(name: str, content: bytes, size: str | None = None) -> bytes:
    """Return a member of an ar archive, with this text in place of its size if there is one."""
    written = str(len(content)) if size is None else size
    header = f"{name:<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}{written:<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def deb(data: bytes, name: str = "data.tar.xz", first: str = "debian-binary") -> bytes:
    """Return a .deb with this content of its member for the files."""
    members = (ar_member(first, b"2.0\n"), ar_member("control.tar.xz", b"odd"), ar_member(name, data))
    return b"!<arch>\n" + b"".join(members)


def write_deb(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a .deb of these contents by name, with the dot that dpkg writes before each name."""
    inner = path.with_suffix(".tar")
    write_tar(inner, {f"./{name}": content for name, content in files.items()})
    path.write_bytes(deb(lzma.compress(inner.read_bytes(), preset=1)))
    inner.unlink()
