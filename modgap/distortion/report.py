"""The distortion that `modgap.measure_distortion` returns: its answer, its record and its data frame."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.answers import Answer, Plotted
from modgap.distortion.answer import answer_of_record, notes, tables
from modgap.distortion.grid import grid_cells
from modgap.distortion.measurement import DistortionRequest, EncoderResult, SurrogateResult
from modgap.errors import named
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.sample_file import SampleFile, numbered_sample_file, write_sample_file
from modgap.storage.algorithms import installed_version
from modgap.storage.atomic_files import write_text_atomically, writing
from modgap.storage.json_records import format_json, plain_values, with_digest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from modgap.answers.figures.files import ResultFigure

SCHEMA = 1
RECORD = "distortion.json"


@dataclass(frozen=True, repr=False)
class DistortionResult(Plotted):
    """Remaining knowledge of a source on each surrogate, as `modgap.measure_distortion` returns it.

    `print(result)` shows the answer and the tables of the command. `result[0]` and `result["fashion-mnist"]` are the
    measurements on one surrogate, and a loop goes over all of them.

    Attributes:
        source: Name of the source.
        surrogates: Measurements of all encoders on each surrogate.
        request: Quantities that were measured.
        seconds: Time that the measurement took.
    """

    source: str
    surrogates: tuple[SurrogateResult, ...]
    request: DistortionRequest
    seconds: float

    def __len__(self) -> int:
        """Return the number of surrogates."""
        return len(self.surrogates)

    def __iter__(self) -> Iterator[SurrogateResult]:
        """Return an iterator over the measurements on each surrogate."""
        return iter(self.surrogates)

    def __getitem__(self, surrogate: int | str) -> SurrogateResult:
        """Return the measurements on one surrogate.

        Args:
            surrogate: Name of the surrogate, or its number from 0.

        Raises:
            UsageError: If there is no surrogate with this name. The message lists their names.
        """
        if isinstance(surrogate, int):
            return self.surrogates[surrogate]
        return named("surrogate", surrogate, {result.name: result for result in self.surrogates})

    @cached_property
    def answer(self) -> Answer:
        """The answer, with its verdicts, tables and notes."""
        return replace(
            answer_of_record(self._numbers()),
            tables=tuple(table for result in self.surrogates for table in tables(result)),
            notes=tuple(note for result in self.surrogates for note in notes(result)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values, which `modgap distortion --json` prints."""
        return {**self._numbers(), "answer": self.answer.to_dict()}

    def _numbers(self) -> dict[str, Any]:
        """Return the record without its answer."""
        return {
            "schema": SCHEMA,
            "kind": "distortion",
            "source": self.source,
            "surrogates": [_surrogate_record(result) for result in self.surrogates],
            "request": plain_values(asdict(self.request)),
            "seconds": round(self.seconds, 1),
            "provenance": {"modgap": installed_version()},
        }

    def to_frame(self, figure: str | None = None) -> "pd.DataFrame":
        """Return a data frame with one row for each encoder and surrogate, or the data frame that a figure draws.

        The columns of the encoders are `surrogate`, `encoder`, `method`, `target`, `epoch`, `seed`, `error`,
        `error_low`, `error_high`, `difference`, `difference_low`, `difference_high` and `p`, all of the first probe,
        the error of each further probe under its name, and the similarity of the last layer under the name of its
        measure. Values that do not exist are NaN.

        Args:
            figure: Name of a figure as its file is called, such as `probes`. None for the encoders.

        Raises:
            UsageError: If the result has no figure with this name.
        """
        if figure is not None:
            return self._figure(figure).frame()
        import pandas as pd

        rows = [_frame_row(result, encoder) for result in self.surrogates for encoder in result.encoders]
        return pd.DataFrame(rows)

    def plot(  # type: ignore[override]  # A distortion has its main figure for each surrogate.
        self, surrogate: int | str = 0, ax: "Axes | None" = None
    ) -> "Figure":
        """Return the figure of probe errors before and after training on one surrogate.

        Args:
            surrogate: Name of the surrogate, or its number from 0.
            ax: Axes to draw on, if the figure has one panel. None for a new figure.

        Raises:
            UsageError: If no encoder was trained by a run, there is no such surrogate, or the figure has several
                panels and axes are given.
        """
        from modgap.distortion.probe_figures import probe_figure

        return probe_figure(self[surrogate], ax)

    def figures(self) -> "Iterator[ResultFigure]":
        """Yield the figures of everything that was measured: probes, few-shot curves, maps, similarity by layer."""
        from modgap.distortion.feature_figures import feature_figures
        from modgap.distortion.probe_figures import few_shot_figures, probe_figures

        of_surrogates = ((few_shot_figures(result), feature_figures(result)) for result in self.surrogates)
        written = set[str]()
        for figure in chain(probe_figures(self.surrogates), *chain.from_iterable(of_surrogates)):
            # Files of surrogates may have the same name, such as a/x.npz and b/x.npz.
            names = chain([figure.name], (f"{figure.name}-{number}" for number in count(2)))
            name = next(one for one in names if one not in written)
            written.add(name)
            yield replace(figure, name=name)

    def write(self, folder: Path) -> list[Path]:
        """Write distortion.json and the errors of samples to an existing folder, and return the paths of the files.

        The errors of the samples are in samples.npz or, with several surrogates, in samples-1.npz and so on.

        Raises:
            InputError: When a file cannot be written.
        """
        written = [folder / RECORD]
        with writing(folder):
            write_text_atomically(folder / RECORD, with_digest(format_json(self.to_dict())))
            for number, result in enumerate(self.surrogates):
                written.append(folder / numbered_sample_file(number, len(self.surrogates)))
                write_sample_file(written[-1], probe_sample_file(result))
        return written


