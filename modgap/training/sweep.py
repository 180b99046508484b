"""A sweep over settings: several runs, of which the validation samples choose one, and one test.

The settings are those of a list, or Optuna proposes them from the results so far.
"""

import itertools
import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from modgap.errors import InputError, Progress, UsageError, count
from modgap.jobs import Backend, Failure, fix_threads, hold_device
from modgap.storage.atomic_files import write_text_atomically, writing
from modgap.storage.json_records import format_json, parse_record, plain_values, with_digest
from modgap.storage.locks import exclusive_folder
from modgap.training.answer import run_answer
from modgap.training.batches import generator
from modgap.training.checkpoint import remove_checkpoints
from modgap.training.fitted_run import is_fitted
from modgap.training.method import EpochCallback
from modgap.training.placement import current_processes
from modgap.training.recipe import is_real_setting
from modgap.training.run_folder import (
    EPOCHS,
    RECORD,
    Run,
    check_folder,
    copy_run_files,
    exclusive_run,
    open_run,
    settings_differences,
    write_record,
)
from modgap.training.train import train_in_locked_folder
from modgap.training.train_request import TrainRequest, request_recipe, set_up_run

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SWEEP = "sweep.json"
"""File of the request of a sweep, and of how far its trials have come."""
SCHEMA = 2
TRIALS = "trials"
MOST_TRIALS = 1000
PROPOSED = 4
"""Trials that Optuna proposes together, whatever number of processes runs them."""
SAMPLERS = ("random", "optuna")
BETWEEN = ":"
"""Separator of the two ends of a range."""
LOGARITHMIC = 10
"""Ratio of the ends of a range from which on its values are drawn by their logarithms."""
STREAM = 11
"""First number of the random position at which trials are drawn."""

Settings = dict[str, str]
"""Values of settings as `--set` takes them, by key."""

log = logging.getLogger("modgap")


class TrialRecord(TypedDict):
    """A trial in the table of a sweep; a failed one has a message, and a finished one what it came to."""

    settings: Settings
    state: Literal["open", "finished", "failed"]
    message: NotRequired[str]
    validation: NotRequired[float | None]
    epoch: NotRequired[int | None]
    updates: NotRequired[int]
    seconds: NotRequired[float]


@dataclass(frozen=True)
class Sweep:
    """Values of settings to try.

    Attributes:
        values: Values of each setting as `--set` takes them, by key. For Optuna they can be a range, LOW:HIGH, which is
            logarithmic if its ends are above 0 and differ by a factor of 10 or more.
        trials: Number of combinations to try; None for all. Optuna needs a number.
        sampler: `random` draws the combinations of a part, and `optuna` proposes them from the errors so far.
    """

    values: Mapping[str, tuple[str, ...]]
    trials: int | None = None
    sampler: Literal["random", "optuna"] = "random"

    def __post_init__(self) -> None:
        """Raise if there is nothing to try.

        Raises:
            UsageError: When no setting or no value is given, the number of trials is out of range, the sampler is
                unknown, or Optuna has no number of trials, or another sampler a range.
        """
        if not self.values or any(not values for values in self.values.values()):
            raise UsageError('A sweep needs values, such as `sweep={"stage2.learning_rate": [1e-4, 3e-4, 1e-3]}`.')
        if self.trials is not None and not 1 <= self.trials <= MOST_TRIALS:
            raise UsageError(f"`trials` is {self.trials}. Expected a number from 1 to {MOST_TRIALS:,}.")
        if self.sampler not in SAMPLERS:
            raise UsageError(f"`sampler` is {self.sampler!r}. Expected one of: {', '.join(SAMPLERS)}.")
        if self.sampler == "optuna" and self.trials is None:
            raise UsageError('`sampler="optuna"` proposes one trial after the other. Pass `trials=N` for their number.')
        ranges = [key for key, values in self.values.items() if _range(values) is not None]
        if ranges and self.sampler != "optuna":
            raise UsageError(
                f'The values of {ranges[0]} are a range, in which `sampler="optuna"` proposes values. Pass it with '
                "`trials=N`, or name the values."
            )


