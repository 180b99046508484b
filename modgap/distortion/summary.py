"""The answer of a distortion in sentences, and its tables: one text for the terminal and for notebooks."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from modgap.display.text_table import format_table
from modgap.distortion.display_names import display_name
from modgap.distortion.measurement import EncoderResult, SurrogateResult
from modgap.distortion.report import encoder_table, grid_cells
from modgap.formatting import count
from modgap.statistics.multiple_comparisons import holm

__all__ = ["TitledTable", "answer", "corrected_p_values", "heading", "notes", "summary_text", "tables"]

SIGNIFICANCE_LEVEL = 0.05


@dataclass(frozen=True)
class TitledTable:
    """A table as text.

    Attributes:
        title: Sentence above the table.
        columns: Headings of the columns.
        rows: Cells of each row.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def heading(source: str, results: Sequence[SurrogateResult]) -> str:
    """Return one line with the source, the number of encoders and the surrogates.

    Args:
        source: Name of the source.
        results: Results on each surrogate.
    """
    names = " and ".join(_short_name(result) for result in results)
    return f"Knowledge of {source}: {count(len(results[0].encoders), 'encoder')} on {names}"


def answer(results: Sequence[SurrogateResult]) -> str:
    """Return the answer: whether training lost source knowledge, and how much at most.

    The p-values are corrected by Holm for the number of trained encoders on all surrogates.

    Args:
        results: Results on each surrogate.
    """
    trained = [(result, encoder) for result in results for encoder in result.encoders if encoder.encoder.run]
    if not trained:
        return f"No run was measured, so this does not show a loss. {_untouched_sentence(results[0])}"
    p_values = corrected_p_values([_p_value_of(encoder) for _, encoder in trained])
    tested = [(result, encoder, p_value) for (result, encoder), p_value in zip(trained, p_values, strict=True)]
    lost = [comparison for comparison in tested if _loses(comparison[1], comparison[2])]
    result, encoder, p_value = max(lost or tested, key=lambda one: _difference(one[1]))
    n_tests = sum(value is not None for value in p_values)
    comparison = _comparison_sentence(result, encoder, _p_value(p_value, n_tests), "significant " if lost else "")
    if not lost:
        return f"No significant loss of source knowledge was measured. {comparison}"
    share = f" {len(lost)} of {count(len(trained), 'comparison')} show a significant loss." if len(trained) > 1 else ""
    return f"Training loses source knowledge.{share} {comparison}"


def corrected_p_values(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected by Holm for their number; None where there was no test, which does not count."""
    corrected = holm([math.nan if value is None else value for value in p_values])
    return [None if math.isnan(value) else float(value) for value in corrected]


def _p_value_of(encoder: EncoderResult) -> float | None:
    return None if encoder.difference is None else encoder.difference.p_value


def _difference(encoder: EncoderResult) -> float:
    return -math.inf if encoder.difference is None else encoder.difference.value


def _loses(encoder: EncoderResult, p_value: float | None) -> bool:
    return p_value is not None and p_value <= SIGNIFICANCE_LEVEL and _difference(encoder) > 0


def _short_name(result: SurrogateResult) -> str:
    return PurePath(result.name).name or result.name


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" (95 % CI {interval[0]:.3f} to {interval[1]:.3f})"


def _p_value(p_value: float | None, n_tests: int) -> str:
    if p_value is None:
        return ""
    text = f", with p = {p_value:.2g}" if p_value >= 0.001 else ", with p < 0.001"
    return f"{text}, corrected by Holm for {n_tests} comparisons" if n_tests > 1 else text


def _untouched_sentence(result: SurrogateResult) -> str:
    probe = result.encoders[0].first_probe
    return (
        f"The error of the {display_name(probe.name)} probe of {result.encoders[0].label} on {_short_name(result)} is "
        f"{probe.value:.3f}{_interval(probe.interval)}."
    )


def _comparison_sentence(result: SurrogateResult, encoder: EncoderResult, p_value: str, kind: str) -> str:
    probe = encoder.first_probe
    difference = encoder.difference
    assert difference is not None
    return (
        f"The largest {kind}difference is that of {encoder.label}: the error of its {display_name(probe.name)} probe "
        f"on {_short_name(result)} is {probe.value:.3f}, which minus that of the untouched encoder is "
        f"{difference.value:+.3f}{_interval(difference.interval)}{p_value}."
    )


def tables(result: SurrogateResult) -> list[TitledTable]:
    """Return the tables of one surrogate: encoders, means over seeds, and few-shot errors, where they were measured."""
    title = (
        f"{result.name}: fitted on {result.training_samples:,} samples, tested on {result.test_samples:,}, "
        f"in {result.encoders[0].first_probe.repeats} repeats of three-fold cross-validation. "
        f"Majority-class baseline error {result.baseline_error:.3f}. A lower error means that more knowledge is left."
    )
    return [TitledTable(title, *encoder_table(result.encoders)), *_seed_table(result), *_few_shot_table(result)]


def _seed_table(result: SurrogateResult) -> Iterator[TitledTable]:
    """Yield the table of means over seeds, if a run was repeated with several seeds."""
    cells = grid_cells(result.encoders)
    if not any(cell.seeds > 1 for cell in cells):
        return
    columns = ["target", "method", "epoch", "error", "95 % CI over seeds", "seeds"]
    rows = [
        [
            cell.target,
            cell.method,
            str(cell.epoch),
            f"{cell.mean:.3f}",
            f"{cell.interval[0]:.3f} to {cell.interval[1]:.3f}" if math.isfinite(cell.interval[0]) else "-",
            str(cell.seeds),
        ]
        for cell in cells
    ]
    yield TitledTable(f"{result.name}: runs over seeds", columns, rows)


def _few_shot_table(result: SurrogateResult) -> Iterator[TitledTable]:
    curves = {encoder.label: encoder.few_shot for encoder in result.encoders if encoder.few_shot}
    if not curves:
        return
    shots = next(iter(curves.values())).shots
    rows = [
        [label, *(f"{mean:.3f} ± {sd:.3f}" for mean, sd in zip(curve.mean, curve.sd, strict=True))]
        for label, curve in curves.items()
    ]
    title = f"{result.name}: error by the number of training samples per class (mean and SD of 5 draws)"
    yield TitledTable(title, ["encoder", *map(str, shots)], rows)


def notes(result: SurrogateResult) -> list[str]:
    """Return the notes of all probes as sentences, each with the probes and encoders that it is about."""
    subjects: dict[str, list[str]] = {}
    for encoder in result.encoders:
        for name, probe in encoder.probes.items():
            for note in probe.notes:
                subjects.setdefault(note, []).append(f"the {name} probe of {encoder.label}")
    return [f"Note on {' and '.join(names)}: {note}" for note, names in subjects.items()]


def summary_text(source: str, results: Sequence[SurrogateResult], width: int = 80) -> str:
    """Return heading, answer, tables and notes as text, with the sentences wrapped.

    Args:
        source: Name of the source.
        results: Results on each surrogate.
        width: Number of characters at which sentences are wrapped.
    """
    paragraphs = [heading(source, results), answer(results)]
    for result in results:
        for table in tables(result):
            paragraphs += [f"{_wrap(table.title, width)}\n\n{format_table(table.columns, table.rows)}"]
        paragraphs += notes(result)
    return "\n\n".join(text if "\n" in text else _wrap(text, width) for text in paragraphs)


def _wrap(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
