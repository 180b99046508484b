"""The result of a race: validation errors, figures, the page, and the model card."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from modgap.api.pages.write import write_page
from modgap.baselines import get_baseline
from modgap.baselines.baseline import held_out_scores
from modgap.jobs import Backend
from modgap.race.figures import CONSTANT, DrawnRace, race_caption, race_figure, race_frame, time_caption, time_figure
from modgap.race.labeled_data import LabeledData, _count_copies, describe_labeled
from modgap.race.result import TransferResult
from modgap.race.steps import Outcome, Step, StepJob, read_labeled
from modgap.race.transfer import RaceRequest, run_race
from modgap.race.verdict import KINDS
from modgap.targets import CustomData, TargetRequest
from modgap.targets.readers.image_folder import ImageFiles
from modgap.targets.samples import (
    ArraySamples,
    ConcatenatedSamples,
    SelectedSamples,
    TextSamples,
    TransformedSamples,
)
from modgap.targets.sound import SoundFiles
from modgap.training.metrics import task_metric
from tests.figure_checks import all_text, assert_readable, marks, visible_texts
from tests.training import target_file

LINEAR = Step("baseline", "linear", folds=5)
STEPS = (LINEAR, Step("baseline", "neighbors", folds=5))


def table_file(folder, task="classification", split=False):
    """Return a table of 60 patients with three visits each: classes or values, some missing cells, perhaps a split."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((180, 3))
    frame = pd.DataFrame(x, columns=["age", "pulse", "weight"])
    labels = np.array(["better", "same", "worse"])[np.digitize(x[:, 0] + 0.3 * x[:, 1], [-0.5, 0.5])]
    frame["outcome"] = labels if task == "classification" else 50 + 9 * x[:, 0] + rng.standard_normal(180)
    frame["patient"] = [f"p{number // 3}" for number in range(180)]
    frame.loc[::20, "pulse"] = np.nan
    if split:
        # The last patient of the test samples has a labeled sample too.
        frame["split"] = np.where(np.arange(180) < 41, "test", "train")
    path = folder / "visits.csv"
    frame.to_csv(path, index=False)
    about = {"kind": "table", "label_column": "outcome", "group": "patient", "fill": "median", "task": task}
    return TargetRequest(str(path), CustomData.of(about))


def finished(target, folder):
    folder.mkdir()
    result = TransferResult(run_race(RaceRequest(target, 0, steps=STEPS), folder, Backend(1)), folder)
    result.write(folder)
    return result


# Validation errors


def held_out(target, n_folds):
    """Return the labeled samples, the scores of a linear model on some folds, and the numbers of these samples."""
    labeled = read_labeled(target, None, 0)
    samples = SelectedSamples(labeled.data.table.samples, labeled.rows)
    scores = held_out_scores(
        get_baseline("linear"), samples, labeled.form, labeled.truth, labeled.folds, list(range(n_folds)), 0
    )
    return labeled, scores, np.flatnonzero(labeled.folds < n_folds)


@pytest.mark.parametrize("kind", ["numbers", "series"])
def test_validation_errors_of_values_are_the_metric_of_the_test(tmp_path, kind):
    target = table_file(tmp_path, "regression")
    if kind == "series":
        path = target_file(tmp_path, "regression", image=False, samples=60)
        target = TargetRequest(str(path), CustomData.of({"kind": "series"}))
    labeled, scores, judged = held_out(target, 2)
    losses = np.full(len(labeled.rows), np.nan)
    losses[judged] = labeled.truth.rows(judged).losses(scores[judged])
    described = describe_labeled(RaceRequest(target), [losses, np.full(len(losses), np.nan)])
    metric = task_metric(labeled.data.target.manifest, labeled.data.output, labeled.data.scale)
    y = labeled.truth.y[judged]
    metric.update(scores[judged].reshape(y.shape), y)
    assert described.errors[0] == pytest.approx(metric.compute(), rel=1e-5)
    assert described.errors[0] != pytest.approx(np.nanmean(losses), rel=0.01)
    assert np.isnan(described.errors[1])
    assert (described.measure, described.unit) == ("RMSE" if kind == "numbers" else "nRMSE", "")
    assert "squared error" in described.loss