def parse_sweep(
    texts: Sequence[str], trials: int | None = None, sampler: Literal["random", "optuna"] = "random"
) -> Sweep | None:
    """Return the sweep that `--sweep KEY=VALUE,VALUE,...` or `--sweep KEY=LOW:HIGH` describes; None without texts.

    Example:
        >>> parse_sweep(["stage2.learning_rate=1e-4,1e-3", "stage2.betas=[0.9,0.98],[0.9,0.999]"]).values
        {'stage2.learning_rate': ('1e-4', '1e-3'), 'stage2.betas': ('[0.9,0.98]', '[0.9,0.999]')}
    """
    if not texts:
        if trials is not None:
            raise UsageError('`trials` needs `sweep`, such as `sweep={"stage2.learning_rate": [1e-4, 3e-4, 1e-3]}`.')
        if sampler != "random":
            raise UsageError('`sampler` needs `sweep`, such as `sweep={"stage2.learning_rate": "1e-5:1e-2"}`.')
        return None
    values = {}
    for text in texts:
        key, equals, listed = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"`sweep` {text!r} is not of the form KEY=VALUE,VALUE,...")
        if key.strip() in values:
            raise UsageError(f"`sweep` names {key.strip()} twice. Give all its values at once.")
        values[key.strip()] = tuple(dict.fromkeys(_split_values(listed)))
    return Sweep(values, trials, sampler)


def _split_values(text: str) -> list[str]:
    """Split a text at the commas that are not within brackets."""
    values, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            values.append("")
        else:
            values[-1] += character
    return [value.strip() for value in values if value.strip()]


def planned_settings(sweep: Sweep, seed: int, trials: Sequence[TrialRecord] = ()) -> list[Settings]:
    """Return the settings of each trial.

    They are all combinations in their order, or as many of them as there are trials, in a random order that depends
    on the seed alone: a larger number of trials adds some. Those of Optuna are the ones that follow from the trials
    that have ended.

    Args:
        sweep: Values to try.
        seed: Seed of the draws.
        trials: State and validation error of the trials so far.

    Raises:
        UsageError: When there are too many combinations and no number of trials, or Optuna is missing.
    """
    if sweep.sampler == "optuna":
        return list(_proposed_settings(sweep, seed, trials))
    sizes = [len(values) for values in sweep.values.values()]
    total = math.prod(sizes)
    if sweep.trials is None and total > MOST_TRIALS:
        raise UsageError(f"The sweep has {total:,} combinations. Pass `trials=N` to draw N of them at random.")
    if sweep.trials is None or sweep.trials >= total:
        return [dict(zip(sweep.values, values, strict=True)) for values in itertools.product(*sweep.values.values())]
    random = generator(seed, STREAM)
    # A dictionary keeps the order in which different combinations are drawn.
    drawn: dict[tuple[int, ...], Settings] = {}
    while len(drawn) < sweep.trials:
        positions = tuple(int(random.integers(size)) for size in sizes)
        drawn[positions] = {key: values[n] for (key, values), n in zip(sweep.values.items(), positions, strict=True)}
    return list(drawn.values())


def _proposed_settings(sweep: Sweep, seed: int, trials: Sequence[TrialRecord]) -> Iterator[Settings]:
    """Yield the settings that Optuna proposes, some at a time: the next ones follow from the errors of all before."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise UsageError('`sampler="optuna"` needs Optuna: pip install "modgap[optuna]".') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True))
    space = {key: _distribution(key, values) for key, values in sweep.values.items()}
    for first in range(0, sweep.trials or 0, PROPOSED):
        asked = [study.ask(space) for _ in range(min(PROPOSED, (sweep.trials or 0) - first))]
        for proposed in asked:
            values = {key: proposed.params[key] for key in space}
            yield {key: f"{one:.6g}" if isinstance(one, float) else str(one) for key, one in values.items()}
        results = trials[first : first + len(asked)]
        if len(results) < len(asked) or any(result["state"] == "open" for result in results):
            return
        for proposed, result in zip(asked, results, strict=True):
            value = result.get("validation")
            study.tell(proposed, value, state=None if value is not None else optuna.trial.TrialState.FAIL)


def _range(values: Sequence[str]) -> tuple[float, float] | None:
    """Return the ends of the range that the only value is; None if it is none."""
    low, between, high = values[0].partition(BETWEEN) if len(values) == 1 else ("", "", "")
    try:
        ends = (float(low), float(high)) if between else None
    except ValueError:
        return None
    if ends is not None and not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
        raise UsageError(f"`sweep` has the range {values[0]}. Expected two numbers, the lower one first.")
    return ends


def _ends_of_ranges(sweep: Sweep) -> list[Settings]:
    """Return the lowest and the highest value of each range, as settings of a trial."""
    ranges = [key for key, values in sweep.values.items() if _range(values) is not None]
    return [{key: end} for key in ranges for end in sweep.values[key][0].split(BETWEEN)]


def _distribution(key: str, values: Sequence[str]) -> "BaseDistribution":
    """Return the distribution of a setting: one of its values, or a number of its range."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    ends = _range(values)
    if ends is None:
        return CategoricalDistribution(list(values))
    low, high = ends
    is_log = low > 0 and high >= LOGARITHMIC * low
    if all(text.strip().lstrip("-").isdigit() for text in values[0].split(BETWEEN)) and not is_real_setting(key):
        return IntDistribution(int(low), int(high), log=is_log)
    return FloatDistribution(low, high, log=is_log)


