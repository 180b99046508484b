"""The result of a race: its answer, its record, a data frame of all that was tried, and a model card."""

import itertools
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy import stats

from modgap.answers import FAIL, INFO, PASS, WARN, Answer, Curve, Mark, Plotted, Table, Verdict
from modgap.answers.formatting import csv_text, format_p_value
from modgap.errors import InputError, count, format_duration, visible_name
from modgap.race.labeled_data import GROUPS, LabeledData, describe_labeled
from modgap.race.steps import Outcome
from modgap.race.transfer import SCRATCH, Race, Tested, steps_of
from modgap.race.verdict import (
    FIELD,
    KINDS,
    PRETRAINED,
    first_of_kinds,
    kind_of,
    transfer_helps,
)
from modgap.sources import source_infos
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL
from modgap.statistics.paired import PairedDifference, paired_difference
from modgap.statistics.sample_file import SAMPLES_FILE, read_sample_file
from modgap.storage.algorithms import installed_version
from modgap.storage.atomic_files import write_texts, writing
from modgap.storage.json_records import format_json, plain_values, with_digest
from modgap.training.answer import metric_without_unit
from modgap.training.evaluation import PERCENT
from modgap.training.run_folder import Run

if TYPE_CHECKING:
    import pandas as pd

    from modgap.answers.figures.files import ResultFigure
    from modgap.race.figures import DrawnRace

RECORD, CARD, STEPS_TABLE = "transfer.json", "card.md", "steps.csv"
SCHEMA = 1
CHANCE = "chance level"
REFERENCES = (FIELD, KINDS[1], SCRATCH)
"""Kinds of models that pages draw as squares: those to compare a transfer with."""
MOST_STEPS = 30
"""Most steps in the table of the answer."""
MOST_NAMES = 30
"""Most names of classes or columns in the card."""


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
    def labeled(self) -> LabeledData:
        """The validation errors as they are shown, and what the answer and the card say about the samples."""
        return describe_labeled(self.race.request, [one.losses for one in self.race.outcomes])

    @cached_property
    def answer(self) -> Answer:
        """The answer, with its verdicts, tables and next step."""
        return _answer(self.race, self.labeled, self.folder)

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
            "validation": {
                "measure": self.labeled.measure,
                "unit": self.labeled.unit,
                "steps": [None if math.isnan(error) else error for error in self.labeled.errors],
                "chance": self.labeled.chance,
            },
            "not_tried": list(race.not_tried),
            "chosen": chosen.winner.step.title,
            "lowest": chosen.lowest.step.title,
            "judged": len(chosen.judged),
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

        return race_frame(self._drawn) if figure is None else self._figure(figure).frame()

    def figures(self) -> "Iterator[ResultFigure]":
        """Yield the figure of everything that was tried, and that of the errors over the time."""
        from modgap.race.figures import planned_figures

        return planned_figures(self._drawn)

    @property
    def _drawn(self) -> "DrawnRace":
        from modgap.race.figures import DrawnRace

        return DrawnRace(self.race, self.labeled, self.answer.headline)

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
        texts = {STEPS_TABLE: csv_text([head, *rows]), CARD: model_card(self.race, self.labeled, self.answer)}
        with writing(folder):
            return write_texts(folder, texts | {RECORD: with_digest(format_json(self.to_dict()))})


# The answer


def _answer(race: Race, labeled: LabeledData, folder: Path) -> Answer:
    winner, target = race.tested[0], visible_name(Path(race.request.target.name).name)
    result, samples = winner.run.record["result"], winner.run.record["samples"]
    command = ("modgap", "predict", "--run", str(folder), "--data", "DATA", "--out", "predictions.csv")
    is_plain = all(visible_name(part) == part for part in command)
    return Answer(
        question=f"Which model should predict {target}?",
        facts=(
            f"{count(race.n_labeled, 'labeled sample')}{_of_groups(labeled, 0)}",
            f"{count(samples['test'], 'test sample')}{_of_groups(labeled, 1)}",
            f"{count(len(race.outcomes), 'step')} in {format_duration(race.seconds[0])}",
        ),
        headline=f"Use {winner.spoken}: its test {metric_without_unit(result)} is {winner.shown}.",
        verdicts=(_quality(race), Verdict("Does a transfer help?", *_helps(race)[1:]), _more_time(race)),
        tables=(_tested_table(race, labeled), _steps_table(race, labeled), *_time_table(race, labeled)),
        notes=tuple(_notes(race)),
        next_step="Predict with it; DATA is a file or folder of new samples.",
        commands=(shlex.join(command),) if is_plain else (),
    )


