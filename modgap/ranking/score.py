"""Definition of a transferability score: one number for a source on a target, and how to read it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from modgap.errors import InputError
from modgap.ranking.source_outputs import CLASSIFICATION, MULTI_LABEL, REGRESSION, SourceOutputs
from modgap.statistics.intervals import MeanError, SampleErrors, estimate_log_mean, estimate_mean

ALL_TASKS = (CLASSIFICATION, MULTI_LABEL, REGRESSION)
NON_NEGATIVE = (0.0, math.inf)
NON_POSITIVE = (-math.inf, 0.0)
ERROR_RATE = (0.0, 1.0)
"""Bounds of scores."""


@dataclass(frozen=True)
class ErrorOptions:
    """Options of scores that are means of errors by sample.

    Attributes:
        weight: What counts equally in an error: `samples`, `groups` or `classes`. None for groups where there are
            groups, else samples.
        splits: Number of repeated splits of the samples into a part to fit on and a part to test on.
        per_class: Number of samples of each class that maps are fitted on. None to fit them on halves.
    """

    weight: str | None = None
    splits: int = 20
    per_class: int | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """A transferability score.

    Attributes:
        name: Name of the score in options and records.
        title: One line that says what the score measures.
        unit: Unit of the values, such as "nats" or "error rate". Empty for a number without a unit.
        reference: The publication that introduced the score.
        compute: Function of a source's outputs on the target's samples and a seed that returns the score. None if the
            score is a mean of errors by sample for all its tasks.
        higher_is_better: True if a higher score is better.
        tasks: Tasks of targets that the score is defined for: `classification`, `multi-label` and `regression`. For
            regression, scores on classes use clusters of the values.
        needs_logits: True if the source must have a classification head.
        needs_surrogate: True if the score is not defined without labeled data of the source's own modality.
        uses_surrogate: True if the score uses results on these data where there are any.
        default: True if `modgap rank` computes the score when no scores are named.
        uses_samples: True if the score depends on the target's samples, so that it has an interval.
        bounds: Lowest and highest value that the score can have.
        version: Version of the algorithm. It must be raised when the numbers change.
        errors: Function of a source's outputs, options and a seed that returns the error of each sample, from which
            intervals and paired comparisons are computed. None if the score is not a mean over samples. If higher
            scores are better, the score is minus the mean.
        error_tasks: Tasks for which the score is the mean of these errors. For other tasks it is what `compute`
            returns.
        uses_splits: True if the errors depend on the number of splits and the number of samples a class.
    """

    name: str
    title: str
    unit: str
    reference: str
    higher_is_better: bool
    compute: Callable[[SourceOutputs, int], float] | None = None
    tasks: tuple[str, ...] = (CLASSIFICATION,)
    needs_logits: bool = False
    needs_surrogate: bool = False
    uses_surrogate: bool = False
    default: bool = True
    uses_samples: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)
    version: int = 1
    errors: Callable[[SourceOutputs, ErrorOptions, int], SampleErrors] | None = None
    error_tasks: tuple[str, ...] = ()
    uses_splits: bool = False

    @property
    def takes_surrogate(self) -> bool:
        """True if `modgap rank` runs the source over labeled data of its own modality for the score."""
        return self.needs_surrogate or self.uses_surrogate

    @property
    def direction(self) -> str:
        """`higher is better` or `lower is better`."""
        return "higher is better" if self.higher_is_better else "lower is better"

    def explain_undefined(self, outputs: SourceOutputs) -> str:
        """Return a sentence that says why the score is not defined for these outputs. Empty if it is defined."""
        if outputs.task not in self.tasks:
            return f"The score {self.name} is not defined for {outputs.task} targets."
        if self.needs_logits and outputs.logits is None:
            return f"The score {self.name} needs a classification head, and the source has none."
        if self.needs_surrogate and outputs.surrogate is None:
            return f"The score {self.name} needs labeled data of the source's own modality, and none was found."
        return ""

    def options_in_use(self, options: ErrorOptions) -> ErrorOptions:
        """Return the options without those that do not change the errors of this score."""
        return options if self.uses_splits else ErrorOptions(options.weight)

    def evaluate(self, outputs: SourceOutputs, seed: int = 0) -> float:
        """Compute the score of a source.

        Args:
            outputs: Outputs of the source on the target's samples.
            seed: Seed of the random numbers that the score uses.

        Returns:
            The score. NaN if it is not defined on these samples.

        Raises:
            InputError: If the score is not defined for this source or target. The message says why.
        """
        if outputs.task in self.error_tasks:
            return self.mean_of(self.sample_errors(outputs, ErrorOptions(), seed)).value
        self._check_defined(outputs)
        assert self.compute is not None
        return float(self.compute(outputs, seed))

    def sample_errors(self, outputs: SourceOutputs, options: ErrorOptions, seed: int = 0) -> SampleErrors:
        """Compute the error of each sample. The score is their mean, with the sign that `mean_of` gives it.

        Args:
            outputs: Outputs of the source on the target's n samples.
            options: Weights and splits of the samples.
            seed: Seed of the splits. Sources with the same samples, labels and seed have the same splits.

        Returns:
            Errors of the n samples. Samples that are not tested have NaN and weight 0.

        Raises:
            InputError: If the score is not defined for this source or target. The message says why.
        """
        self._check_defined(outputs)
        assert self.errors is not None
        return self.errors(outputs, options, seed)

    def mean_of(self, errors: SampleErrors, more_variance: float = 0.0, more_degrees: float = np.inf) -> MeanError:
        """Return the score of these errors with its 95 % interval, in the unit of the score.

        Args:
            errors: Errors of the samples.
            more_variance: Variance of an error rate from further random draws, such as those of a training.
            more_degrees: Degrees of freedom of this estimate.
        """
        if self.higher_is_better:
            return estimate_log_mean(errors)
        return estimate_mean(errors, more_variance=more_variance, more_degrees=more_degrees)

    def _check_defined(self, outputs: SourceOutputs) -> None:
        if reason := self.explain_undefined(outputs):
            raise InputError(reason)
        _check_finite("source's features", outputs.features)
        _check_finite("target's values", outputs.values)
        if self.needs_logits:
            _check_finite("source's logits", outputs.logits)


def _check_finite(array_name: str, array: np.ndarray | None) -> None:
    if array is not None and not np.isfinite(array).all():
        raise InputError(f"The {array_name} contain NaN or infinity.")
