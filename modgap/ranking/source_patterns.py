"""Names of sources and targets, and numbers of layers, from the command line: lists, files, pools and patterns."""

import re
from collections.abc import Callable, Sequence

from modgap.errors import InputError, UsageError
from modgap.sources import control_name, is_control, source_infos
from modgap.storage.paths import expand_user
from modgap.targets.catalog import DIVERSE, select, target_infos

NAME_WITH_SIZE = re.compile(r"(.+)@(\d+)px")


def parse_source_names(arguments: Sequence[str]) -> list[str]:
    """Return the distinct names of sources in the order of the arguments.

    Args:
        arguments: Each is a list of names separated by commas, `@diverse` for the sources on this machine with an open
            license and without near copies, or `@FILE` for a file with one name in each line and comments after `#`. A
            name may be a pattern of timm models with pretrained weights, such as `timm:vit_*`. A
            name may end with the size of its input, as in `vit-b@128px`.

    Raises:
        UsageError: If a pattern matches no model, or if there is no name at all.
        InputError: If a file cannot be read.

    Example:
        >>> parse_source_names(["vit-b, swin-b", "vit-b"])
        ['vit-b', 'swin-b']
    """
    lists = [text for argument in arguments for text in _expand(argument, "source", diverse_sources)]
    parts = filter(None, (part.strip() for text in lists for part in text.split(",")))
    names = [name for part in parts for name in (_expand_pattern(part) if set(part) & set("*?[") else [part])]
    if not names:
        raise UsageError("No source was named. Run `modgap sources` for a list of them.")
    return list(dict.fromkeys(names))


def parse_target_names(arguments: Sequence[str]) -> list[str]:
    """Return the distinct names of targets in the order of the arguments.

    Args:
        arguments: Each is a name or path, `@diverse` for the targets on this machine with an open license and without
            near copies, or `@FILE` for a file with one name in each line and comments after `#`.

    Raises:
        UsageError: If there is no name at all.
        InputError: If a file cannot be read.
    """
    names = [name for argument in arguments for name in _expand(argument, "target", diverse_targets)]
    if not names:
        raise UsageError("No target was named. Run `modgap targets` for a list of them.")
    return list(dict.fromkeys(names))


def diverse_targets() -> list[str]:
    """Return the names of the targets on this machine with an open license and without near copies.

    Raises:
        UsageError: If there is none.
    """
    return [info.name for info in select(target_infos(), "target", diverse=True)]


def diverse_sources() -> list[str]:
    """Return the short names of the sources on this machine with an open license and without near copies.

    Raises:
        UsageError: If there is none.
    """
    return [info.name for info in select(source_infos(), "source", diverse=True)]


def split_input_size(name: str) -> tuple[str, int | None]:
    """Split a name into the source's name and the height and width of its input in pixels (None if absent).

    Example:
        >>> split_input_size("efficientnet-lite0@64px"), split_input_size("hf:microsoft/resnet-18@main")
        (('efficientnet-lite0', 64), ('hf:microsoft/resnet-18@main', None))
    """
    match = NAME_WITH_SIZE.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, None)


def with_input_size(name: str, size: int | None) -> str:
    """Return a source's name with the size of its input, as `split_input_size` splits it."""
    return f"{name}@{size}px" if size else name


def _expand(argument: str, noun: str, diverse: Callable[[], list[str]]) -> list[str]:
    """Return the names of a pool, the lines of a file without comments and empty lines, or the argument itself."""
    if argument == DIVERSE:
        return diverse()
    if not argument.startswith("@"):
        return [argument]
    path = expand_user(argument[1:])
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"Cannot read the list of {noun}s {path}: {error}. Expected a text file with one {noun} name in each line."
        ) from error
    return list(filter(None, (line.partition("#")[0].strip() for line in lines)))


def _expand_pattern(pattern: str) -> list[str]:
    prefix = control_name("timm:") if is_control(pattern) else "timm:"
    if not pattern.startswith(prefix):
        raise UsageError(f"{pattern!r} is not a pattern of timm models. Expected a pattern such as 'timm:vit_*'.")
    import timm

    models = timm.list_models(pattern.removeprefix(prefix), pretrained=True)
    if not models:
        raise UsageError(f"No timm model with pretrained weights matches {pattern.removeprefix(prefix)!r}.")
    return [f"{prefix}{model}" for model in models]


def parse_layers(text: str) -> tuple[int, ...] | None:
    """Return the numbers of layers, from 1, in `N,M,...`; an empty tuple for `all`, and None for `last`.

    Raises:
        UsageError: If the text is none of these.
    """
    if text == "all":
        return ()
    if text == "last":
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and 0 < int(part) < 10_000 for part in parts):
        raise UsageError(f"`layers` is {text!r}. Expected last, all, or numbers of layers from 1 such as 2,4.")
    return tuple(sorted({int(part) for part in parts}))
