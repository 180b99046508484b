"""From data to a model: a race of models on labeled samples, the final fits, and one test."""

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError, Progress, UsageError, count, first_line, format_duration
from modgap.forward.inference_setup import warn_about_small_classes
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend, Failure, hold_device
from modgap.process.log_messages import each_message_once, only_messages_from
from modgap.race.folder import FINALS, MODELS, REQUEST, STEPS, TESTED_AFTER, begun_request, prepare_folder
from modgap.race.pool import strategy_of
from modgap.race.steps import (
    BASELINE,
    OUT_OF_TIME,
    TRAINING,
    Labeled,
    Outcome,
    Step,
    StepJob,
    chance_losses,
    read_labeled,
    training_settings,
)
from modgap.race.strategy import Strategy, lasting_changes
from modgap.race.verdict import CONTROL, KINDS, Chosen, choose_model, control_kind, kind_of, shown_loss
from modgap.sources import control_name, open_source
from modgap.statistics.intervals import SampleErrors
from modgap.storage.atomic_files import write_text_atomically
from modgap.storage.cache import cache_key
from modgap.storage.json_records import plain_values, read_json, write_json
from modgap.storage.locks import exclusive_folder
from modgap.targets import TargetRequest
from modgap.training.constant import constant_metric
from modgap.training.evaluation import test_errors
from modgap.training.run_folder import RECORD, Run, copy_run_files, open_run, write_record
from modgap.training.train import train
from modgap.training.train_request import TrainRequest

