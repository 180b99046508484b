"""What an estimate is made of: values with what tells whether they mean anything."""

from dataclasses import asdict, dataclass, field

import numpy as np

from modgap.discrepancy.estimator_chain import Solution
from modgap.discrepancy.held_out import NullDistribution
from modgap.discrepancy.kway import KWay

__all__ = ["Bounds", "Discrepancy", "Estimate"]


@dataclass(frozen=True)
class Estimate:
    """One estimator's value with what tells whether it means anything.

    Attributes:
        solution: The estimator's own result, with `value` and `map`.
        null: The same estimator with permuted labels; None when switched off.
        ratio_to_null: (value - floor) / (mean of the null - floor): 1 where nothing is shared, 0 where all
            is. The floor is 0 for single labels. None without null.
        held_out: Map found on one half and judged on the other; the value to compare by.
        held_out_interval: 95 % interval of the held-out value; None when switched off.
        held_out_null: The null of the held-out value.
        spread: Standard deviation of the value over independent seeds of the trials (Monte-Carlo only).
        measures: Other measures at the found map, by name.
    """

    solution: Solution
    null: NullDistribution | None
    ratio_to_null: float | None
    held_out: float | None
    held_out_interval: tuple[float, float] | None
    held_out_null: NullDistribution | None
    spread: float | None
    measures: dict[str, float]

    def to_dict(self) -> dict:
        """Plain values for strict JSON."""
        own = asdict(self)
        return {**own.pop("solution"), **own}


@dataclass(frozen=True)
class Bounds:
    """Certified bounds on the infimum over all injective maps.

    Attributes:
        lower: No map gets fewer wrong; None when not asked for.
        upper: Some map gets no more wrong.
        permuted_lower: The lower bound with permuted labels. Where it lies above the value found for the
            real labels, no map at all can make the permuted labels fit as well as the real ones do.
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
        n_samples: N, samples with a label.
        n_groups: Groups (records, subjects, fields) that samples come from; None where each stands for itself.
        n_source_classes: C.
        n_target_classes: K.
        n_unlabeled: Samples without any label, which were left out.
        n_untested: Samples that no held-out value could test (a class in one sample or one group).
        chance: 1 - 1/K, the expected value of a map that knows nothing.
        prior: 1 - the largest class's share: what guessing that class gets wrong.
        floor: Mean of 1 - max P(y|x), which no map gets below; 0 for single labels.
        balanced: Whether all values are means over classes instead of over samples.
        estimates: Result by estimator's name.
        bounds: Certified bounds on the infimum.
        k_way: The estimates on k target classes at a time; None when not asked for.
        confusion: Weight of samples by (label, prediction) under the last estimator's map, shape (K, K);
            not part of the record.
        seed: Seed of every draw.
        seconds: Wall time by stage.
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
    confusion: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def best_estimator(self) -> str | None:
        """Name of the estimator whose map gets fewest wrong: the last one, since each starts from those before."""
        return next(reversed(self.estimates), None)

    @property
    def upper_bound(self) -> float | None:
        """Certified upper bound on the infimum."""
        return self.bounds.upper

    def to_dict(self) -> dict:
        """Plain values for strict JSON, in the documented order."""
        own = {
            key.removeprefix("n_") if key in ("n_unlabeled", "n_untested") else key: getattr(self, key)
            for key in self.__dataclass_fields__
            if key != "confusion"
        }
        own["estimates"] = {name: result.to_dict() for name, result in self.estimates.items()}
        own["bounds"] = asdict(self.bounds)
        own["upper_bound"] = self.upper_bound
        own["k_way"] = asdict(self.k_way) if self.k_way else None
        return own
