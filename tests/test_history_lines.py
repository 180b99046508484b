"""Lines of a history: what is read and refused, how they are merged, and the table that the model takes."""

import importlib.util
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
from modgap.ranking.history.sketches import TargetSketch
from modgap.ranking.history.store import (
    History,
    add_to_history,
    export_history,
    lines_of_ranking,
    lines_of_run,
    read_history,
    remember_run,
    remove_from_history,
    shipped_history,
)
from modgap.targets import TargetRequest
from tests.commands import run_in_process
from tests.training import run, target_file

ROOT = Path(__file__).parent.parent
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
    with pytest.raises(InputError, match=r"Line 2 of .* is not a line of a history") as caught:
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
    known, unknown, changed = (line(target_digest=digest) for digest in ("1", "", "2"))
    assert merge_lines([known], [unknown]) == merge_lines([unknown], [known]) == [known]
    assert merge_lines([known], [changed]) == [known, changed]


def added_targets(tmp_path, *lines):
    return sorted({one.target for one in add_to_history(tmp_path / "history", History(lines)).lines})


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Digits", "digits"),
        (" mnist-5K ", "mnist5k"),
        ("MNIST 5k", "mnist5k"),
        ("Breast_Cancer", "breast-cancer"),
        ("ItalyPowerDemand", "italy-power"),
        ("Covid3Month_disc", "covid-3month-levels"),
        ("My_set", "my set"),
        ("MY-SET", "my set"),
        # Other targets, and a beginning of titles that several targets have.
        ("digits2", "digits2"),
        ("myset", "myset"),
        ("PDEBench", "PDEBench"),
        ("own/digits", "own/digits"),
    ],
)
def test_a_target_without_checksum_has_the_name_by_which_it_is_known(tmp_path, caplog, name, known):
    caplog.set_level("INFO", "modgap")
    add_to_history(tmp_path / "history", History((line("a", "my set"),)))
    assert added_targets(tmp_path, line("b", name)) == sorted({"my set", known})
    expected = [] if name == known else [f"{name} counts as the target {known}."]
    assert [record.getMessage() for record in caplog.records] == expected


def test_a_table_of_a_packaged_target_is_no_second_target_and_none_of_its_own_history(tmp_path):
    shipped = shipped_history()
    setup = shipped.lines[0].setup
    added = add_to_history(tmp_path, History((line("new", "Osu Leaf", setup=setup),)))
    table = history_table(shipped.merged(added).lines, setup)
    assert len(table.targets) == len({one.target for one in shipped.lines})
    assert table.targets.count("osu-leaf") == 1
    digest = next(one.target_digest for one in shipped.lines if one.target == "osu-leaf")
    assert "new" not in history_table(shipped.merged(added).lines, setup, [digest]).sources


def test_a_target_with_the_samples_and_classes_of_one_that_ships_is_this_one(tmp_path):
    shipped = {one.target: one for one in shipped_history().lines}
    fonts, glyphs = (replace(shipped[name], target=f"my-{name}", source="new") for name in ("fonts", "glyphs"))
    # Both have the same samples, and other classes.
    assert fonts.target_digest == glyphs.target_digest
    assert added_targets(tmp_path, fonts, glyphs) == ["fonts", "glyphs"]
    changed = [replace(fonts, classes=2), replace(fonts, target_digest="0" * 32)]
    assert added_targets(tmp_path / "b", *changed) == ["my-fonts"]


def test_two_names_of_one_target_are_joined_unless_their_errors_differ(tmp_path):
    one, other = line("a", "Digits", {"trained": 0.5}), line("a", "DIGITS", {"trained": 0.25})
    with pytest.raises(InputError, match="Digits and DIGITS are both the target digits, with different errors of a"):
        add_to_history(tmp_path / "history", History((one, other)))
    assert added_targets(tmp_path, one, replace(other, source="b"), replace(one, target="digits")) == ["digits"]


def naive_merge(lines):
    """The lines, each joined with the first one about the same source, target and setup, as far as it is known."""
    merged = []
    for one in lines:
        for number, known in enumerate(merged):
            same = (known.source, known.target, known.setup) == (one.source, one.target, one.setup)
            if same and ("" in (known.target_digest, one.target_digest) or known.target_digest == one.target_digest):
                digest = one.target_digest or known.target_digest
                merged[number] = replace(one, errors={**known.errors, **one.errors}, target_digest=digest)
                break
        else:
            merged.append(one)
    return merged