TRAINED, SCRATCH = KINDS[3:5]
"""Kinds of trainings, from pretrained weights and from random ones."""
FINAL_FITS = "final fits"
SHOWN = 5
"""Models with the lowest errors that a view of a running race has."""
LONGEST_LIMIT = 24 * 60
"""Largest number of minutes of a race."""
MANY = 1 << 20
"""A number of steps that is larger than the number of processes of any machine."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class RaceRequest:
    """A request for a race.

    Attributes:
        target: The target.
        minutes: Minutes of the race, from 0 to 1,440, without the final fits. With 0, the quick baselines alone take
            part.
        sources: Names of the sources; empty for those on this machine with an open license and without near copies.
        samples: Largest number of samples of each split, the seed of everything random, and the device.
        steps: Steps to repeat in place of a strategy; empty for a strategy.
    """

    target: TargetRequest
    minutes: float = 2.0
    sources: tuple[str, ...] = ()
    samples: SampleRequest = field(default_factory=SampleRequest)
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        """Raise if the minutes are not possible, or a field of the samples does not apply."""
        if not 0 <= self.minutes <= LONGEST_LIMIT:
            raise UsageError(f"`minutes` is {self.minutes:g}. Expected a number from 0 to {LONGEST_LIMIT:,}.")
        unused = ("split", "input_size", "representation", "dtype", "batch_size", "loader_workers")
        self.samples.refuse_changes(*unused, purpose="a transfer")

    def to_record(self) -> dict[str, object]:
        """Return plain values, by which a resumed race is known to be the same."""
        record: object = plain_values(asdict(replace(self, target=self.target.absolute())))
        return json.loads(json.dumps(record, default=str))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Tested:
    """A final model and its test.

    Attributes:
        name: Kind of the model, one of `modgap.race.verdict.KINDS`, or `CONTROL`.
        title: Its name in tables.
        run: Its run, with the test error.
        is_winner: True for the model that the race chose.
    """

    name: str
    title: str
    run: Run
    is_winner: bool

    @property
    def spoken(self) -> str:
        """Its name in a sentence."""
        return f"the {self.title}" if self.title.startswith(("baseline", "linear-probe")) else self.title

    @property
    def shown(self) -> str:
        """Its test error with the unit."""
        result = self.run.record["result"]
        unit = f" {result['unit']}" if result["unit"] else ""
        return "not defined" if result["test"] is None else f"{result['test']:.3g}{unit}"


@dataclass(frozen=True)
class Chance:
    """The same prediction for all samples: the largest class, the shares of labels, or the mean of values.

    Attributes:
        loss: Mean loss on the labeled samples.
        test: Test error, as the metric of the target defines it.
        errors: Errors of the test samples; None if the metric has none by sample.
    """

    loss: float
    test: float
    errors: SampleErrors | None


@dataclass(frozen=True)
class State:
    """State of a running race.

    Attributes:
        stage: Name of the stage.
        running: Names of the models that are fitted or wait for it.
        n_tried: Number of steps that have ended, also of those that failed or were given up.
        best: Name and validation error of the models with the lowest errors so far, the lowest first.
        seconds: Seconds since the start of the race; 0 in the final fits.
        left: Seconds of the budget that are left; None in the final fits.
    """

    stage: str
    running: tuple[str, ...]
    n_tried: int
    best: tuple[tuple[str, str], ...]
    seconds: float
    left: float | None


Watch = Callable[[State], object]
"""A function that looks at a running race."""


@dataclass(frozen=True)
class Race:
    """Result of a race.

    Attributes:
        request: The request.
        outcomes: Results of its steps, in their order.
        elapsed: Seconds from the start of the race to each of these results, in the same order.
        chosen: The choice.
        tested: The final models with their test errors, the chosen one first.
        not_tried: Titles of models that the strategy would have tried with more time.
        seconds: Seconds of the race, and of the final fits.
        n_labeled: Number of labeled samples.
        chance: The same prediction for all samples, to compare with.
        tested_after: Minutes after which the race was tested before it got more of them, in ascending order.
    """

    request: RaceRequest
    outcomes: tuple[Outcome, ...]
    elapsed: tuple[float, ...]
    chosen: Chosen
    tested: tuple[Tested, ...]
    not_tried: tuple[str, ...]
    seconds: tuple[float, float]
    n_labeled: int
    chance: Chance
    tested_after: tuple[float, ...] = ()

    @property
    def task(self) -> str:
        """Task of the target: `classification`, `multi-label` or `regression`."""
        return str(self.tested[0].run.record["output"]["task"])


def run_race(
    request: RaceRequest,
    folder: Path,
    backend: Backend | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Race:
    """Race models on the labeled samples of a target, fit the best one, and test it once.

    The test samples are used by nothing before the final fits. Afterwards the folder is that of a run of the chosen
    model, as `modgap train` leaves it, with the results of all steps, and with the runs of the best model of each other
    kind in the folder `models`.

    Args:
        request: The request.
        folder: A new folder or, with `resume`, that of a race with the same request.
        backend: Backend that runs the steps. None for one process on each core of this machine.
        resume: Continue an interrupted race, or give more minutes to one.
        progress: Callback that is called with a stage's name and the share of its work done since the last call.
        watch: Function that is called with the state when a stage or a final fit begins, or a step ends. None to log a
            line for each result.

    Raises:
        UsageError: When the request is invalid, or the folder has another race or other files.
        InputError: When data is missing, or no model could be fitted.
    """
    backend = backend or Backend()
    for name in request.sources:
        open_source(name)
    begun_request(folder, resume=resume)
    target, samples = request.target.absolute(), request.samples
    # The target is read again for each final fit, by another path.
    with each_message_once(target.name, request.target.name):
        # A target that cannot be read leaves no folder.
        fingerprint = cache_key({"target": target.open().fingerprint})
        labeled = read_labeled(target, samples.limit, samples.seed, fingerprint)
        table = labeled.data.table
        if table.labels is not None and table.targets is None:
            warn_about_small_classes(table.class_labels[labeled.rows], table.classes or ())
        with exclusive_folder(folder):
            prepare_folder(folder, {**request.to_record(), "data": fingerprint}, OUT_OF_TIME, resume=resume)
            with backend:
                return _Running(request, folder, backend, progress, watch, fingerprint).run()


@dataclass
class _Running:
    """A race that is running.

    Attributes:
        request: The request.
        folder: Folder of the race.
        backend: Backend that runs the steps.
        progress: Callback as for `run_race`.
        watch: Function as for `run_race`.
        fingerprint: Checksum of the target's files.
        outcomes: Results of the finished stages, also of earlier runs of an interrupted race.
        elapsed: Seconds from the start of the race to each of these results.
    """

    request: RaceRequest
    folder: Path
    backend: Backend
    progress: Progress | None
    watch: Watch | None
    fingerprint: str
    outcomes: list[Outcome] = field(default_factory=list)
    elapsed: list[float] = field(default_factory=list)

    def run(self) -> Race:
        """Run the steps that are missing, fit and test the final models, and return the result."""
        request = self.request
        target = request.target.absolute()
        labeled = self._labeled()
        self._restore_outcomes(len(labeled.rows))
        # A resumed race continues at the time of its last result.
        began = time.perf_counter() - max(self.elapsed, default=0.0)
        strategy = strategy_of(
            request.target,
            request.sources,
            labeled,
            seconds=60 * request.minutes,
            workers=self._workers(),
        )
        if request.steps:
            done = {one.step for one in self.outcomes}
            self._run_steps("steps", [step for step in request.steps if step not in done], began)
            # Results of an interrupted race were in the order in which they came.
            order = sorted(range(len(self.outcomes)), key=lambda n: request.steps.index(self.outcomes[n].step))
            self.outcomes, self.elapsed = [self.outcomes[n] for n in order], [self.elapsed[n] for n in order]
        else:
            self._race(strategy, began)
        chosen = choose_model(self.outcomes, labeled.truth.groups)
        if chosen is None:
            reasons = [one.reason for one in self.outcomes]
            raise InputError(f"No model could be fitted to {target.name}. {reasons[0] if reasons else ''}".rstrip())
        tested, fit_seconds = self._test(chosen, strategy, len(labeled.data.test))
        wanted = [] if request.steps else [step for stage in strategy.stages for step in stage.wanted(self.outcomes)]
        tried = {one.step.title for one in self.outcomes if not one.is_given_up}
        not_tried = tuple(dict.fromkeys(step.title for step in wanted if step.title not in tried))
        seconds = (max(self.elapsed), fit_seconds)
        outcomes, elapsed = tuple(self.outcomes), tuple(self.elapsed)
        before = tuple(read_json(self.folder / REQUEST).get(TESTED_AFTER, ()))
        n_labeled, chance = len(labeled.rows), _chance(labeled)
        return Race(request, outcomes, elapsed, chosen, tested, not_tried, seconds, n_labeled, chance, before)

    def _race(self, strategy: Strategy, began: float) -> None:
        """Log the plan, run the steps that a strategy chooses, and say so when far more or fewer fit into the time.

        Args:
            strategy: The strategy.
            began: Start of the race, on the clock `time.perf_counter`.
        """
        elapsed, budget, n_done = time.perf_counter() - began, 60 * self.request.minutes, len(self.outcomes)
        if n_done:
            left = f"{format_duration(max(0.0, budget - elapsed))} of {format_duration(budget)}"
            log.info("The transfer is resumed: %s done, %s left.", count(n_done, "step"), left if budget else "none")
        if plan := [planned for planned in strategy.plan(self.outcomes, elapsed) if planned[1]]:
            log.info("Plan%s, by times that the first steps will correct:", " of the rest" if n_done else "")
        for stage, n_steps, seconds in plan:
            log.info("- %s: %s, about %s", stage.name, count(n_steps, "step"), format_duration(seconds))
        n_expected: list[int] = []
        n_changes = 0
        shares: dict[str, float] = {}
        while True:
            elapsed = time.perf_counter() - began
            stage, following = strategy.next_steps(self.outcomes, elapsed)
            if not following:
                return
            expected = {stage.name: n_steps for stage, n_steps, _ in strategy.plan(self.outcomes, elapsed)}
            n_expected.append(sum(not one.is_given_up for one in self.outcomes) + sum(expected.values()))
            if len(changes := lasting_changes(n_expected)) > n_changes:
                text = "The plan has changed: by the times so far, about %s in place of %d fit into the time."
                log.info(text, count(changes[-1][1], "step"), changes[-1][0])
                n_changes = len(changes)
            # A stage has several rounds, and its last one ends its progress.
            share = (1 - shares.get(stage.name, 0.0)) / max(len(following), expected[stage.name])
            shares[stage.name] = shares.get(stage.name, 0.0) + share * len(following)
            self._run_steps(stage.name, following, began, strategy.deadline(stage), share)

    def _labeled(self) -> Labeled:
        samples = self.request.samples
        return read_labeled(self.request.target.absolute(), samples.limit, samples.seed, self.fingerprint)

    def _workers(self) -> int:
        """Return how many steps run side by side."""
        return self.backend.side_by_side(MANY, self.request.samples.device)

    def _restore_outcomes(self, n_labeled: int) -> None:
        """Add the results in the file of steps, and write the file again with consecutive numbers.

        Results of an interrupted stage lack the numbers of the steps that were not finished.
        """
        path = self.folder / STEPS
        read: list[tuple[int, float, Outcome]] = []
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                if not line.endswith("\n"):
                    # The process was interrupted while it wrote this line.
                    break
                try:
                    record = json.loads(line)
                    outcome = Outcome.from_record(record, n_labeled)
                    read.append((int(record["number"]), float(record["elapsed"]), outcome))
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise InputError(
                        f"{path} has a line that is not the result of a step. Pass another `out`."
                    ) from error
            self._add(read)
            if read or path.stat().st_size:
                write_text_atomically(path, "".join(map(_line, range(len(read)), self.elapsed, self.outcomes)))

    def _add(self, results: Sequence[tuple[int, float, Outcome]]) -> None:
        """Add results of steps with their numbers and times, in the order of the numbers."""
        for _, elapsed, outcome in sorted(results, key=lambda one: one[0]):
            self.outcomes.append(outcome)
            self.elapsed.append(elapsed)

    def _run_steps(
        self, stage: str, steps: Sequence[Step], began: float, ends: float = np.inf, share: float | None = None
    ) -> None:
        """Run steps side by side, and append each result to the file as soon as the step is finished.

        Args:
            stage: Name of the stage.
            steps: The steps.
            began: Start of the race, on the clock `time.perf_counter`.
            ends: Seconds from the start of the race to the time at which steps that are not about to end are given up.
            share: Share of the work of the stage that a step is; None if these are all its steps.
        """
        samples, target = self.request.samples, self.request.target.absolute()
        options = (samples.limit, samples.seed, samples.device, self.fingerprint)
        # Processes share the clock `time.time`, but not `time.perf_counter`.
        deadline = None if np.isinf(ends) else time.time() + began + ends - time.perf_counter()
        jobs = [StepJob(step, target, *options, deadline) for step in steps]
        n_labeled, first = len(self._labeled().rows), len(self.outcomes)
        # Baselines use no device.
        device = "" if all(step.kind == BASELINE for step in steps) else samples.device
        done: dict[int, tuple[int, float, Outcome]] = {}
        self._show(stage, steps, began)
        if self.progress:
            # The stage is named while its first step runs.
            self.progress(stage, 0.0)
        with (self.folder / STEPS).open("a", encoding="utf-8") as file:
            for index, result in self.backend.run(jobs, device=device):
                outcome = (
                    Outcome(jobs[index].step, np.full(n_labeled, np.nan), 0.0, result.reason)
                    if isinstance(result, Failure)
                    else result
                )
                done[index] = (first + index, time.perf_counter() - began, outcome)
                file.write(_line(*done[index]))
                file.flush()
                if self.progress:
                    self.progress(stage, share or 1 / len(jobs))
                unfinished = [step for number, step in enumerate(steps) if number not in done]
                self._show(stage, unfinished, began, [one for _, _, one in done.values()], outcome)
        self._add(list(done.values()))

    def _show(
        self,
        stage: str,
        unfinished: Sequence[Step],
        began: float | None,
        new_outcomes: Sequence[Outcome] = (),
        latest: Outcome | None = None,
    ) -> None:
        """Call the watch with the state, or log the latest result if there is no watch.

        Args:
            stage: Name of the stage.
            unfinished: Steps of the stage that are running or waiting.
            began: Start of the race, on the clock `time.perf_counter`; None in the final fits.
            new_outcomes: Results of this stage, which `outcomes` does not have yet.
            latest: The newest of them; None if a stage begins.
        """
        elapsed = 0.0 if began is None else time.perf_counter() - began
        left = None if began is None else max(0.0, 60 * self.request.minutes - elapsed)
        tried = [*self.outcomes, *new_outcomes]
        task = self._labeled().data.output.task
        best = sorted((one for one in tried if not one.reason), key=lambda one: one.error)[:SHOWN]
        if self.watch is not None:
            shown = tuple((one.step.title, shown_loss(one.error, task)) for one in best)
            names = tuple(step.title for step in unfinished)
            self.watch(State(stage, names, len(tried), shown, elapsed, left))
        elif latest is not None and latest.reason:
            state = "not finished" if latest.is_given_up else "failed"
            log.info("%s: %s. %s", latest.step.title, state, latest.reason)
        elif latest is not None:
            log.info(
                "%s: validation %s %s (lowest so far %s)%s",
                latest.step.title,
                "loss" if task == "regression" else "error",
                shown_loss(latest.error, task),
                shown_loss(best[0].error, task),
                f", {format_duration(left)} left" if left else "",
            )

    # The final models

    def _test(self, chosen: Chosen, strategy: Strategy, n_test: int) -> tuple[tuple[Tested, ...], float]:
        """Fit the chosen model and the best one of each other kind to all labeled samples, and test them.

        A training from scratch with the settings of the best training shows what pretraining adds, as the control of
        the chosen source does for its probe. The files of the chosen model are copied to the folder of the race. The
        seconds of the fits are returned with the models, also of those that an earlier run of the race has made.
        """
        models = {kind: one.step for kind, one in chosen.best.items()}
        timed = dict(models)
        winner_step, of_winner = chosen.winner.step, kind_of(chosen.winner)
        trained = chosen.best.get(TRAINED)
        if trained is not None and of_winner != SCRATCH:
            models[SCRATCH] = replace(trained.step, method="scratch")
            timed[SCRATCH] = trained.step
        if control_kind(chosen) == CONTROL:
            models[CONTROL] = replace(winner_step, name=control_name(winner_step.name))
            timed[CONTROL] = winner_step
        order = sorted(models, key=lambda name: name != of_winner)
        finals = self._keep_finals([models[name] for name in order])
        folders = {name: self.folder / MODELS / str(number + 1) for number, name in enumerate(order)}
        finished = {name for name, one in folders.items() if (one / RECORD).exists() and open_run(one).finished}
        missing = [name for name in order if name not in finished]
        expected = sum(strategy.final_seconds(timed[name], self.outcomes, n_test) for name in missing)
        log.info(
            "The best choice is %s. The final fits, of %s, take about %s.",
            winner_step.title,
            count(len(models), "model"),
            format_duration(expected),
        )
        tested = []
        if self.progress:
            self.progress(FINAL_FITS, 0.0)
        for number, name in enumerate(order):
            self._show(FINAL_FITS, [models[one] for one in order[number:]], None)
            began = time.perf_counter()
            try:
                run = open_run(folders[name]) if name in finished else self._final_run(models[name], folders[name])
            except Exception as error:  # A model to compare with is no reason to lose the winner.
                if name == of_winner:
                    raise
                log.warning("%s is not tested: %s", models[name].title, first_line(error))
                continue
            finally:
                if self.progress:
                    self.progress(FINAL_FITS, 1 / len(order))
            if name in missing:
                finals["seconds"] = finals.get("seconds", 0.0) + time.perf_counter() - began
                write_json(self.folder / MODELS / FINALS, finals)
            tested.append(Tested(name, models[name].title, run, is_winner=name == of_winner))
        if not (self.folder / RECORD).exists():
            winner = open_run(tested[0].run.folder)
            copy_run_files(winner, self.folder)
            write_record(self.folder, winner.record)
        return tuple(tested), finals.get("seconds", 0.0)

    def _keep_finals(self, steps: Sequence[Step]) -> dict[str, Any]:
        """Return the record of the final models; those of a race that went on are removed if they are others now."""
        path, models = self.folder / MODELS / FINALS, self.folder / MODELS
        wanted = [plain_values(asdict(step)) for step in steps]
        if (recorded := read_json(path)).get("steps") == wanted:
            return recorded
        (self.folder / RECORD).unlink(missing_ok=True)
        for name in {path.name for path in models.glob("*/*") if path.is_file()}:
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(models, ignore_errors=True)
        models.mkdir(exist_ok=True)
        write_json(path, {"steps": wanted})
        return {"steps": wanted}

    def _final_run(self, step: Step, folder: Path) -> Run:
        # The absolute path is that of a resumed race, too, whose folder has it.
        samples, target = self.request.samples, self.request.target.absolute()
        settings: tuple[str, ...] = ()
        method, source = step.method, step.name
        if step.kind == BASELINE:
            method, source = f"{BASELINE}:{step.name}", ""
        elif step.kind == TRAINING:
            labeled = self._labeled()
            source_input = open_source(step.name).load(None, head=False).input
            settings = training_settings(step, len(labeled.rows), source_input, labeled.form.spec)
        with hold_device(samples.device) as device:
            on_device = replace(samples, device=device)
            request = TrainRequest(method, source, target, settings, protocol="labeled", samples=on_device)
            with only_messages_from(logging.WARNING):  # Those of epochs do not name the model.
                return train(request, folder, resume=(folder / RECORD).exists())


def _line(number: int, elapsed: float, outcome: Outcome) -> str:
    record = {**outcome.to_record(), "number": number, "elapsed": round(elapsed, 3)}
    return json.dumps(record, allow_nan=False) + "\n"


def _chance(labeled: Labeled) -> Chance:
    """Return the loss and the test error of the same prediction for all samples."""
    # The prediction is fitted to all labeled samples, as the final models are.
    data = replace(labeled.data, train=labeled.rows)
    metric = constant_metric(data)
    file = test_errors(metric, data, "chance")
    errors = None if file is None else next(iter(file.errors.values()))
    if errors is not None:
        # Numbers of groups begin at 0 in the file of a run, too, with which these errors are paired.
        errors = replace(errors, units=np.unique(errors.units, return_inverse=True)[1].ravel())
    return Chance(float(chance_losses(labeled).mean()), float(metric.compute()), errors)
