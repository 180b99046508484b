"""Train a model from the names of a method, a source and a target, as `modgap train` does."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modgap.errors import InputError, UsageError, first_line
from modgap.formatting import count, visible_name
from modgap.progress import Progress
from modgap.storage.json_records import plain_values
from modgap.targets import Manifest
from modgap.transfer.answer import run_answer
from modgap.transfer.benchmark_recipe import benchmark_augmentation, conversion_record
from modgap.transfer.checkpoint import Position, load_tensors, remove_checkpoints, write_tensors
from modgap.transfer.extension import reopen_extended_run
from modgap.transfer.final_test import evaluate_metric, write_sample_errors
from modgap.transfer.loop import TrainingLoop, run_training_loop
from modgap.transfer.loop_setup import build_loop
from modgap.transfer.method import Method
from modgap.transfer.methods import get_method
from modgap.transfer.processes import Processes, current_processes
from modgap.transfer.recipe import find_unused_settings
from modgap.transfer.run_files import FolderFiles
from modgap.transfer.run_folder import WEIGHTS, Run, exclusive_run, prepare_run, write_record
from modgap.transfer.run_log import summary_writer
from modgap.transfer.run_setup import set_up_run
from modgap.transfer.train_request import TrainRequest
from modgap.transfer.trained_inputs import write_inputs
from modgap.transfer.training_data import TargetData, classes_without_samples

__all__ = ["TrainRequest", "finish_trained_run", "train", "train_without_test"]

TRAINING = ("validation", "epoch", "chosen_by", "updates", "seconds")
"""Values of a record under `training`."""

MOST_NAMED = 5
"""Most classes without training samples that a warning names."""

log = logging.getLogger("modgap")


def train(
    request: TrainRequest,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    tensorboard: bool = False,
) -> Run:
    """Train a model, test it once, and write the results to a folder.

    Afterwards the folder contains run.json (settings and result), metrics.jsonl (one line per epoch),
    model.safetensors (the chosen weights), inputs.safetensors (values of the preprocessing, if there are any),
    samples.npz (the errors of the test samples, if the metric is a mean over samples) and, for methods with a first
    stage, stage1.safetensors (the embedder after that stage).

    Args:
        request: What to train.
        folder: Folder of the run; a new one or, with `resume`, that of a run with the same settings.
        resume: Continue from the newest checkpoint. On the CPU, a resumed run ends with the same bits as an
            uninterrupted one.
        progress: Callback that is called with a stage's name and the share of its work done since the last call.
        tensorboard: Also write a TensorBoard log to folder/tensorboard.

    Raises:
        UsageError: When the request is invalid.
        InputError: When data or weights are missing or do not match, or the loss becomes NaN or infinite.
    """
    processes = current_processes(request.samples.device)
    # The other processes leave the folder to the main one.
    with exclusive_run(folder, resume=resume) if processes.is_main else contextlib.nullcontext():
        return _train(request, folder, processes, resume, progress, tensorboard)


def train_without_test(request: TrainRequest, folder: Path, progress: Progress | None = None) -> Run:
    """Train a model as `train` does, in one process, but leave its test samples alone.

    An interrupted run in the folder is continued. The record has the validation error under `training`, and no result.
    """
    with exclusive_run(folder, resume=True):
        return _train(request, folder, Processes(), True, progress, tests=False)


def finish_trained_run(request: TrainRequest, folder: Path) -> Run:
    """Test the model of `train_without_test`, whose caller has locked the folder."""
    return _train(request, folder, Processes(), resume=True)


def _train(
    request: TrainRequest,
    folder: Path,
    processes: Processes,
    resume: bool,
    progress: Progress | None = None,
    tensorboard: bool = False,
    tests: bool = True,
) -> Run:
    start = time.perf_counter()
    method = get_method(request.method)
    if tensorboard:
        summary_writer()
    setup = set_up_run(request)
    _warn_about_unused_settings(method, request.overrides)
    data = setup.data
    _announce_conversion(data.target.manifest)
    _check_sample_counts(data, processes)
    _warn_about_missing_classes(data)
    run = prepare_run(folder, setup.settings, resume=resume or not processes.is_main)
    if run.finished or (run.trained and not tests):
        return run
    loop = build_loop(
        request,
        method,
        setup.recipe,
        data,
        setup.source,
        setup.surrogate,
        FolderFiles(run.folder, writes=processes.is_main),
        processes=processes,
        progress=progress,
        tensorboard_folder=run.folder / "tensorboard" if tensorboard else None,
    )
    # Nothing is written before all requirements are met and all processes have looked at the folder.
    processes.barrier()
    if processes.is_main:
        reopen_extended_run(run)
        write_record(run.folder, run.record)
    processes.barrier()
    training = _recorded_training(run, loop) if run.trained else _run_training(loop, data, request, run.folder)
    if not tests:
        record = {**run.record, "training": {**training, "seconds": round(time.perf_counter() - start, 1)}}
        write_record(run.folder, record)
        _remove_intermediate_files(run.folder, keeps_checkpoint=False, keeps_best=False)
        return Run(run.folder, record)
    training["seconds"] = training.get("seconds", 0) + time.perf_counter() - start
    return _test(run, loop, data, request, training)


def _test(run: Run, loop: TrainingLoop, data: TargetData, request: TrainRequest, training: Mapping[str, Any]) -> Run:
    """Test a trained model, and write the result to the run's folder, with what its record says of the training.

    The record that is returned has no time, so that it is the same for the same run.
    """
    metric = loop.evaluator.metric(loop.model, data.test)
    tested = plain_values(evaluate_metric(metric, data, request.samples.seed))
    result = {**tested, **{name: value for name, value in training.items() if name != "seconds"}}
    record = {name: value for name, value in run.record.items() if name != "training"}
    answer = run_answer({**record, "result": result}).to_dict()
    if loop.processes.is_main:
        write_sample_errors(run.folder, metric, data, f"{request.method} {request.source}")
        timed = {**result, "seconds": round(training["seconds"], 1)}
        write_record(run.folder, {**record, "result": timed, "answer": answer})
        # model.safetensors has the merged weights of an adapter, from which no training can continue.
        keeps_best = loop.recipe.keep_checkpoint and loop.merge is not None
        _remove_intermediate_files(run.folder, loop.recipe.keep_checkpoint, keeps_best)
    return Run(run.folder, {**record, "result": result, "answer": answer})


def _run_training(loop: TrainingLoop, data: TargetData, request: TrainRequest, folder: Path) -> dict[str, Any]:
    """Train, write what predictions need, and return the epoch whose weights are chosen, with its validation error."""
    end = run_training_loop(loop)
    if loop.merge is not None:
        loop.merge(loop.model)
    if loop.processes.is_main:
        write_inputs(folder, data)
        write_tensors(folder / WEIGHTS, loop.model.state_dict())
    epoch, validation_error = _chosen_epoch(loop, data, end)
    chosen_by = "lowest test error, as in ORCA" if request.protocol == "orca" else "lowest validation error"
    record: dict[str, Any] = plain_values(
        {
            "validation": validation_error,
            "epoch": epoch,
            "chosen_by": chosen_by if loop.recipe.stage2.choose == "best" else "last epoch",
            "updates": end.total_updates,
        }
    )
    return record


def _recorded_training(run: Run, loop: TrainingLoop) -> dict[str, Any]:
    """Load the weights of a complete training, and return what its record says of it."""
    if loop.merge is not None:
        loop.merge(loop.model)
    try:
        loop.model.load_state_dict(load_tensors(run.checked(run.weights)))
    except RuntimeError as error:
        raise InputError(f"{run.weights} is not a file of this model: {first_line(error)}.") from error
    return {name: run.record["training"].get(name) for name in TRAINING}


def _check_sample_counts(data: TargetData, processes: Processes) -> None:
    """Raise an error if there are more processes than validation or test samples."""
    smallest = min(len(data.validation), len(data.test))
    if processes.size > smallest:
        raise UsageError(
            f"There are {processes.size} processes, {len(data.validation)} validation samples and {len(data.test)} "
            f"test samples. Each process needs one of each. Start at most {smallest} processes."
        )


def _warn_about_unused_settings(method: Method, overrides: Sequence[str]) -> None:
    """Warn about settings that the method ignores; this is no error, because several methods may share settings."""
    sections = {stage.recipe_section for stage in method.stages}
    if unused := find_unused_settings(overrides, sections, method.objectives):
        log.warning("Method %s ignores these settings: %s.", method.name, ", ".join(unused))


def _warn_about_missing_classes(data: TargetData) -> None:
    """Warn about classes that the model cannot learn, because no training sample has them."""
    if missing := classes_without_samples(data):
        more = f" and {len(missing) - MOST_NAMED:,} more" if len(missing) > MOST_NAMED else ""
        log.warning(
            "%s no training samples, so the model never learns to predict %s: %s%s.",
            count(len(missing), "class has", "classes have"),
            "it" if len(missing) == 1 else "them",
            ", ".join(visible_name(name) for name in missing[:MOST_NAMED]),
            more,
        )


def _announce_conversion(manifest: Manifest) -> None:
    """Log the settings of the target's recipe that are converted, and warn of what is not applied."""
    missing = benchmark_augmentation(manifest)[1]
    if missing:
        log.warning("The recipe of %s has an augmentation that modgap does not apply: %s.", manifest.name, missing)
    changes = conversion_record(manifest)
    if changes:
        texts = [f"{name} {value['recipe']:g} as {value['used']:g}" for name, value in changes.items()]
        log.info(
            "The recipe of %s adds the gradients of accumulated batches, and modgap averages them, so it uses %s.",
            manifest.name,
            " and ".join(texts),
        )


def _chosen_epoch(loop: TrainingLoop, data: TargetData, end: Position) -> tuple[int | None, float | None]:
    """Return the epoch whose weights the model has, and its validation error."""
    if end.best is None:
        return None, None
    if loop.recipe.stage2.choose == "best" or end.best.epoch == end.epoch:
        return end.best.epoch, end.best.error
    return end.epoch, loop.evaluator.error(loop.model, data.validation)


def _remove_intermediate_files(folder: Path, keeps_checkpoint: bool, keeps_best: bool) -> None:
    """Remove what a finished run does not need; the newest checkpoint stays where more epochs may follow."""
    remove_checkpoints(folder, keep=int(keeps_checkpoint))
    for path in folder.glob("best-*.safetensors"):
        if not keeps_best:
            path.unlink()