def test_losses_that_do_not_tell_the_metric_are_no_errors(tmp_path):
    path = target_file(tmp_path, "multi-label", image=False, samples=60)
    target = TargetRequest(str(path), CustomData.of({"kind": "series"}))
    outcome = StepJob(LINEAR, target, None, 0, "cpu")()
    described = describe_labeled(RaceRequest(target), [outcome.losses])
    assert (described.measure, described.metric) == ("loss", "1 - mAP")
    assert described.errors[0] == pytest.approx(outcome.error)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "two.npz", x=rng.standard_normal((60, 2, 24)), y=rng.standard_normal((60, 2)))
    two = TargetRequest(str(tmp_path / "two.npz"), CustomData.of({"kind": "series", "task": "regression"}))
    outcome = StepJob(LINEAR, two, None, 0, "cpu")()
    assert describe_labeled(RaceRequest(two), [outcome.losses]).measure == "loss"


def test_the_choice_is_not_by_the_shown_errors(tmp_path):
    result = finished(table_file(tmp_path, "regression"), tmp_path / "best")
    record = result.to_dict()
    assert record["steps"][0]["error"] == pytest.approx(float(np.mean(result.race.outcomes[0].losses)))
    assert record["validation"]["measure"] == "RMSE"
    tested, tried = result.answer.tables[:2]
    assert tested.columns[1] == "test RMSE"
    assert tried.columns[1] == "validation RMSE"
    assert tried.rows[0][1] == f"{min(result.labeled.errors):.3f}"
    assert "compared by the mean squared error" in tried.note


# Figures


def drawn_result(errors, *, unit="%", chance=60.0, names=None, kinds=KINDS, chosen=0, measure="error", folds=(1,)):
    """Return what the figures take, with a step for each error, of which the kinds and numbers of folds take turns."""
    steps = []
    for number, _ in enumerate(errors):
        name = names[number % len(names)] if names else f"source-{number}"
        kind = kinds[number % len(kinds)]
        step = {
            KINDS[0]: Step("baseline", name),
            KINDS[1]: Step("linear-probe", f"random:{name}"),
            KINDS[2]: Step("linear-probe", name),
            KINDS[3]: Step("finetune", name, 0.001, 5),
            KINDS[4]: Step("scratch", name, 0.001, 5),
        }[kind]
        step = replace(step, folds=folds[number % len(folds)])
        steps.append(Outcome(step, np.full(10, errors[number] / 100), 1.0))
    labeled = LabeledData(
        measure, unit, "0-1 error", "", tuple(map(float, errors)), chance, "", (0, 0), 0, ("a", "b"), is_drawn=True
    )
    race = SimpleNamespace(
        outcomes=tuple(steps),
        elapsed=tuple(10.0 * (number + 1) for number in range(len(steps))),
        chosen=SimpleNamespace(winner=steps[chosen], lowest=steps[chosen], judged=np.arange(10)),
        n_labeled=108,
        request=SimpleNamespace(target=TargetRequest("/data/photos")),
        seconds=(130.0, 20.0),
        tested=(),
    )
    return DrawnRace(race, labeled, f"Use the model {steps[chosen].step.name[:20]}: its test error is 3.7 %.")


@pytest.mark.parametrize("draw", [race_figure, time_figure])
@pytest.mark.parametrize(
    "result",
    [
        drawn_result([0.0]),
        drawn_result([0.0, 0.0, 0.0]),
        drawn_result([0.0], chance=0.0),
        drawn_result([40.0], kinds=KINDS[2:3]),
        drawn_result(np.random.default_rng(0).uniform(0, 90, 200).round(1)),
        drawn_result([60.0, 60.1, 59.9, 60.0, 60.0]),
        drawn_result([1.08, 1.17, 1.28], unit="", chance=1.114, kinds=KINDS[:1], measure="nRMSE"),
        drawn_result([0.004, 21_300.0], unit="", chance=21_000.0, measure="loss"),
        drawn_result([20.0, 10.0, 0.0, 20.0, 15.0], folds=(4, 1)),
        drawn_result([20.0, 30.0, 55.0], names=["x" * 200, "$_{a}$", "汉字"]),
    ],
    ids=["one", "zero", "nothing", "single", "many", "at the line", "values", "large", "folds", "names"],
)
def test_figures_of_a_race_can_be_read(draw, result):
    figure = draw(result)
    assert_readable(figure)
    axes = figure.axes[0]
    # Points at the edge are whole, and the chosen one is blue.
    assert not any(points.get_clip_on() for points in axes.collections)
    sizes = [len(points.get_offsets()) for points in axes.collections]
    assert sizes.count(1) >= 1
    assert sum(sizes) == len(result.race.outcomes)


