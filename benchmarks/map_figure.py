"""Draw docs/map.png, which explains what a map is: choose a map, predict, count the errors.

    python benchmarks/map_figure.py    a minute or less

The source is vit-fashion, a classifier of clothing, and the target is the digits 0 to 4. Of all 30,240 maps, the one
with the fewest errors on one half of the samples is shown; the errors are counted on the other half.
"""

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from matplotlib.path import Path as MarkPath
from sklearn.model_selection import StratifiedKFold

from modgap.answers.figures.files import save_figure
from modgap.answers.figures.style import MARGIN, WIDTH, Ink, draw_title, figure_below_title, styled
from modgap.forward.logits import LogitsRequest, source_logits
from modgap.sources import open_source
from modgap.statistics.intervals import wilson_interval
from modgap.targets import open_target

SOURCE = "vit-fashion"
TARGET = "digits"
SURROGATE = "fashion-mnist"
N_CLASSES = 5
BLOCK = 500
"""Maps that are tried at once."""
HEIGHT = 4.25
COLUMNS = (MARGIN, 2.62, 4.92)
"""Left end of each of the three steps, in inches."""
STEPS = (
    ("Choose a map", ("Each target class gets its own", "source class. The best map has", "the fewest errors.")),
    ("Predict", ("The source model scores the", "five mapped classes. The largest", "score is the prediction.")),
    (
        "Count the errors",
        ("Samples that were not used to", "choose the map are tested.", "Errors are off the diagonal."),
    ),
)


@dataclass(frozen=True)
class Example:
    """One map at work.

    Attributes:
        images: Images of the tested samples, shape (n, height, width), in [0, 1].
        labels: Their classes, shape (n,).
        logits: Source logits of the classes of the map, shape (n, K).
        best: Source class of each target class.
        control_error: Held-out error of the best map of the same architecture with random weights.
        thumbnails: An image of each source class, shape (C, height, width), in [0, 1].
        source_classes: Names of the source classes.
    """

    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    best: tuple[int, ...]
    control_error: float
    thumbnails: np.ndarray
    source_classes: list[str]

    @property
    def predicted(self) -> np.ndarray:
        """Predicted class of each sample."""
        return np.asarray(self.logits.argmax(axis=1))

    @property
    def confusion(self) -> np.ndarray:
        """Number of samples by label (rows) and prediction (columns)."""
        counts = np.zeros((N_CLASSES, N_CLASSES), int)
        np.add.at(counts, (self.labels, self.predicted), 1)
        return counts


def read_example() -> Example:
    """Run the source and its random-weights control on the digits, and try all maps."""
    table = open_target(TARGET).read()
    labels = np.asarray(table.labels)
    rows = np.flatnonzero(labels < N_CLASSES)
    first_half, second_half = StratifiedKFold(2, shuffle=True, random_state=0).split(rows, labels[rows])
    chosen_on, tested = rows[first_half[0]], rows[second_half[0]]
    logits, source_classes = _logits(SOURCE)
    best = best_map(logits[chosen_on], labels[chosen_on])
    control, _ = _logits(f"random:{SOURCE}")
    control_map = best_map(control[chosen_on], labels[chosen_on])
    control_predicted = control[tested][:, control_map].argmax(axis=1)
    images = np.stack([_image(table.samples[int(row)]) for row in tested])
    return Example(
        images=images,
        labels=labels[tested],
        logits=logits[tested][:, best],
        best=best,
        control_error=float((control_predicted != labels[tested]).mean()),
        thumbnails=_thumbnails(len(source_classes)),
        source_classes=source_classes,
    )


def _logits(source: str) -> tuple[np.ndarray, list[str]]:
    outputs = source_logits(open_source(source), open_target(TARGET), LogitsRequest())
    return np.asarray(outputs.logits, np.float32), list(outputs.source_classes)


