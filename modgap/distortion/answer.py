"""The answer of a distortion: whether training lost source knowledge, and how much at most, with its tables."""

import math
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from modgap.answers import FAIL, INFO, PASS, WARN, Answer, Curve, Mark, Table, Verdict
from modgap.answers.formatting import confidence_interval, format_interval, format_p_value, known_interval, p_value_text
from modgap.distortion.grid import display_name, grid_cells, starts_from_source
from modgap.distortion.measurement import EncoderResult, SurrogateResult
from modgap.distortion.probe_cross_validation import FewShotCurve
from modgap.errors import count, visible_name
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL, holm
from modgap.storage.json_records import Record

IS_SIGNIFICANT = "Is the loss significant?"
HOW_LARGE = "How large is the largest difference?"


def answer_of_record(record: Record) -> Answer:
    """Return the answer of a record that `modgap distortion --json` prints, of any version, without its tables."""
    surrogates = record["surrogates"]
    encoders = len(surrogates[0]["encoders"])
    headline, verdicts = _findings(surrogates)
    return Answer(
        question=f"How much knowledge of {visible_name(record['source'])} is lost by training on the target?",
        facts=(
            count(encoders, "encoder"),
            *(f"{_surrogate_name(one)}: {count(one['test_samples'], 'test sample')}" for one in surrogates),
            "probe error (lower is better)",
        ),
        headline=headline,
        verdicts=verdicts,
    )


def _surrogate_name(surrogate: Record) -> str:
    return visible_name(PurePath(surrogate["name"]).name or surrogate["name"])


def _first_probe(encoder: Record) -> tuple[str, float, tuple[float, float] | None]:
    """Return the name, the error and the interval of the first probe of an encoder."""
    name, probe = next(iter(encoder["probes"].items()))
    return name, probe["value"], known_interval(probe["interval"])


def _findings(surrogates: Sequence[Record]) -> tuple[str, tuple[Verdict, ...]]:
    """Return the headline and the verdicts."""
    compared = [(one, encoder) for one in surrogates for encoder in one["encoders"] if encoder["run"]]
    compared = [(one, encoder) for one, encoder in compared if encoder["difference"]]
    trained = [(one, encoder) for one, encoder in compared if starts_from_source(encoder.get("method") or "")]
    if not trained:
        name, error, interval = _first_probe(surrogates[0]["encoders"][0])
        first = visible_name(surrogates[0]["encoders"][0]["encoder"])
        text = (
            f"No fine-tuned encoder was compared with the untouched one. The error of the {display_name(name)} probe "
            f"of {first} on {_surrogate_name(surrogates[0])} is {error:.3f}{confidence_interval(interval)}."
        )
        model = "model that starts from the source" if compared else "trained model"
        verdict = Verdict(IS_SIGNIFICANT, "Not tested", INFO, f"{text} Pass the folder of a {model} to --run.")
        runs = "run that starts from the source" if compared else "run"
        return f"No {runs} was measured, so this does not show a loss.", (verdict,)
    differences = [encoder["difference"] for _, encoder in trained]
    # P-values are corrected for the number of comparisons. NaN stands for a comparison without a test.
    raw = [math.nan if one.get("p_value") is None else one["p_value"] for one in differences]
    p_values = [float(p_value) for p_value in holm(raw)]
    is_loss = [p <= SIGNIFICANCE_LEVEL and one["value"] > 0 for p, one in zip(p_values, differences, strict=True)]
    losses = [number for number, is_one in enumerate(is_loss) if is_one]
    n_losses, n_compared = len(losses), len(trained)
    n_tests = sum(not math.isnan(p_value) for p_value in p_values)
    headline = "No significant loss of source knowledge was measured."
    if losses and n_losses == n_compared:
        headline = "Training loses source knowledge."
    elif losses:
        headline = f"Training loses source knowledge: {n_losses} of {n_compared} comparisons show a significant loss."
    uncounted = " Runs from scratch have no source knowledge to lose, and do not count." if compared != trained else ""
    corrected = f", corrected by Holm for {n_tests} comparisons" if n_tests > 1 else ""
    text = (
        f"{n_losses} of {count(n_compared, 'comparison')} with the untouched encoder "
        f"{'shows' if n_compared == 1 else 'show'} a significantly higher probe error (paired over splits and samples "
        f"or groups, at the 5 % level{corrected}).{uncounted}"
    )
    significance = Verdict(IS_SIGNIFICANT, *(("Yes", FAIL) if losses else ("Not shown", INFO)), text)
    number = max(losses or range(n_compared), key=lambda one: differences[one]["value"])
    (surrogate, encoder), p_value = trained[number], p_values[number]
    name, error, _ = _first_probe(encoder)
    value, interval = differences[number]["value"], known_interval(differences[number].get("interval"))
    p_text = ", too few groups for a p-value" if math.isnan(p_value) else f", with {p_value_text(p_value)}{corrected}"
    text = (
        f"The largest {'significant ' if losses else ''}difference is that of {visible_name(encoder['encoder'])}: the "
        f"error of its {display_name(name)} probe on {_surrogate_name(surrogate)} is {error:.3f}, which minus that of "
        f"the untouched encoder is {value:+.3f}{confidence_interval(interval)}{p_text}."
    )
    status = WARN if is_loss[number] else PASS if interval is not None and interval[1] <= 0 else INFO
    return headline, (significance, Verdict(HOW_LARGE, f"{value:+.3f}".replace("-", "−"), status, text))


