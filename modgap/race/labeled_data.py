"""The labeled samples of a race as its result shows them: their errors by the measure of the test, and their groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.answers.formatting import format_value
from modgap.errors import visible_name
from modgap.race.steps import Labeled, chance_losses, read_labeled
from modgap.storage.cache import cache_key
from modgap.targets import Samples
from modgap.targets.samples import WordInText, stored_sample
from modgap.targets.splits import TEST, complete_splits, stratification_labels
from modgap.training.evaluation import PERCENT
from modgap.training.metrics import task_metric

if TYPE_CHECKING:
    from modgap.race.transfer import RaceRequest

GROUPS = "groups"
"""Name of groups that have no name of their own."""
OF_VALUES = ("nRMSE", "RMSE", "relative L2")
"""Metrics of values that follow from the mean squared error of each sample, if a sample is one number or channel."""
LOSSES = {
    "classification": "0-1 error",
    "multi-label": "1 - the average precision of the labels of a sample",
    "regression": "the mean squared error of standardized values",
}
"""Losses by which the models of a race are compared, by the task."""


@dataclass(frozen=True)
class LabeledData:
    """The facts about the samples of a race that its result has.

    Attributes:
        measure: Name of the validation errors after the word "validation", such as `error` or `nRMSE`.
        unit: Unit of the validation errors, `%` or empty.
        metric: Name of the target's metric, without its unit.
        loss: The loss by which the models were compared; empty if the validation errors are its means.
        errors: Validation error of each step, NaN for one without a result.
        chance: Validation error of the same prediction for all samples.
        group: Name of the groups; empty for samples that are independent.
        n_groups: Number of groups of the labeled samples, and of the test samples.
        n_divided: Number of groups with labeled and with test samples.
        classes: Names of the classes or labels; empty for values.
        is_drawn: True if the test split was drawn, False if the data has one, and None if that is not known.
        n_copies: Number of test samples that equal a labeled sample.
        group_like: Names of columns of values whose name and repeated whole numbers suggest groups.
    """

    measure: str
    unit: str
    metric: str
    loss: str
    errors: tuple[float, ...]
    chance: float
    group: str
    n_groups: tuple[int, int]
    n_divided: int
    classes: tuple[str, ...]
    is_drawn: bool | None
    n_copies: int = 0
    group_like: tuple[str, ...] = ()

    @property
    def of_test(self) -> str:
        """Name of the test errors after the word "test"."""
        return "error" if self.measure == "error" else self.metric

    def shown(self, error: float) -> str:
        """Return a validation error with its unit."""
        return f"{error:.3g} {self.unit}" if self.unit else format_value(error)


def describe_labeled(request: "RaceRequest", losses: Sequence[np.ndarray]) -> LabeledData:
    """Return what the result of a race says about its samples.

    Args:
        request: The request of the race.
        losses: Loss of each labeled sample in each step, (n,); NaN for samples on which it was not judged.
    """
    target = request.target.absolute()
    fingerprint = cache_key({"target": target.open().fingerprint})
    labeled = read_labeled(target, request.samples.limit, request.samples.seed, fingerprint)
    data, manifest = labeled.data, labeled.data.target.manifest
    metric = task_metric(manifest, data.output, data.scale)
    name, loss = metric.name.removesuffix(f" {metric.unit}"), LOSSES[data.output.task]
    every = [*losses, chance_losses(labeled)]
    measure, unit = ("error" if name == loss else loss if data.output.task == "classification" else "loss"), ""
    errors = [float(finite.mean()) if len(finite := one[np.isfinite(one)]) else float("nan") for one in every]
    if data.output.task == "classification":
        errors, unit = [100 * error for error in errors], PERCENT
    elif _tells_metric(labeled, name):
        errors, measure = [_metric_of_losses(labeled, one) for one in every], name
    groups, parts = data.groups, (labeled.rows, data.test)
    of_parts = [np.array([]) if groups is None else np.unique(groups[rows]) for rows in parts]
    custom_data = request.target.custom_data
    group = (custom_data.group if custom_data else None) or manifest.group or GROUPS
    return LabeledData(
        measure,
        unit,
        name,
        "" if data.output.task == "classification" else loss,
        tuple(errors[:-1]),
        errors[-1],
        "" if groups is None else visible_name(group),
        (len(of_parts[0]), len(of_parts[1])),
        len(np.intersect1d(of_parts[0], of_parts[1])),
        tuple(map(visible_name, data.table.classes or ())),
        _is_drawn(labeled),
        _count_copies(data.table.samples, labeled.rows, data.test),
        tuple(map(visible_name, data.table.group_like)),
    )


def _tells_metric(labeled: Labeled, name: str) -> bool:
    """Return True if the mean squared error of each sample decides the metric of values.

    That is so for one number or one channel a sample, all with the same scale and without a mask.
    """
    if labeled.data.output.task != "regression" or name not in OF_VALUES or labeled.truth.mask is not None:
        return False
    shape, scale = labeled.truth.y.shape[1:], labeled.data.scale
    is_one = int(np.prod(shape)) == 1 or (len(shape) > 1 and shape[0] == 1)
    return is_one and (scale is None or float(np.ptp(scale[1])) == 0)


def _metric_of_losses(labeled: Labeled, losses: np.ndarray) -> float:
    """Return the metric of outputs that have these losses: they differ from y by their roots at each position."""
    is_finite = np.isfinite(losses)
    if not is_finite.any():
        return float("nan")
    data, y = labeled.data, labeled.truth.y[is_finite].astype(np.float64)
    metric = task_metric(data.target.manifest, data.output, data.scale)
    metric.update(y + np.sqrt(losses[is_finite]).reshape(-1, *(1 for _ in y.shape[1:])), y)
    return metric.compute()


def _count_copies(samples: Samples, labeled: np.ndarray, test: np.ndarray) -> int:
    """Return how many of the test samples equal a labeled sample: the files that they come from, or else all values.

    Files are not decoded, and only those of equal size are read.
    """
    keys = {int(row): _key(stored_sample(samples, int(row))) for row in (*labeled, *test)}
    shared = {keys[int(row)] for row in labeled} & {keys[int(row)] for row in test}
    digests = {
        row: key if isinstance(key, bytes) else _file_digest(stored_sample(samples, row))
        for row, key in keys.items()
        if key in shared
    }
    labeled_digests = {digests.get(int(row)) for row in labeled}
    return sum(int(row) in digests and digests[int(row)] in labeled_digests for row in test)


def _key(sample: Any) -> bytes | tuple[int, ...]:
    """Return the sizes of the files of a sample, or the checksum of its values and their shape."""
    if isinstance(sample, tuple):
        return tuple(file.stat().st_size for file in sample)
    if isinstance(sample, str):
        text = str(sample.__reduce__()[1] if isinstance(sample, WordInText) else sample)
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return blake2b(sample.tobytes(), digest_size=16, person=str(sample.shape).encode()[:16]).digest()


def _file_digest(files: Sequence[Path]) -> bytes:
    return blake2b(b"".join(blake2b(file.read_bytes()).digest() for file in files), digest_size=16).digest()


def _is_drawn(labeled: Labeled) -> bool | None:
    """Return True if the test split is the one that is drawn where the data has none; None if samples were divided."""
    table, manifest = labeled.data.table, labeled.data.target.manifest
    if any(step.name == "windows" for step in manifest.steps):
        return None
    # A draw is stratified by classes, but not by clusters of values.
    classes = table.labels if table.targets is None else None
    labels = np.zeros(len(table), np.int64) if classes is None else stratification_labels(classes)
    drawn = complete_splits(None, labels, labeled.data.groups, **manifest.splits.model_dump())
    return bool(((drawn == TEST) == (np.asarray(table.splits) == TEST)).all())