def run_sweep(
    request: TrainRequest,
    folder: Path,
    sweep: Sweep,
    *,
    backend: Backend | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_epoch_end: EpochCallback | None = None,
) -> Run:
    """Train a model for each trial, and test the one with the lowest validation error.

    Afterwards the folder is that of the chosen run, as `train` leaves it, with the table of all trials under `sweep`
    in its record. The records and logs of all trials are in the folder `trials`, and sweep.json says how far the sweep
    has come. The test samples are used once, by the chosen model.

    Args:
        request: The request that all runs of the sweep share.
        folder: A new folder or, with `resume`, that of a sweep with the same request.
        sweep: Values to try.
        backend: Backend whose processes run trials side by side, with one thread each. None to run one after the other
            in this process, with all its threads.
        resume: Continue an interrupted sweep.
        progress: Callback that is called with a stage's name and the share of its work done since the last call.
        on_epoch_end: Callback that is called after each epoch, as by `train`, with the number of the `trial` too. It
            needs trials in this process.

    Raises:
        UsageError: When the request is invalid or has another protocol than `validation`, or the
            folder contains a sweep with other settings.
        InputError: When data or weights are missing or do not match, or no trial has a validation error.
    """
    _check_request(request, sweep)
    if backend is not None and on_epoch_end is not None:
        raise UsageError("A function after each epoch cannot be called by other processes. Leave `jobs` out.")
    # Trials in other processes and the final test share the record, so the paths in it are absolute.
    request = replace(request, target=request.target.absolute())
    planned = planned_settings(sweep, request.samples.seed)
    if folder.exists() and not folder.is_dir():
        check_folder(folder, "sweep", begun=False, resume=resume)
    with exclusive_folder(folder):
        check_folder(folder, "sweep", begun=_has_trained(folder), resume=resume, allowed=(SWEEP, TRIALS))
        _check_combinations(request, [*planned, *_ends_of_ranges(sweep)])
        # Of the settings that the trials share, those that follow from swept ones are the first's.
        settings: dict[str, Any] = plain_values(set_up_run(_with_settings(request, planned[0]))[2])
        for key in sweep.values:
            section, _, name = key.rpartition(".")
            (settings["recipe"][section] if section else settings["recipe"]).pop(name, None)
        trials = _prepare(folder, sweep, planned, settings, request.samples.seed)
        following = _next_trials(request, sweep, trials)
        if run := _finished_run(folder, trials, following):
            return run
        trials += following
        while any(trial["state"] == "open" for trial in trials):
            _write_sweep(folder, sweep, trials, settings)
            for number, done in _run_trials(request, folder, trials, backend, progress, on_epoch_end):
                trials[number - 1] = done
                _keep_weights_of(folder, trials, _best(trials))
                _write_sweep(folder, sweep, trials, settings)
            trials += _next_trials(request, sweep, trials)
        best = _best(trials)
        if best is None:
            messages = (trial["message"] for trial in trials if trial.get("message"))
            message = next(messages, "The metric is not defined.")
            raise InputError(
                f"None of {count(len(trials), 'trial')} has a validation error. {message} "
                "Try other values in another `out`."
            )
        if not (folder / RECORD).exists():
            # The record of the chosen run is written last.
            trained = open_run(folder / TRIALS / str(best + 1))
            copy_run_files(trained, folder)
            table = {"values": dict(sweep.values), "trials": list(trials), "chosen": best + 1}
            record = {**trained.record, "sweep": table}
            write_record(folder, {**record, "answer": run_answer(record).to_dict()})
        run = train_in_locked_folder(_with_settings(request, trials[best]["settings"]), folder)
        _keep_weights_of(folder, trials, None)
        return run


def _finished_run(folder: Path, trials: Sequence[TrialRecord], following: Sequence[TrialRecord]) -> Run | None:
    """Return the run of a finished sweep, which no further trials may follow; None if it is not finished."""
    if not (folder / RECORD).exists() or not (run := open_run(folder)).finished:
        return None
    if following:
        raise UsageError(
            f"The sweep in {folder} has tested its best trial after {count(len(trials), 'trial')}. Repeat this number, "
            "or pass another `out`."
        )
    return run