def tables(result: SurrogateResult) -> Iterator[Table]:
    """Yield the tables of one surrogate: encoders, means over seeds, and few-shot errors, where they were measured."""
    title = (
        f"{result.name}: fitted on {result.training_samples:,} samples, tested on {result.test_samples:,}, "
        f"in {result.encoders[0].first_probe.repeats} repeats of three-fold cross-validation. "
        f"Majority-class baseline error {result.baseline_error:.3f}. A lower error means that more knowledge is left."
    )
    untouched = [one.first_probe.value for one in result.encoders if one.difference is None]
    probes = [(one.first_probe, one.encoder.run is None) for one in result.encoders]
    marks = [Mark(probe.value, probe.interval, is_reference=is_other) for probe, is_other in probes]
    yield Table(
        *encoder_table(result.encoders),
        title,
        "The dashed line is the untouched encoder. Squares are encoders that no run trained.",
        marks,
        untouched[0] if untouched else None,
    )
    yield from _seed_table(result)
    yield from _few_shot_table(result)


def _seed_table(result: SurrogateResult) -> Iterator[Table]:
    """Yield the table of means over seeds, if a run was repeated with several seeds."""
    cells = grid_cells(result.encoders)
    if not any(cell.seeds > 1 for cell in cells):
        return
    rows = [
        [
            cell.target,
            cell.method,
            str(cell.epoch),
            f"{cell.mean:.3f}",
            format_interval(cell.interval if math.isfinite(cell.interval[0]) else None),
            str(cell.seeds),
        ]
        for cell in cells
    ]
    columns = ("target", "method", "epoch", "error", "95 % CI over seeds", "seeds")
    yield Table(columns, rows, f"{result.name}: runs over seeds")


def _few_shot_table(result: SurrogateResult) -> Iterator[Table]:
    curves = {encoder.label: encoder.few_shot for encoder in result.encoders if encoder.few_shot}
    if not curves:
        return
    shots = next(iter(curves.values())).shots
    highest = max(max(max(draws) for draws in curve.errors) for curve in curves.values()) or 1.0
    rows = [
        [label, *(f"{mean:.3f} ± {sd:.3f}" for mean, sd in zip(curve.mean, curve.sd, strict=True))]
        for label, curve in curves.items()
    ]
    title = f"{result.name}: error by the number of training samples per class (mean and SD of 5 draws)"
    note = (
        f"The band spans the draws and is no interval. Each curve goes from 0 to {highest:.3f} and has a logarithmic "
        "horizontal axis."
    )
    drawn = [_few_shot_curve(curve, highest) for curve in curves.values()]
    yield Table(["encoder", *map(str, shots)], rows, title, note, curves=drawn)


def _few_shot_curve(curve: FewShotCurve, highest: float) -> Curve:
    logs = [math.log(shots) for shots in curve.shots]
    span = (logs[-1] - logs[0]) or 1.0
    return Curve(
        [(one - logs[0]) / span for one in logs],
        [mean / highest for mean in curve.mean],
        [(min(draws) / highest, max(draws) / highest) for draws in curve.errors],
    )


def notes(result: SurrogateResult) -> list[str]:
    """Return the notes of all probes as sentences, each with the probes and encoders that it is about."""
    subjects: dict[str, list[str]] = {}
    for encoder in result.encoders:
        for name, probe in encoder.probes.items():
            for note in probe.notes:
                subjects.setdefault(note, []).append(f"the {name} probe of {encoder.label}")
    return [f"Note on {' and '.join(names)}: {note}" for note, names in subjects.items()]


def encoder_table(results: Sequence[EncoderResult]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and rows of a table with one row for each encoder.

    Its columns are the error rate of each probe, the difference to the untouched encoder and the similarity to it.

    Args:
        results: Results on one surrogate.
    """
    probes = list(results[0].probes)
    measures = list(dict.fromkeys(name for result in results for name in result.similarity))
    has_f1 = any(probe.entity_f1 for result in results for probe in result.probes.values())
    heads = [
        "encoder",
        f"{display_name(probes[0])} error",
        "95 % CI of error",
        "minus untouched",
        "95 % CI of difference",
        "p",
        *(f"{display_name(name)} error" for name in probes[1:]),
        *(["entity F1"] if has_f1 else []),
        *(display_name(name) for name in measures),
    ]
    return heads, [list(_table_row(result, measures, has_f1)) for result in results]


def _table_row(result: EncoderResult, measures: Sequence[str], has_f1: bool) -> Iterator[str]:
    first, *others = result.probes.values()
    yield from (result.label, f"{first.value:.3f}", format_interval(first.interval))
    difference = result.difference
    if difference is None:
        yield from ("-", "-", "-")
    else:
        yield f"{difference.value:+.3f}"
        yield from (format_interval(difference.interval), format_p_value(difference.p_value))
    yield from (f"{other.value:.3f}" for other in others)
    if has_f1:
        yield f"{first.entity_f1.value:.3f}" if first.entity_f1 else "-"
    for name in measures:
        layers = list(result.similarity.get(name, {}).values())
        yield f"{layers[-1].value:.3f}" if layers else "-"