def test_labels_stay_in_the_axes_and_the_line_leaves_them_out():
    figure = race_figure(drawn_result([0.0, 58.0, 2.0, 59.0]))
    axes = figure.axes[0]
    left, right = axes.get_window_extent().x0, axes.get_window_extent().x1
    boxes = {
        text.get_text(): box for text, box in visible_texts(figure) if text in axes.texts and text.get_bbox_patch()
    }
    in_rows = [box for text, box in boxes.items() if "\N{NO-BREAK SPACE}%" in text]
    assert len(in_rows) == 5
    assert all(left - 1 <= box.x0 and box.x1 <= right + 1 for box in in_rows)
    assert f"{CONSTANT} 60\N{NO-BREAK SPACE}%" in boxes
    assert "test error is 3.7" in all_text(figure)
    assert "its test error is in the title" in " ".join(all_text(figure).split())


def test_the_chosen_model_is_named_and_the_lowest_of_each_kind():
    text = all_text(race_figure(drawn_result([30.0, 20.0, 10.0, 5.0], kinds=KINDS[:2])))
    assert "source-0 30" in text
    assert "source-2 10" in text
    assert "random:source-3 5" in text
    assert "random:source-1" not in text


def test_preliminary_errors_are_outlines_and_not_the_lowest():
    result = drawn_result([30.0, 5.0, 20.0, 40.0], kinds=KINDS[:2], folds=(4, 1))
    frame = race_frame(result)
    assert frame["is_preliminary"].tolist() == [False, True, False, True]
    text = all_text(time_figure(result))
    assert "the lowest validation error is 20 %" in text
    assert "source-2\n20" in text
    assert CONSTANT in text
    for figure in (race_figure(result), time_figure(result)):
        drawn = [one for one in figure.axes[0].collections if len(one.get_offsets())]
        outlines = [len(one.get_offsets()) for one in drawn if not len(one.get_facecolors())]
        assert outlines == [2]
        assert "fewer folds or samples" in " ".join(all_text(figure).split())
    for caption in (race_caption(result), time_caption(result)):
        assert "Outlines are on fewer folds" in caption
        assert "random:source-1 5 % (outline)" in caption.replace("\N{NO-BREAK SPACE}", " ")
        assert "constant prediction for the same samples" in caption
    assert "preliminary" not in race_caption(drawn_result([30.0, 5.0]))


def test_baselines_and_random_weights_are_squares_in_each_figure():
    result = drawn_result([10.0, 20.0, 30.0, 40.0, 50.0])
    axes = race_figure(result).axes[0]
    assert sorted(marks(axes, "s")) == [10.0, 20.0, 50.0]
    assert sorted(marks(axes, "o")) == [30.0, 40.0]
    assert len(marks(time_figure(result).axes[0], "s")) == 3


def test_the_time_is_not_rounded_to_minutes():
    assert "After 130 s," in all_text(time_figure(drawn_result([5.0, 3.0])))
    result = drawn_result([5.0, 3.0])
    result.race.seconds = (3600.0, 1.0)
    result.race.elapsed = (60.0, 3000.0)
    figure = time_figure(result)
    assert "After 60 min," in all_text(figure)
    assert figure.axes[0].get_xlabel() == "minutes"


# Page and card


def test_the_page_draws_what_was_tried_with_units(tmp_path):
    result = finished(table_file(tmp_path), tmp_path / "best")
    page = write_page(result.folder).read_text(encoding="utf-8")
    tried = page[page.index("Everything that was tried") :]
    tried = tried[: tried.index("</section>")]
    assert tried.count("<svg") == len(STEPS)
    assert "The dashed line is the validation error of a constant prediction" in tried
    # Both models are baselines, and the chosen one is larger.
    assert sorted(map(int, re.findall(r'<rect width="(\d+)"', tried))) == [8, 12]
    assert "<circle" not in tried
    assert "Each model was judged on 5 of 5 folds. Each had 141 labeled samples." in tried
    assert "folds</th>" not in tried
    low, high = (float(end.removesuffix(" %")) for end in ends_of(page))
    assert 0 <= low < high <= 100
    assert "The lowest validation error so far" in page
    curves = result.answer.tables[2].curves
    assert [curve.y[0] for curve in curves] == pytest.approx([result.labeled.errors[0] / result.labeled.chance])
    assert "141 labeled samples of 47 groups" in page
    assert " points" in page
    assert " points" not in str(finished(table_file(tmp_path, "regression"), tmp_path / "values"))