def test_merged_lines_are_those_of_a_loop():
    rng = random.Random(0)
    for _ in range(200):
        lines = [
            line(rng.choice("ab"), "t", {rng.choice(VARIABLES): rng.random()}, target_digest=rng.choice(["", "1", "2"]))
            for _ in range(rng.randint(0, 6))
        ]
        key = repr
        assert sorted(merge_lines(lines[:2], lines[2:]), key=key) == sorted(naive_merge(lines), key=key)


def test_many_lines_about_one_source_and_target_are_merged_at_once():
    lines = [line(target_digest=str(number)) for number in range(20_000)]
    assert len(merge_lines(lines, lines)) == 20_000


def test_files_and_lines_that_are_too_long_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "history.jsonl"
    path.write_text('{"source": "' + "x" * 70_000 + '"}')
    with pytest.raises(InputError, match=r"Line 1 of .* has more than 65,536 characters"):
        read_lines(path)
    with pytest.raises(InputError, match="was not written to") as caught:
        write_lines(tmp_path / "new.jsonl", [line(errors={f"e{number}": 0.5 for number in range(9000)})])
    assert "modgap history remove" in str(caught.value)
    assert not (tmp_path / "new.jsonl").exists()
    path.write_text(json.dumps({"source": "a", "x" * 9000: 1}))
    with pytest.raises(InputError) as caught:
        read_lines(path)
    assert len(str(caught.value)) < 500
    monkeypatch.setattr("modgap.ranking.history.lines.LARGEST_FILE", 1 << 20)
    for read in (lambda: read_lines(Path("/dev/zero")), lambda: read_history(tmp_path)):
        (tmp_path / "sketches.json").write_bytes(b" " * ((1 << 20) + 1))
        path.write_text("\n")
        with pytest.raises(InputError, match="is larger than 1 MiB"):
            read()
    with pytest.raises(InputError, match="cannot be read"):
        read_lines(Path("a\0b"))


def test_line_separators_of_other_kinds_are_parts_of_a_text(tmp_path):
    path = tmp_path / "history.jsonl"
    write_lines(path, [line("a\u2028b"), line("b")])
    path.write_text(path.read_text().replace("\\u2028", "\u2028"), encoding="utf-8", newline="\r\n")
    assert [one.source for one in read_lines(path)] == ["a\u2028b", "b"]


def test_a_history_of_too_many_targets_is_one_message(monkeypatch):
    lines = [line(target=str(number)) for number in range(1001)]
    assert len(history_table(lines[:1000], SETUP).targets) == 1000
    with pytest.raises(InputError, match=r"1 source on 1,001 targets\. At most 1,000 targets and"):
        history_table(lines, SETUP)
    monkeypatch.setattr("modgap.ranking.history.lines.MOST_CELLS", 5)
    with pytest.raises(InputError, match="2 sources on 3 targets"):
        history_table([line(source, target) for source in "ab" for target in "tuv"], SETUP)


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


def test_lines_without_a_checksum_are_about_the_known_target_of_their_name():
    known = [line("a", "t", {"trained": 0.5}, target_digest="1"), line("a", "u", target_digest="2")]
    added = line("b", "t", {"trained": 0.25})
    table = history_table([*known, added], SETUP)
    assert (table.sources, table.targets) == (("a", "b"), ("t", "u"))
    np.testing.assert_array_equal(table.errors[:, 0, 0], [0.5, 0.25])
    # Left out with the target, by whatever it is known.
    assert history_table([*known, added], SETUP, without=["1"]).targets == ("u",)
    assert history_table([*known, added], SETUP, without=["t"]).sources == ("a",)
    assert history_table([added], SETUP, without=[""]).targets == ("t",)
    # Of two targets of the name it is not known which one.
    assert len(history_table([*known, added, line("a", "t", target_digest="3")], SETUP).targets) == 4


@pytest.mark.parametrize("order", [1, -1])
def test_of_lines_of_other_numbers_of_samples_the_nearest_counts(order):
    lines = [
        line("a", "t", {"trained": 0.5, "pilot-1": 0.75}, held_out={"pilot-1": 64}),
        line("a", "t", {"pilot-1": 0.25, "pilot-3": 0.125}, setup=replace(SETUP, samples=2 * SETUP.samples)),
    ]
    table = history_table(lines[::order], SETUP)
    # An error that the nearest line lacks is that of the other one.
    found = [table.errors[0, 0, VARIABLES.index(name)] for name in ("trained", "pilot-1", "pilot-3")]
    assert found == [0.5, 0.75, 0.125]


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
    table = history_table(shipped_history().lines, Setup(jobs.LABELED, jobs.EPOCHS[-1], jobs.RATES))
    truth = tables.read_truth(log, (*jobs.DEVELOPMENT, *jobs.TEST))
    names = [name.partition("@")[0] for name in jobs.SOURCES]
    rows = [table.sources.index(name) for name in names]
    columns = [table.targets.index(target) for target in truth.targets]
    found = table.errors[np.ix_(rows, columns)]
    np.testing.assert_allclose(found[:, :, 0], truth.means / 100, atol=1e-6)
    np.testing.assert_allclose(found[:, :, 1], truth.controls / 100, atol=1e-6)
    np.testing.assert_allclose(found[:, :, -1], -truth.pilots[tables.BEST_PILOT] / 100, atol=1e-6)
    assert np.isfinite(table.held_out[np.ix_(rows, columns)][:, :, 2:]).all()


