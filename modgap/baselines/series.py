"""Baselines for tables and time series: values, MiniRocket, nearest neighbors and trees."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from modgap.baselines.baseline import (
    N_SEEDS,
    TASKS,
    Baseline,
    Features,
    SampleForm,
    all_samples,
    check_sample,
    is_field,
)
from modgap.baselines.parts import Affine, Constant, Neighbors, Part, Trees, standard_scale
from modgap.baselines.predictors import BOOSTING, EXTRA_TREES, LINEAR, NEAREST, RIDGE
from modgap.errors import UsageError
from modgap.inputs.representations import stretch
from modgap.targets.sample_transforms import standardize_over
from modgap.targets.samples import Samples, computing_type

MOST_VALUES = 1024
"""Largest number of values of a series as features. Longer ones are reduced to means over equal stretches."""
WIDEST_TABLE = 1 << 15
"""Largest number of columns as features. Neighboring columns are no stretch of anything, but memory has a limit."""
MOST_COLUMNS = 256
"""Largest number of values for gradient boosting, whose time grows with them."""
MOST_BOOSTED = 64
"""Largest number of outputs for gradient boosting, each of which has trees of its own."""
N_FEATURES = 10_000
"""Number of features that MiniRocket is asked for; it makes 9,996, a multiple of its kernels."""
N_KERNELS = 84
"""Number of MiniRocket's fixed kernels."""
SHORTEST = 9
"""Number of values of the shortest series that MiniRocket's kernels fit."""


def _series_arrays(samples: Samples, form: SampleForm) -> np.ndarray:
    """Return series of one length (n, C, length), in the type to compute in. Those of another length are stretched.

    Raises:
        InputError: When a sample has another number of channels, or is not finite.
    """
    arrays = []
    for sample in all_samples(samples):
        values = np.asarray(sample)
        check_sample(values, form, fits=values.ndim == 2 and len(values) == form.shape[0])
        if values.shape[1] != form.shape[1]:
            values = np.stack([stretch(channel, form.shape[1]) for channel in values])
        arrays.append(values.astype(computing_type(values.dtype), copy=False))
    return np.stack(arrays)


def _as_rows(arrays: np.ndarray, form: SampleForm) -> np.ndarray:
    """Return samples (n, ...) as rows, in which values beyond the limit are replaced by means over equal stretches."""
    rows, most = arrays.reshape(len(arrays), -1), WIDEST_TABLE if form.is_table else MOST_VALUES
    if rows.shape[1] <= most:
        return rows
    edges = np.linspace(0, rows.shape[1], most + 1).astype(np.int64)
    means: np.ndarray = np.add.reduceat(rows, edges[:-1], axis=1, dtype=np.float64) / np.diff(edges)
    return means


def _values(samples: Samples, form: SampleForm) -> np.ndarray:
    return _as_rows(_series_arrays(samples, form), form)


def _values_by_sample(samples: Samples, form: SampleForm) -> np.ndarray:
    return _as_rows(_standardized_arrays(samples, form), form)


@dataclass(frozen=True)
class ChannelScales(Part):
    """Division of each channel by its standard deviation over the training samples, after subtraction of its mean.

    Attributes:
        mean: Mean of each value's channel, (D,).
        scale: Standard deviation of each value's channel, above 0, (D,).
    """

    kind: ClassVar[str] = "channel-scales"
    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return scaled values (n, D)."""
        scaled: np.ndarray = (values - self.mean) / self.scale
        return scaled

    def check(self) -> None:
        """Raise a ValueError if the shapes differ, or a scale is not above 0."""
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape or not (self.scale > 0).all():
            raise ValueError("the scales of the channels do not fit")


def _fit_scales(values: np.ndarray, form: SampleForm, _seed: int) -> Part:
    # Means over stretches lie within one channel each only if their number is a multiple of the channels.
    channels = form.shape[0] if values.shape[1] % form.shape[0] == 0 else 1
    by_channel = values.reshape(len(values), channels, -1).astype(np.float64)
    mean, scale = standard_scale(by_channel, (0, 2))
    length = by_channel.shape[2]
    return ChannelScales(np.repeat(mean, length), np.repeat(scale, length))


@dataclass(frozen=True)
class MiniRocket(Part):
    """Features of MiniRocket: how often convolutions of a series with 84 fixed kernels exceed a bias.

    Everything but the biases and the channels follows from the shape of the series.

    Attributes:
        channels: Number of channels of a series.
        length: Number of values of each channel.
        channel_counts: Number of channels of each combination of a kernel and a dilation, (combinations,).
        channel_indices: These channels, one combination after the other, (channels of all combinations,).
        biases: Bias of each feature, (features,).
    """

    kind: ClassVar[str] = "minirocket"
    channels: int
    length: int
    channel_counts: np.ndarray
    channel_indices: np.ndarray
    biases: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the features (n, 9,996) of series (n, C, length), each between 0 and 1."""
        rocket = _rocket()
        rocket._n_jobs = 1
        rocket.parameters = (self.channel_counts, self.channel_indices, *self._dilations(), self.biases)
        features: np.ndarray = rocket._transform(_long_enough(values))
        return features

    def _dilations(self) -> tuple[np.ndarray, np.ndarray]:
        from aeon.transformations.collection.convolution_based._minirocket import _fit_dilations

        dilations, counts = _fit_dilations(max(self.length, SHORTEST), N_FEATURES, _rocket().max_dilations_per_kernel)
        return dilations, counts

    def check(self) -> None:
        """Raise a ValueError if an index is outside of the series, or an array has another size than follows."""
        if type(self.channels) is not int or type(self.length) is not int or min(self.channels, self.length) < 1:
            raise ValueError("the shape of the series is wrong")
        dilations, counts = self._dilations()
        numbers = (self.channel_counts, self.channel_indices)
        if any(array.dtype != np.int32 or array.ndim != 1 for array in numbers) or self.biases.dtype != np.float32:
            raise ValueError("the parameters have another type")
        if self.biases.shape != (N_KERNELS * int(counts.sum()),):
            raise ValueError("there are not as many biases as features")
        is_count = (self.channel_counts >= 1) & (self.channel_counts <= self.channels)
        if len(self.channel_counts) != N_KERNELS * len(dilations) or not is_count.all():
            raise ValueError("the numbers of channels do not fit")
        is_channel = (self.channel_indices >= 0) & (self.channel_indices < self.channels)
        if len(self.channel_indices) != int(self.channel_counts.sum()) or not is_channel.all():
            raise ValueError("there are no such channels")


