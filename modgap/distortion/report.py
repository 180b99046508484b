"""A distortion's record, tables, and the grid of the paper's Fig. 3: target x epochs x method, over seeds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from modgap import __version__
from modgap.distortion.few_shot import FewShotCurve
from modgap.distortion.measurement import DistortionRequest, Reading, SurrogateReadings
from modgap.distortion.similarity import SimilarityGrid
from modgap.storage.json_records import format_json, plain_values

__all__ = ["GridCell", "grid_cells", "layer_grid", "reading_rows", "to_json"]

SCHEMA = 1


@dataclass(frozen=True)
class GridCell:
    """A method's runs on one target after some epochs.

    Attributes:
        target: What the runs were trained on.
        method: How.
        epoch: Of stage 2.
        mean: Of the first probe's error over seeds, in [0, 1]; lower is better.
        interval: 95 %: Student's t over seeds, of one seed the probe's own bootstrap over samples.
        seeds: How many.
    """

    target: str
    method: str
    epoch: int
    mean: float
    interval: tuple[float, float]
    seeds: int


def grid_cells(readings: Sequence[Reading]) -> list[GridCell]:
    """The readings of runs by target, method and epoch (MoNA, Fig. 3), in the order in which they came."""
    found: dict[tuple[str, str, int], list[Reading]] = {}
    for reading in readings:
        encoder = reading.encoder
        if encoder.run is not None and encoder.after is not None:
            found.setdefault((str(encoder.target), encoder.method, encoder.after), []).append(reading)
    return [GridCell(*place, *_over_seeds(own)) for place, own in found.items()]


def _over_seeds(readings: Sequence[Reading]) -> tuple[float, tuple[float, float], int]:
    probes = [next(iter(reading.probes.values())) for reading in readings]
    errors = np.array([each.value for each in probes])
    mean = float(errors.mean())
    if len(errors) == 1:
        return mean, probes[0].interval, 1
    reach = float(stats.t.ppf(0.975, len(errors) - 1) * errors.std(ddof=1) / math.sqrt(len(errors)))
    return mean, (max(0.0, mean - reach), min(1.0, mean + reach)), len(errors)


def reading_rows(readings: Sequence[Reading]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table: error of each probe, difference to the untouched encoder, similarity to it."""
    probes = list(readings[0].probes)
    measures = list(dict.fromkeys(name for reading in readings for name in reading.similarity))
    heads = ["encoder", f"{probes[0]} error", "95 %", "minus untouched", "95 %", "p", *probes[1:]]
    with_f1 = any(result.entity_f1 for reading in readings for result in reading.probes.values())
    heads += (["entity F1"] if with_f1 else []) + [name.replace("_", " ") for name in measures]
    return heads, [list(_row(reading, measures, with_f1)) for reading in readings]


def _row(reading: Reading, measures: Sequence[str], with_f1: bool) -> Iterator[str]:
    first, *others = reading.probes.values()
    yield from (reading.label, f"{first.value:.4f}", _told(first.interval))
    difference = reading.difference
    if difference is None:
        yield from ("-", "-", "-")
    else:
        yield from (f"{difference.value:+.4f}", _told(difference.interval), f"{difference.p_value:.3f}")
    yield from (f"{other.value:.4f}" for other in others)
    if with_f1:
        yield f"{first.entity_f1.value:.3f}" if first.entity_f1 else "-"
    for name in measures:
        layers = list(reading.similarity.get(name, {}).values())
        yield f"{layers[-1].value:.3f}" if layers else "-"


def _told(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} - {interval[1]:.4f}" if all(map(math.isfinite, interval)) else "-"


def layer_grid(readings: Sequence[Reading], measure: str) -> SimilarityGrid | None:
    """Similarity of each layer of each encoder to the same layer of the untouched one; None with fewer than two layers.

    Args:
        readings: Of one surrogate.
        measure: Name of the measure.
    """
    told = {reading.label: reading.similarity[measure] for reading in readings if reading.similarity.get(measure)}
    if not told or len(layers := list(next(iter(told.values())))) < 2:
        return None
    # The first encoder's row is the lowest of the heat map; as in the table it should stand at the top.
    rows = [(label, own) for label, own in reversed(told.items()) if list(own) == layers]
    values, nulls = (
        np.array([[getattr(own[layer], of) for layer in layers] for _, own in rows]) for of in ("value", "null")
    )
    samples = next(iter(rows[0][1].values())).samples
    return SimilarityGrid(measure, tuple(label for label, _ in rows), tuple(layers), values, nulls, samples)


def to_json(source: str, found: Sequence[SurrogateReadings], request: DistortionRequest, seconds: float) -> str:
    """One strict JSON document: what was found on each surrogate, with what it was asked for."""
    record = {
        "schema": SCHEMA,
        "kind": "distortion",
        "source": source,
        "surrogates": [_surrogate(one) for one in found],
        "request": plain_values(asdict(request)),
        "seconds": round(seconds, 1),
        "provenance": {"modgap": __version__},
    }
    return format_json(record)


def _surrogate(found: SurrogateReadings) -> dict[str, Any]:
    return {
        "name": found.name,
        "samples": plain_values(dict(found.provenance)),
        "classes": list(found.classes),
        "trained_on": found.trained_on,
        "tested": found.tested,
        "chance": found.chance,
        "encoders": [_reading(reading) for reading in found.readings],
        "grid": [plain_values(asdict(cell)) for cell in grid_cells(found.readings)],
    }


def _reading(reading: Reading) -> dict[str, Any]:
    encoder = reading.encoder
    return {
        "encoder": reading.label,
        "source": reading.source,
        "run": str(encoder.run.folder) if encoder.run else None,
        "method": encoder.method,
        "target": encoder.target,
        "epoch": encoder.after,
        "seed": encoder.seed,
        "probes": {name: _without(asdict(result), "wrong", "predicted") for name, result in reading.probes.items()},
        "difference": plain_values(asdict(reading.difference)) if reading.difference else None,
        "similarity": {
            name: {layer: plain_values(asdict(each)) for layer, each in layers.items()}
            for name, layers in reading.similarity.items()
        },
        "few_shot": None if reading.few_shot is None else _curve(reading.few_shot),
        "map": None if reading.map is None else _without(asdict(reading.map), "coordinates"),
    }


def _curve(curve: FewShotCurve) -> dict[str, Any]:
    return plain_values(asdict(curve))


def _without(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Without what is one value a sample."""
    return plain_values({name: value for name, value in record.items() if name not in names})
