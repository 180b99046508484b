"""The answer of a distortion: whether training lost source knowledge, and how much at most, with its tables."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from modgap.answers import FAIL, INFO, PASS, WARN, Answer, Curve, Mark, Table, Verdict
from modgap.answers.formatting import confidence_interval, format_interval, p_value_text
from modgap.distortion.grid import display_name, encoder_table, grid_cells
from modgap.distortion.measurement import SurrogateResult
from modgap.distortion.probe_cross_validation import FewShotCurve
from modgap.errors import count, visible_name
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL, holm

IS_SIGNIFICANT = "Is the loss significant?"
HOW_LARGE = "How large is it at most?"


@dataclass(frozen=True)
class Comparison:
    """Probe error of a trained encoder beside that of the untouched one.

    Attributes:
        surrogate: Name of the surrogate as shown.
        encoder: Name of the encoder as shown.
        probe: Name of the probe.
        error: Error of the probe.
        difference: Its error minus that of the untouched encoder.
        interval: 95 % interval of the difference; None if it is unknown.
        p_value: Two-sided p-value, corrected by Holm for all comparisons; None without a test.
    """

    surrogate: str
    encoder: str
    probe: str
    error: float
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None

    @property
    def is_loss(self) -> bool:
        """True if knowledge was significantly lost."""
        return self.p_value is not None and self.p_value <= SIGNIFICANCE_LEVEL and self.difference > 0


def answer_of_record(record: Mapping[str, Any]) -> Answer:
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


def _surrogate_name(surrogate: Mapping[str, Any]) -> str:
    return visible_name(PurePath(surrogate["name"]).name or surrogate["name"])


def _comparisons(surrogates: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """Return a comparison for each trained encoder, with p-values that are corrected for their number."""
    trained = [
        (surrogate, one)
        for surrogate in surrogates
        for one in surrogate["encoders"]
        if one["run"] and one["difference"]
    ]
    differences = [one["difference"] for _, one in trained]
    p_values = holm([math.nan if one.get("p_value") is None else one["p_value"] for one in differences])
    return [
        Comparison(
            _surrogate_name(surrogate),
            visible_name(encoder["encoder"]),
            *_first_probe(encoder)[:2],
            difference["value"],
            _pair(difference.get("interval")),
            None if math.isnan(p_value) else float(p_value),
        )
        for (surrogate, encoder), difference, p_value in zip(trained, differences, p_values, strict=True)
    ]


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None or None in interval else (interval[0], interval[1])


def _first_probe(encoder: Mapping[str, Any]) -> tuple[str, float, tuple[float, float] | None]:
    """Return the name, the error and the interval of the first probe of an encoder."""
    name, probe = next(iter(encoder["probes"].items()))
    return name, probe["value"], _pair(probe["interval"])


def _findings(surrogates: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[Verdict, ...]]:
    """Return the headline and the verdicts."""
    comparisons = _comparisons(surrogates)
    if not comparisons:
        untouched = _untouched_sentence(surrogates[0])
        text = f"No trained encoder was compared with the untouched one. {untouched}"
        verdict = Verdict(IS_SIGNIFICANT, "Not tested", INFO, f"{text} Pass the folder of a trained model to --run.")
        return "No run was measured, so this does not show a loss.", (verdict,)
    losses = [one for one in comparisons if one.is_loss]
    largest = max(losses or comparisons, key=lambda one: one.difference)
    n_tests = sum(one.p_value is not None for one in comparisons)
    return _headline(len(losses), len(comparisons)), (
        _significance(len(losses), len(comparisons), n_tests),
        _largest(largest, n_tests, "significant " if losses else ""),
    )


def _headline(n_losses: int, n_compared: int) -> str:
    if not n_losses:
        return "No significant loss of source knowledge was measured."
    if n_losses == n_compared:
        return "Training loses source knowledge."
    return f"Training loses source knowledge: {n_losses} of {n_compared} comparisons show a significant loss."


def _significance(n_losses: int, n_compared: int, n_tests: int) -> Verdict:
    label, status = ("Yes", FAIL) if n_losses else ("Not shown", INFO)
    verb = "shows" if n_compared == 1 else "show"
    corrected = f", corrected by Holm for {n_tests} comparisons" if n_tests > 1 else ""
    text = (
        f"{n_losses} of {count(n_compared, 'comparison')} with the untouched encoder {verb} a significantly higher "
        f"probe error (paired over splits and samples or groups, at the 5 % level{corrected})."
    )
    return Verdict(IS_SIGNIFICANT, label, status, text)


def _largest(one: Comparison, n_tests: int, kind: str) -> Verdict:
    status = WARN if one.is_loss else PASS if one.difference <= 0 else INFO
    text = (
        f"The largest {kind}difference is that of {one.encoder}: the error of its {display_name(one.probe)} probe on "
        f"{one.surrogate} is {one.error:.3f}, which minus that of the untouched encoder is "
        f"{one.difference:+.3f}{confidence_interval(one.interval)}{_p_text(one.p_value, n_tests)}."
    )
    return Verdict(HOW_LARGE, f"{one.difference:+.3f}".replace("-", "−"), status, text)


def _untouched_sentence(surrogate: Mapping[str, Any]) -> str:
    encoder = surrogate["encoders"][0]
    name, error, interval = _first_probe(encoder)
    return (
        f"The error of the {display_name(name)} probe of {visible_name(encoder['encoder'])} on "
        f"{_surrogate_name(surrogate)} is {error:.3f}{confidence_interval(interval)}."
    )


def _p_text(p_value: float | None, n_tests: int) -> str:
    if p_value is None:
        return ", too few groups for a p-value"
    text = f", with {p_value_text(p_value)}"
    return f"{text}, corrected by Holm for {n_tests} comparisons" if n_tests > 1 else text


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
