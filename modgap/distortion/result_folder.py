"""Folder with the record of a distortion and its figures."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePath

from matplotlib.figure import Figure

from modgap.display.figure_files import PlannedFigure
from modgap.distortion.display_names import display_name
from modgap.distortion.few_shot_figure import few_shot_caption, few_shot_figure
from modgap.distortion.figures import heat_map_caption, map_caption, map_grid, similarity_heat_map
from modgap.distortion.grid import grid_cells, layer_grid
from modgap.distortion.grid_figure import probe_caption, probe_figure
from modgap.distortion.measurement import SurrogateResult
from modgap.distortion.sample_errors import probe_sample_file
from modgap.distortion.similarity import SimilarityGrid
from modgap.statistics.sample_file import numbered_sample_file, write_sample_file
from modgap.storage.atomic_files import write_text_atomically
from modgap.storage.json_records import with_digest
from modgap.storage.written_files import writing

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


def planned_figures(results: Sequence[SurrogateResult]) -> Iterator[PlannedFigure]:
    """Yield the figures of everything that was measured: probes, few-shot curves, maps, similarity by layer."""
    with_runs = [result for result in results if grid_cells(result.encoders)]
    for result in with_runs:
        name = "probes" if len(with_runs) == 1 else f"probes-{PurePath(result.name).stem}"
        yield PlannedFigure(name, partial(_draw_probes, result))
    for result in results:
        yield from _surrogate_figures(result)


def _draw_probes(result: SurrogateResult) -> tuple[Figure, str]:
    return probe_figure(result), probe_caption(result)


def _surrogate_figures(result: SurrogateResult) -> Iterator[PlannedFigure]:
    name = PurePath(result.name).stem
    curves = {encoder.label: encoder.few_shot for encoder in result.encoders if encoder.few_shot}
    if curves:
        few_shot = (curves, result.baseline_error, result.name)
        other_sources = {encoder.label for encoder in result.encoders[1:] if encoder.encoder.run is None}
        yield PlannedFigure(
            f"few-shot-{name}", lambda: (few_shot_figure(*few_shot, other_sources), few_shot_caption(*few_shot))
        )
    maps = {encoder.map.name: encoder.map for encoder in result.encoders if encoder.map}
    if maps:
        yield PlannedFigure(
            f"maps-{name}",
            lambda: (map_grid(maps, result.labels, result.classes), map_caption(maps, result.labels, result.name)),
        )
    for measure in dict.fromkeys(name for encoder in result.encoders for name in encoder.similarity):
        grid = layer_grid(result.encoders, measure)
        if grid is not None:
            yield PlannedFigure(f"{measure}-{name}", partial(_draw_similarity, result, grid))


def _draw_similarity(result: SurrogateResult, grid: SimilarityGrid) -> tuple[Figure, str]:
    return similarity_heat_map(grid, _similarity_title(result, grid)), heat_map_caption(grid, result.name)


def _similarity_title(result: SurrogateResult, grid: SimilarityGrid) -> str:
    """Return the lowest similarity of the fine-tuned encoders, in a sentence. Other sources do not count."""
    tuned = {encoder.label for encoder in result.encoders if encoder.encoder.run is not None}
    rows = [row for row, label in enumerate(grid.rows) if label in tuned]
    name = display_name(grid.name)
    name = name if name[1].isupper() or name.startswith("k-") else name[0].upper() + name[1:]
    lowest = float(grid.values.min() if not rows else grid.values[rows].min())
    # Rounded down, because "at least 1.00" would be false of 0.996. The tolerance is for the error of CKA itself.
    at_least = f"is at least {math.floor(100 * lowest + 1e-6) / 100:.2f}"
    if not rows:
        return f"{name} with the source {at_least}"
    return f"After fine-tuning, {display_name(grid.name)} with the source {at_least}"
