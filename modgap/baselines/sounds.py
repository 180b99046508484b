"""Baselines for sounds: statistics of mel-frequency cepstral coefficients."""

import numpy as np

from modgap.baselines.baseline import TASKS, Baseline, Features, SampleForm, all_samples
from modgap.baselines.parts import Affine, Trees
from modgap.baselines.predictors import EXTRA_TREES, LINEAR
from modgap.errors import InputError
from modgap.inputs.representations import log_mel_spectrograms
from modgap.targets import Samples
from modgap.targets.manifest import LogMel

BANDS = 40
COEFFICIENTS = 20
WINDOW_SECONDS = 0.025
HOP_SECONDS = 0.01
RATE = 16_000
"""Sampling rate in hertz that is assumed where a manifest states none."""


def mfcc_statistics(samples: Samples, form: SampleForm) -> np.ndarray:
    """Return mean and standard deviation over time of 20 cepstral coefficients and of their differences, (n, 80).

    The coefficients are the discrete cosine transform of log-mel energies in 40 bands, with windows of 25 ms every
    10 ms.

    Args:
        samples: Sounds (C, length), whose channels are averaged.
        form: Form of the samples, with the sampling rate.

    Raises:
        InputError: When a sample has another form, or is not finite.
    """
    from scipy.fft import dct

    rate = form.spec.rate or RATE
    window = max(2, round(WINDOW_SECONDS * rate))
    options = LogMel(bands=BANDS, window=window, hop=max(1, round(HOP_SECONDS * rate)))
    rows = []
    for sample in all_samples(samples):
        sound = np.asarray(sample, np.float32)
        if sound.ndim != 2 or not sound.shape[1] or not np.isfinite(sound).all():
            raise InputError("A sample is not a sound of finite values with the shape (channels, length).")
        mel = log_mel_spectrograms(sound.mean(axis=0, keepdims=True), rate, options)[0][0]
        coefficients = dct(mel, axis=0, norm="ortho")[:COEFFICIENTS]
        changes = np.diff(coefficients, axis=1) if coefficients.shape[1] > 1 else np.zeros_like(coefficients)
        rows.append(np.concatenate([f(part, axis=1) for part in (coefficients, changes) for f in (np.mean, np.std)]))
    return np.stack(rows).astype(np.float64)


REFERENCE = "Davis and Mermelstein 1980"
MFCC = Features("statistics of MFCC", mfcc_statistics)
BASELINES = (
    Baseline(
        "mfcc",
        "statistics of MFCC with logistic or ridge regression",
        f"{REFERENCE}, scikit-learn",
        ("audio",),
        TASKS,
        (MFCC,),
        LINEAR,
        (Affine,),
        seconds=2,
    ),
    Baseline(
        "mfcc-trees",
        "extremely randomized trees on statistics of MFCC",
        f"{REFERENCE}; Geurts et al. 2006, scikit-learn",
        ("audio",),
        TASKS,
        (MFCC,),
        EXTRA_TREES,
        (Trees,),
        seconds=4,
    ),
)
