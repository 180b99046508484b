"""The answer of a race: what to use, its verdicts and tables."""

import itertools
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from modgap.answers import FAIL, INFO, PASS, WARN, Answer, Curve, Mark, Table, Verdict
from modgap.answers.formatting import format_p_value, known_interval
from modgap.errors import InputError, can_be_typed, count, format_duration, visible_name
from modgap.race.labeled_data import LabeledData
from modgap.race.steps import N_FOLDS, TRAINING, Outcome
from modgap.race.strategy import SHORT
from modgap.race.transfer import LONGEST_LIMIT, Race, Tested
from modgap.race.verdict import (
    FIELD,
    KINDS,
    PRETRAINED,
    REFERENCES,
    Chosen,
    control_kind,
    finalists_of,
    first_of_kinds,
    is_preliminary,
    kind_of,
    transfer_helps,
)
from modgap.statistics.intervals import SampleErrors, student_quantile
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL
from modgap.statistics.paired import PairedDifference
from modgap.statistics.sample_file import SAMPLES_FILE, read_sample_file
from modgap.storage.json_records import Record
from modgap.training.answer import metric_without_unit, why_untested
from modgap.training.evaluation import PERCENT, difference_of
from modgap.training.linear_probe import LINEAR_PROBE
from modgap.training.run_folder import Run

CHANCE = "chance level"
LEGEND = "Squares are baselines and networks with random weights. The largest mark is the chosen model."
PRELIMINARY = (
    "are on fewer folds or labeled samples than that of the chosen model, and the lowest of many uncertain errors is "
    "too low"
)
MOST_STEPS = 30
"""Most steps in the table of the answer."""


def answer_of_race(race: Race, labeled: LabeledData, folder: Path | None) -> Answer:
    """Return the answer with its verdicts, tables and next step.

    Args:
        race: What was tried, chosen and tested.
        labeled: What is said about the samples.
        folder: Folder of the model; None if it is not kept.
    """
    winner, target = race.tested[0], visible_name(Path(race.request.target.name).name)
    samples = winner.run.record["samples"]
    command = ("modgap", "predict", "--run", str(folder), "--data", "DATA", "--out", "predictions.csv")
    nevertheless = "" if _beats_chance(race) else " nevertheless"
    next_step = f"Predict with it{nevertheless}; DATA is a file or folder of new samples."
    if folder is None:
        next_step = f"Predict with this estimator{nevertheless}. In a folder of its own the model stays on the disk."
    return Answer(
        question=f"Which model should predict {target}?",
        facts=(
            f"{count(race.n_labeled, 'labeled sample')}{of_groups(labeled, 0)}",
            *(
                [f"{len(labeled.classes):,} {'labels' if race.task == 'multi-label' else 'classes'}"]
                if labeled.classes
                else []
            ),
            f"{count(samples['test'], 'test sample')}{of_groups(labeled, 1)}",
            f"{counted_steps(race)} in {format_duration(race.seconds[0])}",
        ),
        headline=_headline(race),
        verdicts=(
            _quality(race),
            Verdict("Does a transfer help?", *transfer_verdict(race)[1:]),
            *_pretraining(race),
            _more_time(race, folder),
        ),
        checks=tuple(sample_checks(labeled)),
        tables=(tested_table(race, labeled), _steps_table(race, labeled), *_time_table(race, labeled)),
        notes=tuple(_notes(race)),
        next_step=next_step,
        commands=(shlex.join(command),) if folder and can_be_typed(*command) else (),
    )


def of_groups(labeled: LabeledData, part: int) -> str:
    """Return the number of groups of the labeled samples or, as part 1, of the test samples, to write after theirs."""
    return f" of {count(labeled.n_groups[part], 'group')}" if labeled.group else ""


