"""The list of targets with kind, size and license, without opening their files, and the pool `@diverse`.

The rules of licenses and of near copies hold for sources too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from modgap.errors import InputError, UsageError
from modgap.process.installed_packages import BUILT_IN
from modgap.targets.download.data_directory import find_target_files
from modgap.targets.manifest import NOT_STATED, Manifest
from modgap.targets.named_manifests import manifest_names, manifest_origin, named_manifest

DIVERSE = "@diverse"
"""Name of the pool of sources or targets on this machine that have an open license and are not near copies."""
OPEN_LICENSE = re.compile(
    r"\b(mit|bsd|isc|apache|[al]?gpl|mpl|cc0|cc by|odc by|odbl|pddl|artistic|ofl|bitstream vera|wordnet|zlib|psf|"
    r"unlicense|public domain|open data)\b"
)
"""Licenses that allow anyone to use, change and share the data or weights, as they are written in lower case."""
CLOSED_LICENSE = re.compile(r"\b(nc|nd|non ?commercial|not for commercial|not stated|unclear|unknown|not known|none)\b")
"""Words that say that a license, or a part of it, does not."""


class Listed(Protocol):
    """An entry of the list of targets or of sources."""

    @property
    def name(self) -> str:
        """Name of the entry."""

    @property
    def kind(self) -> str:
        """Kind of its data."""

    @property
    def kind_words(self) -> str:
        """The words by which the kind of its data can be asked for, besides the kind itself."""

    @property
    def license(self) -> str:
        """License of the data or the weights."""

    @property
    def is_installed(self) -> bool:
        """True if its files are on this machine."""

    @property
    def near_copies(self) -> tuple[str, ...]:
        """Names of entries that stay in `@diverse` in its place."""


Entry = TypeVar("Entry", bound=Listed)
SizeIs = Literal["exact", "rounded", "at least"]


@dataclass(frozen=True)
class TargetInfo:
    """Description of a target that is available without opening its files.

    Attributes:
        name: Name of the target.
        title: Title in lists and reports.
        kind: Kind of its samples: image, series, sound, video, text, or table, whose columns are standardized.
        modality: Kind of data in the field's words, such as handwriting.
        predicts: Number of classes, of labels (multi-label) or of clusters (regression), with the noun.
        size: Size of its downloads, or else of its files, in bytes; None if it is unknown.
        size_is: `exact`, `rounded`, or `at least` if the size of some downloads or files is unknown.
        license: License of the data; `not stated` if none is.
        is_installed: True if its files are on this machine.
        near_copies: Names of other targets with almost the same samples. Of these and this target, `@diverse` takes
            those.
        origin: Package that the manifest comes from.
    """

    name: str
    title: str
    kind: str
    modality: str
    predicts: str
    size: int | None
    size_is: SizeIs
    license: str
    is_installed: bool
    near_copies: tuple[str, ...] = ()
    origin: str = BUILT_IN

    @property
    def kind_words(self) -> str:
        """The words by which the kind of its data can be asked for, besides the kind itself."""
        return self.modality


def target_infos() -> list[TargetInfo]:
    """Return the descriptions of all targets that have a name, sorted by it."""
    return [_describe(name, named_manifest(name)) for name in manifest_names()]


def _describe(name: str, manifest: Manifest) -> TargetInfo:
    entries = manifest.downloads or manifest.files
    sizes = [entry.size or getattr(entry, "approximate_size", None) for entry in entries]
    size_is: SizeIs = "exact" if all(entry.size for entry in entries) else "rounded"
    try:
        find_target_files(manifest)
        is_installed = True
    except InputError:
        is_installed = False
    return TargetInfo(
        name=name,
        title=manifest.title,
        kind=kind_of(manifest),
        modality=manifest.modality,
        predicts=_prediction(manifest),
        size=sum(size or 0 for size in sizes) or None,
        size_is="at least" if None in sizes else size_is,
        license=manifest.stated_license or NOT_STATED,
        is_installed=is_installed,
        near_copies=manifest.near_copies,
        origin=manifest_origin(name),
    )


def kind_of(manifest: Manifest) -> str:
    """Return the kind of the samples of a target: image, sound, series, table, text or video."""
    spec = manifest.input
    is_table = spec.representation == "fold" and any(step.name == "standardize" for step in manifest.steps)
    if spec.kind == "series" and is_table and (spec.shape is None or spec.shape[0] == 1):
        return "table"
    return "sound" if spec.kind == "audio" else spec.kind


def _prediction(manifest: Manifest) -> str:
    if manifest.task == "regression":
        return f"{manifest.pseudo_classes} clusters" if manifest.pseudo_classes else "regression"
    size = manifest.n_classes or len(manifest.classes or ())
    noun = "labels" if manifest.task == "multi-label" else "classes"
    return f"{size} {noun}" if size else noun


def select(
    entries: Sequence[Entry], noun: str, *, kind: str | None = None, license: str | None = None, diverse: bool = False
) -> list[Entry]:
    """Return the entries of a list that have a kind and a license, or are in the pool `@diverse`, in their order.

    An entry is left out of the pool if it names an entry as its near copy that is in the pool.

    Args:
        entries: The list.
        noun: Noun of an entry for the message, such as `target`.
        kind: Kind of the data, or words of its description; None for any.
        license: `open`, or words of a license as for `has_license`; None for any.
        diverse: True for the pool `@diverse`.

    Raises:
        UsageError: If no entry is left.
    """
    left = [
        entry
        for entry in entries
        if (kind is None or kind.lower() == entry.kind or _contains(entry.kind_words, kind))
        and (license is None or has_license(entry.license, license))
        and (not diverse or (entry.is_installed and is_open(entry.license)))
    ]
    if diverse:
        names = {entry.name for entry in left}
        left = [entry for entry in left if names.isdisjoint(entry.near_copies)]
    if left:
        return left
    wanted = [f"the {field} {value!r}" for field, value in (("kind", kind), ("license", license)) if value is not None]
    pool = f" and is in {DIVERSE}" if diverse else ""
    message = f"No {noun} has {' and '.join(wanted)}{pool}." if wanted else f"No {noun} is in {DIVERSE}."
    if kind is not None:
        message += f" The kinds are {', '.join(sorted({entry.kind for entry in entries}))}."
    if license is not None:
        message += " Expected open, or words of a license such as mit, gpl, cc-by or 'not stated'."
    if diverse:
        message += f" {DIVERSE} has what is on this machine with an open license."
    raise UsageError(message)


def has_license(text: str, wanted: str) -> bool:
    """Return True if a license is the wanted one.

    Args:
        text: The license, `not stated` if there is none.
        wanted: `open`, or words of a license, such as `mit`, `gpl`, `cc-by` or `not stated`. The last one may be the
            start of a word.

    Example:
        >>> [has_license("CC BY-NC 4.0", wanted) for wanted in ("cc-by", "CC BY-NC", "by-nc", "open", "mit")]
        [True, True, True, False, False]
        >>> [has_license("GPL-2+", wanted) for wanted in ("gpl", "GPL-2", "lgpl", "open")]
        [True, True, False, True]
    """
    return is_open(text) if wanted.lower() == "open" else _contains(text, wanted)


def is_open(text: str) -> bool:
    """Return True if a license lets anyone use, change and share the data or the weights, also commercially."""
    words = " ".join(_words(text))
    return OPEN_LICENSE.search(words) is not None and CLOSED_LICENSE.search(words) is None


def _contains(text: str, wanted: str) -> bool:
    """Return True if a text has the wanted words one after the other; the last one may be the start of a word."""
    return f" {' '.join(_words(wanted))}" in f" {' '.join(_words(text))}"


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:\.\d+)*\+?", text.lower())
