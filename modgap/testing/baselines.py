"""Check of a baseline: its description, finite scores, the same scores for the same seed, and its stored form."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap.baselines import get_baseline
from modgap.baselines.baseline import Baseline, SampleForm, Truth, fit_baseline, restore_baseline
from modgap.targets.manifest import InputSpec
from modgap.targets.output import OUTPUT_SHAPES, Output

__all__ = ["check_baseline"]

N_SAMPLES = 40
N_CLASSES = 3
RATE = 8000
SHAPES = {"series": (2, 40), "image": (3, 16, 16), "video": (2, 3, 16, 16), "audio": (1, RATE // 2)}
"""Shape of a sample of each kind, that of a table's row aside."""
COLUMNS = (1, 6)
"""Shape of a row of a table."""


def check_baseline(baseline: str | Baseline) -> None:
    """Check a baseline on synthetic samples of each of its kinds and tasks.

    Its description is complete; its scores are finite, of the shape of the output, and the same for the same seed; and
    what is stored of it consists of JSON values and arrays, from which a baseline with the same scores is restored.

    Args:
        baseline: Name of an installed baseline, or a baseline.

    Raises:
        AssertionError: If the baseline breaks one of these rules.
    """
    baseline = get_baseline(baseline) if isinstance(baseline, str) else baseline
    for field in ("name", "title", "reference"):
        assert getattr(baseline, field).strip(), f"The {field} of the baseline {baseline.name!r} is empty."
    unknown = set(baseline.tasks) - set(OUTPUT_SHAPES)
    assert baseline.tasks, f"{baseline.name} has no tasks."
    assert not unknown, f"{baseline.name} has the unknown task {', '.join(sorted(unknown))}."
    kinds = [kind for kind in baseline.kinds if kind == "text" or kind in SHAPES]
    assert kinds, f"{baseline.name} reads no kind of samples. Expected text, {', '.join(SHAPES)}."
    n_suited = 0
    for kind in kinds:
        for samples, form, truth in _data(kind, baseline.tasks):
            if baseline.suits(form, truth.output):
                n_suited += 1
                _check_fit(baseline, samples, form, truth)
    assert n_suited, f"{baseline.name} suits none of the samples of its kinds. Look at its function applies."


def _data(kind: str, tasks: Sequence[str]) -> list[tuple[Sequence[Any], SampleForm, Truth]]:
    """Return synthetic samples of a kind for each task: nearly separable classes, one value, or one at each point."""
    rng = np.random.default_rng(0)
    labels = np.arange(N_SAMPLES) % N_CLASSES
    spec = InputSpec(kind=kind, rate=RATE if kind == "audio" else None)  # type: ignore[arg-type]
    samples_by_shape: list[tuple[Sequence[Any], tuple[int, ...], bool]] = []
    if kind == "text":
        texts = [" ".join(rng.choice(list("acgt"), 12)) + " word" * int(label) for label in labels]
        samples_by_shape.append((texts, (), False))
    shapes = {"text": (), "series": (SHAPES["series"], COLUMNS)}
    for shape in shapes[kind] if kind in shapes else (SHAPES[kind],):
        values = rng.standard_normal((N_SAMPLES, *shape)).astype(np.float32)
        values += labels.reshape(-1, *(1 for _ in shape))
        samples_by_shape.append((list(values), shape[1:] if kind == "video" else shape, shape == COLUMNS))
    truths = {
        "classification": Truth(Output("classification", (N_CLASSES,)), labels),
        "multi-label": Truth(Output("multi-label", (N_CLASSES,)), np.eye(N_CLASSES, dtype=np.float32)[labels]),
        "regression": Truth(Output("regression", (1,)), (labels - 1.0)[:, None].astype(np.float32)),
    }
    data = [
        (samples, SampleForm(spec, shape, is_table), truths[task])
        for samples, shape, is_table in samples_by_shape
        for task in tasks
    ]
    if "regression" in tasks and kind in ("series", "image"):
        fields = rng.standard_normal((N_SAMPLES, 1, *SHAPES[kind][1:])).astype(np.float32)
        output = Output("regression", (1, *SHAPES[kind][1:]))
        data.append((list(fields), SampleForm(spec, fields.shape[1:]), Truth(output, fields**2)))
    return data


def _check_fit(baseline: Baseline, samples: Sequence[Any], form: SampleForm, truth: Truth) -> None:
    fitted, again = (fit_baseline(baseline, samples, form, truth, seed=1) for _ in range(2))
    scores = fitted.scores(samples)
    what = f"{form.spec.kind} samples and {truth.output.task}"
    expected = (N_SAMPLES, *truth.output.shape)
    assert scores.shape == expected, f"{baseline.name} has scores of shape {scores.shape} for {what}, not {expected}."
    same = np.array_equal(scores, again.scores(samples))
    assert same, f"The scores of {baseline.name} differ between two fits with the same seed, for {what}."
    record, arrays = fitted.state()
    try:
        stored = json.loads(json.dumps(record, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"What is stored of {baseline.name} is not made of plain values: {error}.") from error
    wrong = [name for name, array in arrays.items() if not isinstance(array, np.ndarray) or array.dtype == object]
    assert not wrong, f"{baseline.name} stores {wrong[0]}, which is no array of numbers."
    restored = restore_baseline(baseline, stored, arrays, form.spec, truth.output)
    same = np.array_equal(scores, restored.scores(samples))
    assert same, f"{baseline.name} has other scores after it was stored and restored, for {what}."