def sample_checks(labeled: LabeledData) -> Iterator[Verdict]:
    """Yield a check for each column of values that looks like groups, and one for copies in the test split."""
    for name in labeled.group_like:
        way_out = "without it" if labeled.group else f"with `modgap transfer --group {shlex.quote(name)}`"
        text = (
            f"The column {name} is read as a value of each sample, and can reveal the labels. If it says which samples "
            f"belong together, the error for new groups may be higher. Then repeat the transfer {way_out}."
        )
        yield Verdict("Groups", "", WARN, text)
    if labeled.n_copies:
        are = "1 test sample equals" if labeled.n_copies == 1 else f"{labeled.n_copies:,} test samples equal"
        text = (
            f"{are} a labeled sample in all values. If these are copies, the test error is too low for new samples: "
            "remove them, or repeat the transfer with groups that hold copies together."
        )
        yield Verdict("Equal samples", "", WARN, text)


def _interval(result: Record) -> str:
    interval = known_interval(result["interval"])
    return f"{interval[0]:.3g} to {interval[1]:.3g}" if interval else ""


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
    p_value = result.get("chance_p")
    if p_value is None:
        text += f". The difference is not tested, because {why_untested(result)}."
        if _beats_chance(race):
            return Verdict(question, "Lower than a constant", INFO, text)
        return Verdict(question, "Not shown lower than a constant", WARN, text)
    text += f" (p {format_p_value(p_value)})."
    if _beats_chance(race):
        return Verdict(question, "Better than chance", PASS, text)
    return Verdict(question, "Not shown better", WARN, text)


def _headline(race: Race) -> str:
    """Return what to use, or that no model is shown to beat chance."""
    winner = race.tested[0]
    metric = metric_without_unit(winner.run.record["result"])
    if _beats_chance(race):
        return f"Use {winner.spoken}: its test {metric} is {winner.shown}."
    # No model is chosen by its test error, so another one with a lower test error is not recommended.
    others = [one.run.record["result"]["test"] for one in race.tested[1:]]
    is_any_lower = any(test is not None and test < race.chance.test for test in others)
    model = "The chosen model is not" if is_any_lower else "No model is"
    return (
        f"{model} shown to beat chance: {winner.spoken}, which was chosen, has a test {metric} of "
        f"{winner.shown}, and a constant prediction has {_chance_shown(race)}."
    )


def _beats_chance(race: Race) -> bool:
    """Return True if the errors of the chosen model are lower than those of a constant prediction.

    Its validation error has to be lower, and its test error significantly so. A test error without a p-value has to be
    lower by its interval, if it has one: without knowledge, F1 and the average precision of few samples are mostly
    better than those of the constant. Where the test errors are not defined, the answer is True.
    """
    run = race.tested[0].run
    result = run.record["result"]
    if result["test"] is None or not math.isfinite(race.chance.test):
        return True
    if race.chosen.winner.error >= race.chance.loss or result["test"] >= race.chance.test:
        return False
    p_value = result.get("chance_p")
    if p_value is None and (difference := difference_of(errors_of_run(run), race.chance.errors, result["unit"])):
        # Another constant may have a lower error, so a difference from this one is necessary, and not sufficient.
        p_value = difference.p_value
    if p_value is not None:
        return bool(p_value <= SIGNIFICANCE_LEVEL)
    interval = known_interval(result["interval"])
    return interval is None or interval[1] < race.chance.test


def _chance_shown(race: Race) -> str:
    unit = race.tested[0].run.record["result"]["unit"]
    return f"{race.chance.test:.3g}{f' {unit}' if unit else ''}"


def _no_significance(race: Race) -> str:
    """Return why differences of test errors have no interval and no p-value."""
    result = race.tested[0].run.record["result"]
    if errors_of_run(race.tested[0].run) is None or race.chance.errors is None:
        return f"The metric {result['metric']} is not a mean over samples, so differences have no interval and no p."
    reason = result.get("no_interval") or "the samples are too few"
    return f"Differences have no interval and no p, because {reason}."


def counted_steps(race: Race) -> str:
    """Return the number of steps, and how many of them were not finished in time or failed."""
    given_up = sum(one.is_given_up for one in race.outcomes)
    failed = sum(bool(one.reason) for one in race.outcomes) - given_up
    others = [f"{number:,} {state}" for number, state in ((given_up, "not finished"), (failed, "failed")) if number]
    steps = count(len(race.outcomes), "step")
    return f"{steps} ({', '.join(others)})" if others else steps