def best_map(logits: np.ndarray, labels: np.ndarray) -> tuple[int, ...]:
    """Return the map with the fewest errors of all maps, the first of several."""
    maps = np.array(list(itertools.permutations(range(logits.shape[1]), N_CLASSES)))
    errors = [
        (logits[:, block].argmax(axis=2) != labels[:, None]).sum(axis=0)
        for block in np.array_split(maps, len(maps) // BLOCK)
    ]
    return tuple(maps[int(np.concatenate(errors).argmin())].tolist())


def _image(sample: np.ndarray) -> np.ndarray:
    pixels = np.asarray(sample, np.float32).squeeze()
    return pixels / max(float(pixels.max()), 1e-9)


def _thumbnails(n_classes: int) -> np.ndarray:
    """Return the image of each class that is closest to the mean of the first 200 of its class."""
    table = open_target(SURROGATE).read()
    labels = np.asarray(table.labels)
    thumbnails = []
    for number in range(n_classes):
        images = np.stack([_image(table.samples[int(row)]) for row in np.flatnonzero(labels == number)[:200]])
        distances = ((images - images.mean(axis=0)) ** 2).sum(axis=(1, 2))
        thumbnails.append(images[distances.argmin()])
    return np.stack(thumbnails)


@styled
def map_figure(example: Example) -> Figure:
    """Draw the three steps side by side."""
    share = round(100 * float((example.predicted == example.labels).mean()))
    title = f"A clothing classifier gets {share} % of the digits 0 to {N_CLASSES - 1} right"
    subtitle = "A map lets source classes stand for target classes. modgap reports the held-out error of the best map."
    figure, _ = figure_below_title(title, subtitle, HEIGHT)
    draw_title(figure, title, subtitle)
    height = figure.get_figheight()
    axes = figure.add_axes((0, 0, 1, (HEIGHT + 0.03) / height))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, -0.03))
    axes.set_axis_off()
    for number, (x, (heading, lines)) in enumerate(zip(COLUMNS, STEPS, strict=True), 1):
        _draw_heading(axes, number, x, heading, lines)
    for x in COLUMNS[1:]:
        axes.plot([x - 0.14] * 2, [0, HEIGHT - 0.2], color=Ink.GRID, linewidth=1)
    _draw_choice(axes, example)
    _draw_prediction(axes, example, 1.35, is_correct=True)
    _draw_prediction(axes, example, 2.85, is_correct=False)
    _draw_counts(axes, example)
    return figure


def _draw_heading(axes: Axes, number: int, x: float, heading: str, lines: tuple[str, ...]) -> None:
    axes.add_patch(Circle((x + 0.1, 0.1), 0.1, color=Ink.TITLE))
    axes.text(x + 0.1, 0.105, str(number), ha="center", va="center", size=8.5, weight="bold", color="white")
    axes.text(x + 0.28, 0.1, heading, va="center", size=9.5, weight="bold", color=Ink.TITLE)
    for line, text in enumerate(lines):
        axes.text(x, 0.36 + 0.15 * line, text, va="center", size=8, color=Ink.SECONDARY)


def _draw_image(axes: Axes, image: np.ndarray, x: float, y: float, side: float, *, is_faint: bool = False) -> None:
    """Draw an image with its center at (x, y), dark on white."""
    half = side / 2
    # The vertical axis points down, so the first row of the image is at the smaller coordinate.
    axes.imshow(
        1 - image * (0.3 if is_faint else 1), cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
        extent=(x - half, x + half, y + half, y - half),
    )  # fmt: skip
    edge = Ink.GRID if is_faint else Ink.AXIS
    axes.add_patch(Rectangle((x - half, y - half), side, side, fill=False, edgecolor=edge, linewidth=0.8))


def _typical(example: Example, label: int) -> int:
    """Return the correctly predicted sample of a class whose image is closest to the mean image of the class."""
    rows = np.flatnonzero((example.labels == label) & (example.predicted == label))
    if not len(rows):
        rows = np.flatnonzero(example.labels == label)
    mean = example.images[example.labels == label].mean(axis=0)
    return int(rows[((example.images[rows] - mean) ** 2).sum(axis=(1, 2)).argmin()])


