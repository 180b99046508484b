"""The script that measures fine-tunings, probes and baselines: its lines, and what it does after an interruption."""

import json

import pytest

TARGETS, SOURCES, BASELINES = ["digits", "wine"], ["vit-fashion", "efficientnet-lite0@64px"], ["linear"]


@pytest.fixture(name="measure")
def measure_module(import_benchmark):
    return import_benchmark("measure")


@pytest.fixture(name="quick")
def jobs_that_are_not_done(measure, monkeypatch):
    """Replace each measurement by a made-up one; the list has the jobs that were measured."""
    jobs = []

    def result(job, labeled):
        jobs.append(job)
        if getattr(job, "source", "") == SOURCES[1] and job.target == "wine":
            return {"reason": "It is not read.", "seconds": 0.1}
        error = 10.0 + (getattr(job, "rate", None) == 0.0001)
        errors = {"1": 50.0, "3": 30.0, "10": error, "128": error}
        return {"errors": errors, "validated": {"128": 0.1}, "seconds": 0.1}

    monkeypatch.setattr(measure, "measure", result)
    return jobs


def run(measure, path):
    measure.run(path, TARGETS, SOURCES, BASELINES, 128, 1)
    return [json.loads(line) for line in path.read_text().splitlines()]


def in_order(lines):
    """Lines by their jobs, because trainings at the best rate come earlier after an interruption."""
    return sorted(lines, key=json.dumps)


def test_each_job_has_a_line_and_the_best_rate_trains_on_all_samples(measure, quick, tmp_path):
    lines = run(measure, tmp_path / "lines.jsonl")
    jobs = [line["job"] for line in lines]
    assert len(jobs) == len({json.dumps(job) for job in jobs}) == 2 * (1 + 2 + 2 * 3) + 3
    whole = [job for job in jobs if job["part"] == "all"]
    # Of equal errors the first rate counts. A source that does not read a target is not trained on all samples.
    assert [(job["source"], job["target"], job["rate"]) for job in whole] == [
        ("vit-fashion", "digits", 0.0005),
        ("efficientnet-lite0@64px", "digits", 0.0005),
        ("vit-fashion", "wine", 0.0005),
    ]
    assert {job["model"] for job in jobs if job["part"] == "probe"} == {"vit-fashion", "efficientnet-lite0"}


@pytest.mark.parametrize("number", [0, 1, 7, 20])
def test_a_run_that_was_killed_goes_on_with_what_the_file_lacks(measure, quick, tmp_path, number):
    whole = run(measure, tmp_path / "whole.jsonl")
    path = tmp_path / "killed.jsonl"
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:number]) + lines[number][:30])
    quick.clear()
    assert in_order(run(measure, path)) == in_order(whole)
    assert len(quick) == len(whole) - number
    quick.clear()
    assert in_order(run(measure, path)) == in_order(whole)
    assert quick == []


def test_nothing_is_measured_without_the_data_of_a_target(measure, quick, tmp_path):
    with pytest.raises(ValueError, match="no-such-data"):
        measure.run(tmp_path / "lines.jsonl", ["digits", "no-such-data"], SOURCES, BASELINES, 128, 1)
    assert quick == []


def test_the_lines_are_read_as_the_recorded_ones(measure, quick, import_benchmark, tmp_path):
    path = tmp_path / "lines.jsonl"
    run(measure, path)
    known_sources, lines = import_benchmark("known_sources"), import_benchmark("evidence.lines")
    trained = {"digits": {"vit-fashion": 10.0, "efficientnet-lite0": 10.0}}
    assert known_sources.fine_tuning_errors([path]) == trained
    assert known_sources.probe_errors([path]) == trained
    trainings = lines.read_trainings([path])
    assert lines.chosen_rate(trainings, "vit-fashion", "digits") == 0.0005
    models = import_benchmark("evidence.models").Models(lines.read_lines(path).values(), trainings)
    (probe, _), (baseline,) = (models.best(128)["digits"][part] for part in ("probe", "baseline"))
    assert (probe["job"]["model"], baseline["job"]["model"]) == ("vit-fashion", "linear")


@pytest.mark.slow
@pytest.mark.bundle
def test_measurements_have_the_fields_of_the_recorded_lines(measure, import_benchmark, monkeypatch):
    lines = import_benchmark("evidence.lines")
    monkeypatch.setattr(measure, "EPOCHS", (1, 2, 3))
    monkeypatch.setitem(measure.SETTINGS, "stage2.epochs", 3)
    recorded = {line["job"]["part"]: line for line in lines.part_lines("models") if line["errors"]}
    for job in (measure.Model("baseline", "linear", "wine"), measure.Model("probe", "vit-fashion", "wine")):
        result = measure.measure(job, 40)
        assert set(result) | {"job", "code"} == set(recorded[job.part])
        assert result["samples"] == {"16": 16, "40": 40}
        assert (result["kind"], result["tested"]) == ("table", 35)
        assert 0 <= result["errors"]["40"] <= 30
        wrong = sum(byte.bit_count() for byte in bytes.fromhex(result["by_sample"]["40"]))
        assert result["errors"]["40"] == pytest.approx(100 * wrong / 35)
    half, whole = (
        measure.measure(measure.Training(part, "vit-fashion", "wine", 0, 0.0005), 40) for part in ("half", "all")
    )
    assert (half["samples"], whole["samples"]) == ({"train": 20, "test": 15}, {"train": 40, "test": 35})
    assert set(half["errors"]) == set(whole["errors"]) == {"1", "2", "3"}
    refused = measure.measure(measure.Model("baseline", "mfcc", "wine"), 40)
    assert refused["errors"] == {}
    assert "does not suit" in refused["reason"]
    assert "one class a sample" in measure.measure(measure.Model("probe", "vit-fashion", "darcy-16"), 40)["reason"]
