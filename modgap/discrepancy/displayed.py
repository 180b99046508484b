"""The discrepancy that the public functions return: a report that plots and converts to a data frame."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modgap.answers import Plotted
from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.result import Estimate
from modgap.errors import named

if TYPE_CHECKING:
    import pandas as pd

    from modgap.answers.figures.files import ResultFigure


class DiscrepancyResult(DiscrepancyReport, Plotted):
    """A modality knowledge discrepancy with its names, as `modgap.measure` and `modgap.estimate` return it.

    `print(result)` shows the answer and the table of the command, `result["search"]` is the estimate of one estimator,
    and `result.result` holds all numbers. The attributes are those of `DiscrepancyReport`.
    """

    def __getitem__(self, name: str) -> Estimate:
        """Return the estimate of an estimator.

        Raises:
            UsageError: If there is no such estimate. The message names those that there are.
        """
        return named("estimate", name, self.result.estimates)

    def to_frame(self, figure: str | None = None) -> "pd.DataFrame":
        """Return the estimates as a data frame with one row per estimator, or the data frame that a figure draws.

        The columns of the estimates are `held_out`, `held_out_low`, `held_out_high`, `held_out_null` (mean with
        permuted labels), `p` and `value` (in-sample error), all in [0, 1]; NaN where a quantity was not computed.

        Args:
            figure: Name of a figure: `discrepancy` or `classes`. None for the estimates.

        Raises:
            UsageError: If the result has no figure with this name.
        """
        if figure is not None:
            return self._figure(figure).frame()
        import pandas as pd

        rows = {name: _frame_row(estimate) for name, estimate in self.result.estimates.items()}
        frame = pd.DataFrame.from_dict(rows, orient="index").astype(float)
        return frame.rename_axis("estimator")

    def figures(self) -> "Iterator[ResultFigure]":
        """Yield the figures that the result has, the most important first."""
        from modgap.discrepancy.figures import planned_figures

        return planned_figures(self)


def _frame_row(estimate: Estimate) -> dict[str, Any]:
    low, high = estimate.held_out_interval or (None, None)
    held_out_null = estimate.held_out_null
    return {
        "held_out": estimate.held_out,
        "held_out_low": low,
        "held_out_high": high,
        "held_out_null": held_out_null.mean if held_out_null else None,
        "p": held_out_null.p_value if held_out_null else None,
        "value": estimate.solution.value,
    }
