"""The jackknife over blocks of groups."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modgap.ranking.standings import decode_errors, error_arrays
from modgap.statistics.intervals import SampleErrors, estimate_mean, independent_errors, variance_of_models
from modgap.statistics.jackknife import BLOCKS, group_blocks
from modgap.statistics.paired import paired_difference, paired_differences
from modgap.statistics.sample_file import SampleFile, read_sample_file, write_sample_file


def test_each_sample_is_in_one_block_with_its_group_and_classes_are_spread() -> None:
    rng = np.random.default_rng(0)
    for n_groups in (8, 9, 10, 23, 60):
        groups = rng.permutation(np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, 5 * n_groups)]))
        labels = (np.arange(n_groups) % 3)[groups]
        blocks = np.array(group_blocks(labels, groups, 1))
        assert len(blocks) == min(BLOCKS, n_groups)
        assert (blocks.sum(axis=0) == 1).all()
        n_blocks_of_group = [len(np.unique(blocks[:, groups == group].argmax(axis=0))) for group in range(n_groups)]
        assert n_blocks_of_group == [1] * n_groups
        for label in range(3):
            sizes = [len(np.unique(groups[block & (labels == label)])) for block in blocks]
            assert max(sizes) - min(sizes) <= 1
        assert np.array_equal(blocks, group_blocks(labels, groups, 1))
    assert group_blocks(np.zeros(40, int), np.arange(40) % 7, 0) == []
    assert group_blocks(np.zeros(40, int), None, 0) == []


def jackknifed(values: np.ndarray) -> SampleErrors:
    """Return errors of as many groups as values, whose models would have the mean of the others as their error."""
    errors = independent_errors(values, np.arange(len(values)))
    return replace(errors, without=np.array([np.delete(values, i).mean() for i in range(len(values))]))


def test_the_jackknife_of_a_mean_is_its_squared_standard_error(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((3, 12))
    columns = [jackknifed(one) for one in values]
    assert variance_of_models(columns[0]) == pytest.approx(values[0].var(ddof=1) / 12)
    # The variance of the units is as large.
    assert estimate_mean(columns[0]).standard_error == pytest.approx(np.sqrt(2 * values[0].var(ddof=1) / 12))
    difference = paired_difference(columns[0], columns[1])
    assert difference.standard_error == pytest.approx(np.sqrt(2 * (values[0] - values[1]).var(ddof=1) / 12))
    together = paired_differences(columns)
    assert together.standard_errors[0, 1] == pytest.approx(difference.standard_error)
    assert together.p_values[1, 2] == pytest.approx(paired_difference(columns[1], columns[2]).p_value)
    # A file has errors with and without blocks.
    plain = replace(columns[1], without=None)
    samples = SampleFile(
        np.arange(12), np.arange(12) % 2, np.arange(12), {"soft": columns[0], "search": plain}, 2, None
    )
    write_sample_file(tmp_path / "samples.npz", samples)
    found = read_sample_file(tmp_path / "samples.npz").errors
    np.testing.assert_array_equal(found["soft"].without, columns[0].without)
    assert found["search"].without is None
    assert decode_errors(error_arrays(columns[0]), 0).without.tolist() == columns[0].without.tolist()
