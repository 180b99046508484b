"""Sources by their mean error on recorded targets of the same kind, which a ranking and a transfer begin with.

The lists are `known_sources.toml`, which `benchmarks/known_sources.py` makes.
"""

import functools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import numpy as np

from modgap.errors import count
from modgap.ranking.source_patterns import split_input_size
from modgap.sources import source_infos
from modgap.targets import Table, TargetRequest
from modgap.targets.catalog import kind_of
from modgap.targets.manifest import Manifest
from modgap.targets.samples import Samples
from modgap.zoo import INSTALL

Method = Literal["fine_tuned", "probes"]
"""How the errors of a list were measured."""
FEWEST_TARGETS = 5
"""Recorded targets of a kind below which the modality of the sources comes first."""
TEXT, STRING = "text", "string"
FIRST = 3
"""Known sources that are named if they are not on this machine."""
SAMPLES_READ = 1000
"""Most texts that tell texts from strings."""
SPACED, LENGTH = 0.5, 10
"""Share of values with a space, and median number of characters, from which on values are texts and not strings."""
READ_AS = {"video": "image", "series": "series", "table": "series", STRING: TEXT}
"""Modality of sources that suits a kind of samples, where it is another word."""
ALL_KINDS = "all"


@dataclass(frozen=True)
class KnownSources:
    """The sources that are known for a kind of target.

    Attributes:
        kind: Kind of the samples: `table`, `series`, `image`, `sound`, `text`, `string`, or another one.
        targets: Number of recorded targets of this kind on which the list rests, without the target itself.
        names: Names of the sources, those of the lowest mean error first.
        why: Sentence that says how a text was told from a string; empty for other kinds.
    """

    kind: str
    targets: int
    names: tuple[str, ...]
    why: str = ""

    @property
    def has_few_targets(self) -> bool:
        """True if fewer than five targets of this kind are recorded, so that the sources' own modality comes first."""
        return self.targets < FEWEST_TARGETS

    def order(self, sources: Sequence[str]) -> list[str]:
        """Return names of sources in the order of this list; those that it does not have come last.

        Where the kind has few recorded targets, sources whose own modality is that of the samples come first.
        """
        places = {name: place for place, name in enumerate(self.names)}
        own = {info.name for info in source_infos() if info.kind == READ_AS.get(self.kind, self.kind)}

        def key(name: str) -> tuple[bool, int]:
            plain = split_input_size(name)[0]
            return self.has_few_targets and plain not in own, places.get(plain, len(places))

        return sorted(sources, key=key)

    def known(self, sources: Iterable[str]) -> list[str]:
        """Return those of some sources that the list has, in its order."""
        return [name for name in self.order(list(sources)) if split_input_size(name)[0] in self.names]

    def missing(self) -> list[tuple[str, str]]:
        """Return those of the first three sources that are not on this machine, each with the command to install it."""
        infos = {info.name: info for info in source_infos()}
        first = self.order(self.names)[:FIRST]
        absent = [name for name in first if name not in infos or not infos[name].is_installed]
        return [(name, infos[name].weights if name in infos else INSTALL) for name in absent]

    @property
    def origin(self) -> str:
        """Sentence that says what the order rests on."""
        basis = f"their mean error on {count(self.targets, f'recorded {self.kind} target')}"
        if not self.has_few_targets:
            return f"Sources are in the order of {basis}."
        number = count(self.targets, "target") if self.targets else "no target"
        return (
            f"Only {number} of the kind {self.kind} {'is' if self.targets < 2 else 'are'} recorded: sources whose own "
            "modality is that of the samples come first, then those with the lowest mean error on targets of all kinds."
        )


def known_sources(kind: str, target: str = "", method: Method = "fine_tuned", why: str = "") -> KnownSources:
    """Return the sources that are known for a kind of target.

    Args:
        kind: Kind of the samples.
        target: Name of the target. If its errors are recorded, the list is that of the other targets alone.
        method: `fine_tuned` for errors of fine-tuning at the best of three rates, `probes` for those of linear probes.
        why: Sentence that says how the kind was found.
    """
    lists = _lists()[method]
    of_kind = lists.get(kind, {"targets": 0, "sources": {}, "without": {}})
    is_recorded = target in of_kind["without"]
    names = of_kind["without"][target] if is_recorded else of_kind["sources"]
    n_targets = of_kind["targets"] - is_recorded
    if n_targets < FEWEST_TARGETS and kind not in (TEXT, STRING):
        names = lists[ALL_KINDS]["without"].get(target, lists[ALL_KINDS]["sources"])
    return KnownSources(kind, n_targets, tuple(names), why)


def known_sources_of(target: TargetRequest, table: Table, manifest: Manifest, method: Method) -> KnownSources:
    """Return the sources that are known for the kind of a target, which its samples tell where they are texts.

    Args:
        target: The target as the user names it, perhaps with a kind of its own data.
        table: Its samples.
        manifest: Its manifest.
        method: How the errors were measured, as for `known_sources`.
    """
    kind, why = kind_of(manifest), ""
    if kind == TEXT:
        told = target.custom_data.kind if target.custom_data else None
        recorded = {
            name for name in (TEXT, STRING) if any(manifest.name in one[name]["without"] for one in _lists().values())
        }
        kind, why = (told or recorded.pop(), "") if told or recorded else text_kind(table.samples)
    return known_sources(kind, manifest.name, method, why)


def text_kind(texts: Samples) -> tuple[str, str]:
    """Return `text` or `string` for some texts, and the sentence that says why.

    They are texts if at least half of them have a space within, and half of them at least ten characters.

    Args:
        texts: The texts, of which at most 1,000 are read, at equal distances.
    """
    numbers = np.unique(np.linspace(0, len(texts) - 1, min(SAMPLES_READ, len(texts))).astype(int))
    values = [str(texts[int(number)]).strip() for number in numbers]
    spaced, length = float(np.mean([" " in value for value in values])), float(np.median([*map(len, values)]))
    kind, other = (TEXT, STRING) if spaced >= SPACED and length >= LENGTH else (STRING, TEXT)
    why = (
        f"The samples count as {kind}s: {100 * spaced:.0f} % of them have a space, and their median length is "
        f'{length:.0f} characters. If they are {other}s, pass `custom_data={{"kind": "{other}"}}`.'
    )
    return kind, why


@functools.cache
def _lists() -> Mapping[str, Any]:
    text = resources.files("modgap.ranking").joinpath("known_sources.toml").read_text("utf-8")
    return tomllib.loads(text)
