"""Manifests by name: those that come with modgap, and those of plug-ins."""

import shlex
from importlib import resources
from pathlib import Path

from modgap.errors import CUSTOM_DATA_FORMATS, UsageError, unknown_name
from modgap.plugins import BUILT_IN
from modgap.targets.custom import is_custom_data
from modgap.targets.manifest import Manifest, load_manifest
from modgap.targets.manifest_plugins import plugin_manifests

__all__ = ["manifest_names", "manifest_origin", "named_manifest"]


def manifest_names() -> list[str]:
    """Return the names of all manifests, sorted: those that come with modgap, and those of plug-ins."""
    own_names = _own_names()
    return sorted([*own_names, *plugin_manifests(own_names)])


def manifest_origin(name: str) -> str:
    """Return the package that a named manifest comes from, with its version if it is not modgap."""
    return plugin_manifests(_own_names()).get(name, (None, BUILT_IN))[1]


def _own_names() -> list[str]:
    """Return the names of the manifests that come with modgap, sorted."""
    folder = resources.files("modgap.data_manifests")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def named_manifest(name: str) -> Manifest:
    """Return the manifest of this name that comes with modgap, or that a plug-in brings.

    Raises:
        UsageError: When there is none. The message has the nearest names, or says that the name is a path of data.
    """
    own_names = _own_names()
    if name not in own_names:
        plugin = plugin_manifests(own_names).get(name)
        if plugin is not None:
            return load_manifest(plugin[0])
        if is_custom_data(Path(name)):
            raise UsageError(
                f"{name} is data without a manifest. Expected the name of a target, or a .toml manifest. Commands that "
                f"measure take it as it is: modgap discrepancy --source vit-fashion --target {shlex.quote(name)}"
            )
        raise unknown_name("target", name, manifest_names(), f"(or give {CUSTOM_DATA_FORMATS})")
    return load_manifest(Path(str(resources.files("modgap.data_manifests") / f"{name}.toml")))