def ends_of(page):
    """Return the labels of the ends of the first axis of a page."""
    head = page[page.index('class="ends"') :].split("</span></span>")[0]
    return [part.split("<")[0] for part in head.split("<span>")[1::2]]


def test_the_card_says_what_the_model_was_made_of(tmp_path):
    card = (finished(table_file(tmp_path), tmp_path / "best").folder / "card.md").read_text(encoding="utf-8")
    assert "141 labeled samples of 47 groups and 39 test samples of 13 groups; task classification." in card
    assert "- **Groups**: patient." in card
    assert "- **Classes**: 3: better, same, worse." in card
    assert "- **Columns**: 3: age, pulse, weight." in card
    assert "- **Missing cells**: the median of the training samples takes their place." in card
    assert "- **Split**: a test split that was drawn, by class, with whole groups." in card
    assert "- **Metric**: 0-1 error; lower is better." in card
    assert "- **Source**: none; the model is fitted to this data alone." in card
    assert "modgap predict --run" in card
    assert "of other groups than those of the labeled samples" in card
    assert "license" not in card


def test_copies_in_the_test_split_and_rare_classes_are_told(tmp_path, caplog):
    frame = pd.DataFrame(np.random.default_rng(1).standard_normal((90, 3)), columns=["a", "b", "c"]).round(6)
    frame["label"] = ["x", "y"] * 44 + ["rare"] * 2
    frame["split"] = ["train"] * 70 + ["test"] * 20
    frame.loc[70:72, ["a", "b", "c"]] = frame.loc[3:5, ["a", "b", "c"]].to_numpy()
    frame.loc[89, "split"] = frame.loc[88, "split"] = "train"
    path = tmp_path / "copies.csv"
    frame.to_csv(path, index=False)
    target = TargetRequest(str(path), CustomData.of({"kind": "table", "label_column": "label"}))
    result = finished(target, tmp_path / "best")
    assert "1 class has fewer than 5 samples: rare (2)." in caplog.text
    text = "3 test samples equal a labeled sample in all values. If these are copies, the test error is too low"
    assert [text in check.sentence for check in result.answer.checks] == [True]
    assert text in (result.folder / "card.md").read_text(encoding="utf-8")
    assert "72 labeled samples, 3 classes, 18 test samples" in str(result)


def test_copies_are_found_by_files_without_decoding_them(tmp_path):
    for number, content in enumerate([b"a" * 9, b"b" * 9, b"a" * 9, b"b" * 8]):
        (tmp_path / f"{number}.png").write_bytes(content)
    images = ImageFiles([tmp_path / f"{number}.png" for number in range(4)])
    wrapped = ConcatenatedSamples((TransformedSamples(SelectedSamples(images, np.array([3, 2, 1, 0])), abs),))
    assert _count_copies(wrapped, np.array([0, 3]), np.array([1, 2])) == 1
    sounds = SoundFiles.of_paths(images.paths, 8000)
    assert _count_copies(sounds, np.array([0]), np.array([1, 2, 3])) == 1
    texts = TextSamples(["\ud800 text", "other", "\ud800 text"])
    assert _count_copies(texts, np.array([0, 1]), np.array([2])) == 1
    arrays = ArraySamples(np.array([[[1.0, 2.0]], [[1.0, 2.0]], [[2.0, 1.0]]]))
    assert _count_copies(arrays, np.array([0]), np.array([1, 2])) == 1


def test_the_card_knows_a_split_of_the_data(tmp_path):
    card = (finished(table_file(tmp_path, split=True), tmp_path / "best").folder / "card.md").read_text(
        encoding="utf-8"
    )
    assert "- **Split**: the data's own test split." in card
    assert "1 of 14 test groups has labeled samples too" in card
