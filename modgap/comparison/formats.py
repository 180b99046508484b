"""A comparison as CSV, JSON and Markdown, and by the name of a format."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from modgap.answers.latex import PREAMBLE, latex_table
from modgap.answers.text import answer_text
from modgap.comparison.answer import comparison_answer
from modgap.comparison.result import Comparison, SystemsComparison
from modgap.formatting import csv_text
from modgap.storage.json_records import format_json, plain_values

__all__ = ["COLUMNS", "FORMATS", "pair_records", "to_csv", "to_json", "to_latex", "to_markdown"]

COLUMNS = (
    "target", "first", "second", "first_error", "second_error", "difference", "low", "high", "p", "holm_p",
    "significant", "unit", "n_units",
)  # fmt: skip
"""Columns of the CSV format: one row for each pair and target, and one for each pair over all targets."""
OVER_TARGETS = "all targets"


def pair_records(comparison: Comparison) -> list[dict[str, Any]]:
    """Return one record for each pair, with those over targets first."""
    parts = [comparison.over_targets] if comparison.over_targets else []
    return [record for part in [*parts, *comparison.targets] for record in _records(part)]


def _records(part: SystemsComparison) -> Iterator[dict[str, Any]]:
    for pair in part.pairs:
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


def to_csv(comparison: Comparison) -> str:
    """Return one row for each pair and target as CSV.

    A name that a spreadsheet would run as a formula has an apostrophe before it.
    """
    rows = [[_csv_cell(record[name]) for name in COLUMNS] for record in pair_records(comparison)]
    return csv_text([COLUMNS, *rows])


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else value


def to_json(comparison: Comparison) -> str:
    """Return the comparison as one strict JSON document."""
    record = {**comparison.to_dict(), "answer": comparison_answer(comparison).to_dict()}
    return format_json(plain_values(record)) + "\n"


def to_latex(comparison: Comparison) -> str:
    """Return the table of the systems and that of the pairs as LaTeX, which needs the package booktabs."""
    answer = comparison_answer(comparison)
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


def to_markdown(comparison: Comparison) -> str:
    """Return the answer, the tables and the notes as Markdown."""
    answer = comparison_answer(comparison)
    parts = [_escape_markdown(" ".join(answer.sentences))]
    parts += [_markdown_table(table.columns, table.rows) for table in answer.tables]
    return "\n\n".join([*parts, *(_escape_markdown(line) for line in answer.notes)]) + "\n"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    numeric = [bool(rows) and all(row[i].strip()[:1] in "-−–<0123456789" for row in rows) for i in range(len(columns))]
    rule = ["---:" if is_numeric and i else "---" for i, is_numeric in enumerate(numeric)]
    lines = [columns, rule, *([_escape_markdown(cell) for cell in row] for row in rows)]
    lines[0] = [_escape_markdown(column) for column in columns]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape_markdown(text: str) -> str:
    """Escape the characters that Markdown, or HTML in it, would take for markup."""
    escaped = "".join(f"\\{character}" if character in "\\`*_{}[]|#~$" else character for character in text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    "table": lambda comparison: answer_text(comparison_answer(comparison)) + "\n",
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
    "markdown": to_markdown,
}
"""Formatter of each format, by name; every text ends with a line break."""
