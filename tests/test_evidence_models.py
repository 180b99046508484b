"""The table of baselines and linear probes: which models cross-validation chooses, and the comparisons over targets."""

import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(name="modules")
def modules_of_the_evidence(import_benchmark):
    names = ("evidence.model_jobs", "evidence.model_tables", "result_log")
    return {name: import_benchmark(name) for name in names}


def line(part, model, target, validated, error, kind="table"):
    errors = {"128": error} if error is not None else {}
    job = {"part": part, "model": model, "target": target}
    return {"job": job, "kind": kind, "task": "classification", "validated": {"128": validated}, "errors": errors}


def test_the_chosen_model_has_the_lowest_cross_validated_error(modules):
    results = [
        line("baseline", "linear", "a", 0.3, 25.0),
        line("baseline", "extra-trees", "a", 0.2, 30.0),
        line("probe", "vit-fashion", "a", 0.25, 10.0),
        line("control", "random:vit-fashion", "a", 0.1, 40.0),
        line("baseline", "hog", "a", None, None),
        line("baseline", "linear", "b", 0.3, 5.0),
    ]
    chosen = modules["evidence.model_tables"].chosen_errors(results, 128)
    assert chosen == {
        "a": {"baseline": 30.0, "probe": 10.0, "random probe": 40.0, "any probe": 40.0, "any": 40.0},
        "b": {"baseline": 5.0, "any": 5.0},
    }
    assert modules["evidence.model_tables"].chosen_errors(results, 512) == {}


def test_the_tables_have_the_means_their_difference_and_the_best_models(modules, tmp_path):
    rng = np.random.default_rng(0)
    baseline, probe, control = rng.random((3, 6)) * 40
    results = [line("baseline", "linear", f"t{n}", 0.3, float(error)) for n, error in enumerate(baseline)]
    results += [line("probe", "vit-fashion", f"t{n}", 0.4, float(error)) for n, error in enumerate(probe)]
    results += [line("control", "random:vit-fashion", f"t{n}", 0.5, float(error)) for n, error in enumerate(control)]
    means, _, comparisons, _, best, _ = modules["evidence.model_tables"].model_tables(
        [{**result, "validated": {"512": 0.1}, "errors": {"512": result["errors"]["128"]}} for result in results]
        + results,
        modules["result_log"].ResultLog(tmp_path / "none.jsonl"),
    )
    assert means.rows[0][:4] == ["table", "6", f"{baseline.mean():.1f}", f"{probe.mean():.1f}"]
    row = next(row for row in comparisons.rows if row[:3] == ["table", "probe", "baseline"])
    interval = stats.ttest_rel(probe, baseline).confidence_interval()
    share = stats.binomtest(int((probe < baseline).sum()), 6).proportion_ci()
    assert row[3:5] == ["6", f"{(probe < baseline).sum()} of 6"]
    assert row[5].endswith(f"[{100 * share.low:.0f}, {100 * share.high:.0f}]")
    assert row[6] == f"{(probe - baseline).mean():+.1f} [{interval.low:.1f}, {interval.high:.1f}]"
    firsts = np.bincount(np.argmin([baseline, probe, control], axis=0), minlength=3)
    assert [int(cell.partition(":")[0]) for cell in best.rows[0][2:]] == list(firsts)


