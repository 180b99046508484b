"""Open a target by name, manifest, folder or array file, without reading its samples yet."""

import functools
import inspect
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata, resources
from pathlib import Path

import numpy as np

from modgap.errors import CUSTOM_DATA_FORMATS, InputError, UsageError, unknown_name
from modgap.label_space import pseudo_classes
from modgap.storage.digests import file_digest, folder_digest
from modgap.targets.custom import CustomData, custom_data_manifest, is_custom_data
from modgap.targets.download.checksums import Pin, fault, files_below, pins
from modgap.targets.download.converted_copy import converted
from modgap.targets.download.locations import located
from modgap.targets.manifest import Manifest, load_manifest
from modgap.targets.readers import get_reader
from modgap.targets.samples import SPLITS, Table, pool_targets
from modgap.targets.splits import complete_splits, stratification_labels
from modgap.targets.steps import get_step

__all__ = ["Target", "manifest_names", "named_manifest", "open_target"]

log = logging.getLogger("modgap")

ONE_BY_ONE = "list its files in the manifest one by one, each in a [[files]] block of its own with its role and path"
READ_BY = ("aeon", "av", "h5py", "numpy", "pandas", "pillow", "scikit-learn", "scipy", "soundfile", "soxr")


@dataclass(frozen=True)
class Target:
    """Target data that is known to be there.

    Attributes:
        manifest: What it is.
        files: Paths by role.
        data_dir: Folder that the manifest's paths are relative to; None where no manifest was written.
        asked: How the user calls it, with the options of own data; its name if None.
    """

    manifest: Manifest
    files: dict[str, list[Path]]
    data_dir: Path | None = None
    asked: str | None = None

    @property
    def name(self) -> str:
        """Its name in results."""
        return self.manifest.name

    @functools.cached_property
    def fingerprint(self) -> dict:
        """What decides the samples: manifest and content of the files. Needs no library of a reader.

        Raises:
            InputError: When a file's size or checksum is not the manifest's.
        """
        digests, known = {}, pins(self.manifest, self.data_dir)
        data_dir = self.data_dir or Path()
        archives = {data_dir / download.path for download in self.manifest.downloads if download.unpack}
        for role, paths in self.files.items():
            given = [file.path for file in self.manifest.files if file.role == role]
            for number, path in enumerate(paths):
                pin = known[given[number]] if given else Pin()
                digests[f"{role}/{number}/{path.name}"] = (
                    _checked_digest(path, pin) if path.is_file() else folder_digest(path, files_below(path, archives))
                )
        manifest = self.manifest.model_dump(mode="json", by_alias=True)
        return {"manifest": manifest, "files": digests, "libraries": _reading_libraries()}

    def read(self, *, classes: bool = True) -> Table:
        """Read samples, labels, class names, complete splits and the manifest's groups.

        A converted copy is read in place of the originals where it was made of them.

        Args:
            classes: Let clusters stand for values that are no classes; without, such a table has no labels.

        Raises:
            InputError: When the data is empty, broken, or not what the manifest says.
        """
        copy = converted(self.manifest, self.files, lambda: self.fingerprint, self.asked or self.name)
        table = self.read_originals() if copy is None else copy
        return self._with_labels(table) if classes or table.targets is None else table

    def read_originals(self) -> Table:
        """What the reader and the steps give, before values become pseudo-classes; no converted copy.

        Raises:
            InputError: When the data is empty, broken, or not what the manifest says.
        """
        manifest = self.manifest
        table = self._read_by_reader()
        if len(table) == 0:
            raise InputError(f"expected at least one sample in target {self.name}, got none")
        groups = _chosen_groups(table, manifest)
        named = np.zeros(len(table), np.int64) if table.labels is None else stratification_labels(table.labels)
        splits = complete_splits(table.splits, named, groups, **manifest.splits.model_dump())
        table = replace(table, splits=splits, groups=None if groups is None else {"groups": groups})
        for each in manifest.steps:
            table = _fitting(get_step(each.name), f"step {each.name}", manifest, each.options, table)
        _check_shape(table, manifest)
        return table

    def _with_labels(self, table: Table) -> Table:
        """Pseudo-classes for values, and names for the classes."""
        manifest, labels = self.manifest, table.labels
        if labels is None:
            if table.targets is None:
                raise InputError(f"expected labels or values to predict in target {self.name}, got neither")
            if manifest.pseudo_classes is None:
                raise InputError(
                    f"target {self.name} has real values for labels; say how many clusters of them stand for classes, "
                    "with --pseudo-classes 10 or pseudo_classes in the manifest, or store classes as integers"
                )
            train = np.asarray(table.splits) == SPLITS.index("train")
            labels = pseudo_classes(pool_targets(table.targets), train=train, n_classes=manifest.pseudo_classes)
        _warn_of_absent(labels, manifest)
        return replace(table, labels=labels, classes=manifest.classes or table.classes or _numbered(labels))

    def _read_by_reader(self) -> Table:
        name, options = self.manifest.reader.name, self.manifest.reader.options
        try:
            return _fitting(get_reader(name), f"reader {name}", self.manifest, options, self.files)
        except (OSError, InputError) as error:
            if folder := _folder_opened(error, self.files):
                raise InputError(f"expected files for reader {name}, got the folder {folder}; {ONE_BY_ONE}") from error
            raise
        except KeyError as error:
            roles = ", ".join(self.files) or "none"
            raise InputError(
                f"manifest {self.name}: reader {name} wants a file of role {error}, got: {roles}"
            ) from error