def transfer_verdict(race: Race) -> tuple[str, str, str, str]:
    """Return `yes`, `no` or `not shown`, with label, status and sentence: the best transfer beside the best baseline.

    Both were chosen on the labeled samples, and are compared on the test samples, sample by sample.
    """
    field, transferred = (_first(race, kinds) for kinds in ((FIELD,), PRETRAINED))
    if field is None or transferred is None:
        missing = "baseline of the field" if field is None else "pretrained source"
        return "not tested", "Not tested", INFO, f"No {missing} was fitted to compare with."
    unit = field.run.record["result"]["unit"]
    difference = difference_of(errors_of_run(transferred.run), errors_of_run(field.run), unit)
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
        margin = scale * difference.standard_error * student_quantile(difference.n_units - 1)
        points = " points" if unit == PERCENT else ""
        smallest = f" Only a difference of {margin:.3g}{points} or more could have been shown." if margin > 0 else ""
        return answer, "Not shown", WARN, f"{text}{smallest}"
    return answer, answer.capitalize(), PASS if answer == "yes" else FAIL, text


def _first(race: Race, kinds: Sequence[str]) -> Tested | None:
    """Return the tested model of some kinds whose error on the labeled samples is the lowest."""
    tested = {one.name: one for one in race.tested}
    kind = first_of_kinds(race.chosen, [kind for kind in kinds if kind in tested])
    return None if kind is None else tested[kind]


def errors_of_run(run: Run) -> SampleErrors | None:
    """Return the errors of the test samples; None if the metric has none by sample."""
    try:
        return next(iter(read_sample_file(run.folder / SAMPLES_FILE).errors.values()))
    except InputError:
        return None


def _signed(difference: PairedDifference, unit: str) -> str:
    """Return a difference of two test errors with its sign; that of percentages is in points."""
    value = difference.value * (100 if unit == PERCENT else 1)
    return f"{f'{value:+.3g}' if value else '0'}{' points' if unit == PERCENT else ''}"


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
    difference = difference_of(errors_of_run(winner.run), errors_of_run(control.run), unit)
    start = winner.spoken[:1].upper() + winner.spoken[1:]
    text = f"{start} has {winner.shown}, and the same architecture with random weights {control.shown}"
    if difference is None or difference.p_value is None:
        yield Verdict(question, "Not shown", WARN, f"{text}. {_no_significance(race)}")
        return
    decision = transfer_helps(difference)
    status = {"yes": PASS, "no": FAIL, "not shown": WARN}[decision]
    yield Verdict(question, decision.capitalize(), status, f"{text} (p {format_p_value(difference.p_value)}).")


def _more_time(race: Race, folder: Path | None) -> Verdict:
    question, n_left, request = "What would more time do?", len(race.not_tried), race.request
    if request.steps:
        return Verdict(question, "Repeated", INFO, "The steps were those of an earlier transfer.")
    no_training = ""
    ended = {one.step.kind for one in race.outcomes if not one.is_given_up}
    if any(title.startswith("finetune ") for title in race.not_tried) and TRAINING not in ended:
        others = ", so probes used the rest of it" if LINEAR_PROBE in ended else ""
        no_training = f" No training fitted into the time{others}."
    if not n_left and request.minutes <= SHORT / 60:
        text = f"Trainings take part only if the time is longer than {format_duration(SHORT)}."
        return Verdict(question, "Try more", INFO, text)
    if not n_left:
        return Verdict(question, "Nothing", INFO, "Everything that the strategy has was tried.")
    result = race.tested[0].run.record["result"]
    if result["test"] == 0 or race.chosen.winner.error == 0:
        which = "test" if result["test"] == 0 else "validation"
        text = f"The {which} error is 0, so more time cannot be shown to lower it."
        return Verdict(question, "Nothing", INFO, f"{text}{no_training} {count(n_left, 'step')} did not take part.")
    shown = "; ".join(race.not_tried[:4]) + (f"; and {n_left - 4:,} more (transfer.json)" if n_left > 4 else "")
    minutes = min(2 * request.minutes or 10, LONGEST_LIMIT)
    command = shlex.join(["modgap", "transfer", "--out", str(folder), "--resume", "--minutes", f"{minutes:g}"])
    can_go_on = folder is not None and can_be_typed(str(folder)) and minutes > request.minutes
    way = f" Go on with `{command}`." if can_go_on else ""
    if not request.minutes:
        text = f"Only the quick baselines took part, without {count(n_left, 'other step')}: {shown}."
        return Verdict(question, "Try more", INFO, f"{text}{way}")
    text = f"{count(n_left, 'step')} did not fit into the time: {shown}.{no_training}{way}"
    return Verdict(question, "Try more", INFO, text)


