"""Lines of a history: what is read and refused, how they are merged, and the table that the model takes."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.ranking.history.lines import (
    VARIABLES,
    HistoryLine,
    Setup,
    history_digest,
    history_table,
    merge_lines,
    read_lines,
    write_lines,
)

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "modgap" / "ranking" / "history" / "shipped.jsonl"
SETUP = Setup(128, 10, (0.0005, 0.0001))


def line(source="a", target="t", errors=None, **more):
    return HistoryLine(
        source, target, "image", 100, 5, **{"setup": SETUP, "errors": errors or {"trained": 0.5}, **more}
    )


def test_lines_are_read_as_they_were_written(tmp_path):
    lines = [
        line("b", "t2", {"trained": 0.25, "pilot-1": 0.5}, held_out={"pilot-1": 64}, seconds={"pilot-1": 2.5}),
        line("a", "t1", setup=replace(SETUP, input_size=64), source_digest="5d", target_digest="77"),
    ]
    path = tmp_path / "deep" / "history.jsonl"
    write_lines(path, lines)
    assert read_lines(path) == [lines[1], lines[0]]
    assert history_digest(read_lines(path)) == history_digest(lines) != history_digest(lines[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"errors": {"trained": 1.5}}, "errors.trained"),
        ({"errors": {"trained": float("nan")}}, "errors.trained"),
        ({"errors": {"trained": "a"}}, "errors.trained"),
        ({"samples": 0}, "samples"),
        ({"source": ""}, "source"),
        ({"source": "x" * 301}, "source"),
        ({"setup": {"samples": 1, "epochs": 1}}, "setup.rates"),
        ({"more": 1}, "more"),
        ({"held_out": {"trained": -1}}, "held_out.trained"),
    ],
)
def test_a_line_that_is_none_of_a_history_is_one_message(tmp_path, change, message):
    path = tmp_path / "history.jsonl"
    write_lines(path, [line()])
    record = json.loads(path.read_text())
    path.write_text(f"\n{json.dumps({**record, **change})}\n")
    with pytest.raises(InputError, match=r"line 2 of .* is not a line of a history") as caught:
        read_lines(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[1, 2]", b"{", b"null", b'{"source": ' + b"[" * 5000])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "history.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_lines(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_lines(tmp_path / "absent.jsonl")


def test_later_errors_count_and_earlier_ones_stay():
    first = line(errors={"trained": 0.5, "pilot-1": 0.75}, held_out={"pilot-1": 10})
    second = line(errors={"trained": 0.25, "probe": 0.5}, seconds={"trained": 3.0})
    other = line(setup=replace(SETUP, epochs=3))
    merged = merge_lines([first, other], [second])
    assert len(merged) == 2
    assert merged[0].errors == {"trained": 0.25, "pilot-1": 0.75, "probe": 0.5}
    assert (merged[0].held_out, merged[0].seconds) == ({"pilot-1": 10}, {"trained": 3.0})
    assert merge_lines(merged, [second]) == merged


def test_the_table_has_one_setup_and_leaves_targets_out():
    lines = [
        line("a", "t", {"trained": 0.5, "pilot-3": 0.6}, held_out={"pilot-3": 40}),
        line("b", "t", {"trained": 0.4}, setup=replace(SETUP, samples=256, input_size=64)),
        line("a", "u", {"trained": 0.3}, target_digest="9"),
        line("a", "v", {"trained": 0.2}),
        line("b", "v", {"trained": 0.2}, setup=replace(SETUP, samples=257)),
        line("b", "w", {"trained": 0.2}, setup=replace(SETUP, epochs=3)),
    ]
    table = history_table(lines, SETUP, without=["9"])
    assert (table.sources, table.targets) == (("a", "b"), ("t", "v"))
    trained = table.errors[:, :, VARIABLES.index("trained")]
    np.testing.assert_array_equal(trained, [[0.5, 0.2], [0.4, np.nan]])
    assert table.held_out[0, 0, VARIABLES.index("pilot-3")] == 40
    np.testing.assert_allclose(np.sin(table.z[0, 0, 0]) ** 2, 0.5)


def test_random_changes_of_a_line_are_read_or_refused(tmp_path):
    path = tmp_path / "history.jsonl"
    write_lines(path, [line(errors=dict.fromkeys(VARIABLES, 0.5))])
    content = path.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(changed)
        try:
            (found,) = read_lines(path) or [line()]
        except InputError:
            refused += 1
        else:
            assert all(0 <= value <= 1 for value in found.errors.values())
    assert refused > 100


def test_the_shipped_history_has_the_errors_of_the_benchmark(evidence):
    jobs, tables = evidence["ranking_jobs"], evidence["ranking_tables"]
    log = evidence["result_log"].ResultLog(ROOT / "benchmarks" / "truth" / "ranking.jsonl")
    table = history_table(read_lines(SHIPPED), Setup(jobs.LABELED, jobs.EPOCHS[-1], jobs.RATES))
    truth = tables.read_truth(log, (*jobs.DEVELOPMENT, *jobs.TEST))
    names = [name.partition("@")[0] for name in jobs.SOURCES]
    rows = [table.sources.index(name) for name in names]
    columns = [table.targets.index(target) for target in truth.targets]
    found = table.errors[np.ix_(rows, columns)]
    np.testing.assert_allclose(found[:, :, 0], truth.means / 100, atol=1e-6)
    np.testing.assert_allclose(found[:, :, 1], truth.controls / 100, atol=1e-6)
    np.testing.assert_allclose(found[:, :, -1], -truth.pilots[tables.BEST_PILOT] / 100, atol=1e-6)
    assert np.isfinite(table.held_out[:, :, 2:]).all()
