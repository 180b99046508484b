"""Folder with the record of a distortion and its figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from modgap.distortion.feature_figures import feature_figures
from modgap.distortion.measurement import SurrogateResult
from modgap.distortion.probe_figures import few_shot_figures, probe_figures
from modgap.distortion.sample_errors import probe_sample_file
from modgap.figures.files import ResultFigure
from modgap.statistics.sample_file import numbered_sample_file, write_sample_file
from modgap.storage.atomic_files import write_text_atomically, writing
from modgap.storage.json_records import with_digest

__all__ = ["RECORD", "planned_figures", "write_results"]

RECORD = "distortion.json"


def write_results(record: str, results: Sequence[SurrogateResult], folder: Path) -> list[Path]:
    """Write distortion.json and the errors of samples.

    The errors of the samples are in samples.npz or, with several surrogates, in samples-1.npz and so on.

    Args:
        record: JSON document.
        results: Results on each surrogate.
        folder: Existing folder to write to.

    Returns:
        Paths of the written files.

    Raises:
        InputError: When a file cannot be written.
    """
    written = [folder / RECORD]
    with writing(folder):
        write_text_atomically(folder / RECORD, with_digest(record))
        for number, result in enumerate(results):
            written.append(folder / numbered_sample_file(number, len(results)))
            write_sample_file(written[-1], probe_sample_file(result))
    return written


def planned_figures(results: Sequence[SurrogateResult]) -> Iterator[ResultFigure]:
    """Yield the figures of everything that was measured: probes, few-shot curves, maps, similarity by layer."""
    yield from probe_figures(results)
    for result in results:
        yield from few_shot_figures(result)
        yield from feature_figures(result)