def _of_groups(labeled: LabeledData, part: int) -> str:
    """Return the number of groups of the labeled samples or, as part 1, of the test samples, to write after theirs."""
    return f" of {count(labeled.n_groups[part], 'group')}" if labeled.group else ""


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
        return Verdict(question, "Tested once", INFO, text)
    unit = f" {result['unit']}" if result["unit"] else ""
    text += f" A constant prediction has {race.chance.test:.3g}{unit}"
    difference = _difference(_errors(race.tested[0].run), race.chance.errors, result["unit"])
    if difference is None or difference.p_value is None:
        return Verdict(question, "Tested once", INFO, f"{text}.")
    text += f" (p {format_p_value(difference.p_value)})."
    if difference.value < 0 and difference.p_value <= SIGNIFICANCE_LEVEL:
        return Verdict(question, "Better than chance", PASS, text)
    return Verdict(question, "Not shown better", WARN, text)


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
        f"{start}. The difference is {_signed(difference, unit)} (95 % CI {low:.3g} to {high:.3g}, "
        f"p {format_p_value(difference.p_value)})."
    )
    answer = transfer_helps(difference)
    if answer == "not shown":
        margin = (
            scale * difference.standard_error * float(stats.t.ppf(1 - SIGNIFICANCE_LEVEL / 2, difference.n_units - 1))
        )
        points = " points" if unit == PERCENT else ""
        smallest = f" Only a difference of {margin:.3g}{points} or more could have been shown." if margin > 0 else ""
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


def _signed(difference: PairedDifference, unit: str) -> str:
    """Return a difference of two test errors with its sign; that of percentages is in points."""
    value = difference.value * (100 if unit == PERCENT else 1)
    return f"{f'{value:+.3g}' if value else '0'}{' points' if unit == PERCENT else ''}"


def _more_time(race: Race) -> Verdict:
    question, n_left = "What would more time do?", len(race.not_tried)
    if race.request.steps:
        return Verdict(question, "Repeated", INFO, "The steps were those of an earlier race.")
    if not n_left:
        return Verdict(question, "Nothing", INFO, "Everything that the strategy has was tried.")
    shown = "; ".join(race.not_tried[:4]) + ("; and more" if n_left > 4 else "")
    return Verdict(question, "Try more", INFO, f"{count(n_left, 'step')} did not fit into the time: {shown}.")


def _notes(race: Race) -> Iterator[str]:
    chosen = race.chosen
    if chosen.winner is not chosen.lowest:
        yield (
            f"{chosen.lowest.step.title} had the lowest validation error, and {chosen.winner.step.title} is the "
            "simplest model within one standard error of it."
        )
    yield (
        "Models were chosen on the labeled samples alone. The lowest of several validation errors is optimistic; the "
        "test errors are not, since each final model was tested once."
    )


def _tested_columns(labeled: LabeledData) -> tuple[str, ...]:
    """Return the columns of the table of the final models."""
    return "model", f"test {labeled.of_test}", "95 % CI", "minus the chosen", "CI of this", "p", "kind"


def _tested_table(race: Race, labeled: LabeledData) -> Table:
    winner = race.tested[0].run
    unit, marks = winner.record["result"]["unit"], []
    rows = []
    for one in race.tested:
        result = one.run.record["result"]
        compared = ["", "", ""] if one.is_winner else _compared(_errors(one.run), _errors(winner), unit)
        rows.append([one.title, one.shown, _interval(result), *compared, one.name])
        low, high = result["interval"]
        interval = None if low is None or high is None else (float(low), float(high))
        is_reference = one.name in REFERENCES and not one.is_winner
        marks.append(
            None if result["test"] is None else Mark(float(result["test"]), interval, is_reference=is_reference)
        )
    if math.isfinite(race.chance.test):
        shown = f"{race.chance.test:.3g}{f' {unit}' if unit else ''}"
        compared = _compared(race.chance.errors, _errors(winner), unit)
        rows.append(["constant prediction", shown, "", *compared, CHANCE])
        marks.append(Mark(race.chance.test, None, is_reference=True))
    title = "The final models: tested once on the same samples, the chosen one first"
    return Table(_tested_columns(labeled), rows, title, marks=marks)


