"""Open a target by name, manifest, folder or data file, without reading its samples yet."""

import functools
import inspect
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import CUSTOM_DATA_FORMATS, InputError, Progress, UsageError, count
from modgap.labels.label_space import pseudo_classes
from modgap.labels.user_arrays import number_groups, number_labels
from modgap.labels.written_names import written_values
from modgap.process.installed_packages import installed_library_version
from modgap.storage.digests import file_digest, folder_digest
from modgap.storage.paths import expand_user, has_suffix
from modgap.targets.custom import CustomData, custom_data_manifest, is_custom_data
from modgap.targets.download.converted_copy import read_converted_copy, write_converted_copy
from modgap.targets.download.data_directory import (
    ExpectedFile,
    expected_files,
    files_below,
    files_without_links,
    find_mismatch,
    find_target_files,
)
from modgap.targets.file_layout import SPLIT_LIST, listed_splits, single_file
from modgap.targets.manifest import Manifest, load_manifest
from modgap.targets.named_manifests import manifest_names, named_manifest
from modgap.targets.readers import get_converter, get_reader, get_reader_versions
from modgap.targets.samples import SPLITS, ArraySamples, Table, pool_targets
from modgap.targets.selection import select_samples
from modgap.targets.splits import complete_splits, stratification_labels
from modgap.targets.steps import get_step

log = logging.getLogger("modgap")

TABLE_READERS = ("csv", "listed_files")
"""Readers of labels in tables, whose numbers can be classes or values."""
SEQUENCES = (".fa", ".fasta", ".fna", ".faa", ".fastq", ".fq")
"""Suffixes of files of sequences without labels."""
WITHOUT_EFFECT = {"artifact", "near_copies"}
"""Fields of a manifest that do not determine the samples, so that fingerprints leave them out."""
LIBRARIES = ("aeon", "av", "h5py", "numpy", "pandas", "pillow", "pyarrow", "scikit-learn", "scipy", "soundfile", "soxr")
"""Libraries whose versions are part of a fingerprint, because readers use them."""


