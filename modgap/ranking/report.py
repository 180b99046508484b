"""A ranking as record (strict JSON), as CSV, in a result folder, and as the public function returns it."""

import io
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modgap.answers import Answer, Plotted
from modgap.answers.formatting import csv_text, plain_text
from modgap.ranking.answer import control_sources, difference_to_first, first_ties, ranking_answer, source_letters
from modgap.ranking.check_sentences import score_label
from modgap.ranking.judgment import judge
from modgap.ranking.scores import shown_score
from modgap.ranking.target_summary import reference_value
from modgap.ranking.types import BASELINE, CONTROL, Pilot, Ranking, ScoreTable, TargetSummary
from modgap.statistics.sample_file import SAMPLES_FILE, write_sample_file
from modgap.storage.atomic_files import write_texts, writing
from modgap.storage.json_records import format_json, plain_values, with_digest

if TYPE_CHECKING:
    import pandas as pd

    from modgap.answers.figures.files import ResultFigure

RECORD, MATRIX_RECORD = "ranking.json", "matrix.json"
"""Records of a ranking, and of rankings of several targets."""
SCHEMA = 2
LIBRARIES = ("torch", "timm", "transformers", "numpy", "scipy", "scikit-learn", "openTSNE")
"""Libraries whose versions are recorded."""


def _describe_score(table: ScoreTable, target: TargetSummary | None) -> dict[str, object]:
    score = shown_score(table.name)
    reference = reference_value(table.name, target)
    return {
        "label": score_label(table.name),
        "title": score.title,
        "unit": score.unit,
        "higher_is_better": score.higher_is_better,
        "reference": dict(zip(("label", "value"), reference, strict=True)) if reference else None,
        "by_sample": table.by_sample,
    }


def _row_record(
    ranking: Ranking, index: int, letters: Mapping[str, Mapping[int, str]], sources: Mapping[int, int]
) -> dict[str, object]:
    row = ranking.rows[index]
    table, shown_details = ranking.deciding_table, None
    if details := row.report_details:
        points = {"coordinates": details.coordinates.round(3).tolist(), "labels": details.labels.tolist()}
        shown_details = {"discrepancy": plain_values(details.discrepancy), "map": points}
    return {
        "source": row.name,
        "kind": row.kind,
        "control_of": ranking.rows[sources[index]].name if index in sources else None,
        "requested": row.requested,
        "reason": ranking.reason(index) or None,
        "rank": int(table.source_ranks[index]) or None,
        "tied_with_first": index in first_ties(table),
        "properties": plain_values(row.properties),
        "scores": {
            name: {**_score_record(table, index), "letters": letters[name].get(index) or None}
            for name, table in ranking.shown_tables.items()
        },
        "report_details": shown_details,
        "provenance": plain_values(row.provenance),
    }


def _score_record(table: ScoreTable, index: int) -> dict[str, object]:
    low, high = (int(bound) for bound in table.among_sources.rank_intervals[index])
    return {
        "value": plain_values(float(table.standings.values[index])),
        "interval": plain_values(table.standings.intervals[index].tolist()),
        "higher_is_better": table.higher_is_better,
        "rank": int(table.source_ranks[index]) or None,
        "rank_interval": [low, high] if low else None,
        "difference_to_first": difference_to_first(table, index),
        "reason": table.reasons[index] or None,
    }


def pilot_record(ranking: Ranking) -> dict[str, object] | None:
    """Return the record of the errors after short fine-tunings. None without them."""
    pilot = ranking.pilot
    if pilot is None:
        return None
    sources, controls, baselines = (
        [_pilot_row_record(ranking, pilot, index) for index in indices]
        for indices in (
            pilot.table.source_order,
            *(ranking.rows_with_value(kind, pilot.table) for kind in (CONTROL, BASELINE)),
        )
    )
    failures = {row.name: reason for row, reason in zip(ranking.rows, pilot.table.reasons, strict=True) if reason}
    numbers = {"epochs": pilot.epochs, "rates": pilot.rates, "trained": pilot.trained, "judged": pilot.judged}
    numbers["labeled"] = max((one.labeled for one in pilot.results.values()), default=0)
    return {**numbers, "sources": sources, "controls": controls, "baselines": baselines, "failures": failures}


def _pilot_row_record(ranking: Ranking, pilot: Pilot, index: int) -> dict[str, object]:
    result = pilot.results.get(index)
    return {
        "source": ranking.rows[index].name,
        **_score_record(pilot.table, index),
        "by_training": plain_values(result.by_training.tolist()) if result else [],
        "settings": list(pilot.settings(index)),
        "seconds": round(result.seconds, 3) if result else 0.0,
    }


