"""Resampling of waveforms: the values of scipy, with filters that are designed once."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import resample_poly

from modgap.inputs import representations
from modgap.inputs.representations import resample, stretch


@pytest.mark.parametrize("length", [7, 29, 100, 427, 2400, 16_000, 20_011])
@pytest.mark.parametrize("wanted", [100, 1024, 16_000])
def test_stretching_has_the_bits_of_scipy(length, wanted):
    series = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    plain = resample_poly(series.astype(np.float64), wanted, length, padtype="line")[:wanted].astype(np.float32)
    assert np.array_equal(stretch(series, wanted), plain)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rates", [(44_100, 16_000), (8_000, 16_000), (22_050, 16_000), (250, 12_345.6), (100, 100)])
def test_resampling_has_the_bits_of_scipy(rates, dtype):
    sound = np.random.default_rng(0).standard_normal(3000).astype(dtype)
    ratio = Fraction(rates[1] / rates[0]).limit_denominator(1000)
    plain = resample_poly(sound, ratio.numerator, ratio.denominator)
    assert np.array_equal(resample(sound, *rates), plain)
    assert resample(sound, *rates).dtype == dtype


def test_series_of_many_lengths_share_a_filter():
    representations._anti_aliasing_filter.cache_clear()
    for length in (7, 11, 13, 17, 19, 23, 29) * 2:
        stretch(np.arange(length, dtype=np.float32), 16_000)
    assert representations._anti_aliasing_filter.cache_info().misses == 1