def _folder_opened(error: Exception, files: Mapping[str, Sequence[Path]]) -> Path | None:
    """The target's folder that was opened as a file, also where a reader has put that in its own words."""
    faults = [fault for fault in (error, error.__cause__) if isinstance(fault, IsADirectoryError) and fault.filename]
    opened = {Path(fault.filename) for fault in faults}
    return next((path for paths in files.values() for path in paths if path in opened), None)


def _fitting(function: Callable[..., Table], what: str, manifest: Manifest, options: dict, given) -> Table:
    """Call a reader or step, if its options fit."""
    try:
        inspect.signature(function).bind(given, **options)
    except TypeError as error:
        raise InputError(f"manifest {manifest.name}: the options of {what} do not fit: {error}") from error
    return function(given, **options)


def _check_shape(table: Table, manifest: Manifest) -> None:
    wanted = manifest.input.shape
    if wanted is None or manifest.input.kind == "text":
        return
    shape = table.samples[0].shape
    if len(shape) != len(wanted) or any(w not in (-1, s) for s, w in zip(shape, wanted, strict=True)):
        raise InputError(f"manifest {manifest.name} says samples of shape {wanted}, its files hold {shape}")


def _warn_of_absent(labels: np.ndarray, manifest: Manifest) -> None:
    """A class that the manifest names and no sample has would go unnoticed: K is that of the labels."""
    named, found = manifest.classes or (), np.unique(labels)
    absent = np.setdiff1d(np.arange(len(named)), found) if labels.ndim == 1 else ()
    if len(absent):
        names = ", ".join(repr(named[k]) for k in absent)
        text = "manifest %s names %d classes, its samples are of %d: there is none of %s"
        log.warning(text, manifest.name, len(named), len(found), names)


def _numbered(labels: np.ndarray) -> list[str]:
    size = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    return [str(label) for label in range(size)]


def _chosen_groups(table: Table, manifest: Manifest) -> np.ndarray | None:
    if manifest.group is None:
        return None
    named = table.groups or {}
    if manifest.group not in named:
        known = ", ".join(named) or "none"
        raise InputError(f"manifest {manifest.name} names the group {manifest.group!r}, its reader gives: {known}")
    groups = np.asarray(named[manifest.group])
    if groups.shape != (len(table),):
        raise InputError(f"expected groups of shape ({len(table)},) in {manifest.name}, got {groups.shape}")
    return np.unique(groups, return_inverse=True)[1]


