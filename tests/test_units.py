"""Numbers of the units of statistics."""

import pytest

from modgap.errors import InputError
from modgap.statistics.units import unit_numbers


def test_groups_are_numbered_by_value_and_must_match_the_samples():
    assert unit_numbers(["b", "a", "b"], 3).tolist() == [1, 0, 1]
    assert unit_numbers(None, 3).tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"shape \(2,\), but there are 3 samples"):
        unit_numbers([0, 1], 3)
