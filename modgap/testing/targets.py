"""Checks of readers, manifests and clients: shapes, labels, determinism, and refusals."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.storage.digests import file_digest
from modgap.storage.paths import parse_relative_path
from modgap.targets import SPLITS, Table, named_manifest, open_target
from modgap.targets.download.clients import Client, PackagedFile, get_client
from modgap.targets.download.extraction import extract
from modgap.targets.manifest import DataFile
from modgap.targets.readers import get_reader

__all__ = ["check_client", "check_manifest", "check_reader"]

MOST_SAMPLES = 50
"""Largest number of samples that are read."""


def check_reader(name: str, files: Mapping[str, Sequence[Path]], **options: Any) -> None:
    """Check a reader on files.

    It returns a table with a label or a target for each sample, in the range that modgap expects; it reads the same
    twice; and a missing file is an `InputError`.

    Args:
        name: Name of the reader.
        files: Paths by role.
        options: Options of the reader.

    Raises:
        AssertionError: If the reader breaks one of these rules.
    """
    read = get_reader(name)
    table, again = (read(files, **options) for _ in range(2))
    assert isinstance(table, Table), f"The reader {name} returned a {type(table).__name__}. Expected a Table."
    _check_table(name, table)
    for index in range(min(len(table), MOST_SAMPLES)):
        same = np.array_equal(np.asarray(table.samples[index]), np.asarray(again.samples[index]))
        assert same, f"The reader {name} reads another sample {index} the second time."
    if table.labels is not None and again.labels is not None:
        assert np.array_equal(table.labels, again.labels), f"The reader {name} reads other labels the second time."
    if files:
        _check_missing_files(name, files, options)


def _check_missing_files(name: str, files: Mapping[str, Sequence[Path]], options: Mapping[str, Any]) -> None:
    absent = {role: [path.with_name(f"{path.name}.absent") for path in paths] for role, paths in files.items()}
    try:
        table = get_reader(name)(absent, **options)
        _ = table.samples[0]
    except InputError:
        return
    except Exception as error:
        raise AssertionError(
            f"The reader {name} raised a {type(error).__name__} for files that do not exist. Expected an InputError."
        ) from error
    raise AssertionError(f"The reader {name} raised no error for files that do not exist.")


def check_client(
    name: str, artifact: Mapping[str, Any], files: Sequence[DataFile], archive: Path | None = None
) -> None:
    """Check a client of `modgap data fetch` on the table `[artifact]` of a manifest, without running it.

    It describes the file of the package twice in the same way, with one member for each file, in a folder below the
    data directory; and it refuses a table without fields, or with an unknown one, by a `ValueError`.

    Args:
        name: Name of the client.
        artifact: The table, with the client under `client`.
        files: Files of the manifest.
        archive: The file of the package, which is then verified and unpacked; None if it is not here.

    Raises:
        AssertionError: If the client breaks one of these rules.
        InputError: If no plug-in brings the client, or the archive cannot be unpacked.
    """
    client = get_client(name)
    packaged, again = (client.describe(artifact, files) for _ in range(2))
    assert isinstance(packaged, PackagedFile), f"The client {name} describes a {type(packaged).__name__}."
    assert packaged == again, f"The client {name} describes another file the second time."
    assert packaged.client == name, f"The client {name} describes a file of {packaged.client}."
    assert len(packaged.members) == len(files), (
        f"The client {name} has {len(packaged.members)} members for {len(files)} files."
    )
    assert packaged.command, f"The client {name} has no command."
    folder = parse_relative_path(packaged.folder)
    assert folder.parts, f"The client {name} has no folder for {packaged.file}."
    for refused in ({"client": name}, {**artifact, "no-such-field": 1}):
        _check_refused_artifact(client, refused, files)
    if archive is not None:
        assert archive.stat().st_size == packaged.size, f"{archive} does not have the size in the table."
        assert file_digest(archive) == packaged.sha256, f"{archive} does not have the checksum in the table."
        with tempfile.TemporaryDirectory() as unpacked:
            for _ in extract(archive, Path(unpacked), members=packaged.members, entries=client.entries):
                pass


def _check_refused_artifact(client: Client, artifact: Mapping[str, Any], files: Sequence[DataFile]) -> None:
    try:
        client.describe(artifact, files)
    except ValueError:
        return
    raise AssertionError(f"The client {client.name} raised no ValueError for the fields {', '.join(artifact)}.")


def check_manifest(name: str) -> None:
    """Check a manifest by its name, and the data that it describes, which has to be installed.

    It says the license and the citation, or that they are unknown, and how the data is installed; the data is what it
    describes: samples of its shape, as many classes as it names, and splits of all samples.

    Args:
        name: Name of the target.

    Raises:
        AssertionError: If the manifest breaks one of these rules.
        InputError: If the data is missing, or is not what the manifest describes.
    """
    manifest = named_manifest(name)
    assert manifest.name == name, f"The manifest of {name} is named {manifest.name}. Expected the name of its file."
    for field in ("license", "citation"):
        stated = getattr(manifest, field) or field in manifest.unknown
        assert stated, f"The manifest of {name} has no {field}. State it, or the reason under [unknown]."
    if manifest.files:
        has_way = manifest.install or manifest.downloads or manifest.artifact
        assert has_way, f"The manifest of {name} does not say how its data is installed."
    table = open_target(name).read()
    _check_table(name, table)
    if manifest.classes is not None:
        n_classes = len(table.classes or ())
        assert n_classes == len(manifest.classes), f"{name} has {n_classes} classes, but its manifest names others."
    assert table.splits is not None, f"{name} has no splits."
    assert len(table.splits) == len(table), f"{name} has splits for {len(table.splits)} of {len(table)} samples."


def _check_table(name: str, table: Table) -> None:
    n_samples = len(table)
    assert n_samples > 0, f"{name} has no samples."
    assert table.labels is not None or table.targets is not None, f"{name} has neither labels nor targets."
    for index in range(min(n_samples, MOST_SAMPLES)):
        _check_sample(name, index, table.samples[index])
    if table.labels is not None:
        _check_labels(name, table)
    if table.targets is not None:
        assert len(table.targets) == n_samples, f"{name} has {len(table.targets)} targets for {n_samples} samples."
    if table.splits is not None:
        inside = np.isin(table.splits, range(len(SPLITS))).all()
        assert inside, f"{name} has splits that are not 0 (train), 1 (val) or 2 (test)."
    for group, numbers in (table.groups or {}).items():
        assert len(numbers) == n_samples, (
            f"{name} has {len(numbers)} values of the group {group} for {n_samples} samples."
        )


def _check_sample(name: str, index: int, sample: Any) -> None:
    if isinstance(sample, str):
        return
    array = np.asarray(sample)
    assert array.ndim in (2, 3, 4), f"Sample {index} of {name} has the shape {array.shape}. Expected 2 to 4 axes."
    assert array.dtype.kind in "fiub", f"Sample {index} of {name} has the type {array.dtype}. Expected numbers."
    assert np.isfinite(array).all(), f"Sample {index} of {name} has NaN or infinite values."


def _check_labels(name: str, table: Table) -> None:
    labels = np.asarray(table.labels)
    assert len(labels) == len(table), f"{name} has {len(labels)} labels for {len(table)} samples."
    assert labels.dtype.kind in "iu", f"The labels of {name} have the type {labels.dtype}. Expected integers."
    if labels.ndim == 2:
        assert np.isin(labels, (0, 1)).all(), f"The multi-label labels of {name} are not all 0 or 1."
        n_classes = labels.shape[1]
    else:
        n_classes = int(labels.max()) + 1
        present = np.array_equal(np.unique(labels), np.arange(n_classes))
        assert present, f"The labels of {name} are not the numbers from 0 to {n_classes - 1}, each at least once."
    if table.classes is not None:
        n_names = len(table.classes)
        assert n_names >= n_classes, f"{name} has {n_names} class names for {n_classes} classes."
