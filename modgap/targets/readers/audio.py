"""A folder of class sub-folders of sound files, optionally below train, val and test."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from modgap.targets.file_layout import class_folder_labels, groups_of_files, list_files, names_below, single_file
from modgap.targets.samples import Table
from modgap.targets.sound import SUFFIXES, SoundFiles

__all__ = ["read"]


def read(files: Mapping[str, Sequence[Path]], *, rate: int, group_pattern: str | None = None) -> Table:
    """List the sound files. Each is decoded to (1, length) at `rate` when it is read.

    Args:
        files: One folder under the role `data`, and perhaps a table of groups under `group-list`.
        rate: Sampling rate in hertz. Files of another rate are resampled.
        group_pattern: Pattern of the path, or table, that gives the group of each sound; see
            `modgap.targets.file_layout.groups_of_paths`.
    """
    folder = single_file(files, "data")
    paths = list_files(folder, SUFFIXES)
    labels, classes, codes = class_folder_labels(folder, paths, "sound files")
    groups = groups_of_files(files, folder, paths, group_pattern)
    samples = SoundFiles(tuple((str(path),) for path in paths), rate)
    return Table(samples, labels, classes, codes, groups, names=names_below(folder, paths))
