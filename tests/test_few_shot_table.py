"""The few-shot curves of the page of a distortion."""

from modgap.report_page.few_shot_table import few_shot_table


def encoder(name, mean, errors):
    return {"encoder": name, "few_shot": {"shots": [1, 10, 100], "mean": mean, "errors": errors}}


def test_curves_and_bands_lie_within_the_cell_and_the_first_is_the_reference():
    encoders = [
        encoder("untouched", [0.8, 0.4, 0.2], [[0.7, 0.9], [0.3, 0.5], [0.2, 0.2]]),
        encoder("<b>tuned", [0.9, 0.6, 0.3], [[0.8, 1.0], [0.5, 0.7], [0.2, 0.4]]),
        {"encoder": "without a curve", "few_shot": None},
    ]
    table = few_shot_table("clothing", encoders)
    assert table["shots"] == ["1", "10", "100"]
    assert [row["label"] for row in table["rows"]] == ["untouched", "<b>tuned"]
    assert table["reference"] == table["rows"][0]["line"] != table["rows"][1]["line"]
    assert "mean of 2 draws" in table["note"]
    for row in table["rows"]:
        line, band = ([tuple(map(float, point.split(","))) for point in row[name].split()] for name in ("line", "band"))
        heights = dict(line)
        assert len(line) == 3
        assert len(band) == 6
        assert all(0 <= x <= 200 and 0 <= y <= 44 for x, y in (*line, *band))
        # The vertical axis points down: the upper edge comes first, and then the lower one from right to left.
        assert all(y <= heights[x] for x, y in band[:3])
        assert all(y >= heights[x] for x, y in band[3:])
        # A logarithmic axis, so ten times as many samples are always as far apart.
        assert line[1][0] - line[0][0] == line[2][0] - line[1][0]


def test_no_curve_makes_no_table():
    assert few_shot_table("clothing", [{"encoder": "untouched", "few_shot": None}, {"encoder": "tuned"}]) is None
