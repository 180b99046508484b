"""The result of a race: its answer, its record, a data frame of all that was tried, and a model card."""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy import stats

from modgap.answers import FAIL, INFO, PASS, WARN, Answer, Mark, Plotted, Table, Verdict
from modgap.answers.formatting import csv_text, format_p_value
from modgap.errors import InputError, count, format_duration, visible_name
from modgap.race.steps import TRAINING, Outcome
from modgap.race.transfer import SCRATCH, Race, Tested, steps_of
from modgap.race.verdict import (
    FIELD,
    PRETRAINED,
    SIGNIFICANT,
    control_kind,
    first_of_kinds,
    kind_of,
    shown_loss,
    transfer_helps,
)
from modgap.sources import source_infos
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.paired import PairedDifference, paired_difference
from modgap.statistics.sample_file import SAMPLES_FILE, read_sample_file
from modgap.storage.algorithms import installed_version
from modgap.storage.atomic_files import write_texts, writing
from modgap.storage.json_records import format_json, plain_values, with_digest
from modgap.training.answer import metric_without_unit
from modgap.training.evaluation import PERCENT
from modgap.training.linear_probe import LINEAR_PROBE
from modgap.training.run_folder import Run

if TYPE_CHECKING:
    import pandas as pd

    from modgap.answers.figures.files import ResultFigure

RECORD, CARD, STEPS_TABLE = "transfer.json", "card.md", "steps.csv"
SCHEMA = 1
CHANCE = "chance level"
TESTED = ("model", "test error", "95 % CI", "minus the chosen", "CI of this", "p", "kind")
"""Columns of the table of the final models."""
MOST_STEPS = 30
"""Most steps in the table of the answer."""


