"""The comparison that `modgap.compare` returns: it prints, plots, and converts to a data frame and to LaTeX."""

from functools import cached_property
from typing import TYPE_CHECKING

from modgap.answers import Answer, Answered
from modgap.comparison.answer import comparison_answer
from modgap.comparison.formats import COLUMNS, FORMATS, pair_records
from modgap.comparison.result import Comparison
from modgap.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ComparisonResult"]


class ComparisonResult(Answered, Comparison):
    """A comparison of systems, as `modgap.compare` returns it.

    `print(result)` shows the answer and the tables of the command, and `result.main` holds the means, pairs and groups.
    The attributes are those of `Comparison`.
    """

    @classmethod
    def from_comparison(cls, comparison: Comparison) -> "ComparisonResult":
        """Return a comparison as a result that prints itself."""
        return cls(comparison.kind, comparison.metric, comparison.targets, comparison.over_targets)

    @cached_property
    def answer(self) -> Answer:
        """The answer, with its verdict, tables and notes."""
        return comparison_answer(self)

    def to_frame(self, figure: str | None = None) -> "pd.DataFrame":
        """Return a data frame with one row for each pair and target, or the data frame that the figure draws.

        Args:
            figure: `comparison` for the frame of the figure. None for the columns of the CSV format.

        Raises:
            UsageError: If there is no such figure.
        """
        if figure is not None:
            from modgap.comparison.figure import planned_figure
            from modgap.figures.files import figure_named

            return figure_named([planned_figure(self)], figure).frame()
        import pandas as pd

        return pd.DataFrame(pair_records(self), columns=list(COLUMNS))

    def to_text(self, format: str) -> str:
        """Return the comparison in a format of the command: `table`, `csv`, `json`, `latex` or `markdown`.

        Raises:
            UsageError: If there is no such format.
        """
        if format not in FORMATS:
            raise unknown_name("format", format, FORMATS)
        return FORMATS[format](self)

    def plot(self, ax: "Axes | None" = None) -> "Figure":
        """Return a figure of the systems with their intervals and the groups that are not significantly different.

        Args:
            ax: Axes to draw on. None for a new figure.
        """
        from modgap.comparison.figure import planned_figure

        return planned_figure(self).draw(ax=ax)
