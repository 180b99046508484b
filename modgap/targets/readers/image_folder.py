"""A folder of images: class sub-folders, optionally below train, val and test, or classes in the paths."""

import logging
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageColor

from modgap.errors import InputError, UsageError, first_line
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS
from modgap.storage.limits import IMAGE_PIXELS
from modgap.targets.file_layout import labeled_files
from modgap.targets.samples import Table

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operation that turns a stored image upright, by its EXIF orientation."""

SEARCH_SECONDS = 5.0
"""Seconds of the search for further images that are not readable."""
MOST_NAMED = 4
"""Most of them that a message names."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class ImageFiles:
    """Images (3, H, W) in files, upright, 8-bit RGB, or float32 of the same range for images of 16 bits.

    Attributes:
        paths: The files.
        background: Color that transparent pixels are composited on, as a name or #rrggbb.
        announced: What was said about images, so that it is said once.
    """

    paths: Sequence[Path]
    background: str = "white"
    announced: set[str] = field(default_factory=set, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def files_of(self, index: int) -> tuple[Path, ...]:
        """Return the path of one image."""
        return (self.paths[index],)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one image."""
        path = self.paths[index]
        try:
            with _open_image(path) as image:
                if "background" not in self.announced and _is_transparent(image):
                    self.announced.add("background")
                    text = 'Transparent images are composited on %s; `custom_data={"background": "COLOR"}` changes it.'
                    log.info(text, self.background)
                # A photograph of the format MPO has a preview beside the picture.
                if "pages" not in self.announced and getattr(image, "is_animated", False) and image.format != "MPO":
                    self.announced.add("pages")
                    text = (
                        "%s has several pages or frames. The first one of each image is read; pass the others as files."
                    )
                    log.warning(text, path)
                return image_array(image, self.background, str(path))
        except InputError:
            raise
        except DAMAGED_FILE_ERRORS as error:
            raise InputError(
                f"{path} is not a readable image ({first_line(error)}). {self._way_out_of_damage(index)}"
            ) from error

    def _way_out_of_damage(self, index: int) -> str:
        """Return what to do about an image that is not readable, and the next ones that are not, either.

        The search for these ends after some seconds.
        """
        began, broken = time.monotonic(), []
        for path in self.paths[index + 1 :]:
            if time.monotonic() - began > SEARCH_SECONDS:
                break
            try:
                with _open_image(path) as image:
                    image.load()
            except DAMAGED_FILE_ERRORS:
                broken.append(str(path))
        if not broken:
            return "Remove it, or replace it by an intact copy."
        such = ", such as" if len(broken) > MOST_NAMED else ":"
        verb = "is" if len(broken) == 1 else "are"
        return (
            f"{len(broken):,} more {verb} not readable either{such} {', '.join(broken[:MOST_NAMED])}. Remove them, or "
            "replace them by intact copies."
        )


def image_array(image: Image.Image, background: str = "white", name: str = "The image") -> np.ndarray:
    """Return an image as an array (3, H, W), 8-bit RGB, or float32 of the same range for images of 16 bits.

    It is turned and mirrored as its EXIF orientation says.

    Args:
        image: The image.
        background: Color that takes the place of the arbitrary colors of transparent pixels.
        name: Name of the image in messages.

    Raises:
        InputError: When it has 32 bits per channel.
    """
    if image.mode in ("I", "F"):
        raise InputError(f"{name} has 32 bits per channel, expected 8 or 16. Convert it to 8 or 16 bits.")
    image = _upright(image)
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit values to white.
        return (np.asarray(image)[None].repeat(3, axis=0) / 257).astype(np.float32)
    if not _may_be_transparent(image):
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    canvas = Image.new("RGBA", image.size, ImageColor.getrgb(background))
    return np.asarray(Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")).transpose(2, 0, 1)


def _upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its EXIF orientation says; one whose EXIF record is damaged stays as it is stored."""
    # Pillow itself turns TIFF files when it loads them, and then removes the orientation.
    image.load()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            orientation = image.getexif().get(ExifTags.Base.Orientation)
    except DAMAGED_FILE_ERRORS:
        return image
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _is_transparent(image: Image.Image) -> bool:
    """Return True if a pixel of an image is transparent."""
    return _may_be_transparent(image) and image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def _may_be_transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def check_background(color: str) -> None:
    """Raise a UsageError if a background is no color."""
    try:
        channels = len(ImageColor.getrgb(color))
    except ValueError as error:
        raise UsageError(
            f'`custom_data={{"background": {color!r}}}` is not a color. '
            "Expected a name such as white or black, or #rrggbb."
        ) from error
    if channels > 3:
        raise UsageError(
            f'`custom_data={{"background": {color!r}}}` is transparent itself. '
            "Expected an opaque color, such as #rrggbb."
        )


def _open_image(path: Path) -> Image.Image:
    """Open an image without decoding it, if it does not have too many pixels."""
    limit = IMAGE_PIXELS.value
    if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit
    with warnings.catch_warnings():
        # Pillow warns at a limit of its own, and raises at twice as many pixels.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path)
        except Image.DecompressionBombError as error:
            pixels = re.search(r"\((\d+) pixels\)", str(error))
            raise _large_image(path, int(pixels[1]) if pixels else limit + 1) from error
    if image.width * image.height > limit:
        image.close()
        raise _large_image(path, image.width * image.height)
    return image


def _large_image(path: Path, pixels: int) -> InputError:
    return InputError(
        f"{path} has {pixels:,} pixels. The limit is {IMAGE_PIXELS.value:,} pixels for one image. Cut it into tiles, "
        f"or shrink it, for instance with: magick mogrify -resize 25% '{path}'. {IMAGE_PIXELS.way_out(pixels)}"
    )


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    background: str = "white",
    group_pattern: str | None = None,
    path_pattern: str | None = None,
    links: bool = True,
) -> Table:
    """List the images. Each is decoded to upright 8-bit RGB when it is read.

    Args:
        files: One folder under the role `data`, and perhaps a table of groups under `group-list`.
        background: Color that transparent pixels are composited on, as a name or #rrggbb.
        group_pattern: Pattern of the path, or table, that gives the group of each image; see
            `modgap.targets.file_layout.groups_of_paths`.
        path_pattern: Regular expression of the path relative to the folder, whose groups `label` and `group` are class
            and group of an image. Other files are left out. None if there are class folders.
        links: False to leave out symbolic links.
    """
    check_background(background)
    samples = partial(ImageFiles, background=background)
    return labeled_files(files, samples, SUFFIXES, "images", group_pattern, path_pattern, links)