def _check_request(request: TrainRequest, sweep: Sweep) -> None:
    if is_fitted(request.method):
        raise UsageError("This method chooses its settings by cross-validation, and has no `sweep`. Leave it out.")
    if request.protocol != "validation":
        raise UsageError(
            f'A sweep chooses on validation samples, and `protocol="{request.protocol}"` has none. Leave `protocol` '
            "out."
        )
    if current_processes(request.samples.device).size > 1:
        raise UsageError("A sweep runs in one process. Start it without torchrun and accelerate launch.")
    fixed = {text.partition("=")[0].strip() for text in request.overrides}
    if both := sorted(fixed & sweep.values.keys()):
        raise UsageError(f"`settings` and `sweep` both name {both[0]}. Leave one of them out.")


def _check_combinations(request: TrainRequest, planned: Sequence[Settings]) -> None:
    """Raise an error if a combination has an unknown setting or an invalid value, before any is trained.

    Raises:
        UsageError: When there is one; the message names it.
    """
    target = request.target.open()
    for combination in planned:
        try:
            request_recipe(_with_settings(request, combination), target)
        except UsageError as error:
            shown = ", ".join(_overrides(combination))
            raise UsageError(
                f"A trial of the sweep, {shown}, is not possible. {_with_sweep(error, combination)}"
            ) from error


def _with_sweep(error: InputError, combination: Settings) -> str:
    """Return the message of an error, whose advice names `sweep` instead of `settings` for what is swept."""
    message = str(error).replace('`settings={"KEY": VALUE}`', '`sweep={"KEY": [VALUE, VALUE]}`')
    for key in combination:
        message = message.replace(f'`settings={{"{key}": ', f'`sweep={{"{key}": ')
    return message


def _has_trained(folder: Path) -> bool:
    """Return False if a sweep has trained nothing yet, such as one with an invalid setting. It may begin anew."""
    return any((folder / TRIALS).glob(f"[0-9]*/{RECORD}")) or (folder / RECORD).exists()


def _prepare(
    folder: Path, sweep: Sweep, planned: Sequence[Settings], settings: Mapping[str, object], seed: int
) -> list[TrialRecord]:
    """Return the trials, as far as they have come, or raise if they belong to another request."""
    if not _has_trained(folder):
        return [{"settings": combination, "state": "open"} for combination in planned]
    record = read_sweep(folder)
    trials: list[TrialRecord] = record["trials"]
    if sweep.sampler == "optuna":
        planned = planned_settings(sweep, seed, trials)[: len(trials)]
    if record["values"] != plain_values(dict(sweep.values)) or len(trials) != len(planned):
        raise UsageError(
            f"The sweep in {folder} has other values. Repeat those values and trials, or pass another `out`."
        )
    differences = settings_differences(record["settings"], settings)
    if differences or [trial["settings"] for trial in trials] != planned:
        raise UsageError(
            f"The sweep in {folder} has other settings: {', '.join(differences.values()) or 'other trials'}. "
            "Repeat the settings of that sweep, or pass another `out`."
        )
    return trials