def _rocket() -> Any:
    try:
        from aeon.transformations.collection.convolution_based import MiniRocket as AeonMiniRocket
    except ImportError as error:
        raise UsageError("MiniRocket needs aeon. Install it with: pip install 'modgap[baselines]'") from error
    return AeonMiniRocket(N_FEATURES)


def _long_enough(values: np.ndarray) -> np.ndarray:
    """Return series in single precision, extended by zeros to the length of a kernel."""
    missing = max(0, SHORTEST - values.shape[2])
    return np.pad(values.astype(np.float32), ((0, 0), (0, 0), (0, missing)))


def _fit_rocket(values: np.ndarray, form: SampleForm, seed: int) -> Part:
    rocket = _rocket()
    rocket.random_state = seed % N_SEEDS
    before = np.random.get_state()
    try:
        rocket._fit(_long_enough(values))
    finally:
        np.random.set_state(before)
    counts, indices, _, _, biases = rocket.parameters
    return MiniRocket(form.shape[0], form.shape[1], counts.astype(np.int32), indices.astype(np.int32), biases)


def _standardized_arrays(samples: Samples, form: SampleForm) -> np.ndarray:
    """Return series (n, C, length), each channel of each sample standardized by its own mean and deviation."""
    return standardize_over(_series_arrays(samples, form), -1)


VALUES = Features("values", _values)
BY_SAMPLE = Features("values standardized by sample", _values_by_sample)
BASELINES = (
    Baseline(
        "linear",
        "logistic or ridge regression on values",
        "scikit-learn",
        ("series",),
        TASKS,
        (VALUES, BY_SAMPLE),
        LINEAR,
        (Affine,),
        seconds=1,
    ),
    Baseline(
        "neighbors",
        "nearest neighbors of values",
        "scikit-learn",
        ("series",),
        TASKS,
        (Features("values standardized by channel", _values, _fit_scales), BY_SAMPLE),
        NEAREST,
        (ChannelScales, Neighbors),
        seconds=1,
    ),
    Baseline(
        "extra-trees",
        "extremely randomized trees on values",
        "Geurts et al. 2006, scikit-learn",
        ("series",),
        TASKS,
        (VALUES,),
        EXTRA_TREES,
        (Trees,),
        seconds=2,
    ),
    Baseline(
        "minirocket",
        "MiniRocket with ridge regression",
        "Dempster et al. 2021, aeon",
        ("series",),
        TASKS,
        (
            Features("MiniRocket", _series_arrays, _fit_rocket),
            Features("MiniRocket of series standardized by sample", _standardized_arrays, _fit_rocket),
        ),
        RIDGE,
        (MiniRocket, Affine),
        applies=lambda form, is_table, output: (
            not is_table and form.shape[1] >= SHORTEST and not is_field(form, output)
        ),
        library="aeon",
        seconds=21,
    ),
    Baseline(
        "boosting",
        "gradient boosting of trees on values",
        "Friedman 2001, scikit-learn",
        ("series",),
        TASKS,
        (VALUES,),
        BOOSTING,
        (Trees, Constant),
        is_quick=False,
        applies=lambda form, _is_table, output: (
            int(np.prod(form.shape)) <= MOST_COLUMNS and int(np.prod(output.shape)) <= MOST_BOOSTED
        ),
        seconds=13,
    ),
)
