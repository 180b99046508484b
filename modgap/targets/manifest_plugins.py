"""Manifests of other packages: folders of `.toml` files, which entry points of the group `modgap.manifests` name.

The value of an entry point is the package that holds the files, such as `brainpkg.manifests`. It is never imported,
because a manifest is data.
"""

import functools
import logging
import sys
from collections.abc import Collection
from pathlib import Path

from modgap.installed_packages import entry_points, find_package_folder
from modgap.plugins import describe_origin

__all__ = ["GROUP", "plugin_manifests"]

GROUP = "modgap.manifests"

log = logging.getLogger("modgap")


def plugin_manifests(reserved: Collection[str]) -> dict[str, tuple[Path, str]]:
    """Return the file of each manifest that other packages bring, and the package with its version, by name.

    Args:
        reserved: Names of modgap's own manifests, which others cannot take.
    """
    return _plugin_manifests(frozenset(reserved), tuple(sys.path))


@functools.cache
def _plugin_manifests(reserved: frozenset[str], _search_path: tuple[str, ...]) -> dict[str, tuple[Path, str]]:
    manifests: dict[str, tuple[Path, str]] = {}
    for entry in sorted(entry_points(GROUP), key=lambda entry: (entry.name, entry.value)):
        top, *inner = entry.module.split(".")
        package = find_package_folder(top)
        folder = package.joinpath(*inner) if package else None
        if folder is None or not folder.is_dir():
            log.warning("The manifests of %s are skipped: there is no folder %s.", describe_origin(entry), entry.value)
            continue
        for path in sorted(folder.glob("*.toml")):
            name = path.stem
            if name in reserved or name in manifests:
                owner = "modgap" if name in reserved else manifests[name][1]
                log.warning("Manifest %s is skipped: %s has a target with this name.", path, owner)
            else:
                manifests[name] = (path, describe_origin(entry))
    return manifests
