"""Texts with a mean rating of their sentiment, in an archive within the source distribution of a package."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from modgap.errors import InputError
from modgap.storage.damaged_files import one_line_errors
from modgap.targets.file_layout import single_file
from modgap.targets.samples import ArraySamples, Table, TextSamples
from modgap_zoo.archive_members import read_members

MAX_ARCHIVE_BYTES = 16 << 20
MAX_TEXT_BYTES = 8 << 20
"""Largest size of an inner archive, and of a file of texts, after decompression."""
NEGATIVE, POSITIVE = range(2)


def sample_versions() -> dict[str, str]:
    """Return no versions, because the samples of a file are the same in all versions of this reader."""
    return {}


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    archive: str,
    texts: Mapping[str, str],
    label: Literal["sign", "rating", "source"],
) -> Table:
    """Read files of texts from an archive that is in another archive, without unpacking either to the disk.

    A line of such a file has a number, the mean rating and the text, separated by tabs. The number of a part of a
    document is that of the document, an underscore and the number of the part. Other texts are documents of their own.

    Args:
        files: One path under the role `data`, of the outer archive.
        archive: Name of the inner archive in the outer one.
        texts: Names of the files of texts in the inner archive, by the name of their source.
        label: `sign` for the classes negative and positive, without the texts whose mean rating is 0; `rating` for the
            mean rating as a regression target; `source` for the names of `texts` as classes.

    Returns:
        Samples that are strings, with labels or targets (1,), and the group `document`.

    Raises:
        InputError: When an archive is damaged or lacks a file, or a line has no number, rating and text.
    """
    path = single_file(files, "data")
    inner = read_members(path, [archive], MAX_ARCHIVE_BYTES)[archive]
    members = read_members(path, list(texts.values()), MAX_TEXT_BYTES, content=inner)
    parts = [_parse(members[member], source, f"{member} in {path}") for source, member in texts.items()]
    sources = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    rated = [row for part in parts for row in part]
    ratings = np.array([rating for _, rating, _ in rated])
    rows = np.flatnonzero(ratings) if label == "sign" else np.arange(len(rated))
    samples = TextSamples([rated[row][0] for row in rows])
    groups = {"document": np.array([rated[row][2] for row in rows])}
    if label == "rating":
        return Table(samples, groups=groups, targets=ArraySamples(ratings[:, None]))
    if label == "sign":
        return Table(samples, np.where(ratings[rows] > 0, POSITIVE, NEGATIVE), ["negative", "positive"], None, groups)
    if label == "source":
        return Table(samples, sources.astype(np.int64), list(texts), None, groups)
    raise InputError(f"expected label to be sign, rating or source, got {label!r}")


def _parse(content: bytes, source: str, location: str) -> list[tuple[str, float, str]]:
    """Return each text of a file with its mean rating and its document, whose name begins with that of the source."""
    with one_line_errors(f"cannot read {location}"):
        lines = content.decode("utf-8").split("\n")
    rated = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        try:
            rating = float(fields[1]) if len(fields) == 3 else np.nan
        except ValueError:
            rating = np.nan
        if not np.isfinite(rating) or not fields[2].strip():
            raise InputError(
                f"expected a number, a mean rating and a text, separated by tabs, in line {number} of {location}, got "
                f"{line[:60]!r}"
            )
        rated.append((fields[2].strip(), rating, f"{source} {fields[0].partition('_')[0]}"))
    return rated