def _next_trials(request: TrainRequest, sweep: Sweep, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return trials that follow from the results so far, which only Optuna has."""
    planned = planned_settings(sweep, request.samples.seed, trials)[len(trials) :]
    _check_combinations(request, planned)
    return [{"settings": settings, "state": "open"} for settings in planned]


def _run_trials(
    request: TrainRequest,
    folder: Path,
    trials: Sequence[TrialRecord],
    backend: Backend | None,
    progress: Progress | None,
    on_epoch_end: EpochCallback | None,
) -> Iterator[tuple[int, TrialRecord]]:
    """Run the open trials, and yield the number of each with its record after that."""
    if backend is not None:
        folder = folder.resolve()
    opened = {number: trial["settings"] for number, trial in enumerate(trials, start=1) if trial["state"] == "open"}
    if backend is None:
        for number, settings in opened.items():
            log.info("Trial %d of %d: %s.", number, len(trials), ", ".join(_overrides(settings)))
            yield number, _run_trial(request, folder, number, settings, progress, on_epoch_end)
        return
    numbers = list(opened)
    jobs = [partial(_run_trial_elsewhere, request, folder, number, opened[number]) for number in numbers]
    for index, result in backend.run(jobs, device=request.samples.device):
        number = numbers[index]
        if isinstance(result, Failure):
            yield number, {"settings": opened[number], "state": "failed", "message": result.reason}
            continue
        if progress:
            progress("trials", 1 / len(trials))
        yield number, result


def _run_trial_elsewhere(request: TrainRequest, folder: Path, number: int, settings: Settings) -> TrialRecord:
    """Run a trial in another process, on a device of its own."""
    fix_threads()
    with hold_device(request.samples.device) as device:
        own_request = replace(request, samples=replace(request.samples, device=device))
        return _run_trial(own_request, folder, number, settings)


def _run_trial(
    request: TrainRequest,
    folder: Path,
    number: int,
    settings: Settings,
    progress: Progress | None = None,
    on_epoch_end: EpochCallback | None = None,
) -> TrialRecord:
    """Train the model of a trial, and return the record of the trial."""
    own_folder = folder / TRIALS / str(number)
    callback = None if on_epoch_end is None else lambda line: on_epoch_end({"trial": number, **line})
    try:
        with exclusive_run(own_folder, resume=True):
            run = train_in_locked_folder(
                _with_settings(request, settings), own_folder, progress=progress, on_epoch_end=callback, tests=False
            )
    except InputError as error:
        message = _with_sweep(error, settings)
        log.warning("Trial %d failed: %s", number, message)
        remove_checkpoints(own_folder, keep=0)
        return {"settings": settings, "state": "failed", "message": message}
    training = run.record["training"]
    value = training["validation"]
    shown = "not defined" if value is None else f"{value:.4g}"
    log.info("Trial %d has a validation error of %s.", number, shown)
    return {
        "settings": settings,
        "state": "finished",
        "validation": value,
        "epoch": training["epoch"],
        "updates": training["updates"],
        "seconds": training["seconds"],
    }


def _with_settings(request: TrainRequest, settings: Settings) -> TrainRequest:
    return replace(request, overrides=(*request.overrides, *_overrides(settings)))


def _overrides(settings: Settings) -> list[str]:
    return [f"{key}={value}" for key, value in settings.items()]


def _best(trials: Sequence[TrialRecord]) -> int | None:
    """Return the index of the first trial with the lowest validation error; None if there is none with an error."""
    errors = {n: error for n, trial in enumerate(trials) if (error := trial.get("validation")) is not None}
    return min(errors, key=lambda n: errors[n]) if errors else None


def _keep_weights_of(folder: Path, trials: Sequence[TrialRecord], number_to_keep: int | None) -> None:
    """Remove the weights of the ended trials but the one with this index; their records and logs stay."""
    for number, trial in enumerate(trials):
        if number == number_to_keep or trial["state"] == "open":
            continue
        path = folder / TRIALS / str(number + 1)
        shutil.rmtree(path / EPOCHS, ignore_errors=True)
        for weights in path.glob("*.safetensors"):
            weights.unlink()


# The file of a sweep


def read_sweep(folder: Path) -> dict[str, Any]:
    """Return the content of the sweep.json in a folder.

    Returns:
        `values` of each setting, the `trials`, and the `settings` of a run that these share.

    Raises:
        InputError: When it is missing or damaged, or another version of modgap wrote it.
    """
    path = folder / SWEEP
    try:
        record, _ = parse_record(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from error
    is_sweep = isinstance(record, dict) and record.get("schema") == SCHEMA and "values" in record
    trials = record.get("trials") if is_sweep and isinstance(record.get("settings"), dict) else None
    if not isinstance(trials, list) or not all(map(_is_trial, trials)):
        raise InputError(f"{path} was changed, or another version of modgap wrote it. Pass another `out`.")
    content: dict[str, Any] = record
    return content


def _is_trial(trial: object) -> bool:
    if not isinstance(trial, dict) or not isinstance(trial.get("settings"), dict):
        return False
    error = trial.get("validation")
    finite = error is None or (isinstance(error, int | float) and not isinstance(error, bool) and math.isfinite(error))
    return trial.get("state") in ("open", "finished", "failed") and finite


def _write_sweep(folder: Path, sweep: Sweep, trials: Sequence[TrialRecord], settings: Mapping[str, object]) -> None:
    """Write sweep.json, complete or not at all, with the settings that the trials share."""
    record = {"schema": SCHEMA, "settings": dict(settings), "values": dict(sweep.values), "trials": list(trials)}
    with writing(folder / SWEEP):
        write_text_atomically(folder / SWEEP, with_digest(format_json(record, indent=1)))
