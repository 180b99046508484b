"""Videos as a few frames sampled evenly over their length, decoded when they are read."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from modgap.errors import InputError, first_line
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS
from modgap.targets.file_layout import class_folder_labels, files_by_split, list_files, single_file
from modgap.targets.samples import Table

__all__ = ["SUFFIXES", "read"]

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"})

Listing = tuple[list[Path], np.ndarray, list[str], np.ndarray | None]
"""Paths, labels (N,), class names, and index into SPLITS (N,) of the videos."""


@dataclass(frozen=True)
class _Videos:
    paths: tuple[str, ...]
    frames: int
    short_side: int | None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        path = self.paths[index]
        av = _import_av()
        with _reraise_video_errors(path):
            # Packets are counted without decoding. With a few codecs their number is not that of the frames.
            expected = _count_packets(av, path)
            images, count = self._read_frames(av, path, expected)
            if count != expected:
                images, count = self._read_frames(av, path, count)
        if count == 0:
            raise InputError(f"expected a video with frames, got none from {path}")
        if len({image.shape for image in images}) > 1:
            raise InputError(f"expected frames of one size in {path}, got frames of several sizes")
        return np.stack(images).transpose(0, 3, 1, 2)

    def _read_frames(self, av: ModuleType, path: str, expected: int) -> tuple[list[np.ndarray], int]:
        """Return the sampled frames (H, W, 3) of a video with the expected number of frames, and the real number."""
        selected = _middle_frames(expected, self.frames)
        images: dict[int, np.ndarray] = {}
        number = -1
        with av.open(path) as container:
            for number, frame in enumerate(container.decode(_video_stream(container, path))):
                if number in selected:
                    images[number] = self._to_array(frame)
        return [images[number] for number in selected if number in images], number + 1

    def _to_array(self, frame: Any) -> np.ndarray:
        height = frame.height
        width = frame.width
        if self.short_side is not None and min(height, width) > self.short_side:
            scale = self.short_side / min(height, width)
            height = round(height * scale)
            width = round(width * scale)
        image: np.ndarray = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
        return image


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    frames: int = 8,
    short_side: int | None = None,
    source_pattern: str | None = None,
) -> Table:
    """List the videos. Each is decoded to (frames, 3, H, W) bytes when it is read.

    Args:
        files: Either one folder of class sub-folders under the role `data`; or the folder of the videos, which
            are located in it by their names, under `videos`, lists with a line `<class>/<file>` for each video under
            `train`, `val` and `test`, and a list with a line `<number> <class>` for each class under `classes`.
        frames: Number of frames: the video is divided into as many equal parts, and their middle frames are taken.
        short_side: Length in pixels to which a longer shorter side is reduced. None keeps the size.
        source_pattern: Regular expression whose first group, in a file's name, names the recording that the video
            was cut from. It becomes the group `source`. None if there are no groups.

    Raises:
        InputError: When a list is broken or names a video that does not exist.
    """
    if frames < 1 or (short_side is not None and short_side < 1):
        raise InputError(f"expected at least one frame and pixel, got frames {frames} and short_side {short_side}")
    paths, labels, classes, codes = _list_class_folders(files) if "data" in files else _list_by_split(files)
    groups = None
    if source_pattern is not None:
        groups = {"source": np.array([_source(source_pattern, path) for path in paths])}
    return Table(_Videos(tuple(map(str, paths)), frames, short_side), labels, classes, codes, groups)


def _list_class_folders(files: Mapping[str, Sequence[Path]]) -> Listing:
    folder = single_file(files, "data")
    paths = list_files(folder, SUFFIXES)
    return paths, *class_folder_labels(folder, paths, "videos")


def _list_by_split(files: Mapping[str, Sequence[Path]]) -> Listing:
    classes = [line.split(maxsplit=1)[-1] for line in _read_lines(single_file(files, "classes"))]
    number = {name: k for k, name in enumerate(classes)}
    names = [(code, line.split()[0]) for code, path in files_by_split(files) for line in _read_lines(path)]
    unknown = sorted({name.split("/")[0] for _, name in names} - set(classes))
    if unknown:
        raise InputError(f"expected videos of the {len(classes)} listed classes, got unknown {', '.join(unknown[:3])}")
    folder = single_file(files, "videos")
    # Archives of UCF101 differ in the case of one class's file names.
    path_of_name = {path.name.lower(): path for path in list_files(folder, SUFFIXES)}
    missing = [name for _, name in names if _file_name(name) not in path_of_name]
    if missing:
        raise InputError(f"expected {len(names)} videos in {folder}, {len(missing)} are missing, first {missing[0]}")
    paths = [path_of_name[_file_name(name)] for _, name in names]
    labels = np.array([number[name.split("/")[0]] for _, name in names], np.int64)
    return paths, labels, classes, np.array([code for code, _ in names])


def _file_name(name: str) -> str:
    return name.split("/")[-1].lower()


def _read_lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read list {path}: {error}") from error


def _source(pattern: str, path: Path) -> str:
    try:
        match = re.search(pattern, path.name)
        if match is None:
            raise InputError(f"expected a file name that matches {pattern!r}, got {path.name}")
        return match.group(1).lower()
    except (re.error, IndexError) as error:
        raise InputError(
            f"expected a regular expression with a group in source_pattern, got {pattern!r}: {error}"
        ) from error


def _middle_frames(count: int, parts: int) -> list[int]:
    """Return the numbers of the middle frames of equal parts of a video; some repeat if it has fewer frames.

    Example:
        >>> _middle_frames(16, 4), _middle_frames(2, 4)
        ([2, 6, 10, 14], [0, 0, 1, 1])
    """
    return [(2 * part + 1) * count // (2 * parts) for part in range(parts)]


def _import_av() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise InputError("reading videos needs PyAV. Install it with: pip install 'modgap[video]'") from error
    return av


def _video_stream(container: Any, path: str) -> Any:
    if not container.streams.video:
        raise InputError(f"expected a video, got a file without a video stream: {path}")
    return container.streams.video[0]


def _count_packets(av: ModuleType, path: str) -> int:
    with av.open(path) as container:
        return sum(1 for packet in container.demux(_video_stream(container, path)) if packet.size)


@contextmanager
def _reraise_video_errors(path: str) -> Iterator[None]:
    """Raise an InputError instead of the errors of PyAV."""
    av = _import_av()
    try:
        yield
    except (av.FFmpegError, *DAMAGED_FILE_ERRORS) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read video {path}: {first_line(error)}") from error
