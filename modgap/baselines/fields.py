"""Baselines for dense fields: the mean field, and a linear function of the patch around each point."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from modgap.baselines.baseline import (
    Baseline,
    Features,
    Predictor,
    SampleForm,
    Truth,
    all_samples,
    check_sample,
    is_field,
)
from modgap.baselines.parts import Constant, Part, standard_scale
from modgap.baselines.predictors import constant_scores
from modgap.probes.ridge import fit_ridge
from modgap.targets import Samples
from modgap.targets.output import Output

PATCH = 7
"""Number of points of a patch along each axis."""
MOST_PATCH_VALUES = 1500
"""Largest number of values of a patch; with many channels, patches are smaller."""
MOST_POINTS = 20_000
"""Largest number of points that patches are fitted to, drawn over all samples."""
STRENGTHS = (1e4, 1e2, 1.0)
CHUNK = 65_536


def _arrays(samples: Samples, form: SampleForm) -> np.ndarray:
    arrays = []
    for sample in all_samples(samples):
        values = np.asarray(sample, np.float32)
        check_sample(values, form, fits=values.shape == form.shape)
        arrays.append(values)
    return np.stack(arrays)


def _patch_size(channels: int, n_axes: int) -> int:
    size = PATCH
    while size > 1 and channels * size**n_axes > MOST_PATCH_VALUES:
        size -= 2
    return size


def _patches(field: np.ndarray, size: int) -> np.ndarray:
    """Return the patch around each point of a field (C, ...): (points, C * size ** axes). Edges are repeated."""
    n_axes = field.ndim - 1
    margin = size // 2
    padded = np.pad(field, [(0, 0), *[(margin, margin)] * n_axes], mode="edge")
    axes: Any = tuple(range(1, n_axes + 1))
    windows: np.ndarray = np.lib.stride_tricks.sliding_window_view(padded, (size,) * n_axes, axes)
    return np.moveaxis(windows, 0, n_axes).reshape(int(np.prod(field.shape[1:])), -1)


@dataclass(frozen=True)
class PatchModel(Part):
    """A linear function of the patch around each point of a field.

    Attributes:
        size: Number of points of a patch along each axis, odd.
        mean: Mean of each value of a patch, (P,).
        scale: Standard deviation of each value, above 0, (P,).
        weights: Weights for each channel of the result, (M, P).
        intercepts: Intercept of each channel, (M,).
        points: Number of points of a field.
    """

    kind: ClassVar[str] = "patches"
    size: int
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray
    points: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the fields (n, M * points) of samples (n, C, ...)."""
        weights = self.weights / self.scale
        results = []
        for field in values:
            patches = _patches(field, self.size)
            parts = [
                (patches[first : first + CHUNK] - self.mean) @ weights.T for first in range(0, len(patches), CHUNK)
            ]
            results.append((np.concatenate(parts) + self.intercepts).T.ravel())
        return np.stack(results)

    def check(self) -> None:
        """Raise a ValueError if the sizes do not fit each other."""
        if type(self.size) is not int or not 1 <= self.size <= PATCH or self.size % 2 == 0:
            raise ValueError("the patches have another size")
        if type(self.points) is not int or self.points < 1:
            raise ValueError("the fields have another size")
        if self.weights.ndim != 2 or not self.mean.shape == self.scale.shape == self.weights.shape[1:]:
            raise ValueError("the weights have another shape than the patches")
        if self.intercepts.shape != self.weights.shape[:1] or not (self.scale > 0).all():
            raise ValueError("the intercepts or scales do not fit")

    @property
    def n_outputs(self) -> int:
        """Number of values of a result."""
        return len(self.weights) * self.points


def _fit_patches(values: np.ndarray, truth: Truth, seed: int) -> list[Part]:
    size = _patch_size(values.shape[1], values.ndim - 2)
    n_points = int(np.prod(values.shape[2:]))
    by_sample = max(1, MOST_POINTS // len(values))
    rng = np.random.default_rng(seed)
    fields = truth.y.reshape(len(truth), truth.output.shape[0], n_points)
    masks = None if truth.mask is None else truth.mask.reshape(fields.shape).min(axis=1) != 0
    patches, targets = [], []
    for number, field in enumerate(values):
        points = np.arange(n_points) if masks is None else np.flatnonzero(masks[number])
        points = np.sort(rng.permutation(points)[:by_sample])
        patches.append(_patches(field, size)[points].astype(np.float64))
        targets.append(fields[number][:, points].T.astype(np.float64))
    features = np.concatenate(patches)
    mean, scale = standard_scale(features)
    weights, intercepts = fit_ridge((features - mean) / scale, np.concatenate(targets), STRENGTHS)
    return [PatchModel(size, mean, scale, *one, n_points) for one in zip(weights, intercepts, strict=True)]


def _applies(form: SampleForm, _is_table: bool, output: Output) -> bool:
    return is_field(form, output)


FIELDS = Features("fields", _arrays)
KINDS = ("image", "series")
BASELINES = (
    Baseline(
        "mean-field",
        "mean of the training fields",
        "scikit-learn's DummyRegressor",
        KINDS,
        ("regression",),
        (FIELDS,),
        Predictor(("mean",), lambda _values, truth, _seed: [Constant(constant_scores([truth]))]),
        (Constant,),
        applies=_applies,
        seconds=1,
    ),
    Baseline(
        "patches",
        f"ridge regression on the {PATCH} x {PATCH} patch around each point",
        "scikit-learn",
        KINDS,
        ("regression",),
        (FIELDS,),
        Predictor(tuple(f"L2 strength {strength:g}" for strength in STRENGTHS), _fit_patches),
        (PatchModel,),
        applies=_applies,
        seconds=4,
    ),
)
