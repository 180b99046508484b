"""The answer of a discrepancy in sentences, and its table: one text for the terminal, notebooks and reports."""

import textwrap

from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.result import Discrepancy, Estimate
from modgap.discrepancy.verdict import answer as verdict_answer
from modgap.discrepancy.verdict import evidence_of_record
from modgap.display.text_table import format_table
from modgap.formatting import count

__all__ = ["COLUMNS", "answer", "heading", "notes", "summary_text", "table_rows"]

CLASSES_SHOWN = 12
COLUMNS = ("estimator", "held-out error", "95 % CI", "permuted", "p", "in-sample")
ERRORS_ARE = {
    "samples": "Errors are error rates.",
    "groups": "Every group counts equally in an error.",
    "classes": "Errors are means over classes.",
}


def heading(report: DiscrepancyReport) -> str:
    """Return one line with the names of source and target and the sizes of the problem."""
    result = report.result
    names = f"{report.source} on {report.target}" if report.source else report.target
    groups = f" in {count(result.n_groups, 'group')}" if result.n_groups else ""
    split = (report.provenance.get("samples") or {}).get("split")
    samples = f"{count(result.n_samples, 'sample')}{f' ({split} split)' if split not in (None, 'all') else ''}"
    classes = f"{result.n_target_classes:,} target classes, {result.n_source_classes:,} source classes"
    return f"{names}: {samples}{groups}, {classes}"


def answer(report: DiscrepancyReport) -> str:
    """Return the answer: the held-out error, what it is compared with, and what this shows."""
    return verdict_answer(evidence_of_record(report.to_dict()))


def table_rows(report: DiscrepancyReport) -> list[list[str]]:
    """Return one row of cells per estimator and one for the control; a quantity that was not computed is a dash."""
    rows = [_row(name, estimate) for name, estimate in report.result.estimates.items()]
    control = report.result.control
    if control:
        shown = _interval_text(control.interval)
        rows.append([f"control ({control.estimator})", f"{control.held_out:.3f}", shown, "-", "-", "-"])
    return rows


def _row(name: str, estimate: Estimate) -> list[str]:
    null = estimate.held_out_null
    return [
        name,
        f"{estimate.held_out:.3f}" if estimate.held_out is not None else "-",
        _interval_text(estimate.held_out_interval),
        f"{null.mean:.3f} ± {null.sd:.3f}" if null else "-",
        f"{null.p_value:.3f}" if null else "-",
        f"{estimate.solution.value:.3f}",
    ]


def _interval_text(interval: tuple[float, float] | None) -> str:
    return f"{interval[0]:.3f}-{interval[1]:.3f}" if interval else "-"


def _bounds_lines(report: DiscrepancyReport) -> list[str]:
    """Return a sentence on the certified upper bound if neither a found map nor chance level or baseline is as low."""
    result = report.result
    upper = result.upper_bound
    found = [estimate.solution.value for name, estimate in result.estimates.items() if not name.startswith("soft")]
    if upper is None or upper >= min(result.chance, result.prior, *found):
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
        f"{k_way.classes} classes at a time ({k_way.choices} random choices, maps fitted on {k_way.per_class} samples "
        f"per class; chance level {k_way.chance:.3f}):"
    ]
    for name, estimate in k_way.estimates.items():
        parts = []
        if estimate.held_out is not None:
            parts.append(f"held-out error {estimate.held_out:.3f}{_interval(estimate.held_out_interval)}")
        if estimate.value is not None:
            parts.append(f"error on all samples {estimate.value:.3f}{_interval(estimate.interval)}")
        lines.append(f"  {name}: {', '.join(parts)}")
    return lines


def _interval(interval: tuple[float, float] | None) -> str:
    return f" (95 % CI {interval[0]:.3f}-{interval[1]:.3f})" if interval else ""


def _map_lines(report: DiscrepancyReport) -> list[str]:
    pairs = report.best_map()
    if not pairs:
        return []
    shown = "; ".join(f"{target} = {source.split(',')[0]}" for target, source in pairs[:CLASSES_SHOWN])
    rest = f"; and {len(pairs) - CLASSES_SHOWN} more" if len(pairs) > CLASSES_SHOWN else ""
    return [f"Best map ({report.result.best_estimator}): {shown}{rest}"]


def _splits_sentence(result: Discrepancy) -> str:
    if not result.splits:
        return "No samples were held out."
    fitted = f"{result.per_class} samples per class" if result.per_class else "one half of the samples"
    groups = " Splits and permutations take the groups into account." if result.n_groups else ""
    are_means = "come from 1 split" if result.splits == 1 else f"are means over {result.splits:,} splits"
    return f"Held-out errors {are_means}; maps are fitted on {fitted}.{groups}"


def _confidence_lines(result: Discrepancy) -> list[str]:
    """Return the entropy, LEEP and learning curve, if the soft error was computed."""
    lines = []
    if result.relative_entropy is not None:
        lines.append(f"Mean entropy of the source's output: {result.relative_entropy:.2f} of its maximum, log C.")
    if result.leep is not None:
        interval = result.leep_interval
        shown = f" (95 % CI {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        lines.append(f"Cross-validated LEEP: {result.leep:.3f} nats{shown}; higher is better.")
    if result.learning_curve:
        points = ", ".join(f"{point.held_out:.3f} ({point.per_class})" for point in result.learning_curve)
        lines.append(f"Soft held-out error by samples per class: {points}.")
    return lines


def notes(report: DiscrepancyReport) -> list[list[str]]:
    """Return the lines below the table, in paragraphs: remarks, measures, k-way estimates and the best map."""
    result = report.result
    remarks = [
        f"{ERRORS_ARE[result.weighting]} Lower is better. {_splits_sentence(result)}",
        *_bounds_lines(report),
        *report.remarks(),
        *_measure_lines(result),
        *_confidence_lines(result),
    ]
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