def _frame_row(result: SurrogateResult, encoder: EncoderResult) -> dict[str, object]:
    first, *others = encoder.probes.values()
    nan = float("nan")
    difference = encoder.difference
    error_low, error_high = first.interval or (nan, nan)
    low, high = (difference.interval if difference else None) or (nan, nan)
    p_value = difference.p_value if difference else None
    similarity = {name: list(layers.values())[-1].value for name, layers in encoder.similarity.items() if layers}
    return {
        "surrogate": result.name,
        "encoder": encoder.label,
        "method": encoder.encoder.method,
        "target": encoder.encoder.target,
        "epoch": encoder.encoder.trained_epochs,
        "seed": encoder.encoder.seed,
        "error": first.value,
        "error_low": error_low,
        "error_high": error_high,
        "difference": difference.value if difference else nan,
        "difference_low": low,
        "difference_high": high,
        "p": nan if p_value is None else p_value,
        **{probe.name: probe.value for probe in others},
        **similarity,
    }


def _surrogate_record(result: SurrogateResult) -> dict[str, object]:
    return {
        "name": result.name,
        "samples": plain_values(dict(result.provenance)),
        "classes": list(result.classes),
        "training_samples": result.training_samples,
        "test_samples": result.test_samples,
        "baseline_error": result.baseline_error,
        "encoders": [_encoder_record(encoder) for encoder in result.encoders],
        "grid": [plain_values(asdict(cell)) for cell in grid_cells(result.encoders)],
    }


def _encoder_record(result: EncoderResult) -> dict[str, object]:
    encoder = result.encoder
    return {
        "encoder": result.label,
        "source": result.source,
        "run": str(encoder.run.folder) if encoder.run else None,
        "method": encoder.method,
        "target": encoder.target,
        "epoch": encoder.trained_epochs,
        "seed": encoder.seed,
        "probes": {name: _drop_fields(asdict(probe), "errors") for name, probe in result.probes.items()},
        "difference": plain_values(asdict(result.difference)) if result.difference else None,
        "similarity": {
            name: {layer: plain_values(asdict(value)) for layer, value in layers.items()}
            for name, layers in result.similarity.items()
        },
        "few_shot": None if result.few_shot is None else _drop_fields(asdict(result.few_shot)),
        "map": None if result.map is None else _drop_fields(asdict(result.map), "coordinates"),
    }


def _drop_fields(record: Mapping[str, object], *names: str) -> dict[str, object]:
    """Return a record as JSON values, without the fields that have one value for each sample."""
    return {name: plain_values(value) for name, value in record.items() if name not in names}


def probe_sample_file(result: SurrogateResult) -> SampleFile:
    """Return the errors of the first probe on the samples of a surrogate, with one column for each encoder.

    Args:
        result: Measurements of the encoders on the surrogate. Encoders of the same label get a number.
    """
    columns: dict[str, SampleErrors] = {}
    for encoder in result.encoders:
        name = encoder.label if encoder.label not in columns else f"{encoder.label} ({len(columns)})"
        columns[name] = encoder.first_probe.errors
    numbers = np.arange(len(result.labels))
    units = next(iter(columns.values())).units
    groups = None if np.array_equal(units, numbers) else units
    return SampleFile(numbers, result.labels, groups, columns, len(result.classes), None)
