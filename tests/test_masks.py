"""Boolean matrices in bits: the same values as NumPy's arrays of Booleans, for every number of columns."""

import numpy as np
import pytest

from modgap.statistics.masks import Masks


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 64, 1001])
@pytest.mark.parametrize("n_rows", [0, 1, 5])
def test_masks_equal_arrays_of_booleans(size, n_rows):
    rng = np.random.default_rng(size)
    table = rng.random((n_rows, size)) < 0.4
    masks = Masks.pack(table, size)
    assert masks.shape == table.shape
    assert len(masks) == n_rows
    assert masks.nbytes == n_rows * -(-size // 8)
    np.testing.assert_array_equal(np.asarray(masks), table)
    assert np.asarray(masks).dtype == bool
    for row, expected in zip(masks, table, strict=True):
        np.testing.assert_array_equal(row, expected)
    np.testing.assert_array_equal(np.asarray(masks[1:3]), table[1:3])
    np.testing.assert_array_equal(np.asarray(masks[np.arange(n_rows) % 2 == 0]), table[::2])
    for start, stop in [(0, size), (size // 3, size), (size // 3, size // 2), (size, size)]:
        np.testing.assert_array_equal(masks.columns(start, stop), table[:, start:stop])
    if size:
        columns = rng.integers(size, size=2 * size)
        np.testing.assert_array_equal(np.asarray(masks.take(columns)), table[:, columns])
        np.testing.assert_array_equal(np.asarray(Masks.stack([masks, masks], size)), np.vstack([table, table]))