@dataclass(frozen=True)
class Target:
    """Target data whose files exist.

    Attributes:
        manifest: Description of the target.
        files: Paths by role.
        data_dir: Folder that the manifest's paths are relative to. None for custom data, whose manifest names no files.
        cli_arguments: Name and options that select this target on the command line. None if the name suffices.
    """

    manifest: Manifest
    files: dict[str, list[Path]]
    data_dir: Path | None = None
    cli_arguments: str | None = None

    @property
    def name(self) -> str:
        """Name of the target in results."""
        return self.manifest.name

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the samples: manifest, digests of the files, and versions of the libraries.

        Computing it needs none of the libraries that readers use, except those that a reader renders samples with.

        Raises:
            InputError: When a file does not have the size or checksum of the manifest.
        """
        expected = expected_files(self.manifest, self.data_dir)
        data_dir = self.data_dir or Path()
        archives = {data_dir / download.path for download in self.manifest.downloads if download.unpack}
        digests: dict[str, str] = {}
        for role, paths in self.files.items():
            manifest_paths = [file.path for file in self.manifest.files if file.role == role]
            for number, path in enumerate(paths):
                expected_file = expected[manifest_paths[number]] if manifest_paths else ExpectedFile()
                if path.is_file() or expected_file.checksums:
                    digest = _verified_digest(path, expected_file)
                else:
                    digest = folder_digest(path, files_below(path, archives))
                digests[f"{role}/{number}/{path.name}"] = digest
        manifest = self.manifest.model_dump(mode="json", by_alias=True, exclude=WITHOUT_EFFECT)
        if self.manifest.selection is None:
            # Fingerprints from before manifests had this field stay valid, and with them the results in the cache.
            del manifest["selection"]
        libraries = _library_versions() | get_reader_versions(self.manifest.reader.name)
        return {"manifest": manifest, "files": digests, "libraries": libraries}

    def read(self, *, classes: bool = True) -> Table:
        """Read samples, labels, class names, complete splits and the manifest's groups.

        A converted copy is read instead of the originals if it was made from them.

        Args:
            classes: True to cluster real-valued targets into pseudo-classes; False to leave their table without labels.

        Raises:
            InputError: When the data is empty, broken, or does not agree with the manifest.
        """
        copy = read_converted_copy(self.manifest, self.files, lambda: self.fingerprint, self.cli_arguments or self.name)
        table = self.read_originals() if copy is None else copy
        return self._with_labels(table) if classes or table.targets is None else table

    def read_originals(self) -> Table:
        """Read the original files, never a converted copy, and apply the steps, without adding pseudo-classes.

        Raises:
            InputError: When the data is empty, broken, or does not agree with the manifest.
        """
        manifest = self.manifest
        table = self._call_reader()
        if len(table) == 0:
            raise InputError(f"expected at least one sample in target {self.name}, got none")
        table = _with_task(table, manifest)
        if manifest.selection is not None:
            table = select_samples(table, manifest.selection)
        if SPLIT_LIST in self.files:
            listed = listed_splits(single_file(self.files, SPLIT_LIST), table.names, len(table))
            table = replace(table, splits=listed)
        groups = _manifest_groups(table, manifest)
        _warn_about_divided_groups(table.splits, groups, manifest)
        labels = np.zeros(len(table), np.int64) if table.labels is None else stratification_labels(table.labels)
        splits = complete_splits(table.splits, labels, groups, **manifest.splits.model_dump())
        table = replace(table, splits=splits, groups=None if groups is None else {"groups": groups}, names=None)
        for step in manifest.steps:
            table = _call_with_options(get_step(step.name), f"step {step.name}", manifest, step.options, table)
        _check_shape(table, manifest)
        return table

    def convert(self, progress: Progress | None = None) -> list[Path]:
        """Read the original files once, and write them as arrays that can be memory-mapped.

        A reader with its own conversion uses that instead.

        Args:
            progress: Called with the name of a stage and the fraction of it done since the last call.

        Returns:
            The paths of the files that were written.

        Raises:
            InputError: When the originals cannot be read, are not arrays of one type, or the disk is too small.
        """
        convert = get_converter(self.manifest.reader.name)
        if convert is not None:
            return convert(self._reader_files)
        fingerprint = self.fingerprint
        return [write_converted_copy(self.manifest, self.files, fingerprint, self.read_originals(), progress)]

    def _with_labels(self, table: Table) -> Table:
        """Add pseudo-classes for real-valued targets, and names of the classes."""
        manifest = self.manifest
        labels = table.labels
        if labels is None:
            if table.targets is None:
                raise InputError(f"expected labels or real-valued targets in target {self.name}, got neither")
            if manifest.pseudo_classes is None:
                _raise_if_missing(table)
                raise InputError(self._real_values_message())
            train = np.asarray(table.splits) == SPLITS.index("train")
            labels = pseudo_classes(
                pool_targets(table.targets, table.masks), train=train, n_classes=manifest.pseudo_classes
            )
        classes = _class_names(table.classes or (), manifest)
        _warn_about_absent_classes(labels, classes, manifest)
        _warn_about_similar_names(classes, manifest)
        if classes:
            return replace(table, labels=labels, classes=classes)
        # Labels without names are numbered from 0, and named by what they are.
        n_classes = labels.shape[1] if labels.ndim == 2 else 0
        if labels.ndim == 1:
            try:
                numbered = number_labels(labels)
            except InputError as error:
                raise InputError(f"target {self.name}: {error}") from error
            labels, classes = numbered.numbers, list(numbered.names)
            n_classes = int(labels.max()) + 1
        return replace(table, labels=labels, classes=classes or [str(number) for number in range(n_classes)])

    def _real_values_message(self) -> str:
        """Return the message for labels that are real values where classes are needed."""
        if self.manifest.task != "regression":
            return (
                f"The task of target {self.name} is {self.manifest.task}, but its labels are real values. "
                f"{self._task_setting('regression')}. If the labels are classes, store them as integers or text."
            )
        return (
            f"target {self.name} has real values as labels. Pass `pseudo_classes=10`, or set pseudo_classes in the "
            "manifest, to cluster them into classes. If the labels are classes, "
            f"{self._task_setting('classification').lower()}."
        )

    def _task_setting(self, task: str) -> str:
        """Return the beginning of a sentence that tells the user how to set the task."""
        if self.data_dir is None:
            return f'Pass `custom_data={{"task": "{task}"}}`'
        return f'Set task = "{task}" in the manifest'

    @property
    def _reader_files(self) -> dict[str, list[Path]]:
        return {role: paths for role, paths in self.files.items() if role != SPLIT_LIST}

    def _call_reader(self) -> Table:
        name = self.manifest.reader.name
        options = self.manifest.reader.options
        try:
            return _call_with_options(get_reader(name), f"reader {name}", self.manifest, options, self._reader_files)
        except (OSError, InputError) as error:
            # A reader may have raised an InputError from the original error.
            causes = [one for one in (error, error.__cause__) if isinstance(one, IsADirectoryError) and one.filename]
            opened = {Path(cause.filename) for cause in causes}
            folder = next((path for paths in self.files.values() for path in paths if path in opened), None)
            if folder is None:
                raise
            raise InputError(
                f"expected files for reader {name}, got the folder {folder}. "
                "List each file in a [[files]] block of the manifest, with its role and path."
            ) from error
        except KeyError as error:
            roles = ", ".join(self.files) or "none"
            raise InputError(
                f"manifest {self.name}: reader {name} needs a file of role {error}, got: {roles}"
            ) from error


def open_target(
    name: str, *, custom_data: CustomData | None = None, data_dir: Path | None = None, pseudo_classes: int | None = None
) -> Target:
    """Return a target whose files have been located.

    Args:
        name: Name of a manifest, path of a `.toml` manifest, or path of custom data: a folder of class sub-folders of
            images or sounds, an array file (or a folder of `.npy` files) with x and y, or a `.csv`, `.tsv` or
            `.parquet` file with a label column.
        custom_data: Description of custom data: kind, label column, groups and so on. None if there is nothing to
            describe.
        data_dir: Folder that holds the files that the manifest names. None searches the usual locations, such as the
            folder that `modgap data fetch` writes to.
        pseudo_classes: Number of clusters of a regression target's values. None takes the manifest's number.

    Raises:
        UsageError: When there is no such target, or an argument is missing or does not apply.
        InputError: When a file is missing. The message has the command that fetches it.
    """
    target = _locate(name, custom_data or CustomData(), data_dir)
    if pseudo_classes is None:
        return target
    # The numbers in a table of custom data are classes or values. `pseudo_classes` says values, unless a task is given.
    task = custom_data.task if custom_data else None
    is_table = target.data_dir is None and target.manifest.reader.name in TABLE_READERS
    if target.manifest.task != "regression" and (task or not is_table):
        raise UsageError(f"`pseudo_classes` applies to real-valued targets, but {name} has classes")
    changes = {"task": "regression", "pseudo_classes": pseudo_classes}
    return replace(target, manifest=target.manifest.model_copy(update=changes))


@dataclass(frozen=True)
class TargetRequest:
    """A target as a user names it: what `open_target` takes, for jobs that open it on other machines.

    Attributes:
        name: Name of a manifest, or path of a manifest or of custom data.
        custom_data: Description of custom data. None if there is nothing to describe.
        data_dir: Folder that holds the files that the manifest names. None for the usual locations.
        pseudo_classes: Number of clusters of a regression target's values. None for the manifest's number.
    """

    name: str
    custom_data: CustomData | None = None
    data_dir: Path | None = None
    pseudo_classes: int | None = None

    def open(self) -> Target:
        """Open the target; raises as `open_target`."""
        return open_target(**vars(self))

    def absolute(self) -> "TargetRequest":
        """Return the request with absolute paths in place of relative ones, for other working directories."""
        path = expand_user(self.name)
        is_path = path.exists() and self.name not in manifest_names()
        return replace(
            self,
            name=str(path.resolve()) if is_path else self.name,
            custom_data=self.custom_data and self.custom_data.absolute(),
            data_dir=self.data_dir and self.data_dir.resolve(),
        )


def _locate(name: str, custom_data: CustomData, data_dir: Path | None) -> Target:
    """Return the target of a name or path; the arguments are those of `open_target`."""
    path = expand_user(name)
    # The name of a manifest means the manifest, even if a folder has that name (./NAME means the folder).
    if is_custom_data(path) and name not in manifest_names():
        if data_dir is not None:
            raise UsageError(f"`data_dir` applies to manifests, not to target {name}, which is a path itself")
        manifest, files = custom_data_manifest(path, custom_data)
        return Target(manifest, files, cli_arguments=_join_arguments(name, custom_data.options()))
    is_file = path.suffix == ".toml"
    if not is_file and (path.suffix or "/" in name):
        problem = f"modgap cannot read the format of {name}" if path.is_file() else f"no target at {name}"
        hint = " Write sequences into a table with the columns text and label." if has_suffix(path, SEQUENCES) else ""
        raise UsageError(f"{problem}. Expected the name of a manifest, {CUSTOM_DATA_FORMATS}.{hint}")
    if fields := custom_data.fields():
        raise UsageError(f'`custom_data["{next(iter(fields))}"]` applies to custom data, not to target {name}')
    manifest = load_manifest(path) if is_file else named_manifest(name)
    folder, files = find_target_files(manifest, name, data_dir, path.parent if is_file else None)
    options = {} if data_dir is None else {"data-dir": str(data_dir)}
    return Target(manifest, files, folder, _join_arguments(name, options))


def _join_arguments(name: str, options: Mapping[str, str]) -> str:
    """Return a name and options as they are written on a command line."""
    return shlex.join([name, *(text for option, value in options.items() for text in (f"--{option}", value))])


# Helpers of Target.fingerprint


def _library_versions() -> dict[str, str]:
    """Return the versions of the installed libraries that readers use, without importing them."""
    return {name: version for name in LIBRARIES if (version := installed_library_version(name))}


def _verified_digest(path: Path, expected: ExpectedFile) -> str:
    """Return the SHA-256 of a file or folder, or raise an InputError if it differs from the expected one.

    The size is compared first, because a checksum takes long for a large file.
    """
    remedy = "Install its package or fetch it again, or use a manifest file without the checksum."
    if mismatch := find_mismatch(path, expected):
        raise InputError(f"{mismatch}. It is truncated or another version. {remedy}")
    digest = file_digest(path) if path.is_file() else folder_digest(path, files_without_links(path))
    if mismatch := find_mismatch(path, expected, {"sha256": digest}):
        raise InputError(f"{mismatch}. It is damaged or another version. {remedy}")
    return digest


# Helpers of Target.read


def _raise_if_missing(table: Table) -> None:
    """Raise if some real values in memory are NaN, where no mask says that they do not count."""
    values = table.targets.array if isinstance(table.targets, ArraySamples) else None
    if not isinstance(values, np.ndarray) or table.masks is not None:
        return
    missing: np.ndarray = np.isnan(values).reshape(len(table), -1).any(axis=1)
    if missing.any():
        raise InputError(
            f"{int(missing.sum())} of {len(missing)} labels are missing (first in row {int(missing.argmax())}). "
            "Drop these samples."
        )


def _call_with_options(
    function: Callable[..., Table], label: str, manifest: Manifest, options: Mapping[str, object], argument: object
) -> Table:
    """Call a reader or step; raise an InputError if it does not take the manifest's options."""
    try:
        inspect.signature(function).bind(argument, **options)
    except TypeError as error:
        raise InputError(f"manifest {manifest.name}: the options of {label} do not fit: {error}") from error
    return function(argument, **options)