def _notes(race: Race) -> Iterator[str]:
    chosen, on_these = race.chosen, ""
    if any(np.isfinite(one.losses).sum() > len(chosen.judged) for one in finalists_of(race.outcomes)):
        on_these = " on these samples"
        yield (
            f"The choice compared models on the {count(len(chosen.judged), 'labeled sample')} on which each of them "
            "was judged. The table has the errors on all samples on which a model was judged."
        )
    if chosen.winner is not chosen.lowest:
        yield (
            f"{chosen.lowest.step.title} had the lowest validation error{on_these}, and {chosen.winner.step.title} is "
            "the simplest model within one standard error of it."
        )
    if any(not one.reason and is_preliminary(one, chosen) for one in race.outcomes):
        yield f"Preliminary results {PRELIMINARY}."
    if race.tested_after:
        times = ", ".join(format_duration(60 * minutes) for minutes in race.tested_after)
        yield (
            f"This transfer was tested before, when its time was {times}. A test error that decides whether to go on "
            "is slightly optimistic in the end."
        )
    yield (
        "Models were chosen on the labeled samples alone. The lowest of several validation errors is optimistic; the "
        "test errors are not, since each final model was tested once."
    )


def tested_columns(labeled: LabeledData) -> tuple[str, ...]:
    """Return the columns of the table of the final models."""
    return "model", f"test {labeled.of_test}", "95 % CI", "minus the chosen", "CI of this", "p", "kind"


def tested_table(race: Race, labeled: LabeledData) -> Table:
    """Return the table of the final models with their test errors, each beside that of the chosen one."""
    winner = race.tested[0].run
    unit, marks = winner.record["result"]["unit"], []
    rows = []
    for one in race.tested:
        result = one.run.record["result"]
        compared = ["", "", ""] if one.is_winner else _compared(errors_of_run(one.run), errors_of_run(winner), unit)
        rows.append([one.title, one.shown, _interval(result), *compared, one.name])
        interval, test = known_interval(result["interval"]), result["test"]
        is_reference, is_chosen = one.name in REFERENCES, one.is_winner
        mark = None if test is None else Mark(float(test), interval, is_reference=is_reference, is_chosen=is_chosen)
        marks.append(mark)
    if math.isfinite(race.chance.test):
        shown = f"{race.chance.test:.3g}{f' {unit}' if unit else ''}"
        compared = _compared(race.chance.errors, errors_of_run(winner), unit)
        rows.append(["constant prediction", shown, "", *compared, CHANCE])
        marks.append(Mark(race.chance.test, None, is_reference=True))
    title = "The final models: tested once on the same samples, the chosen one first"
    return Table(tested_columns(labeled), rows, title, LEGEND, marks=marks)


def _compared(errors: SampleErrors | None, others: SampleErrors | None, unit: str) -> list[str]:
    """Return the cells of a difference: its value, its 95 % interval and the p-value."""
    difference = difference_of(errors, others, unit)
    if difference is None:
        return ["", "", ""]
    scale = 100 if unit == PERCENT else 1
    ends = [f"{scale * end:.3g}" for end in difference.interval or ()]
    p_value = "" if difference.p_value is None else format_p_value(difference.p_value)
    return [_signed(difference, unit), " to ".join(ends), p_value]


