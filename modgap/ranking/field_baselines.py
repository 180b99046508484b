"""Baselines of the target's field beside the sources: their errors on the same folds as the sources' linear probes."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from modgap.baselines import baseline_names, baseline_origin, get_baseline
from modgap.errors import InputError, unknown_name
from modgap.forward.inference_setup import LogitsRequest, samples_record, select_samples
from modgap.forward.sample_request import SampleRequest
from modgap.process.installed_packages import installed_library_version
from modgap.ranking.cached_job import CachedJob
from modgap.ranking.cross_validation import REPEATS, left_out_blocks, repeated_errors
from modgap.ranking.score import ErrorOptions
from modgap.ranking.source_outputs import SourceOutputs
from modgap.ranking.standings import decode_errors, error_arrays
from modgap.statistics.intervals import SampleErrors
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, cache_key
from modgap.targets import Target, TargetRequest
from modgap.targets.output import Output
from modgap.targets.samples import SelectedSamples, pool_targets

if TYPE_CHECKING:
    from modgap.baselines.baseline import SampleForm, Truth
    from modgap.training.pilot import PilotErrors

BASELINE_PREFIX = "baseline:"
"""Start of the name of a row of a baseline, which is also the method that trains it."""
QUICK, ALL, NONE = "quick", "all", "none"
CHOICES = (QUICK, ALL, NONE)
"""Baselines of a ranking: those that take little time, all that suit the target, or none."""
ERRORS_VERSION = 3
"""Version of the errors by sample. It must be raised when their numbers change."""
LIBRARIES = ("aeon", "scikit-image", "scikit-learn", "torch")
"""Packages that the numbers of baselines depend on."""
SHARE_OF_RANKING = 0.2
SECONDS_PER_SAMPLE = 0.05
"""Quick baselines take at most ten seconds, or a fifth of what the passes of the sources take at so many seconds for a
sample. The time is expected from the measured one of each baseline, so that every machine has the same rows."""

log = logging.getLogger("modgap")


def chosen_baselines(
    which: str, target: Target, samples: SampleRequest, n_sources: int, weight: str | None = None
) -> list[str]:
    """Return the names of the baselines that a ranking compares with its sources.

    Args:
        which: `quick` for those that take little time; `all` for all that suit the target; `none`; or names with commas
            between them.
        target: The target.
        samples: Samples of the ranking.
        n_sources: Number of sources and controls of the ranking.
        weight: What counts equally in errors: `samples`, `groups` or `classes`. None for groups where there are groups.

    Returns:
        The names, in the order of all baselines. None for fields, whose values a ranking averages over points.

    Raises:
        UsageError: If there is no such baseline.
    """
    available = baseline_names()
    named = available if which in CHOICES else [name.strip() for name in which.split(",")]
    if wrong := next((name for name in named if name not in available), None):
        raise unknown_name("baseline", wrong, [*CHOICES, *available])
    if which == NONE:
        return []
    from modgap.baselines.baseline import QUICK_SECONDS, is_field, quick_baselines

    try:
        data = _read(target, samples)
    except InputError:
        # The pass of each source tells the reason.
        return []
    if is_field(data.form, data.output):
        log.info("No baselines are compared, because a ranking averages the fields that are to be predicted.")
        return []
    suitable = [baseline for baseline in map(get_baseline, named) if baseline.suits(data.form, data.output)]
    if which != QUICK:
        return [baseline.name for baseline in suitable]
    allowed = max(QUICK_SECONDS, SHARE_OF_RANKING * SECONDS_PER_SAMPLE * len(data.outputs) * n_sources)
    outputs = data.outputs
    n_fits = REPEATS + len(left_out_blocks(outputs, weight, samples.seed))
    chosen = quick_baselines(suitable, data.form, len(outputs), allowed, n_fits)
    if left_out := [one.name for one in suitable if one.is_quick and one not in chosen]:
        log.info(
            'Baselines that take more time are left out: %s. Pass `baselines="all"` for them too.', ", ".join(left_out)
        )
    return [baseline.name for baseline in chosen]


@dataclass(frozen=True)
class _Data:
    """Samples of a ranking as baselines read them.

    Attributes:
        outputs: Labels, values and groups of the samples, without features.
        samples: The samples.
        form: Their form.
        scale: Mean and standard deviation of the values; 0 and 1 for classes.
    """

    outputs: SourceOutputs
    samples: SelectedSamples
    form: "SampleForm"
    output: Output
    truth: "Truth"
    scale: tuple[np.ndarray, np.ndarray]


def _read(target: Target, samples: SampleRequest) -> _Data:
    """Return the samples of a ranking, as the passes of its sources select them.

    Raises:
        InputError: If no sample is selected, or a class loses all its samples.
    """
    from modgap.baselines.baseline import SampleForm, Truth
    from modgap.training.training_data import is_table, sample_shape, table_output

    table, rows, labels, groups = select_samples(target, LogitsRequest(samples, head="none"))
    selected = table.select(rows)
    values = None if selected.targets is None else pool_targets(selected.targets, selected.masks)
    outputs = SourceOutputs(np.empty((len(rows), 0)), labels, values=values, groups=groups)
    manifest = target.manifest
    form = SampleForm(manifest.input, sample_shape(table, rows, manifest.input), is_table(manifest))
    y, scale = np.asarray(labels), (np.zeros(1), np.ones(1))
    output = Output("classification" if y.ndim == 1 else "multi-label", (outputs.n_classes,))
    if values is not None:
        sd = values.std(axis=0)
        scale = values.mean(axis=0), np.where(sd > 0, sd, 1)
        y, output = (values - scale[0]) / scale[1], Output("regression", (values.shape[1],))
    truth = Truth(output, y, groups=groups)
    # The labels of values are clusters.
    predicted = table_output(table if values is None else replace(table, labels=None), manifest)
    return _Data(outputs, SelectedSamples(table.samples, rows), form, predicted, truth, scale)


@dataclass(frozen=True)
class BaselineJob(CachedJob[SampleErrors]):
    """Cross-validation of one baseline on the samples of a ranking.

    Attributes:
        baseline: Name of the baseline.
        samples_key: Key of the target's data and of the selection of the samples.
        seed: Seed of the folds and of the fits.
        options: Weights of the samples.
        samples: Samples of the ranking.
        target: The target as the user names it, with absolute paths.
    """

    cache_kind = "baselines"
    baseline: str
    samples_key: str
    seed: int
    options: ErrorOptions
    samples: SampleRequest = field(compare=False)
    target: TargetRequest = field(compare=False)

    @property
    def name(self) -> str:
        """Name of the row."""
        return f"{BASELINE_PREFIX}{self.baseline}"

    def identity(self) -> dict[str, object]:
        """Return the fields that are compared, and the versions of algorithms and libraries."""
        named = {name: value for name, value in asdict(self).items() if name not in ("samples", "target")}
        libraries = {name: version for name in LIBRARIES if (version := installed_library_version(name))}
        versions = {
            "algorithms": algorithm_versions("reading", "baselines"),
            "errors": ERRORS_VERSION,
            "libraries": libraries,
        }
        return {**named, **versions, "origin": baseline_origin(self.baseline)}

    def _compute(self) -> SampleErrors:
        from modgap.baselines.baseline import cross_validate, distinct_values, select
        from modgap.probes.single_thread import single_thread

        data, baseline = _read(self.target.open(), self.samples), get_baseline(self.baseline)
        values = distinct_values(baseline, data.samples, data.form)
        mean, sd = data.scale

        def predict(mask: np.ndarray, assignments: Sequence[np.ndarray]) -> list[np.ndarray]:
            """Return the predictions (r, M) of each cross-validation, in the unit of the target."""
            part, truth, predictions = [select(one, mask) for one in values], data.truth.rows(mask), []
            for folds in assignments:
                with single_thread():
                    scores, _ = cross_validate(baseline, part, data.form, truth, folds, self.seed)
                predictions.append(_best_on_other_folds(scores, folds, truth) * sd + mean)
            return predictions

        return repeated_errors(data.outputs, self.options.weight, self.seed, predict)

    def _encode(self, result: SampleErrors) -> CacheEntry:
        return CacheEntry(error_arrays(result), {"job": self.identity()})

    def _decode(self, entry: CacheEntry) -> SampleErrors:
        return decode_errors(entry.arrays, self.seed)


def baseline_jobs(
    names: Sequence[str], target: TargetRequest, opened: Target, samples: SampleRequest, options: ErrorOptions
) -> list[BaselineJob]:
    """Return a job for each baseline of a ranking.

    Args:
        names: Names of the baselines.
        target: The target as the user names it, with absolute paths.
        opened: The target.
        samples: Samples of the ranking.
        options: Weights of the samples.
    """
    selection = SampleRequest(split=samples.split, limit=samples.limit, seed=samples.seed)
    key = cache_key(samples_record(opened, selection, None))
    weights = ErrorOptions(options.weight)
    return [BaselineJob(name, key, samples.seed, weights, selection, target) for name in names]


def _best_on_other_folds(scores: np.ndarray, folds: np.ndarray, truth: "Truth") -> np.ndarray:
    """Return for each fold the predictions of the alternative that has the lowest error on the other folds, (n, M).

    Args:
        scores: Predictions of each alternative, (A, n, M).
        folds: Fold of each sample, (n,).
        truth: Truth of the samples.
    """
    chosen = np.empty(scores.shape[1:])
    for fold in np.unique(folds):
        others = folds != fold
        true_others = truth.rows(others)
        errors = [true_others.error(one[others]) for one in scores]
        # An error that is not defined is never the lowest.
        best = int(np.argmin(np.nan_to_num(errors, nan=np.inf)))
        chosen[~others] = scores[best, ~others]
    return chosen


def baseline_errors_after_pilot(name: str, target: Target, seed: int, *, weight: str | None = None) -> "PilotErrors":
    """Return the errors of a baseline on the samples that judge a short fine-tuning.

    It is fitted to the samples that a short fine-tuning trains on, and chooses its settings by cross-validation on
    them.

    Args:
        name: Name of the baseline.
        target: The target.
        seed: Seed of the samples, of the halves and of the fit.
        weight: What counts equally in the error: `samples`, `groups` or `classes`. None for groups where there are
            groups, else samples.

    Returns:
        The errors, of one result without any training.

    Raises:
        InputError: If the target has no classes, or the baseline does not suit it.
        UsageError: If the weight is unknown.
    """
    from modgap.baselines.baseline import fit_baseline
    from modgap.training.fitted_run import sample_form, true_values
    from modgap.training.pilot import PilotErrors, pilot_halves, sample_errors

    halves = pilot_halves(target, seed, standardized=False)
    labeled, judged = (SelectedSamples(halves.table.samples, rows) for rows in (halves.train, halves.test))
    form, truth = sample_form(halves), true_values(halves, halves.train)
    predicted = fit_baseline(get_baseline(name), labeled, form, truth, seed).scores(judged).argmax(axis=1)
    errors = (predicted != np.asarray(halves.table.class_labels)[halves.test]).astype(float)
    judged_errors = sample_errors(errors, halves, seed, weight)
    return PilotErrors(judged_errors, len(halves.train), judged_errors.averages)
