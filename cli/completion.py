"""Names that the shell completes. They are read without importing torch, so that the shell answers at once."""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

__all__ = [
    "complete_embedders",
    "complete_files",
    "complete_folders",
    "complete_methods",
    "complete_scores",
    "complete_source_list",
    "complete_sources",
    "complete_targets",
    "heads_completer",
    "names_completer",
]

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
"""A function that returns the values of an option or argument that start with an incomplete word."""

CONTROL_PREFIX = "random:"
PROBE_PREFIX = "probe:"


def source_names() -> list[str]:
    """Return the short names of the sources, with those of plug-ins last."""
    from modgap.sources.aliases import ALIASES
    from modgap.sources.source import plugin_names

    return [*ALIASES, *plugin_names(frozenset(ALIASES))]


def target_names() -> list[str]:
    """Return the names of the targets, sorted: those of the manifest files, none of which is read."""
    from importlib import resources

    names = (entry.name for entry in resources.files("modgap.data_manifests").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def complete_sources(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the short name of a source, with or without `random:`, or else a path."""
    return _matching(_source_forms(incomplete), incomplete) or _paths("file", incomplete)


def complete_source_list(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last of several sources that are separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    return _matching((f"{before}{comma}{name}" for name in _source_forms(last)), incomplete)


def complete_targets(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a target, or else a path."""
    return _matching(target_names(), incomplete) or _paths("file", incomplete)


def complete_methods(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a transfer method."""
    from modgap.transfer.methods import METHOD_ORDER

    return _matching(METHOD_ORDER, incomplete)


def complete_scores(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a transferability score."""
    from modgap.ranking.score_order import SCORE_ORDER

    return _matching(SCORE_ORDER, incomplete)


def heads_completer(*names: str) -> Completer:
    """Return a completer of classification heads: these names, and `probe:` with a target."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith(PROBE_PREFIX):
            return _matching((f"{PROBE_PREFIX}{name}" for name in target_names()), incomplete)
        return _matching([*names, PROBE_PREFIX], incomplete)

    return complete


def complete_embedders(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete `native`, or else the folder of a run."""
    return _matching(["native"], incomplete) or _paths("dir", incomplete)


def complete_folders(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a folder."""
    return _paths("dir", incomplete)


def complete_files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a file or folder."""
    return _paths("file", incomplete)


def names_completer(*names: str) -> Completer:
    """Return a completer of these names, for options that are not restricted to a fixed choice."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _matching(names, incomplete)

    return complete


def _source_forms(incomplete: str) -> list[str]:
    """Return the names of the sources, as random-weights controls if the word begins like one."""
    prefix = CONTROL_PREFIX if incomplete.startswith(CONTROL_PREFIX) else ""
    return [f"{prefix}{name}" for name in source_names()]


def _matching(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _paths(kind: str, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete a path; `kind` is "file" (files and folders) or "dir"."""
    return [CompletionItem(incomplete, type=kind)]