@dataclass(frozen=True)
class TransferResult(Plotted):
    """The result of a race, as `modgap.transfer` returns it.

    `print(result)` shows what to use and its test error. Predict with `modgap.load_run(result.folder)`.

    Attributes:
        race: What was tried, chosen and tested.
        folder: Folder of the model.
    """

    race: Race
    folder: Path

    @property
    def run(self) -> Run:
        """The run of the chosen model."""
        return self.race.tested[0].run

    @cached_property
    def answer(self) -> Answer:
        """The answer, with its verdicts, tables and next step."""
        return _answer(self.race, self.folder)

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values."""
        race, samples = self.race, self.race.request.samples
        chosen = race.chosen
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "kind": "transfer",
            "target": race.request.target.name,
            "minutes": race.request.minutes,
            "seed": samples.seed,
            "limit": samples.limit,
            "labeled": race.n_labeled,
            "steps": [{**step, "elapsed": at} for step, at in zip(steps_of(race.outcomes), race.elapsed, strict=True)],
            "chance": {"error": race.chance.loss, "test": race.chance.test},
            "not_tried": list(race.not_tried),
            "chosen": chosen.winner.step.title,
            "lowest": chosen.lowest.step.title,
            "judged": len(chosen.judged),
            "tested_after": list(race.tested_after),
            "tested": [_tested_record(one, race) for one in race.tested],
            "helps": _helps(race)[0],
            "seconds": {"race": race.seconds[0], "final fits": race.seconds[1]},
            "answer": self.answer.to_dict(),
            "provenance": {"modgap": installed_version()},
        }
        return plain_values(record)  # type: ignore[no-any-return]

    def to_frame(self, figure: str | None = None) -> "pd.DataFrame":
        """Return a data frame with one row for each step, or the one that a figure draws.

        Raises:
            UsageError: If the result has no figure with this name.
        """
        from modgap.race.figures import race_frame

        return race_frame(self.race) if figure is None else self._figure(figure).frame()

    def figures(self) -> "Iterator[ResultFigure]":
        """Yield the figure of everything that was tried, and that of the errors over the time."""
        from modgap.race.figures import planned_figures

        return planned_figures(self.race)

    def write(self, folder: Path) -> list[Path]:
        """Write transfer.json, steps.csv and card.md to an existing folder, and return their paths."""
        head = ["kind", "model", "labeled", "folds", "validation loss", "seconds", "elapsed", "reason"]
        rows = [
            [
                kind_of(one),
                one.step.title,
                one.step.labeled or self.race.n_labeled,
                one.step.folds,
                "" if one.reason else repr(one.error),
                one.seconds,
                at,
                one.reason,
            ]
            for one, at in zip(self.race.outcomes, self.race.elapsed, strict=True)
        ]
        texts = {STEPS_TABLE: csv_text([head, *rows]), CARD: model_card(self.race, self.answer)}
        with writing(folder):
            return write_texts(folder, texts | {RECORD: with_digest(format_json(self.to_dict()))})


# The answer


def _answer(race: Race, folder: Path) -> Answer:
    winner, target = race.tested[0], visible_name(Path(race.request.target.name).name)
    samples = winner.run.record["samples"]
    command = ("modgap", "predict", "--run", str(folder), "--data", "DATA", "--out", "predictions.csv")
    is_plain = all(visible_name(part) == part for part in command)
    return Answer(
        question=f"Which model should predict {target}?",
        facts=(
            count(race.n_labeled, "labeled sample"),
            count(samples["test"], "test sample"),
            f"{_counted_steps(race)} in {format_duration(race.seconds[0])}",
        ),
        headline=_headline(race),
        verdicts=(
            _quality(race),
            Verdict("Does a transfer help?", *_helps(race)[1:]),
            *_pretraining(race),
            _more_time(race, folder),
        ),
        tables=(_tested_table(race), _steps_table(race)),
        notes=tuple(_notes(race)),
        next_step=f"Predict with it{'' if _beats_chance(race) else ' nevertheless'}; DATA is a file or folder of new "
        "samples.",
        commands=(shlex.join(command),) if is_plain else (),
    )


def _interval(result: Mapping[str, Any]) -> str:
    low, high = result["interval"]
    return "" if low is None or high is None else f"{low:.3g} to {high:.3g}"


def _quality(race: Race) -> Verdict:
    question = "How good is it?"
    result = race.tested[0].run.record["result"]
    interval = _interval(result)
    start = f"The test {metric_without_unit(result)} is {race.tested[0].shown}"
    text = f"{start}{f' (95 % CI {interval})' if interval else ''}."
    if len(race.tested) > 1:
        others = [f"{one.shown} ({one.title})" for one in race.tested[1:]]
        text += f" The best models of other kinds have {', '.join(others)}."
    if result["test"] is None or not math.isfinite(race.chance.test):
        undefined = "test error" if result["test"] is None else "error of a constant prediction"
        return Verdict(question, "Not compared", INFO, f"{text} The {undefined} is not defined.")
    text += f" A constant prediction has {_chance_shown(race)}"
    difference = _difference(_errors(race.tested[0].run), race.chance.errors, result["unit"])
    if difference is None or difference.p_value is None:
        label = "Lower than a constant" if _beats_chance(race) else "Not lower than a constant"
        return Verdict(question, label, INFO if _beats_chance(race) else WARN, f"{text}. {_no_significance(race)}")
    text += f" (p {format_p_value(difference.p_value)})."
    if difference.value < 0 and difference.p_value <= SIGNIFICANT:
        return Verdict(question, "Better than chance", PASS, text)
    return Verdict(question, "Not shown better", WARN, text)


def _headline(race: Race) -> str:
    """Return what to use, or that no model is shown to beat the same prediction for all samples."""
    winner = race.tested[0]
    metric = metric_without_unit(winner.run.record["result"])
    if _beats_chance(race):
        return f"Use {winner.spoken}: its test {metric} is {winner.shown}."
    # The test chooses no model, so that another one with a lower error is not recommended in its place.
    others = [one.run.record["result"]["test"] for one in race.tested[1:]]
    is_any_lower = any(test is not None and test < race.chance.test for test in others)
    model = "The chosen model is not" if is_any_lower else "No model is"
    return (
        f"{model} shown to beat a constant prediction: {winner.spoken}, which was chosen, has a test {metric} of "
        f"{winner.shown}, and a constant prediction has {_chance_shown(race)}."
    )


def _beats_chance(race: Race) -> bool:
    """Return False if the test error of the chosen model is not lower than that of a constant prediction."""
    test = race.tested[0].run.record["result"]["test"]
    return test is None or not math.isfinite(race.chance.test) or float(test) < race.chance.test


def _chance_shown(race: Race) -> str:
    unit = race.tested[0].run.record["result"]["unit"]
    return f"{race.chance.test:.3g}{f' {unit}' if unit else ''}"


def _no_significance(race: Race) -> str:
    """Return why differences of test errors have no interval and no p-value."""
    result = race.tested[0].run.record["result"]
    if _errors(race.tested[0].run) is None or race.chance.errors is None:
        return f"The metric {result['metric']} is not a mean over samples, so differences have no interval and no p."
    reason = result.get("no_interval") or "the samples are too few"
    return f"Differences have no interval and no p, because {reason}."


def _counted_steps(race: Race) -> str:
    """Return how many steps ended, and how many were not finished in time or failed."""
    given_up = sum(one.is_given_up for one in race.outcomes)
    failed = sum(bool(one.reason) for one in race.outcomes) - given_up
    others = [f"{number:,} {state}" for number, state in ((given_up, "not finished"), (failed, "failed")) if number]
    ended = count(len(race.outcomes) - given_up - failed, "step")
    return f"{ended} ({', '.join(others)})" if others else ended


def _helps(race: Race) -> tuple[str, str, str, str]:
    """Return `yes`, `no` or `not shown`, with label, status and sentence: the best transfer beside the best baseline.

    Both were chosen on the labeled samples, and are compared on the test samples, sample by sample.
    """
    field, transferred = (_first(race, kinds) for kinds in ((FIELD,), PRETRAINED))
    if field is None or transferred is None:
        missing = "baseline of the field" if field is None else "pretrained source"
        return "not tested", "Not tested", INFO, f"No {missing} was fitted to compare with."
    unit = field.run.record["result"]["unit"]
    difference = _difference(_errors(transferred.run), _errors(field.run), unit)
    start = f"{transferred.spoken} has {transferred.shown} and {field.spoken} {field.shown}"
    start = start[:1].upper() + start[1:]
    if difference is None or difference.p_value is None:
        return "not shown", "Not shown", WARN, f"{start}; the metric or the number of samples gives no significance."
    scale = 100 if unit == PERCENT else 1
    low, high = (scale * end for end in difference.interval or (float("nan"), float("nan")))
    text = (
        f"{start}. The difference is {scale * difference.value:+.3g} (95 % CI {low:.3g} to {high:.3g}, "
        f"p {format_p_value(difference.p_value)})."
    )
    answer = transfer_helps(difference)
    if answer == "not shown":
        margin = scale * difference.standard_error * float(stats.t.ppf(1 - SIGNIFICANT / 2, difference.n_units - 1))
        smallest = f" Only a difference of {margin:.3g} or more could have been shown." if margin > 0 else ""
        return answer, "Not shown", WARN, f"{text}{smallest}"
    return answer, answer.capitalize(), PASS if answer == "yes" else FAIL, text


def _first(race: Race, kinds: Sequence[str]) -> Tested | None:
    """Return the tested model of some kinds whose error on the labeled samples is the lowest."""
    tested = {one.name: one for one in race.tested}
    kind = first_of_kinds(race.chosen, [kind for kind in kinds if kind in tested])
    return None if kind is None else tested[kind]


def _errors(run: Run) -> SampleErrors | None:
    """Return the errors of the test samples; None if the metric is not a mean over samples."""
    try:
        return next(iter(read_sample_file(run.folder / SAMPLES_FILE).errors.values()))
    except InputError:
        return None


def _difference(first: SampleErrors | None, second: SampleErrors | None, unit: str) -> PairedDifference | None:
    """Return the difference of two test errors, sample by sample; None if they have none."""
    if first is None or second is None:
        return None
    try:
        return paired_difference(first, second, largest=1.0 if unit == PERCENT else float("inf"))
    except InputError:
        return None


def _pretraining(race: Race) -> Iterator[Verdict]:
    """Yield whether pretraining helps the chosen model, beside the same architecture with random weights."""
    kind, winner = control_kind(race.chosen), race.tested[0]
    if kind is None:
        return
    question = "Does pretraining help?"
    control = next((one for one in race.tested if one.name == kind), None)
    if control is None:
        yield Verdict(question, "Not tested", INFO, "The same architecture with random weights could not be fitted.")
        return
    unit = winner.run.record["result"]["unit"]
    difference = _difference(_errors(winner.run), _errors(control.run), unit)
    start = winner.spoken[:1].upper() + winner.spoken[1:]
    text = f"{start} has {winner.shown}, and the same architecture with random weights {control.shown}"
    if difference is None or difference.p_value is None:
        yield Verdict(question, "Not shown", WARN, f"{text}. {_no_significance(race)}")
        return
    helps = transfer_helps(difference)
    label, status = ("Not shown", WARN) if helps == "not shown" else (helps.capitalize(), PASS)
    if helps == "no":
        status = FAIL
    yield Verdict(question, label, status, f"{text} (p {format_p_value(difference.p_value)}).")


def _more_time(race: Race, folder: Path) -> Verdict:
    question, n_left, request = "What would more time do?", len(race.not_tried), race.request
    if request.steps:
        return Verdict(question, "Repeated", INFO, "The steps were those of an earlier transfer.")
    no_training = ""
    ended = {one.step.kind for one in race.outcomes if not one.is_given_up}
    if any(title.startswith("finetune ") for title in race.not_tried) and TRAINING not in ended:
        others = ", so probes used the rest of it" if LINEAR_PROBE in ended else ""
        no_training = f" No training fitted into the time{others}."
    if not n_left:
        return Verdict(question, "Nothing", INFO, "Everything that the strategy has was tried.")
    result = race.tested[0].run.record["result"]
    if result["test"] == 0 or race.chosen.winner.error == 0:
        which = "test" if result["test"] == 0 else "validation"
        text = f"The {which} error is 0, so more time cannot be shown to lower it."
        return Verdict(question, "Nothing", INFO, f"{text}{no_training}")
    shown = "; ".join(race.not_tried[:4]) + ("; and more" if n_left > 4 else "")
    minutes = f"{2 * request.minutes:g}" if request.minutes else "10"
    command = shlex.join(["modgap", "transfer", "--out", str(folder), "--resume", "--minutes", minutes])
    way = f" Go on with `{command}`." if visible_name(str(folder)) == str(folder) else ""
    if not request.minutes:
        text = f"Only the quick baselines took part, without {count(n_left, 'other step')}: {shown}."
        return Verdict(question, "Try more", INFO, f"{text}{way}")
    text = f"{count(n_left, 'step')} did not fit into the time: {shown}.{no_training}{way}"
    return Verdict(question, "Try more", INFO, text)


def _notes(race: Race) -> Iterator[str]:
    chosen = race.chosen
    if chosen.winner is not chosen.lowest:
        yield (
            f"{chosen.lowest.step.title} had the lowest validation error, and {chosen.winner.step.title} is the "
            "simplest model within one standard error of it."
        )
    if race.tested_after:
        times = ", ".join(format_duration(60 * minutes) for minutes in race.tested_after)
        yield (
            f"This transfer was tested before, after {times}. A test error that decides whether to go on is slightly "
            "optimistic in the end."
        )
    yield (
        "Models were chosen on the labeled samples alone. The lowest of several validation errors is optimistic; the "
        "test errors are not, since each final model was tested once."
    )


def _tested_table(race: Race) -> Table:
    winner = race.tested[0].run
    unit, marks = winner.record["result"]["unit"], []
    rows = []
    for one in race.tested:
        result = one.run.record["result"]
        compared = ["", "", ""] if one.is_winner else _compared(_errors(one.run), _errors(winner), unit)
        rows.append([one.title, one.shown, _interval(result), *compared, one.name])
        low, high = result["interval"]
        interval = None if low is None or high is None else (float(low), float(high))
        is_field = one.name in (FIELD, SCRATCH)
        marks.append(None if result["test"] is None else Mark(float(result["test"]), interval, is_reference=is_field))
    if math.isfinite(race.chance.test):
        shown = f"{race.chance.test:.3g}{f' {unit}' if unit else ''}"
        compared = _compared(race.chance.errors, _errors(winner), unit)
        rows.append(["constant prediction", shown, "", *compared, CHANCE])
        marks.append(Mark(race.chance.test, None, is_reference=True))
    return Table(TESTED, rows, "The final models: tested once on the same samples", marks=marks)


def _compared(errors: SampleErrors | None, others: SampleErrors | None, unit: str) -> list[str]:
    """Return the cells of a difference: its value, its 95 % interval and the p-value."""
    difference = _difference(errors, others, unit)
    if difference is None:
        return ["", "", ""]
    scale = 100 if unit == PERCENT else 1
    ends = [f"{scale * end:.3g}" for end in difference.interval or ()]
    p_value = "" if difference.p_value is None else format_p_value(difference.p_value)
    return [f"{scale * difference.value:+.3g}", " to ".join(ends), p_value]


def _steps_table(race: Race) -> Table:
    order = sorted(zip(race.outcomes, race.elapsed, strict=True), key=lambda pair: pair[0].error)
    rows = [
        [
            f"{one.step.title} (chosen)" if one is race.chosen.winner else one.step.title,
            _state(one) or shown_loss(one.error, race.task),
            f"{one.step.labeled or race.n_labeled:,}",
            str(one.step.folds),
            f"{one.seconds:.1f}",
        ]
        for one, _ in order[:MOST_STEPS]
    ]
    more = f" {len(order) - MOST_STEPS} more are in steps.csv." if len(order) > MOST_STEPS else ""
    note = f"Errors are means of the losses on the folds of the labeled samples that were left out.{more}"
    if any(one.is_given_up for one in race.outcomes):
        note += " Steps that are not finished were given up, because they would not have ended within the time."
    heads = ("model", "validation error", "labeled", "folds", "seconds")
    return Table(heads, rows, "Everything that was tried", note)


def _state(outcome: Outcome) -> str:
    """Return the state of a step without an error: given up because of the time, or failed; empty with an error."""
    if outcome.is_given_up:
        return "not finished"
    return "failed" if outcome.reason else ""


def _tested_record(one: Tested, race: Race) -> dict[str, Any]:
    result, errors = one.run.record["result"], _errors(one.run)
    difference = None if one.is_winner else _difference(errors, _errors(race.tested[0].run), result["unit"])
    record = {name: result[name] for name in ("metric", "unit", "test", "interval")}
    compared = None
    if difference is not None:
        compared = {"value": difference.value, "interval": difference.interval, "p_value": difference.p_value}
    about = {"kind": one.name, "title": one.title, "folder": one.run.folder.name, "is_winner": one.is_winner}
    return {**about, **record, "minus_chosen": compared}


# The model card


def model_card(race: Race, answer: Answer) -> str:
    """Return a card of the chosen model as Markdown: data, split, what was tried, errors, license and limits."""
    winner = race.tested[0]
    record = winner.run.record
    samples = record["samples"]
    source = visible_name(str(record["source"])) if record["source"] else "none"
    licenses = {info.name: info.license for info in source_infos()}
    license_of = (
        licenses.get(str(record["source"]).removeprefix("random:"), "see its own terms") if record["source"] else "-"
    )
    tested = "\n".join(f"| {' | '.join(row)} |" for row in _tested_table(race).rows)
    lines = [
        f"# {winner.title}",
        "",
        f"A model of `{visible_name(race.request.target.name)}`, made by modgap {installed_version()}.",
        "",
        f"- **Data**: {samples['train']:,} labeled and {samples['test']:,} test samples; task "
        f"{record['output']['task']}.",
        "- **Split**: the data's own test split, or one that was drawn by groups and classes. Nothing looked at it "
        "before the test.",
        f"- **Tried**: {count(len(race.outcomes), 'step')} in {format_duration(race.seconds[0])}, on the labeled "
        "samples alone (steps.csv).",
        f"- **Chosen**: {winner.title}.",
        f"- **Source**: {source}, license: {license_of}.",
        f"- **Seed**: {record['seed']}.",
        "",
        f"| {' | '.join(TESTED)} |",
        f"|{'---|' * len(TESTED)}",
        tested,
        "",
        "## Limits",
        "",
        "The test error holds for new samples like those of this data, from the same groups, devices and times as the "
        "test samples. It says nothing about other data. Intervals do not contain the spread of other seeds.",
        "",
        *(f"{verdict.question} {verdict.label}. {verdict.sentence}\n" for verdict in answer.verdicts[1:2]),
    ]
    return "\n".join(lines)
