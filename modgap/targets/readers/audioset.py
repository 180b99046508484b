"""AudioSet's lists of segments, with sound files that the user provides."""

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.damaged_files import one_line_errors
from modgap.targets.file_layout import files_by_split, list_files, single_file
from modgap.targets.readers.audio_csv import multi_hot
from modgap.targets.samples import Table
from modgap.targets.sound import SUFFIXES, SoundFiles

log = logging.getLogger("modgap")


def read(files: Mapping[str, Sequence[Path]], *, rate: int) -> Table:
    """List the segments that have a sound file. Each is decoded when it is read.

    A file contains one segment. It is named by the video and the segment's start in seconds
    (`<video>_<start>.wav`), or by the video alone. Segments without a file are skipped; the log has their number.

    Args:
        files: The lists under the roles `train` and `test` (and `val`); the folder of the sound files, which
            may have sub-folders, under `audio`; class_labels_indices.csv under `classes`.
        rate: Sampling rate in hertz. Files of another rate are resampled.

    Raises:
        InputError: When a list is broken, or no segment has a file.
    """
    class_names = _read_class_names(single_file(files, "classes"))
    segments = [(code, *segment) for code, path in files_by_split(files) for segment in _read_segments(path)]
    folder = single_file(files, "audio")
    path_of_stem = {path.stem: str(path) for path in list_files(folder, SUFFIXES)}
    available: list[tuple[int, tuple[str, ...], str]] = []
    for code, video, start, classes in segments:
        stems = f"{video}_{start:g}", f"{video}_{start:.3f}", video
        available += [(code, classes, path_of_stem[stem]) for stem in stems if stem in path_of_stem][:1]
    if not available:
        raise InputError(
            f"expected sound files named <video>_<start>.wav or <video>.wav (or .flac, .ogg, .mp3) in {folder} for "
            f"{len(segments)} segments, got none of them among {len(path_of_stem)} files"
        )
    if len(available) < len(segments):
        missing = len(segments) - len(available)
        log.info("%d of %d segments have no sound file in %s and are skipped", missing, len(segments), folder)
    numbers = {mid: k for k, mid in enumerate(class_names)}
    codes, names, paths = zip(*available, strict=True)
    labels, ids = multi_hot(names, numbers)
    clips = tuple((path,) for path in paths)
    return Table(SoundFiles(clips, rate), labels, [class_names[mid] for mid in ids], np.array(codes))


def _read_segments(path: Path) -> Iterator[tuple[str, float, tuple[str, ...]]]:
    """Yield the video, the start in seconds and the classes of each segment in a list."""
    for number, row in _read_lines(path):
        try:
            video, start, _, labels = row
            yield video, float(start), tuple(labels.split(","))
        except ValueError as error:
            expected = f"expected video, start, end and labels in line {number} of {path}"
            raise InputError(f"{expected}, got {','.join(row)[:60]}") from error


def _read_class_names(path: Path) -> dict[str, str]:
    """Return the name of each class by its id (mid), in the order of the classes."""
    rows = [row for _, row in _read_lines(path)]
    if not rows or rows[0] != ["index", "mid", "display_name"] or any(len(row) != 3 for row in rows):
        raise InputError(f"expected the columns index, mid and display_name in {path}, got {rows[:1]}")
    try:
        names = {mid.strip(): name for _, mid, name in sorted(rows[1:], key=lambda row: int(row[0]))}
    except ValueError as error:
        raise InputError(f"expected a number in the column index of every line of {path}: {error}") from error
    if len(names) < len(rows) - 1:
        raise InputError(f"expected another mid in every line of {path}, got {len(rows) - 1 - len(names)} twice")
    return names


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and values of each line that is not a comment."""
    with one_line_errors(f"cannot read {path}"), path.open(newline="", encoding="utf-8") as stream:
        for number, row in enumerate(csv.reader(stream, skipinitialspace=True), start=1):
            if row and not row[0].startswith("#"):
                yield number, row
