"""Result folder of a matrix: its record and tables, and a folder for the ranking of each target."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from modgap.matrix.formats import to_csv, to_json, to_latex
from modgap.matrix.result import Matrix
from modgap.ranking.result_folder import write_results as write_ranking
from modgap.ranking.types import Ranking
from modgap.storage.atomic_files import write_texts, writing
from modgap.storage.json_records import with_digest

__all__ = ["RECORD", "write_results"]

RECORD = "matrix.json"
LONGEST_NAME = 60


def write_results(matrix: Matrix, rankings: Mapping[str, Ranking], targets: Sequence[str], folder: Path) -> list[Path]:
    """Write matrix.json, matrix.csv and matrix.tex, and each ranking to a folder of its own.

    Args:
        matrix: The matrix.
        rankings: Rankings by target.
        targets: All targets of the plan, whose order numbers the folders.
        folder: An existing folder.

    Returns:
        Paths of the written files.

    Raises:
        InputError: If a file cannot be written.
    """
    texts = {RECORD: with_digest(to_json(matrix)), "matrix.csv": to_csv(matrix), "matrix.tex": to_latex(matrix)}
    with writing(folder):
        written = write_texts(folder, texts)
        for number, target in enumerate(targets, start=1):
            if target not in rankings:
                continue
            own = folder / f"{number:03}-{_file_name(target)}"
            own.mkdir(exist_ok=True)
            written += write_ranking(rankings[target], own)
    return written


def _file_name(target: str) -> str:
    """Return the last part of a target's name or path in letters that every file system has."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(target).name)[:LONGEST_NAME].strip("-.") or "target"
