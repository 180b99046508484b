"""Draw docs/overview.png: what goes into modgap, what it computes once, and which question each command answers.

python benchmarks/overview_figure.py
"""

import argparse
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from modgap.answers.figures.files import save_figure
from modgap.answers.figures.style import MARGIN, WIDTH, Ink, draw_title, figure_below_title, styled

HEIGHT = 3.35
TITLE = "Four questions from source to transfer, and one about differences"
SUBTITLE = "What each command computes or reads is kept, so the next question does not compute it again."
INPUTS = (
    ("sources", "pretrained models of\nimages, text or sound"),
    ("target", "your labeled images,\nseries, sounds, fields,\ntables or texts"),
)
STEPS = (
    (
        ("logits and features", "one pass of each source,\nkept in a cache"),
        (
            ("discrepancy", "How far is a source's knowledge from my data?"),
            ("rank", "Which source should I transfer from?"),
        ),
    ),
    (
        ("trained models", "weights and learning\ncurves, resumable"),
        (
            ("train", "How do I transfer? MoNA or a baseline"),
            ("distortion", "What did fine-tuning destroy in the source?"),
        ),
    ),
    (
        ("errors by sample", "of any result, or a table\nof another tool"),
        (("compare", "Which differences are real?"),),
    ),
)
"""Results that are kept (name and description), each with the commands that read them (name and question)."""
LEFT, MIDDLE, RIGHT = MARGIN, 2.06, 4.08
"""Left ends of the three columns, in inches."""
BOX = 1.62
"""Width of a box."""


def _draw_box(axes: Axes, x: float, y: float, height: float, name: str, text: str, color: str) -> None:
    """Draw a rounded box with a heading and lines of text; its left edge is at x, its center at height y."""
    style = "round,pad=0,rounding_size=0.06"
    box = FancyBboxPatch((x, y - height / 2), BOX, height, style, facecolor="white", edgecolor=color, linewidth=1.2)
    axes.add_patch(box)
    axes.text(x + 0.1, y - height / 2 + 0.15, name, va="center", size=9, weight="bold", color=color)
    axes.text(x + 0.1, y - height / 2 + 0.29, text, va="top", size=8, color=Ink.SECONDARY, linespacing=1.25)


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, linewidth=1.2, color=Ink.AXIS)
    arrow.shrinkA = arrow.shrinkB = 3
    axes.add_patch(arrow)


@styled
def overview_figure() -> Figure:
    """Draw inputs on the left, what is kept in the middle, and the commands with their questions on the right."""
    figure, _ = figure_below_title(TITLE, SUBTITLE, HEIGHT)
    draw_title(figure, TITLE, SUBTITLE)
    axes = figure.add_axes((0, 0, 1, HEIGHT / figure.get_figheight()))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.set_axis_off()
    centers = (0.55, 1.85, 2.95)
    for y, (name, text) in zip(centers, INPUTS, strict=False):
        _draw_box(axes, LEFT, y, 0.86, name, text, Ink.TITLE)
    for step, (y, ((name, text), answers)) in enumerate(zip(centers, STEPS, strict=True)):
        _draw_box(axes, MIDDLE, y, 0.7, name, text, Ink.SOURCE)
        for number, (command, question) in enumerate(answers):
            row = y + (number - (len(answers) - 1) / 2) * 0.56
            axes.text(RIGHT, row - 0.09, f"modgap {command}", va="center", size=9, weight="bold", color=Ink.TITLE)
            axes.text(RIGHT, row + 0.09, question, va="center", size=8, color=Ink.SECONDARY)
            _draw_arrow(axes, (MIDDLE + BOX, y), (RIGHT - 0.04, row))
        for source in centers[:2] if step < 2 else ():
            _draw_arrow(axes, (LEFT + BOX + 0.02, source), (MIDDLE - 0.02, y + (source - y) * 0.13))
    return figure


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out",
        type=Path,
        help="path without a suffix",
        default=Path(__file__).resolve().parent.parent / "docs" / "overview",
    )
    options = parser.parse_args()
    save_figure(overview_figure(), options.out)


if __name__ == "__main__":
    main()
