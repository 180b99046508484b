"""The model card of a transfer."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from modgap.answers import Answer
from modgap.errors import count, format_duration, visible_name
from modgap.race.answer import counted_steps, of_groups, sample_checks, tested_columns, tested_table
from modgap.race.labeled_data import GROUPS, LabeledData
from modgap.race.transfer import Race
from modgap.sources import pretrained_name, source_infos
from modgap.storage.algorithms import installed_version

MOST_NAMES = 30
"""Most names of classes or columns in the card."""


def model_card(race: Race, labeled: LabeledData, answer: Answer) -> str:
    """Return a card of the chosen model as Markdown: data, split, what was tried, errors, license and limits."""
    columns = tested_columns(labeled)
    tested = "\n".join(f"| {' | '.join(row)} |" for row in tested_table(race, labeled).rows)
    lines = [
        f"# {race.tested[0].title}",
        "",
        f"A model of `{visible_name(Path(race.request.target.name).name)}`, made by modgap {installed_version()}.",
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
        *(f"\n{check.sentence}" for check in sample_checks(labeled)),
        "",
        *(f"{verdict.question} {verdict.label}. {verdict.sentence}\n" for verdict in answer.verdicts[1:2]),
    ]
    return "\n".join(lines)


def _card_facts(race: Race, labeled: LabeledData) -> Iterator[tuple[str, str]]:
    """Yield the terms of the card's list, each with its text."""
    record = race.tested[0].run.record
    samples, task, custom_data = record["samples"], record["output"]["task"], race.request.target.custom_data
    parts = [
        f"{samples[name]:,} {text} samples{of_groups(labeled, part)}"
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
        f"{counted_steps(race)} in {format_duration(race.seconds[0])}, on the labeled samples alone (steps.csv).",
    )
    yield (
        "Chosen",
        f"{race.tested[0].title}, the simplest model within one standard error of the lowest validation loss.",
    )
    if record["source"]:
        licenses = {info.name: info.license for info in source_infos()}
        license_of = licenses.get(pretrained_name(str(record["source"])), "see its own terms")
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