def _compared(errors: SampleErrors | None, others: SampleErrors | None, unit: str) -> list[str]:
    """Return the cells of a difference: its value, its 95 % interval and the p-value."""
    difference = _difference(errors, others, unit)
    if difference is None:
        return ["", "", ""]
    scale = 100 if unit == PERCENT else 1
    ends = [f"{scale * end:.3g}" for end in difference.interval or ()]
    p_value = "" if difference.p_value is None else format_p_value(difference.p_value)
    return [_signed(difference, unit), " to ".join(ends), p_value]


def _steps_table(race: Race, labeled: LabeledData) -> Table:
    every = zip(race.outcomes, labeled.errors, strict=True)
    order = sorted(every, key=lambda pair: (bool(pair[0].reason), pair[1]))
    heads = ["model", f"validation {labeled.measure}", "labeled", "folds", "seconds"]
    rows = [
        [
            f"{one.step.title} (chosen)" if one is race.chosen.winner else one.step.title,
            "failed" if one.reason else labeled.shown(error),
            f"{one.step.labeled or race.n_labeled:,}",
            str(one.step.folds),
            f"{one.seconds:.1f}",
        ]
        for one, error in order
    ]
    notes = ["Errors are on the folds of the labeled samples that were left out."]
    if labeled.loss:
        notes.append(f"Models were compared by {labeled.loss}.")
    # A column with the same value in each row is a sentence.
    for column, sentence in ((3, "Each model was judged on {} of 5 folds."), (2, "Each had {} labeled samples.")):
        values = {row[column] for row in rows}
        if len(values) == 1:
            notes.append(sentence.format(*values))
            for row in (heads, *rows):
                del row[column]
    notes.append(
        f"Squares are baselines and networks with random weights. The dashed line is a constant prediction "
        f"({labeled.shown(labeled.chance)})."
    )
    if len(order) > MOST_STEPS:
        notes.append(f"{len(order) - MOST_STEPS} more are in steps.csv.")
    shown = order[:MOST_STEPS]
    marks = [None if one.reason else _step_mark(one, error, race) for one, error in shown]
    return Table(
        heads, rows[:MOST_STEPS], "Everything that was tried", " ".join(notes), marks=marks, reference=labeled.chance
    )


def _step_mark(one: Outcome, error: float, race: Race) -> Mark:
    return Mark(error, is_reference=kind_of(one) in REFERENCES and one is not race.chosen.winner)


def _time_table(race: Race, labeled: LabeledData) -> Iterator[Table]:
    """Yield a table with a curve for each kind of model: the lowest validation error after the time that was spent."""
    tried = sorted(
        (at, error, kind_of(one))
        for one, at, error in zip(race.outcomes, race.elapsed, labeled.errors, strict=True)
        if not one.reason
    )
    if len(tried) < 2:
        return
    so_far = {}
    for kind in KINDS:
        if points := [(at, error) for at, error, of in tried if of == kind]:
            so_far[kind] = [at for at, _ in points], list(itertools.accumulate((error for _, error in points), min))
    # Curves go on after the last result, so that the last one can be seen.
    end, top = 1.04 * tried[-1][0], max(errors[0] for _, errors in so_far.values()) or labeled.chance or 1.0
    rows, curves = [], []
    for kind, (times, errors) in so_far.items():
        after = times[errors.index(errors[-1])]
        rows.append([kind, labeled.shown(errors[0]), labeled.shown(errors[-1]), f"{after:,.0f} s"])
        x = [times[0], *(at for at in times[1:] for _ in range(2)), end]
        curves.append(Curve([at / end for at in x], [error / top for error in errors for _ in range(2)]))
    yield Table(
        ("kind", "first", "lowest", "after"),
        rows,
        f"The lowest validation {labeled.measure} so far",
        f"Curves go from the start to {tried[-1][0]:,.0f} s, and from 0 to {labeled.shown(top)}.",
        curves=curves,
        is_detail=True,
    )


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