def _draw_choice(axes: Axes, example: Example) -> None:
    left = COLUMNS[0]
    axes.text(left, 0.95, "target classes", va="center", size=8, color=Ink.SECONDARY)
    axes.text(left + 1.32, 0.95, "source classes", va="center", size=8, color=Ink.SECONDARY)
    n_source = len(example.source_classes)
    source_y = [1.22 + number * (HEIGHT - 1.55) / (n_source - 1) for number in range(n_source)]
    target_y = [1.3 + number * (HEIGHT - 1.75) / (N_CLASSES - 1) for number in range(N_CLASSES)]
    for number, name in enumerate(example.source_classes):
        used = number in example.best
        _draw_image(axes, example.thumbnails[number], left + 1.44, source_y[number], 0.24, is_faint=not used)
        color, weight = (Ink.TITLE, "bold") if used else ("#8A8A8A", "normal")
        short = name.split("/")[0]
        axes.text(left + 1.62, source_y[number], short, va="center", size=8, color=color, weight=weight)
    for label, source in enumerate(example.best):
        y = target_y[label]
        axes.text(left + 0.02, y, str(label), va="center", size=9, weight="bold", color=Ink.TITLE)
        _draw_image(axes, example.images[_typical(example, label)], left + 0.36, y, 0.38)
        start, end = (left + 0.6, y), (left + 1.3, source_y[source])
        middle = (start[0] + end[0]) / 2
        curve = MarkPath([start, (middle, start[1]), (middle, end[1]), end], [1, 4, 4, 4])
        arrow = FancyArrowPatch(path=curve, arrowstyle="-|>", mutation_scale=8, linewidth=1.5, color=Ink.SOURCE)
        axes.add_patch(arrow)


def _draw_prediction(axes: Axes, example: Example, y: float, *, is_correct: bool) -> None:
    """Draw one sample, the scores of the mapped classes and the prediction."""
    confusion = example.confusion.copy()
    if is_correct:
        label = predicted = 1
        row = _typical(example, label)
    else:
        np.fill_diagonal(confusion, 0)
        label, predicted = (int(i) for i in np.unravel_index(confusion.argmax(), confusion.shape))
        row = int(np.flatnonzero((example.labels == label) & (example.predicted == predicted))[0])
    color, text_color = (Ink.SOURCE, Ink.SOURCE) if is_correct else (Ink.ERROR, Ink.ERROR_TEXT)
    left = COLUMNS[1]
    _draw_image(axes, example.images[row], left + 0.26, y, 0.5)
    axes.text(left + 0.26, y + 0.38, f"a {label}", ha="center", va="center", size=8.5, weight="bold", color=Ink.TITLE)
    scores = np.exp(example.logits[row] - example.logits[row].max())
    scores /= scores.sum()
    for number, score in enumerate(scores.tolist()):
        bar_y = y - 0.32 + 0.17 * number
        is_predicted = number == predicted
        name = example.source_classes[example.best[number]].split("/")[0]
        style = {"weight": "bold", "color": Ink.TITLE} if is_predicted else {"color": Ink.SECONDARY}
        axes.text(left + 1.34, bar_y, name, ha="right", va="center", size=8, **style)
        axes.add_patch(
            Rectangle((left + 1.4, bar_y - 0.05), 0.42 * score, 0.1, color=color if is_predicted else Ink.AXIS)
        )
        if is_predicted:
            x = left + 1.46 + 0.42 * score
            axes.text(x, bar_y, f"= {number}", va="center", size=8.5, weight="bold", color=text_color)
    name = example.source_classes[example.best[predicted]].split("/")[0]
    text = f"{'Correct' if is_correct else 'Error'}: {name} stands for {predicted}."
    axes.text(left, y + 0.62, text, va="center", size=8.5, weight="bold", color=text_color)


