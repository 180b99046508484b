"""The comparison that `modgap.compare` returns: it prints, plots, and converts to a data frame, CSV and LaTeX."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modgap.answers import Answer, Answered
from modgap.answers.formatting import csv_text
from modgap.answers.latex import PREAMBLE, latex_table
from modgap.errors import named
from modgap.ranking.comparison.answer import comparison_answer
from modgap.ranking.comparison.systems import Comparison
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL
from modgap.storage.json_records import format_json, plain_values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SCHEMA = 1


class ComparisonResult(Answered, Comparison):
    """A comparison of systems, as `modgap.compare` returns it.

    `print(result)` shows the answer and the tables of the command, and `result.main` holds the means, pairs and groups.
    The attributes are those of `Comparison`.
    """

    @cached_property
    def answer(self) -> Answer:
        """The answer, with its verdict, tables and notes."""
        return comparison_answer(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values, with the answer."""
        return {
            "schema": SCHEMA,
            "kind": "comparison",
            "results": self.kind,
            "metric": self.metric,
            "level": SIGNIFICANCE_LEVEL,
            "targets": [one.to_dict() for one in self.targets],
            "over_targets": self.over_targets.to_dict() if self.over_targets else None,
            "answer": self.answer.to_dict(),
        }

    def to_frame(self, figure: str | None = None) -> "pd.DataFrame":
        """Return a data frame with one row for each pair and target, or the data frame that the figure draws.

        Args:
            figure: `comparison` for the frame of the figure. None for the columns of the CSV format.

        Raises:
            UsageError: If there is no such figure.
        """
        if figure is not None:
            from modgap.answers.figures.files import figure_named
            from modgap.ranking.comparison.figure import planned_figure

            return figure_named([planned_figure(self)], figure).frame()
        import pandas as pd

        return pd.DataFrame(_pair_records(self), columns=list(COLUMNS))

    def to_text(self, format: str) -> str:
        """Return the comparison in a format of the command: `table`, `csv`, `json`, `latex` or `markdown`.

        Raises:
            UsageError: If there is no such format.
        """
        return named("format", format, FORMATS)(self)

    def plot(self, ax: "Axes | None" = None) -> "Figure":
        """Return a figure of the systems with their intervals and the groups that are not significantly different.

        Args:
            ax: Axes to draw on. None for a new figure.
        """
        from modgap.ranking.comparison.figure import planned_figure

        return planned_figure(self).draw(ax=ax)


# Formats

COLUMNS = (
    "target", "first", "second", "first_error", "second_error", "difference", "low", "high", "p", "holm_p",
    "significant", "unit", "n_units",
)  # fmt: skip
"""Columns of the CSV format: one row for each pair and target, and one for each pair over all targets."""
OVER_TARGETS = "all targets"


def _pair_records(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield one record for each pair, with those over targets first."""
    parts = [*([comparison.over_targets] if comparison.over_targets else []), *comparison.targets]
    for part, pair in [(one, pair) for one in parts for pair in one.pairs]:
        low, high = pair.difference.interval or (None, None)
        yield {
            "target": OVER_TARGETS if part.target is None else part.target,
            "first": pair.first,
            "second": pair.second,
            "first_error": part.mean_of(pair.first),
            "second_error": part.mean_of(pair.second),
            "difference": pair.difference.value,
            "low": low,
            "high": high,
            "p": pair.difference.p_value,
            "holm_p": pair.corrected_p_value,
            "significant": pair.differs if pair.corrected_p_value is not None else None,
            "unit": part.unit,
            "n_units": part.n_units,
        }


def _to_csv(comparison: ComparisonResult) -> str:
    """Return one row for each pair and target as CSV.

    A name that a spreadsheet would run as a formula has an apostrophe before it.
    """
    rows = [[_csv_cell(record[name]) for name in COLUMNS] for record in _pair_records(comparison)]
    return csv_text([COLUMNS, *rows])


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else value


def _to_latex(comparison: ComparisonResult) -> str:
    """Return the table of the systems and that of the pairs as LaTeX, which needs the package booktabs."""
    answer = comparison.answer
    systems, pairs = answer.tables
    differences = " ".join(["Paired differences of the errors.", *answer.notes])
    return "\n".join(
        [
            PREAMBLE,
            latex_table(systems, f"{', '.join(answer.facts)}. {' '.join(answer.sentences)}", "systems"),
            latex_table(pairs, differences, "differences"),
            "",
        ]
    )


def _to_markdown(comparison: ComparisonResult) -> str:
    """Return the answer, the tables and the notes as Markdown."""
    answer = comparison.answer
    parts = [_escape_markdown(" ".join(answer.sentences))]
    for table in answer.tables:
        columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
        numeric = [bool(column) and all(cell.strip()[:1] in "-−–<0123456789" for cell in column) for column in columns]
        rule = ["---:" if is_numeric and i else "---" for i, is_numeric in enumerate(numeric)]
        head, *rows = ([_escape_markdown(cell) for cell in line] for line in (table.columns, *table.rows))
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows)))
    return "\n\n".join([*parts, *(_escape_markdown(line) for line in answer.notes)]) + "\n"


def _escape_markdown(text: str) -> str:
    """Escape the characters that Markdown, or HTML in it, would take for markup."""
    escaped = "".join(f"\\{character}" if character in "\\`*_{}[]|#~$" else character for character in text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


FORMATS: Mapping[str, Callable[[ComparisonResult], str]] = {
    "table": lambda comparison: f"{comparison.summary()}\n",
    "csv": _to_csv,
    "json": lambda comparison: f"{format_json(plain_values(comparison.to_dict()))}\n",
    "latex": _to_latex,
    "markdown": _to_markdown,
}
"""Formatter of each format, by name; every text ends with a line break."""
