"""The jackknife over blocks of groups."""

import numpy as np
import pytest

from modgap.statistics.intervals import independent_errors, variance_of_repeats
from modgap.statistics.jackknife import BLOCKS, group_blocks, with_jackknife


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


def test_the_jackknife_of_a_mean_is_its_squared_standard_error() -> None:
    values = np.random.default_rng(1).standard_normal(12)
    errors = independent_errors(values, np.arange(12))
    found = with_jackknife(errors, [np.delete(values, i).mean() for i in range(12)])
    assert variance_of_repeats(found.averages) == pytest.approx(values.var(ddof=1) / 12)
    assert found.averages.mean() == pytest.approx(values.mean())
    assert with_jackknife(errors, [0.3]) is errors
