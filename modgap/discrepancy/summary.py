"""The answer of a discrepancy in sentences, and its table: one text for the terminal, notebooks and reports."""

import textwrap

from modgap.discrepancy.held_out import NullDistribution
from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.result import Discrepancy, Estimate
from modgap.display.text_table import format_table
from modgap.formatting import count

__all__ = ["COLUMNS", "answer", "heading", "is_significant", "notes", "summary_text", "table_rows"]

SIGNIFICANCE_LEVEL = 0.05
CLASSES_SHOWN = 12
COLUMNS = ("estimator", "held-out error", "95 % CI", "permuted labels", "p", "in-sample error")


def heading(report: DiscrepancyReport) -> str:
    """Return one line with the names of source and target and the sizes of the problem."""
    result = report.result
    names = f"{report.source} on {report.target}" if report.source else report.target
    groups = f" in {count(result.n_groups, 'group')}" if result.n_groups else ""
    classes = f"{result.n_target_classes:,} target classes, {result.n_source_classes:,} source classes"
    return f"{names}: {count(result.n_samples, 'sample')}{groups}, {classes}"


def answer(report: DiscrepancyReport) -> str:
    """Return the answer: the held-out error, what it is compared with, and whether the source shows knowledge."""
    estimate = report.best_estimate
    if estimate is None:
        return "The target has more classes than the source, so only some of them can be compared at a time."
    if estimate.held_out is None:
        return (
            f"The error on all samples is {estimate.solution.value:.3f}. There is no held-out error, because every "
            "class has a single sample or group, so this error does not show what the source knows."
        )
    return f"{_held_out_sentence(report.result, estimate)} {_knowledge_sentence(report, estimate)}"


def _held_out_sentence(result: Discrepancy, estimate: Estimate) -> str:
    interval = estimate.held_out_interval
    shown = f" (95 % CI {interval[0]:.3f}-{interval[1]:.3f})" if interval else ""
    levels = f"the chance level is {result.chance:.3f}"
    if f"{result.prior:.3f}" != f"{result.chance:.3f}":
        levels += f" and the majority-class baseline {result.prior:.3f}"
    return f"The held-out error is {estimate.held_out:.3f}{shown}; {levels}."


def _knowledge_sentence(report: DiscrepancyReport, estimate: Estimate) -> str:
    subject = report.source or "the source"
    null = estimate.held_out_null
    if null is None:
        return "Labels were not permuted, so it is not known whether this could be luck."
    permuted = f"Permuted labels give {null.mean:.3f} (p = {null.p_value:.3g})"
    if is_significant(null):
        return f"{permuted}, so {subject} knows something about these classes."
    smallest = 1 / (null.repeats + 1)
    if smallest > SIGNIFICANCE_LEVEL and null.p_value <= smallest:
        return f"{permuted}, which is the smallest p-value that {null.repeats} permutations can give. Use 19 or more."
    return f"{permuted}, so this does not show that {subject} knows anything about these classes."


def is_significant(null: NullDistribution) -> bool:
    """Return whether the value is lower than expected from permuted labels, at the 5 % level."""
    return null.p_value <= SIGNIFICANCE_LEVEL


def table_rows(report: DiscrepancyReport) -> list[list[str]]:
    """Return one row of cells per estimator; a quantity that was not computed is a dash."""
    return [_row(name, estimate) for name, estimate in report.result.estimates.items()]


def _row(name: str, estimate: Estimate) -> list[str]:
    null = estimate.held_out_null
    interval = estimate.held_out_interval
    return [
        name,
        f"{estimate.held_out:.3f}" if estimate.held_out is not None else "-",
        f"{interval[0]:.3f}-{interval[1]:.3f}" if interval else "-",
        f"{null.mean:.3f} ± {null.sd:.3f}" if null else "-",
        f"{null.p_value:.3f}" if null else "-",
        f"{estimate.solution.value:.3f}",
    ]


def _bounds_lines(report: DiscrepancyReport) -> list[str]:
    """Return a sentence on the certified upper bound if it says something that chance level and baseline do not."""
    result = report.result
    upper = result.upper_bound
    if upper is None or upper >= min(result.chance, result.prior):
        return []
    return [f"Certified without a search: the best map has an error of at most {upper:.3f}."]


def _measure_lines(result: Discrepancy) -> list[str]:
    return [
        f"{measure} of the map of {name}: {value:.4f}"
        for name, estimate in result.estimates.items()
        for measure, value in estimate.measures.items()
    ]


def _k_way_lines(result: Discrepancy) -> list[str]:
    k_way = result.k_way
    if k_way is None:
        return []
    lines = [
        f"{k_way.classes} classes at a time ({k_way.subsets} random choices, {k_way.samples_per_class} samples per "
        f"class; chance level {k_way.chance:.3f}):"
    ]
    for name, estimate in k_way.estimates.items():
        line = f"  {name}: error on all samples {estimate.value:.3f} ({_interval(estimate.interval)})"
        if estimate.held_out is not None and estimate.held_out_interval is not None:
            line += f", held-out error {estimate.held_out:.3f} ({_interval(estimate.held_out_interval)})"
        lines.append(line)
    return lines


def _interval(interval: tuple[float, float]) -> str:
    return f"95 % CI {interval[0]:.3f}-{interval[1]:.3f}"


def _map_lines(report: DiscrepancyReport) -> list[str]:
    pairs = report.best_map()
    if not pairs:
        return []
    shown = "; ".join(f"{target} = {source.split(',')[0]}" for target, source in pairs[:CLASSES_SHOWN])
    rest = f"; and {len(pairs) - CLASSES_SHOWN} more" if len(pairs) > CLASSES_SHOWN else ""
    return [f"Best map ({report.result.best_estimator}): {shown}{rest}"]


def notes(report: DiscrepancyReport) -> list[list[str]]:
    """Return the lines below the table, in paragraphs: remarks, measures, k-way estimates and the best map."""
    result = report.result
    error = "Errors are means over classes." if result.balanced else "Errors are error rates."
    remarks = [f"{error} Lower is better.", *_bounds_lines(report), *report.remarks(), *_measure_lines(result)]
    return [part for part in (remarks, _k_way_lines(result), _map_lines(report)) if part]


def summary_text(report: DiscrepancyReport, width: int = 80) -> str:
    """Return heading, answer, table and notes as text, with the sentences wrapped at a width in characters."""
    table = format_table(COLUMNS, table_rows(report)) if report.result.estimates else ""
    paragraphs = [[heading(report)], [answer(report)], [table] if table else [], *notes(report)]
    return "\n\n".join("\n".join(_wrap(line, width) for line in lines) for lines in paragraphs if lines)


def _wrap(text: str, width: int) -> str:
    if "\n" in text:
        return text
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False, subsequent_indent=_indent(text))


def _indent(text: str) -> str:
    return " " * (len(text) - len(text.lstrip()))
