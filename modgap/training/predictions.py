"""Predictions of a trained model for a whole data set, and their file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modgap.answers.formatting import csv_text
from modgap.errors import InputError, UsageError
from modgap.storage.atomic_files import atomic_path, write_text_atomically, writing
from modgap.storage.paths import expand_user
from modgap.targets import SPLITS, Table, manifest_names, open_target
from modgap.targets.readers.image_folder import ImageFiles
from modgap.targets.samples import TransformedSamples
from modgap.targets.unlabeled import UnlabeledSamples, read_unlabeled
from modgap.training.trained_model import TrainedModel

MOST_COLUMNS = 1000
"""Largest number of values of a sample that a row of a CSV file has."""
LABEL_SEPARATOR = ";"


@dataclass(frozen=True)
class Predictions:
    """Predictions for N samples.

    Attributes:
        task: `classification`, `multi-label` or `regression`.
        names: Name of each sample: its file, its series in a table in long format, or its number.
        classes: Names of the classes; empty for real values.
        outputs: Probabilities (N, K), or values (N, channels, ...) in the target's unit.
        groups: Name of the column of groups of a table, and the group of each sample; None without such a column.
    """

    task: Literal["classification", "multi-label", "regression"]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    outputs: np.ndarray
    groups: tuple[str, tuple[str, ...]] | None = None

    @property
    def predicted(self) -> list[str]:
        """Class of each sample, or its labels with semicolons between them; empty texts for real values."""
        if self.task == "classification":
            return [self.classes[k] for k in self.outputs.argmax(axis=1)]
        if self.task == "regression":
            return [""] * len(self.names)
        rows = self.outputs > 0.5
        return [LABEL_SEPARATOR.join(np.array(self.classes)[row]) for row in rows]


def predict_data(model: TrainedModel, data: str, *, split: str = "test", x_name: str | None = None) -> Predictions:
    """Predict for new data, or for a split of a target.

    Args:
        model: The trained model.
        data: Path of new samples, as for `read_unlabeled`; or the name of a target, or a manifest.
        split: Split of the target.
        x_name: Name of the array of samples; None for x.

    Raises:
        UsageError: When the data has another form than the model's samples.
        InputError: When it is missing or broken, or a sample does not fit.
    """
    path, groups = expand_user(data), None
    if data in manifest_names() or path.suffix == ".toml":
        table = open_target(data).read(classes=model.task != "regression")
        rows = np.flatnonzero(table.splits == SPLITS.index(split))
        if not len(rows):
            raise InputError(f"The target {data} has no {split} samples.")
        samples: Table | UnlabeledSamples = table.select(rows)
        names: tuple[str, ...] = tuple(str(row) for row in rows)
    else:
        inputs = model.inputs
        new = read_unlabeled(
            path,
            inputs.inputs.spec,
            columns=inputs.columns,
            series_column=inputs.series_column,
            time_column=inputs.time_column,
            group_column=inputs.group_column,
            keep_missing=inputs.fills_missing,
            background=inputs.background,
            x_name=x_name,
        )
        if isinstance(new.samples, ImageFiles):
            new = replace(new, samples=TransformedSamples(new.samples, inputs.picture))
        samples = new
        names = new.names
        groups = None if new.groups is None else (str(inputs.group_column), new.groups)
    outputs = model.outputs(samples) if model.task == "regression" else model.predict_proba(samples)
    return Predictions(model.inputs.output.task, names, model.classes, outputs, groups)


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions to a .csv or .npz file, complete or not at all.

    A CSV file has the columns sample, predicted and one for the probability of each class; for real values sample and
    value, or value 0, value 1 and so on. A .npz file has the arrays names, classes and outputs. Samples of a table with
    groups, or that it lists, also have that column, after the column sample, or the array groups.

    Raises:
        UsageError: When a sample has too many values for a row of a CSV file.
        InputError: When the file cannot be written.
    """
    with writing(path):
        if path.suffix.lower() == ".npz":
            arrays: dict[str, Any] = {
                "names": np.array(predictions.names),
                "classes": np.array(predictions.classes),
                "outputs": predictions.outputs,
            }
            if predictions.groups is not None:
                arrays["groups"] = np.array(predictions.groups[1])
            with atomic_path(path) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, **arrays)
        else:
            write_text_atomically(path, _csv_text(predictions))


def _csv_text(predictions: Predictions) -> str:
    values = predictions.outputs.reshape(len(predictions.names), -1)
    if values.shape[1] > MOST_COLUMNS:
        raise UsageError(
            f"A prediction has {values.shape[1]:,} values, and a row of a CSV file at most {MOST_COLUMNS:,}. "
            "Pass `out` with the suffix .npz."
        )
    if predictions.task == "regression":
        header = ["value"] if values.shape[1] == 1 else [f"value {number}" for number in range(values.shape[1])]
    else:
        header = ["predicted", *(f"p({name})" for name in predictions.classes)]
    of_groups, groups = predictions.groups or ("", ())
    rows = [["sample", *([of_groups] if groups else []), *header]]
    for number, (name, predicted, row) in enumerate(zip(predictions.names, predictions.predicted, values, strict=True)):
        label = [] if predictions.task == "regression" else [predicted]
        rows.append([name, *groups[number : number + 1], *label, *(f"{value:.9g}" for value in row)])
    return csv_text(rows)
