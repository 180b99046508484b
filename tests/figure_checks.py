"""Checks that the text of a figure can be read."""

import itertools

import matplotlib.text
from matplotlib.backends.backend_agg import FigureCanvasAgg

__all__ = ["all_text", "assert_readable", "visible_texts"]


def visible_texts(figure):
    """Return the visible texts and their boxes in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
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
    return "\n".join(text.get_text() for text, _ in visible_texts(figure))