def _with_task(table: Table, manifest: Manifest) -> Table:
    """Return the table with the kind of labels that the manifest's task has, where the reader could not know it.

    Raises:
        InputError: When the labels are of another kind.
    """
    labels = table.labels
    if manifest.task == "regression" and table.targets is None and labels is not None:
        return replace(table, labels=None, classes=None, targets=ArraySamples(_label_values(table, manifest)))
    if manifest.task == "classification" and labels is not None and labels.ndim == 2:
        if not (labels.sum(axis=1) == 1).all():
            raise InputError(
                f"The task of target {manifest.name} is classification, but a sample has several labels or none. Such "
                "labels are multi-label."
            )
        return replace(table, labels=labels.argmax(axis=1))
    if manifest.task == "multi-label" and labels is not None and labels.ndim == 1:
        raise InputError(
            f"The task of target {manifest.name} is multi-label, but each sample has one label. Expected 0/1 labels of "
            "shape (N, K). For one class a sample, the task is classification."
        )
    return table


def _label_values(table: Table, manifest: Manifest) -> np.ndarray:
    """Return labels that a reader took for classes as real values: the numbers that they are, or that names spell."""
    labels = np.asarray(table.labels)
    if not table.classes or labels.ndim == 2:
        return labels.astype(np.float64)
    try:
        values: np.ndarray = written_values([str(name) for name in table.classes])[labels]
    except InputError as error:
        way_out = " Remove `pseudo_classes`." if manifest.pseudo_classes else ""
        raise InputError(f"target {manifest.name}: {error}{way_out}") from error
    return values


