"""The matrix of packaged sources and targets: what it leaves out, how it is cut, and what it keeps of a ranking."""

from types import SimpleNamespace

import pandas as pd
import pytest


@pytest.fixture(name="zoo")
def zoo_module(import_benchmark):
    return import_benchmark("zoo_matrix")


def test_no_judging_target_and_no_near_copy_is_read(zoo, monkeypatch):
    names = ["wine", "penguins", "fonts", "fortunes", "digits"]
    copies = {"fonts": ("glyphs",)}
    infos = [SimpleNamespace(name=one, is_installed=one != "digits", near_copies=copies.get(one, ())) for one in names]
    monkeypatch.setattr(zoo.modgap, "list_targets", lambda: infos)
    assert zoo.usable_targets() == ["wine"]
    assert len(zoo.judging_targets()) == 42


@pytest.mark.parametrize(("hours", "share"), [(100, 1.0), (1, 0.1)])
def test_pairs_are_cut_to_fit_the_time(zoo, hours, share):
    targets, seconds = [f"t{n}" for n in range(30)], {f"s{n}": 60 for n in range(20)}
    jobs = list(zoo.planned_jobs(targets, seconds, hours))
    assert jobs == list(zoo.planned_jobs(targets, seconds, hours))
    kept = sum(len(job.sources) for job, _ in jobs)
    assert kept == pytest.approx(share * 600, abs=25)
    assert sum(seconds for _, seconds in jobs) == pytest.approx(36_000 * kept / 600)


@pytest.mark.long
def test_a_source_is_timed_on_a_target_that_it_reads_as_if_nothing_were_cached(zoo, monkeypatch):
    monkeypatch.setattr(zoo, "SAMPLES", 60)
    monkeypatch.setattr(zoo, "RANKING", zoo.RANKING | {"scores": ("leep",)})
    first, second = (zoo.measured_seconds("vit-fashion") for _ in range(2))
    assert second > first / 10 > 0
    monkeypatch.setattr(zoo, "MEASURED", ("promoter-genes",))
    assert zoo.measured_seconds("vit-fashion") == 0


@pytest.mark.long
@pytest.mark.usefixtures("own_cache")
def test_a_target_has_its_scores_baselines_and_controls(zoo, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(zoo, "SAMPLES", 60)
    log = zoo.ResultLog(tmp_path / "zoo.jsonl")
    record = zoo.work(zoo.Job("wine", ("vit-fashion",)), log)
    by_name = {row["source"]: row for row in record["rows"]}
    assert 0 <= by_name["vit-fashion"]["linear-probe"] <= 1
    assert 0 <= by_name["vit-fashion"]["discrepancy"] <= 1
    assert {row["kind"] for row in record["rows"]} == {"source", "random-weights control", "baseline"}
    assert set(record["controls"]) == {"vit-fashion"}
    zoo.report(log)
    shown = capsys.readouterr().out
    assert "vit-fashion" in shown
    assert "100 %" in shown
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n\n{zoo.SECTION[0]}\n\n{zoo.SECTION[1]}\n\nAfter.\n")
    monkeypatch.setattr(zoo, "PAGE", page)
    monkeypatch.setattr(zoo, "CSV", tmp_path / "zoo.csv")
    zoo.write_page(log)
    assert "| table | 1 | vit-fashion (1) |" in page.read_text()
    assert page.read_text().endswith("After.\n")
    rows = pd.read_csv(tmp_path / "zoo.csv")
    assert set(rows["role"]) == {"source", "random-weights control", "baseline"}
    assert rows.loc[rows["source"] == "vit-fashion", "linear-probe"].item() == round(
        by_name["vit-fashion"]["linear-probe"], 4
    )


def test_a_source_on_the_data_that_it_was_trained_on_is_left_out(zoo):
    rows = [{"source": name, "kind": "source", "linear-probe": 0.1, "reason": ""} for name in ("vit-fashion", "onet")]
    about = {"task": "classification", "samples": 200, "classes": 10, "kind": "image"}
    results = [{"job": {"target": name}, "target": about, "rows": rows} for name in ("fashion-mnist", "mnist5k")]
    frame = zoo.scores_frame(results)
    assert list(frame["source"]) == ["onet", "vit-fashion", "onet"]
    assert list(frame["target"]) == ["fashion-mnist", "mnist5k", "mnist5k"]


def test_figures_have_a_dot_for_each_target_and_the_mean_regret_of_each_source(import_benchmark):
    figures = import_benchmark("zoo_figures")
    about = {"samples": 200, "classes": 2}
    errors = {
        "a": {"x": 0.2, "y": 0.3, "baseline:linear": 0.1},
        "b": {"x": 0.4, "y": 0.3, "baseline:linear": 0.5},
        "c": {"x": 0.1, "baseline:linear": 0.3},
    }
    rows = [
        {"kind": "table", "target": target, **about, "source": name, "linear-probe": error}
        | {"role": "baseline" if name.startswith("baseline") else "source"}
        for target, of_target in errors.items()
        for name, error in of_target.items()
    ]
    scores = pd.DataFrame(rows)
    (axes,) = figures.differences_figure(scores).axes
    dots = sorted(round(float(x), 6) for x, _ in axes.collections[0].get_offsets())
    assert dots == [-20, -20, 10]
    assert axes.get_title(loc="left").endswith("on 2 of 3 targets")
    (axes,) = figures.regrets_figure(scores).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "y"]
    assert [text.get_text() for text in axes.texts] == ["3", "5"]
    assert axes.get_title(loc="left") == "No source has the lowest error on more than 2 of 3 targets"


def test_best_sources_stand_beside_the_best_baselines_of_their_kind(zoo):
    def result(target, task, **errors):
        rows = [
            {"source": name, "kind": "baseline" if name.startswith("baseline") else "source", "linear-probe": error}
            for name, error in errors.items()
        ]
        about = {"kind": "table", "task": task, "samples": 200, "classes": 2}
        return {"job": {"target": target}, "target": about, "rows": rows}

    results = [
        result("a", "classification", x=0.2, y=0.3, **{"baseline:linear": 0.1}),
        result("b", "classification", x=0.4, y=0.3, **{"baseline:linear": 0.5}),
        result("c", "regression", x=0.4, y=None),
        result("d", "classification", x=0.3, y=0.3),
    ]
    (_, _, by_kind), (_, _, shares), _ = zoo.tables(results)
    assert by_kind == [
        ["table", "3", "x (2), y (2)", "0.250", "linear (2)", "0.300", "1 of 2"],
        ["values", "1", "x (1)", "nan", "", "nan", "0 of 0"],
    ]
    assert shares == [["x", "3", "75 %"], ["y", "2", "50 %"]]


def test_what_pretraining_adds_is_the_mean_difference_to_random_weights(zoo):
    def row(target, source, role, error):
        return {"kind": "table", "target": target, "source": source, "role": role, "linear-probe": error}

    errors = {"a": (0.2, 0.3), "b": (0.4, 0.6)}
    rows = [row(target, "x", "source", error) for target, (error, _) in errors.items()]
    rows += [row(target, "random:x", "random-weights control", error) for target, (_, error) in errors.items()]
    rows += [row("a", "y", "source", 0.1), {**row("c", "x", "source", 0.1), "kind": "values"}]
    found = zoo.pretraining_differences(pd.DataFrame(rows)).round(6)
    assert found.to_dict() == {("x", "a"): -10, ("x", "b"): -20}