def _steps_table(race: Race, labeled: LabeledData) -> Table:
    every = zip(race.outcomes, labeled.errors, strict=True)
    preliminary = {id(one): not one.reason and is_preliminary(one, race.chosen) for one in race.outcomes}
    order = sorted(every, key=lambda pair: (bool(pair[0].reason), preliminary[id(pair[0])], pair[1]))
    roles = {number: " (preliminary)" for number, is_so in preliminary.items() if is_so}
    roles[id(race.chosen.winner)] = " (chosen)"
    # A group is never divided, so few groups have fewer folds.
    n_folds = min(N_FOLDS, labeled.n_groups[0]) if labeled.group else N_FOLDS
    heads = ["model", f"validation {labeled.measure}", "labeled", "folds", "seconds"]
    rows = [
        [
            f"{one.step.title}{roles.get(id(one), '')}",
            _state(one) or labeled.shown(error),
            f"{one.step.labeled or race.n_labeled:,}",
            str(min(one.step.folds, n_folds)),
            f"{one.seconds:.1f}",
        ]
        for one, error in order
    ]
    notes = ["Errors are on the folds of the labeled samples that were left out."]
    if labeled.loss:
        notes.append(f"Models were compared by {labeled.loss}.")
    # A column with the same value in each row is a sentence.
    of_folds = f"Each model was judged on {{}} of {n_folds} folds."
    for column, sentence in ((3, of_folds), (2, "Each had {} labeled samples.")):
        values = {row[column] for row in rows}
        if len(values) == 1:
            notes.append(sentence.format(*values))
            for row in (heads, *rows):
                del row[column]
    chance = f"the validation {labeled.measure} of a constant prediction ({labeled.shown(labeled.chance)})"
    notes.append(f"{LEGEND} The dashed line is {chance}.")
    if any(preliminary.values()):
        notes.append("Preliminary results have orange outlines.")
    if any(one.is_given_up for one in race.outcomes):
        notes.append("Steps that are not finished were given up, because they would not have ended within the time.")
    title = "Everything that was tried"
    if len(order) > MOST_STEPS:
        title += f": the first {MOST_STEPS} of {len(order):,} steps, which are all in steps.csv"
    marks = [None if one.reason else _drawn_step(one, error, race.chosen) for one, error in order[:MOST_STEPS]]
    return Table(heads, rows[:MOST_STEPS], title, " ".join(notes), marks=marks, reference=labeled.chance)


def _drawn_step(one: Outcome, error: float, chosen: Chosen) -> Mark:
    is_reference, is_open = kind_of(one) in REFERENCES, is_preliminary(one, chosen)
    return Mark(error, is_reference=is_reference, is_open=is_open, is_chosen=one is chosen.winner)


def _time_table(race: Race, labeled: LabeledData) -> Iterator[Table]:
    """Yield a table with a curve for each kind of model: the lowest validation error after the time that was spent.

    Preliminary errors are left out.
    """
    tried = sorted(
        (at, error, kind_of(one))
        for one, at, error in zip(race.outcomes, race.elapsed, labeled.errors, strict=True)
        if not one.reason and not is_preliminary(one, race.chosen)
    )
    if len(tried) < 2:
        return
    so_far = {}
    for kind in KINDS:
        if points := [(at, error) for at, error, of in tried if of == kind]:
            so_far[kind] = [at for at, _ in points], list(itertools.accumulate((error for _, error in points), min))
    # Curves go on after the last result, so that the last one can be seen. All have the same scale.
    end, top = 1.04 * tried[-1][0], max(labeled.chance, *(errors[0] for _, errors in so_far.values())) or 1.0
    is_any_left_out = any(not one.reason and is_preliminary(one, race.chosen) for one in race.outcomes)
    left_out = " Preliminary results are left out." if is_any_left_out else ""
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
        f"All curves go from the start to {tried[-1][0]:,.0f} s, and from 0 to {labeled.shown(top)}.{left_out}",
        curves=curves,
        is_detail=True,
    )


def _state(outcome: Outcome) -> str:
    """Return the state of a step without an error: given up because of the time, or failed; empty with an error."""
    if outcome.is_given_up:
        return "not finished"
    return "failed" if outcome.reason else ""
