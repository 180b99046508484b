"""Result folder of a ranking: record, table and figure."""

from collections.abc import Sequence
from pathlib import Path

from modgap.display.figure_layout import save_figure
from modgap.errors import InputError
from modgap.ranking.figures import ranking_caption, ranking_figure
from modgap.ranking.report import to_csv, to_json
from modgap.ranking.types import Ranking
from modgap.statistics.sample_file import SAMPLES_FILE, write_sample_file
from modgap.storage.atomic_files import write_text_atomically

__all__ = ["RECORD", "write_folder"]

RECORD = "ranking.json"


def write_folder(ranking: Ranking, folder: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write ranking.json and ranking.csv, and the figure if any source has a score.

    If the score that the sources are ranked by is an error by sample, the errors are written to samples.npz, which has
    one column for each row of the ranking.

    Args:
        ranking: The ranking.
        folder: An existing folder.
        formats: Formats of the figure: some of `png`, `svg` and `pdf`.

    Returns:
        Paths of the written files.

    Raises:
        InputError: If a file cannot be written.
    """
    written = []
    try:
        for name, text in (("ranking.csv", to_csv(ranking)), (RECORD, to_json(ranking) + "\n")):
            write_text_atomically(folder / name, text)
            written.append(folder / name)
        if ranking.samples:
            write_sample_file(folder / SAMPLES_FILE, ranking.samples)
            written.append(folder / SAMPLES_FILE)
        if (ranking.tables[ranking.by].source_ranks > 0).any():
            written += save_figure(ranking_figure(ranking), folder / "ranking", ranking_caption(ranking), formats)
    except OSError as error:
        raise InputError(f"Cannot write the results to {folder}: {error.strerror}.") from error
    return written
