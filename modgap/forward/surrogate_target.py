"""Labeled surrogate data of a source's own modality: its name, its split and the opened target."""

import contextlib

from modgap.errors import InputError, UsageError, unknown_name
from modgap.sources import HeadlessError, SourceHandle, find_surrogate_name, pretrained_name
from modgap.targets import SPLITS, Target, manifest_names, named_manifest, open_target


def parse_surrogate_name(name: str) -> tuple[str, str | None]:
    """Split the name of a surrogate, NAME or NAME:SPLIT, into the name of a target and a split.

    Returns:
        The name of the target, and the split, None if the name contains none.

    Example:
        >>> parse_surrogate_name("cifar10:test"), parse_surrogate_name("photos/cats")
        (('cifar10', 'test'), ('photos/cats', None))
    """
    target, colon, split = name.rpartition(":")
    return (target, split) if colon and target and split in SPLITS else (name, None)


def open_surrogate_target(name: str, split: str | None = None) -> tuple[Target, str | None]:
    """Open the labeled data that the name of a surrogate stands for.

    Args:
        name: A target's name, the path of a manifest or of your own data, with `:train`, `:val` or `:test` after it
            to choose a split.
        split: Split to use. None for the split in the name.

    Returns:
        The opened target, and the split to use; None if neither the name nor the argument says which.

    Raises:
        UsageError: When there is no such target or split, or the name and the argument contradict each other.
        InputError: When the data is missing.
    """
    if split not in (None, *SPLITS):
        raise unknown_name("split", str(split), SPLITS)
    target, named_split = parse_surrogate_name(name)
    if split is not None and named_split not in (None, split):
        raise UsageError(f"The surrogate {name} names the split {named_split}, but the split {split} was requested.")
    return open_target(target), split or named_split


def open_head_surrogate(head: str) -> Target:
    """Open the labeled data that a head is fitted on.

    Args:
        head: `probe:SURROGATE`, as in the option --head.

    Raises:
        UsageError: When the head is of another kind, there is no such target, or a split is named.
        InputError: When the data is missing.
    """
    kind, _, name = head.partition(":")
    if kind != "probe" or not name:
        raise UsageError(f"`head` is {head!r}, but it must be own, none or probe:SURROGATE.")
    target, split = open_surrogate_target(name)
    if split is not None:
        raise UsageError(
            f"`head={head!r}` names a split, but a head is always fitted on the training split. "
            f'Pass `head="probe:{parse_surrogate_name(name)[0]}"`.'
        )
    return target


def default_surrogate(source: str | SourceHandle) -> tuple[str, str]:
    """Return the surrogate of a source that is used if none is named.

    Args:
        source: Name or handle of the source. A `random:` control has the surrogate of the pretrained source.

    Returns:
        The name of a target, and the split of it that the source was not trained on.

    Raises:
        UsageError: When no surrogate is registered for the source.
    """
    name = pretrained_name(source if isinstance(source, str) else source.name)
    surrogate = find_surrogate_name(name)
    if surrogate is None:
        raise UsageError(
            f"No labeled data of the modality of source {name} is registered. "
            'Name a target or your own data, with `settings={"stage1.surrogate": "NAME"}` for training or '
            '`surrogates="NAME"` for distortion.'
        )
    return surrogate


def headless_error_with_surrogates(error: HeadlessError, handle: SourceHandle) -> HeadlessError:
    """Return the error for a source without a head, with the names of installed data that one can be fitted on.

    Args:
        error: The error.
        handle: The source. Its bare encoder is loaded, to learn the kind of its input.
    """
    source_input = handle.load(None, head=False).input
    # Sources of waveforms without a sampling rate are sources of series.
    kind = "series" if getattr(source_input, "rate", 0) is None else source_input.kind
    names = []
    for manifest in map(named_manifest, manifest_names()):
        if manifest.input.kind == kind and manifest.task == "classification":
            with contextlib.suppress(InputError):
                open_target(manifest.name)
                names.append(manifest.name)
    default = find_surrogate_name(pretrained_name(handle.name))
    if default and default[0] in names:
        names.remove(default[0])
        names.insert(0, default[0])
    if names:
        return HeadlessError(f"{error} Installed data of the kind {kind}: {', '.join(names)}.")
    return HeadlessError(f"{error} No data of the kind {kind} are installed. `modgap targets` lists those to fetch.")
