"""Names that the shell completes. They are read without importing torch, so that the shell answers at once."""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from modgap.errors import CONTROL_PREFIX

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
"""A function that returns the values of an option or argument that start with an incomplete word."""

PROBE_PREFIX = "probe:"


def source_names() -> list[str]:
    """Return the short names of the sources, with those of plug-ins last."""
    from modgap.sources.aliases import ALIASES
    from modgap.sources.source import plugin_names

    return [*ALIASES, *plugin_names(frozenset(ALIASES))]


def target_names() -> list[str]:
    """Return the names of the targets, sorted: those of the manifest files, none of which is read."""
    from modgap.targets.named_manifests import manifest_names

    return manifest_names()


def completer(names: Callable[[str], Iterable[str]] = lambda _word: (), paths: str = "") -> Completer:
    """Return a completer of the names for a word that start with it, or else of paths.

    Args:
        names: Function that returns the names for an incomplete word.
        paths: `file` for files and folders or `dir` for folders, which the shell completes; empty for no paths.
    """

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        items = [CompletionItem(name) for name in names(incomplete) if name.startswith(incomplete)]
        return items or ([CompletionItem(incomplete, type=paths)] if paths else [])

    return complete


def names_completer(*names: str, paths: str = "") -> Completer:
    """Return a completer of these names, for options that are not restricted to a fixed choice, or else of paths."""
    return completer(lambda _word: names, paths)


def heads_completer(*names: str) -> Completer:
    """Return a completer of classification heads: these names, and `probe:` with a target."""

    def heads(word: str) -> Iterable[str]:
        if word.startswith(PROBE_PREFIX):
            return [f"{PROBE_PREFIX}{name}" for name in target_names()]
        return [*names, PROBE_PREFIX]

    return completer(heads)


def _source_forms(word: str) -> list[str]:
    """Return the names of the sources, as random-weights controls if the word begins like one."""
    prefix = CONTROL_PREFIX if word.startswith(CONTROL_PREFIX) else ""
    return [f"{prefix}{name}" for name in source_names()]


def _lists(names: Callable[[str], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return a function that completes the last of the names of a word, which commas separate."""

    def lists(word: str) -> list[str]:
        before, comma, last = word.rpartition(",")
        return [f"{before}{comma}{name}" for name in names(last)]

    return lists


def _baseline_names(_word: str) -> Iterable[str]:
    from modgap.baselines import BASELINE_ORDER

    return BASELINE_ORDER


def _method_names(_word: str) -> Iterable[str]:
    from modgap.training.methods import METHOD_ORDER

    return (*METHOD_ORDER, "linear-probe", "baseline", *(f"baseline:{name}" for name in _baseline_names("")))


def _score_names(_word: str) -> Iterable[str]:
    from modgap.ranking.score_order import SCORE_ORDER

    return SCORE_ORDER


complete_sources = completer(_source_forms, "file")
complete_source_list = completer(_lists(_source_forms))
complete_targets = completer(lambda _word: target_names(), "file")
complete_target_list = completer(_lists(lambda _word: ["@packaged", *target_names()]), "file")
complete_baselines = completer(_baseline_names)
complete_methods = completer(_method_names)
complete_scores = completer(_score_names)
complete_embedders = names_completer("native", paths="dir")
complete_folders = completer(paths="dir")
complete_files = completer(paths="file")