def _check_shape(table: Table, manifest: Manifest) -> None:
    expected = manifest.input.shape
    if expected is None or manifest.input.kind == "text":
        return
    shape = table.samples[0].shape
    if len(shape) != len(expected) or any(
        size not in (-1, actual) for actual, size in zip(shape, expected, strict=True)
    ):
        raise InputError(
            f"The manifest {manifest.name} describes samples of shape {expected}, but its files have {shape}. Correct "
            "input.shape in the manifest (-1 stands for any size), or remove it."
        )


def _class_names(names: Sequence[str], manifest: Manifest) -> list[str]:
    """Return the names of the classes in the order of their numbers.

    If the manifest has no names, or all names in the data are among its names, the data decides which number has which
    name. Otherwise the first name of the manifest is that of number 0, and so on, whatever the data calls them.

    Args:
        names: Names in the data, in the order of the numbers; empty if the data has only numbers.
        manifest: The manifest.

    Raises:
        InputError: If a name in the data is not in the manifest, and the two have different numbers of names.
    """
    if not manifest.classes or set(names) <= set(manifest.classes):
        return list(names) or list(manifest.classes or ())
    if len(names) != len(manifest.classes):
        raise InputError(
            f"The manifest {manifest.name} names {count(len(manifest.classes), 'class', 'classes')}, but its data has "
            f"{count(len(names), 'class', 'classes')} of other names (first: {names[0]!r}), so it is not known which "
            'name is whose. List the names of the data in "classes", or remove it from the manifest.'
        )
    return list(manifest.classes)


