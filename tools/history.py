"""Write the history that ships with modgap from the results of the ranking benchmark.

    python tools/history.py

The errors are those of benchmarks/truth/ranking.jsonl: ten sources on 24 targets, at most 128 labeled samples.
"""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from evidence.ranking_jobs import (  # noqa: E402
    DEVELOPMENT,
    EPOCHS,
    LABELED,
    MIDDLE_RATE,
    RATES,
    SOURCES,
    TEST,
    Job,
    chosen_rate,
    n_seeds,
)
from result_log import ResultLog  # noqa: E402

from modgap.ranking.history.lines import HistoryLine, Setup  # noqa: E402
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
            setup, errors, held_out, seconds = _measured(log, name, target, size)
            values = (setup, errors, held_out, seconds)
            lines.append(HistoryLine(source, target, kind, len(table), classes, *values, target_digest=sketch.digest))
        yield History(tuple(lines), {sketch.digest: sketch})


def _measured(log: ResultLog, source: str, target: str, size: int | None):  # type: ignore[no-untyped-def]
    """Return the setup, the errors, on how many samples they were measured, and their seconds."""
    halves = {rate: log.get(Job("half", source, target, 0, rate)) for rate in RATES}
    rate = chosen_rate(log, source, target)
    assert rate is not None
    trained = [log.get(Job("all", source, target, seed, rate)) for seed in range(n_seeds(source))]
    control = log.get(Job("control", f"random:{source}", target, 0, MIDDLE_RATE))
    probe = log.get(Job("scores", source, target))
    last, middle = str(EPOCHS[-1]), halves[MIDDLE_RATE]
    errors = {
        "trained": float(np.mean([one["errors"][last] for one in trained])),
        "control": control["errors"][last],
        **{f"pilot-{epochs}": middle["errors"][str(epochs)] for epochs in EPOCHS},
        "pilot-rates": min(half["errors"][last] for half in halves.values()),
        "probe": probe["probe"][source],
    }
    judged, tested = middle["samples"]["test"], trained[0]["samples"]["test"]
    held_out = {name: judged if name.startswith("pilot") else tested for name in errors}
    # A pilot of fewer epochs takes its share of the whole training.
    seconds = {f"pilot-{epochs}": middle["seconds"] * epochs / EPOCHS[-1] for epochs in EPOCHS}
    seconds |= {"pilot-rates": sum(half["seconds"] for half in halves.values()), "control": control["seconds"]}
    seconds["trained"] = float(np.mean([one["seconds"] for one in trained]))
    setup = Setup(LABELED, EPOCHS[-1], RATES, size)
    shares = {name: round(value / 100, 6) for name, value in errors.items() if value is not None}
    return setup, shares, held_out, {name: round(value, 2) for name, value in seconds.items()}


if __name__ == "__main__":
    log = ResultLog(ROOT / "benchmarks" / "truth" / "ranking.jsonl")
    write_history(SHIPPED, functools.reduce(History.merged, histories(log)))
