"""AudioSet's lists of segments, with sound files that the user brings."""

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.targets.file_layout import files_by_split, list_files, single_file
from modgap.targets.readers.audio_csv import multi_hot
from modgap.targets.samples import Table
from modgap.targets.sound import SUFFIXES, SoundFiles

__all__ = ["read"]

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class _Segment:
    video: str
    start: float
    labels: tuple[str, ...]

    @property
    def stems(self) -> tuple[str, ...]:
        """Names that its file may have, before the suffix."""
        return f"{self.video}_{self.start:g}", f"{self.video}_{self.start:.3f}", self.video


def read(files: Mapping[str, Sequence[Path]], *, rate: int) -> Table:
    """List the segments for which there is a sound file; each is decoded when it is asked for.

    A file is named by the video and the segment's start in seconds (`<video>_<start>.wav`), or by the video
    alone, and holds the segment alone. Segments without one are left out and counted in the log.

    Args:
        files: The lists under the roles `train` and `test` (and `val`), the folder of the sound files, which
            may have sub-folders, under `audio`, and class_labels_indices.csv under `classes`.
        rate: Values a second, to which other files are resampled.

    Raises:
        InputError: When a list is broken, or no segment has a file.
    """
    names = _class_names(single_file(files, "classes"))
    listed = [(code, segment) for code, path in files_by_split(files) for segment in _segments(path)]
    folder = single_file(files, "audio")
    present = {path.stem: str(path) for path in list_files(folder, SUFFIXES)}
    found = [(code, segment, path) for code, segment in listed if (path := _file_of(segment, present))]
    if not found:
        raise InputError(
            f"expected sound files named <video>_<start>.wav or <video>.wav (or .flac, .ogg, .mp3) in {folder} for "
            f"{len(listed)} segments, got none of them among {len(present)} files"
        )
    if len(found) < len(listed):
        log.info(
            "%d of %d segments have no sound file in %s and are left out", len(listed) - len(found), len(listed), folder
        )
    marks, ids = multi_hot([segment.labels for _, segment, _ in found], {mid: k for k, mid in enumerate(names)})
    clips = tuple((path,) for _, _, path in found)
    return Table(SoundFiles(clips, rate), marks, [names[mid] for mid in ids], np.array([code for code, _, _ in found]))


def _file_of(segment: _Segment, present: Mapping[str, str]) -> str | None:
    return next((present[stem] for stem in segment.stems if stem in present), None)


def _segments(path: Path) -> Iterator[_Segment]:
    for number, row in _lines(path):
        try:
            video, start, _, labels = row
            yield _Segment(video, float(start), tuple(labels.split(",")))
        except ValueError as error:
            raise InputError(
                f"expected video, start, end and labels in line {number} of {path}, got {','.join(row)[:60]}"
            ) from error


def _class_names(path: Path) -> dict[str, str]:
    """Name of each class by its id, in the classes' order."""
    rows = [row for _, row in _lines(path)]
    if not rows or rows[0] != ["index", "mid", "display_name"] or any(len(row) != 3 for row in rows):
        raise InputError(f"expected the columns index, mid and display_name in {path}, got {rows[:1]}")
    return {mid: name for _, mid, name in sorted(rows[1:], key=lambda row: int(row[0]))}


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and values of each line that is not a comment."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            for number, row in enumerate(csv.reader(stream, skipinitialspace=True), start=1):
                if row and not row[0].startswith("#"):
                    yield number, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