def _warn_about_absent_classes(labels: np.ndarray, classes: Sequence[str], manifest: Manifest) -> None:
    """Warn if the manifest names a class without samples, because the number of classes is that of the labels."""
    names = manifest.classes or ()
    if labels.ndim != 1 or not names:
        return
    present = {classes[k] for k in np.unique(labels) if 0 <= k < len(classes)}
    if absent := [name for name in names if name not in present]:
        text = "manifest %s names %d classes, but its samples have %d. No sample has the class %s."
        log.warning(text, manifest.name, len(names), len(present), ", ".join(map(repr, absent)))


def _warn_about_similar_names(classes: Sequence[str], manifest: Manifest) -> None:
    """Warn of classes whose names differ in upper case or spaces only, unless the manifest lists both of them."""
    spellings: dict[str, list[str]] = {}
    for name in dict.fromkeys(classes):
        # Single letters may be classes of handwriting, where upper case is another sign.
        if len(key := " ".join(name.casefold().split())) > 1 and name not in (manifest.classes or ()):
            spellings.setdefault(key, []).append(name)
    if similar := next((names for names in spellings.values() if len(names) > 1), None):
        text = "The classes %s of %s differ in upper case or spaces only. If they are one class, spell them alike."
        log.warning(text, " and ".join(map(repr, similar)), manifest.name)


def _manifest_groups(table: Table, manifest: Manifest) -> np.ndarray | None:
    """Return the group number of each sample, shape (N,), in the grouping that the manifest names; None without one."""
    if manifest.group is None:
        return None
    groups_by_name = table.groups or {}
    if manifest.group not in groups_by_name:
        available = ", ".join(groups_by_name) or "none"
        raise InputError(f"{manifest.name} has no groups named {manifest.group!r}. Its groups are: {available}.")
    try:
        return number_groups(groups_by_name[manifest.group], len(table))
    except InputError as error:
        raise InputError(f"target {manifest.name}: {error}") from error


def _warn_about_divided_groups(splits: np.ndarray | None, groups: np.ndarray | None, manifest: Manifest) -> None:
    """Warn if the splits of the data divide a group, because its test samples are then not new to a trained model."""
    if splits is None or groups is None:
        return
    pairs = np.unique(np.stack([groups, splits]), axis=1)
    numbers, n_splits = np.unique(pairs[0], return_counts=True)
    if (n_splits > 1).any():
        text = (
            "%d of %s of %s have samples in several splits. The error of test samples is then too low for new groups. "
            "Keep each group in one split, or remove the splits, which are then drawn by group."
        )
        log.warning(text, int((n_splits > 1).sum()), count(len(numbers), "group"), manifest.name)
