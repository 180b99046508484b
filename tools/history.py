"""Write the history that ships with modgap from the results of the evidence.

    python tools/history.py

The errors are those of fine-tunings on at most 128 labeled samples in benchmarks/truth: of ten sources on the 24
targets of the second edition, with their random-weights controls, and those of the third edition, on its earlier and
its judging targets. A source that does not read a target has no line there.
"""

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from evidence.ranking_jobs import SOURCES, Job  # noqa: E402
from evidence.third_choice import EARLIER  # noqa: E402
from evidence.third_jobs import NEW_SOURCES, judging_targets  # noqa: E402
from result_log import ResultLog  # noqa: E402

from modgap.ranking.history.lines import HistoryLine, Setup  # noqa: E402
from modgap.ranking.history.measure import (  # noqa: E402
    ALL,
    EPOCHS,
    HALF,
    LABELED,
    RATES,
    Training,
    TrainingErrors,
    best_rate,
    line_of_trainings,
    trainings,
)
from modgap.ranking.history.sketches import sketch_target  # noqa: E402
from modgap.ranking.history.store import SHIPPED, History, write_history  # noqa: E402
from modgap.ranking.source_patterns import split_input_size  # noqa: E402
from modgap.targets import open_target  # noqa: E402

TRUTH = ROOT / "benchmarks" / "truth"
LOGS = ("ranking", "third/history", "third/choice")


def histories(logs: Sequence[ResultLog], targets: Sequence[str]) -> Iterator[History]:
    """Yield for each target a line for each source that reads it, and the sketch of its samples."""
    for target in targets:
        opened = open_target(target)
        table = opened.read()
        classes = len(np.unique(np.asarray(table.class_labels)))
        kind, sketch = opened.manifest.input.kind, sketch_target(table.samples)
        lines = []
        for name in (*SOURCES, *NEW_SOURCES):
            if results := _results(logs, name, target):
                source, size = split_input_size(name)
                setup = Setup(LABELED, EPOCHS[-1], RATES, size)
                line = HistoryLine(source, target, kind, len(table), classes, setup, {}, target_digest=sketch.digest)
                lines.append(_with_probe(line_of_trainings(line, results, size), logs[0], name))
        yield History(tuple(lines), {sketch.digest: sketch})


def _results(logs: Sequence[ResultLog], name: str, target: str) -> dict[Training, TrainingErrors]:
    """Return the errors of the trainings of a line; the third edition has one seed, which stands for both."""
    halves = {rate: _errors(logs, Training(HALF, name, target, 0, rate)) for rate in RATES}
    rate = best_rate({rate: half.last for rate, half in halves.items() if half})
    by_training = {one: errors for one in trainings(name, target, rate) if (errors := _errors(logs, one))}
    first = next((errors for one, errors in by_training.items() if one.part == ALL), None)
    return by_training | {
        one: first for one in trainings(name, target, rate) if one.part == ALL and one not in by_training and first
    }


def _errors(logs: Sequence[ResultLog], training: Training) -> TrainingErrors | None:
    record: Mapping = next((record for log in logs if (record := log.get(training))), {})
    if "errors" not in record:
        return None
    errors = {int(epoch): error for epoch, error in record["errors"].items()}
    return TrainingErrors(errors, record["samples"]["train"], record["samples"]["test"], record["seconds"])


def _with_probe(line: HistoryLine, log: ResultLog, source: str) -> HistoryLine:
    """Return a line with the test error of a linear probe, if the second edition measured one."""
    record = log.get(Job("scores", source, line.target))
    if record is None or (percent := record["probe"][source]) is None:
        return line
    held_out = {**line.held_out, "probe": line.held_out["trained"]}
    return replace(line, errors={**line.errors, "probe": round(percent / 100, 6)}, held_out=held_out)


if __name__ == "__main__":
    logs = [ResultLog(TRUTH / f"{name}.jsonl") for name in LOGS]
    write_history(SHIPPED, functools.reduce(History.merged, histories(logs, [*EARLIER, *judging_targets()])))
