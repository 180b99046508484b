"""Write the history that ships with modgap from the results of the ranking benchmark.

    python tools/history.py

The errors are those of benchmarks/truth/ranking.jsonl: ten sources on 24 targets, at most 128 labeled samples.
"""

import functools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from evidence.ranking_jobs import DEVELOPMENT, SOURCES, TEST, Job, chosen_rate  # noqa: E402
from result_log import ResultLog  # noqa: E402

from modgap.ranking.history.lines import HistoryLine, Setup  # noqa: E402
from modgap.ranking.history.measure import (  # noqa: E402
    EPOCHS,
    LABELED,
    RATES,
    Training,
    TrainingErrors,
    line_of_trainings,
    trainings,
)
from modgap.ranking.history.sketches import sketch_target  # noqa: E402
from modgap.ranking.history.store import SHIPPED, History, write_history  # noqa: E402
from modgap.ranking.source_patterns import split_input_size  # noqa: E402
from modgap.targets import open_target  # noqa: E402


def histories(log: ResultLog) -> Iterator[History]:
    """Yield for each target of the benchmark a line for each source, and the sketch of its samples."""
    for target in (*DEVELOPMENT, *TEST):
        table = open_target(target).read()
        classes = len(np.unique(np.asarray(table.class_labels)))
        kind, sketch = open_target(target).manifest.input.kind, sketch_target(table.samples)
        lines = []
        for name in SOURCES:
            source, size = split_input_size(name)
            setup = Setup(LABELED, EPOCHS[-1], RATES, size)
            line = HistoryLine(source, target, kind, len(table), classes, setup, {}, target_digest=sketch.digest)
            results = {one: _errors(log, one) for one in trainings(name, target, chosen_rate(log, name, target))}
            lines.append(_with_probe(line_of_trainings(line, results, size), log, name))
        yield History(tuple(lines), {sketch.digest: sketch})


def _errors(log: ResultLog, training: Training) -> TrainingErrors:
    record = log.get(training)
    assert record is not None
    errors = {int(epoch): error for epoch, error in record["errors"].items()}
    return TrainingErrors(errors, record["samples"]["train"], record["samples"]["test"], record["seconds"])


def _with_probe(line: HistoryLine, log: ResultLog, source: str) -> HistoryLine:
    """Return a line with the test error of a linear probe, if the source has features of the target."""
    record = log.get(Job("scores", source, line.target))
    assert record is not None
    if (percent := record["probe"][source]) is None:
        return line
    held_out = {**line.held_out, "probe": line.held_out["trained"]}
    return replace(line, errors={**line.errors, "probe": round(percent / 100, 6)}, held_out=held_out)


if __name__ == "__main__":
    log = ResultLog(ROOT / "benchmarks" / "truth" / "ranking.jsonl")
    write_history(SHIPPED, functools.reduce(History.merged, histories(log)))
