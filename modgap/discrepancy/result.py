"""Result of a discrepancy estimation: values, null distributions and intervals."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from modgap.discrepancy.estimator_chain import Solution
from modgap.discrepancy.kway import KWay
from modgap.discrepancy.soft import SoftMap
from modgap.discrepancy.verdict import best_estimator
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.paired import PairedDifference
from modgap.statistics.permutations import NullDistribution

RECORD_KEYS = {"n_unlabeled": "unlabeled", "n_untested": "untested"}
"""Keys of the record that differ from the names of the fields."""
NOT_IN_RECORD = ("held_out_confusion", "tested_samples")


@dataclass(frozen=True)
class Estimate:
    """One estimator's value, with the quantities that it has to be compared with.

    Attributes:
        solution: Result of the estimator on all samples, with its in-sample `value` and its `map`.
        held_out: Expected error, on new samples or groups, of maps that are fitted on a part of the samples as large as
            a half, or on `per_class` samples a class: the mean over the repeated splits, but of one for `montecarlo`.
            This is the value to compare by. None if it was not computed.
        held_out_interval: 95 % confidence interval of the held-out value, over samples or groups and over splits; None
            with fewer than 8 groups or independent samples.
        held_out_se: Standard error of the held-out value.
        held_out_null: Distribution of the held-out value with permuted labels, for the estimator that the permutation
            test is made with.
        in_sample_null: Distribution of the in-sample value with permuted labels, for that estimator; None for `soft`.
        in_sample_ratio_to_null: (value - floor) / (mean of the in-sample null - floor). It goes to 0 if a map can
            memorize the labels of few samples, whatever the source knows. None without an in-sample null.
        spread: Standard deviation of the value over independent seeds of the trials (Monte-Carlo only).
        measures: Value of further distance measures at the solution's map, by name.
    """

    solution: Solution | SoftMap
    held_out: float | None = None
    held_out_interval: tuple[float, float] | None = None
    held_out_se: float | None = None
    held_out_null: NullDistribution | None = None
    in_sample_null: NullDistribution | None = None
    in_sample_ratio_to_null: float | None = None
    spread: float | None = None
    measures: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as plain values for strict JSON; the solution's fields come first."""
        record = asdict(self)
        return {**record.pop("solution"), **record}


@dataclass(frozen=True)
class Control:
    """Comparison with the same architecture with random weights, on the same samples and splits.

    Attributes:
        source: Name of the control.
        estimator: Estimator whose held-out errors are compared.
        n: Number of random initializations.
        held_out: Mean held-out error over the initializations.
        interval: 95 % interval of the mean over samples or groups and splits, and with 3 or more initializations also
            over these. None if there are too few samples or groups.
        values: Held-out error of each initialization.
        between_sd: Standard deviation between initializations (ddof 1); None with fewer than 3.
        difference: Held-out error of the source minus that of its controls, sample by sample. With 3 or more
            initializations, its standard error covers the variation between them. With fewer, it holds for these alone.
        smallest_difference: Smallest difference that would have been significant at the 5 % level; None if there are
            too few samples or groups.
    """

    source: str
    estimator: str
    n: int
    held_out: float
    interval: tuple[float, float] | None
    values: tuple[float, ...]
    between_sd: float | None
    difference: PairedDifference
    smallest_difference: float | None = None


@dataclass(frozen=True)
class TestedSamples:
    """The samples that held-out errors are computed on.

    Attributes:
        rows: Row of the logits of each sample, shape (M,).
        labels: Number of the rarest target class of each sample, shape (M,).
        groups: Number of each sample's group, shape (M,); None if samples are independent.
        errors: Errors of the samples by the name of the estimator.
        log_losses: Minus the cross-validated log-probability of each sample's label less the sample's influence on
            that of the others, in nats, whose mean is minus LEEP; None if it was not computed.
        multi_label: True if samples have several labels, whose errors they share.
    """

    rows: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    errors: dict[str, SampleErrors]
    log_losses: SampleErrors | None = None
    multi_label: bool = False


