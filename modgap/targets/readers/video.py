"""Videos as a few frames sampled evenly over their length, decoded when they are read."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.storage.damaged_files import one_line_errors
from modgap.targets.file_layout import class_folder_labels, files_by_split, list_files, read_text, single_file
from modgap.targets.samples import StoredSamples, Table

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"})


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
    if "data" in files:
        folder = single_file(files, "data")
        paths = list_files(folder, SUFFIXES)
        labels, classes, codes = class_folder_labels(folder, paths, "videos")
    else:
        paths, labels, classes, codes = _list_by_split(files)
    groups = None
    if source_pattern is not None:
        groups = {"source": np.array([_source(source_pattern, path) for path in paths])}
    samples = StoredSamples(paths, partial(_read_video, frames=frames, short_side=short_side))
    return Table(samples, labels, classes, codes, groups)


def _read_video(path: Path, frames: int, short_side: int | None) -> np.ndarray:
    """Return the sampled frames (frames, 3, H, W) of a video."""
    try:
        import av
    except ImportError as error:
        raise InputError("reading videos needs PyAV. Install it with: pip install 'modgap[video]'") from error
    with one_line_errors(f"cannot read video {path}"):
        # Packets are counted without decoding. With a few codecs their number is not that of the frames.
        with av.open(str(path)) as container:
            expected = sum(1 for packet in container.demux(_video_stream(container, path)) if packet.size)
        images, count = _read_frames(av, path, expected, frames, short_side)
        if count != expected:
            images, count = _read_frames(av, path, count, frames, short_side)
    if count == 0:
        raise InputError(f"expected a video with frames, got none from {path}")
    if len({image.shape for image in images}) > 1:
        raise InputError(f"expected frames of one size in {path}, got frames of several sizes")
    return np.stack(images).transpose(0, 3, 1, 2)


def _read_frames(
    av: ModuleType, path: Path, expected: int, frames: int, short_side: int | None
) -> tuple[list[np.ndarray], int]:
    """Return the sampled frames (H, W, 3) of a video with the expected number of frames, and the real number."""
    selected = _middle_frames(expected, frames)
    images: dict[int, np.ndarray] = {}
    number = -1
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(_video_stream(container, path))):
            if number in selected:
                shortest = min(frame.height, frame.width)
                scale = 1 if short_side is None else min(short_side / shortest, 1)
                width, height = (round(size * scale) for size in (frame.width, frame.height))
                images[number] = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return [images[number] for number in selected if number in images], number + 1


def _list_by_split(files: Mapping[str, Sequence[Path]]) -> tuple[list[Path], np.ndarray, list[str], np.ndarray]:
    """Return paths, labels (N,), class names, and index into SPLITS (N,) of the videos."""
    classes = [line.split(maxsplit=1)[-1] for line in _read_lines(single_file(files, "classes"))]
    number = {name: k for k, name in enumerate(classes)}
    names = [(code, line.split()[0]) for code, path in files_by_split(files) for line in _read_lines(path)]
    if unknown := sorted({name.split("/")[0] for _, name in names} - set(classes)):
        raise InputError(f"expected videos of the {len(classes)} listed classes, got unknown {', '.join(unknown[:3])}")
    folder = single_file(files, "videos")
    # Archives of UCF101 differ in the case of one class's file names.
    path_of_name = {path.name.lower(): path for path in list_files(folder, SUFFIXES)}
    located = [path_of_name.get(name.split("/")[-1].lower()) for _, name in names]
    if missing := [name for (_, name), path in zip(names, located, strict=True) if path is None]:
        raise InputError(f"expected {len(names)} videos in {folder}, {len(missing)} are missing, first {missing[0]}")
    paths = [path for path in located if path is not None]
    labels = np.array([number[name.split("/")[0]] for _, name in names], np.int64)
    return paths, labels, classes, np.array([code for code, _ in names])


def _read_lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path, f"list {path}").splitlines() if line.strip()]


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


def _video_stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise InputError(f"expected a video, got a file without a video stream: {path}")
    return container.streams.video[0]
