"""Astronomical exposures in deepCR's layout: filter / proposal / visit / NUMBER.npy, an image with its masks."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.array_formats import map_npy
from modgap.targets.file_layout import files_by_split
from modgap.targets.samples import SPLITS, StoredSamples, Table, split_codes
from modgap.targets.splits import hold_out_validation

SKY_FILE = "sky.npy"
IMAGE, TARGET, IGNORED = range(3)
"""Planes of a file."""


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    fields: Sequence[str] | None = None,
    validation: float | str | None = None,
    validation_position: str = "end",
) -> Table:
    """List the exposures. Only the plane that is read is memory-mapped from its file.

    A file has shape (2 or 3, H, W): the image, the pixels hit by cosmic rays (0/1), and the pixels to ignore (0/1).

    Args:
        files: Under `train`, `val` or `test` the folder of one filter, with a folder for each proposal, which has a
            folder for each visit.
        fields: Fields to take, as PROPOSAL_VISIT. None takes all.
        validation: Training samples, in the order of their paths, moved to validation: a fraction, a number or
            `size-of-test`. None moves none.
        validation_position: `start` or `end` of the training samples, where these samples are.

    Returns:
        Samples (1, H, W), targets (1, H, W) 0/1, masks that are 1 where a pixel counts, the group `field`, and the
        level of the sky in each exposure: the value in sky.npy of its visit at the number before _ in its file's name,
        from 1 on; 0 where a visit has no such file.

    Raises:
        InputError: When a folder contains none of the fields, or a level is missing in sky.npy.
    """
    exposures = [(code, _list_exposures(files[SPLITS[code]][0], fields)) for code in dict(files_by_split(files))]
    paths = [path for _, part in exposures for path in part]
    skies = {folder: _read_sky(folder / SKY_FILE) for folder in {path.parent for path in paths}}
    codes = split_codes((code, len(part)) for code, part in exposures)
    planes = (IMAGE, TARGET, IGNORED)
    samples, targets, masks = (StoredSamples(paths, partial(_read_plane, plane=plane)) for plane in planes)
    splits = hold_out_validation(codes, validation, validation_position)
    groups = {"field": np.array([_field(path) for path in paths])}
    levels = np.array([_sky_level(path, skies) for path in paths], np.float32)
    return Table(samples, splits=splits, groups=groups, targets=targets, masks=masks, levels=levels)


def _read_sky(path: Path) -> np.ndarray | None:
    """Return the levels of the sky in the exposures of a visit, None if the file does not exist."""
    if not path.exists():
        return None
    levels = np.asarray(map_npy(path))
    if levels.ndim != 1 or levels.dtype.kind not in "fiu" or not np.isfinite(levels).all():
        raise InputError(f"expected the finite level of the sky in each exposure in {path}, got {levels.shape}")
    return levels


def _sky_level(path: Path, skies: Mapping[Path, np.ndarray | None]) -> float:
    """Return the level of the sky in the exposure of a file."""
    levels = skies[path.parent]
    if levels is None:
        return 0.0
    number = path.stem.partition("_")[0]
    if not number.isdecimal() or not 1 <= int(number) <= len(levels):
        raise InputError(
            f"expected a file NUMBER_....npy with a number from 1 to {len(levels)}, the size of {SKY_FILE}, got {path}"
        )
    return float(levels[int(number) - 1])


def _field(path: Path) -> str:
    return f"{path.parent.parent.name}_{path.parent.name}"


def _list_exposures(folder: Path, fields: Sequence[str] | None) -> list[Path]:
    paths = [path for path in sorted(folder.glob("*/*/*.npy")) if path.name != SKY_FILE]
    selected = [path for path in paths if fields is None or _field(path) in fields]
    if not selected:
        raise InputError(
            f"expected exposures PROPOSAL/VISIT/NUMBER.npy of the wanted fields in {folder}, got {len(paths)} of others"
        )
    return selected


def _read_plane(path: Path, plane: int) -> np.ndarray:
    """Return a plane of an exposure; the ignored pixels as a mask of the pixels that count."""
    planes = map_npy(path)
    if planes.ndim != 3 or len(planes) not in (2, 3) or planes.dtype.kind not in "fiub":
        raise InputError(f"expected an image and one or two masks (2 or 3, H, W) in {path}, got {planes.shape}")
    if plane == IGNORED and len(planes) == 2:
        return np.ones_like(planes[:1], np.float32)
    values: np.ndarray = planes[plane][None].astype(np.float32)
    return 1 - values if plane == IGNORED else values