@dataclass(frozen=True)
class Discrepancy:
    """Modality knowledge discrepancy of one source and one target.

    Attributes:
        n_samples: Number N of samples with a label.
        n_groups: Number of groups (records, subjects, fields) that the samples come from; None if the user passed none.
        n_source_classes: Number C of source classes.
        n_target_classes: Number K of target classes.
        n_tested_classes: Number of target classes with at least two samples or groups, which held-out values, chance
            level and majority-class baseline are over. 0 without held-out values; the levels are then over all classes.
        n_unlabeled: Number of samples without a label, which are left out.
        n_untested: Number of samples that the held-out values leave out, because their class has only one sample or one
            group; all samples without held-out values.
        n_units: Number of tested groups, or of tested samples without groups, where copies of a sample count once and
            merge their groups; None without held-out values.
        n_repeated: Number of samples whose logits equal those of another sample.
        n_copies: Number of them that are taken for copies of one another, and are kept together.
        weighting: What counts equally in an error: `samples`, `groups` or `classes`.
        splits: Number of repeated splits of the samples into a part to fit on and a part to test on.
        per_class: Number of samples of each class that maps are fitted on; None if they are fitted on halves.
        chance: Chance level 1 - 1/K over the tested classes, the expected error of a random map.
        prior: Majority-class baseline, the error of always predicting the class of the largest weight.
        floor: Mean of 1 - max P(y|x), the lowest error that any map can reach; 0 for single labels.
        relative_entropy: Mean entropy of the softmax over the source classes, divided by log C, in [0, 1]. A source of
            low entropy is confident, whether it is right or wrong.
        matched_temperature: Temperature at which the mean entropy is half of log K nats, used by `soft-matched`; None
            if the logits are constant.
        leep: Cross-validated LEEP in nats, at most 0; higher is better. None if it was not computed.
        leep_interval: 95 % interval of `leep`; None with fewer than 8 groups or independent samples.
        permuted_error: Mean held-out error with permuted labels: the error of a source that knows nothing, on samples
            like these, which can lie above the chance level on few samples. It is that of the search on small problems,
            and that of maps that minimize the soft error on large ones. None without a permutation test of these.
        permutations_for: Estimator that the permutation test is made with; None without permutations.
        permutations_by: How labels moved inside a group of several classes: `shuffle` or `shifts`.
        is_ordered: True if neighbors in groups of several classes are alike, so that `shuffle` gives p-values that are
            too low.
        estimates: Estimate of each estimator, by name.
        control: Comparison with the random-weights control; None if it was not requested.
        k_way: Estimates for k target classes at a time; None if they were not requested.
        seed: Seed of every random draw.
        seconds: Wall time by stage, in seconds.
        held_out_confusion: Mean number of tested samples per split by label (rows) and prediction (columns), shape
            (K, K), for the maps of the search. A multi-label sample is shared among the rows of its labels. None if the
            search was not tested. It is not part of the record.
        tested_samples: The samples and their errors. They are not part of the record; `--out` writes them to
            samples.npz.
    """

    n_samples: int
    n_groups: int | None
    n_source_classes: int
    n_target_classes: int
    n_tested_classes: int
    n_unlabeled: int
    n_untested: int
    weighting: str
    splits: int
    per_class: int | None
    chance: float
    prior: float
    floor: float
    relative_entropy: float | None
    matched_temperature: float | None
    leep: float | None
    leep_interval: tuple[float, float] | None
    permuted_error: float | None
    permutations_for: str | None
    permutations_by: str
    is_ordered: bool
    estimates: dict[str, Estimate]
    k_way: KWay | None
    seed: int
    seconds: dict[str, float]
    n_units: int | None = None
    n_repeated: int = 0
    n_copies: int = 0
    control: Control | None = None
    held_out_confusion: np.ndarray | None = field(default=None, repr=False, compare=False)
    tested_samples: TestedSamples | None = field(default=None, repr=False, compare=False)

    @property
    def best_estimator(self) -> str | None:
        """Name of the estimator to report: `search` if it ran, else the one with a held-out error, else the last."""
        return best_estimator({name: estimate.held_out for name, estimate in self.estimates.items()})

    @property
    def null(self) -> NullDistribution | None:
        """Distribution with permuted labels of the permutation test; None without permutations."""
        return self.estimates[self.permutations_for].held_out_null if self.permutations_for else None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for strict JSON, in the documented order."""
        names = [name for name in self.__dataclass_fields__ if name not in NOT_IN_RECORD]
        record = {RECORD_KEYS.get(name, name): getattr(self, name) for name in names}
        record["estimates"] = {name: estimate.to_dict() for name, estimate in self.estimates.items()}
        record["k_way"] = asdict(self.k_way) if self.k_way else None
        record["control"] = asdict(self.control) if self.control else None
        return record
