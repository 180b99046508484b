"""Folder with the record of a distortion and its figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from matplotlib.figure import Figure

from modgap.distortion.few_shot_figure import few_shot_figure
from modgap.distortion.figures import map_grid, similarity_heat_map
from modgap.distortion.grid_figure import probe_grid
from modgap.distortion.measurement import SurrogateResult
from modgap.distortion.report import grid_cells, layer_grid
from modgap.errors import InputError
from modgap.figure_style import save_figure
from modgap.storage.atomic_files import write_text_atomically

__all__ = ["RECORD", "write_folder"]

RECORD = "distortion.json"


def write_folder(record: str, results: Sequence[SurrogateResult], folder: Path) -> list[Path]:
    """Write distortion.json and the figures: probe errors (probes.png), few-shot curves, maps, similarity by layer.

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
    try:
        write_text_atomically(folder / RECORD, record + "\n")
        for name, figure in _figures(results):
            save_figure(figure, folder / name)
            written.append(folder / name)
    except OSError as error:
        raise InputError(f"The results cannot be written to {folder} ({error.strerror}).") from error
    return written


def _figures(results: Sequence[SurrogateResult]) -> Iterator[tuple[str, Figure]]:
    """Yield the file name and the figure of everything that was measured."""
    if any(grid_cells(result.encoders) for result in results):
        yield "probes.png", probe_grid(results)
    for result in results:
        yield from _surrogate_figures(result)


def _surrogate_figures(result: SurrogateResult) -> Iterator[tuple[str, Figure]]:
    name = PurePath(result.name).stem
    curves = {encoder.label: encoder.few_shot for encoder in result.encoders if encoder.few_shot}
    if curves:
        yield f"few-shot-{name}.png", few_shot_figure(curves, result.baseline_error, result.name)
    maps = {encoder.map.name: encoder.map for encoder in result.encoders if encoder.map}
    if maps:
        yield f"maps-{name}.png", map_grid(maps, result.labels, result.classes)
    for measure in dict.fromkeys(name for encoder in result.encoders for name in encoder.similarity):
        grid = layer_grid(result.encoders, measure)
        if grid is not None:
            title = f"Similarity to the untouched encoder on {name}"
            yield f"{measure}-{name}.png", similarity_heat_map(grid, title)