def test_the_history_that_ships_has_the_errors_of_both_editions(import_benchmark):
    choice, logs = import_benchmark("evidence.third_choice"), import_benchmark("result_log")
    spec = importlib.util.spec_from_file_location("history_tool", ROOT / "tools" / "history.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    recorded = [logs.ResultLog(tool.TRUTH / f"{name}.jsonl") for name in tool.LOGS]
    expected = choice.error_table(recorded)
    lines = [line for one in tool.histories(recorded, ["basic-motions", "penguins"]) for line in one.lines]
    table = history_table(lines, replace(lines[0].setup, input_size=None))
    assert table.targets == ("basic-motions", "penguins")
    rows = [table.sources.index(name.partition("@")[0]) for name in expected.models]
    columns = [expected.targets.index(target) for target in table.targets]
    np.testing.assert_allclose(table.errors[rows][:, :, 0], expected.errors[:, columns], atol=1e-6)
    for number, pilots in enumerate(expected.pilots.values(), start=2):
        np.testing.assert_allclose(table.errors[rows][:, :, number], pilots[:, columns], atol=1e-6)
    shipped = {(line.source, line.target): line.errors for line in shipped_history().lines}
    assert len(lines) == 33
    assert all(line.errors == shipped[line.source, line.target] for line in lines)


# The history of a user


RANKED = {
    "target": {"name": "wine", "task": "classification", "kind": "series", "samples": 60, "classes": 3},
    "request": {"input_size": None},
    "pilot": {
        "labeled": 90,
        "trained": 45,
        "judged": 60,
        "epochs": 10,
        "rates": 3,
        "sources": [
            {"source": "vit-fashion", "by_training": [0.25, 0.5, 0.5]},
            {"source": "efficientnet-lite0@64px", "by_training": [0.125, 0.25, 0.0]},
        ],
    },
}


def test_a_ranking_with_pilots_has_a_line_for_each_source():
    first, second = lines_of_ranking(RANKED)
    assert (first.source, first.target, first.errors, first.held_out) == (
        "vit-fashion",
        "wine",
        {"pilot-rates": 0.25},
        {"pilot-rates": 60},
    )
    assert (second.source, second.setup.input_size, second.setup.samples) == ("efficientnet-lite0", 64, 90)
    assert lines_of_ranking({**RANKED, "pilot": None}) == []
    assert lines_of_ranking({**RANKED, "request": {**RANKED["request"], "errors": {"weight": "classes"}}}) == []
    assert lines_of_ranking({**RANKED, "target": {**RANKED["target"], "task": "regression"}}) == []


@pytest.mark.parametrize(
    "change",
    [
        {"target": {"name": "wine"}},
        {"target": 3},
        {"pilot": [1]},
        {"pilot": {"trained": 45}},
        {"pilot": {**RANKED["pilot"], "judged": "x"}},
        {"pilot": {**RANKED["pilot"], "sources": [{"source": 5}]}},
    ],
)
def test_a_damaged_record_is_one_message(change):
    with pytest.raises(InputError, match=r"The record has no errors that a history can take \(.*\)\. Run the command"):
        list(lines_of_ranking({**RANKED, "request": {"input_size": None}, **change}))
    with pytest.raises(InputError, match="The record has no errors"):
        lines_of_run({"method": "finetune", "result": {"metric": "0-1 error %"}, "source": "a", **change})


def test_trainings_of_all_weights_have_a_line(tmp_path):
    tuned, scratch = (
        run(tmp_path / method, method, "vit-fashion", target_file(tmp_path, "classification"), None, "stage2.epochs=1")
        for method in ("finetune", "scratch")
    )
    (line_of_tuned,), (line_of_scratch,) = lines_of_run(tuned.record), lines_of_run(scratch.record)
    assert line_of_tuned.errors == {"trained": pytest.approx(tuned.record["result"]["test"] / 100)}
    assert line_of_scratch.errors == {"control": pytest.approx(scratch.record["result"]["test"] / 100)}
    (merged,) = merge_lines([line_of_tuned], [line_of_scratch])
    assert set(merged.errors) == {"trained", "control"}
    assert merged.setup.epochs == 1
    assert lines_of_run({**tuned.record, "method": "lora"}) == []
    assert lines_of_run({**tuned.record, "protocol": "orca"}) == []
    assert lines_of_run({**tuned.record, "result": {**tuned.record["result"], "metric": "nRMSE"}}) == []


def test_a_history_is_added_exported_merged_and_removed(tmp_path):
    folder, sketch = tmp_path / "ours", TargetSketch((1, 2, 3), True)
    ours = History((line("a", "t", target_digest=sketch.digest), line("b", "u")), {sketch.digest: sketch})
    assert read_history(folder) == History((), {})
    assert add_to_history(folder, ours) == read_history(folder)
    assert add_to_history(folder, ours) == read_history(folder)
    assert sorted(one.source for one in read_history(folder).lines) == ["a", "b"]
    assert read_history(folder).sketches == {sketch.digest: sketch}
    export_history(read_history(folder), tmp_path / "shared.jsonl")
    assert sketch.digest not in (tmp_path / "shared.jsonl").read_text()
    assert [one.source for one in read_lines(tmp_path / "shared.jsonl")] == ["a", "b"]
    export_history(read_history(folder), tmp_path / "shared.jsonl", fingerprints=True)
    assert sketch.digest in (tmp_path / "shared.jsonl").read_text()
    left, removed = remove_from_history(folder, ["a"], [])
    assert (removed, left.sketches) == (1, {})
    assert [one.source for one in read_history(folder).lines] == ["b"]


def test_finished_trainings_are_remembered(tmp_path, monkeypatch):
    target, folder = target_file(tmp_path, "classification"), tmp_path / "history"
    arguments = ("--source", "vit-fashion", "--target", str(target), "--set", "stage2.epochs=1")
    for variable, expected in (("none", 0), (str(folder), 1)):
        monkeypatch.setenv("MODGAP_HISTORY", variable)
        done = run_in_process("train", "--method", "finetune", *arguments, "--out", str(tmp_path / f"run{expected}"))
        assert done.returncode == 0, done.stderr
        known = read_history(folder)
        assert [line.errors.keys() for line in known.lines] == [{"trained"}] * expected
    assert set(known.sketches) == {known.lines[0].target_digest}
    # A history that cannot be written is no reason to lose a training.
    # A history knows a source by its name, and not by other weights.
    record = json.loads((tmp_path / "run1" / "run.json").read_text())
    remember_run(
        {**record, "result": {**record["result"], "test": 99}}, TargetRequest(str(target)), "other.safetensors"
    )
    assert read_history(folder) == known
    (folder / "sketches.json").write_text("{")
    again = run_in_process("train", "--method", "scratch", *arguments, "--out", str(tmp_path / "scratch"))
    assert again.returncode == 0
    assert "were not added to your history" in " ".join(again.stderr.split())


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', '{"a": [[-1], true]}', '{"a": [[1], "yes", 3]}', "{"])
def test_damaged_sketches_are_one_message(tmp_path, content):
    (tmp_path / "sketches.json").write_text(content)
    with pytest.raises(InputError, match="has no sketches of targets"):
        read_history(tmp_path)


def test_the_command_keeps_a_history(tmp_path, monkeypatch):
    monkeypatch.setenv("MODGAP_HISTORY", str(tmp_path / "history"))
    target = target_file(tmp_path, "classification")
    run(tmp_path / "run", "finetune", "vit-fashion", target, None, "stage2.epochs=1")
    added = run_in_process("history", "add", str(tmp_path / "run"))
    assert added.returncode == 0, added.stderr
    assert "Added 1 line. The history has 1 line of 1 source on 1 target." in added.stdout
    # Relative and absolute names of a file are one target.
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "again", "finetune", "vit-fashion", target.name, None, "stage2.epochs=1")
    assert run_in_process("history", "add", "again").returncode == 0
    assert {line.target for line in read_history(tmp_path / "history").lines} == {str(target)}
    assert "trained" in run_in_process("history", "list").stdout
    assert "968 lines of 17 sources on 68 targets" in run_in_process("history", "list", "--shipped").stdout
    shared = tmp_path / "shared.jsonl"
    assert run_in_process("history", "export", str(shared)).returncode == 0
    merged = run_in_process("history", "merge", str(shared))
    assert "The history has 1 line of 1 source on 1 target" in merged.stdout
    assert "Removed 1 line" in run_in_process("history", "remove", "--source", "vit-fashion").stdout
    refused = run_in_process("history", "remove")
    assert (refused.returncode, "Nothing was removed" in refused.stderr) == (2, True)
    refused = run_in_process("history", "add", str(tmp_path))
    assert refused.returncode != 0