def model_card(race: Race, labeled: LabeledData, answer: Answer) -> str:
    """Return a card of the chosen model as Markdown: data, split, what was tried, errors, license and limits."""
    columns = _tested_columns(labeled)
    tested = "\n".join(f"| {' | '.join(row)} |" for row in _tested_table(race, labeled).rows)
    lines = [
        f"# {race.tested[0].title}",
        "",
        f"A model of `{visible_name(race.request.target.name)}`, made by modgap {installed_version()}.",
        "",
        *(f"- **{term}**: {text}" for term, text in _card_facts(race, labeled)),
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        tested,
        "",
        *(["## Use", "", answer.next_step, "", "```", *answer.commands, "```", ""] if answer.commands else []),
        "## Limits",
        "",
        f"The test error holds for new samples like those of this data{_card_groups(labeled)}. It says nothing about "
        "other data, devices or times. Intervals do not contain the spread of other seeds.",
        "",
        *(f"{verdict.question} {verdict.label}. {verdict.sentence}\n" for verdict in answer.verdicts[1:2]),
    ]
    return "\n".join(lines)


def _card_facts(race: Race, labeled: LabeledData) -> Iterator[tuple[str, str]]:
    """Yield the terms of the card's list, each with its text."""
    record = race.tested[0].run.record
    samples, task, custom_data = record["samples"], record["output"]["task"], race.request.target.custom_data
    parts = [
        f"{samples[name]:,} {text} samples{_of_groups(labeled, part)}"
        for part, (name, text) in enumerate((("train", "labeled"), ("test", "test")))
    ]
    yield "Data", f"{' and '.join(parts)}; task {task}."
    if labeled.group not in ("", GROUPS):
        yield "Groups", f"{labeled.group}."
    if labeled.classes:
        yield "Classes", _listed(labeled.classes)
    if names := (record.get("data") or {}).get("columns"):
        yield "Columns", _listed(names)
    if custom_data and custom_data.fill:
        of_training = f"the {custom_data.fill} of the training samples takes their place"
        yield "Missing cells", "their rows are left out." if custom_data.fill == "drop" else f"{of_training}."
    yield "Split", f"{_split_text(labeled)} Nothing looked at the test samples before the test."
    yield "Metric", f"{labeled.metric}; lower is better."
    yield (
        "Tried",
        f"{count(len(race.outcomes), 'step')} in {format_duration(race.seconds[0])}, on the labeled samples alone "
        "(steps.csv).",
    )
    yield (
        "Chosen",
        f"{race.tested[0].title}, the simplest model within one standard error of the lowest validation loss.",
    )
    if record["source"]:
        licenses = {info.name: info.license for info in source_infos()}
        license_of = licenses.get(str(record["source"]).removeprefix("random:"), "see its own terms")
        yield "Source", f"{visible_name(str(record['source']))}, license: {license_of}."
    else:
        yield "Source", "none; the model is fitted to this data alone."
    yield "Seed", f"{record['seed']}."


def _listed(names: Sequence[str]) -> str:
    """Return names with their number; of many the first ones."""
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return f"{len(names):,}: {', '.join(visible_name(str(name)) for name in names[:MOST_NAMES])}{more}."


def _split_text(labeled: LabeledData) -> str:
    """Return the sentence of the card that says where the test split comes from."""
    if labeled.is_drawn is None:
        return "the data's own test split, or one that was drawn."
    if not labeled.is_drawn:
        return "the data's own test split."
    by_class = ", by class" if labeled.classes else ""
    return f"a test split that was drawn{by_class}{', with whole groups' if labeled.group else ''}."


def _card_groups(labeled: LabeledData) -> str:
    """Return what the card says about the groups of new samples, to write after "like those of this data"."""
    if not labeled.group:
        return ", which count as independent because no groups are named"
    if not labeled.n_divided:
        return ", of other groups than those of the labeled samples"
    return (
        f"; {labeled.n_divided:,} of {count(labeled.n_groups[1], 'test group')} "
        f"{'has' if labeled.n_divided == 1 else 'have'} labeled samples too, so the error for new groups may be higher"
    )
