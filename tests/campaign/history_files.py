"""Valid files of a history, of results that are added to one, and the functions that read and use them."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tests.campaign.run_files import RECORD

RATES = (0.0005, 0.0001)
TRAINED = {**RECORD, "recipe": {**RECORD["recipe"], "stage2": {"epochs": 10, "learning_rate": 0.0005}}}
RANKED: dict[str, Any] = {
    "schema": 2,
    "kind": "ranking",
    "target": {"name": "wine", "task": "classification", "kind": "series", "samples": 60, "classes": 3},
    "request": {"input_size": None},
    "answer": {},
    "pilot": {
        "labeled": 90,
        "trained": 45,
        "judged": 60,
        "rates": 3,
        "epochs": 10,
        "sources": [
            {"source": "a", "by_training": [0.25, 0.5], "seconds": 2.5},
            {"source": "b@64px", "by_training": [0.125, 0.25], "seconds": 3.5},
        ],
    },
}


def history(name: str) -> Callable[[Path], Path]:
    """Return a function that writes a history of two sources on three targets, and returns the file of this name."""

    def make(folder: Path) -> Path:
        from modgap.ranking.history.lines import HistoryLine, Setup
        from modgap.ranking.history.sketches import TargetSketch
        from modgap.ranking.history.store import History, export_history, write_history

        rng = np.random.default_rng(0)
        sketches = [TargetSketch(tuple(range(start, start + 20)), True) for start in (0, 50, 100)]
        setup = Setup(128, 10, RATES)
        lines = [
            HistoryLine(
                *(source, f"t{number}", "image", 500, 5, setup),
                dict(zip(("trained", "control", "pilot-3"), rng.random(3).round(3).tolist(), strict=True)),
                {"pilot-3": 64},
                {"pilot-3": 2.5},
                target_digest=sketch.digest,
            )
            for number, sketch in enumerate(sketches)
            for source in "ab"
        ]
        known = History(tuple(lines), {sketch.digest: sketch for sketch in sketches})
        write_history(folder, known)
        export_history(known, folder / "shared.jsonl", fingerprints=True)
        return folder / name

    return make


def choose(folder: Path) -> object:
    """Read a history, write it again, and choose a source by it."""
    from modgap.ranking.history.choice import PilotError, choose_source
    from modgap.ranking.history.lines import Setup, history_digest
    from modgap.ranking.history.sketches import TargetSketch
    from modgap.ranking.history.store import read_history, write_history

    known = read_history(folder)
    write_history(folder / "again", known)
    again = read_history(folder / "again")
    assert history_digest(again.lines) == history_digest(known.lines)
    assert again.sketches == known.sketches
    pilots = {"a": PilotError({"pilot-3": 0.5}, 40), "b": PilotError({"pilot-3": 0.25}, 40)}
    sketch = TargetSketch(tuple(range(10, 20)), True)
    found = choose_source(known, ["a", "b", "c"], Setup(128, 10, RATES), pilots, "t9", sketch)
    if found is None:
        return len(known.lines)
    for forecast in (found.before, found.after):
        values = (forecast.mean, forecast.variance, forecast.error, forecast.best, forecast.interval())
        assert all(np.isfinite(value).all() for value in values)
        assert ((forecast.error >= 0) & (forecast.error <= 1)).all()
    return found.first


def read_folder(path: Path) -> object:
    """Read the history in the folder of a file, and use it."""
    return choose(path.parent)


def merge(path: Path) -> object:
    """Add the lines of an exported file to a history, and use it."""
    from modgap.ranking.history.lines import read_lines
    from modgap.ranking.history.store import History, add_to_history

    folder = path.parent / "merged"
    add_to_history(folder, History(tuple(read_lines(path))))
    return choose(folder)


def result(name: str, record: dict[str, Any]) -> Callable[[Path], Path]:
    """Return a function that writes a record without a checksum, and returns its file."""

    def make(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(record))
        return folder / name

    return make


def add(path: Path) -> object:
    """Add the errors of a result to a history, and read it."""
    from modgap.api.pages.result_folder import read_result_folder
    from modgap.ranking.history.store import History, add_to_history, lines_of_ranking, lines_of_run, read_history

    kind, record = read_result_folder(path.parent)
    lines = lines_of_run(record) if kind.name == "run" else lines_of_ranking(record)
    folder = path.parent / "history"
    add_to_history(folder, History(tuple(lines)))
    assert all(math.isfinite(value) for line in read_history(folder).lines for value in numbers(line))
    return len(lines)


def numbers(line: Any) -> Iterable[float]:
    """Return the numbers of a line."""
    return (*line.errors.values(), *line.held_out.values(), *line.seconds.values(), line.samples, line.classes)


PARSED = [
    ("history lines", history("history.jsonl"), read_folder),
    ("history sketches", history("sketches.json"), read_folder),
    ("history export", history("shared.jsonl"), merge),
    ("history of a run", result("run.json", TRAINED), add),
    ("history of a ranking", result("ranking.json", RANKED), add),
]
"""Name, maker and reader of each."""
