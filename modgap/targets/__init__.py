"""Target data: a manifest and a reader give samples, labels, splits and groups."""

from modgap.targets.custom import CustomData
from modgap.targets.manifest import Manifest, load_manifest
from modgap.targets.named_manifests import manifest_names, manifest_origin, named_manifest
from modgap.targets.samples import SPLITS, Samples, Table
from modgap.targets.target import Target, TargetRequest, open_target

__all__ = [
    "SPLITS",
    "CustomData",
    "Manifest",
    "Samples",
    "Table",
    "Target",
    "TargetRequest",
    "load_manifest",
    "manifest_names",
    "manifest_origin",
    "named_manifest",
    "open_target",
]