SECTION_TITLE = "## Where does a transfer pay?"
SAID = [
    (128, "all classes", "baseline", "fine-tuning", ["17 of 23", "-5.1 points [-9.0, -1.3]"]),
    (128, "series", "baseline", "fine-tuning", ["-11.5 [-19.6, -3.5]"]),
    (128, "table", "baseline", "fine-tuning", ["-4.3 [-7.5, -1.0]"]),
    (128, "audio", "probe", "baseline", ["2 of 3"]),
    (128, "text", "probe", "baseline", ["2 of 3"]),
    (128, "series", "probe", "baseline", ["0 of 8", "+8.4 points [2.4, 14.4]"]),
    (512, "series", "probe", "baseline", ["+7.0 [1.9, 12.1]"]),
    (512, "all classes", "probe", "baseline", ["+3.0 [-0.1, 6.0]"]),
    (128, "all classes", "probe", "fine-tuning", ["-1.6 points [-4.5, 1.2]"]),
    (128, "all classes", "probe", "random probe", ["-0.5 [-3.5, 2.5]"]),
    (128, "all classes", "any probe", "fine-tuning", ["-2.7 [-5.8, 0.3]"]),
    (128, "all classes", "any", "fine-tuning", ["19 of 23", "-6.2 points [-9.8, -2.5]"]),
]
"""Number of labels, kind, two models, and what the page says of them; a few are said in words."""
IN_WORDS = {"0 of 8": "none of 8 series", "-6.2 points [-9.8, -2.5]": "by 6.2 points [2.5, 9.8]"}


def test_the_page_has_the_tables_and_their_numbers(modules, tmp_path):
    tables, log = modules["evidence.model_tables"], modules["result_log"].ResultLog
    models, planned = log(BENCHMARKS / "truth" / "models.jsonl"), list(modules["evidence.model_jobs"].jobs())
    results = [models.get(job) for job in planned]
    assert all(results)
    truth, page = log(BENCHMARKS / "truth" / "ranking.jsonl"), BENCHMARKS.parent / "docs" / "evidence-second.md"
    copy = tmp_path / "evidence.md"
    copy.write_text(page.read_text())
    tables.write_section(results, truth, copy)
    assert copy.read_text() == page.read_text()
    section = page.read_text().partition(SECTION_TITLE)[2].partition("\n## ")[0].partition("<!--")[0]
    text = " ".join(section.split())
    comparisons = {
        size: table.rows
        for table in tables.model_tables(results, truth)
        for size in (128, 512)
        if table.title.startswith(f"Comparisons over targets, {size}")
    }
    for size, kind, first, second, said in SAID:
        row = next(row for row in comparisons[size] if row[:3] == [kind, first, second])
        for one in said:
            assert one.replace(" points", "") in (row[4], row[6])
            assert IN_WORDS.get(one, one) in text


@pytest.mark.usefixtures("own_cache")
def test_a_probe_and_a_baseline_are_fitted_to_the_same_samples(modules, tmp_path):
    evidence = modules["evidence.model_jobs"]
    log = modules["result_log"].ResultLog(tmp_path / "models.jsonl")
    jobs = [evidence.Job("baseline", "neighbors", "wine"), evidence.Job("probe", "vit-fashion", "wine")]
    baseline, probe = (evidence.work(job, log) for job in jobs)
    assert baseline["samples"] == probe["samples"] == {"128": 128, "512": 128}
    assert baseline["kind"] == "table"
    wrong = np.unpackbits(np.frombuffer(bytes.fromhex(probe["by_sample"]["128"]), np.uint8))[: probe["tested"]]
    assert 100 * wrong.mean() == pytest.approx(probe["errors"]["128"])
    unsuitable = evidence.work(evidence.Job("baseline", "hog", "wine"), log)
    assert (unsuitable["errors"], unsuitable["reason"]) == ({}, "The baseline does not suit wine.")
    assert log.get(jobs[0])["errors"] == baseline["errors"]


def test_the_targets_that_will_judge_are_those_that_were_drawn(modules):
    module = importlib.import_module("evidence.judging_targets")
    drawn = module.draw_judging_targets()
    assert drawn == json.loads((BENCHMARKS / "truth" / "judging_targets.json").read_text())
    names = [name for of_kind in drawn.values() for name in of_kind]
    assert len(names) == len(set(names)) == 42
    assert not set(names) & set(modules["evidence.model_jobs"].TARGETS)
    for kind, candidates in module.CANDIDATES.items():
        share = 42 * len(candidates.split()) / 59
        assert abs(len(drawn[kind]) - share) < 1
        digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in candidates.split()}
        assert drawn[kind] == sorted(digests, key=digests.get)[: len(drawn[kind])]
