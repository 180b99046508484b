"""Manifests by name: those that come with modgap, and those of plug-ins.

Plug-ins have folders of `.toml` files, which entry points of the group `modgap.manifests` name. The value of an entry
point is the package that holds the files, such as `brainpkg.manifests`. It is never imported, because a manifest is
data.
"""

import functools
import logging
import shlex
import sys
from importlib import resources
from pathlib import Path

from modgap.errors import CUSTOM_DATA_FORMATS, UsageError, unknown_name
from modgap.process.installed_packages import BUILT_IN, describe_origin, entry_points, find_package_folder
from modgap.targets.custom import is_custom_data
from modgap.targets.manifest import Manifest, load_manifest
from modgap.zoo import zoo_hint

log = logging.getLogger("modgap")

GROUP = "modgap.manifests"


@functools.cache
def _plugin_manifests(_search_path: tuple[str, ...]) -> dict[str, tuple[Path, str]]:
    """Return the file of each manifest that other packages bring, and the package with its version, by name."""
    reserved = _own_names()
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


def manifest_names() -> list[str]:
    """Return the names of all manifests, sorted: those that come with modgap, and those of plug-ins."""
    return sorted([*_own_names(), *_plugin_manifests(tuple(sys.path))])


def manifest_origin(name: str) -> str:
    """Return the package that a named manifest comes from, with its version if it is not modgap."""
    return _plugin_manifests(tuple(sys.path)).get(name, (None, BUILT_IN))[1]


def _own_names() -> list[str]:
    """Return the names of the manifests that come with modgap, sorted."""
    folder = resources.files("modgap.data_manifests")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def named_manifest(name: str) -> Manifest:
    """Return the manifest of this name that comes with modgap, or that a plug-in brings.

    Raises:
        UsageError: When there is none. The message has the nearest names, or says that the name is a path of data.
    """
    if name not in _own_names():
        plugin = _plugin_manifests(tuple(sys.path)).get(name)
        if plugin is not None:
            return load_manifest(plugin[0])
        if is_custom_data(Path(name)):
            raise UsageError(
                f"{name} is data without a manifest. Expected the name of a target, or a .toml manifest. Commands that "
                f"measure take it as it is: modgap discrepancy --source vit-fashion --target {shlex.quote(name)}"
            )
        if hint := zoo_hint("target", name):
            raise UsageError(hint)
        error = unknown_name("target", name, manifest_names(), f"(or give {CUSTOM_DATA_FORMATS})")
        if "Did you mean" in str(error):
            raise error
        raise UsageError(
            f"There is no file or folder {name}, and no target of this name. Check the path, or list the targets with: "
            "modgap targets"
        )
    return load_manifest(Path(str(resources.files("modgap.data_manifests") / f"{name}.toml")))
