"""Result of a discrepancy estimation: values, null distributions, intervals and bounds."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from modgap.discrepancy.estimator_chain import Solution
from modgap.discrepancy.held_out import NullDistribution
from modgap.discrepancy.kway import KWay

__all__ = ["Bounds", "Discrepancy", "Estimate"]

RECORD_KEYS = {"n_unlabeled": "unlabeled", "n_untested": "untested"}
"""Keys of the record that differ from the names of the fields."""


@dataclass(frozen=True)
class Estimate:
    """One estimator's value, with the quantities that it has to be compared with.

    Attributes:
        solution: Result of the estimator on all samples, with its `value` and its `map`.
        null: Distribution of the value with permuted labels; None if there are no permutations.
        ratio_to_null: (value - floor) / (mean of the null - floor): 1 if the source and the target share no
            knowledge, 0 if they share all. The floor is 0 for single labels. None without a null distribution.
        held_out: Error of maps that are chosen on one half of the samples and tested on the other half. This is
            the value to compare by. None if no sample could be tested.
        held_out_interval: 95 % confidence interval of the held-out value; None if it is switched off.
        held_out_null: Distribution of the held-out value with permuted labels.
        spread: Standard deviation of the value over independent seeds of the trials (Monte-Carlo only).
        measures: Value of further distance measures at the solution's map, by name.
    """

    solution: Solution
    null: NullDistribution | None
    ratio_to_null: float | None
    held_out: float | None
    held_out_interval: tuple[float, float] | None
    held_out_null: NullDistribution | None
    spread: float | None
    measures: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as plain values for strict JSON; the solution's fields come first."""
        record = asdict(self)
        return {**record.pop("solution"), **record}


@dataclass(frozen=True)
class Bounds:
    """Certified bounds on the infimum over all injective maps.

    Attributes:
        lower: Error that no map can fall below; None if it was not requested.
        upper: Error that at least one map reaches or falls below; None if there is no injective map.
        permuted_lower: Lower bound with permuted labels. If it lies above the value for the real labels, no map
            at all can fit the permuted labels as well as the best map fits the real ones.
        groups: Partition of the target classes that certifies `lower`.
    """

    lower: float | None
    upper: float | None
    permuted_lower: float | None
    groups: tuple[tuple[int, ...], ...] | None


@dataclass(frozen=True)
class Discrepancy:
    """Modality knowledge discrepancy of one source and one target.

    Attributes:
        n_samples: Number N of samples with a label.
        n_groups: Number of groups (records, subjects, fields) that the samples come from; None if the samples are
            independent.
        n_source_classes: Number C of source classes.
        n_target_classes: Number K of target classes.
        n_unlabeled: Number of samples without a label, which are left out.
        n_untested: Number of samples that the held-out value does not test, because their class has only one
            sample or one group.
        chance: Chance level 1 - 1/K, the expected error of a random map.
        prior: Majority-class baseline, the error of always predicting the largest class: 1 minus its share.
        floor: Mean of 1 - max P(y|x), the lowest error that any map can reach; 0 for single labels.
        balanced: True if all values are means over classes instead of means over samples.
        estimates: Estimate of each estimator, by name.
        bounds: Certified bounds on the infimum.
        k_way: Estimates for k target classes at a time; None if they were not requested.
        seed: Seed of every random draw.
        seconds: Wall time by stage, in seconds.
        held_out_confusion: Number of tested samples by label (rows) and prediction (columns), shape (K, K), for the
            last estimator's maps that are chosen on one half of the samples and tested on the other half. A
            multi-label sample is shared among the rows of its labels. None if no sample could be tested. It is not
            part of the record.
    """

    n_samples: int
    n_groups: int | None
    n_source_classes: int
    n_target_classes: int
    n_unlabeled: int
    n_untested: int
    chance: float
    prior: float
    floor: float
    balanced: bool
    estimates: dict[str, Estimate]
    bounds: Bounds
    k_way: KWay | None
    seed: int
    seconds: dict[str, float]
    held_out_confusion: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def best_estimator(self) -> str | None:
        """Name of the estimator with the lowest error, the last one, because each starts from those before it."""
        return next(reversed(self.estimates), None)

    @property
    def upper_bound(self) -> float | None:
        """Certified upper bound on the infimum."""
        return self.bounds.upper

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for strict JSON, in the documented order."""
        names = [name for name in self.__dataclass_fields__ if name != "held_out_confusion"]
        record = {RECORD_KEYS.get(name, name): getattr(self, name) for name in names}
        record["estimates"] = {name: estimate.to_dict() for name, estimate in self.estimates.items()}
        record["bounds"] = asdict(self.bounds)
        record["upper_bound"] = self.upper_bound
        record["k_way"] = asdict(self.k_way) if self.k_way else None
        return record
