"""The page of a trained model: its answer, curves and errors, and a run that is unfinished or damaged."""

import shutil

import pytest

from modgap.api.pages.answer_pages import read_log, render_run
from modgap.api.pages.write import write_page
from modgap.errors import InputError
from modgap.forward.sample_request import SampleRequest
from modgap.storage.json_records import read_json
from modgap.targets import TargetRequest
from modgap.training.run_folder import write_record
from modgap.training.train import train
from modgap.training.train_request import TrainRequest
from tests.commands import run_in_process
from tests.test_report_page import HOSTILE, assert_self_contained, visible_text


@pytest.fixture(scope="module", name="done")
def finished_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "run"
    settings = ("stage1.epochs=2", "stage2.epochs=3", "stage1.surrogate_samples=100", "stage1.surrogate_batch=20")
    return train(
        TrainRequest("mona", "vit-fashion", TargetRequest("digits"), settings, samples=SampleRequest(limit=60)), folder
    )


@pytest.fixture(name="record")
def record_of_run(done):
    # The answer is built again from the values that a test changes.
    return {name: value for name, value in read_json(done.folder / "run.json").items() if name != "answer"}


def test_the_page_answers_and_shows_the_curves_and_the_errors(done, record):
    page = write_page(done.folder).read_text()
    assert_self_contained(page)
    text = visible_text(page)
    result = record["result"]
    low, high = result["interval"]
    assert f"The test 0-1 error is {result['test']:.4g} % (95 % CI {low:.3g} to {high:.3g}). Lower is better." in text
    for part in ("Learning curves of stage 1", "Learning curves of stage 2", "Outer loss", "Validation error"):
        assert part in text
    matrix = result["confusion"]
    correct = sum(row[number] for number, row in enumerate(matrix))
    assert sum(map(sum, matrix)) == 60
    assert f"{correct} of 60 test samples are classified correctly." in text
    assert result["test"] == pytest.approx(100 * (60 - correct) / 60)
    assert "means over the splits" not in text
    assert "One run cannot tell." in text
    assert page.count("<polyline") == 5
    assert page == write_page(done.folder).read_text()
    finished = run_in_process("report", str(done.folder))
    assert finished.stdout == f"{done.folder / 'report.html'}\n"


@pytest.mark.parametrize(
    ("p_value", "test", "verdict"),
    [
        (0.01, 50.0, "Yes"),
        (0.2, 50.0, "Not shown"),
        (0.9, 91.0, "Not shown"),
        (0.01, 99.0, "No"),
        (None, 50.0, "Lower, not tested"),
        (None, 90.0, "Not lower, not tested"),
    ],
)
def test_a_model_is_compared_with_chance(record, p_value, test, verdict):
    record["result"] |= {"test": test, "constant_error": 90.0, "chance_p": p_value}
    text = visible_text(render_run(record, []))
    assert f"Is it better than chance?{verdict}" in text.replace("? ", "?")
    assert "has a test 0-1 error of 90 %" in text
    assert ("not tested, because the test samples are too few" in text) == (p_value is None)


def test_what_weakens_the_result_is_said(record):
    record["protocol"] = "orca"
    record["result"]["no_interval"] = "3 test groups are too few (at least 8)"
    text = visible_text(render_run(record, []))
    assert "the test samples chose the epoch" in text
    assert "3 test groups are too few" in text
    record["result"]["chosen_by"] = "last epoch"
    assert "the test samples chose the epoch" not in visible_text(render_run(record, []))
    record["recipe"]["stage2"]["patience"] = 3
    assert "the test samples chose the epoch" in visible_text(render_run(record, []))
    record["method"] = "scratch"
    assert "It is scratch" in visible_text(render_run(record, []))


def test_other_metrics_have_no_confusion_matrix(record):
    record["result"] |= {"metric": "nRMSE", "unit": "", "test": 0.25, "confusion": None, "constant_error": None}
    text = visible_text(render_run(record, []))
    assert "The test nRMSE is 0.25 (" in text
    assert "The nRMSE of a constant prediction is not defined" in text
    assert "Confusion" not in text
    record["result"] |= {"test": None, "constant_error": 0.5}
    text = visible_text(render_run(record, []))
    assert "The nRMSE is not defined on the test samples." in text
    assert "constant prediction" not in text


def test_an_unfinished_run_has_a_page(done, record, tmp_path):
    record["result"] = None
    write_record(tmp_path, record)
    shutil.copy(done.folder / "metrics.jsonl", tmp_path)
    text = visible_text(write_page(tmp_path).read_text())
    assert "This run is not finished." in text
    assert "Learning curves of stage 2" in text


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"stage": 3}\n[1]\n'])
def test_a_damaged_log_is_left_out(done, tmp_path, content):
    shutil.copy(done.folder / "run.json", tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert read_log(tmp_path, {}) == []
    assert "Learning curves" not in visible_text(write_page(tmp_path).read_text())


def test_values_that_are_no_numbers_are_not_drawn(record):
    log = [{"stage": "stage2", "epoch": 1, "loss": None, "x": "1"}, {"stage": "stage2", "epoch": 2, "loss": 1e400}]
    page = render_run(record, log)
    assert "<polyline" not in page
    log = [{"stage": "stage2", "loss": 1.0}, {"stage": "stage2", "loss": None}, {"stage": "stage2", "loss": 3.0}]
    assert "4.0,40.0 196.0,4.0" in render_run(record, log)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_only_text(record, name):
    record |= {"source": name, "target": name}
    record["data"]["classes"] = [name] * 10
    page = render_run(record, [{"stage": name, "epoch": 1, name: 1.0}])
    assert_self_contained(page)


def test_a_record_without_its_parts_is_refused_in_one_message(done, record, tmp_path):
    del record["samples"]
    write_record(tmp_path, record)
    with pytest.raises(InputError, match="is incomplete or damaged"):
        write_page(tmp_path)
