"""Baselines for images and videos: histograms of gradients and colors, pixels, and a small residual network."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from modgap.baselines.baseline import TASKS, Baseline, Features, SampleForm, all_samples, check_sample, is_field
from modgap.baselines.parts import Affine
from modgap.baselines.predictors import LINEAR
from modgap.baselines.residual_network import NETWORK, ResidualNetwork
from modgap.errors import UsageError
from modgap.targets import Samples

HOG_SIZE = 64
"""Height and width to which images are resized before gradients are counted."""
PIXELS = 32
"""Largest height and width of images as features."""
COLOR_BINS = 8
MOST_HISTOGRAMS = 16
"""Most channels that have a histogram of their own; further ones are averaged with them."""


def _frames(sample: Any, form: SampleForm) -> np.ndarray:
    """Return the images that a sample consists of: (frames, C, H, W), one for an image."""
    values = np.asarray(sample, np.float32)
    frames = values if form.spec.kind == "video" else values[None]
    check_sample(values, form, fits=frames.ndim == 4 and frames.shape[1] == form.shape[0])
    return frames


def _resized(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return images (n, C, H, W) with another height and width."""
    if frames.shape[2:] == size:
        return frames
    return interpolate(torch.from_numpy(frames), size, mode="bilinear", antialias=True).numpy()


def _mean_over_frames(
    describe: Callable[[np.ndarray, SampleForm], np.ndarray],
) -> Callable[[Samples, SampleForm], np.ndarray]:
    """Return a function of samples: the mean over the frames of each of a description of images."""

    def compute(samples: Samples, form: SampleForm) -> np.ndarray:
        rows = [
            np.mean([describe(frame, form) for frame in _frames(sample, form)], axis=0)
            for sample in all_samples(samples)
        ]
        return np.stack(rows)

    return compute


def _few_pixels(frames: np.ndarray, form: SampleForm) -> np.ndarray:
    """Return images (n, C, H, W) of at most 32 x 32 pixels, all of one size."""
    return _resized(frames, (min(form.shape[1], PIXELS), min(form.shape[2], PIXELS)))


def _hog(image: np.ndarray, form: SampleForm) -> np.ndarray:
    """Return the histogram of oriented gradients, and a histogram of each channel's values."""
    try:
        from skimage.feature import hog
    except ImportError as error:
        raise UsageError(
            "Histograms of gradients need scikit-image. Install it with: pip install 'modgap[baselines]'"
        ) from error
    gray = _resized(image.mean(axis=0, keepdims=True)[None], (HOG_SIZE, HOG_SIZE))[0, 0]
    gradients = hog(gray, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2), block_norm="L2-Hys")
    low, high = form.spec.low, form.spec.high
    channels = np.array_split(image, min(len(image), MOST_HISTOGRAMS))
    histograms = [_histogram(part.mean(axis=0), low, high) for part in channels]
    return np.concatenate([gradients, *histograms])


def _histogram(values: np.ndarray, low: float | None, high: float | None) -> np.ndarray:
    """Return the shares of values in eight equal bins of the range, which is that of the image if it is not known."""
    first = float(values.min()) if low is None else low
    last = float(values.max()) if high is None else high
    if last <= first:
        last = first + 1
    counts, _ = np.histogram(np.clip(values, first, last), COLOR_BINS, (first, last))
    shares: np.ndarray = counts / values.size
    return shares


def _images(samples: Samples, form: SampleForm) -> np.ndarray:
    frames = [_frames(sample, form).mean(axis=0, keepdims=True) for sample in all_samples(samples)]
    return np.concatenate([_few_pixels(frame, form) for frame in frames])


PIXEL_VALUES = Features("pixels", _mean_over_frames(lambda image, form: _few_pixels(image[None], form).ravel()))
KINDS = ("image", "video")
BASELINES = (
    Baseline(
        "pixels",
        "logistic or ridge regression on pixels",
        "scikit-learn",
        KINDS,
        TASKS,
        (PIXEL_VALUES,),
        LINEAR,
        (Affine,),
        seconds=24,
    ),
    Baseline(
        "hog",
        "histograms of gradients and colors with logistic or ridge regression",
        "Dalal and Triggs 2005, scikit-image",
        KINDS,
        TASKS,
        (Features("histograms of gradients and colors", _mean_over_frames(_hog)),),
        LINEAR,
        (Affine,),
        applies=lambda form, _is_table, output: not is_field(form, output),
        library="scikit-image",
        seconds=24,
    ),
    Baseline(
        "residual-network",
        "a small residual network, trained from scratch at three rates",
        "He et al. 2016",
        KINDS,
        TASKS,
        (Features("images", _images),),
        NETWORK,
        (ResidualNetwork,),
        is_quick=False,
        seconds=63,
    ),
)
