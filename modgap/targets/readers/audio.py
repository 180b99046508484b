"""A folder of sound files: class sub-folders, optionally below train, val and test, or classes in the paths."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from modgap.targets.file_layout import labeled_files
from modgap.targets.samples import Table
from modgap.targets.sound import SUFFIXES, SoundFiles


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    rate: int,
    group_pattern: str | None = None,
    path_pattern: str | None = None,
    links: bool = True,
) -> Table:
    """List the sound files. Each is decoded to (1, length) at `rate` when it is read.

    Args:
        files: One folder under the role `data`, and perhaps a table of groups under `group-list`.
        rate: Sampling rate in hertz. Files of another rate are resampled.
        group_pattern: Pattern of the path, or table, that gives the group of each sound; see
            `modgap.targets.file_layout.groups_of_paths`.
        path_pattern: Regular expression of the path relative to the folder, whose groups `label` and `group` are class
            and group of a sound. Other files are left out. None if there are class folders.
        links: False to leave out symbolic links.
    """
    samples = partial(SoundFiles.of_paths, rate=rate)
    return labeled_files(files, samples, SUFFIXES, "sound files", group_pattern, path_pattern, links)
