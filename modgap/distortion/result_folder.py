"""A folder of what was found on encoders: the record and its figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from matplotlib.figure import Figure

from modgap.distortion.few_shot_figure import few_shot_figure
from modgap.distortion.figures import map_grid, similarity_heat_map
from modgap.distortion.grid_figure import probe_grid
from modgap.distortion.measurement import SurrogateReadings
from modgap.distortion.report import grid_cells, layer_grid
from modgap.errors import InputError
from modgap.figure_style import save
from modgap.storage.atomic_files import write_text_atomically

__all__ = ["RECORD", "write_folder"]

RECORD = "distortion.json"


def write_folder(record: str, found: Sequence[SurrogateReadings], folder: Path) -> list[Path]:
    """Write distortion.json, the grid of probes (probes.png), maps and similarity by layer; returns their paths.

    Raises:
        InputError: When the disk refuses.
    """
    written = [folder / RECORD]
    try:
        write_text_atomically(folder / RECORD, record + "\n")
        for name, figure in _figures(found):
            save(figure, folder / name)
            written.append(folder / name)
    except OSError as error:
        raise InputError(f"cannot write results to {folder}: {error.strerror}") from error
    return written


def _figures(found: Sequence[SurrogateReadings]) -> Iterator[tuple[str, Figure]]:
    """The figures that there are numbers for."""
    if any(grid_cells(one.readings) for one in found):
        yield "probes.png", probe_grid(found)
    for one in found:
        name = PurePath(one.name).stem
        if one.readings[0].few_shot is not None:
            curves = {reading.label: reading.few_shot for reading in one.readings if reading.few_shot}
            yield f"few-shot-{name}.png", few_shot_figure(curves, one.chance, one.name)
        if one.readings[0].map is not None:
            maps = {reading.map.name: reading.map for reading in one.readings if reading.map}
            yield f"maps-{name}.png", map_grid(maps, one.labels, one.classes)
        for measure in dict.fromkeys(name for reading in one.readings for name in reading.similarity):
            grid = layer_grid(one.readings, measure)
            if grid is not None:
                yield f"{measure}-{name}.png", similarity_heat_map(grid, f"to the untouched encoder, on {name}")
