"""Videos as a few frames sampled evenly over their length, decoded when they are asked for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap.errors import InputError, first_line
from modgap.targets.file_layout import class_folder_labels, files_by_split, list_files, single_file
from modgap.targets.samples import Table

__all__ = ["SUFFIXES", "read"]

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"})


@dataclass(frozen=True)
class _Videos:
    paths: tuple[str, ...]
    frames: int
    short_side: int | None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        path = self.paths[index]
        av = _library()
        with _refusing_broken(path):
            # Packets are counted without decoding; a few codecs pack another number of frames into them.
            expected = _packets(av, path)
            pictures, count = self._pictures(av, path, expected)
            if count != expected:
                pictures, count = self._pictures(av, path, count)
        if count == 0:
            raise InputError(f"expected a video with frames, got none from {path}")
        return np.stack(pictures).transpose(0, 3, 1, 2)

    def _pictures(self, av, path: str, expected: int) -> tuple[list[np.ndarray], int]:
        """The wanted frames (H, W, 3), if there are as many in all as expected, and how many there are."""
        wanted = _evenly(expected, self.frames)
        found: dict[int, np.ndarray] = {}
        number = -1
        with av.open(path) as container:
            for number, frame in enumerate(container.decode(_stream(container, path))):
                if number in wanted:
                    found[number] = self._picture(frame)
        return [found[number] for number in wanted if number in found], number + 1

    def _picture(self, frame) -> np.ndarray:
        height, width = frame.height, frame.width
        if self.short_side is not None and min(height, width) > self.short_side:
            scale = self.short_side / min(height, width)
            height, width = round(height * scale), round(width * scale)
        return frame.reformat(width=width, height=height, format="rgb24").to_ndarray()


def read(
    files: Mapping[str, Sequence[Path]], *, frames: int = 8, short_side: int | None = None, source: str | None = None
) -> Table:
    """List the videos; each is decoded, as (frames, 3, H, W) bytes, when it is asked for.

    Args:
        files: Either one folder of class sub-folders under the role `data`; or the folder of the videos, which
            are found in it by their names, under `videos`, lists of `<class>/<file>` a line under `train`, `val`
            and `test`, and a list of `<number> <class>` under `classes`.
        frames: Frames a video, the middle ones of as many equal parts of it.
        short_side: Pixels that the shorter side is scaled down to; larger ones only.
        source: Regular expression whose first group, in a file's name, names what the video was cut from:
            it becomes the group `source`.

    Raises:
        InputError: When a list is broken or names a video that is not there.
    """
    if frames < 1 or (short_side is not None and short_side < 1):
        raise InputError(f"expected at least one frame and pixel, got frames {frames} and short_side {short_side}")
    table = _in_class_folders(files) if "data" in files else _listed(files)
    paths, labels, classes, codes = table
    groups = None if source is None else {"source": np.array([_source(source, path) for path in paths])}
    return Table(_Videos(tuple(map(str, paths)), frames, short_side), labels, classes, codes, groups)


def _in_class_folders(files: Mapping[str, Sequence[Path]]):
    folder = single_file(files, "data")
    paths = list_files(folder, SUFFIXES)
    return paths, *class_folder_labels(folder, paths, "videos")


def _listed(files: Mapping[str, Sequence[Path]]):
    classes = [line.split(maxsplit=1)[-1] for line in _lines(single_file(files, "classes"))]
    number = {name: k for k, name in enumerate(classes)}
    listed = [(code, line.split()[0]) for code, path in files_by_split(files) for line in _lines(path)]
    strange = sorted({name.split("/")[0] for _, name in listed} - set(classes))
    if strange:
        raise InputError(f"expected videos of the {len(classes)} classes listed, got {', '.join(strange[:3])} too")
    folder = single_file(files, "videos")
    # Archives of UCF101 differ in the case of one class's file names.
    present = {path.name.lower(): path for path in list_files(folder, SUFFIXES)}
    absent = [name for _, name in listed if _base(name) not in present]
    if absent:
        raise InputError(f"expected {len(listed)} videos in {folder}, {len(absent)} are missing, first {absent[0]}")
    labels = np.array([number[name.split("/")[0]] for _, name in listed], np.int64)
    return [present[_base(name)] for _, name in listed], labels, classes, np.array([code for code, _ in listed])


def _base(name: str) -> str:
    return name.split("/")[-1].lower()


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read list {path}: {error}") from error


def _source(pattern: str, path: Path) -> str:
    try:
        found = re.search(pattern, path.name)
        if found is None:
            raise InputError(f"expected a file name that matches {pattern!r}, got {path.name}")
        return found.group(1).lower()
    except (re.error, IndexError) as error:
        raise InputError(f"expected a regular expression with a group in source, got {pattern!r}: {error}") from error


def _evenly(count: int, frames: int) -> list[int]:
    """Numbers of the middle frames of equal parts of a video; some twice where it has fewer frames.

    Example:
        >>> _evenly(16, 4), _evenly(2, 4)
        ([2, 6, 10, 14], [0, 0, 1, 1])
    """
    return [(2 * part + 1) * count // (2 * frames) for part in range(frames)]


def _library():
    try:
        import av
    except ImportError as error:
        raise InputError("reading videos needs PyAV; install it with: pip install 'modgap[video]'") from error
    return av


def _stream(container, path: str):
    if not container.streams.video:
        raise InputError(f"expected a video, got a file without a video stream: {path}")
    return container.streams.video[0]


def _packets(av, path: str) -> int:
    with av.open(path) as container:
        return sum(1 for packet in container.demux(_stream(container, path)) if packet.size)


@contextmanager
def _refusing_broken(path: str) -> Iterator[None]:
    av = _library()
    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = first_line(error)
        raise InputError(f"cannot read video {path}: {reason}") from error
