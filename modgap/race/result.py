"""The result of a race: its record, and a data frame of all that was tried."""

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modgap.answers import Answer, Plotted
from modgap.answers.formatting import csv_text
from modgap.process.log_messages import only_messages_from
from modgap.race.answer import answer_of_race, errors_of_run, transfer_verdict
from modgap.race.card import model_card
from modgap.race.labeled_data import LabeledData, describe_labeled
from modgap.race.steps import Outcome
from modgap.race.transfer import Race, Tested
from modgap.race.verdict import kind_of
from modgap.storage.algorithms import installed_version
from modgap.storage.atomic_files import write_texts, writing
from modgap.storage.json_records import format_json, plain_values, with_digest
from modgap.training.evaluation import PERCENT, difference_of
from modgap.training.run_folder import Run

if TYPE_CHECKING:
    import pandas as pd

    from modgap.answers.figures.files import ResultFigure
    from modgap.race.figures import DrawnRace

RECORD, CARD, STEPS_TABLE = "transfer.json", "card.md", "steps.csv"
SCHEMA = 1


@dataclass(frozen=True)
class TransferResult(Plotted):
    """The result of a race, as `modgap.transfer` returns it.

    `print(result)` shows what to use and its test error. Predict with `modgap.load_run(result.folder)`.

    Attributes:
        race: What was tried, chosen and tested.
        folder: Folder of the model.
        is_kept: False if the folder is removed with the estimator whose fit this is.
    """

    race: Race
    folder: Path
    is_kept: bool = True

    @property
    def run(self) -> Run:
        """The run of the chosen model."""
        return self.race.tested[0].run

    @cached_property
    def labeled(self) -> LabeledData:
        """The validation errors as they are shown, and what the answer and the card say about the samples."""
        with only_messages_from(logging.ERROR):  # The race has written the others.
            return describe_labeled(self.race.request, [one.losses for one in self.race.outcomes])

    def of_removed_folder(self) -> "TransferResult":
        """Return the same result of a fit whose folder is removed with its estimator."""
        result = replace(self, is_kept=False)
        # What is said about the samples, and the answer from their errors, are read while the folder exists.
        vars(result)["labeled"] = self.labeled
        vars(result)["answer"] = answer_of_race(self.race, self.labeled, None)
        return result

    @cached_property
    def answer(self) -> Answer:
        """The answer, with its verdicts, tables and next step."""
        return answer_of_race(self.race, self.labeled, self.folder if self.is_kept else None)

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values."""
        race, samples = self.race, self.race.request.samples
        chosen = race.chosen
        record: dict[str, object] = {
            "schema": SCHEMA,
            "kind": "transfer",
            "target": race.request.target.name,
            "minutes": race.request.minutes,
            "seed": samples.seed,
            "limit": samples.limit,
            "labeled": race.n_labeled,
            "steps": [_step_record(one, at) for one, at in zip(race.outcomes, race.elapsed, strict=True)],
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
            "tested_after": list(race.tested_after),
            "tested": [_tested_record(one, race) for one in race.tested],
            "helps": transfer_verdict(race)[0],
            "seconds": {"race": race.seconds[0], "final fits": race.seconds[1]},
            "answer": self.answer.to_dict(),
            "provenance": {"modgap": installed_version()},
        }
        return plain_values(record)  # type: ignore[no-any-return]

    def to_frame(self, figure: str | None = None) -> "pd.DataFrame":
        """Return a data frame with one row for each step that has an error, or the one that a figure draws.

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


def _step_record(one: Outcome, elapsed: float) -> dict[str, object]:
    """Return the record of a step without the losses of its samples."""
    about = {"step": asdict(one.step), "kind": kind_of(one), "title": one.step.title}
    # An error that is not finite becomes None.
    reason = {"reason": one.reason} if one.reason else {}
    return {**about, "error": one.error, "seconds": one.seconds, **reason, "elapsed": elapsed}


def _tested_record(one: Tested, race: Race) -> dict[str, object]:
    result, errors = one.run.record["result"], errors_of_run(one.run)
    difference = None if one.is_winner else difference_of(errors, errors_of_run(race.tested[0].run), result["unit"])
    record = {name: result[name] for name in ("metric", "unit", "test", "interval")}
    compared = None
    if difference is not None:
        # In points, where the test error is in percent.
        scale = 100 if result["unit"] == PERCENT else 1
        interval = difference.interval and [scale * end for end in difference.interval]
        compared = {"value": scale * difference.value, "interval": interval, "p_value": difference.p_value}
    about = {"kind": one.name, "title": one.title, "folder": one.run.folder.name, "is_winner": one.is_winner}
    return {**about, **record, "minus_chosen": compared}
