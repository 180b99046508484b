"""Result folder of a ranking: record, table and errors of samples."""

from pathlib import Path

from modgap.ranking.report import to_csv, to_json
from modgap.ranking.types import Ranking
from modgap.statistics.sample_file import SAMPLES_FILE, write_sample_file
from modgap.storage.atomic_files import write_texts, writing
from modgap.storage.json_records import with_digest

__all__ = ["RECORD", "write_results"]

RECORD = "ranking.json"


def write_results(ranking: Ranking, folder: Path) -> list[Path]:
    """Write ranking.json and ranking.csv.

    If the score that the sources are ranked by is an error by sample, the errors are written to samples.npz, which has
    one column for each row of the ranking.

    Args:
        ranking: The ranking.
        folder: An existing folder.

    Returns:
        Paths of the written files.

    Raises:
        InputError: If a file cannot be written.
    """
    with writing(folder):
        written = write_texts(folder, {"ranking.csv": to_csv(ranking), RECORD: with_digest(to_json(ranking))})
        if ranking.samples:
            write_sample_file(folder / SAMPLES_FILE, ranking.samples)
            written.append(folder / SAMPLES_FILE)
    return written
