"""The answer of a discrepancy in sentences, and its table: one text for the terminal, notebooks and reports."""

import textwrap

from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.result import Discrepancy, Estimate
from modgap.display.text_table import format_table
from modgap.formatting import count
from modgap.statistics.intervals import MIN_UNITS
from modgap.statistics.permutations import NullDistribution, smallest_p_value

__all__ = [
    "COLUMNS",
    "SIGNIFICANCE_LEVEL",
    "answer",
    "control_sentence",
    "heading",
    "is_significant",
    "knowledge_sentence",
    "notes",
    "summary_text",
    "table_rows",
]

SIGNIFICANCE_LEVEL = 0.05
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
    """Return the answer: the held-out error, what it is compared with, and whether the source shows knowledge."""
    estimate = report.best_estimate
    if estimate is None:
        return "The target has more classes than the source, so only some of them can be compared at a time."
    if estimate.held_out is None:
        return _in_sample_sentence(report, estimate)
    sentences = [
        _held_out_sentence(report.result, estimate),
        knowledge_sentence(report),
        control_sentence(report),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _in_sample_sentence(report: DiscrepancyReport, estimate: Estimate) -> str:
    error = f"The error on all samples is {estimate.solution.value:.3f}."
    if report.result.tested_samples is None and report.result.splits:
        return (
            f"{error} There is no held-out error, because fewer than two classes have two samples or groups, so this "
            "error does not show what the source knows."
        )
    return f"{error} It is too low, because the map was chosen on the same samples."


def _held_out_sentence(result: Discrepancy, estimate: Estimate) -> str:
    interval = estimate.held_out_interval
    shown = f" (95 % CI {interval[0]:.3f}-{interval[1]:.3f})" if interval else ""
    name = "soft held-out error" if result.best_estimator == "soft" else "held-out error"
    levels = f"the chance level is {result.chance:.3f}"
    if f"{result.prior:.3f}" != f"{result.chance:.3f}":
        levels += f" and the majority-class baseline {result.prior:.3f}"
    sentence = f"The {name} is {estimate.held_out:.3f}{shown}; {levels}."
    if interval is None and result.n_groups is not None and result.n_groups < MIN_UNITS:
        sentence += f" There is no interval, because {count(result.n_groups, 'group')} are too few (at least 8)."
    return sentence


def knowledge_sentence(report: DiscrepancyReport) -> str:
    """Return what the permutation test says of the source, in one sentence."""
    subject = report.source or "the source"
    result = report.result
    null = result.null
    if null is None:
        return "Labels were not permuted, so it is not known whether this could be luck."
    permuted = f"{_permuted_values(result, null)} (p = {null.p_value:.2g})"
    if is_significant(null):
        return f"{permuted}, so {subject} knows something about these classes."
    smallest = smallest_p_value(null.requested)
    if smallest > SIGNIFICANCE_LEVEL and null.p_value <= smallest:
        return f"{permuted}, which is the smallest p-value that {null.requested} permutations can give. Use 19 or more."
    return f"{permuted}, so this does not show that {subject} knows anything about these classes."


def _permuted_values(result: Discrepancy, null: NullDistribution) -> str:
    """Return the means with permuted labels, of the 0-1 error and of the error that the test is made with."""
    if result.permutations_for != "soft":
        return f"Permuted labels give {null.mean:.3f}"
    soft = result.estimates["soft"].held_out
    if result.best_estimator == "soft":
        return f"Permuted labels give {null.mean:.3f}"
    level = f"With permuted labels it is {result.permuted_error:.3f}" if result.permuted_error is not None else ""
    return f"{level}, and the soft error is {null.mean:.3f} where the real labels give {soft:.3f}"


def control_sentence(report: DiscrepancyReport) -> str:
    """Return the comparison with the random-weights control in one sentence; empty without a control."""
    control = report.result.control
    if control is None:
        return ""
    difference = control.difference
    named = "one random initialization" if control.n == 1 else f"{control.n} random initializations"
    shown = f"The random-weights control ({named}) has {control.held_out:.3f}"
    if difference.interval is None or difference.p_value is None:
        return f"{shown}; there are too few groups to compare them."
    change = f"{difference.value:+.3f}, 95 % CI {difference.interval[0]:+.3f} to {difference.interval[1]:+.3f}"
    p_value = f"p = {difference.p_value:.2g}" if difference.p_value >= 0.001 else "p < 0.001"
    if difference.p_value > SIGNIFICANCE_LEVEL:
        return f"{shown}, which is not significantly different ({change}; {p_value})."
    verdict = "pretraining helps" if difference.value < 0 else "the control is better"
    return f"{shown}, so {verdict} (difference {change}; {p_value})."


def is_significant(null: NullDistribution) -> bool:
    """Return whether the value is lower than expected from permuted labels, at the 5 % level."""
    return null.p_value <= SIGNIFICANCE_LEVEL


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
    return f"Held-out errors are means over {result.splits} splits; maps are fitted on {fitted}.{groups}"


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