def _draw_counts(axes: Axes, example: Example) -> None:
    left, top, cell = COLUMNS[2] + 0.34, 1.55, 0.31
    confusion = example.confusion
    middle = left + cell * N_CLASSES / 2
    axes.text(middle, 0.98, "predicted digit", ha="center", va="center", size=8, color=Ink.SECONDARY)
    axes.text(
        left - 0.3, top + cell * N_CLASSES / 2, "true digit", ha="center", va="center", rotation=90, size=8,
        color=Ink.SECONDARY,
    )  # fmt: skip
    for label in range(N_CLASSES):
        x, y = left + cell * (label + 0.5), top + cell * (label + 0.5)
        _draw_image(axes, example.thumbnails[example.best[label]], x, 1.2, 0.23)
        axes.text(x, 1.43, str(label), ha="center", va="center", size=8.5, weight="bold", color=Ink.TITLE)
        axes.text(left - 0.1, y, str(label), ha="center", va="center", size=8.5, weight="bold", color=Ink.TITLE)
        for predicted in range(N_CLASSES):
            count = int(confusion[label, predicted])
            share = count / confusion[label].sum()
            color = Ink.SOURCE if label == predicted else Ink.ERROR
            corner = (left + cell * predicted + 0.01, top + cell * label + 0.01)
            axes.add_patch(
                Rectangle(corner, cell - 0.02, cell - 0.02, color=color, alpha=0.06 + 0.8 * share, linewidth=0)
            )
            is_dark = label == predicted and share > 0.75
            axes.text(
                left + cell * (predicted + 0.5), y, str(count) if count else "·", ha="center", va="center", size=8.5,
                color="white" if is_dark else Ink.TITLE,
            )  # fmt: skip
    n_correct, total = int(np.trace(confusion)), int(confusion.sum())
    y = top + cell * N_CLASSES + 0.17
    x = COLUMNS[2]
    axes.text(x, y, f"{n_correct} correct", va="center", size=8.5, weight="bold", color=Ink.SOURCE)
    axes.text(x + 0.95, y, f"{total - n_correct} errors", va="center", size=8.5, weight="bold", color=Ink.ERROR_TEXT)
    low, high = wilson_interval(total - n_correct, total)
    lines = (
        f"held-out error {1 - n_correct / total:.2f}",
        f"95 % CI {low:.2f} to {high:.2f}",
        f"chance level {1 - 1 / N_CLASSES:.2f}",
        f"random weights {example.control_error:.2f}",
    )
    for number, line in enumerate(lines):
        axes.text(x, y + 0.25 + 0.16 * number, line, va="center", size=8.5, color=Ink.TITLE)


def map_caption(example: Example) -> str:
    """Return the caption of the figure, with the exact values."""
    confusion = example.confusion
    total = int(confusion.sum())
    n_errors = total - int(np.trace(confusion))
    low, high = wilson_interval(n_errors, total)
    return (
        f"One map at work. The source model {SOURCE} was pretrained on ten classes of clothing. (1) The map gives each "
        f"of the {N_CLASSES} target classes (digits 0 to {N_CLASSES - 1}) its own source class; the other source "
        "classes stay unused. Of all 30,240 such maps, the one with the fewest errors on one half of the samples is "
        "shown. (2) For a sample of the other half, the largest of the mapped scores is the prediction. The bars are "
        f"the softmax over the mapped classes. (3) The predictions for all {total} held-out samples. Rows are true "
        "digits and "
        "columns are predicted digits; blue cells are correct, orange cells are errors. "
        f"Held-out error {n_errors / total:.3f} (95 % CI {low:.3f}-{high:.3f}); chance level {1 - 1 / N_CLASSES:.3f}; "
        f"the same architecture with random weights {example.control_error:.3f}. The five digits were chosen for the "
        "illustration."
    )


def main() -> None:
    """Compute the example and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="map", help="path of the figure without suffix (default map)")
    options = parser.parse_args()
    example = read_example()
    print(*save_figure(map_figure(example), Path(options.out), map_caption(example)))


if __name__ == "__main__":
    main()
