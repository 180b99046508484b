"""Figures of maps and similarity: readable in print, on one scale, without overlapping text."""

from dataclasses import replace

import numpy as np
import pytest

from modgap.answers.figures.intervals import tidy_frame
from modgap.distortion.feature_figures import SimilarityGrid, map_caption, map_grid, similarity_heat_map
from modgap.probes.tsne_maps import MapQuality, TsneMap
from tests.figure_checks import all_text, assert_readable

PARAMETERS = {
    "library": "openTSNE 1.0.4",
    "perplexity": 30.0,
    "principal_components": 50,
    "initialization": "shared",
    "iterations": [250, 500],
    "seed": 0,
}
QUALITY = MapQuality(0.91, 0.87, 0.1, 0.97, -0.13, 0.02, 10, 60)
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LABELS = np.arange(60) % 10


def fake_map(name, spread=1.0):
    places = spread * np.random.default_rng(len(name)).standard_normal((60, 2))
    return TsneMap(name, places.astype(np.float32), 1.0, QUALITY, dict(PARAMETERS))


def fake_maps(count, name="fine-tuned on NinaPro"):
    return {f"{name} {i}": fake_map(str(i), i + 1) for i in range(count)}


def grid(rows, columns):
    values = np.linspace(-0.1, 1, rows * columns).reshape(rows, columns)
    names = [[f"block {i}" for i in range(size)] for size in (rows, columns)]
    return SimilarityGrid("linear_cka", tidy_frame(values, index=names[0], columns=names[1]), 0.0, 500)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_maps_are_readable_at_printed_width(count):
    figure = map_grid(fake_maps(count), LABELS, NAMES)
    assert_readable(figure)
    assert figure.get_size_inches()[0] == 7.0
    assert len(figure.axes) == count


def test_panels_share_axis_limits_that_contain_all_samples():
    maps = fake_maps(3)
    panels = map_grid(maps, LABELS, NAMES).axes
    assert len({(*panel.get_xlim(), *panel.get_ylim()) for panel in panels}) == 1
    assert panels[0].get_xlim()[1] > max(np.abs(one.coordinates).max() for one in maps.values())


def test_every_sample_is_drawn_once_in_the_style_of_its_class():
    maps = fake_maps(1)
    (points,) = map_grid(maps, LABELS, NAMES).axes[0].collections
    drawn = {}
    styles = zip(points.get_offsets().tolist(), points.get_facecolors().tolist(), points.get_paths(), strict=True)
    for place, color, marker in styles:
        drawn.setdefault((tuple(color), marker.vertices.tobytes()), set()).add(tuple(place))
    assert sorted(map(len, drawn.values())) == [6] * 10
    (one,) = maps.values()
    expected = [{tuple(map(float, place)) for place in one.coordinates[k == LABELS]} for k in range(10)]
    for places in drawn.values():
        assert {tuple(map(float, place)) for place in places} in expected


def test_the_figure_shows_quality_and_the_caption_parameters():
    text = all_text(map_grid(fake_maps(2), LABELS, NAMES)).replace("\n", " ")
    caption = map_caption(fake_maps(2), LABELS, "photos")
    for part in (
        "10-NN agreement 0.91 (features 0.87)",
        "silhouette -0.13 (features 0.02)",
        "87 % of the nearest neighbors share the class; chance level 10 %",
        "60 samples in 10 classes",
        *NAMES,
    ):
        assert part in text
    for part in (
        "50 principal components",
        "shared initialization",
        "250+500 iterations",
        "perplexity 30",
        "seed 0",
        "(chance level 0.100)",
    ):
        assert part in caption


def test_an_undefined_silhouette_is_left_out():
    one = replace(fake_map("a"), quality=replace(QUALITY, silhouette_map=None, silhouette_features=None))
    assert "silh" not in all_text(map_grid({"a": one}, np.zeros(60, int), ["all"]))


def test_many_classes_and_unusual_names_are_readable():
    names = [f"_class $name$ with \\mathbb{{x}} of many a letter and number {i}" for i in range(60)]
    figure = map_grid(fake_maps(3, "a rather long $name of an_encoder that was fine-tuned"), np.arange(60), names)
    assert_readable(figure)
    assert "60 classes. The legend has 24 of them." in all_text(figure).replace("\n", " ")
    assert len(figure.legends[0].get_texts()) == 24


def test_names_of_overlapping_clusters_are_moved_apart():
    one = replace(fake_map("a"), coordinates=np.full((60, 2), 0.5, np.float32))
    figure = map_grid({"a": one, "b": fake_map("b", 5)}, LABELS, NAMES)
    assert_readable(figure)
    assert [text.get_text() for text in figure.axes[0].texts] == NAMES


def test_of_many_maps_the_first_and_the_least_agreeing_are_drawn():
    maps = {
        f"encoder {n}": replace(fake_map("a"), quality=replace(QUALITY, agreement_features=n / 100))
        for n in range(40, 60)
    }
    maps = {"source": fake_map("source"), **maps}
    figure = map_grid(maps, LABELS, NAMES)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["source", *(f"encoder {n}" for n in range(40, 51))]
    text = all_text(figure).replace("\n", " ")
    assert "Of 21 encoders, the first and the 11 with the lowest agreement are drawn." in text
    assert "40 to 87 % of the nearest neighbors" in text


@pytest.mark.parametrize(("rows", "columns", "values"), [(1, 1, True), (9, 12, True),
                                                         (3, 60, False)])  # fmt: skip
def test_heat_maps_show_values_if_they_fit(rows, columns, values):
    figure = similarity_heat_map(grid(rows, columns), "The untouched encoder against the fine-tuned one")
    assert_readable(figure)
    assert figure.get_size_inches()[0] == 7.0
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells == ([f"{value:.2f}" for value in grid(rows, columns).values.to_numpy().ravel()] if values else [])
    assert "500 samples. The expected similarity of unrelated features is 0.00." in all_text(figure).replace("\n", " ")
