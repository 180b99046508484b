"""The distortion that `modgap.measure_distortion` returns: it prints, plots and converts to a data frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modgap.display.displayed_result import DisplayedResult
from modgap.distortion.measurement import DistortionRequest, EncoderResult, SurrogateResult
from modgap.distortion.report import encoder_table, to_dict
from modgap.distortion.summary import answer, heading, notes, summary_text
from modgap.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DistortionResult"]


@dataclass(frozen=True, repr=False)
class DistortionResult(DisplayedResult):
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
        results = {result.name: result for result in self.surrogates}
        if surrogate not in results:
            raise unknown_name("surrogate", surrogate, results)
        return results[surrogate]

    def summary(self) -> str:
        """Return heading, answer and tables as text, like the command prints them."""
        return summary_text(self.source, self.surrogates)

    def summary_table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Return the headings and the rows of the encoders on all surrogates as text."""
        records = [
            {"surrogate": result.name} | dict(zip(columns, row, strict=True))
            for result in self.surrogates
            for columns, rows in [encoder_table(result.encoders)]
            for row in rows
        ]
        columns = list(dict.fromkeys(column for record in records for column in record))
        return columns, [[record.get(column, "-") for column in columns] for record in records]

    def summary_sentences(self) -> tuple[str, Sequence[str], Sequence[str]]:
        """Return the heading, the sentences of the answer, and the notes below the table."""
        lines = [note for result in self.surrogates for note in notes(result)]
        return heading(self.source, self.surrogates), [answer(self.surrogates)], lines

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values, which `modgap distortion --json` prints."""
        return to_dict(self.source, self.surrogates, self.request, self.seconds)

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
            from modgap.distortion.result_folder import planned_figures
            from modgap.figures.files import figure_named

            return figure_named(planned_figures(self.surrogates), figure).frame()
        import pandas as pd

        rows = [_frame_row(result, encoder) for result in self.surrogates for encoder in result.encoders]
        return pd.DataFrame(rows)

    def plot(self, surrogate: int | str = 0, ax: "Axes | None" = None) -> "Figure":
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


def _frame_row(result: SurrogateResult, encoder: EncoderResult) -> dict[str, Any]:
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