def _reading_libraries() -> dict[str, str]:
    """Versions of what turns files into samples and labels, read without importing it."""
    return {name: version for name in READ_BY if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _checked_digest(path: Path, pin: Pin) -> str:
    way_out = "install its package, or fetch it, again, or use a manifest file of your own without the checksum"
    if wrong := fault(path, pin):
        raise InputError(f"{wrong}; it is truncated or another version: {way_out}")
    digest = file_digest(path)
    if wrong := fault(path, pin, {"sha256": digest}):
        raise InputError(f"{wrong}; it is damaged or another version: {way_out}")
    return digest


def manifest_names() -> list[str]:
    """Names of the manifests that come with modgap."""
    folder = resources.files("modgap.data_manifests")
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def named_manifest(name: str) -> Manifest:
    """The manifest of this name.

    Raises:
        UsageError: When there is none, with the nearest names.
    """
    if name not in manifest_names():
        raise unknown_name("target", name, manifest_names(), f"(or give {CUSTOM_DATA_FORMATS})")
    return load_manifest(Path(str(resources.files("modgap.data_manifests") / f"{name}.toml")))


def open_target(
    name: str, *, custom_data: CustomData | None = None, data_dir: Path | None = None, pseudo_classes: int | None = None
) -> Target:
    """Find a target's data.

    Args:
        name: A manifest's name, a `.toml` manifest, or data of one's own: a folder of class sub-folders of
            images or sounds, an array file (or a folder of `.npy`) with x and y, a `.csv` or `.tsv` with a label
            column.
        custom_data: Description of custom data: kind, label column, groups and so on.
        data_dir: Folder that holds the files that the manifest names; where they were fetched to if None.
        pseudo_classes: Clusters that stand for a regression target's values; its manifest's number if None.

    Raises:
        UsageError: When nothing has this name, or something is missing or does not apply.
        InputError: When a file is missing, with the command that brings it.
    """
    target = _opened(name, custom_data or CustomData(), data_dir)
    if pseudo_classes is None:
        return target
    if target.manifest.task != "regression":
        raise UsageError(f"--pseudo-classes applies to real-valued targets, {name} has classes")
    return replace(target, manifest=target.manifest.model_copy(update={"pseudo_classes": pseudo_classes}))


def _opened(name: str, custom_data: CustomData, data_dir: Path | None) -> Target:
    path = Path(name).expanduser()
    # A manifest's name means the manifest, also where a folder of that name lies here (./NAME means the folder).
    if is_custom_data(path) and name not in manifest_names():
        if data_dir is not None:
            raise UsageError(f"--data-dir applies to manifests, not to target {name}, which says itself where it lies")
        return Target(*custom_data_manifest(path, custom_data), asked=_as_asked(name, custom_data.given()))
    if custom_data.given():
        raise UsageError(f"--{next(iter(custom_data.given()))} applies to data of your own, not to target {name}")
    if path.suffix == ".toml":
        return _of_manifest(load_manifest(path), name, data_dir, path.parent)
    if path.suffix or "/" in name:
        raise UsageError(f"no target at {name}; expected a manifest's name, {CUSTOM_DATA_FORMATS}")
    return _of_manifest(named_manifest(name), name, data_dir, None)


def _of_manifest(manifest: Manifest, asked: str, data_dir: Path | None, beside: Path | None) -> Target:
    found = located(manifest, asked, data_dir, beside)
    return Target(
        manifest, found.files, found.data_dir, _as_asked(asked, {} if data_dir is None else {"data_dir": str(data_dir)})
    )


def _as_asked(name: str, options: Mapping[str, str]) -> str:
    """Name and options, to be pasted after a command."""
    return shlex.join([name, *(word for key, value in options.items() for word in (f"--{key}", value))])
