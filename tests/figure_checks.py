"""Checks that the text of a figure can be read."""

import itertools

import matplotlib.text
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.markers import MarkerStyle

from modgap.answers.figures.intervals import INTERVALS


def visible_texts(figure):
    """Return the visible texts and their boxes in pixels. A figure is laid out once, unless it was changed."""
    canvas = figure.canvas if isinstance(figure.canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)
    if figure.stale:
        figure.draw_without_rendering()
    outside = _labels_out_of_view(figure)
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text().strip()]
    texts = [text for text in texts if text not in outside]
    return [(text, text.get_window_extent(canvas.get_renderer())) for text in texts]


def _labels_out_of_view(figure):
    """Return the labels of ticks that lie outside their axis and are therefore not drawn."""
    labels = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            margin = 1e-6 * (high - low)
            for tick in axis.get_major_ticks():
                if not low - margin <= tick.get_loc() <= high + margin:
                    labels |= {tick.label1, tick.label2}
    return labels


def assert_readable(figure):
    """Check that no text is smaller than 8 points, crosses the edge or overlaps another text."""
    texts = visible_texts(figure)
    assert texts
    assert min(text.get_fontsize() for text, _ in texts) >= 8
    for text, box in texts:
        assert figure.bbox.x0 - 1 <= box.x0, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    # The boxes of rotated labels overlap where the labels do not.
    level = [(text, box) for text, box in texts if not text.get_rotation() % 90]
    for (one, a), (other, b) in itertools.combinations(level, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide < 1 or high < 1, f"{one} lies on {other}"


def all_text(figure):
    """Return the texts of a figure, with spaces in place of no-break spaces."""
    return "\n".join(text.get_text() for text, _ in visible_texts(figure)).replace("\N{NO-BREAK SPACE}", " ")


def marks(axes, marker):
    """Return the horizontal positions of the marks that have this marker, in the order in which they were drawn."""
    style = MarkerStyle(marker)
    vertices = style.get_path().transformed(style.get_transform()).vertices
    drawn = [one for one in axes.collections if isinstance(one, PathCollection) and len(one.get_offsets())]
    drawn = [one for one in drawn if np.shape(one.get_paths()[0].vertices) == np.shape(vertices)]
    drawn = [one for one in drawn if np.allclose(one.get_paths()[0].vertices, vertices)]
    return [float(x) for one in drawn for x, _ in one.get_offsets()]


def intervals(axes, along="x"):
    """Return the ends of all drawn intervals that are lines along an axis."""
    column = "xy".index(along)
    lines = [one for one in axes.collections if isinstance(one, LineCollection) and one.get_gid() == INTERVALS]
    return [tuple(sorted(segment[:, column].tolist())) for one in lines for segment in one.get_segments()]


def bands(axes):
    """Return the lower and the upper ends of each drawn band, by position."""
    shapes = [one for one in axes.collections if not isinstance(one, LineCollection) and one.get_gid() == INTERVALS]
    ends = []
    for shape in shapes:
        points = shape.get_paths()[0].vertices
        ends.append({x: tuple(np.sort(points[points[:, 0] == x, 1])[[0, -1]].tolist()) for x in points[:, 0].tolist()})
    return ends
