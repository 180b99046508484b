"""The sources that a user means: names, files of names, patterns."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from modgap.errors import InputError, UsageError

__all__ = ["named_sources", "with_size"]

SIZED = re.compile(r"(.+)@(\d+)px")


def named_sources(given: Sequence[str]) -> list[str]:
    """Names of sources, each once, in the order given.

    Args:
        given: Names with commas between; `@FILE` with a name a line, `#` before remarks; or `timm:` before a pattern of
            timm's names with pretrained weights. A name may end with the side of its input, as in `vit-b@128px`.

    Raises:
        UsageError: When a pattern means nothing, or there is no name at all.
        InputError: When a file cannot be read.

    Example:
        >>> named_sources(["vit-b, swin-b", "vit-b"])
        ['vit-b', 'swin-b']
    """
    names = list(dict.fromkeys(name for text in given for name in _named(text)))
    if not names:
        raise UsageError("expected names of sources, got none; see modgap sources")
    return names


def with_size(name: str) -> tuple[str, int | None]:
    """A source's own name, and the side of its input in pixels if the name ends with one.

    Example:
        >>> with_size("efficientnet-lite0@64px"), with_size("hf:microsoft/resnet-18@main")
        (('efficientnet-lite0', 64), ('hf:microsoft/resnet-18@main', None))
    """
    found = SIZED.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def _named(text: str) -> Iterator[str]:
    if text.startswith("@"):
        path = Path(text[1:]).expanduser()
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"expected a file of names of sources, one a line, at {path}: {error}") from error
        for line in lines:
            yield from _split(line.partition("#")[0])
    else:
        yield from _split(text)


def _split(text: str) -> Iterator[str]:
    for name in filter(None, (part.strip() for part in text.split(","))):
        yield from _matching(name) if any(sign in name for sign in "*?[") else [name]


def _matching(pattern: str) -> list[str]:
    prefix = "random:timm:" if pattern.startswith("random:") else "timm:"
    if not pattern.startswith(prefix):
        raise UsageError(f"expected patterns of timm's names, such as 'timm:vit_*', got {pattern!r}")
    import timm

    found = timm.list_models(pattern.removeprefix(prefix), pretrained=True)
    if not found:
        raise UsageError(f"no timm model with pretrained weights is called {pattern.removeprefix(prefix)!r}")
    return [f"{prefix}{name}" for name in found]