def _pair_records(ranking: Ranking) -> list[dict[str, object]]:
    """Return, once for each pair, the probability that a row is better than another by the score that decides."""
    order = ranking.order()
    win_probabilities = ranking.deciding_table.standings.win_probabilities
    return [
        {
            "better": ranking.rows[one].name,
            "than": ranking.rows[other].name,
            "probability": round(float(win_probabilities[one, other]), 4),
        }
        for position, one in enumerate(order)
        for other in order[position + 1 :]
        if math.isfinite(win_probabilities[one, other])
    ]


def to_csv(ranking: Ranking) -> str:
    """Return the ranking as CSV: one line for each row, one column for each score and each end of its interval."""
    columns = [f"{name}{end}" for name in ranking.shown_tables for end in ("", " low", " high")]
    head = ["rank", "source", "kind", "parameters", *columns, "reason"]
    rows = []
    for index in ranking.order():
        row, rank = ranking.rows[index], int(ranking.deciding_table.source_ranks[index])
        standings = [table.standings for table in ranking.shown_tables.values()]
        values = [value for one in standings for value in (one.values[index], *one.intervals[index])]
        shown = [repr(float(value)) if math.isfinite(value) else "" for value in values]
        rows.append(
            [rank or "", row.name, row.kind, row.properties.get("parameters", ""), *shown, ranking.reason(index)]
        )
    return csv_text([head, *rows])


class RankingResult(Plotted, Ranking):
    """A ranking of sources for one target, as `modgap.rank` returns it.

    `print(ranking)` shows the recommendation and the table of the command. The attributes are those of
    `modgap.ranking.types.Ranking`.
    """

    @cached_property
    def answer(self) -> Answer:
        """The answer, with its verdicts, checks, tables and next step."""
        return ranking_answer(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values."""
        sources = control_sources(self)
        letters = {name: source_letters(table) for name, table in self.shown_tables.items()}
        request = asdict(self.request)
        request |= request.pop("samples")
        return {
            "schema": SCHEMA,
            "kind": "ranking",
            "target": asdict(self.target) if self.target else None,
            "by": self.by,
            "decided_by": self.deciding_table.name,
            "score_descriptions": {
                name: _describe_score(table, self.target) for name, table in self.shown_tables.items()
            },
            "sources": [_row_record(self, index, letters, sources) for index in self.order()],
            "pairs": _pair_records(self),
            "pilot": pilot_record(self),
            "known_sources": asdict(self.known) | {"constant_answer": self.constant} if self.known else None,
            "layers": [plain_values(asdict(curve)) for curve in self.layers],
            "verdict": judge(self).to_dict(),
            "recommendation": self.answer.sentences,
            "answer": self.answer.to_dict(),
            "request": plain_values(request),
            "jobs": {stage: counts._asdict() for stage, counts in self.jobs.items()},
            "seconds": {stage: round(value, 3) for stage, value in self.seconds.items()},
            "provenance": {
                "modgap": self.version,
                **{name: metadata.version(name) for name in LIBRARIES},
                "python": platform.python_version(),
                "machine": f"{platform.system()} {platform.machine()}",
            },
        }

    def to_frame(self, figure: str | None = None) -> "pd.DataFrame":
        """Return a data frame with one row per source and the columns of ranking.csv, or the one that a figure draws.

        Args:
            figure: Name of a figure: `ranking` or `layers`. None for the table.

        Raises:
            UsageError: If the ranking has no figure with this name.
        """
        if figure is not None:
            return self._figure(figure).frame()
        import pandas as pd

        return pd.read_csv(io.StringIO(to_csv(self)), converters={"source": plain_text})

    def figures(self) -> "Iterator[ResultFigure]":
        """Yield the figures that the ranking has, the most important first."""
        from modgap.ranking.figures import planned_figures

        return planned_figures(self)

    def write(self, folder: Path) -> list[Path]:
        """Write ranking.json and ranking.csv to an existing folder, and return the paths of the written files.

        If the score that the sources are ranked by is an error by sample, the errors are written to samples.npz, which
        has one column for each row of the ranking.

        Raises:
            InputError: If a file cannot be written.
        """
        record = with_digest(format_json(self.to_dict()))
        with writing(folder):
            # Files of an earlier result would be read as parts of this one.
            for name in (SAMPLES_FILE, MATRIX_RECORD):
                (folder / name).unlink(missing_ok=True)
            written = write_texts(folder, {"ranking.csv": to_csv(self), RECORD: record})
            if self.samples:
                write_sample_file(folder / SAMPLES_FILE, self.samples)
                written.append(folder / SAMPLES_FILE)
        return written
